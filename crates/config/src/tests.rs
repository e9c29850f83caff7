//! Loading: layers, origins, complaints; and the definitions themselves.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use ottla_model::HostPort;

use crate::{ByteSize, Config, ConfigErrors, Loaded, Origin, Sources, settings};

/// Layers for a test: a settings file by name and text, variables, flags.
fn load(
    file: Option<(&str, &str)>,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> (Result<Loaded, ConfigErrors>, Option<PathBuf>, TempDir) {
    let dir = TempDir::new().unwrap();
    let path = file.map(|(name, text)| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    });
    let sources = Sources {
        file: path.clone(),
        environment: environment.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        flags: flags.iter().map(|(flag, value)| (*flag, (*value).to_owned())).collect(),
    };
    (sources.load(), path, dir)
}

fn from_file(name: &str, text: &str) -> Config {
    load(Some((name, text)), &[], &[]).0.unwrap().config
}

/// What is said about a TOML file, without the file's name before it.
fn complaints(text: &str) -> String {
    let (loaded, path, _dir) = load(Some(("ottla.toml", text)), &[], &[]);
    let path = path.unwrap().display().to_string();
    loaded.unwrap_err().to_string().replace(&format!("config file {path}: "), "")
}

fn origin_of<'a>(loaded: &'a Loaded, name: &str) -> &'a Origin {
    &loaded.shown.iter().find(|shown| shown.setting.name() == name).unwrap().origin
}

#[test]
fn every_default_and_bound_is_legal() {
    let loaded = Sources::default().load().unwrap();
    assert!(loaded.shown.iter().all(|shown| shown.origin == Origin::Default));
    assert_eq!(loaded.config.kafka.listen.to_string(), "127.0.0.1:9092");
}

#[test]
fn a_default_is_written_as_it_is_shown() {
    for shown in Sources::default().load().unwrap().shown {
        assert_eq!(shown.value(), shown.setting.default, "{}", shown.setting.name());
    }
}

#[test]
fn names_and_flags_are_unique_and_documented() {
    let mut names: Vec<String> = settings().map(|s| s.name()).collect();
    let mut flags: Vec<&str> = settings().filter_map(|s| s.flag).collect();
    let counts = (names.len(), flags.len());
    names.sort();
    names.dedup();
    flags.sort_unstable();
    flags.dedup();
    assert_eq!(counts, (names.len(), flags.len()));
    for setting in settings() {
        assert!(setting.help().ends_with('.'), "{}: help is sentences", setting.name());
        assert!(!setting.key.contains("__"), "{}: the environment splits there", setting.name());
    }
}

#[test]
fn each_layer_goes_over_the_one_before_and_is_remembered() {
    let file = "[node]\nid = 2\nzone = \"file\"\n[produce]\nlinger = \"10ms\"\n";
    let environment = [("OTTLA__NODE__ZONE", "environment"), ("OTTLA__NODE__ID", "3")];
    let (loaded, path, _dir) = load(Some(("ottla.toml", file)), &environment, &[("node-id", "4")]);
    let loaded = loaded.unwrap();
    assert_eq!(loaded.config.node.id, 4);
    assert_eq!(loaded.config.node.zone, "environment");
    assert_eq!(loaded.config.produce.linger, Duration::from_millis(10));
    assert_eq!(*origin_of(&loaded, "node.id"), Origin::Flag("node-id"));
    let variable = Origin::Environment("OTTLA__NODE__ZONE".to_owned());
    assert_eq!(*origin_of(&loaded, "node.zone"), variable);
    assert_eq!(*origin_of(&loaded, "produce.linger"), Origin::File(path.unwrap()));
    assert_eq!(*origin_of(&loaded, "kafka.listen"), Origin::Default);
}

#[test]
fn toml_yaml_and_json_say_the_same() {
    let toml = from_file("a.toml", "[cache]\nbytes = \"2MiB\"\n[kafka]\nadvertise = \"b:1\"");
    let yaml = from_file("a.yaml", "cache:\n  bytes: 2MiB\nkafka:\n  advertise: b:1\n");
    let json = from_file("a.json", r#"{"cache":{"bytes":"2MiB"},"kafka":{"advertise":"b:1"}}"#);
    assert_eq!(toml.cache.bytes, ByteSize(2 << 20));
    assert_eq!(toml.kafka.advertise, Some(HostPort::new("b", 1)));
    assert_eq!(toml, yaml);
    assert_eq!(toml, json);
}

#[test]
fn integral_floats_are_taken_for_integers() {
    let config = from_file("a.toml", "[node]\nid = 7.0\n[cache]\nbytes = 8.388608e+06\n");
    assert_eq!((config.node.id, config.cache.bytes), (7, ByteSize(8 << 20)));
    assert_eq!(
        complaints("[node]\nid = 7.5\n"),
        r#"node.id: "7.5" is not valid; expected a whole number"#
    );
}

#[test]
fn an_empty_file_and_empty_sections_change_nothing() {
    let default = Sources::default().load().unwrap().config;
    for (name, text) in [("a.toml", ""), ("a.yaml", ""), ("a.yaml", "node:\n"), ("a.json", "{}")] {
        assert_eq!(from_file(name, text), default, "{name}: {text:?}");
    }
}

#[test]
fn unknown_names_are_refused_with_the_nearest() {
    for (text, said) in [
        (
            "[kafka]\nlisten_on = \"x\"",
            "unknown setting kafka.listen_on; did you mean kafka.listen?",
        ),
        ("[kafak]\nlisten = \"x\"", "unknown setting kafak; did you mean kafka?"),
        ("data_dir = \"x\"", "unknown setting data_dir; did you mean node.data_dir?"),
        ("[kafka]\ndata_dir = \"x\"", "unknown setting kafka.data_dir"),
        ("[zzz]\n", "unknown setting zzz"),
    ] {
        let found = complaints(text);
        assert!(found.starts_with(said), "{text:?}: {found}");
    }
}

#[test]
fn unknown_variables_are_refused_and_foreign_ones_passed_over() {
    let foreign = [("OTTLA_SERVICE_HOST", "10.0.0.1"), ("PATH", "/bin")];
    assert!(load(None, &foreign, &[]).0.is_ok());
    let error = load(None, &[("OTTLA__NODE__IDD", "1")], &[]).0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment OTTLA__NODE__IDD: unknown setting node.idd; did you mean node.id?"
    );
    assert!(load(None, &[("OTTLA__", "1")], &[]).0.is_err());
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0xff]);
    let environment = vec![(OsString::from("OTTLA__NODE__ZONE"), value)];
    let error = Sources { environment, ..Sources::default() }.load().unwrap_err();
    assert!(error.to_string().ends_with("the value is not UTF-8 text"), "{error}");
}

