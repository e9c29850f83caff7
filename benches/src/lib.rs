//! The clients that put load on servers, for both programs of this crate: `ottla-benches` compares
//! Ottla with Apache Kafka, `ottla-scale` shows how one node scales.
//!
//! All are librdkafka in this process, each client with threads of its own; raw producers of a fixed
//! rate are in [`ottla_tests::paced`].

pub mod consume;
pub mod latency;
pub mod produce;
