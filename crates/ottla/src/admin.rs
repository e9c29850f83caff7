//! The HTTP listener for operators: liveness, readiness, metrics.
//!
//! It opens when the log is replayed, before the object store is claimed, so that a node that waits
//! for the store or drains can be told from a dead one. It has no authentication and changes nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use ottla_env::VitalTasks;
use ottla_env::net::TcpListener;
use ottla_telemetry::Metrics;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

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
    stop: oneshot::Sender<()>,
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
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = axum::serve(listener, router(Shared { metrics, phase: seen }));
        let serve = serve.with_graceful_shutdown(async {
            // A dropped sender stops it too.
            let _ = stopped.await;
        });
        let vital = VitalTasks::default();
        let task = vital.spawn("the admin listener", async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the admin listener ended");
            }
        });
        Ok(Self { address, phase, stop, task, vital })
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

    /// Closes the listener. Idle connections are cut: a scraper may keep one open for ever.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.abort();
        let _ = self.task.await;
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
