//! Reading a part of an object's file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use rustix::buffer::spare_capacity;

/// The bytes of a range; fewer when the file ends before. The memory is not written twice: the
/// system fills it as it was allocated.
pub(super) fn read(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let length = usize::try_from(range.end.saturating_sub(range.start))
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    let file = File::open(path)?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = range.start + bytes.len() as u64;
        match rustix::io::pread(&file, spare_capacity(&mut bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more.
    bytes.truncate(length);
    Ok(bytes.into())
}
