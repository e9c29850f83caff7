//! kcat as a driver: its output is parsed here, because it cannot hash.
//!
//! kcat gives every record of a run the same headers and the present time, so what it writes differs
//! from what the others write in these two; see [`written`].

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::driver::{Read, WITHIN, Write};
use crate::process::run;
use crate::records::{Lines, Report, TestRecord};

/// Partition, offset, timestamp, length of the key (−1: none), key, the same for the value, headers.
const FORMAT: &str = r"%p\t%o\t%T\t%K\t%k\t%S\t%s\t%h\n";

/// The record that kcat writes for an index, except for its timestamp.
pub fn written(seed: u64, index: u64) -> TestRecord {
    TestRecord {
        headers: vec![("seed".to_owned(), seed.to_string())],
        timestamp: 0,
        ..TestRecord::new(seed, index)
    }
}

/// Writes records: one run of kcat per partition.
pub async fn produce(write: &Write<'_>) -> Result<()> {
    for partition in 0..write.partitions {
        let mut input = String::new();
        for index in (0..write.count).filter(|index| index % write.partitions == partition) {
            let record = written(write.seed, index);
            input.push_str(record.key.as_deref().unwrap_or_default());
            input.push('\t');
            input.push_str(record.value.as_deref().unwrap_or_default());
            input.push('\n');
        }
        let mut command = Command::new("kcat");
        // -Z: empty keys and values are none at all.
        command.args(["-P", "-Z", "-K", "\t", "-b", write.bootstrap, "-t", write.topic]);
        command.args(["-p", &partition.to_string(), "-H", &format!("seed={}", write.seed)]);
        command.args(["-X", &format!("compression.codec={}", write.codec)]);
        command.args(["-X", &format!("enable.idempotence={}", write.idempotent)]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("start kcat")?;
        let mut stdin = child.stdin.take().context("kcat has no input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = timeout(WITHIN, child.wait_with_output()).await.context("kcat hangs")??;
        ensure!(
            output.status.success(),
            "kcat: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Reads all partitions from the beginning.
pub async fn consume(read: &Read<'_>) -> Result<Report> {
    Ok(Report::of(&lines(read).await?))
}

/// What it reads from all partitions.
pub async fn lines(read: &Read<'_>) -> Result<Lines> {
    let mut command = Command::new("kcat");
    command.args(["-C", "-q", "-b", read.bootstrap, "-t", read.topic, "-o", "beginning", "-e"]);
    command.args(["-c", &read.count.to_string(), "-f", FORMAT]);
    parse(&run(command, WITHIN).await?)
}

/// Reads as a member of a group; kcat commits when it leaves.
pub async fn group(read: &Read<'_>, group: &str) -> Result<Report> {
    let mut command = Command::new("kcat");
    command.args(["-b", read.bootstrap, "-q", "-X", "auto.offset.reset=earliest"]);
    command.args(["-c", &read.count.to_string(), "-f", FORMAT, "-G", group, read.topic]);
    Ok(Report::of(&parse(&run(command, WITHIN).await?)?))
}

fn parse(output: &str) -> Result<Lines> {
    let mut lines = Lines::new();
    for line in output.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[partition, offset, timestamp, key_length, key, value_length, value, headers] =
            fields.as_slice()
        else {
            bail!("unexpected line of kcat: {line:?}");
        };
        let shown = |length: &str, text: &str| {
            if length == "-1" { "-".to_owned() } else { text.to_owned() }
        };
        let text = format!(
            "{partition}\t{offset}\t{timestamp}\t{}\t{}\t{headers}\n",
            shown(key_length, key),
            shown(value_length, value)
        );
        lines.insert((partition.parse()?, offset.parse()?), text);
    }
    Ok(lines)
}
