//! Idempotent producers: id, epoch and sequence numbers (KIP-98).

use std::fmt;

/// A producer id, 0 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerId(pub i64);

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A producer's epoch, 0 or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerEpoch(pub i16);

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record's sequence number: 0 ..= `i32::MAX`, after which comes 0 again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub i32);

impl Sequence {
    /// The first one.
    pub const ZERO: Self = Self(0);

    /// The sequence `records` further on (0 or more), wrapping from `i32::MAX` to 0 as Kafka's
    /// `DefaultRecordBatch.incrementSequence` does.
    pub fn plus(self, records: i32) -> Self {
        let sum = i64::from(self.0) + i64::from(records);
        let modulus = i64::from(i32::MAX) + 1;
        Self((sum % modulus) as i32)
    }

    /// Whether `self` comes before `later`: the shorter way round from it to `later` is forward.
    pub fn precedes(self, later: Sequence) -> bool {
        let modulus = i64::from(i32::MAX) + 1;
        let forward = (i64::from(later.0) - i64::from(self.0)).rem_euclid(modulus);
        forward != 0 && forward < modulus / 2
    }

    /// Whether `next` is the sequence right after `self`.
    pub fn is_followed_by(self, next: Sequence) -> bool {
        self.plus(1) == next
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The producer fields of an idempotent record batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchProducer {
    /// Who produced it.
    pub id: ProducerId,
    /// In which epoch.
    pub epoch: ProducerEpoch,
    /// Sequence of the batch's first record.
    pub base_sequence: Sequence,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_from_the_largest_to_zero() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX).plus(0), Sequence(i32::MAX));
        assert_eq!(Sequence(i32::MAX - 2).plus(5), Sequence(2));
        assert_eq!(Sequence(7).plus(i32::MAX), Sequence(6));
        assert!(Sequence(i32::MAX).is_followed_by(Sequence(0)));
        assert!(!Sequence(3).is_followed_by(Sequence(3)));
    }

    #[test]
    fn sequences_are_ordered_across_the_wrap() {
        assert!(Sequence(3).precedes(Sequence(4)));
        assert!(Sequence(i32::MAX).precedes(Sequence(2)));
        assert!(!Sequence(2).precedes(Sequence(i32::MAX)));
        assert!(!Sequence(3).precedes(Sequence(3)));
        assert!(!Sequence(4).precedes(Sequence(3)));
    }
}
