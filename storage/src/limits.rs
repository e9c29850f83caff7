//! Every bound of this crate, with its reason.

use std::time::Duration;

// ---- Sealing -----------------------------------------------------------------------------------

/// A batch waits at most this long for its buffer to be sealed, unless its topic says otherwise
/// (`ottla.linger.ms`). Four objects a second and broker keep request costs near a dollar a day.
pub const LINGER_DEFAULT: Duration = Duration::from_millis(250);

/// A buffer of this size is sealed. Large enough that a PUT's fixed cost is small beside its bytes,
/// small enough to be one plain PUT that takes well below a second.
pub const OBJECT_BYTES_DEFAULT: usize = 8 << 20;

/// A buffer with this many batches is sealed, however small they are: one command must carry all of
/// them, at up to some 100 bytes each, and be applied in tens of milliseconds.
pub const OBJECT_BATCHES_MAX: usize = 4 * COMMIT_BATCHES_MAX;

/// Two seals on the request budget's account are at least this far apart: a store without request
/// prices is not driven into one object per batch.
pub const SEAL_INTERVAL_MIN: Duration = Duration::from_millis(2);

/// While an object is being uploaded, early seals are this far apart: what gathers meanwhile goes
/// together. At full load that makes objects of megabytes, whose fixed costs (two syncs, a commit)
/// are small beside their bytes; at low load the upload ends long before.
pub const SEAL_INTERVAL_UPLOADING: Duration = Duration::from_millis(10);

/// Early seals per second on a store that charges: 8 PUT/s are about $100 a month and broker.
pub const PUT_RATE_CHARGED: f64 = 8.0;

/// Early seals that can be saved up in quiet times, on a store that charges: two seconds' worth.
pub const PUT_BURST_CHARGED: f64 = 16.0;

/// Early seals per second on a store that does not charge: each object still costs a commit and a
/// few file operations.
pub const PUT_RATE_FREE: f64 = 400.0;

/// Early seals that can be saved up on a store that does not charge.
pub const PUT_BURST_FREE: f64 = 16.0;

/// A connection with this many produce requests waiting sends no more until one is answered: the
/// default of Kafka's `max.in.flight.requests.per.connection`.
pub const PIPELINE_FULL: u32 = 5;

/// Buffers below this size are not sealed for full pipelines or for want of memory while uploads
/// are running: they would multiply objects and free nothing worth having.
pub const SEAL_BYTES_WORTHWHILE: usize = 1 << 20;

// ---- Uploading ---------------------------------------------------------------------------------

/// Objects uploaded at the same time. 16 × 8 MiB at 200 ms each are 640 MB/s, more than a
/// broker's network.
pub const UPLOADS_DEFAULT: usize = 16;

/// An upload may take until this long after the arrival of its oldest request. A third of Kafka
/// clients' 30 s request time-out: room for the abandon and for a whole second try by the client.
pub const UPLOAD_TIME_DEFAULT: Duration = Duration::from_secs(10);

/// An upload has this much time even when its requests already waited long for a slot: one honest
/// attempt.
pub const UPLOAD_TIME_MIN: Duration = Duration::from_secs(1);

/// Attempts of one object, whatever the time left.
pub const UPLOAD_ATTEMPTS_MAX: u32 = 32;

/// Attempts of one object that run at the same time: the first and two hedges.
pub const UPLOAD_ATTEMPTS_AT_ONCE: usize = 3;

/// The pause before the second attempt; doubled for each further one, with jitter. With less, a
/// store that refuses is asked more than twice for each write that it takes; with more, less than
/// it could take.
pub const UPLOAD_PAUSE_FIRST: Duration = Duration::from_millis(100);

/// No pause between attempts is longer: a store that came back is noticed within a second.
pub const UPLOAD_PAUSE_MAX: Duration = Duration::from_secs(1);

