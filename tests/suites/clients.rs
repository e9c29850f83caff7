//! Every client that matters writes, and every client reads what every other wrote; each also goes
//! on where its consumer group was.

use anyhow::{Context, Result, ensure};
use ottla_tests::driver::{Client, Read, Write};
use ottla_tests::records::{Lines, Report, TestRecord};
use ottla_tests::server::Server;
use ottla_tests::{Scratch, kcat, topic};

const PARTITIONS: u64 = 4;
/// Records of each client, half of them by an idempotent producer.
const RECORDS: u64 = 10_000;
const HALF: u64 = RECORDS / 2;
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The records that a client writes, by seed: each of the two runs has its own.
fn seeds(client: usize) -> [u64; 2] {
    [2 * client as u64, 2 * client as u64 + 1]
}

/// What must be in the topic after both runs of a client.
fn expected(client: usize, make: impl Fn(u64, u64) -> TestRecord) -> Lines {
    let mut lines = Lines::new();
    for (run, seed) in seeds(client).into_iter().enumerate() {
        for index in 0..HALF {
            let partition = (index % PARTITIONS) as i32;
            let offset = (run as u64 * HALF / PARTITIONS + index / PARTITIONS) as i64;
            lines.insert((partition, offset), make(seed, index).line(partition, offset));
        }
    }
    lines
}

/// Writes a topic per client; answers the names.
async fn write_all(bootstrap: &str) -> Result<Vec<String>> {
    let mut topics = Vec::new();
    for (number, client) in Client::ALL.into_iter().enumerate() {
        let name = format!("by-{}", client.name());
        topic::create(bootstrap, &name, PARTITIONS as i32).await?;
        for (run, seed) in seeds(number).into_iter().enumerate() {
            let write = Write {
                bootstrap,
                topic: &name,
                partitions: PARTITIONS,
                count: HALF,
                seed,
                codec: CODECS[(2 * number + run) % CODECS.len()],
                idempotent: run == 0,
            };
            client.produce(&write).await.with_context(|| format!("{write:?}"))?;
        }
        topics.push(name);
    }
    Ok(topics)
}

/// kcat can set neither timestamps nor headers of single records: everything else must be as made,
/// and the hash that the others must find is that of what kcat itself reads.
async fn expected_of_kcat(read: &Read<'_>) -> Result<Report> {
    let mut lines = expected(0, kcat::written);
    for (at, line) in kcat::lines(read).await? {
        let made = lines.get_mut(&at).with_context(|| format!("too much: {line:?}"))?;
        let timestamp = line.split('\t').nth(2).unwrap_or_default();
        let prefix = format!("{}\t{}\t", at.0, at.1);
        *made = made.replacen(&format!("{prefix}0\t"), &format!("{prefix}{timestamp}\t"), 1);
        ensure!(*made == line, "kcat wrote {made:?} and read {line:?}");
    }
    Ok(Report::of(&lines))
}

#[tokio::test]
async fn every_client_reads_what_every_other_wrote() -> Result<()> {
    let scratch = Scratch::new("clients")?;
    let server = Server::start(&scratch).await?;
    let bootstrap = server.bootstrap();
    let topics = write_all(&bootstrap).await?;
    for (number, writer) in Client::ALL.into_iter().enumerate() {
        let topic = topics[number].as_str();
        let read = Read { bootstrap: &bootstrap, topic, partitions: PARTITIONS, count: RECORDS };
        let expected = if writer == Client::Kcat {
            expected_of_kcat(&read).await?
        } else {
            Report::of(&expected(number, TestRecord::new))
        };
        for reader in Client::ALL {
            let what = format!("{} reads what {} wrote", reader.name(), writer.name());
            let report = reader.consume(&read).await.context(what.clone())?;
            ensure!(report == expected, "{what}: {report:?} instead of {expected:?}");
        }
    }
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn every_client_goes_on_where_its_group_was() -> Result<()> {
    let scratch = Scratch::new("groups")?;
    let server = Server::start(&scratch).await?;
    let bootstrap = server.bootstrap();
    let name = "for-groups";
    topic::create(&bootstrap, name, PARTITIONS as i32).await?;
    let write = Write {
        bootstrap: &bootstrap,
        topic: name,
        partitions: PARTITIONS,
        count: RECORDS,
        seed: 7,
        codec: "lz4",
        idempotent: true,
    };
    Client::Rdkafka.produce(&write).await?;
    let read = Read { bootstrap: &bootstrap, topic: name, partitions: PARTITIONS, count: HALF };
    for client in Client::ALL {
        let group = format!("group-of-{}", client.name());
        let first = client.group(&read, &group).await.context(group.clone())?;
        let second = client.group(&read, &group).await.context(group.clone())?;
        check_halves(&first, &second).context(group)?;
    }
    scratch.done();
    Ok(())
}

/// The second reader began where the first one ended, in every partition, and both together read
/// everything as it was written.
fn check_halves(first: &Report, second: &Report) -> Result<()> {
    for report in [first, second] {
        ensure!(report.count == HALF, "{} records instead of {HALF}", report.count);
        let mut lines = Lines::new();
        for (&partition, &(from, end)) in &report.ranges {
            for offset in from..end {
                let index = offset as u64 * PARTITIONS + partition as u64;
                let line = TestRecord::new(7, index).line(partition, offset);
                lines.insert((partition, offset), line);
            }
        }
        ensure!(*report == Report::of(&lines), "records differ from what was written: {report:?}");
    }
    let per_partition = (RECORDS / PARTITIONS) as i64;
    for partition in 0..PARTITIONS as i32 {
        let (from, end) = first.ranges.get(&partition).copied().unwrap_or((0, 0));
        let (next, last) = second.ranges.get(&partition).copied().unwrap_or((end, end));
        ensure!(
            from == 0 && next == end && last == per_partition,
            "partition {partition}: {from}-{end}, then {next}-{last}"
        );
    }
    Ok(())
}
