//! From the bytes of extents to the batches a partition can send: whole, checked, with their
//! offsets.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use ottla_control_api::view::Extent;
use ottla_format::object::BATCH_CRC_FROM;
use ottla_model::{ExtentFlags, Offset, TimestampMs};
use ottla_object_io::StoreError;
use ottla_wire::batch::{self, BATCH_HEADER_BYTES, BatchHeader};

use super::gather::{Available, Wanted};

/// A whole batch as it is stored, with the place it has in its partition.
#[derive(Clone, Debug)]
pub(super) struct StoredBatch {
    pub header: BatchHeader,
    pub base_offset: Offset,
    pub bytes: BatchBytes,
    /// The position of the first byte after it, among those of its extent.
    pub end_position: u64,
    /// The time of all its records, when the log gave it.
    pub append_time: Option<TimestampMs>,
}

impl StoredBatch {
    /// Offset of its last record.
    pub(super) fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.header.last_offset_delta))
    }
}

/// The bytes of a batch as they lie in memory: in one piece, or in several when it crosses blocks.
#[derive(Clone, Debug)]
pub(super) struct BatchBytes {
    /// At least the header.
    first: Bytes,
    rest: Vec<Bytes>,
}

impl BatchBytes {
    /// The first bytes: at least the header.
    pub(super) fn head(&self) -> &[u8] {
        &self.first
    }

    /// All pieces, in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        [&self.first].into_iter().chain(&self.rest)
    }

    pub(super) fn len(&self) -> usize {
        self.pieces().map(Bytes::len).sum()
    }

    /// Its records in pieces, without the header.
    pub(super) fn records(&self) -> impl Iterator<Item = Bytes> {
        let first = self.first.slice(BATCH_HEADER_BYTES.min(self.first.len())..);
        [first].into_iter().chain(self.rest.iter().cloned()).filter(|piece| !piece.is_empty())
    }

    /// Its records as a stream.
    pub(super) fn records_reader(&self) -> impl BufRead + use<> {
        Pieces(self.records().collect())
    }

    /// The checksum that its header should have.
    fn crc(&self) -> u32 {
        let first = self.first.get(BATCH_CRC_FROM..).unwrap_or_default();
        let crc = crc32c::crc32c(first);
        self.rest.iter().fold(crc, |crc, piece| crc32c::crc32c_append(crc, piece))
    }
}

/// Bytes in pieces, read from the front.
struct Pieces(VecDeque<Bytes>);

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        Ok(self.0.front().map(Bytes::as_ref).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        let Some(first) = self.0.front_mut() else { return };
        first.advance(bytes.min(first.len()));
        if first.is_empty() {
            self.0.pop_front();
        }
    }
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

/// Where reading an extent begins: the position of a batch's first byte, and its base offset (or one
/// in the gap before it).
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub position: u64,
    pub offset: Offset,
}

/// Why the batches of an extent end before the extent does.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// All of the extent was read.
    End,
    /// The gathered range ended inside a batch, which ends before this position.
    Cut(u64),
    /// The bytes could not be read.
    Failed(StoreError),
    /// The bytes are wrong from this position on.
    Damaged(u64, String),
}

/// The batches of an extent that lie whole in the gathered bytes up to `end`, beginning at `place`.
/// Checksums are looked at once per stay in the cache.
pub(super) fn batches(
    extent: &Extent,
    place: Place,
    end: u64,
    bytes: Available<'_>,
) -> (Vec<StoredBatch>, Stop) {
    let extent_end = extent.positions().end;
    let end = end.min(extent_end);
    let (pieces, failed) = bytes.pieces(&(place.position..end));
    let mut rope = Rope { pieces: pieces.into() };
    let Place { mut position, mut offset } = place;
    let mut found = Vec::new();
    while position < end {
        let length = match rope.batch_length() {
            Some(Ok(length)) => length,
            Some(Err(reason)) => return (found, Stop::Damaged(position, reason)),
            None => {
                let stop = match failed {
                    Some(error) => Stop::Failed(error),
                    None => Stop::Cut((position + BATCH_HEADER_BYTES as u64).min(extent_end)),
                };
                return (found, stop);
            }
        };
        let batch_end = position + length as u64;
        if batch_end > extent_end {
            return (found, Stop::Damaged(position, "a batch crosses its extent's end".to_owned()));
        }
        let Some(batch) = rope.take_batch(length) else {
            return (found, failed.map_or(Stop::Cut(batch_end), Stop::Failed));
        };
        let range = position..batch_end;
        let checked = bytes.is_checked(&range);
        let header = match check(&batch, checked) {
            Ok(header) => header,
            Err(reason) => return (found, Stop::Damaged(position, reason)),
        };
        if !checked {
            bytes.note_checked(&range);
        }
        position = batch_end;
        let (base_offset, append_time) = match placed(extent, offset, &header) {
            Ok(placed) => placed,
            Err(reason) => return (found, Stop::Damaged(range.start, reason)),
        };
        let bytes = batch;
        let stored =
            StoredBatch { header, base_offset, bytes, end_position: position, append_time };
        offset = stored.last_offset().plus(1);
        found.push(stored);
    }
    let stop = if position >= extent_end { Stop::End } else { Stop::Cut(extent_end) };
    (found, stop)
}

