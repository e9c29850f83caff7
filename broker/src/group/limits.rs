//! The bounds of the group coordinator, each with its reason (I-BOUND).

use std::time::Duration;

/// Members of one group that `GroupOptions::default` allows, and as many member ids that were given
/// out but not used yet. Kafka has no default limit; a rebalance sends every member's metadata to
/// the leader, which stops being practical long before this.
pub const MEMBERS_PER_GROUP_MAX: usize = 10_000;

/// Bytes of a group id. Kafka has no limit of its own; its topic names and instance ids end at 249
/// characters. Ids are kept by the thousand, here and in the replicated state.
pub const GROUP_ID_BYTES_MAX: usize = ottla_format::limits::GROUP_ID_BYTES_MAX;

/// Bytes of an instance id: the limit that Kafka's clients check themselves.
pub const INSTANCE_ID_BYTES_MAX: usize = 249;

/// Bytes of a client's name that go into the member ids it is given. Ids are opaque to clients and
/// kept by the thousand.
pub const MEMBER_ID_NAME_BYTES_MAX: usize = 128;

/// Bytes of a member id. Ids are given out here, and none is longer: a name, a dash and a UUID.
pub const MEMBER_ID_BYTES_MAX: usize = MEMBER_ID_NAME_BYTES_MAX + 1 + 36;

/// Bytes of a protocol type, and of the name of a protocol. The names in use have some twenty.
pub const PROTOCOL_NAME_BYTES_MAX: usize = 249;

/// Protocols that one member supports. Members in use support up to five, each assignor one.
pub const PROTOCOLS_PER_MEMBER_MAX: usize = 64;

/// Bytes of a reason to join or leave that are logged. Kafka's clients send at most 255 characters.
pub const REASON_BYTES_MAX: usize = 255;

/// Memory of all groups of a broker: members, ids given out and not used, assignments, and the
/// groups themselves. A consumer costs about 2 KiB: this is for some 100,000.
pub const GROUPS_BYTES_MAX: usize = 256 << 20;

/// One client address is granted at most one part in this many of [`GROUPS_BYTES_MAX`], like of the
/// other budgets. That is still some 25,000 consumers behind one address.
pub const CLIENT_SHARE: usize = ottla_storage::limits::CLIENT_SHARE;

/// Bytes of requests that wait for their group's task, and of offset commits until they are
/// answered. A group that is loaded takes its requests at once.
pub const REQUESTS_BYTES_MAX: usize = 64 << 20;

/// Groups held in memory by one broker. Each costs one task of a few KiB; a group without members
/// leaves memory after [`UNLOAD_AFTER`], or at once when there is no room.
pub const GROUPS_LOADED_MAX: usize = 50_000;

/// Groups without members that are looked at to find one that can leave memory. More than one only
/// where requests are just being handed to them.
pub const UNLOAD_TRIES_MAX: usize = 16;

/// Requests about groups that are not in memory and for which none is made: so many are looked up in
/// the control plane at the same time. A look-up reads all of a group's offsets.
pub const LOOKUPS_AT_ONCE: usize = 16;

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

/// The longest time that a rebalance waits for a member, whatever the member asks for. Kafka has no
/// limit. Applications that work for hours on what they polled ask for hours
/// (`max.poll.interval.ms`); nobody waits for weeks, which is what the field could say.
pub const REBALANCE_TIMEOUT_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// A member id that was given out and is not used for this long is forgotten, or after the session
/// timeout if that is shorter. Clients use theirs at once, and ask for another one if they were late.
pub const PENDING_ID_LIFE_MAX: Duration = Duration::from_secs(60);

/// A JoinGroup of a member that has no id yet is given up after this: such a member cannot send
/// heartbeats, and nobody else would notice that it is gone (Kafka's constant).
pub const NEW_MEMBER_JOIN_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A timer that fires later than this means that this process stood still, not that the members
/// were silent: everybody gets a fresh session.
pub const TIMER_LATE_MAX: Duration = Duration::from_secs(1);

/// How often a request looks for its group again when the group left memory under its hands.
pub const LOOKUPS_MAX: usize = 3;

// A member of the largest size fits what one client may hold in a group that is new.
const _: () = assert!(GROUP_METADATA_BYTES_MAX < GROUPS_BYTES_MAX / CLIENT_SHARE / 4);
// The largest request fits the bytes that one client may have waiting.
const _: () = assert!(GROUP_METADATA_BYTES_MAX < REQUESTS_BYTES_MAX / CLIENT_SHARE);
const _: () = assert!(INSTANCE_ID_BYTES_MAX <= GROUP_ID_BYTES_MAX);
// The replicated state takes whatever passes here.
const _: () = {
    use ottla_format::limits::GROUP_TEXT_BYTES_MAX as MOST;
    assert!(INSTANCE_ID_BYTES_MAX <= MOST && PROTOCOL_NAME_BYTES_MAX <= MOST);
    assert!(MEMBER_ID_BYTES_MAX <= MOST && crate::limits::CLIENT_ID_BYTES_MAX <= MOST);
};
