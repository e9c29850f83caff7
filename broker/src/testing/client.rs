//! A client that speaks the protocol by hand over a real socket, and the batches that it sends.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use ottla_test_kit::batch::{changed, of_values};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::NOW;

/// A client without any wisdom: frames out, frames in.
pub struct Client {
    socket: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.unwrap(), correlation_id: 0 }
    }

    /// Sends a request and returns its correlation id.
    pub async fn send<Q: Request>(&mut self, version: i16, request: &Q) -> i32 {
        self.correlation_id += 1;
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        RequestHeader::default()
            .with_request_api_key(Q::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("test")))
            .encode(&mut frame, Q::header_version(version))
            .unwrap();
        request.encode(&mut frame, version).unwrap();
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.send_raw(&frame).await;
        self.correlation_id
    }

    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// Sends no more; what comes can still be read.
    pub async fn close_sending(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    /// The next answer, which must be to the request with this correlation id.
    pub async fn receive<Q: Request>(&mut self, version: i16, correlation_id: i32) -> Q::Response {
        let mut frame = self.receive_raw().await.expect("an answer");
        let key = ApiKey::try_from(Q::KEY).unwrap();
        let header =
            ResponseHeader::decode(&mut frame, key.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, correlation_id);
        let response = Q::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{key:?} v{version} leaves {} bytes over", frame.len());
        response
    }

    /// The next frame; `None` when the broker closed.
    pub async fn receive_raw(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).await.ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.socket.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    pub async fn call<Q: Request>(&mut self, version: i16, request: &Q) -> Q::Response {
        let id = self.send(version, request).await;
        self.receive::<Q>(version, id).await
    }

    pub async fn sees_the_end(mut self) -> bool {
        let mut byte = [0];
        !matches!(self.socket.read(&mut byte).await, Ok(n) if n > 0)
    }
}

/// An uncompressed batch of records without keys, as a plain producer sends it.
pub fn batch(values: &[&str]) -> Bytes {
    batch_with(values, NOW.0, |_| {})
}

/// The same with a timestamp, and with header fields changed before it is sealed.
pub fn batch_with(values: &[&str], timestamp: i64, change: impl FnOnce(&mut [u8])) -> Bytes {
    let values: Vec<_> = values.iter().map(|value| value.as_bytes()).collect();
    changed(&of_values(&values, timestamp), |bytes| change(bytes))
}
