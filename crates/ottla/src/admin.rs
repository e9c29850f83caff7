//! The HTTP listener for operators: liveness, readiness, metrics.
//!
//! It opens when the log is replayed, before the object store is claimed, so that a node that waits
//! for the store or drains can be told from a dead one. It has no authentication and changes nothing.
//!
//! Its connections have a bound in number and in time, so that they never take the files that the
//! log and the object store need. A connection carries one request. Beyond the number, the oldest
//! connection makes room: whoever connects and waits does not keep a probe out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use ottla_env::net::{TcpListener, TcpStream};
use ottla_env::{VitalTasks, delay};
use ottla_telemetry::Metrics;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::server::limits::{ADMIN_ACCEPT_PAUSE, ADMIN_CONNECTION_TIME_MAX, ADMIN_CONNECTIONS_MAX};

/// What the node is doing, as readiness shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not open to clients yet.
    Starting,
    /// Open to clients.
    Ready,
    /// Leaving: clients should go elsewhere.
    Draining,
}

/// The running listener.
pub struct Admin {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
    /// Notices when the task panics.
    vital: VitalTasks,
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    phase: watch::Receiver<Phase>,
}

impl Admin {
    /// Serves on an open listener.
    pub fn start(listener: TcpListener, metrics: Arc<Metrics>) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let (phase, seen) = watch::channel(Phase::Starting);
        let vital = VitalTasks::default();
        let router = router(Shared { metrics, phase: seen });
        let task = vital.spawn("the admin listener", serve(listener, router));
        Ok(Self { address, phase, task, vital })
    }

    /// Waits until the task has panicked, and names it: nobody could see how the node is. Pends for
    /// ever otherwise.
    pub async fn failed(&self) -> &'static str {
        self.vital.failed().await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what readiness says.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Closes the listener and its connections.
    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Accepts connections until it is cut off, and them with it.
async fn serve(listener: TcpListener, router: Router) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                connections.make_room(client).await;
                connections.start(stream, router.clone());
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection for HTTP");
                delay(ADMIN_ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The open connections.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    /// The oldest first; also some that have ended.
    by_age: VecDeque<AbortHandle>,
}

impl Connections {
    /// Returns when one more may be opened.
    async fn make_room(&mut self, client: SocketAddr) {
        while self.tasks.try_join_next().is_some() {}
        self.by_age.retain(|connection| !connection.is_finished());
        while self.tasks.len() >= ADMIN_CONNECTIONS_MAX {
            if let Some(oldest) = self.by_age.pop_front() {
                tracing::warn!(%client, "many connections for HTTP: the oldest one is closed");
                oldest.abort();
            }
            // One that was cut off, or has ended just now.
            self.tasks.join_next().await;
        }
    }

    fn start(&mut self, stream: TcpStream, router: Router) {
        self.by_age.push_back(self.tasks.spawn(answer(stream, router)));
    }
}

/// Answers one request.
async fn answer(stream: TcpStream, router: Router) {
    let service = TowerToHyperService::new(router);
    let connection =
        http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    match timeout(ADMIN_CONNECTION_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection broke"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(async || {
            (StatusCode::NOT_FOUND, "not found; there are /livez, /readyz and /metrics\n")
        })
        .with_state(shared)
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, &'static str) {
    let phase = *shared.phase.borrow();
    match phase {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let text_format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, text_format)], shared.metrics.render())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start() -> Admin {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = ottla_env::net::listen(any).await.unwrap();
        Admin::start(listener, Metrics::new()).unwrap()
    }

    async fn ask(admin: &Admin, path: &str) -> String {
        let mut stream = ottla_env::net::connect(admin.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_phase_and_liveness_does_not() {
        let admin = start().await;
        for (phase, ready) in
            [(Phase::Starting, "503"), (Phase::Ready, "200"), (Phase::Draining, "503")]
        {
            admin.set_phase(phase);
            assert!(ask(&admin, "/readyz").await.starts_with(&format!("HTTP/1.1 {ready} ")));
            assert!(ask(&admin, "/livez").await.starts_with("HTTP/1.1 200 "));
        }
        admin.stop().await;
    }

    #[tokio::test]
    async fn connections_that_wait_keep_no_probe_out_and_are_bounded() {
        let admin = start().await;
        let mut idle = Vec::new();
        for _ in 0..2 * ADMIN_CONNECTIONS_MAX {
            idle.push(ottla_env::net::connect(admin.address()).await.unwrap());
            // Accepted before the next one comes.
            assert!(ask(&admin, "/livez").await.starts_with("HTTP/1.1 200 "));
        }
        let mut open = 0;
        for mut connection in idle {
            let mut answer = String::new();
            let asked = connection.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if asked.is_ok() && connection.read_to_string(&mut answer).await.is_ok() {
                open += usize::from(!answer.is_empty());
            }
        }
        assert!((1..ADMIN_CONNECTIONS_MAX).contains(&open), "{open}");
        admin.stop().await;
    }

    #[tokio::test]
    async fn a_connection_without_a_request_ends_in_time() {
        let admin = start().await;
        let mut stream = ottla_env::net::connect(admin.address()).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: a").await.unwrap();
        // From now on, waits take no time.
        tokio::time::pause();
        let mut answer = Vec::new();
        // Closed, or reset.
        let _ = stream.read_to_end(&mut answer).await;
        admin.stop().await;
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format_and_other_paths_are_not_found() {
        let admin = start().await;
        let metrics = ask(&admin, "/metrics").await;
        assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
        assert!(metrics.contains("ottla_build_info{version=\""), "{metrics}");
        let other = ask(&admin, "/nope").await;
        assert!(other.starts_with("HTTP/1.1 404 ") && other.contains("/readyz"), "{other}");
        admin.stop().await;
    }
}
