//! The clients that tests drive, each a program of its own with one common command line
//! (see [`crate::records`]); kcat is driven by [`crate::kcat`].

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::process::Command;

use crate::process::run;
use crate::records::Report;
use crate::{kcat, root, tool};

/// No run of a driver takes longer; Java gives a record up after two minutes.
pub const WITHIN: Duration = Duration::from_secs(180);

/// A Kafka client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// kcat with an old librdkafka.
    Kcat,
    /// librdkafka in a Rust program.
    Rdkafka,
    /// kafka-python.
    KafkaPython,
    /// confluent-kafka: a new librdkafka in Python.
    Confluent,
    /// The Java client.
    Java,
    /// franz-go.
    FranzGo,
}

/// What to write.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Where.
    pub bootstrap: &'a str,
    /// To which topic.
    pub topic: &'a str,
    /// How many partitions it has.
    pub partitions: u64,
    /// How many records.
    pub count: u64,
    /// Of which seed.
    pub seed: u64,
    /// Compressed how.
    pub codec: &'a str,
    /// By an idempotent producer?
    pub idempotent: bool,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub struct Read<'a> {
    /// Where.
    pub bootstrap: &'a str,
    /// From which topic.
    pub topic: &'a str,
    /// How many partitions it has.
    pub partitions: u64,
    /// How many records.
    pub count: u64,
}

impl Client {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Kcat, Self::Rdkafka, Self::KafkaPython, Self::Confluent, Self::Java, Self::FranzGo];

    /// Its name, fit for a topic.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kcat => "kcat",
            Self::Rdkafka => "rdkafka",
            Self::KafkaPython => "kafka-python",
            Self::Confluent => "confluent-kafka",
            Self::Java => "java",
            Self::FranzGo => "franz-go",
        }
    }

    fn command(self) -> Result<Command> {
        let python = |program: &str| -> Result<Command> {
            let mut command = Command::new(tool("python/bin/python")?);
            command.arg(root().join("tests/clients/python").join(program));
            // The checkout stays as it is.
            command.env("PYTHONDONTWRITEBYTECODE", "1");
            Ok(command)
        };
        match self {
            Self::Kcat => unreachable!("kcat has no driver program"),
            Self::Rdkafka => Ok(Command::new(rdkafka_driver()?)),
            Self::KafkaPython => python("client_kafka_python.py"),
            Self::Confluent => python("client_confluent.py"),
            Self::FranzGo => Ok(Command::new(tool("bin/client-franz-go")?)),
            Self::Java => {
                let java = tool("java")?;
                let mut command = Command::new("java");
                // Starts fast: these runs are short.
                command.args([
                    "-Xshare:auto",
                    "-XX:TieredStopAtLevel=1",
                    "-XX:+UseSerialGC",
                    "-cp",
                ]);
                command.arg(format!("{0}/classes:{0}/jars/*", java.display()));
                command.arg("Driver");
                Ok(command)
            }
        }
    }

    /// Writes records.
    pub async fn produce(self, write: &Write<'_>) -> Result<()> {
        if self == Self::Kcat {
            return kcat::produce(write).await;
        }
        let mut command = self.command()?;
        command.args(["produce", "--bootstrap", write.bootstrap, "--topic", write.topic]);
        command.args(["--partitions", &write.partitions.to_string()]);
        command.args(["--count", &write.count.to_string(), "--seed", &write.seed.to_string()]);
        command.args(["--codec", write.codec, "--idempotent", &write.idempotent.to_string()]);
        let output = run(command, WITHIN).await?;
        ensure!(
            output.trim() == format!("count={}", write.count),
            "{} wrote not all: {output}",
            self.name()
        );
        Ok(())
    }

    /// Reads records from the beginning.
    pub async fn consume(self, read: &Read<'_>) -> Result<Report> {
        match self {
            Self::Kcat => kcat::consume(read).await,
            _ => self.read("consume", read, &[]).await,
        }
    }

    /// Reads records as the one member of a group, and commits them.
    pub async fn group(self, read: &Read<'_>, group: &str) -> Result<Report> {
        match self {
            Self::Kcat => kcat::group(read, group).await,
            _ => self.read("group", read, &["--group", group]).await,
        }
    }

    async fn read(self, mode: &str, read: &Read<'_>, more: &[&str]) -> Result<Report> {
        let mut command = self.command()?;
        command.args([mode, "--bootstrap", read.bootstrap, "--topic", read.topic]);
        command.args(["--partitions", &read.partitions.to_string()]);
        command.args(["--count", &read.count.to_string()]).args(more);
        Report::parse(&run(command, WITHIN).await?)
    }
}

/// Cargo builds it with the suites, beside them: `target/<profile>/client-rdkafka`.
fn rdkafka_driver() -> Result<PathBuf> {
    let suite = std::env::current_exe()?;
    let driver = suite
        .parent()
        .and_then(|deps| deps.parent())
        .map(|profile| profile.join("client-rdkafka"))
        .unwrap_or_default();
    ensure!(
        driver.exists(),
        "{} is missing: cargo test -p ottla-tests builds it",
        driver.display()
    );
    Ok(driver)
}
