//! The version of Ottla that wrote a file, in the file's head.
//!
//! Segments of the Raft log, snapshots and the head of the checkpoint begin alike, in all versions of
//! their formats:
//!
//! ```text
//!   0   4  magic
//!   4   2  version of the format
//!   6   2  feature level of the state in it, 0 in a segment
//!   8  24  version of Ottla that wrote it: ASCII without blanks, zeros up to the end
//! ```
//!
//! So a version that cannot read the rest can still say who can.

use std::fmt;

use ottla_model::SOFTWARE_VERSION;

use crate::codec::{DecodeError, Reader, Result};

/// Length of the field.
pub const SOFTWARE_FIELD_BYTES: usize = 24;

/// A version of Ottla.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Software([u8; SOFTWARE_FIELD_BYTES]);

impl Software {
    /// This build.
    pub const THIS: Self = Self::new(SOFTWARE_VERSION);

    /// A version by its name.
    ///
    /// # Panics
    /// When the field does not hold it; for [`Software::THIS`], at compile time.
    pub const fn new(version: &str) -> Self {
        let (bytes, mut field) = (version.as_bytes(), [0; SOFTWARE_FIELD_BYTES]);
        assert!(bytes.len() <= SOFTWARE_FIELD_BYTES, "the version is longer than its field");
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at].is_ascii_graphic(), "the version is not a word");
            field[at] = bytes[at];
            at += 1;
        }
        Self(field)
    }

    /// The field's bytes.
    pub fn to_bytes(self) -> [u8; SOFTWARE_FIELD_BYTES] {
        self.0
    }

    /// Reads the field.
    ///
    /// # Errors
    /// When it is not a word followed by zeros.
    pub fn read(r: &mut Reader<'_>) -> Result<Self> {
        const WHAT: &str = "software version";
        let mut field = [0; SOFTWARE_FIELD_BYTES];
        field.copy_from_slice(r.take(SOFTWARE_FIELD_BYTES, WHAT)?);
        let length = field.iter().position(|byte| *byte == 0).unwrap_or(SOFTWARE_FIELD_BYTES);
        let (word, rest) = field.split_at(length);
        let illegal = word.iter().find(|byte| !byte.is_ascii_graphic());
        match illegal.or(rest.iter().find(|byte| **byte != 0)) {
            None => Ok(Self(field)),
            Some(byte) => Err(DecodeError::Invalid { what: WHAT, value: i128::from(*byte) }),
        }
    }
}

impl fmt::Display for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        f.write_str(std::str::from_utf8(word).unwrap_or_default())
    }
}

impl fmt::Debug for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Software({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_one_encoding_and_comes_back() {
        for version in ["", "1.2.3", "1.2.3-rc.1+0123456789abc"] {
            let software = Software::new(version);
            assert_eq!(Software::read(&mut Reader::new(&software.to_bytes())), Ok(software));
            assert_eq!(software.to_string(), version);
        }
        for illegal in [&b"1.2\0.3"[..], b"1 2", b"1.2\n", &[0xc3, 0xa4]] {
            let mut field = [0; SOFTWARE_FIELD_BYTES];
            field[..illegal.len()].copy_from_slice(illegal);
            assert!(Software::read(&mut Reader::new(&field)).is_err(), "{illegal:02x?}");
        }
    }
}
