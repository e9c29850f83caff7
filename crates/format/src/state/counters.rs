//! The numbers that belong to the whole cluster.

use ottla_model::{BrokerEpoch, GroupNumber, ObjectId, ProducerId, TimestampMs};

use super::version::{StoredValue, put_value};
use crate::codec::{Reader, Result, put_varint, put_zigzag};
use crate::feature_level::FeatureLevel;

/// The next numbers to be given out, the replicated time, and the feature level.
///
/// ```text
/// time zigzag · wall offset zigzag · next broker epoch varint · next object varint
/// · next producer id zigzag · next group varint · feature level varint
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The largest time of all commands so far. Ages are counted in it.
    pub time: TimestampMs,
    /// What is added to `time` to get the time of the wall, in milliseconds: other than 0 after a
    /// step of the clock was accepted.
    pub wall_offset_ms: i64,
    /// The epoch of the next registration.
    pub next_broker_epoch: BrokerEpoch,
    /// The number of the next committed object.
    pub next_object: ObjectId,
    /// The first producer id that was never given out.
    pub next_producer_id: ProducerId,
    /// The number of the next group.
    pub next_group: GroupNumber,
    /// The level of everything that the log and the state may hold.
    pub feature_level: FeatureLevel,
}

impl Counters {
    /// The counters of a cluster in which nothing has happened. The first broker epoch is 1.
    pub const START: Self = Self {
        time: TimestampMs(0),
        wall_offset_ms: 0,
        next_broker_epoch: BrokerEpoch(1),
        next_object: ObjectId(0),
        next_producer_id: ProducerId(0),
        next_group: GroupNumber(0),
        feature_level: FeatureLevel::NONE,
    };

    /// The time that records are stamped with (`LogAppendTime`).
    pub fn append_time(&self) -> TimestampMs {
        TimestampMs(self.time.0.saturating_add(self.wall_offset_ms))
    }

    /// Appends the value's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }
}

impl StoredValue for Counters {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_zigzag(out, self.time.0);
        put_zigzag(out, self.wall_offset_ms);
        put_varint(out, self.next_broker_epoch.0);
        put_varint(out, self.next_object.0);
        put_zigzag(out, self.next_producer_id.0);
        put_varint(out, self.next_group.0);
        put_varint(out, u64::from(self.feature_level.0));
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            time: TimestampMs(r.zigzag("replicated time")?),
            wall_offset_ms: r.zigzag("wall offset")?,
            next_broker_epoch: BrokerEpoch(r.varint("next broker epoch")?),
            next_object: ObjectId(r.varint("next object")?),
            next_producer_id: ProducerId(r.zigzag("next producer id")?),
            next_group: GroupNumber(r.varint("next group")?),
            feature_level: FeatureLevel(r.narrow("feature level")?),
        })
    }
}
