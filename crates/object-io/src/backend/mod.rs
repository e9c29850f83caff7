//! The back ends: each a [`Native`] over one of `object_store`'s clients, and for a
//! directory a layer of our own around that, with what is special about it in a file of its own.

mod classify;
mod file;
mod native;
mod s3;

pub(crate) use native::Native;

use std::path::Path;
use std::sync::Arc;

use object_store::memory::InMemory;
use ottla_env::DiskTurns;

use crate::{OpenError, S3Options};

/// A store in this process.
pub(crate) fn memory() -> Native {
    Native::new(Arc::new(InMemory::new()), "memory", false)
}

/// A store in a directory.
pub(crate) fn file(
    root: &Path,
    as_it_is: bool,
    turns: DiskTurns,
) -> Result<file::Directory, OpenError> {
    file::open(root, as_it_is, turns)
}

/// A store in a bucket.
pub(crate) fn s3(bucket: &str, prefix: &str, options: &S3Options) -> Result<Native, OpenError> {
    s3::open(bucket, prefix, options)
}
