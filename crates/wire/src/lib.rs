//! Kafka's protocol, as far as it is bytes: frames, request headers, the table of APIs and
//! versions, and record batches.
//!
//! Everything here reads bytes from anybody. No function panics on any input, none reserves memory
//! by a number that a client claims, and of a batch's records only lengths, offsets and times are decoded
//! (I-BYTES). Requests and responses themselves are encoded and decoded by the crate
//! `kafka-protocol`, after [`shape`] has followed every count in them to its last element. Its record
//! decoder is never used, because it can be made to burn seconds and gigabytes by a batch of a few
//! dozen bytes. Fetch answers have an encoder of their own, which leaves the records where they are.
//!
//! In reading order: [`frame`], [`request`], [`shape`], [`apis`], [`response`],
//! [`fetch_response`], [`batch`], [`batch_error`], [`decompress`], [`records`], [`verify`], [`limits`].

pub mod apis;
pub mod batch;
pub mod batch_error;
pub mod decompress;
pub mod fetch_response;
pub mod frame;
pub mod limits;
mod lz4_frame;
#[cfg(test)]
mod packing;
pub mod records;
pub mod request;
pub mod response;
pub mod shape;
pub mod verify;