/// However often the store refuses, so many uploads run at the same time: while one pauses, the
/// other finds out whether the store takes something again.
pub const UPLOADS_MIN: f64 = 2.0;

/// Uploads at the same time are halved at most this often: refusals that come together are one sign.
/// About the time that a PUT takes, so that a halving shows before the next one.
pub const SLOTS_HALVED_EVERY: Duration = Duration::from_millis(100);

/// How many recent PUT times the hedge delay is taken from.
pub const LATENCIES_KEPT: usize = 128;

/// The hedge delay until enough PUTs were seen: five times the usual p99 of S3.
pub const HEDGE_DELAY_UNKNOWN: Duration = Duration::from_secs(1);

/// No hedge before this: scheduling noise on a fast store is not slowness.
pub const HEDGE_DELAY_MIN: Duration = Duration::from_millis(200);

/// A PUT that takes longer than this gets a hedge, however slow the recent ones were.
pub const HEDGE_DELAY_MAX: Duration = Duration::from_secs(3);

/// Each object earns this share of a hedge: when the whole store is slow, hedges add at most a
/// tenth to its load.
pub const HEDGE_EARNED: f64 = 0.1;

/// Hedges that can be saved up.
pub const HEDGES_SAVED_MAX: f64 = 10.0;

// ---- Committing --------------------------------------------------------------------------------

/// Sealed objects that are not decided. Above it nothing is sealed: without a control plane,
/// uploading on would only fill the bucket.
pub const OBJECTS_UNDECIDED_MAX: usize = 1024;

/// Commit and abandon messages on their way at the same time. The next message meanwhile collects
/// more objects.
pub const COMMITS_IN_FLIGHT_MAX: usize = 8;

/// Objects in one commit message.
pub const COMMIT_OBJECTS_MAX: usize = 64;

/// Batches in one commit message, unless its only object has more: a log entry of at most a few
/// megabytes.
pub const COMMIT_BATCHES_MAX: usize = 16_384;

/// A commit or abandon call without an answer after this counts as unknown and is repeated. A
/// hung call must not hold up a broker; a leader change takes about three seconds.
pub const COMMIT_TIME_MAX: Duration = Duration::from_secs(5);

/// The pause before a failed call is repeated; doubled for each further one, with jitter.
pub const COMMIT_PAUSE_FIRST: Duration = Duration::from_millis(10);

/// No pause between calls is longer: a new leader is found within a second.
pub const COMMIT_PAUSE_MAX: Duration = Duration::from_secs(1);

// ---- Answering ---------------------------------------------------------------------------------

/// Share of a request's time-out after which it is answered "may or may not be stored", in
/// percent: the answer must reach the client before it gives up by itself.
pub const ANSWER_PERCENT: u32 = 80;

/// No request is answered "may or may not be stored" before this and the linger of its batches have
/// passed, however short its time-out: a PUT that was hedged as late as [`HEDGE_DELAY_MAX`] says has
/// two seconds to end and be committed. Half of what clients wait by themselves at least (10 s).
pub const ANSWER_WAIT_MIN: Duration = Duration::from_secs(5);

const _: () = assert!(ANSWER_WAIT_MIN.as_millis() > HEDGE_DELAY_MAX.as_millis());
const _: () = assert!(ANSWER_WAIT_MIN.as_millis() < UPLOAD_TIME_DEFAULT.as_millis());

/// Failed producers that are remembered. A full budget of batches, each of another producer, all
/// failing, is a quarter million; beyond it the oldest is forgotten.
pub const FAILED_PRODUCERS_MAX: usize = 262_144;

/// A failed producer is remembered this long: longer than clients keep a batch (120 s in Java,
/// 300 s in librdkafka), so nothing sent before the failure can still arrive.
pub const FAILED_PRODUCERS_KEPT: Duration = Duration::from_secs(360);

// ---- Memory ------------------------------------------------------------------------------------

