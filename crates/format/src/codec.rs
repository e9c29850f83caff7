//! The primitives that all formats share: a checked reader over borrowed bytes and the matching
//! writer functions.
//!
//! ```text
//! u8 u16 u32 u64 u128 i64   little-endian, fixed width
//! varint                    LEB128 of a u64, at most 10 bytes, the shortest form only
//! zigzag                    varint of (v << 1) ^ (v >> 63)
//! bytes, text               varint length, then that many bytes (text: UTF-8)
//! list                      varint count, then the items
//! option                    one byte 0 or 1, then the value if 1
//! ```

use std::cmp::Ordering;

use ottla_model::SOFTWARE_VERSION;
use thiserror::Error;

use crate::feature_level::{FeatureLevel, NEWEST};
use crate::software::Software;

/// Why bytes could not be decoded. All of them mean: these bytes are damaged or not ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("{what}: needs {needed} more bytes, {remaining} are left")]
    Truncated {
        /// The field being read.
        what: &'static str,
        /// Bytes the field needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// Bytes are left after the last field.
    #[error("{remaining} bytes are left after the end of {what}")]
    Trailing {
        /// The value that ended.
        what: &'static str,
        /// Bytes left over.
        remaining: usize,
    },
    /// The first bytes are not this format's.
    #[error("not {what}: the magic is {found:02x?}")]
    BadMagic {
        /// The format expected.
        what: &'static str,
        /// What stands there.
        found: [u8; 4],
    },
    /// Written by a newer version of Ottla.
    #[error("{what} has format version {found}; this version of ottla reads up to {supported}")]
    UnsupportedVersion {
        /// The format.
        what: &'static str,
        /// The version that stands there.
        found: u16,
        /// The highest version that can be read.
        supported: u16,
    },
    /// Written by an older version of Ottla, in a format that nothing reads any more.
    #[error(
        "{what} has format version {found}, which was never released; this version of ottla reads \
         {oldest} and later ones. Begin with an empty data directory"
    )]
    OutdatedVersion {
        /// The format.
        what: &'static str,
        /// The version that stands there.
        found: u16,
        /// The lowest version that can be read.
        oldest: u16,
    },
    /// Written by a newer version of Ottla: this one does not know such a thing.
    #[error("{what} {value} is not known to this version of ottla")]
    Unknown {
        /// Of which things.
        what: &'static str,
        /// Its number.
        value: u64,
    },
    /// The rest may be anything that a newer version of Ottla knows.
    #[error(
        "the cluster has feature level {level}, and this is ottla {SOFTWARE_VERSION}, which knows \
         levels up to {NEWEST}: start a newer version"
    )]
    FeatureLevel {
        /// The cluster's level.
        level: FeatureLevel,
    },
    /// One of the errors that mean another version, with the one that wrote the file.
    #[error("{error} (written by ottla {software})")]
    WrittenBy {
        /// The version that wrote the file.
        software: Software,
        /// The error itself.
        error: Box<DecodeError>,
    },
    /// A checksum does not fit its bytes.
    #[error("{what}: the checksum is {stored:08x}, the bytes have {computed:08x}")]
    BadChecksum {
        /// What the checksum covers.
        what: &'static str,
        /// The checksum that stands there.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A field has a value that no writer produces.
    #[error("{what}: {value} is not a legal value")]
    Invalid {
        /// The field.
        what: &'static str,
        /// Its value.
        value: i128,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    NotUtf8 {
        /// The field.
        what: &'static str,
    },
}

impl DecodeError {
    /// Whether the bytes are well and another version of Ottla wrote them.
    pub fn is_of_another_version(&self) -> bool {
        match self {
            Self::UnsupportedVersion { .. }
            | Self::OutdatedVersion { .. }
            | Self::Unknown { .. }
            | Self::FeatureLevel { .. } => true,
            Self::WrittenBy { error, .. } => error.is_of_another_version(),
            _ => false,
        }
    }

    /// Whether the cluster has a feature level that this version does not know.
    pub fn is_of_newer_level(&self) -> bool {
        match self {
            Self::FeatureLevel { .. } => true,
            Self::WrittenBy { error, .. } => error.is_of_newer_level(),
            _ => false,
        }
    }

    /// Adds which version wrote the bytes, where that explains the error.
    #[must_use]
    pub fn written_by(self, software: Software) -> Self {
        match self {
            Self::WrittenBy { .. } => self,
            _ if self.is_of_another_version() => {
                Self::WrittenBy { software, error: Box::new(self) }
            }
            _ => self,
        }
    }
}

/// Refuses a level that this version does not know.
pub fn check_feature_level(level: FeatureLevel) -> Result<()> {
    if level <= NEWEST { Ok(()) } else { Err(DecodeError::FeatureLevel { level }) }
}

/// Refuses every version but one, and says whether it is too new or too old.
pub(crate) fn check_version(what: &'static str, found: u16, only: u16) -> Result<()> {
    match found.cmp(&only) {
        Ordering::Equal => Ok(()),
        Ordering::Less => Err(DecodeError::OutdatedVersion { what, found, oldest: only }),
        Ordering::Greater => Err(DecodeError::UnsupportedVersion { what, found, supported: only }),
    }
}

/// Result of decoding.
pub type Result<T> = std::result::Result<T, DecodeError>;

/// A cursor over borrowed bytes. Every read names its field, so that an error says where.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes `n` bytes as they are.
    pub fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(DecodeError::Truncated { what, needed: n, remaining: self.rest.len() }),
        }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self, what: &'static str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Four bytes.
    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Eight bytes.
    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Sixteen bytes.
    pub fn u128(&mut self, what: &'static str) -> Result<u128> {
        Ok(u128::from_le_bytes(self.array(what)?))
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, what: &'static str) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array(what)?))
    }

    /// A variable-length unsigned integer. A longer form than needed is refused, so that every
    /// value has one encoding.
    pub fn varint(&mut self, what: &'static str) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Invalid { what, value: i128::from(byte) });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::Invalid { what, value: 0 });
                }
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid { what, value: i128::from(value) })
    }

    /// A variable-length signed integer.
    pub fn zigzag(&mut self, what: &'static str) -> Result<i64> {
        let raw = self.varint(what)?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    /// A variable-length integer that must fit the narrower type.
    pub fn narrow<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T> {
        let value = self.varint(what)?;
        T::try_from(value).map_err(|_| DecodeError::Invalid { what, value: i128::from(value) })
    }

    /// A variable-length signed integer that must fit the narrower type.
    pub fn narrow_zigzag<T: TryFrom<i64>>(&mut self, what: &'static str) -> Result<T> {
        let value = self.zigzag(what)?;
        T::try_from(value).map_err(|_| DecodeError::Invalid { what, value: i128::from(value) })
    }

    /// A list's count, refused when the bytes left cannot hold that many items of at least
    /// `item_bytes_min` bytes: a damaged count never reserves memory.
    pub fn count(&mut self, item_bytes_min: usize, what: &'static str) -> Result<usize> {
        let count: usize = self.narrow(what)?;
        let needed = count.saturating_mul(item_bytes_min.max(1));
        if needed > self.remaining() {
            return Err(DecodeError::Truncated { what, needed, remaining: self.remaining() });
        }
        Ok(count)
    }

    /// Length-prefixed bytes.
    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let n = self.count(1, what)?;
        self.take(n, what)
    }

    /// Length-prefixed text.
    pub fn text(&mut self, what: &'static str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| DecodeError::NotUtf8 { what })
    }

    /// A presence byte.
    pub fn flag(&mut self, what: &'static str) -> Result<bool> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::Invalid { what, value: i128::from(other) }),
        }
    }

    /// Ends reading: nothing may be left.
    pub fn finish(self, what: &'static str) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(DecodeError::Trailing { what, remaining }),
        }
    }
}

/// Appends a variable-length unsigned integer.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a variable-length signed integer.
pub fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends length-prefixed bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends length-prefixed text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

/// Appends a presence byte.
pub fn put_flag(out: &mut Vec<u8>, flag: bool) {
    out.push(u8::from(flag));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_round_trip(u in any::<u64>(), i in any::<i64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, u);
            put_zigzag(&mut out, i);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.varint("u").unwrap(), u);
            prop_assert_eq!(reader.zigzag("i").unwrap(), i);
            reader.finish("test").unwrap();
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = Reader::new(&bytes).varint("v");
            let _ = Reader::new(&bytes).text("t");
            let _ = Reader::new(&bytes).narrow_zigzag::<i16>("n");
        }
    }

    #[test]
    fn a_longer_form_than_needed_is_refused() {
        assert!(Reader::new(&[0x80, 0x00]).varint("v").is_err());
        assert!(Reader::new(&[0xff; 10]).varint("v").is_err());
    }

    #[test]
    fn a_count_larger_than_the_bytes_left_is_refused() {
        let mut out = Vec::new();
        put_varint(&mut out, u64::from(u32::MAX));
        assert!(matches!(Reader::new(&out).count(1, "c"), Err(DecodeError::Truncated { .. })));
    }
}
