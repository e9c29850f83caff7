//! Reading a part of an object's file.
//!
//! Large parts are read past the page cache, as they are written: the disk fills memory that stays
//! in the broker's cache as it is, without a copy. Bytes of which the page cache holds newer ones
//! (the end of a file that was just written) are brought to the disk by the system first.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use rustix::buffer::spare_capacity;

use super::{SECTOR_BYTES, set_direct};
use crate::limits::DIRECT_BYTES_MIN;

/// The bytes of a range; fewer when the file ends before. The memory is not written twice: the
/// system fills it as it was allocated.
pub(super) fn read(path: &Path, range: Range<u64>) -> io::Result<Bytes> {
    let length = range.end.saturating_sub(range.start);
    let file = File::open(path)?;
    if length >= DIRECT_BYTES_MIN
        && let Some(bytes) = read_direct(&file, &range)?
    {
        return Ok(bytes);
    }
    let mut bytes = Vec::with_capacity(to_usize(length)?);
    fill(&file, &mut bytes, to_usize(length)?, range.start)?;
    // The allocator may have given more than was asked for.
    bytes.truncate(to_usize(length)?);
    Ok(bytes.into())
}

/// Reads whole sectors into memory that begins at a multiple of a sector, and shows the range in
/// it. `None`: the file system, or the memory, is not made for it.
fn read_direct(file: &File, range: &Range<u64>) -> io::Result<Option<Bytes>> {
    let sector = SECTOR_BYTES as u64;
    let from = range.start - range.start % sector;
    let span = to_usize(range.end.next_multiple_of(sector) - from)?;

    let mut memory: Vec<u8> = Vec::with_capacity(span + SECTOR_BYTES);
    let start = memory.as_ptr().align_offset(SECTOR_BYTES).min(SECTOR_BYTES);
    memory.resize(start, 0);
    // The free part must be whole sectors, too. Allocators shrink in place.
    memory.shrink_to(start + span);
    let aligned = memory.as_ptr().align_offset(SECTOR_BYTES) == start;
    if !aligned || memory.capacity() != start + span || set_direct(file, true).is_err() {
        return Ok(None);
    }
    let first = start + to_usize(range.start - from)?;
    let last = start + to_usize(range.end - from)?;
    match fill(file, &mut memory, last, from) {
        Ok(()) => {}
        // Also behind the end of a file that ends within a sector, and before the range does.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            set_direct(file, false)?;
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let bytes = Bytes::from(memory);
    Ok(Some(bytes.slice(first.min(bytes.len())..last.min(bytes.len()))))
}

/// Reads from a position of the file into what is free of `bytes`, until they have at least
/// `length` or the file ends.
fn fill(file: &File, bytes: &mut Vec<u8>, length: usize, from: u64) -> io::Result<()> {
    let before = bytes.len();
    while bytes.len() < length {
        let at = from + (bytes.len() - before) as u64;
        match rustix::io::pread(file, spare_capacity(bytes), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn to_usize(length: u64) -> io::Result<usize> {
    usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_at_every_distance_from_sectors_and_the_end_are_exact() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        let large = DIRECT_BYTES_MIN;
        let size = 3 * large + 1234;
        let whole: Vec<u8> = (0..size).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
        std::fs::write(&path, &whole).unwrap();
        for start in [0, 1, 4095, 4096, large, large + 77] {
            for end in
                [start + 1, start + large - 1, start + large, start + large + 1, size - 1, size]
            {
                let read = read(&path, start..end).unwrap();
                assert!(read == whole[start as usize..end as usize], "{start}..{end}");
            }
        }
    }

    #[test]
    fn a_range_beyond_the_end_gives_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        for size in [0, 10, 4096, DIRECT_BYTES_MIN, DIRECT_BYTES_MIN + 1] {
            let whole = vec![7; size as usize];
            std::fs::write(&path, &whole).unwrap();
            for end in [size + 1, size + 5000, size + 2 * DIRECT_BYTES_MIN] {
                assert!(read(&path, 0..end).unwrap() == whole[..], "{size}: 0..{end}");
                assert!(read(&path, size..end).unwrap().is_empty());
            }
        }
    }
}
