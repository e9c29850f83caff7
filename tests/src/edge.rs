//! A server under attack, and what must be true when the attack is over: no panic, bounded memory,
//! others served, all descriptors given back.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::delay;
use tokio::time::Instant;

use crate::ottla::Ottla;
use crate::raw::RawClient;
use crate::{Scratch, topic};

/// The topic that every server here has, with two partitions.
pub const TOPIC: &str = "edge";

/// Where the honest client of a test connects from.
pub const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

/// So long a server may take to notice that connections are gone.
const DESCRIPTORS_BACK_WITHIN: Duration = Duration::from_secs(30);

/// So long a server may take to write a line.
const LINE_WITHIN: Duration = Duration::from_secs(30);

/// Descriptors that may be open more than before the attack: segments, a scrape.
const DESCRIPTORS_SLACK: usize = 16;

/// What a defect of a connection or any other part looks like in the log.
const SIGNS_OF_DEFECTS: [&str; 3] = ["panic", "ERROR", "memory allocation of"];

/// A server, and what it looked like before the attack.
#[derive(Debug)]
pub struct Edge {
    /// The server.
    pub server: Ottla,
    /// What clients connect to.
    pub bootstrap: String,
    scratch: Scratch,
    resident: u64,
    peak: u64,
    descriptors: usize,
}

impl Edge {
    /// A server without a bound on the rate of connections, and with these flags.
    pub async fn start(test: &str, flags: &[(&str, &str)]) -> Result<Self> {
        let scratch = Scratch::new(test)?;
        let mut server = Ottla::new(&scratch, "ottla")?.env("OTTLA__KAFKA__CONNECTIONS_RATE", "0");
        for (name, value) in flags {
            server = server.env(name, value);
        }
        server.start().await?;
        let bootstrap = server.bootstrap();
        topic::create(&bootstrap, TOPIC, 2).await?;
        let resident = server.process()?.resident_bytes()?;
        let descriptors = descriptors(&mut server)?;
        Ok(Self { server, bootstrap, scratch, resident, peak: resident, descriptors })
    }

    /// An honest client gets its answers, one record written and read included.
    pub async fn serves_others(&mut self) -> Result<()> {
        let mut client = RawClient::connect_from(HONEST, &self.bootstrap).await?;
        ensure!(client.brokers().await? == 1, "no broker in the metadata");
        let batch = topic::batch(&["honest".to_owned()], 0, None)?;
        let request = topic::produce_request(TOPIC, 1, batch);
        let answer = client.call(crate::raw::version::PRODUCE, &request).await?;
        let written = &answer.responses[0].partition_responses[0];
        ensure!(written.error_code == 0, "produce: {written:?}");
        // As consumers do: the view of a busy broker may be a moment behind the acknowledgement.
        let request = topic::fetch_request(TOPIC, 1, written.base_offset)
            .with_max_wait_ms(5_000)
            .with_min_bytes(1);
        let answer = client.call(crate::raw::version::FETCH, &request).await?;
        let read = &answer.responses[0].partitions[0];
        ensure!(read.error_code == 0, "fetch: {read:?}");
        ensure!(read.records.as_ref().is_some_and(|records| !records.is_empty()), "no records");
        self.look()
    }

    /// The first line of the log that contains `text`. A connection may be closed before its line is
    /// written.
    pub async fn line_about(&self, text: &str) -> Result<String> {
        let deadline = Instant::now() + LINE_WITHIN;
        loop {
            let log = self.server.output();
            if let Some(line) = log.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            ensure!(Instant::now() < deadline, "no line in the log says {text:?}");
            delay(Duration::from_millis(50)).await;
        }
    }

    /// Takes note of the most memory so far.
    pub fn look(&mut self) -> Result<()> {
        self.peak = self.server.process()?.peak_resident_bytes()?;
        Ok(())
    }

    /// Bytes by which memory has grown since the start, at most.
    pub fn grown(&self) -> u64 {
        self.peak - self.resident
    }

    /// The attack is over: checks what must be true. `grown_max` bounds the memory in between.
    pub async fn survived(mut self, grown_max: u64) -> Result<()> {
        self.server.process()?.check_running()?;
        self.serves_others().await?;
        let grown = self.grown() >> 20;
        ensure!(grown <= grown_max >> 20, "memory grew by {grown} MiB");
        let deadline = Instant::now() + DESCRIPTORS_BACK_WITHIN;
        loop {
            let open = descriptors(&mut self.server)?;
            if open <= self.descriptors + DESCRIPTORS_SLACK {
                break;
            }
            let before = self.descriptors;
            ensure!(Instant::now() < deadline, "{open} descriptors are open, {before} before");
            delay(Duration::from_millis(50)).await;
        }
        let log = self.server.output();
        for sign in SIGNS_OF_DEFECTS {
            let line = log.lines().find(|line| line.contains(sign));
            ensure!(line.is_none(), "in the log: {}", line.unwrap_or_default());
        }
        self.scratch.done();
        Ok(())
    }
}

/// Open descriptors of the server.
fn descriptors(server: &mut Ottla) -> Result<usize> {
    Ok(std::fs::read_dir(format!("/proc/{}/fd", server.process()?.id()?))?.count())
}
