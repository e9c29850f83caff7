//! The harness of the end-to-end suites: real processes, real clients, real object stores.
//!
//! A suite (`tests/suites/*.rs`) makes a [`Scratch`] folder, starts servers in it, drives clients
//! against them, and calls [`Scratch::done`] at its end. When it ends in any other way the folder
//! stays and the last lines of every log in it are printed. Processes end with the value that holds
//! them; servers listen on loopback only.
//!
//! In reading order: processes and their folder, the servers, the clients, the checker of histories.
//!
//! What the suites need is installed by `tests/tools/install.sh`; the binary under test is
//! `target/release/ottla` unless `OTTLA_BIN` names another. With `OTTLA_TESTS_AGAINST=kafka` the
//! `clients` suite runs against Apache Kafka: a test that fails there is wrong itself.

pub mod http;
pub mod ports;
pub mod process;
pub mod scrape;
pub mod scratch;

pub mod disk_faults;
pub mod fault_proxy;
pub mod kafka;
pub mod ottla;
pub mod server;
pub mod versitygw;

pub mod codecs;
pub mod driver;
pub mod edge;
pub mod kcat;
pub mod member;
pub mod payload;
pub mod raw;
pub mod real_clients;
pub mod records;
pub mod topic;

pub mod history;
pub mod killed;
pub mod load;
pub mod paced;
pub mod torture;

pub use scratch::Scratch;

use std::path::PathBuf;

/// The root of the checkout.
pub fn root() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map(PathBuf::from).unwrap_or(tests)
}

/// A program or folder that `tests/tools/install.sh` installs, or an error that says so.
pub fn tool(path: &str) -> anyhow::Result<PathBuf> {
    let tool = root().join(".tools").join(path);
    anyhow::ensure!(tool.exists(), "{} is missing: run tests/tools/install.sh", tool.display());
    Ok(tool)
}
