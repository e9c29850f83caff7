//! Every bound of this crate, with its reason.

/// Largest request frame, in bytes, without its length prefix: Kafka's `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;

/// The read buffer of a frame grows by at most this much at a time, and only when the bytes before
/// were received: a claimed length costs a client as many bytes as it costs us. Memory that was
/// only asked for is none yet: the system gives it page by page, as it is filled. So the step is
/// what the requests of common clients fit in (a batch of 1 MB, or 1 MiB in all, and its framing),
/// which then are received where they stay.
pub const FRAME_GROWTH_BYTES: usize = (1 << 20) + (64 << 10);

/// Elements of all lists of one request together, tagged fields included. A decoded element takes a
/// hundred bytes and more, whatever it took on the wire. The largest requests of common clients name
/// every partition of a large cluster once.
pub const REQUEST_ELEMENTS_MAX: usize = 200_000;

/// The longest string of a request: what Kafka's generated readers take, also where the encoding has
/// room for longer ones. Names from clients (topics, groups, members, metadata) are kept for long.
pub const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// What a decoded element is counted as in memory: a structure with its name, and what is made of it
/// on the way to the answer.
pub const ELEMENT_BYTES: usize = 256;

/// The fewest bytes a record takes in a batch: length, attributes, timestamp delta, offset delta,
/// key length, value length and header count, one byte each.
pub const RECORD_BYTES_MIN: usize = 7;

/// Largest decompressed size of one batch, in bytes: four times the largest request.
pub const DECOMPRESSED_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;

/// Up to this decompressed size any compression ratio is accepted: long runs of one byte are legal.
/// A client can have as many bytes checked by sending them in one uncompressed request. It costs
/// time of a turn and no memory: decompression is a stream.
pub const DECOMPRESSED_BYTES_ANY_RATIO: usize = FRAME_BYTES_MAX;

/// The decompressed size up to which a batch is small: it is checked in a turn with others.
pub const DECOMPRESSED_BYTES_SMALL: usize = 8 * 1024 * 1024;

/// Above [`DECOMPRESSED_BYTES_ANY_RATIO`], decompressed bytes per compressed byte.
pub const DECOMPRESSION_RATIO_MAX: usize = 1_000;

/// The most bytes that `compressed` bytes of a batch may decompress to.
pub const fn decompressed_bytes_max(compressed: usize) -> usize {
    let by_ratio = compressed.saturating_mul(DECOMPRESSION_RATIO_MAX);
    let cap = if by_ratio < DECOMPRESSED_BYTES_MAX { by_ratio } else { DECOMPRESSED_BYTES_MAX };
    if cap < DECOMPRESSED_BYTES_ANY_RATIO { DECOMPRESSED_BYTES_ANY_RATIO } else { cap }
}

/// What a walk over compressed records decompresses at a time.
pub const RECORDS_BUFFER_BYTES: usize = 32 * 1024;

/// The window that a zstd frame may ask for, as a power of two: 128 MiB, which is what the highest
/// level of Kafka's clients needs and what zstd itself takes from anybody.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// The same for what is tried for anybody: what the levels up to 19 of zstd ask for.
pub const ZSTD_SMALL_WINDOW_LOG_MAX: u32 = 23;

const _: () = assert!(ZSTD_SMALL_WINDOW_LOG_MAX < ZSTD_WINDOW_LOG_MAX);
const _: () = assert!(
    FRAME_GROWTH_BYTES < FRAME_BYTES_MAX
        && DECOMPRESSED_BYTES_SMALL < DECOMPRESSED_BYTES_ANY_RATIO
        && DECOMPRESSED_BYTES_ANY_RATIO < DECOMPRESSED_BYTES_MAX
);

/// Size of a connection's read-ahead. A record held in memory keeps at most one such block of
/// neighbours with it.
pub const READ_AHEAD_BYTES: usize = 16 * 1024;

/// The shortest request: API key, version and correlation id.
pub const REQUEST_HEAD_BYTES: usize = 8;

/// Pieces handed to one vectored write: what Linux takes at most (`IOV_MAX`) is 1024; fewer keep
/// the list on a page.
pub const WRITE_SLICES_MAX: usize = 256;
