//! Bad weather between a server and its object store: an HTTP proxy that does to requests what
//! networks and overloaded stores do.
//!
//! One connection carries one request: the proxy tells both sides to close after the answer, so
//! that it need not know where an answer ends. It reads a request whole, decides by the weather of
//! that moment and its seed what becomes of it, and forgets it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ottla_env::{Random, delay};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No head of a request is longer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// A request, and its forwarding, takes no longer than this: longer than any patience of a client.
const REQUEST_WITHIN: Duration = Duration::from_secs(120);
/// An answer that is held back is held for so long: longer than clients wait.
const HELD_BACK: Duration = Duration::from_secs(40);

/// What can become of a request, each with its share of all requests (0.0 to 1.0).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    /// Nothing gets through: connections are reset as they come.
    pub away: bool,
    /// Answered 403 AccessDenied, unseen by the store.
    pub denied: f64,
    /// Answered 503 SlowDown, unseen by the store.
    pub slow_down: f64,
    /// Reset before the store saw it.
    pub lost: f64,
    /// The store saw and answered it; the answer is lost with the connection.
    pub answer_lost: f64,
    /// The same, but the connection stays open and silent.
    pub answer_held: f64,
    /// The store gets half of it, then both connections break.
    pub request_cut: f64,
    /// The client gets half of the answer.
    pub answer_cut: f64,
    /// One bit of the answer's body is flipped.
    pub answer_flipped: f64,
    /// Delayed, by up to `delay`, before the store sees it.
    pub late: f64,
    /// See `late`.
    pub delay: Duration,
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests, with and without a fault.
    pub requests: u64,
    /// Requests that something happened to, delays included.
    pub faults: u64,
}

/// A running proxy. Dropping it ends it.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    store: SocketAddr,
    weather: Mutex<Weather>,
    random: Random,
    requests: AtomicU64,
    faults: AtomicU64,
}

impl FaultProxy {
    /// Listens on a port of its own, in fair weather.
    pub async fn start(store: SocketAddr, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            store,
            weather: Mutex::default(),
            random: Random::seeded(seed),
            requests: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, accepting })
    }

    /// Its address as S3 clients are given it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The weather from now on.
    pub fn set(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { requests: count(&self.shared.requests), faults: count(&self.shared.faults) }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // Ends with the listener; an accept fails for lack of descriptors at worst.
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            // A connection that ends badly is what this is for.
            let _ = timeout(REQUEST_WITHIN, shared.serve(client)).await;
        });
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Forwarded,
    Denied,
    SlowDown,
    Lost,
    AnswerLost,
    AnswerHeld,
    RequestCut,
    AnswerCut,
    AnswerFlipped,
}

impl Shared {
    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fate(&self, weather: &Weather) -> Fate {
        let fates = [
            (weather.denied, Fate::Denied),
            (weather.slow_down, Fate::SlowDown),
            (weather.lost, Fate::Lost),
            (weather.answer_lost, Fate::AnswerLost),
            (weather.answer_held, Fate::AnswerHeld),
            (weather.request_cut, Fate::RequestCut),
            (weather.answer_cut, Fate::AnswerCut),
            (weather.answer_flipped, Fate::AnswerFlipped),
        ];
        let drawn = fates.into_iter().find(|(share, _)| self.random.chance(*share));
        if weather.away { Fate::Lost } else { drawn.map_or(Fate::Forwarded, |(_, fate)| fate) }
    }

    async fn serve(&self, mut client: TcpStream) -> Result<()> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if self.weather().away {
            self.faults.fetch_add(1, Ordering::Relaxed);
            return reset(client);
        }
        let request = read_request(&mut client).await?;
        // The weather may have changed since the connection was made.
        let weather = self.weather();
        let fate = self.fate(&weather);
        let late = self.random.chance(weather.late);
        if late || fate != Fate::Forwarded {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        if late {
            let millis = u64::try_from(weather.delay.as_millis()).unwrap_or(u64::MAX);
            delay(Duration::from_millis(self.random.below(millis + 1))).await;
        }
        match fate {
            Fate::Lost => return reset(client),
            Fate::Denied => return Ok(client.write_all(DENIED).await?),
            Fate::SlowDown => return Ok(client.write_all(SLOW_DOWN).await?),
            Fate::RequestCut => {
                let mut store = TcpStream::connect(self.store).await?;
                store.write_all(&request[..request.len() / 2]).await?;
                reset(store)?;
                return reset(client);
            }
            Fate::Forwarded
            | Fate::AnswerLost
            | Fate::AnswerHeld
            | Fate::AnswerCut
            | Fate::AnswerFlipped => {}
        }
        let mut store = TcpStream::connect(self.store).await?;
        store.write_all(&request).await?;
        let mut answer = Vec::new();
        store.read_to_end(&mut answer).await?;
        match fate {
            Fate::AnswerLost => return reset(client),
            Fate::AnswerHeld => {
                delay(HELD_BACK).await;
                return reset(client);
            }
            Fate::AnswerCut => answer.truncate(answer.len() / 2),
            Fate::AnswerFlipped => self.flip(&mut answer),
            Fate::Forwarded | Fate::Denied | Fate::SlowDown | Fate::Lost | Fate::RequestCut => {}
        }
        client.write_all(&answer).await?;
        Ok(client.shutdown().await?)
    }

    /// Flips one bit of the body, if there is one.
    fn flip(&self, answer: &mut [u8]) {
        let Some(head) = head_length(answer) else { return };
        let body = &mut answer[head..];
        let bit = self.random.below(body.len() as u64 * 8) as usize;
        if let Some(byte) = body.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }
}

const DENIED: &[u8] = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n\
    Content-Length: 72\r\nConnection: close\r\n\r\n\
    <Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>";

const SLOW_DOWN: &[u8] = b"HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n\
    Content-Length: 72\r\nConnection: close\r\n\r\n\
    <Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>";

/// Ends a connection so that the other side sees a reset, not an orderly end.
fn reset(stream: TcpStream) -> Result<()> {
    stream.set_zero_linger()?;
    Ok(())
}

/// Reads one request and has the store close the connection after its answer.
async fn read_request(client: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(head) = head_length(&bytes) {
            break head;
        }
        ensure!(bytes.len() < HEAD_BYTES_MAX, "no end of the head");
        ensure!(client.read_buf(&mut bytes).await? > 0, "the client is gone");
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    let mut length = 0;
    let mut kept = String::new();
    for line in text.split_inclusive("\r\n") {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            "connection" => continue,
            "content-length" => {
                let value = line.split(':').nth(1).context("a header without a value")?;
                length = value.trim().parse::<usize>()?;
            }
            "transfer-encoding" => anyhow::bail!("chunked requests are not understood"),
            // The empty line.
            "\r\n" => kept.push_str("Connection: close\r\n"),
            _ => {}
        }
        kept.push_str(line);
    }
    let mut request = kept.into_bytes();
    request.extend_from_slice(&bytes[head..]);
    let whole = request.len() - (bytes.len() - head) + length;
    while request.len() < whole {
        ensure!(client.read_buf(&mut request).await? > 0, "the client is gone");
    }
    Ok(request)
}

/// The length of the head with its empty line, when it is all there.
fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}
