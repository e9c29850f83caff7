//! Every bound of this crate, with its reason. Bounds that decide what a command does are in
//! [`crate::state::semantics`]: those are the same on every node.

/// How many producer states are kept for the whole of
/// [`PRODUCER_EXPIRY_MS`](crate::state::semantics::PRODUCER_EXPIRY_MS), over all partitions: about
/// half a GiB. When there are more, those of [`PRODUCERS_CROWDED_MS`] without use go.
pub const PRODUCERS_KEPT_MAX: u64 = 1_000_000;

/// How long a producer's state outlives its last batch at least, however many there are, in
/// milliseconds. No client repeats a batch after so long: `delivery.timeout.ms` is two minutes
/// unless set, and five where clients have another default.
pub const PRODUCERS_CROWDED_MS: i64 = 15 * 60 * 1_000;

/// How long a group's offsets outlive its last member and commit, unless a setting says otherwise:
/// Kafka's default of `offsets.retention.minutes`.
pub const OFFSETS_RETENTION: std::time::Duration = std::time::Duration::from_secs(7 * 86_400);

/// The most extents in one answer, whatever bytes were asked for: about 100 KiB of them.
pub const EXTENT_PAGE_MAX: usize = 1_024;

/// An answer with extents ends with the one that brings the bytes they hold by value to this: they are
/// in the answer, whatever a reader wants of them.
pub const EXTENT_PAGE_INLINE_BYTES_MAX: u64 = 1 << 20;

/// How many changed keys the state remembers for the checkpoint before it gives up on telling
/// them apart and has the whole checkpoint rewritten: a checkpoint that stalls never grows memory.
pub const DIRTY_KEYS_MAX: usize = 1_000_000;

/// Length at which a segment of the Raft log is closed and the next begun. Purging frees whole
/// segments, so this is the grain of the disk space that a snapshot frees.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// The highest position of a log that is believed: at a GB a second it is reached in a century. A file
/// whose name says more is damaged, and positions can be added up below it.
pub const LOG_POSITION_MAX: u64 = 1 << 62;

/// Bytes of recent entries that the log keeps in memory. Entries are applied (and sent to peers
/// that keep up) right after they were appended; older ones are read from disk.
pub const LOG_CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Requests that may wait for the log's writer. openraft has few writes in flight; a full queue
/// makes it wait.
pub const LOG_QUEUE: usize = 1_024;

/// Requests that one sync makes durable together, at most: bounds the memory of a batch.
pub const LOG_BATCH_REQUESTS: usize = 256;

/// How long the log must be idle before a frame is written that says what is synced. Long enough
/// to cost nothing under load, short enough that a crash seldom meets an unmarked tail.
pub const LOG_IDLE: std::time::Duration = std::time::Duration::from_millis(100);

/// How long a start waits for the lock of the data directory: a process that was killed holds it
/// until its last write has returned.
pub const LOCK_WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// The pause between two attempts to lock it.
pub const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Files that the control plane has open at the same time: lock, identity, the log's directory, its
/// segment and its vote, the snapshots' directory, a snapshot written and one read, two of the
/// checkpoint; and as many segments again, read at once for entries that are not in memory.
pub const OPEN_FILES_MAX: u64 = 20;

/// How many snapshots are kept: the newest, and the one before it in case the newest is damaged.
/// The log is kept back to the older one.
pub const SNAPSHOTS_KEPT: usize = 2;

/// The checkpoint's page cache. It is written often and read once per start.
pub const CHECKPOINT_CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// A checkpoint whose files are so much larger than the state in memory is written anew. Small states
/// never come to it; with a large one it happens every quarter of an hour under full load.
pub const CHECKPOINT_SPARE_BYTES: u64 = 64 * 1024 * 1024;

/// How long the checkpoint's writer rests after a write: what a restart replays from the log at
/// most, beyond what one write takes.
pub const CHECKPOINT_INTERVAL_MS: u64 = 3_000;

/// The writer rests at least this many times as long as the write before took, so that a large or
/// slow checkpoint never takes more than a small share of the disk.
pub const CHECKPOINT_REST_FACTOR: u32 = 4;

/// Entries applied under one hold of the state's lock: bounds how long a reader waits for a copy.
pub const APPLY_GROUP: usize = 64;

/// Events a watcher may be behind before it gets a whole view instead. An event holds the changes
/// of a group of entries; a reader that is so far behind is served better by a view.
pub const WATCH_EVENTS: usize = 1_024;

/// Proposals that may wait to be handed to Raft. Callers beyond it are told to come back.
pub const PROPOSALS_WAITING: usize = 4_096;

/// A snapshot that is not there after this is asked for again.
pub const SNAPSHOT_ASKED_AGAIN: std::time::Duration = std::time::Duration::from_millis(500);

/// How long a call waits for its answer. A healthy control plane answers within a few
/// milliseconds; after this the outcome is unknown, and callers find out by repeating the call.
pub const CALL_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a start waits, without an entry being applied, for this node to lead and to have applied
/// its log. How long the whole log takes is up to the disk: it has no bound.
pub const START_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// How long a snapshot that was asked for may take to be written and read back.
pub const SNAPSHOT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// How long a broker's session lasts without being renewed, unless a setting says otherwise.
pub const SESSION: std::time::Duration = std::time::Duration::from_secs(9);

/// The housekeeper's step: sessions end at most this late.
pub const HOUSEKEEPING_STEP: std::time::Duration = std::time::Duration::from_millis(500);

/// A step that comes this much late means that the process was frozen or starved: sessions are
/// granted anew, and the pause does not count as time.
pub const HOUSEKEEPING_LATE: std::time::Duration = std::time::Duration::from_secs(1);

/// A fence that was proposed and not applied is proposed again after this.
pub const FENCE_RETRY: std::time::Duration = std::time::Duration::from_secs(2);

/// How far the time in the log may lag behind replicated time, before a tick moves it on. A node
/// that is killed while it is idle finds its time this much behind. A tick costs an entry of some
/// fifty bytes and a sync, 430 KB a day, and no request to the object store.
pub const TICK_INTERVAL: std::time::Duration = std::time::Duration::from_secs(10);

/// A difference between the wall clock and replicated time that is worth a line in the log, in
/// milliseconds.
pub const CLOCK_STEP_REPORTED_MS: i64 = 1_000;

/// How long after the time that a setting names a start may step time to the wall clock: long enough
/// for every node to be restarted with it, short enough that a setting left behind does no harm.
pub const CLOCK_STEP_ACCEPTED_FOR: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Entries after which a snapshot is written, unless a setting says otherwise; a filled segment asks
/// for one too. Bounds the replay after a lost checkpoint to a few seconds.
pub const SNAPSHOT_ENTRIES: u64 = 200_000;

/// How long opening the checkpoint waits for a tree that was just closed to be let go. sled's
/// threads need milliseconds; one that panicked may never do it, and then the tree is rebuilt.
pub const CHECKPOINT_CLOSE_MS_MAX: u64 = 2_000;

/// The longest command, encoded. The largest ones are commits of many objects, at some 40 bytes per
/// record batch; a quarter of what a frame of the log can hold.
pub const COMMAND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a condemned object stays in the bucket: twice as long as any broker can go on reading
/// from it. Counted in replicated time.
pub const CONDEMNED_DELAY: std::time::Duration = std::time::Duration::from_secs(600);

const _: () = assert!(
    CONDEMNED_DELAY.as_millis() >= 2 * ottla_control_api::REFERENCE_LIFE_MAX.as_millis(),
    "I-LIVE: no cached reference outlives its object"
);
