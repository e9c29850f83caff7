//! The shapes of the requests that are served, after Kafka's `*Request.json`. Versions below the
//! lowest served one are left out.

use super::Kind::{Bytes, Fixed, FixedList, Inner, List, Text, TextList};
use super::Shape;

const BOOL: usize = 1;
const INT8: usize = 1;
const INT16: usize = 2;
const INT32: usize = 4;
const INT64: usize = 8;
const UUID: usize = 16;

/// Produce (0)
pub const PRODUCE: Shape = Shape::of(&[
    Text.always(),         // transactional id
    Fixed(INT16).always(), // acks
    Fixed(INT32).always(), // timeout
    List(&Shape::of(&[
        Text.until(12),        // name
        Fixed(UUID).since(13), // id
        List(&Shape::of(&[
            Fixed(INT32).always(), // partition
            Bytes.always(),        // records
        ]))
        .always(),
    ]))
    .always(),
]);

/// Fetch (1)
pub const FETCH: Shape = Shape::of(&[
    Fixed(INT32).until(14), // replica id
    Fixed(INT32).always(),  // wait
    Fixed(INT32).always(),  // least bytes
    Fixed(INT32).always(),  // most bytes
    Fixed(INT8).always(),   // isolation
    Fixed(INT32).since(7),  // session id
    Fixed(INT32).since(7),  // session epoch
    List(&Shape::of(&[
        Text.until(12),        // name
        Fixed(UUID).since(13), // id
        List(&FETCH_PARTITION).always(),
    ]))
    .always(),
    List(&Shape::of(&[
        Text.until(12),            // name
        Fixed(UUID).since(13),     // id
        FixedList(INT32).always(), // partitions
    ]))
    .since(7), // forgotten topics
    Text.since(11), // rack
])
.with_tags(&[
    (0, Text.since(12)), // cluster id
    (
        1,
        Inner(&Shape::of(&[
            Fixed(INT32).always(), // replica id
            Fixed(INT64).always(), // replica epoch
        ]))
        .since(15),
    ),
]);

const FETCH_PARTITION: Shape = Shape::of(&[
    Fixed(INT32).always(),  // partition
    Fixed(INT32).since(9),  // leader epoch
    Fixed(INT64).always(),  // offset
    Fixed(INT32).since(12), // last fetched epoch
    Fixed(INT64).since(5),  // log start
    Fixed(INT32).always(),  // most bytes
])
.with_tags(&[
    (0, Fixed(UUID).since(17)),  // directory
    (1, Fixed(INT64).since(18)), // high watermark
]);

/// ListOffsets (2)
pub const LIST_OFFSETS: Shape = Shape::of(&[
    Fixed(INT32).always(), // replica id
    Fixed(INT8).since(2),  // isolation
    List(&Shape::of(&[
        Text.always(), // name
        List(&Shape::of(&[
            Fixed(INT32).always(), // partition
            Fixed(INT32).since(4), // leader epoch
            Fixed(INT64).always(), // timestamp
        ]))
        .always(),
    ]))
    .always(),
    Fixed(INT32).since(10), // timeout
]);

/// Metadata (3)
pub const METADATA: Shape = Shape::of(&[
    List(&Shape::of(&[
        Fixed(UUID).since(10), // id
        Text.always(),         // name
    ]))
    .always(),
    Fixed(BOOL).since(4),      // create topics
    Fixed(BOOL).within(8, 10), // what may be done with the cluster
    Fixed(BOOL).since(8),      // what may be done with the topics
]);

/// OffsetCommit (8)
pub const OFFSET_COMMIT: Shape = Shape::of(&[
    Text.always(),         // group
    Fixed(INT32).always(), // generation
    Text.always(),         // member
    Text.since(7),         // instance
    Fixed(INT64).until(4), // retention
    List(&Shape::of(&[
        Text.always(), // name
        List(&Shape::of(&[
            Fixed(INT32).always(), // partition
            Fixed(INT64).always(), // offset
            Fixed(INT32).since(6), // leader epoch
            Text.always(),         // metadata
        ]))
        .always(),
    ]))
    .always(),
]);

/// OffsetFetch (9)
pub const OFFSET_FETCH: Shape = Shape::of(&[
    Text.until(7), // group
    List(&OFFSET_FETCH_TOPIC).until(7),
    List(&Shape::of(&[
        Text.always(),         // group
        Text.since(9),         // member
        Fixed(INT32).since(9), // member epoch
        List(&OFFSET_FETCH_TOPIC).always(),
    ]))
    .since(8),
    Fixed(BOOL).since(7), // only stable offsets
]);

const OFFSET_FETCH_TOPIC: Shape = Shape::of(&[
    Text.always(),             // name
    FixedList(INT32).always(), // partitions
]);

