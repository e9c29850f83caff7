//! The targets of fuzzing.

mod batches;
mod formats;
mod requests;

use std::error::Error;
use std::io;

use ottla_env::Random;

/// Whether bytes were read without error. (Not `anyhow`'s: millions are made, and those may look
/// back through the stack.)
pub type Verdict = Result<(), Box<dyn Error>>;

/// What a target reads to begin with.
pub type Inputs = io::Result<Vec<Vec<u8>>>;

/// Something that reads bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name; its folder in the corpus.
    pub name: &'static str,
    /// Reads an input, whatever it is. An error is an answer like any other.
    pub read: fn(&[u8]) -> Verdict,
    /// Inputs that it reads without error.
    pub examples: fn(&Random) -> Inputs,
    /// Makes lengths and checksums right again, as far as they can be found.
    pub reseal: Option<fn(&mut [u8])>,
}

/// All targets.
pub fn all() -> Vec<Target> {
    [requests::TARGETS, batches::TARGETS, formats::TARGETS].concat()
}
