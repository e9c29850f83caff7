//! Request headers.
//!
//! The header is read by hand, in two steps: key, version and correlation id have the same place
//! in every request ever, so that even one that cannot be served can be named in the log, or be
//! answered when it is ApiVersions.

use bytes::{Buf, Bytes};

use crate::limits::{REQUEST_ELEMENTS_MAX, TEXT_BYTES_MAX};

/// What is wrong with a request. It ends the connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The bytes end before the header does.
    #[error("the request ends within its header")]
    Truncated,
    /// A string that is longer than Kafka's may be.
    #[error("a string of {bytes} bytes: at most {TEXT_BYTES_MAX} are allowed")]
    TextLength {
        /// Its length, claimed or as UTF-8.
        bytes: usize,
    },
    /// A count of elements that the bytes cannot hold.
    #[error("{count} elements are claimed in {bytes} bytes")]
    Count {
        /// The claimed count.
        count: u64,
        /// Bytes there are.
        bytes: usize,
    },
    /// More elements than any client sends.
    #[error("the lists of the request have more than {REQUEST_ELEMENTS_MAX} elements")]
    TooManyElements,
    /// A tagged field that is not as long as it says.
    #[error("tagged field {tag} does not have the {bytes} bytes it claims")]
    TagSize {
        /// Its number.
        tag: u32,
        /// The claimed size.
        bytes: usize,
    },
}

/// The part of a request header that never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Which API.
    pub api_key: i16,
    /// In which version.
    pub version: i16,
    /// Comes back in the answer.
    pub correlation_id: i32,
}

impl RequestHead {
    /// Takes the head off a frame.
    pub fn take(frame: &mut Bytes) -> Result<Self, RequestError> {
        let mut next = |bytes: usize| {
            (frame.remaining() >= bytes).then_some(()).ok_or(RequestError::Truncated)?;
            Ok(frame.split_to(bytes))
        };
        Ok(Self {
            api_key: next(2)?.get_i16(),
            version: next(2)?.get_i16(),
            correlation_id: next(4)?.get_i32(),
        })
    }
}

/// Takes the rest of the header off a frame and returns the client id as sent, which need not be
/// UTF-8. Its length field has two bytes, so it is never longer than [`TEXT_BYTES_MAX`]. `flexible`:
/// whether the request has header version 2, with tagged fields (which are skipped; none is defined).
pub fn take_client_id(frame: &mut Bytes, flexible: bool) -> Result<Option<Bytes>, RequestError> {
    let length = frame.try_get_i16().map_err(|_| RequestError::Truncated)?;
    let client_id = match usize::try_from(length) {
        // Kafka takes only −1 for "none"; any other negative length has no meaning either.
        Err(_) => None,
        Ok(length) if length > frame.len() => return Err(RequestError::Truncated),
        Ok(length) => Some(frame.split_to(length)),
    };
    if flexible {
        // Every field takes at least two bytes, so the loop ends with the frame at the latest.
        for _ in 0..take_unsigned_varint(frame)? {
            take_unsigned_varint(frame)?;
            let size = take_unsigned_varint(frame)? as usize;
            if size > frame.len() {
                return Err(RequestError::Truncated);
            }
            frame.advance(size);
        }
    }
    Ok(client_id)
}

pub(crate) fn take_unsigned_varint(bytes: &mut impl Buf) -> Result<u32, RequestError> {
    let mut value = 0u32;
    for i in 0..5 {
        let byte = bytes.try_get_u8().map_err(|_| RequestError::Truncated)?;
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(RequestError::Truncated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_header_versions_are_read() {
        let mut plain = Bytes::from_static(b"\x00\x03\x00\x04\x00\x00\x00\x07\x00\x02mebody");
        let head = RequestHead::take(&mut plain).unwrap();
        assert_eq!(head, RequestHead { api_key: 3, version: 4, correlation_id: 7 });
        let client_id = take_client_id(&mut plain, false).unwrap();
        assert_eq!(client_id.unwrap(), b"me"[..]);
        assert_eq!(plain, b"body"[..]);

        let mut tagged = Bytes::from_static(b"\xff\xff\x01\x05\x03abcbody");
        assert_eq!(take_client_id(&mut tagged, true).unwrap(), None);
        assert_eq!(tagged, b"body"[..]);
    }

    #[test]
    fn headers_that_end_early_or_lie_are_refused() {
        assert!(RequestHead::take(&mut Bytes::from_static(&[0, 3, 0])).is_err());
        let refused = |bytes: &'static [u8]| {
            take_client_id(&mut Bytes::from_static(bytes), true).unwrap_err()
        };
        assert_eq!(refused(b"\x00\x09me"), RequestError::Truncated);
        assert_eq!(refused(b"\xff\xff\xff\xff\xff\xff\x0f"), RequestError::Truncated);
        assert_eq!(refused(b"\xff\xff\x01\x00\x7f"), RequestError::Truncated);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..60), flexible: bool,
        ) {
            let mut frame = Bytes::from(bytes);
            let _ = RequestHead::take(&mut frame);
            let _ = take_client_id(&mut frame, flexible);
        }
    }
}
