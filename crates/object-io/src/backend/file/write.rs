//! Writing an object's file, past the page cache when it is large.
//!
//! The file is written under `<name>#<n>`, synced, renamed to `<name>`, and the directory is synced:
//! under its name an object is whole or not there, and once the call returned, it survives power
//! loss.
//!
//! Copying records into the page cache, and finding, accounting and cleaning its pages, takes more
//! of a processor than everything else a broker does with them, and the copies stay there for
//! nobody: those who read what was just written are served from the broker's own cache. So a large
//! object is collected in an aligned buffer, a cheap copy, and the disk takes it from there
//! (`O_DIRECT`). Only the end, which does not fill a sector, goes through the page cache and is
//! synced with the rest. A file system that cannot do this says so when the flag is set or at the
//! first write; then everything goes through the page cache.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ottla_env::{DiskTurns, make_durable_directory};

use super::{SECTOR_BYTES, set_direct};
use crate::Payload;
use crate::limits::{DIRECT_BYTES_MIN, FILE_DIRECT_BYTES, FILE_WRITE_BYTES, STAGED_NAMES_MAX};

/// Writes an object durably; how many bytes its file has then. Its syncs go before large reads.
pub(super) fn write(path: &Path, payload: &Payload, turns: &DiskTurns) -> io::Result<u64> {
    let (file, staged) = stage(path)?;
    let filled = fill(&file, payload);
    let _first = turns.sync();
    let publish = || {
        file.sync_all()?;
        // Opened before the rename: when no file can be opened, nothing has happened.
        let folder = path.parent().map(File::open).transpose()?;
        fs::rename(&staged, path)?;
        folder.map_or(Ok(()), |folder| folder.sync_all())
    };
    match filled.and_then(|()| publish()) {
        Ok(()) => Ok(file.metadata()?.len()),
        Err(error) => {
            // A file that cannot be removed now is removed at the next start.
            let _ = fs::remove_file(&staged);
            Err(error)
        }
    }
}

/// Makes the file that is renamed later; its folder, too, if need be.
fn stage(path: &Path) -> io::Result<(File, PathBuf)> {
    let mut number = 1;
    loop {
        let mut staged = path.as_os_str().to_owned();
        staged.push(format!("#{number}"));
        let staged = PathBuf::from(staged);
        match OpenOptions::new().write(true).create_new(true).open(&staged) {
            Ok(file) => return Ok((file, staged)),
            Err(error) if number == STAGED_NAMES_MAX => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), make_durable_directory)?;
            }
            Err(error) => return Err(error),
        }
        number += 1;
    }
}

fn fill(file: &File, payload: &Payload) -> io::Result<()> {
    let direct = payload.length >= DIRECT_BYTES_MIN && set_direct(file, true).is_ok();
    // Buffers of one size: the allocator gives the memory of the last one again.
    let capacity = match usize::try_from(payload.length) {
        Ok(length) if !direct => length.min(FILE_WRITE_BYTES),
        _ => FILE_WRITE_BYTES,
    };
    let mut writer = Writer { file, position: 0, direct, buffer: AlignedBuffer::new(capacity) };
    for chunk in &payload.chunks {
        writer.push(chunk)?;
    }
    writer.finish()
}

struct Writer<'a> {
    file: &'a File,
    /// Of the buffer's first byte.
    position: u64,
    /// Writes go past the page cache.
    direct: bool,
    buffer: AlignedBuffer,
}

impl Writer<'_> {
    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.buffer.room() == 0 {
                self.write(self.buffer.bytes().len())?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.buffer.room()));
            self.buffer.push(now);
            bytes = later;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        let rest = self.buffer.bytes().len();
        if self.direct {
            self.write(rest - rest % SECTOR_BYTES)?;
            self.leave_direct()?;
        }
        self.write(self.buffer.bytes().len())
    }

    /// Writes the first `length` bytes of the buffer and takes them out of it. Less than all only
    /// at the end, when what is left is less than a sector.
    fn write(&mut self, length: usize) -> io::Result<()> {
        let mut written = 0;
        while written < length {
            let until = length.min(written + FILE_DIRECT_BYTES);
            let bytes = self.buffer.bytes().get(written..until).unwrap_or_default();
            match self.file.write_at(bytes, self.position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    written += n;
                    self.position += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidInput && self.direct => {
                    self.leave_direct()?;
                }
                Err(error) => return Err(error),
            }
        }
        self.buffer.remove_first(length);
        Ok(())
    }

    fn leave_direct(&mut self) -> io::Result<()> {
        self.direct = false;
        set_direct(self.file, false)
    }
}