/// Bytes accepted but not acknowledged. At 10 s of upload time it rides out a store that stalls at
/// 25 MB/s of produce; it is what a broker's memory is planned with.
pub const BUDGET_BYTES_DEFAULT: usize = 256 << 20;

/// A client address reserves at most one part in this many.
pub const CLIENT_SHARE: usize = 4;

/// What a batch costs besides its bytes, until it is answered: entries in buffer and commit,
/// ticket, reference counts. Measured near 400 bytes; rounded up generously, because allocators do.
pub const BATCH_OVERHEAD_BYTES: usize = 1024;

const _: () = assert!(COMMIT_OBJECTS_MAX <= OBJECTS_UNDECIDED_MAX);
const _: () = assert!(SEAL_INTERVAL_MIN.as_nanos() <= SEAL_INTERVAL_UPLOADING.as_nanos());
const _: () = assert!(UPLOADS_DEFAULT <= OBJECTS_UNDECIDED_MAX);
const _: () = assert!(ANSWER_PERCENT < 100);
const _: () = assert!(
    UPLOADS_DEFAULT * OBJECT_BYTES_DEFAULT <= BUDGET_BYTES_DEFAULT,
    "all upload slots can be filled"
);

// ---- The view ----------------------------------------------------------------------------------

/// Locks that the partitions of the view are spread over: more than a broker has cores.
pub const VIEW_SHARDS: usize = 64;

/// Extents that the view keeps of a partition: half a second of a store that takes 400 objects a
/// second, a minute of one that takes four.
pub const RECENT_EXTENTS_PER_PARTITION: usize = 256;

/// Extents that the view keeps over all partitions: at about 200 bytes each, 26 MB.
pub const RECENT_EXTENTS_MAX: usize = 131_072;

/// Bytes that the extents of the view hold by value, over all partitions: as much as the extents
/// themselves take. A reader that is further behind asks the control plane.
pub const RECENT_EXTENTS_INLINE_BYTES_MAX: usize = 32 << 20;

/// What a recent extent of the view takes with its share of its object's description, for the
/// metric.
pub const VIEW_EXTENT_BYTES: usize = 200;

/// What a partition of the view takes without its extents, for the metric.
pub const VIEW_PARTITION_BYTES: usize = 160;

/// What a topic of the view takes with its names and settings, for the metric.
pub const VIEW_TOPIC_BYTES: usize = 512;

// ---- The read cache ----------------------------------------------------------------------------

/// Bytes of the read cache unless set otherwise. A consumer of many partitions that catches up needs
/// two fetches' worth at once; a fifth of this has room for two such consumers.
pub const CACHE_BYTES_DEFAULT: usize = 256 << 20;

/// The part of the cache that catch-up reads always have, in percent. Enough for some streams of
/// older data to find what they read ahead; never at the cost of the tail.
pub const CACHE_CATCH_UP_PERCENT: usize = 20;

/// What the cache reads from the store at least: a request's price buys about this many bytes of
/// transfer time.
pub const BLOCK_BYTES: u64 = 1 << 20;

/// The most blocks that one request reads: larger reads are cut into several that run at once.
pub const BLOCKS_PER_READ_MAX: u64 = 8;

/// The same of a store that does not charge for requests. A directory gives as much with parts of
/// this length, and writes wait a quarter as long behind one.
pub const FREE_BLOCKS_PER_READ_MAX: u64 = 2;

/// Written pieces below this size are joined when they enter the cache. A small piece may be a
/// slice of a connection's whole read-ahead, and would keep it in memory; copying it costs less.
pub const WRITTEN_PIECE_BYTES_MIN: usize = 16 << 10;

/// What a cache entry costs besides its bytes: keys, reference counts, list entries.
pub const CACHE_ENTRY_OVERHEAD_BYTES: usize = 256;

/// Checked parts that a block remembers. Neighbouring parts become one, so a block that is read in
/// order has one; a block read in more pieces checks some of them again.
pub const CHECKED_RANGES_MAX: usize = 64;

