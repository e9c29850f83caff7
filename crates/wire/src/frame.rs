//! Frames: a four-byte length and as many bytes, read from anybody.
//!
//! The length is checked before anything else is read. The buffer grows only when it is full of
//! bytes that came, by at most as much as came already (and at least one step), so that memory
//! follows what was received and never what was claimed. A small frame is cut out of the
//! connection's read-ahead; a large one gets an allocation of its own and nothing behind it is
//! read, so that the records inside are slices of it, with no further copy, and keep nothing else
//! in memory.
//!
//! The API key, the first field of every request, is shown before the rest is read: whether to
//! wait for memory, and for which, depends on it.

use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::limits::{FRAME_BYTES_MAX, FRAME_GROWTH_BYTES, READ_AHEAD_BYTES, REQUEST_HEAD_BYTES};

/// Length of the length field.
const LENGTH_BYTES: usize = 4;

/// Why no frame could be read. All of them end the connection.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// A length that no request has: negative, too short for a request header, or too long.
    #[error("a frame of {0} bytes: allowed are {REQUEST_HEAD_BYTES} to {FRAME_BYTES_MAX}")]
    Length(i32),
    /// The peer closed within a frame.
    #[error("the connection ended within a frame")]
    CutOff,
    /// The peer stopped sending within a frame.
    #[error("no byte of a frame came for {0:?}")]
    Stalled(Duration),
    /// The peer sends too slowly.
    #[error("a frame did not come whole in the time it has")]
    TooSlow,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the first bytes of a frame say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// Length of the frame without its length field; within the limits.
    pub length: usize,
    /// The request's API key.
    pub api_key: i16,
}

/// Reads frames from a socket.
#[derive(Debug)]
pub struct FrameReader<R> {
    io: R,
    buffer: BytesMut,
    /// Whether the buffer was made for the frame that is being read, and holds nothing else.
    own_allocation: bool,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `io`.
    pub fn new(io: R) -> Self {
        Self { io, buffer: BytesMut::new(), own_allocation: false }
    }

    /// Waits for the next frame and looks at its first bytes; `None` when the peer closed between
    /// two frames. Cancel safe. The caller sets the deadline: a connection may be idle for long.
    pub async fn head(&mut self) -> Result<Option<FrameHead>, FrameError> {
        loop {
            if let Some(head) = self.buffered_head()? {
                return Ok(Some(head));
            }
            if self.buffer.capacity() - self.buffer.len() < LENGTH_BYTES + REQUEST_HEAD_BYTES {
                self.buffer.reserve(READ_AHEAD_BYTES);
            }
            if self.io.read_buf(&mut self.buffer).await? == 0 {
                let between_frames = self.buffer.is_empty();
                return if between_frames { Ok(None) } else { Err(FrameError::CutOff) };
            }
        }
    }

