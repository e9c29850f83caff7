//! The numbers that belong to the whole cluster.

use ottla_model::{BrokerEpoch, ObjectId, ProducerId, TimestampMs};

use crate::codec::{Reader, Result, put_varint, put_zigzag};

/// What is next to be given out, and the replicated time.
///
/// `time zigzag · next broker epoch varint · next object varint · next producer id zigzag`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// The largest time of all commands so far.
    pub time: TimestampMs,
    /// The epoch of the next registration.
    pub next_broker_epoch: BrokerEpoch,
    /// The number of the next committed object.
    pub next_object: ObjectId,
    /// The first producer id that was never given out.
    pub next_producer_id: ProducerId,
}

impl Counters {
    /// The counters of a cluster in which nothing has happened. The first broker epoch is 1.
    pub const START: Self = Self {
        time: TimestampMs(0),
        next_broker_epoch: BrokerEpoch(1),
        next_object: ObjectId(0),
        next_producer_id: ProducerId(0),
    };

    /// Appends the value's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_zigzag(out, self.time.0);
        put_varint(out, self.next_broker_epoch.0);
        put_varint(out, self.next_object.0);
        put_zigzag(out, self.next_producer_id.0);
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            time: TimestampMs(r.zigzag("replicated time")?),
            next_broker_epoch: BrokerEpoch(r.varint("next broker epoch")?),
            next_object: ObjectId(r.varint("next object")?),
            next_producer_id: ProducerId(r.zigzag("next producer id")?),
        })
    }
}
