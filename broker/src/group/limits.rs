//! The bounds of the group coordinator, each with its reason (I-BOUND).

use std::time::Duration;

/// Members of one group that `GroupOptions::default` allows, and as many member ids that were given
/// out but not used yet. Kafka has no default limit; a rebalance sends every member's metadata to
/// the leader, which stops being practical long before this.
pub const MEMBERS_PER_GROUP_MAX: usize = 10_000;

/// Characters of a client's name that go into the member ids it is given. Ids are opaque to clients
/// and kept by the thousand.
pub const MEMBER_ID_NAME_CHARS_MAX: usize = 128;

/// Groups held in memory by one broker. Each costs one task of a few KiB; a group without members
/// leaves memory after [`UNLOAD_AFTER`].
pub const GROUPS_LOADED_MAX: usize = 50_000;

/// Requests that wait for a group's task. Members wait for their own answers, so this is reached
/// only when more members than this speak in one moment; further ones wait outside.
pub const REQUESTS_WAITING_MAX: usize = 256;

/// Bytes of a group's durable metadata: all members' names, protocols and assignments together. It
/// is one command of the replicated log. Members that would bring more are refused, as is an
/// assignment.
pub const GROUP_METADATA_BYTES_MAX: usize = 8 << 20;

/// Bytes that wait to be written for one group. Past it, offset commits are refused with a
/// retriable error instead of piling up while the control plane is away.
pub const WRITES_WAITING_BYTES_MAX: usize = 16 << 20;

/// Bytes of one offset commit, names and metadata included (one command of the replicated log).
pub const OFFSET_COMMIT_BYTES_MAX: usize = 4 << 20;

/// Offset commits that wait behind each other are written together up to this many offsets, so
/// that a large group is not bound by the latency of one write per member.
pub const OFFSETS_PER_WRITE: usize = 4_096;

/// Length of the free text beside an offset (`offset.metadata.max.bytes`), in UTF-16 units as Kafka
/// counts it.
pub const OFFSET_METADATA_LENGTH_MAX: usize = 4_096;

/// What a committed offset is counted with beside its text.
pub const OFFSET_BYTES: usize = 40;

/// The time a write may take, retries included, until its requests are answered with an error
/// (`offsets.commit.timeout.ms`).
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request waits until its group is read from the control plane. Below the shortest
/// request time-out in use, so that clients see the reason.
pub const LOAD_WAIT: Duration = Duration::from_secs(5);

/// A group's task gives up loading after this; the next request starts another one.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// First and longest pause between tries of a call to the control plane.
pub const RETRY_PAUSE_FIRST: Duration = Duration::from_millis(20);
/// See [`RETRY_PAUSE_FIRST`].
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How often a broker looks for groups with members that it has not loaded. Members that died get
/// this much longer, which is little beside the retention of offsets.
pub const TAKEOVER_INTERVAL: Duration = Duration::from_secs(30);

/// Groups that are loaded at once without being asked for. Each is one read of the control plane,
/// at most [`GROUP_METADATA_BYTES_MAX`] long.
pub const TAKEOVER_AT_ONCE: usize = 64;

/// The pause after so many: those who ask go on meanwhile. All [`GROUPS_LOADED_MAX`] take a minute.
pub const TAKEOVER_PAUSE: Duration = Duration::from_millis(50);

/// Nothing is loaded without being asked for when so many groups are in memory: the rest is for
/// those who ask.
pub const TAKEOVER_LOADED_MAX: usize = GROUPS_LOADED_MAX / 10 * 9;

/// A group without members and without requests for this long leaves memory.
pub const UNLOAD_AFTER: Duration = Duration::from_secs(60);

/// A JoinGroup of a member that has no id yet is given up after this: such a member cannot send
/// heartbeats, and nobody else would notice that it is gone (Kafka's constant).
pub const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A timer that fires later than this means that this process stood still, not that the members
/// were silent: everybody gets a fresh session.
pub const TIMER_LATE_MAX: Duration = Duration::from_secs(1);

/// How often a request looks for its group again when the group left memory under its hands.
pub const LOOKUPS_MAX: usize = 3;
