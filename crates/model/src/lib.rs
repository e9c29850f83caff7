//! Identifiers, offsets and small value types used by two or more crates.
//!
//! Every number that could be confused with another has a type of its own: an offset is not a byte
//! position, and the four epochs (broker, producer, leader, and the Raft term, which never leaves
//! the control plane) cannot be exchanged. Nothing here does I/O, allocates more than a name, or
//! knows how it is encoded: encodings live in `ottla-format` (durable) and `ottla-wire` (Kafka).

mod broker;
mod endpoint;
mod extent;
mod job;
mod name;
mod object;
mod offset;
mod partition;
mod producer;
mod time;

pub use broker::{Az, BrokerAuthor, BrokerEpoch, BrokerId, ClusterId, ProcessNonce};
pub use endpoint::{BrokerProfile, Endpoint, HostPort, SOFTWARE_VERSION};
pub use extent::ExtentFlags;
pub use job::{JobId, JobOutput, LeaseNonce};
pub use name::{GroupId, GroupNumber, NameError, TopicName};
pub use object::{Attempt, ObjectId, ObjectName, ObjectOrigin, ObjectSeq};
pub use offset::{AppliedIndex, BytePosition, LEADER_EPOCH, LeaderEpoch, Offset};
pub use partition::{PartitionId, PartitionIndex, TopicId};
pub use producer::{BatchProducer, ProducerEpoch, ProducerId, Sequence};
pub use time::{TimestampMs, TimestampType};
