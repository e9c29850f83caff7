//! The servers that are compared.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use ottla_benches::{consume, produce};
use ottla_tests::Scratch;
use ottla_tests::kafka::Kafka;
use ottla_tests::ottla::Ottla;
use ottla_tests::server::Server;
use rustix::fs::{Advice, fadvise};
use tokio::time::Instant;

use crate::Bench;
use crate::targets::Measure;

/// Records that warm a server up: a JVM has compiled what it needs by then.
const WARM_UP_RECORDS: u64 = 100_000;
/// The topic that they are in.
pub const WARM_UP: &str = "warm-up";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The reference.
    Kafka,
    /// The binary under test.
    Ottla,
}

impl Side {
    /// In the order in which they are measured.
    pub const BOTH: [Self; 2] = [Self::Kafka, Self::Ottla];

    /// As it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kafka => "Kafka",
            Self::Ottla => "Ottla",
        }
    }

    /// A fresh server, warmed up.
    pub async fn start(self) -> Result<Running> {
        let scratch = Scratch::new(&format!("bench-{}", self.name()))?;
        let server = match self {
            Self::Kafka => Server::Kafka(Box::new(Kafka::start_new(&scratch).await?)),
            Self::Ottla => Server::Ottla(Box::new(Ottla::start_new(&scratch).await?)),
        };
        let mut running = Running { server, scratch };
        let load = produce::Load::of(WARM_UP, WARM_UP_RECORDS);
        running.create(WARM_UP, load.partitions).await?;
        running.timed(|bootstrap| load.run(bootstrap))?;
        running.warm_up_reading()?;
        Ok(running)
    }
}

/// A running server.
pub struct Running {
    pub server: Server,
    scratch: Scratch,
}

/// Seconds on the clock and of the server's processors.
pub struct Timed {
    pub seconds: f64,
    pub cpu_seconds: f64,
}

impl Running {
    /// Creates a topic.
    pub async fn create(&self, topic: &str, partitions: i32) -> Result<()> {
        ottla_tests::topic::create(&self.server.bootstrap(), topic, partitions).await
    }

    /// Reads the warm-up topic.
    pub fn warm_up_reading(&mut self) -> Result<()> {
        self.timed(|bootstrap| consume::Reading::of(WARM_UP).run(bootstrap)).map(|_| ())
    }

    /// Runs a load on threads of its own; the processes of both sides are not of this runtime.
    pub fn timed(&mut self, load: impl FnOnce(&str) -> Result<()> + Send) -> Result<Timed> {
        let bootstrap = self.server.bootstrap();
        let cpu = self.server.process()?.cpu_seconds()?;
        let begin = Instant::now();
        tokio::task::block_in_place(|| load(&bootstrap))?;
        let seconds = begin.elapsed().as_secs_f64();
        let cpu_seconds = self.server.process()?.cpu_seconds()? - cpu;
        Ok(Timed { seconds, cpu_seconds: cpu_seconds.max(0.01) })
    }

    /// Empties what the server itself holds in memory: Ottla's cache. Kafka has none.
    pub async fn forget(&mut self) -> Result<()> {
        if let Server::Ottla(server) = &mut self.server {
            server.stop().await?;
            server.start().await?;
            self.warm_up_reading()?;
        }
        Ok(())
    }

    /// Takes the server's files out of the page cache.
    pub fn drop_page_cache(&self) -> Result<()> {
        tokio::task::block_in_place(|| drop_files(self.scratch.path()))
    }

    /// Ends the server and removes its files.
    pub fn end(self) {
        drop(self.server);
        self.scratch.done();
    }
}

/// Syncs every file below a folder and asks the system to forget its pages.
fn drop_files(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_files(&path)?;
            continue;
        }
        // A server may have removed it meanwhile.
        let Ok(file) = File::open(&path) else { continue };
        let forgotten = file
            .sync_all()
            .and_then(|()| fadvise(&file, 0, None, Advice::DontNeed).map_err(std::io::Error::from));
        forgotten.with_context(|| format!("drop {}", path.display()))?;
    }
    Ok(())
}

impl Bench {
    /// Adds MB/s and MB per CPU second.
    pub fn add_throughput(
        &mut self,
        [wall, cpu]: [Measure; 2],
        side: Side,
        bytes: u64,
        timed: &Timed,
    ) {
        let megabytes = bytes as f64 / 1e6;
        self.report.add(wall, side, megabytes / timed.seconds);
        self.report.add(cpu, side, megabytes / timed.cpu_seconds);
    }
}
