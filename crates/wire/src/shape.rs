//! Where every request has its counts, and the check that each of them is true.
//!
//! `kafka-protocol` reserves memory by the counts in a request: five bytes can ask it for 309 GB.
//! And a decoded list takes far more memory than its bytes: a topic name of two bytes becomes a
//! structure of a hundred. So before a body is decoded it is walked once, without keeping anything:
//! every count is followed to its last element, and the elements of all lists together are bounded
//! by [`REQUEST_ELEMENTS_MAX`]. No string is longer than [`TEXT_BYTES_MAX`]. A body that passes
//! holds no lie about a length; the decoder still judges everything else (nulls where none may be).
//!
//! The decoder takes UTF-8 only, and clients send other text: a group id in Latin-1 is as old as
//! Kafka. The walk reports such a string, and [`Shape::with_valid_text`] replaces what is malformed in
//! it, as Kafka does.
//!
//! The walk needs the shape of every request in every version: the table of [`requests`], in the
//! order of Kafka's message definitions. Tests hold it against `kafka-protocol`: what one reads to
//! the end, the other does too.

#[cfg(any(test, feature = "testing"))]
mod example;
pub mod requests;
mod text;

use bytes::Buf;

use crate::limits::{REQUEST_ELEMENTS_MAX, TEXT_BYTES_MAX};
use crate::request::{RequestError, take_unsigned_varint};

/// A structure: fields one after the other and, in flexible versions, tagged fields behind them.
#[derive(Debug)]
pub struct Shape {
    fields: &'static [Field],
    /// Tagged fields that are defined. Others are skipped by the size that stands before them.
    tags: &'static [(u32, Field)],
}

/// A field and the versions that have it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    kind: Kind,
    from: i16,
    to: i16,
}

/// The encoding of a field on the wire.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A number, a truth value, an id: so many bytes.
    Fixed(usize),
    /// A string, null or not.
    Text,
    /// Bytes, null or not.
    Bytes,
    /// A list of structures, null or not.
    List(&'static Shape),
    /// A list of values of so many bytes.
    FixedList(usize),
    /// A list of strings.
    TextList,
    /// A structure inside another.
    Inner(&'static Shape),
}

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }
}

impl Kind {
    /// In all versions.
    const fn always(self) -> Field {
        Field { kind: self, from: 0, to: i16::MAX }
    }

    const fn since(self, from: i16) -> Field {
        Field { kind: self, from, to: i16::MAX }
    }

    const fn until(self, to: i16) -> Field {
        Field { kind: self, from: 0, to }
    }

    const fn within(self, from: i16, to: i16) -> Field {
        Field { kind: self, from, to }
    }
}

impl Shape {
    const fn of(fields: &'static [Field]) -> Self {
        Self { fields, tags: &[] }
    }

    const fn with_tags(self, tags: &'static [(u32, Field)]) -> Self {
        Self { tags, ..self }
    }

    /// Walks a whole body. Bytes behind the last field are left alone.
    pub fn check(
        &self,
        body: &[u8],
        version: i16,
        flexible: bool,
    ) -> Result<Checked, RequestError> {
        let mut walk = Walk::new(body, version, flexible);
        walk.structure(self)?;
        Ok(walk.checked)
    }
}

/// What a walk found in a body that it followed to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Elements of all lists and tagged fields together.
    pub elements: usize,
    /// Whether a string is not UTF-8: see [`Shape::with_valid_text`].
    pub has_malformed_text: bool,
}

/// A walk over a body, field by field in the order of its shape. The two that there are differ in
/// their treatment of the bytes: [`Walk`] judges them, [`text::Rewrite`] copies them.
trait Follow {
    /// Whether this body has the field; its version decides.
    fn has(&self, field: &Field) -> bool;
    fn is_flexible(&self) -> bool;
    /// Passes over bytes without a structure.
    fn pass(&mut self, bytes: usize) -> Result<(), RequestError>;
    fn text(&mut self) -> Result<(), RequestError>;
    /// The length of bytes; none is 0.
    fn length(&mut self) -> Result<usize, RequestError>;
    /// The count of a list; none is 0.
    fn count(&mut self) -> Result<usize, RequestError>;
    fn tags(&mut self, defined: &[(u32, Field)]) -> Result<(), RequestError>;