    fn buffered_head(&self) -> Result<Option<FrameHead>, FrameError> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let claimed = i32::from_be_bytes(*length);
        let length = usize::try_from(claimed)
            .ok()
            .filter(|length| (REQUEST_HEAD_BYTES..=FRAME_BYTES_MAX).contains(length))
            .ok_or(FrameError::Length(claimed))?;
        Ok(rest.first_chunk().map(|key| FrameHead { length, api_key: i16::from_be_bytes(*key) }))
    }

    /// Whether bytes were read that no frame has taken yet.
    pub fn has_read_on(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// How many bytes of the frame that `head` announced are here.
    pub fn received(&self, head: FrameHead) -> usize {
        self.buffer.len().saturating_sub(LENGTH_BYTES).min(head.length)
    }

    /// Reads on until `upto` bytes of the frame are here, which are at most the whole. Cancel safe. The
    /// caller sets the deadlines ([`FrameError::Stalled`], [`FrameError::TooSlow`]).
    pub async fn fill(&mut self, head: FrameHead, upto: usize) -> Result<(), FrameError> {
        let whole = LENGTH_BYTES + head.length;
        let wanted = LENGTH_BYTES + upto.min(head.length);
        while self.buffer.len() < wanted {
            let missing = wanted - self.buffer.len();
            if self.buffer.capacity() == self.buffer.len() {
                self.grow(whole);
                self.own_allocation = true;
            }
            let mut exactly = (&mut self.buffer).limit(missing);
            if self.io.read_buf(&mut exactly).await? == 0 {
                return Err(FrameError::CutOff);
            }
        }
        Ok(())
    }

    /// Takes the frame, all of which must be here, without its length field.
    pub fn take(&mut self, head: FrameHead) -> Bytes {
        // An allocation that was made for the frame goes with it: what is left of it here would
        // keep all of it in memory for as long as the connection is idle.
        let frame = if std::mem::take(&mut self.own_allocation) {
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(LENGTH_BYTES + head.length)
        };
        frame.freeze().split_off(LENGTH_BYTES)
    }

    /// What is read from.
    pub fn get_ref(&self) -> &R {
        &self.io
    }

    /// Moves the first bytes of a frame of `whole` bytes to a larger allocation, never larger than
    /// the frame. (`reserve` would double what it has.)
    fn grow(&mut self, whole: usize) {
        let step = self.buffer.len().max(FRAME_GROWTH_BYTES);
        let mut grown = BytesMut::with_capacity(whole.min(self.buffer.len() + step));
        grown.extend_from_slice(&self.buffer);
        self.buffer = grown;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl<R: AsyncRead + Unpin> FrameReader<R> {
        async fn body(&mut self, head: FrameHead) -> Result<Bytes, FrameError> {
            // In two steps, as a connection that waits for memory does.
            self.fill(head, head.length / 2).await?;
            self.fill(head, head.length).await?;
            assert_eq!(self.received(head), head.length);
            Ok(self.take(head))
        }
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes(), body].concat()
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let small: Vec<u8> = (0..40).collect();
        let large: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
        let stream = [framed(&small), framed(&large), framed(&small)].concat();
        for chunk in [1_000, 7_777, 1 << 20] {
            let mut mock = tokio_test_reader(&stream, chunk);
            for expected in [&small, &large, &small] {
                let head = mock.head().await.unwrap().unwrap();
                assert_eq!(head.length, expected.len());
                assert_eq!(mock.body(head).await.unwrap(), expected[..]);
            }
            assert_eq!(mock.head().await.unwrap(), None);
        }
    }

    fn tokio_test_reader(stream: &[u8], chunk: usize) -> FrameReader<ChunkReader<'_>> {
        FrameReader::new(ChunkReader { rest: stream, chunk })
    }

    /// Gives at most `chunk` bytes at a time.
    struct ChunkReader<'a> {
        rest: &'a [u8],
        chunk: usize,
    }

    impl AsyncRead for ChunkReader<'_> {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            let n = self.rest.len().min(self.chunk).min(buf.remaining());
            let (now, later) = self.rest.split_at(n);
            buf.put_slice(now);
            self.rest = later;
            std::task::Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_before_anything_is_reserved() {
        for length in [-1, 0, 7, FRAME_BYTES_MAX as i32 + 1, i32::MAX, i32::MIN] {
            let stream = [&length.to_be_bytes()[..], &[0; 8]].concat();
            let mut reader = FrameReader::new(&stream[..]);
            assert!(matches!(reader.head().await, Err(FrameError::Length(l)) if l == length));
            assert!(reader.buffer.capacity() <= 2 * READ_AHEAD_BYTES);
        }
        // An HTTP request and a TLS hello read as lengths far too long.
        for not_kafka in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1]] {
            let mut reader = FrameReader::new(not_kafka);
            assert!(matches!(reader.head().await, Err(FrameError::Length(_))));
        }
    }

    #[tokio::test]
    async fn memory_follows_what_came_and_not_what_was_claimed() {
        let mut stream = (FRAME_BYTES_MAX as i32).to_be_bytes().to_vec();
        stream.resize(10_000, 0);
        let mut reader = FrameReader::new(&stream[..]);
        let head = reader.head().await.unwrap().unwrap();
        assert_eq!(head.length, FRAME_BYTES_MAX);
        assert!(matches!(reader.body(head).await, Err(FrameError::CutOff)));
        assert!(reader.buffer.capacity() <= stream.len() + 2 * FRAME_GROWTH_BYTES);
    }

    #[tokio::test]
    async fn a_large_frame_takes_no_more_memory_than_it_has_bytes_and_leaves_none_behind() {
        for length in [70_000, 300_000, 1_050_000, 3_000_001] {
            let stream = framed(&vec![7; length]);
            for chunk in [1_000, 60_000, 1 << 20] {
                let mut reader = tokio_test_reader(&stream, chunk);
                let head = reader.head().await.unwrap().unwrap();
                let frame = reader.body(head).await.unwrap();
                assert_eq!(reader.buffer.capacity(), 0, "the connection holds on to the frame");
                let frame = frame.try_into_mut().map_err(|_| "somebody else holds it").unwrap();
                assert!(frame.capacity() <= length + 64, "{} for {length}", frame.capacity());
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(stream in proptest::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build().unwrap();
            runtime.block_on(async {
                let mut reader = FrameReader::new(&stream[..]);
                while let Ok(Some(head)) = reader.head().await {
                    if reader.body(head).await.is_err() { break }
                }
            });
        }
    }
}
