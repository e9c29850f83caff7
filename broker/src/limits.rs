//! Every bound of this crate, with its reason. The bounds of groups are in
//! [`crate::group::limits`].

use std::time::Duration;

// ---- Connections -------------------------------------------------------------------------------

/// Open client connections, unless set otherwise. Each costs a task and a read-ahead, about 30 KiB.
pub const CONNECTIONS_MAX_DEFAULT: u32 = 50_000;

/// Open connections from one address, unless set otherwise: a client that leaks them cannot take
/// all.
pub const CONNECTIONS_PER_ADDRESS_MAX_DEFAULT: u32 = 1_000;

/// Connections accepted per second, unless set otherwise. All clients of a broker come back at once
/// when it restarts; those that come faster wait in the system's queue.
pub const CONNECTIONS_RATE_DEFAULT: u32 = 500;

/// Connections that may be accepted at once after a quiet time: so many seconds' worth.
pub const CONNECTIONS_BURST_SECONDS: u32 = 2;

/// Files that are kept for the log, the object store and the admin listener: connections stop below
/// the process's limit on open files by as many. The server adds up what it may need at most
/// (`ottla::server::limits`).
pub const FILES_KEPT: u64 = 384;

/// A connection without a request for this long, and without one that is being answered, is closed,
/// unless set otherwise: Kafka's `connections.max.idle.ms`.
pub const IDLE_MAX_DEFAULT: Duration = Duration::from_secs(600);

/// The longest pause within a frame while others wait for its memory. A few packets that were lost are
/// sent again within this time. While nobody waits, only the idle time counts, as in Kafka: a frame
/// that fits the read-ahead costs no more than an idle connection.
pub const FRAME_STALL_PRESSED: Duration = Duration::from_secs(3);

/// The longest time for the bytes of one frame while others wait for its memory; the time that it waits
/// for memory itself is not counted. Kafka's own clients give up a request after 30 s, librdkafka's
/// sockets after 60.
pub const FRAME_TIME_PRESSED: Duration = Duration::from_secs(60);

/// How long requests of a client that has closed its side wait on for records, for other members, or
/// for memory. Such a client may still read answers, or may be gone: only a write finds out. A first
/// member's join is answered after three seconds, a fetch of a common client after half a second.
pub const HALF_CLOSED_WAIT_MAX: Duration = Duration::from_secs(5);

/// The first step in which a frame takes memory from its budget, once its read-ahead is full; each
/// further one is as long as what has come.
pub const FRAME_STEP_BYTES: usize = 64 * 1024;

/// The longest time in which a client takes nothing of its answers while there is memory for others.
/// A consumer may process what it has for its whole `max.poll.interval.ms` (default five minutes)
/// before it reads on.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(360);

/// The same when others wait for the memory that its answers hold.
pub const WRITE_STALL_PRESSED: Duration = Duration::from_secs(10);

/// What a client must take of an answer within those times: a byte now and then is not progress.
pub const WRITE_PROGRESS_BYTES: usize = 64 * 1024;

/// Bytes of answers that clients have not taken yet, unless set otherwise: four of the longest.
pub const ANSWERS_BYTES_DEFAULT: usize = 256 * 1024 * 1024;

/// The least that can be set: the longest answer to a Fetch.
pub const ANSWERS_BYTES_MIN: usize = 64 * 1024 * 1024;

/// Answers up to this length are not counted in that budget: there are at most
/// [`IN_FLIGHT_MAX`] on a connection, and at most [`UNWRITTEN_BYTES_MAX`] bytes and one answer.
pub const SMALL_ANSWER_BYTES: usize = 16 * 1024;

/// The structure of an answer that lives only while it is encoded, without a wait in between, is not
/// counted up to this length: there is one for each thread.
pub const STRUCTURE_BYTES_MIN: usize = 1024 * 1024;

/// How much of such a structure is counted.
pub const fn counted_structure(bytes: usize) -> usize {
    if bytes <= STRUCTURE_BYTES_MIN { 0 } else { bytes }
}

/// Answers of one connection that are ready and not written; no further request is read beyond it.
pub const UNWRITTEN_BYTES_MAX: usize = 256 * 1024;

