//! Apache Kafka: what benchmarks are measured against, and what the tests themselves are tested on.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::delay;
use tokio::process::Command;
use tokio::time::Instant;

use crate::process::{Process, run};
use crate::raw::RawClient;
use crate::{Scratch, ports, tool};

const READY_WITHIN: Duration = Duration::from_secs(60);
const READY_POLL: Duration = Duration::from_millis(200);

/// The JVM flags of Kafka's own start script.
const JVM: [&str; 9] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:MaxInlineLevel=15",
    "-Djava.awt.headless=true",
];

/// One node with both roles (KRaft).
#[derive(Debug)]
pub struct Kafka {
    port: u16,
    process: Process,
}

impl Kafka {
    /// Formats a data folder, starts the server and waits until it answers.
    pub async fn start_new(scratch: &Scratch) -> Result<Self> {
        let (port, controller) = (ports::free()?, ports::free()?);
        let settings = scratch.path().join("kafka.properties");
        fs::write(
            &settings,
            format!(
                "process.roles=broker,controller\n\
                 node.id=1\n\
                 controller.quorum.voters=1@127.0.0.1:{controller}\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
                 controller.listener.names=CONTROLLER\n\
                 log.dirs={}\n\
                 offsets.topic.replication.factor=1\n\
                 transaction.state.log.replication.factor=1\n\
                 transaction.state.log.min.isr=1\n\
                 share.coordinator.state.topic.replication.factor=1\n\
                 share.coordinator.state.topic.min.isr=1\n",
                scratch.path().join("kafka-data").display()
            ),
        )?;
        let classes = format!("{}/*", tool("kafka")?.display());
        let mut format = Command::new("java");
        format.args(["-cp", &classes, "kafka.tools.StorageTool", "format"]);
        format.args(["-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"]).arg(&settings);
        run(format, READY_WITHIN).await.context("format Kafka's data folder")?;

        let mut command = Command::new("java");
        command.args(JVM).args(["-cp", &classes, "kafka.Kafka"]).arg(&settings);
        let process = Process::start("kafka", command, &scratch.path().join("kafka.log"))?;
        let mut server = Self { port, process };
        let begin = Instant::now();
        while !server.answers().await {
            server.process.check_running()?;
            ensure!(begin.elapsed() < READY_WITHIN, "Kafka is not ready after {READY_WITHIN:?}");
            delay(READY_POLL).await;
        }
        Ok(server)
    }

    async fn answers(&self) -> bool {
        let Ok(mut client) = RawClient::connect(&self.bootstrap()).await else { return false };
        client.brokers().await.is_ok_and(|brokers| brokers == 1)
    }

    /// What clients are given to connect to.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