/// FindCoordinator (10)
pub const FIND_COORDINATOR: Shape = Shape::of(&[
    Text.until(3),        // key
    Fixed(INT8).since(1), // kind
    TextList.since(4),    // keys
]);

/// JoinGroup (11)
pub const JOIN_GROUP: Shape = Shape::of(&[
    Text.always(),         // group
    Fixed(INT32).always(), // session timeout
    Fixed(INT32).since(1), // rebalance timeout
    Text.always(),         // member
    Text.since(5),         // instance
    Text.always(),         // protocol type
    List(&Shape::of(&[
        Text.always(),  // name
        Bytes.always(), // metadata
    ]))
    .always(),
    Text.since(8), // reason
]);

/// Heartbeat (12)
pub const HEARTBEAT: Shape = Shape::of(&[
    Text.always(),         // group
    Fixed(INT32).always(), // generation
    Text.always(),         // member
    Text.since(3),         // instance
]);

/// LeaveGroup (13)
pub const LEAVE_GROUP: Shape = Shape::of(&[
    Text.always(), // group
    Text.until(2), // member
    List(&Shape::of(&[
        Text.always(), // member
        Text.always(), // instance
        Text.since(5), // reason
    ]))
    .since(3),
]);

/// SyncGroup (14)
pub const SYNC_GROUP: Shape = Shape::of(&[
    Text.always(),         // group
    Fixed(INT32).always(), // generation
    Text.always(),         // member
    Text.since(3),         // instance
    Text.since(5),         // protocol type
    Text.since(5),         // protocol
    List(&Shape::of(&[
        Text.always(),  // member
        Bytes.always(), // assignment
    ]))
    .always(),
]);

/// SaslHandshake (17)
pub const SASL_HANDSHAKE: Shape = Shape::of(&[
    Text.always(), // mechanism
]);

/// ApiVersions (18)
pub const API_VERSIONS: Shape = Shape::of(&[
    Text.since(3), // name of the software
    Text.since(3), // its version
]);

/// CreateTopics (19)
pub const CREATE_TOPICS: Shape = Shape::of(&[
    List(&Shape::of(&[
        Text.always(),         // name
        Fixed(INT32).always(), // partitions
        Fixed(INT16).always(), // replication factor
        List(&Shape::of(&[
            Fixed(INT32).always(),     // partition
            FixedList(INT32).always(), // brokers
        ]))
        .always(),
        List(&Shape::of(&[
            Text.always(), // name
            Text.always(), // value
        ]))
        .always(),
    ]))
    .always(),
    Fixed(INT32).always(), // timeout
    Fixed(BOOL).always(),  // only check
]);

/// DeleteTopics (20)
pub const DELETE_TOPICS: Shape = Shape::of(&[
    List(&Shape::of(&[
        Text.always(),        // name
        Fixed(UUID).always(), // id
    ]))
    .since(6),
    TextList.until(5),     // names
    Fixed(INT32).always(), // timeout
]);

/// InitProducerId (22)
pub const INIT_PRODUCER_ID: Shape = Shape::of(&[
    Text.always(),         // transactional id
    Fixed(INT32).always(), // transaction timeout
    Fixed(INT64).since(3), // producer id
    Fixed(INT16).since(3), // producer epoch
]);

/// OffsetForLeaderEpoch (23)
pub const OFFSET_FOR_LEADER_EPOCH: Shape = Shape::of(&[
    Fixed(INT32).since(3), // replica id
    List(&Shape::of(&[
        Text.always(), // name
        List(&Shape::of(&[
            Fixed(INT32).always(), // partition
            Fixed(INT32).always(), // known leader epoch
            Fixed(INT32).always(), // leader epoch asked for
        ]))
        .always(),
    ]))
    .always(),
]);

/// SaslAuthenticate (36)
pub const SASL_AUTHENTICATE: Shape = Shape::of(&[
    Bytes.always(), // what the mechanism sends
]);

/// CreatePartitions (37)
pub const CREATE_PARTITIONS: Shape = Shape::of(&[
    List(&Shape::of(&[
        Text.always(),         // name
        Fixed(INT32).always(), // partitions
        List(&Shape::of(&[FixedList(INT32).always()])).always(),
    ]))
    .always(),
    Fixed(INT32).always(), // timeout
    Fixed(BOOL).always(),  // only check
]);

/// DescribeCluster (60)
pub const DESCRIBE_CLUSTER: Shape = Shape::of(&[
    Fixed(BOOL).always(), // what may be done with it
    Fixed(INT8).since(1), // kind of endpoints
    Fixed(BOOL).since(2), // fenced brokers too
]);
