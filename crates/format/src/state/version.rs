//! Versions of stored values.
//!
//! Every value of a record begins with one byte: the version of its encoding. Each kind of value has
//! versions of its own, and [`crate::feature_level`] says which level each of them needs.
//!
//! ```text
//! value   version u8 · body
//! chunk   version u8 · list of body    (one version for all: the highest that one of them needs)
//! ```
//!
//! A value is written in the lowest version that can express it, and read in no other: the same value
//! has one encoding, whichever version of Ottla writes it. A chunk is the only place where an entry
//! stands in a higher version than it needs, because another one in it needs that.
//!
//! The state digest is taken over single entries as [`put_value`] writes them: each in its own lowest
//! version. So it does not depend on what stands beside an entry in a chunk, on how old its record is,
//! or on what wrote it.

use crate::codec::{DecodeError, Reader, Result, put_varint};

/// A value that is stored, with the versions of its encoding.
pub trait StoredValue: Sized {
    /// The lowest version that can express this value: 1 or more.
    fn version(&self) -> u8 {
        1
    }

    /// Appends the body in this version, which is not lower than [`StoredValue::version`].
    fn put_body(&self, version: u8, out: &mut Vec<u8>);

    /// Reads a body in this version, which is known.
    ///
    /// # Errors
    /// When the bytes are no such body.
    fn read_body(version: u8, r: &mut Reader<'_>) -> Result<Self>;
}

/// Appends a value in its lowest version: a record's value, and what the digest is taken over.
pub fn put_value(out: &mut Vec<u8>, value: &impl StoredValue) {
    let version = value.version();
    out.push(version);
    value.put_body(version, out);
}

/// Appends the values of a chunk in the lowest version that can express all of them. `between` appends
/// what stands before each body.
pub fn put_chunk<'a, V: StoredValue + 'a, T>(
    out: &mut Vec<u8>,
    items: &'a [T],
    value_of: impl Fn(&'a T) -> &'a V,
    between: impl Fn(&'a T, &mut Vec<u8>),
) {
    let version = chunk_version(items.iter().map(&value_of));
    out.push(version);
    put_varint(out, items.len() as u64);
    for item in items {
        between(item, out);
        value_of(item).put_body(version, out);
    }
}

/// The lowest version that can express all of these; 1 when there is none.
pub fn chunk_version<'a, V: StoredValue + 'a>(values: impl Iterator<Item = &'a V>) -> u8 {
    values.map(StoredValue::version).max().unwrap_or(1)
}

/// Refuses a value that was read in another version than the one it is written in.
pub fn check_lowest(read: u8, lowest: u8) -> Result<()> {
    if read == lowest {
        return Ok(());
    }
    let (what, value) = ("version of a value that a lower one can express", i128::from(read));
    Err(DecodeError::Invalid { what, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kind of value to which version 2 added something.
    #[derive(Clone, Debug, PartialEq)]
    struct Sample {
        number: u64,
        /// Absent in version 1.
        more: u64,
    }

    impl StoredValue for Sample {
        fn version(&self) -> u8 {
            if self.more == 0 { 1 } else { 2 }
        }

        fn put_body(&self, version: u8, out: &mut Vec<u8>) {
            put_varint(out, self.number);
            if version >= 2 {
                put_varint(out, self.more);
            }
        }

        fn read_body(version: u8, r: &mut Reader<'_>) -> Result<Self> {
            let number = r.varint("number")?;
            Ok(Self { number, more: if version >= 2 { r.varint("more")? } else { 0 } })
        }
    }

    fn value(sample: &Sample) -> Vec<u8> {
        let mut out = Vec::new();
        put_value(&mut out, sample);
        out
    }

    fn chunk(samples: &[Sample]) -> Vec<u8> {
        let mut out = Vec::new();
        put_chunk(&mut out, samples, |sample| sample, |_, _| {});
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Sample>> {
        let mut r = Reader::new(bytes);
        let version = r.u8("version")?;
        let count = r.count(1, "count")?;
        let samples: Vec<Sample> =
            (0..count).map(|_| Sample::read_body(version, &mut r)).collect::<Result<_>>()?;
        r.finish("chunk")?;
        check_lowest(version, chunk_version(samples.iter()))?;
        Ok(samples)
    }

    const OLD: Sample = Sample { number: 300, more: 0 };
    const NEW: Sample = Sample { number: 300, more: 7 };

    #[test]
    fn a_value_is_written_in_the_lowest_version_that_can_express_it() {
        assert_eq!((value(&OLD)[0], value(&NEW)[0]), (1, 2));
        assert_eq!((chunk(&[OLD, OLD])[0], chunk(&[OLD, NEW])[0]), (1, 2));
    }

    /// The bytes that are digested do not show which version their record had.
    #[test]
    fn an_entry_has_the_same_bytes_alone_whatever_stood_beside_it() {
        let (of_old, of_new) = (read(&chunk(&[OLD])).unwrap(), read(&chunk(&[OLD, NEW])).unwrap());
        assert_eq!(of_old[0], of_new[0]);
        assert_eq!(value(&of_old[0]), value(&of_new[0]));
        assert_ne!(value(&OLD), value(&NEW));
    }

    #[test]
    fn a_value_in_a_higher_version_than_it_needs_is_refused() {
        let mut raised = vec![2, 1];
        OLD.put_body(2, &mut raised);
        let error = read(&raised).unwrap_err();
        assert!(matches!(error, DecodeError::Invalid { value: 2, .. }), "{error}");
    }
}
