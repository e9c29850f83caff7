//! Rules about the workspace that the compiler does not keep: which crate may know which, who owns
//! the heavy dependencies, how long a file may be, how many fields a struct may have. Lengths of
//! functions and numbers of arguments are kept by clippy (`clippy.toml`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ottla_tests::root;
use serde_json::Value;

/// What each crate of the product may depend on. Dependencies point one way; the broker reaches the
/// control plane only through `control-api`, and storage and control plane do not know each other.
const MAY_USE: &[(&str, &[&str])] = &[
    ("ottla-model", &[]),
    ("ottla-env", &["ottla-model"]),
    ("ottla-telemetry", &["ottla-model"]),
    ("ottla-config", &["ottla-model"]),
    ("ottla-format", &["ottla-model"]),
    ("ottla-wire", &["ottla-model", "ottla-env", "ottla-telemetry", "ottla-test-kit"]),
    ("ottla-object-io", &["ottla-model", "ottla-env", "ottla-telemetry"]),
    ("ottla-control-api", &["ottla-model", "ottla-format"]),
    // For tests: a development dependency, see `the_binary_needs_nothing_that_only_tests_need`.
    ("ottla-test-kit", &["ottla-model", "ottla-format", "ottla-control-api"]),
    (
        "ottla-storage",
        &[
            "ottla-model",
            "ottla-env",
            "ottla-telemetry",
            "ottla-format",
            "ottla-wire",
            "ottla-object-io",
            "ottla-control-api",
            "ottla-test-kit",
        ],
    ),
    (
        "ottla-control-plane",
        &[
            "ottla-model",
            "ottla-env",
            "ottla-telemetry",
            "ottla-format",
            "ottla-object-io",
            "ottla-control-api",
        ],
    ),
    (
        "ottla-sim",
        &[
            "ottla-model",
            "ottla-env",
            "ottla-telemetry",
            "ottla-format",
            "ottla-wire",
            "ottla-object-io",
            "ottla-control-api",
            "ottla-storage",
            "ottla-control-plane",
        ],
    ),
    ("ottla-fuzz", &["ottla-model", "ottla-env", "ottla-format", "ottla-wire"]),
    (
        "ottla-broker",
        &[
            "ottla-model",
            "ottla-env",
            "ottla-telemetry",
            "ottla-format",
            "ottla-wire",
            "ottla-object-io",
            "ottla-control-api",
            "ottla-storage",
            "ottla-test-kit",
        ],
    ),
];

/// Dependencies with few owners, and these.
const OWNERS: &[(&str, &[&str])] = &[
    ("openraft", &["ottla-control-plane"]),
    ("sled", &["ottla-control-plane"]),
    ("object_store", &["ottla-object-io"]),
    ("aws-sdk-s3", &["ottla-object-io"]),
    ("kafka-protocol", &["ottla-wire", "ottla-broker", "ottla-fuzz", "ottla-tests"]),
    ("prometheus", &["ottla-telemetry"]),
    ("tracing-subscriber", &["ottla-telemetry", "ottla-tests"]),
    ("clap", &["ottla", "ottla-fuzz", "ottla-tests"]),
    ("tikv-jemallocator", &["ottla", "ottla-control-plane", "ottla-fuzz"]),
    ("tikv-jemalloc-ctl", &["ottla-telemetry", "ottla-fuzz"]),
    ("axum", &["ottla"]),
    ("rand", &["ottla-env"]),
    ("rdkafka", &["ottla-tests", "ottla-benches"]),
    ("anyhow", &["ottla", "ottla-fuzz", "ottla-tests", "ottla-benches"]),
];

/// Licences that may be linked into an Apache-2.0 program without a word to its users.
const LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Copyleft by file: its source goes unchanged, and its place of origin is in the lock file.
const LICENCE_EXCEPTIONS: &[(&str, &str)] =
    &[("imbl", "MPL-2.0"), ("imbl-sized-chunks", "MPL-2.0")];

/// A file that is longer holds more than one idea.
const LINES_MAX: usize = 500;

fn metadata(more: &[&str]) -> Result<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform"])
        .arg("x86_64-unknown-linux-gnu")
        .args(more)
        .current_dir(root())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

