//! Damaged bytes for everything that reads bytes from outside (I-BYTES).
//!
//! A [`target`] is a function that reads bytes, with examples that it reads without error. A
//! [`run`] damages those, from a seed, and watches what each input costs: no panic, at most
//! [`run::ALLOCATED_BYTES_MAX`] asked of the allocator, at most [`run::TIME_MAX`] of the processor.
//! An input that breaks a rule is told as hex, with what to type to keep it: the files in
//! `corpus/<target>/` are inputs of every run, as they are and damaged.
//!
//! It works with the stable compiler, without coverage. What replaces that: examples are made from
//! the table of request shapes and from the golden files of the formats, so that they reach every
//! reader to its end; and checksums are made right again after most damage, because they would hide
//! what is behind them.
//!
//! Not seen: memory that C code takes (of the decoders only zstd, whose window has a bound), and
//! what handlers do with a request that was decoded (`tests/suites/edge`, over a socket).
//!
//! `cargo test -p ottla-fuzz` runs every target for a moment, `make fuzz` for as long as asked. A
//! program that uses this crate has jemalloc as its allocator: it does the counting.

pub mod damage;
pub mod run;
mod stored;
pub mod target;