/// A Fetch for whose answer there was no memory gets this much, or its first batch, when it is its
/// turn: many clients get something, instead of one all.
pub const PRESSED_ANSWER_BYTES: usize = 1024 * 1024;

/// Requests of one connection that were taken and not answered; reading pauses at this number.
/// Kafka's own clients keep five under way, librdkafka more when its idempotence is off.
pub const IN_FLIGHT_MAX: usize = 64;

/// How much is kept and logged of a client's name for itself, and of the name and version of its
/// library. They are for people, and for zones.
pub const CLIENT_ID_BYTES_MAX: usize = 256;

/// What stands for the time-out of a Produce with acks=0 or acks=1, which has none in Kafka: what
/// Kafka's own clients wait for an answer. A Produce without answer closes its connection then.
pub const UNTIMED_PRODUCE_MAX: Duration = Duration::from_secs(30);

/// Fetches of one connection that are being answered. Kafka handles one request of a connection at
/// a time; and an answer that has got its memory must not stand behind one that waits for some.
pub const FETCHES_IN_FLIGHT_MAX: usize = 1;

/// The longest time a Fetch waits for records, whatever it asks for. Clients ask for half a second.
pub const FETCH_WAIT_MAX: Duration = Duration::from_secs(300);

/// Longest frame of any request but Produce. The largest in use are a group leader's assignments.
pub const OTHER_FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes of all Fetch, JoinGroup and SyncGroup requests that are being received or decoded. What
/// waits for records or members is counted elsewhere, so these bytes come back at once.
pub const OTHER_FRAMES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of all requests that are being received or handled and are neither of those nor Produce. They
/// are held while the control plane or the store answers, at most for [`REQUEST_WAIT_MAX`] and what
/// a change may take ([`CHANGE_TIMEOUT_MAX`]).
pub const CALLS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of what those requests take once they are decoded, when they have very many elements. Room for
/// two of the most elements.
pub const DECODED_CALLS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Bytes of what fetches keep while they wait for records: a thousand consumers of a thousand partitions
/// each, three times. A fetch beyond it is answered at once, and its client is asked to pause.
pub const FETCH_PLANS_BYTES_MAX: usize = 192 * 1024 * 1024;

/// The part of it for one address: a proxy may speak for a thousand consumers.
pub const FETCH_PLANS_CLIENT_BYTES_MAX: usize = 96 * 1024 * 1024;

/// Bytes of what fetches of many partitions need while they look for records; one of the most partitions
/// at the least.
pub const FETCH_PASSES_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Frames up to this length take no share of the budgets above: they are part of the connection's
/// read-ahead.
pub const SMALL_FRAME_BYTES: usize = ottla_wire::limits::READ_AHEAD_BYTES;

/// Elements of a request that are not worth counting: those of the requests that come often.
pub const FEW_ELEMENTS: usize = 256;

/// Elements of a request in a small frame that are not counted either. Requests of clients have fewer:
/// an element that names something takes sixteen bytes and more.
pub const SMALL_FRAME_ELEMENTS: usize = 1_024;

/// How many connections may wait in the kernel is its own matter; after an accept that failed
/// (no file descriptors), the next try waits this long.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

// ---- Requests ----------------------------------------------------------------------------------

/// Topics (or partitions, where those are named) of one request that are answered; Kafka's
/// `max.request.partition.size.limit`.
pub const TOPICS_PER_REQUEST_MAX: usize = 2_000;

/// The most record bytes of one Fetch answer, whatever the client allows: Kafka's
/// `fetch.max.bytes` of brokers.
pub const FETCH_BYTES_MAX: usize = 55 * 1024 * 1024;

/// Partitions of one ListOffsets that are looked up at the same time. Each look-up is a question to
/// the leader, and by timestamp also a read of a block.
pub const LOOKUPS_AT_ONCE: usize = 16;

/// Keys of one FindCoordinator that are looked up before others have the thread: less than a
/// millisecond.
pub const KEYS_AT_ONCE: usize = 1_000;