/// A block counts as served whole when all but one part in this many went into answers: the rest is
/// the object's header or footer.
pub const UNSERVED_SHARE_MAX: u64 = 16;

/// Objects whose header was seen to be right, that are remembered: 64 bytes each.
pub const CHECKED_OBJECTS_MAX: usize = 16_384;

// ---- Reading -----------------------------------------------------------------------------------

/// Reads from the store for fetches of recent data that run at the same time.
pub const TAIL_READS_MAX: usize = 64;

/// Reads from the store for fetches of older data that run at the same time: 16 × 8 MiB a tenth of
/// a second is more than a broker's network, and leaves the tail three quarters of the requests.
pub const CATCH_UP_READS_MAX: usize = 16;

/// Questions to the control plane of one fetch that run at the same time.
pub const FETCH_QUESTIONS_MAX: usize = 16;

/// A question to the control plane without an answer after this counts as not answered; the client
/// asks again.
pub const FETCH_QUESTION_TIME_MAX: Duration = Duration::from_secs(5);

/// What a partition costs a fetch that waits for it, in the view: a ticket and a pointer in a tree
/// whose nodes are half full.
pub const WAIT_ENTRY_BYTES: usize = 40;

/// What a partition costs a pass of a fetch: where its records are, what to read of them, what came.
pub const PASS_PARTITION_BYTES: usize = 512;

/// Passes over no more partitions than this take no part of the budget of passes: those that come
/// often.
pub const SMALL_PASS_PARTITIONS: usize = 256;

/// How long a fetch waits for the memory of a large pass; then it is answered without records.
/// Kafka's clients wait for 30 s.
pub const PASS_WAIT_MAX: Duration = Duration::from_secs(20);

/// A batch whose whole is shorter than this is copied into the answer together with its header:
/// below it, an extra piece in the vectored write costs more than the copy.
pub const COPY_BATCH_BYTES_MAX: usize = 2 << 10;

/// Record bytes of one fetch answer, whatever the client allows: Kafka's own default for brokers.
pub const FETCH_BYTES_MAX: usize = 55 << 20;

/// Places inside extents that are remembered, so that a reader who takes an extent in parts does
/// not walk it from its start: 100 bytes each.
pub const PLACES_MAX: usize = 16_384;

/// Blocks from the store that one fetch takes. Small extents of many objects may need a block for
/// a few records each: beyond this the answer is cut, and the next fetch goes on.
pub const FETCH_BLOCKS_MAX: usize = 24;

/// Blocks from the store that all fetches of recent data hold while they work.
pub const HELD_TAIL_BLOCKS_MAX: usize = 128;

/// Blocks from the store that all fetches of older data hold while they work.
pub const HELD_CATCH_UP_BLOCKS_MAX: usize = 64;

/// Blocks that look-ups by timestamp hold, for the extent that each looks through or waits to look
/// through. An extent of the default object takes up to nine, so the share of an address (a quarter)
/// has room for one of those or for many small ones, and seven addresses look up at the same time.
pub const LOOK_UP_BLOCKS_MAX: usize = 64;

/// How long a fetch waits until it may hold the blocks that it needs; then it is answered without
/// what they would bring, and its client asks again. It may keep memory for a large pass meanwhile.
pub const HOLD_WAIT_MAX: Duration = Duration::from_secs(5);

/// An answer whose bytes are less than one part in this many of the buffers that they lie in is
/// copied: what waits for a client keeps at most so many times its bytes in memory, until it has
/// waited for so long that it is copied too. A partition's default megabyte out of two reads ahead
/// is not: copying costs a third of what serving it does.
pub const PINNED_SHARE_MIN: u64 = 8;

/// A fetch of older data reads ahead by this much of each partition.
pub const READ_AHEAD_BYTES: u64 = 3 << 20;

/// Blocks that one read-ahead brings, over all partitions.
pub const READ_AHEAD_BLOCKS_MAX: usize = 12;