/// Crate name → names of what its manifest lists, development dependencies included or not.
fn manifests(development: bool) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let metadata = metadata(&["--no-deps"])?;
    Ok(list(&metadata, "packages")
        .map(|package| {
            let used = list(package, "dependencies")
                .filter(|dependency| development || dependency["kind"].as_str() != Some("dev"))
                .map(|dependency| text(dependency, "name").to_owned())
                .collect();
            (text(package, "name").to_owned(), used)
        })
        .collect())
}

#[test]
fn dependencies_between_crates_point_one_way() -> Result<()> {
    let manifests = manifests(true)?;
    for (name, may) in MAY_USE {
        let used = manifests.get(*name).with_context(|| format!("no crate {name}"))?;
        for dependency in used.iter().filter(|used| used.starts_with("ottla")) {
            ensure!(
                may.contains(&dependency.as_str()),
                "{name} must not know {dependency} (style: Layout)"
            );
        }
    }
    let top = ["ottla", "ottla-tests", "ottla-benches"];
    for name in manifests.keys() {
        ensure!(
            top.contains(&name.as_str()) || MAY_USE.iter().any(|(known, _)| known == name),
            "{name} is new: say here what it may use"
        );
    }
    Ok(())
}

#[test]
fn heavy_dependencies_have_their_owners() -> Result<()> {
    for (name, used) in manifests(true)? {
        for (dependency, owners) in OWNERS {
            ensure!(
                !used.contains(*dependency) || owners.contains(&name.as_str()),
                "{name} uses {dependency}, which belongs to {owners:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_binary_needs_nothing_that_only_tests_need() -> Result<()> {
    for (name, used) in manifests(false)? {
        if name.starts_with("ottla-tests") || name.starts_with("ottla-benches") {
            continue;
        }
        let only_tests = [
            "rdkafka",
            "proptest",
            "tempfile",
            "ottla-tests",
            "ottla-sim",
            "ottla-fuzz",
            "ottla-test-kit",
        ];
        for dependency in only_tests {
            ensure!(!used.contains(dependency), "{name} uses {dependency} outside its tests");
        }
    }
    Ok(())
}

/// The product drives the writer's steps by its task; they are open to the simulation alone.
#[test]
fn only_the_simulation_asks_for_step_functions() -> Result<()> {
    let metadata = metadata(&["--no-deps"])?;
    for package in list(&metadata, "packages") {
        let name = text(package, "name");
        for dependency in list(package, "dependencies") {
            let opened = list(dependency, "features").any(|feature| feature == "step-functions");
            ensure!(!opened || name == "ottla-sim", "{name} asks for step-functions");
        }
    }
    Ok(())
}

#[test]
fn licences_allow_what_we_do() -> Result<()> {
    let metadata = metadata(&[])?;
    let mut refused = Vec::new();
    for package in list(&metadata, "packages") {
        let (name, licence) = (text(package, "name"), text(package, "license"));
        let excepted = LICENCE_EXCEPTIONS
            .iter()
            .any(|(known, allowed)| *known == name && licence.starts_with(allowed));
        if !excepted && !allowed(licence) {
            refused.push(format!("{name}: {licence:?}"));
        }
    }
    ensure!(refused.is_empty(), "not allowed:\n{}", refused.join("\n"));
    Ok(())
}

/// Of alternatives one must be allowed, of a conjunction all. (Nested expressions are read as
/// conjunctions of alternatives, which is how crates write them.)
fn allowed(expression: &str) -> bool {
    expression.split(" AND ").all(|part| {
        let part = part.trim().trim_start_matches('(').trim_end_matches(')');
        part.replace('/', " OR ").split(" OR ").any(|one| LICENCES.contains(&one.trim()))
    })
}

#[test]
fn files_hold_one_idea() -> Result<()> {
    let mut long = Vec::new();
    for path in sources()? {
        let lines = std::fs::read_to_string(root().join(&path))?.lines().count();
        if lines > LINES_MAX {
            long.push(format!("{}: {lines} lines", path.display()));
        }
    }
    ensure!(long.is_empty(), "longer than {LINES_MAX} lines:\n{}", long.join("\n"));
    Ok(())
}

/// I-NODISK. Objects in a directory are the affair of `object-io`.
#[test]
fn a_broker_writes_no_file() -> Result<()> {
    let folders = ["broker/src", "storage/src", "crates/wire/src"];
    no_product_source(&folders, &["std::fs", "tokio::fs"], &[])
}

#[test]
fn only_env_opens_sockets() -> Result<()> {
    let folders = ["broker/src", "storage/src", "control-plane/src", "crates"];
    no_product_source(&folders, &["tokio::net", "std::net::Tcp", "std::net::Udp"], &[])
}

/// A task or thread that panics is missed: `VitalTasks` starts it, or a `JoinSet` of its owner.
#[test]
fn no_task_is_started_where_nobody_misses_it() -> Result<()> {
    let folders = ["broker/src", "storage/src", "control-plane/src", "crates"];
    let starts = ["tokio::spawn(", "task::spawn(", "thread::spawn(", "thread::Builder"];
    let missed_otherwise = [
        // Waits for a lock in the way of a start, which goes on without it.
        "control-plane/src/checkpoint/tree.rs",
        // Ends with the operation it belongs to.
        "crates/object-io/src/backend/file/gate.rs",
        // Before there is a node, and after.
        "crates/ottla/src/output.rs",
        "crates/ottla/src/run.rs",
        "crates/telemetry/src/logs.rs",
        // Its end, however it comes, is a state that the broker waits for.
        "storage/src/write/writer.rs",
    ];
    no_product_source(&folders, &starts, &missed_otherwise)
}

/// The most fields of a struct. One with more hides a concept that wants a name.
const FIELDS_MAX: usize = 15;

/// Structs with more fields. The list only gets shorter.
const FIELDS_EXCEPTIONS: &[&str] = &[
    "broker/src/context.rs: Context has 20",
    "broker/src/group/state.rs: Group has 19",
    "crates/sim/src/world.rs: World has 26",
    "tests/src/torture/report.rs: Counts has 17",
];

#[test]
fn structs_hold_one_concept() -> Result<()> {
    let mut large = Vec::new();
    for path in sources()? {
        let source = std::fs::read_to_string(root().join(&path))?;
        for (name, fields) in structs(&source) {
            if fields > FIELDS_MAX {
                large.push(format!("{}: {name} has {fields}", path.display()));
            }
        }
    }
    large.sort();
    ensure!(large == FIELDS_EXCEPTIONS, "more than {FIELDS_MAX} fields:\n{}", large.join("\n"));
    Ok(())
}

/// The structs of a formatted source with the number of their fields.
fn structs(source: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let Some((before, name)) = line.split_once("struct ") else { continue };
        let is_item = before.trim().is_empty() || before.trim_start().starts_with("pub");
        if !is_item || !line.ends_with('{') {
            continue;
        }
        let end = format!("{}}}", &line[..indent]);
        let is_field = |line: &&str| {
            let text = line.trim_start();
            line.len() - text.len() == indent + 4
                && !text.starts_with("//")
                && !text.starts_with('#')
                && text.contains(": ")
        };
        let fields = lines.by_ref().take_while(|line| *line != end).filter(is_field).count();
        let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        found.push((name, fields));
    }
    found
}

/// No source of the product below these folders says one of these things, but for the `except`ed files,
/// which do; `env` may.
fn no_product_source(folders: &[&str], words: &[&str], except: &[&str]) -> Result<()> {
    let mut looked_at = 0;
    for path in sources()? {
        let place = path.to_string_lossy();
        let of_product = !place.contains("test") && !place.starts_with("crates/env/");
        if !of_product || !folders.iter().any(|folder| place.starts_with(folder)) {
            continue;
        }
        looked_at += 1;
        let source = std::fs::read_to_string(root().join(&path))?;
        let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let said = words.iter().find(|word| product.contains(**word));
        match except.contains(&place.as_ref()) {
            true => ensure!(said.is_some(), "{place} is no exception any more"),
            false => ensure!(said.is_none(), "{place}: {}", said.copied().unwrap_or_default()),
        }
    }
    ensure!(looked_at > 50, "only {looked_at} sources found");
    Ok(())
}

#[test]
fn no_module_is_called_after_nothing() -> Result<()> {
    const NAMELESS: [&str; 4] = ["util", "utils", "common", "misc"];
    for path in sources()? {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        ensure!(!NAMELESS.contains(&stem.as_ref()), "{}: what is it about?", path.display());
    }
    Ok(())
}

/// Rust files in the checkout, the folders of builds left out.
fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["crates", "broker", "control-plane", "storage", "tests", "benches"] {
        walk(&root().join(folder), &mut found)?;
    }
    ensure!(found.len() > 50, "only {} sources found", found.len());
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("target") {
            walk(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path.strip_prefix(root()).unwrap_or(&path).to_owned());
        }
    }
    Ok(())
}