/// When less than one part in this many of a Produce frame is kept, what is kept is copied out of
/// it: a few batches must not keep in memory all that was refused beside them.
pub const FRAME_KEPT_SHARE_MIN: usize = 4;

/// Requests whose compressed batches are checked with small limits at the same time, at least; more
/// on a machine with more cores. Each takes a core and at most 16 MiB.
pub const SMALL_CHECKS_MIN: usize = 2;

/// Batches that need more and are checked at the same time; half the cores where that is less, so
/// that bombs never take all. Each takes a core, for up to a second where a batch decompresses a
/// thousandfold, and what the producer's codec needs as window (at most 128 MiB; of a raw snappy
/// block all of it).
pub const LARGE_CHECKS_MAX: usize = 2;

/// For how long a request's compressed batches are checked before others have the turn; the batch
/// that it is in is finished. A hundred batches of 16 KiB are done in less.
pub const CHECK_TURN_MAX: Duration = Duration::from_millis(10);

/// Compressed batches up to this length are always opened: they are most of the batches that there
/// are, and cost little each. Larger ones may stay closed (`produce.check_large_batches`).
pub const SMALL_BATCH_BYTES: usize = 64 * 1024;

/// Records of one Produce that are named as not taken, over all its partitions; one of each at
/// least. Clients send again what is not named, and are then told of the next.
pub const RECORD_ERRORS_MAX: usize = 4_096;

/// Partitions of one new topic, or one grown topic.
pub const PARTITIONS_PER_TOPIC_MAX: i32 = 100_000;

/// The longest name of a topic config that is compared with the known ones to find the nearest.
pub const CONFIG_NAME_BYTES_MAX: usize = 249;

/// How long a request that only reads waits for the store, the control plane or memory for its answer;
/// then it is answered with an error that clients repeat. Kafka's clients wait for 30 s.
pub const REQUEST_WAIT_MAX: Duration = Duration::from_secs(20);

/// How long a request waits for the view to show what it just changed, or a call to succeed, when
/// the client gave no time of its own.
pub const CHANGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// The longest time that a client may ask a change to be waited for.
pub const CHANGE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// First pause after a call to the control plane that may be repeated.
pub const CALL_PAUSE_FIRST: Duration = Duration::from_millis(20);

/// Longest pause between such calls.
pub const CALL_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Producer ids taken from the control plane at once: one command per thousand new producers.
pub const PRODUCER_ID_BLOCK: u32 = 1_000;

// ---- Life of the broker ------------------------------------------------------------------------

/// A session is renewed this many times within its length: two losses are survived.
pub const RENEWALS_PER_SESSION: u32 = 3;

/// How long a broker that stops waits for what is in flight, buffers and answers alike.
pub const DRAIN_MAX: Duration = Duration::from_secs(12);

/// How long it then waits for the control plane to note that it left.
pub const LEAVE_MAX: Duration = Duration::from_secs(1);

const _: () = assert!(OTHER_FRAME_BYTES_MAX <= OTHER_FRAMES_BYTES_MAX / 2);
const _: () = assert!(OTHER_FRAME_BYTES_MAX <= CALLS_BYTES_MAX / 2);
// Every byte of a text that is not UTF-8 may grow to three.
const _: () = assert!(
    ottla_wire::limits::REQUEST_ELEMENTS_MAX * ottla_wire::limits::ELEMENT_BYTES
        + 2 * OTHER_FRAME_BYTES_MAX
        <= DECODED_CALLS_BYTES_MAX
);
const _: () = assert!(REQUEST_WAIT_MAX.as_secs() < 30);
const _: () = assert!(ANSWERS_BYTES_MIN >= FETCH_BYTES_MAX);
const _: () = assert!(SMALL_FRAME_BYTES < OTHER_FRAME_BYTES_MAX);
const _: () = assert!(FRAME_STALL_PRESSED.as_secs() < FRAME_TIME_PRESSED.as_secs());
const _: () = assert!(
    ottla_wire::limits::REQUEST_ELEMENTS_MAX * ottla_storage::limits::PASS_PARTITION_BYTES
        <= FETCH_PASSES_BYTES_MAX
);
