//! Identities of objects in the bucket.

use std::fmt;

use crate::{BrokerAuthor, BrokerEpoch, BrokerId, ProcessNonce};

/// Position of an object in its writer's seal order: 0, 1, 2, … per broker epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectSeq(pub u64);

impl ObjectSeq {
    /// The sequence after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ObjectSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of an upload of one object: first try, retries and hedges count up from 0, and each
/// writes its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Everything that makes a WAL object's key: who wrote it, in which run, as which object, at which
/// attempt. No two uploads of a cluster's whole life share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The writer and its registration.
    pub author: BrokerAuthor,
    /// The writer's process start.
    pub nonce: ProcessNonce,
    /// Place in the writer's seal order.
    pub seq: ObjectSeq,
    /// The upload that was verified.
    pub attempt: Attempt,
}

impl fmt::Display for ObjectName {
    /// `<broker>-<broker epoch>-<nonce>-<seq>.<attempt>`, the last component of the object's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { author, nonce, seq, attempt } = self;
        write!(f, "{}-{}-{}-{}.{}", author.broker, author.epoch, nonce, seq, attempt)
    }
}

impl ObjectName {
    /// The name that is shown as `text`; `None` when no name is.
    pub fn parse(text: &str) -> Option<Self> {
        let (object, attempt) = text.split_once('.')?;
        let mut parts = object.split('-');
        let broker = BrokerId(parts.next()?.parse().ok()?);
        let epoch = BrokerEpoch(parts.next()?.parse().ok()?);
        let nonce = ProcessNonce(u64::from_str_radix(parts.next()?, 16).ok()?);
        let seq = ObjectSeq(parts.next()?.parse().ok()?);
        let attempt = Attempt(attempt.parse().ok()?);
        let name = Self { author: BrokerAuthor { broker, epoch }, nonce, seq, attempt };
        (name.to_string() == text).then_some(name)
    }
}

/// The control plane's number of a committed object: dense, in commit order, never reused. Extents
/// name their object by it; the key is looked up once per object, not stored once per extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u64);

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_shown_and_nothing_else_is() {
        let name = ObjectName {
            author: BrokerAuthor { broker: BrokerId(3), epoch: BrokerEpoch(u64::MAX) },
            nonce: ProcessNonce(0xabc),
            seq: ObjectSeq(4),
            attempt: Attempt(2),
        };
        let shown = name.to_string();
        assert_eq!(ObjectName::parse(&shown), Some(name));
        let others =
            ["", ".", "3-7-abc-4.2", "03-7-0000000000000abc-4.2", "3-7-0000000000000abc-4"];
        for other in others.iter().copied().chain([shown.replace('4', "+4").as_str()]) {
            assert_eq!(ObjectName::parse(other), None, "{other:?}");
        }
        assert_eq!(ObjectName::parse(&format!("{shown}-1")), None);
    }
}
