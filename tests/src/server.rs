//! Ottla, or Apache Kafka in its place.

use anyhow::Result;

use crate::Scratch;
use crate::kafka::Kafka;
use crate::ottla::Ottla;
use crate::process::Process;

/// The server that a suite runs against.
#[derive(Debug)]
pub enum Server {
    /// The binary under test.
    Ottla(Box<Ottla>),
    /// The reference.
    Kafka(Box<Kafka>),
}

impl Server {
    /// Ottla, unless `OTTLA_TESTS_AGAINST=kafka`.
    pub async fn start(scratch: &Scratch) -> Result<Self> {
        if std::env::var("OTTLA_TESTS_AGAINST").is_ok_and(|name| name == "kafka") {
            Ok(Self::Kafka(Box::new(Kafka::start_new(scratch).await?)))
        } else {
            Ok(Self::Ottla(Box::new(Ottla::start_new(scratch).await?)))
        }
    }

    /// What clients are given to connect to.
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Ottla(server) => server.bootstrap(),
            Self::Kafka(server) => server.bootstrap(),
        }
    }

    /// The running process.
    pub fn process(&mut self) -> Result<&mut Process> {
        match self {
            Self::Ottla(server) => server.process(),
            Self::Kafka(server) => Ok(server.process()),
        }
    }
}
