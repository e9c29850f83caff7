//! The built binary as people meet it: pages, tables, complaints, exit codes.

#![allow(clippy::unwrap_used, reason = "what tests are made of fails by panic, too")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn ottla(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.args(arguments).env_clear().current_dir(std::env::temp_dir());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that the command failed with `code` and one line that holds all of `parts`.
#[track_caller]
fn assert_one_line(output: &Output, code: i32, parts: &[&str]) {
    let complaint = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    assert!(complaint.starts_with("ottla: "), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    for part in parts {
        assert!(complaint.contains(part), "{part:?} is not in: {complaint}");
    }
    assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
}

#[test]
fn generated_pages_are_fresh() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = ottla(&["docs"]).current_dir(top).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn stale_pages_are_named_with_the_command_that_renews_them() {
    let output = ottla(&["docs"]).current_dir(TempDir::new().unwrap().path()).output().unwrap();
    assert_one_line(&output, 1, &["config.md", "cargo run -p ottla -- docs --write"]);
}

#[test]
fn the_version_and_the_api_table_are_printed() {
    let version = text(&ottla(&["version"]).output().unwrap().stdout);
    assert_eq!(version, format!("ottla {}\n", env!("CARGO_PKG_VERSION")));
    let table = text(&ottla(&["api-versions"]).output().unwrap().stdout);
    assert!(table.lines().any(|l| l.split_whitespace().eq(["0", "Produce", "0", "13"])), "{table}");
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [&["nonsense"][..], &["server", "--no-such-flag"], &["config"], &[]] {
        let output = ottla(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let output = ottla(&["server", "--kafka-listen", "nowhere"]).output().unwrap();
    assert_one_line(&output, 2, &["flag --kafka-listen", "nowhere", "127.0.0.1:9092"]);
}

#[test]
fn settings_are_printed_with_who_set_them() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("ottla.yaml");
    fs::write(&file, "node:\n  zone: east\n").unwrap();
    let file = file.to_str().unwrap();
    let output = ottla(&["config", "print", "--origin", "--config", file, "--node-id", "7"])
        .env("OTTLA__CACHE__BYTES", "64MiB")
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    let line = |key: &str| printed.lines().find(|l| l.starts_with(key)).unwrap_or_default();
    assert!(line("id = 7 ").ends_with("# flag --node-id"), "{printed}");
    assert!(line("zone = ").ends_with(&format!("# config file {file}")), "{printed}");
    assert!(line("bytes = \"64MiB\"").ends_with("# environment OTTLA__CACHE__BYTES"), "{printed}");
    assert!(line("auto_create_topics = true").ends_with("# default"), "{printed}");
}

#[test]
fn wrong_settings_are_found_without_starting() {
    let variable = ("OTTLA__KAFKA__LISTN", "127.0.0.1:1");
    let output = ottla(&["config", "check"]).env(variable.0, variable.1).output().unwrap();
    assert_one_line(&output, 1, &[variable.0, "did you mean kafka.listen?"]);

    let output = ottla(&["config", "check", "--object-store", "gs://b"]).output().unwrap();
    assert_one_line(&output, 1, &["object_store.url", "gs://b", "s3://bucket/prefix"]);

    let output = ottla(&["config", "check", "--kafka-listen", "0.0.0.0:1"]).output().unwrap();
    assert_one_line(&output, 1, &["--kafka-advertise"]);

    let check = ottla(&["config", "check"]).env("OTTLA__LOG__FILTER", "a=b c").output().unwrap();
    assert_one_line(&check, 1, &["log.filter"]);

    assert!(ottla(&["config", "check"]).output().unwrap().status.success());
}

/// Arguments for a server that would listen on free ports.
fn server(data_dir: &str) -> Command {
    ottla(&[
        "server",
        "--kafka-listen=127.0.0.1:0",
        "--admin-listen=127.0.0.1:0",
        "--data-dir",
        data_dir,
    ])
}

#[test]
fn a_directory_that_cannot_be_used_stops_the_start() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let output = server(file.join("below").to_str().unwrap()).output().unwrap();
    assert_one_line(&output, 1, &["file/below", "Not a directory", "--data-dir"]);
}

#[test]
fn a_port_in_use_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--admin-listen", "--kafka-listen"] {
        let dir = TempDir::new().unwrap();
        let mut server = ottla(&["server", "--data-dir", dir.path().to_str().unwrap()]);
        for other in ["--admin-listen", "--kafka-listen"] {
            server.args([other, if other == flag { &address } else { "127.0.0.1:0" }]);
        }
        let output = server.env("OTTLA__LOG__FILTER", "off").output().unwrap();
        assert_one_line(&output, 1, &[&address, "in use", flag]);
    }
}

#[test]
fn fsck_refuses_a_place_without_a_nodes_data_and_leaves_it_as_it_was() {
    let empty = TempDir::new().unwrap();
    let path = empty.path().to_str().unwrap();
    let output = ottla(&["fsck", "--data-dir", path]).output().unwrap();
    assert_one_line(&output, 1, &["no node's data", path, "--data-dir"]);
    assert_eq!(fs::read_dir(path).unwrap().count(), 0);
}
