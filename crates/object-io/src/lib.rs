//! Object stores: where every record ends up.
//!
//! Two layers implement one trait, [`Store`]. The back ends (`memory:`, `file:`, `s3:`) do what
//! they are asked once and say exactly what came of it. The layer that [`open`] puts around them
//! verifies lengths, retries and hedges reads within a budget, ends what takes too long, and counts
//! every request. [`faults::FaultStore`] goes between the two in tests.
//!
//! # Writes are attempts
//!
//! A write is never retried here. After an error nobody can say whether the bytes are there, or
//! will be in a minute; so the next attempt goes under a key of its own ([`keys`]), no key is ever
//! written twice, and whatever an abandoned attempt leaves behind is an orphan for the sweep. That
//! makes every ambiguous answer harmless. The exceptions are the bucket's marker, whose key is fixed
//! and which is written create-once and read back ([`claim_bucket`]), and heights, of which it only
//! matters that they exist ([`leave_height`]).
//!
//! # Durable means durable
//!
//! `Ok` from [`Store::put`] survives power loss: `file:` syncs the file and its directory before
//! it answers, S3 promises it. The length is verified always; the checksum by S3 itself, which
//! refuses a body that does not match the CRC64-NVME sent with it.
//!
//! # What this crate does not know
//!
//! What is in an object, which objects are referenced, and when one may be deleted.

mod accounting;
mod backend;
pub mod conformance;
mod error;
mod extra_budget;
pub mod faults;
mod height;
pub mod keys;
pub mod limits;
mod marker;
mod open;
mod payload;
mod reliable;
mod store;
mod url;

pub use error::{StoreError, StoreErrorKind};
pub use height::{heights, leave_height};
pub use marker::{ClaimError, claim_bucket};
pub use open::{
    OpenError, S3Credentials, S3Options, StoreOptions, memory, open, open_bare, reliable,
};
pub use payload::Payload;
pub use store::{ObjectEntry, PutDone, ReadCause, Store};
pub use url::{StoreUrl, UrlError};

#[cfg(test)]
mod tests;
