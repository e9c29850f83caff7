//! Bodies with strings that are not UTF-8, made readable.

use bytes::{Buf, BufMut};

use super::{Field, Follow, Shape};
use crate::limits::TEXT_BYTES_MAX;
use crate::request::{RequestError, take_unsigned_varint};

impl Shape {
    /// A body that passed [`Shape::check`], with U+FFFD in the place of everything in its strings that
    /// is not UTF-8, as Kafka reads them. It has at most three times as many bytes. A string that
    /// grows beyond [`TEXT_BYTES_MAX`] is refused; so is a body whose counts exceed its bytes.
    pub fn with_valid_text(
        &self,
        body: &[u8],
        version: i16,
        flexible: bool,
    ) -> Result<Vec<u8>, RequestError> {
        let out = Vec::with_capacity(body.len());
        let mut rewrite = Rewrite { rest: body, out, version, flexible };
        rewrite.structure(self)?;
        rewrite.pass(rewrite.rest.len())?;
        Ok(rewrite.out)
    }
}

/// Copies a body field by field. Lengths and counts are written as they are read: with the fewest
/// bytes, which need not be those that the sender wrote.
pub(super) struct Rewrite<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    version: i16,
    flexible: bool,
}

impl Follow for Rewrite<'_> {
    fn has(&self, field: &Field) -> bool {
        field.is_in(self.version)
    }

    fn is_flexible(&self) -> bool {
        self.flexible
    }

    fn tags(&mut self, defined: &[(u32, Field)]) -> Result<(), RequestError> {
        let count = take_unsigned_varint(&mut self.rest)?;
        put_unsigned_varint(&mut self.out, count);
        for _ in 0..count {
            let tag = take_unsigned_varint(&mut self.rest)?;
            let size = take_unsigned_varint(&mut self.rest)? as usize;
            let (content, behind) =
                self.rest.split_at_checked(size).ok_or(RequestError::Truncated)?;
            // The size stands before the content, which may grow: it is written behind it first.
            let before = std::mem::take(&mut self.out);
            self.rest = content;
            match defined.iter().find(|(number, _)| *number == tag) {
                Some((_, field)) => self.value(field.kind)?,
                None => self.pass(size)?,
            }
            let content = std::mem::replace(&mut self.out, before);
            put_unsigned_varint(&mut self.out, tag);
            put_unsigned_varint(&mut self.out, content.len() as u32);
            self.out.extend(content);
            self.rest = behind;
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), RequestError> {
        // Null and empty have different lengths and no bytes.
        let length = if self.flexible {
            i64::from(take_unsigned_varint(&mut self.rest)?) - 1
        } else {
            i64::from(self.rest.try_get_i16().map_err(|_| RequestError::Truncated)?)
        };
        let bytes = usize::try_from(length).unwrap_or(0);
        let (text, rest) = self.rest.split_at_checked(bytes).ok_or(RequestError::Truncated)?;
        self.rest = rest;
        let text = String::from_utf8_lossy(text);
        if text.len() > TEXT_BYTES_MAX {
            return Err(RequestError::TextLength { bytes: text.len() });
        }
        let length = if length < 0 { length } else { text.len() as i64 };
        if self.flexible {
            put_unsigned_varint(&mut self.out, (length + 1) as u32);
        } else {
            self.out.put_i16(length as i16);
        }
        self.out.extend(text.as_bytes());
        Ok(())
    }

    fn count(&mut self) -> Result<usize, RequestError> {
        let count = self.length()?;
        let bytes = self.rest.len();
        if count > bytes {
            return Err(RequestError::Count { count: count as u64, bytes });
        }
        Ok(count)
    }

    fn length(&mut self) -> Result<usize, RequestError> {
        if self.flexible {
            let length = take_unsigned_varint(&mut self.rest)?;
            put_unsigned_varint(&mut self.out, length);
            Ok(length.saturating_sub(1) as usize)
        } else {
            let length = self.rest.try_get_i32().map_err(|_| RequestError::Truncated)?;
            self.out.put_i32(length);
            Ok(usize::try_from(length).unwrap_or(0))
        }
    }

    fn pass(&mut self, bytes: usize) -> Result<(), RequestError> {
        let (copied, rest) = self.rest.split_at_checked(bytes).ok_or(RequestError::Truncated)?;
        self.out.extend(copied);
        self.rest = rest;
        Ok(())
    }
}

fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