/// Bytes whose first lies at a multiple of [`SECTOR_BYTES`] in memory.
struct AlignedBuffer {
    memory: Vec<u8>,
    /// Where the bytes begin.
    start: usize,
    capacity: usize,
}

impl AlignedBuffer {
    fn new(capacity: usize) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(capacity + SECTOR_BYTES);
        // At most a sector less one. An implementation may decline to find the place: then writes
        // are refused as not aligned, and go through the page cache.
        let start = memory.as_ptr().align_offset(SECTOR_BYTES).min(SECTOR_BYTES);
        memory.resize(start, 0);
        Self { memory, start, capacity }
    }

    fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..).unwrap_or_default()
    }

    fn room(&self) -> usize {
        self.capacity - self.bytes().len()
    }

    /// Adds at most [`Self::room`] bytes: the memory never grows, so it never moves.
    fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
    }

    fn remove_first(&mut self, length: usize) {
        self.memory.drain(self.start..self.start + length);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Pieces of uneven lengths, `length` bytes in all, that differ everywhere.
    fn payload(length: usize) -> Payload {
        let bytes: Bytes = (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
        let mut chunks = Vec::new();
        let mut at = 0;
        for piece in [0, 61, 100_001, 4096, 7_000_003].into_iter().cycle() {
            let to = length.min(at + piece);
            chunks.push(bytes.slice(at..to));
            at = to;
            if at == length {
                return Payload::checksummed(chunks);
            }
        }
        unreachable!("the pieces repeat")
    }

    #[test]
    fn files_of_every_length_around_the_steps_hold_the_pieces() {
        let (folder, turns) = (tempfile::tempdir().unwrap(), DiskTurns::default());
        let small = DIRECT_BYTES_MIN as usize;
        let lengths = [
            0,
            1,
            4096,
            small - 1,
            small,
            small + 1,
            FILE_WRITE_BYTES,
            FILE_WRITE_BYTES + 4095,
            2 * FILE_WRITE_BYTES + 4096,
        ];
        for length in lengths {
            let payload = payload(length);
            let path = folder.path().join(format!("{length}"));
            assert_eq!(write(&path, &payload, &turns).unwrap(), length as u64);
            assert!(fs::read(&path).unwrap() == payload.chunks.concat(), "{length} bytes");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), lengths.len());
    }

    #[test]
    fn without_direct_writes_it_works_all_the_same() {
        // A file system in memory, where there is one; some of them refuse direct writes.
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let (folder, turns) = (folder.unwrap(), DiskTurns::default());
        let payload = payload(DIRECT_BYTES_MIN as usize + 5000);
        let path = folder.path().join("new/folder/object");
        assert_eq!(write(&path, &payload, &turns).unwrap(), payload.length);
        assert!(fs::read(&path).unwrap() == payload.chunks.concat());
    }

    #[test]
    fn a_write_that_is_not_aligned_goes_through_the_page_cache() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("object");
        let file = File::create(&path).unwrap();
        let direct = set_direct(&file, true).is_ok();
        let mut buffer = AlignedBuffer::new(FILE_WRITE_BYTES);
        buffer.memory.push(0);
        buffer.start += 1;
        let mut writer = Writer { file: &file, position: 0, direct, buffer };
        let bytes: Vec<u8> = (0..20_000u32).map(|i| i as u8).collect();
        writer.push(&bytes).unwrap();
        writer.finish().unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
    }

    #[test]
    fn leftovers_of_other_writes_are_passed_over() {
        let (folder, turns) = (tempfile::tempdir().unwrap(), DiskTurns::default());
        let path = folder.path().join("object");
        fs::write(folder.path().join("object#1"), b"left over").unwrap();
        write(&path, &payload(10), &turns).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 10);
        for number in 1..=STAGED_NAMES_MAX {
            fs::write(folder.path().join(format!("next#{number}")), b"left over").unwrap();
        }
        let error = write(&folder.path().join("next"), &payload(10), &turns).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
