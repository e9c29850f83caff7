//! A Kafka client that does exactly what it is told: requests of chosen versions, pipelined, half
//! written, malformed.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, MetadataRequest, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use ottla_wire::apis::Api;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// No answer takes longer than this, unless a test says otherwise.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Versions that tests speak where a test is not about versions.
pub mod version {
    /// By topic name, flexible encoding.
    pub const PRODUCE: i16 = 9;
    /// By topic name, flexible encoding.
    pub const FETCH: i16 = 12;
    /// With topic ids.
    pub const METADATA: i16 = 12;
    /// With topic ids in the answer.
    pub const CREATE_TOPICS: i16 = 7;
    /// Flexible encoding.
    pub const INIT_PRODUCER_ID: i16 = 4;
    /// One group per request.
    pub const FIND_COORDINATOR: i16 = 3;
    /// Flexible encoding.
    pub const LIST_OFFSETS: i16 = 7;
    /// Flexible encoding.
    pub const OFFSET_COMMIT: i16 = 8;
    /// One group per request.
    pub const OFFSET_FETCH: i16 = 7;
    /// Flexible encoding.
    pub const JOIN_GROUP: i16 = 7;
    /// Flexible encoding.
    pub const SYNC_GROUP: i16 = 5;
    /// Flexible encoding.
    pub const HEARTBEAT: i16 = 4;
    /// Several members per request.
    pub const LEAVE_GROUP: i16 = 4;
    /// By topic name.
    pub const DELETE_TOPICS: i16 = 5;
}

/// One connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    frames: Frames,
    /// Correlation id, API key and version of the requests not answered yet.
    waiting: VecDeque<(i32, i16, i16)>,
    patience: Duration,
}

impl RawClient {
    /// Connects.
    pub async fn connect(bootstrap: &str) -> Result<Self> {
        let stream = TcpStream::connect(bootstrap).await?;
        stream.set_nodelay(true)?;
        let frames = Frames::default();
        Ok(Self { stream, frames, waiting: VecDeque::new(), patience: ANSWER_WITHIN })
    }

    /// Connects from one of the machine's loopback addresses (127.0.0.2, …): another client to a
    /// server that tells clients apart by address.
    pub async fn connect_from(from: std::net::Ipv4Addr, bootstrap: &str) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let stream = socket.connect(bootstrap.parse()?).await?;
        stream.set_nodelay(true)?;
        let frames = Frames::default();
        Ok(Self { stream, frames, waiting: VecDeque::new(), patience: ANSWER_WITHIN })
    }

    /// Ends the connection with a reset, which leaves nothing behind in the system.
    pub fn reset(self) -> Result<()> {
        Ok(self.stream.set_zero_linger()?)
    }

    /// Sends no more; what comes can still be read.
    pub async fn close_sending(&mut self) -> Result<()> {
        self.stream.shutdown().await.context("close the sending side")
    }

    /// Waits for so long for each answer.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Writes a request; does not wait for its answer.
    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<()> {
        let frame = self.frame(version, request)?;
        self.waiting.push_back((self.frames.last, R::KEY, version));
        self.stream.write_all(&frame).await.context("write a request")
    }

    /// Writes a request that is never answered (produce with acks=0).
    pub async fn send_unanswered<R: Request>(&mut self, version: i16, request: &R) -> Result<()> {
        let frame = self.frame(version, request)?;
        self.stream.write_all(&frame).await.context("write a request")
    }

    /// Encodes a request with its length, header and a fresh correlation id.
    pub fn frame<R: Request>(&mut self, version: i16, request: &R) -> Result<Bytes> {
        self.frames.frame(version, request)
    }

    /// Writes bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await.context("write bytes")
    }

    /// The answer of the oldest request that has none yet.
    pub async fn receive<R: Request>(&mut self) -> Result<R::Response> {
        let (correlation, key, version) = self.waiting.pop_front().context("nothing is awaited")?;
        ensure!(key == R::KEY, "the next answer is for API key {key}, not {}", R::KEY);
        let mut frame = self.receive_frame().await?;
        let api = ApiKey::try_from(key).ok().context("unknown API key")?;
        let header = ResponseHeader::decode(&mut frame, api.response_header_version(version))?;
        ensure!(
            header.correlation_id == correlation,
            "answer {} where {correlation} was due",
            header.correlation_id
        );
        let answer = R::Response::decode(&mut frame, version)?;
        ensure!(!frame.has_remaining(), "{} bytes after the answer", frame.remaining());
        Ok(answer)
    }

    /// The next frame, without its length.
    pub async fn receive_frame(&mut self) -> Result<Bytes> {
        timeout(self.patience, async {
            let length = self.stream.read_u32().await.context("read an answer's length")?;
            let mut frame = BytesMut::zeroed(length as usize);
            self.stream.read_exact(&mut frame).await.context("read an answer")?;
            Ok(frame.freeze())
        })
        .await
        .context("no answer")?
    }

    /// Sends a request and waits for its answer.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.send(version, request).await?;
        self.receive::<R>().await
    }

    /// Succeeds when the server closes the connection without another byte.
    pub async fn expect_close(&mut self) -> Result<()> {
        let mut byte = [0; 1];
        match timeout(ANSWER_WITHIN, self.stream.read(&mut byte)).await.context("not closed")? {
            Ok(0) => Ok(()),
            Ok(_) => bail!("the server answered"),
            // A reset: the server closed while bytes of ours were unread.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How many brokers the cluster has.
    pub async fn brokers(&mut self) -> Result<usize> {
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        Ok(self.call(version::METADATA, &request).await?.brokers.len())
    }
}

/// Encodes requests, each with a correlation id of its own.
#[derive(Debug, Default)]
pub struct Frames {
    /// The correlation id of the last one.
    last: i32,
}

impl Frames {
    /// A request with its length and header.
    pub fn frame<R: Request>(&mut self, version: i16, request: &R) -> Result<Bytes> {
        self.last += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.last)
            .with_client_id(Some(StrBytes::from_static_str("ottla-tests")));
        let mut body = BytesMut::new();
        header.encode(&mut body, R::header_version(version))?;
        request.encode(&mut body, version)?;
        let mut frame = BytesMut::with_capacity(body.len() + 4);
        frame.put_u32(u32::try_from(body.len())?);
        frame.put(body);
        Ok(frame.freeze())
    }
}

/// The frame of a request without a client id: header, then `body`.
pub fn request_frame(api: &Api, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend((api.key as i16).to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend([0, 0, 0, 7, 0xff, 0xff]);
    if api.request_is_flexible(version) {
        frame.push(0);
    }
    frame.extend(body);
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A topic name as messages hold it.
pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