#[test]
fn values_out_of_range_or_without_unit_are_refused() {
    assert_eq!(complaints("[node]\nid = -1"), "node.id: -1 is not from 0 to 2147483647");
    assert_eq!(
        complaints("[produce]\nlinger = \"2h\""),
        "produce.linger: 2h is not from 0ms to 10s"
    );
    assert_eq!(
        complaints("[produce]\nlinger = 250"),
        "produce.linger: \"250\" is not valid; expected a duration with its unit such as \
         \"250ms\" or \"10s\""
    );
    assert_eq!(complaints("[node]\nid = [1]"), "node.id: a single value is expected here");
    assert_eq!(complaints("node = 1"), "node: a section of settings is expected here");
}

#[test]
fn all_complaints_come_together_one_per_line() {
    let said = complaints("[node]\nid = \"x\"\nidd = 1\n[admin]\nlisten = \"y\"\n");
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    for (name, text, said) in [
        ("a.toml", "[node\n", "line 1: "),
        ("a.toml", "[node]\nid = 1\nid = 2\n", "line 3: "),
        ("a.yaml", "node:\n  id: 1\n  id: 2\n", "duplicate"),
        ("a.yaml", "- 1\n", "it must hold sections"),
        ("a.json", "{", "EOF"),
        ("a.conf", "", "must end in .toml, .yaml, .yml or .json"),
    ] {
        let (loaded, path, _dir) = load(Some((name, text)), &[], &[]);
        let error = loaded.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("config file {}: ", path.unwrap().display())),
            "{error}"
        );
        assert!(error.contains(said), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let file = Some(PathBuf::from("/does/not/exist.toml"));
    let error = Sources { file, ..Sources::default() }.load().unwrap_err().to_string();
    assert!(error.contains("/does/not/exist.toml: No such file"), "{error}");
}

#[test]
fn only_flags_make_a_usage_error() {
    let flag = load(None, &[], &[("kafka-listen", "nowhere")]).0.unwrap_err();
    assert!(flag.is_usage());
    assert!(
        flag.to_string().starts_with("flag --kafka-listen: kafka.listen: \"nowhere\""),
        "{flag}"
    );
    assert!(!load(None, &[("OTTLA__NODE__ID", "x")], &[]).0.unwrap_err().is_usage());
}

#[test]
fn a_secret_may_be_in_a_file_and_is_never_shown() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("key");
    fs::write(&path, "hush-hush\n").unwrap();
    let variable = "OTTLA__OBJECT_STORE__SECRET_ACCESS_KEY_FILE";
    let loaded = load(None, &[(variable, path.to_str().unwrap())], &[]).0.unwrap();
    let secret = loaded.config.object_store.secret_access_key.as_ref().unwrap();
    assert_eq!(secret.reveal(), "hush-hush");
    let everything = format!("{loaded:?} {}", loaded.to_toml(true));
    assert!(!everything.contains("hush"), "{everything}");

    let missing = load(None, &[(variable, "/does/not/exist")], &[]).0.unwrap_err();
    assert!(missing.to_string().contains("object_store.secret_access_key: the secret's file"));
    // Only secrets have that form.
    assert!(load(None, &[("OTTLA__NODE__ZONE_FILE", "x")], &[]).0.is_err());
}

#[test]
fn printed_settings_read_back() {
    let text = "[node]\nzone = \"a \\\"quoted\\\" # zone\"\n[kafka]\nauto_create_topics = false\n";
    let (loaded, _, _dir) = load(Some(("ottla.toml", text)), &[], &[("node-id", "9")]);
    let loaded = loaded.unwrap();
    for origin in [false, true] {
        assert_eq!(from_file("again.toml", &loaded.to_toml(origin)), loaded.config);
    }
    assert!(loaded.to_toml(true).contains("# flag --node-id\n"));
}
