//! The data path over objects: record batches on their way into the bucket, and back out.
//!
//! * [`write`](mod@write): batches of many partitions are gathered in one buffer, sealed, uploaded
//!   as one object and committed; producers are answered when the commit is applied.
//! * [`view`]: what this broker knows of topics and partitions, fed by the control plane's watch.
//! * [`cache`]: pieces of objects that were written or read lately.
//! * [`read`]: from a fetch to byte ranges of objects, and back to record batches.
//! * [`sweep`]: deleting the objects that nobody needs any more.
//! * [`fair_turns`]: turns that go around clients' addresses, for work that takes a core.
//! * [`limits`]: every bound, with its reason.
//!
//! This crate keeps nothing on disk (I-NODISK), knows no Kafka request, and reaches the control
//! plane only through `ottla-control-api`.

pub mod cache;
pub mod fair_turns;
pub mod limits;
pub mod read;
pub mod sweep;
pub mod view;
pub mod write;
