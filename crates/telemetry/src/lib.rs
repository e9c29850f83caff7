//! The operator's sight of a running process: metrics and logs.
//!
//! Every metric of the product is a line of one of the group files in [`metrics`], and nowhere
//! else: its name, type, labels, buckets and help text stand together, and the scrape, the
//! generated reference page and the tests of names all come from that line. Other crates hold
//! typed handles and never see the library behind them.
//!
//! This crate does not know what it measures: it has no path to brokers, stores or the control
//! plane.

pub mod limits;
pub mod logs;
pub mod metrics;

pub use metrics::{MetricInfo, Metrics};
