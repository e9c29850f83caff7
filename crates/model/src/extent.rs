//! Properties of an extent as a whole.

/// Facts that hold for every record batch of an extent: a set of named bits. Batches of which they do
/// not hold alike are in different extents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtentFlags(u8);

impl ExtentFlags {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// The log gave the records their time, at the commit. Without [`Self::FINAL_HEADERS`] it is one
    /// time for all of them, the extent's largest; with it, each batch's header says its own.
    pub const LOG_APPEND_TIME: Self = Self(1);

    /// The batches' headers are as clients get them: base offset, time type and maximum timestamp are
    /// final. Only such an extent can have gaps between its batches (key compaction makes them);
    /// without this, base offsets follow from the extent's and the batches' own last offset deltas.
    pub const FINAL_HEADERS: Self = Self(1 << 1);

    /// The records belong to transactions: a reader of committed records must ask which were aborted.
    pub const TRANSACTIONAL: Self = Self(1 << 2);

    /// The batches are control batches: markers of transactions, and no records of producers.
    pub const CONTROL: Self = Self(1 << 3);

    const KNOWN: u8 = 0b1111;

    /// The set with these bits; `None` when one of them has no name.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !Self::KNOWN == 0 { Some(Self(bits)) } else { None }
    }

    /// Its bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `flags` are in it.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// This set with `flags` in it.
    #[must_use]
    pub const fn with(self, flags: Self) -> Self {
        Self(self.0 | flags.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_bit_is_its_own_and_no_other_is_known() {
        let named = [
            ExtentFlags::LOG_APPEND_TIME,
            ExtentFlags::FINAL_HEADERS,
            ExtentFlags::TRANSACTIONAL,
            ExtentFlags::CONTROL,
        ];
        let all = named.iter().fold(ExtentFlags::NONE, |set, flag| set.with(*flag));
        assert_eq!(all.bits(), (1 << named.len()) - 1);
        for bits in 0..=u8::MAX {
            let read = ExtentFlags::from_bits(bits);
            assert_eq!(read.map(ExtentFlags::bits), (bits & !all.bits() == 0).then_some(bits));
            for flag in named {
                assert!(read.is_none_or(|set| set.contains(flag) == (bits & flag.bits() != 0)));
            }
        }
    }
}
