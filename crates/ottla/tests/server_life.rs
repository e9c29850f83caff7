//! A running server: where it can be found, how it stops, and who may not start beside it.

#![allow(clippy::unwrap_used, reason = "what tests are made of fails by panic, too")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};

use tempfile::TempDir;

const DATA_DIR: &str = "data";

/// `ottla server` on free ports, in a directory of its own.
fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ottla"));
    command.args(["server", "--kafka-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"]);
    command.args(["--data-dir", DATA_DIR]).env_clear().current_dir(dir);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that has said it is ready. Killed when dropped.
struct Server {
    child: Child,
    kafka: String,
    admin: String,
    _stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let mut banner = String::new();
        while !banner.contains("Ctrl-C") {
            if stdout.read_line(&mut banner).unwrap() == 0 {
                let mut why = String::new();
                stderr.read_to_string(&mut why).unwrap();
                panic!("the server ended: {why}");
            }
        }
        let after = |label: &str| {
            let rest = banner.lines().find_map(|line| line.trim().strip_prefix(label));
            rest.unwrap().split_whitespace().next().unwrap().to_owned()
        };
        let admin = after("Admin").replace("http://", "");
        Self { kafka: after("Kafka clients"), admin, child, _stdout: stdout, stderr }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end; what it logged is read out meanwhile.
    fn wait(&mut self) -> (ExitStatus, String) {
        let mut logs = String::new();
        self.stderr.read_to_string(&mut logs).unwrap();
        (self.child.wait().unwrap(), logs)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn assert_refused(output: &Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let complaints: Vec<&str> = said.lines().filter(|line| line.starts_with("ottla: ")).collect();
    assert_eq!(complaints.len(), 1, "{said}");
    for part in parts {
        assert!(complaints[0].contains(part), "{part:?} is not in: {said}");
    }
}

#[test]
fn a_server_is_ready_when_it_says_so_and_stops_with_0() {
    for signal in ["TERM", "INT"] {
        let dir = TempDir::new().unwrap();
        let mut server = Server::start(&mut command(dir.path()));
        assert!(server.get("/readyz").ends_with("ready\n"));
        assert!(server.get("/livez").ends_with("ok\n"));
        let metrics = server.get("/metrics");
        assert!(metrics.contains("\nottla_raft_is_leader 1\n"), "{metrics}");
        assert!(metrics.contains("\nprocess_resident_memory_bytes "), "{metrics}");
        TcpStream::connect(&server.kafka).unwrap();
        server.signal(signal);
        let (status, logs) = server.wait();
        assert_eq!(status.code(), Some(0), "{logs}");
        assert!(dir.path().join(DATA_DIR).join("objects").is_dir());
    }
}

#[test]
fn a_killed_server_leaves_nothing_that_stops_the_next() {
    let dir = TempDir::new().unwrap();
    let cluster = |server: &Server| server.get("/metrics").contains("ottla_raft_is_leader 1");
    let first = Server::start(&mut command(dir.path()));
    assert!(cluster(&first));
    drop(first);
    assert!(cluster(&Server::start(&mut command(dir.path()))));
}

#[test]
fn a_second_process_on_the_directory_is_told_of_the_first() {
    let dir = TempDir::new().unwrap();
    let first = Server::start(&mut command(dir.path()));
    let owner = format!("process {}", first.child.id());
    // The very same command line, with the ports of the first.
    let mut second = command(dir.path());
    second.env("OTTLA__ADMIN__LISTEN", &first.admin);
    assert_refused(&second.output().unwrap(), &["in use by", &owner, "--data-dir"]);
}

#[test]
fn another_clusters_objects_are_not_touched() {
    let (mine, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut first = Server::start(&mut command(mine.path()));
    first.signal("TERM");
    first.wait();
    let objects = mine.path().join(DATA_DIR).join("objects");
    let url = format!("file://{}", objects.display());
    let output = command(other.path()).args(["--object-store", &url]).output().unwrap();
    assert_refused(&output, &["belongs to another cluster", &url]);
}

#[test]
fn a_directory_of_a_newer_format_or_of_another_node_is_refused() {
    let dir = TempDir::new().unwrap();
    let mut first = Server::start(&mut command(dir.path()));
    first.signal("TERM");
    first.wait();
    let output = command(dir.path()).args(["--node-id", "2"]).output().unwrap();
    assert_refused(&output, &["belongs to node 1", "this is node 2"]);

    let identity = dir.path().join(DATA_DIR).join("controller/identity");
    fs::write(&identity, "something that was never ours").unwrap();
    assert_refused(&command(dir.path()).output().unwrap(), &["controller/identity"]);
}

#[test]
fn json_logs_are_one_object_per_line() {
    let dir = TempDir::new().unwrap();
    let mut server = Server::start(command(dir.path()).args(["--log-format", "json"]));
    server.signal("TERM");
    let (_, logs) = server.wait();
    assert!(logs.lines().count() > 0);
    for line in logs.lines() {
        assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with('}'), "{line}");
    }
}