/// The base offset of the next batch of an extent, whose offsets up to `offset` are passed, and the time
/// of its records, when the log gave it. Final headers say both.
fn placed(
    extent: &Extent,
    offset: Offset,
    header: &BatchHeader,
) -> Result<(Offset, Option<TimestampMs>), String> {
    let is_final = extent.flags.contains(ExtentFlags::FINAL_HEADERS);
    let base_offset = if is_final { Offset(header.base_offset) } else { offset };
    if base_offset < offset {
        return Err(format!("a base offset of {base_offset} behind those up to {offset}"));
    }
    let records_left = extent.last_offset.0.checked_sub(base_offset.0);
    if records_left.is_none_or(|left| left < i64::from(header.last_offset_delta)) {
        return Err("its batches have more records than the extent".to_owned());
    }
    let has_time = is_final && extent.flags.contains(ExtentFlags::LOG_APPEND_TIME);
    let of_header = has_time.then_some(TimestampMs(header.max_timestamp));
    Ok((base_offset, of_header.or(extent.append_time())))
}

/// The batch's header; its checksum is computed unless it is known to be right.
fn check(batch: &BatchBytes, checked: bool) -> Result<BatchHeader, String> {
    let header = batch::parse_head(batch.head()).map_err(|error| error.to_string())?;
    if header.last_offset_delta < 0 {
        return Err(format!("a last offset delta of {}", header.last_offset_delta));
    }
    if !checked {
        let computed = batch.crc();
        if computed != header.crc {
            return Err(format!("checksum {computed:08x} instead of {:08x}", header.crc));
        }
    }
    Ok(header)
}

/// Bytes in pieces, taken from the front.
struct Rope {
    pieces: VecDeque<Bytes>,
}

impl Rope {
    /// The length of the batch at the front by its own word; `None` when too little is there.
    fn batch_length(&mut self) -> Option<Result<usize, String>> {
        const LENGTH_FIELD: Range<usize> = 8..12;
        let mut head = [0; LENGTH_FIELD.end];
        let mut bytes = self.pieces.iter().flat_map(|piece| piece.iter());
        for byte in &mut head {
            *byte = *bytes.next()?;
        }
        let [.., a, b, c, d] = head;
        let claimed = i32::from_be_bytes([a, b, c, d]);
        let length = usize::try_from(claimed).ok().map(|rest| rest + LENGTH_FIELD.end);
        Some(match length {
            Some(length) if length >= BATCH_HEADER_BYTES => Ok(length),
            _ => Err(format!("a batch length of {claimed}")),
        })
    }

    /// The next `length` bytes, which are a batch and no shorter than its header: slices, but for a
    /// header that crosses pieces.
    fn take_batch(&mut self, length: usize) -> Option<BatchBytes> {
        if self.pieces.iter().map(Bytes::len).sum::<usize>() < length {
            return None;
        }
        let mut first = self.take_piece(length)?;
        if first.len() < BATCH_HEADER_BYTES {
            let mut header = BytesMut::from(first);
            while header.len() < BATCH_HEADER_BYTES {
                header.extend_from_slice(&self.take_piece(BATCH_HEADER_BYTES - header.len())?);
            }
            first = header.freeze();
        }
        let mut missing = length - first.len();
        let mut rest = Vec::new();
        while missing > 0 {
            let piece = self.take_piece(missing)?;
            missing -= piece.len();
            rest.push(piece);
        }
        Some(BatchBytes { first, rest })
    }

    /// The next bytes that lie together, at most `most`.
    fn take_piece(&mut self, most: usize) -> Option<Bytes> {
        let first = self.pieces.front_mut()?;
        let taken = first.split_to(first.len().min(most));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        Some(taken)
    }
}

/// An extent of a partition with the place where reading it begins.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub extent: Arc<Extent>,
    pub place: Place,
}

impl Source {
    /// Bytes from the place to the extent's end.
    pub(super) fn length(&self) -> u64 {
        self.extent.positions().end.saturating_sub(self.place.position)
    }

    /// What must be read of an object for a range of the extent's positions; `None` when it is empty,
    /// or when the extent holds its bytes by value.
    pub(super) fn wanted(&self, range: Range<u64>) -> Option<Wanted> {
        let object = self.extent.object().filter(|_| !range.is_empty())?;
        Some((Arc::clone(object), range))
    }
}
