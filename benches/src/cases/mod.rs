//! The cases, one file each.

pub mod apply;
pub mod codecs;
pub mod delayed;
pub mod latency;
pub mod memory;
pub mod one;
pub mod overhead;
pub mod start;
pub mod throughput;
