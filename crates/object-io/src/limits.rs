//! Every bound of this crate, with its reason.

use std::time::Duration;

/// The largest object that is read whole. Twice the largest Kafka request and its framing: no
/// object that Ottla writes comes near it.
pub const WHOLE_OBJECT_BYTES_MAX: u64 = 256 << 20;

/// The most entries of one listing: 100 bytes each, so 100 MB at worst. Sweeps list folder by
/// folder and stay far below it.
pub const LIST_ENTRIES_MAX: usize = 1_000_000;

/// How often a read is tried. Four tries with the pauses below ride out a second of trouble, which
/// is what a fetch can wait; the client itself asks again after an error.
pub const READ_ATTEMPTS_MAX: u32 = 4;

/// The pause before the second try of a read; doubled for each further one, with jitter.
pub const READ_PAUSE_FIRST: Duration = Duration::from_millis(50);

/// No pause between tries is longer.
pub const READ_PAUSE_MAX: Duration = Duration::from_secs(1);

/// One try of a read, or of a small request without a body, takes no longer. Far above the slowest
/// answer of a healthy store.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A read with all its tries takes no longer: a try that hangs leaves time for one that does not.
/// Well inside a Kafka client's request time-out of 30 s, also when a fetch has to read twice, one
/// after the other: what else it asked for must reach the client.
pub const READ_TIME_MAX: Duration = Duration::from_secs(12);

/// A listing takes no longer: a million objects are a thousand requests, one after the other. Also
/// the bound for making all folders.
pub const LIST_TIME_MAX: Duration = Duration::from_secs(300);

/// One try of a write takes no longer at the store's client. Callers give up much earlier; this
/// only ends connections that nobody waits for.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to the store is made within this time.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A read from a store over the network gets a rival after this time. S3's first byte comes
/// within 200 ms in 99 of 100 requests: a rival is rare, and saves most of a slow second.
pub const HEDGE_AFTER: Duration = Duration::from_millis(400);

/// Each first try earns this share of an extra one (retry or hedge), in hundredths: a store in
/// trouble sees at most one and a half times the load that it would see in health.
pub const EXTRA_EARNED_HUNDREDTHS: u32 = 50;

/// Extra tries that can be saved up, in hundredths: enough for a burst of reads that fail together.
pub const EXTRA_SAVED_HUNDREDTHS_MAX: u32 = 10_000;

/// Write-once requests (the bucket's marker) are tried this often.
pub const MARKER_ATTEMPTS_MAX: u32 = 5;

/// The number of folders that the WAL objects of a cluster are spread over: S3 scales by key prefix,
/// and a directory of a file system stays small.
pub const WAL_FOLDERS: u64 = 256;

/// The same for merged objects. One of them stands for a hundred WAL objects or more, so they are
/// fewer; and every folder is a request of each listing.
pub const MERGED_FOLDERS: u64 = 16;

/// Objects of this size on are written to a directory past the page cache, and so are parts of
/// them read. Below it, the fixed cost of waiting for the disk is worth more than the copy.
pub const DIRECT_BYTES_MIN: u64 = 256 << 10;

/// How much of an object is collected before it is written to a directory: half of a full object.
/// More gains nothing, with a quarter of it each write's fixed cost begins to show.
pub const FILE_WRITE_BYTES: usize = 4 << 20;

/// Objects that are written to a directory at the same time: twice as many as a broker uploads at
/// once, unless set otherwise, so that as many hung writes leave room for those that succeed them.
pub const FILE_WRITES_MAX: usize = 32;

/// Objects of [`DIRECT_BYTES_MIN`] and more among them: each has a buffer, and more do not make a
/// disk faster, but the log's syncs wait behind them.
pub const FILE_LARGE_WRITES_MAX: usize = 2;

/// Parts of objects near the end of a partition that are read from a directory at the same time. A
/// healthy disk serves more than it is asked for with so many.
pub const FILE_TAIL_READS_MAX: usize = 32;

/// Other parts of objects that are read from a directory at the same time: as many as a broker asks
/// for at once for fetches of older data.
pub const FILE_OTHER_READS_MAX: usize = 16;

/// Listings, deletes and reads of whole objects in a directory at the same time: the sweep's deletes
/// and a few more.
pub const FILE_OTHER_CALLS_MAX: usize = 24;

/// How long an operation on a directory waits until it may begin. A slow disk has caught up with a
/// full backlog by then; one that hangs has not. Half of what a read, and an upload, may take: the
/// caller hears of it, and may try once more.
pub const FILE_GATE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Files that a store has open at the same time when it is a directory: a write holds its file and
/// its folder.
pub const DIRECTORY_OPEN_FILES_MAX: u64 =
    (2 * FILE_WRITES_MAX + FILE_TAIL_READS_MAX + FILE_OTHER_READS_MAX + FILE_OTHER_CALLS_MAX)
        as u64;

/// What is written at once past the page cache. A disk serves what it was given in turn: the sync
/// that a commit waits for stands behind it.
pub const FILE_DIRECT_BYTES: usize = 512 << 10;

/// Parts of [`DIRECT_BYTES_MIN`] and more that are read from a directory at the same time, near the
/// end of partitions and elsewhere. Measured on a virtual disk, with parts of 1 MiB: one reader gets 1.05 GB/s, and a sync beside it takes 3 ms;
/// four get 1.13 GB/s, and it takes 33 ms.
pub const FILE_LARGE_READS_MAX: usize = 1;

/// The longest that such a read lets syncs go before it: it reads on between syncs that follow each
/// other without a gap.
pub const FILE_READ_PATIENCE: Duration = Duration::from_millis(5);

/// Names tried for a file that is being written. Each one that is taken was left by a process that
/// was killed while it wrote the same key, which happens hardly once.
pub const STAGED_NAMES_MAX: u32 = 16;

const _: () = assert!(DIRECT_BYTES_MIN <= FILE_WRITE_BYTES as u64);
const _: () =
    assert!(FILE_DIRECT_BYTES.is_multiple_of(4096) && FILE_DIRECT_BYTES <= FILE_WRITE_BYTES);
const _: () = assert!(WAL_FOLDERS == 256, "the name of a folder of WAL objects is two hex digits");
const _: () =
    assert!(MERGED_FOLDERS == 16, "the name of a folder of merged objects is one hex digit");
const _: () = assert!(FILE_GATE_WAIT_MAX.as_nanos() < READ_TIMEOUT.as_nanos());
const _: () = assert!(
    FILE_WRITES_MAX + FILE_TAIL_READS_MAX + FILE_OTHER_READS_MAX + FILE_OTHER_CALLS_MAX <= 256,
    "half of the threads that tokio starts for blocking work are for other work"
);
const _: () = assert!(READ_TIMEOUT.as_nanos() < READ_TIME_MAX.as_nanos());
const _: () = assert!(READ_PAUSE_FIRST.as_nanos() <= READ_PAUSE_MAX.as_nanos());