/// Extents that a look-up by timestamp reads. One, unless batches were stored unopened and their
/// headers claim timestamps that no record has.
pub const TIMESTAMP_EXTENTS_MAX: usize = 16;

/// For how long a look-up by timestamp goes through the batches of an extent before it lets others
/// have its turn; the batch that it is in is finished.
pub const RECORD_WALK_TURN_MAX: Duration = Duration::from_millis(10);

/// Look-ups by timestamp that go through the records of batches at the same time. Each takes a
/// core, for up to a second where a batch decompresses a thousandfold, and what the producer's
/// codec needs as window (at most 128 MiB; of a raw snappy block all of it).
pub const RECORD_WALKS_MAX: usize = 2;

/// Read-aheads that run at the same time; further ones are left out.
pub const READ_AHEADS_MAX: usize = 4;

const _: () = assert!(RECENT_EXTENTS_PER_PARTITION <= RECENT_EXTENTS_MAX);
const _: () = assert!(CATCH_UP_READS_MAX < TAIL_READS_MAX);
const _: () = assert!(READ_AHEAD_BYTES < READ_AHEAD_BLOCKS_MAX as u64 * BLOCK_BYTES);
const _: () = assert!(FETCH_BLOCKS_MAX <= HELD_CATCH_UP_BLOCKS_MAX);
const _: () = assert!(HELD_CATCH_UP_BLOCKS_MAX <= HELD_TAIL_BLOCKS_MAX);
const _: () = assert!(
    READ_AHEADS_MAX * READ_AHEAD_BLOCKS_MAX * (BLOCK_BYTES as usize)
        <= CACHE_BYTES_DEFAULT / 100 * CACHE_CATCH_UP_PERCENT,
    "what is read ahead is still there when it is asked for"
);

// ---- The sweep ---------------------------------------------------------------------------------

/// How often condemned objects are asked for: a question to the control plane, and no request to
/// the store unless some are due.
pub const SWEEP_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);

/// An object without a commit is left alone until it is this old: far longer than any broker
/// takes from an upload to its commit, so that orphans are what is asked about.
pub const ORPHAN_AGE_DEFAULT: Duration = Duration::from_secs(3600);

/// The part of all objects that one pass may delete, in percent. Somebody who deleted a topic by
/// mistake and stops the sweep keeps most of it.
pub const SWEEP_SHARE_PERCENT_DEFAULT: u32 = 25;

/// One pass may delete this many objects whatever the share: a quarter of a small bucket is less
/// than one topic's worth.
pub const SWEEP_OBJECTS_ALWAYS: u64 = 1_000;

/// Objects that are deleted between two reports of what is gone.
pub const SWEEP_BATCH: usize = 1_000;

/// Deletes on their way at the same time: a few hundred a second, and never the load that makes a
/// store slow for others.
pub const SWEEP_DELETES_AT_ONCE: usize = 16;

/// Names that are asked about in one call, unless one folder has more: 3 MB of them.
pub const SWEEP_NAMES_AT_ONCE: usize = 65_536;

/// Orphans that one pass remembers to delete; the next one finds the rest.
pub const SWEEP_ORPHANS_MAX: usize = 65_536;

/// How long after everybody gave it up an upload can still arrive: four times as long as the
/// store's client goes on with it.
pub const LATE_ATTEMPT_MAX: Duration =
    Duration::from_secs(4 * ottla_object_io::limits::WRITE_TIMEOUT.as_secs());

/// A fetch asks where its records are and then reads them. Twice that time is within what a
/// reference may live; the other half is for a view that is behind.
const _: () = assert!(
    2 * (FETCH_QUESTION_TIME_MAX.as_secs() + ottla_object_io::limits::READ_TIME_MAX.as_secs())
        <= ottla_control_api::REFERENCE_LIFE_MAX.as_secs(),
    "I-LIVE: no reference is used after its object can be gone"
);