    fn structure(&mut self, shape: &Shape) -> Result<(), RequestError> {
        for field in shape.fields {
            if self.has(field) {
                self.value(field.kind)?;
            }
        }
        if self.is_flexible() { self.tags(shape.tags) } else { Ok(()) }
    }

    fn value(&mut self, kind: Kind) -> Result<(), RequestError> {
        match kind {
            Kind::Fixed(bytes) => self.pass(bytes),
            Kind::Text => self.text(),
            Kind::Bytes => {
                let bytes = self.length()?;
                self.pass(bytes)
            }
            Kind::List(shape) => (0..self.count()?).try_for_each(|_| self.structure(shape)),
            Kind::TextList => (0..self.count()?).try_for_each(|_| self.text()),
            Kind::FixedList(bytes) => {
                let count = self.count()?;
                self.pass(count.saturating_mul(bytes))
            }
            Kind::Inner(shape) => self.structure(shape),
        }
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    checked: Checked,
}

impl<'a> Walk<'a> {
    fn new(body: &'a [u8], version: i16, flexible: bool) -> Self {
        Self { rest: body, version, flexible, checked: Checked::default() }
    }

    /// Takes `count` elements into account. Each has at least one byte, so a larger count than
    /// bytes is a lie; it is told apart from a request that is merely too large.
    fn counted(&mut self, count: u64) -> Result<usize, RequestError> {
        let bytes = self.rest.len();
        if count > bytes as u64 {
            return Err(RequestError::Count { count, bytes });
        }
        self.checked.elements += count as usize;
        if self.checked.elements > REQUEST_ELEMENTS_MAX {
            return Err(RequestError::TooManyElements);
        }
        Ok(count as usize)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], RequestError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(RequestError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl Follow for Walk<'_> {
    fn has(&self, field: &Field) -> bool {
        field.is_in(self.version)
    }

    fn is_flexible(&self) -> bool {
        self.flexible
    }

    fn pass(&mut self, bytes: usize) -> Result<(), RequestError> {
        self.take(bytes).map(|_| ())
    }

    fn tags(&mut self, defined: &[(u32, Field)]) -> Result<(), RequestError> {
        let count = u64::from(take_unsigned_varint(&mut self.rest)?);
        for _ in 0..self.counted(count)? {
            let tag = take_unsigned_varint(&mut self.rest)?;
            let size = take_unsigned_varint(&mut self.rest)? as usize;
            let (content, behind) =
                self.rest.split_at_checked(size).ok_or(RequestError::Truncated)?;
            if let Some((_, field)) = defined.iter().find(|(number, _)| *number == tag) {
                // A decoder reads the field and does not look at its size: both must agree, or it
                // would go on at another place than this walk.
                self.rest = content;
                self.value(field.kind)?;
                if !self.rest.is_empty() {
                    return Err(RequestError::TagSize { tag, bytes: size });
                }
            }
            self.rest = behind;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), RequestError> {
        let bytes = if self.flexible {
            self.length()?
        } else {
            let length = self.rest.try_get_i16().map_err(|_| RequestError::Truncated)?;
            usize::try_from(length).unwrap_or(0)
        };
        if bytes > TEXT_BYTES_MAX {
            return Err(RequestError::TextLength { bytes });
        }
        let text = self.take(bytes)?;
        if !self.checked.has_malformed_text {
            self.checked.has_malformed_text = std::str::from_utf8(text).is_err();
        }
        Ok(())
    }

    fn length(&mut self) -> Result<usize, RequestError> {
        if self.flexible {
            Ok(take_unsigned_varint(&mut self.rest)?.saturating_sub(1) as usize)
        } else {
            let length = self.rest.try_get_i32().map_err(|_| RequestError::Truncated)?;
            Ok(usize::try_from(length).unwrap_or(0))
        }
    }

    fn count(&mut self) -> Result<usize, RequestError> {
        let count = self.length()? as u64;
        self.counted(count)
    }
}

#[cfg(test)]
mod tests;
