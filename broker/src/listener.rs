//! Accepts connections and owns their tasks.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ottla_env::net::{TcpListener, TcpStream};
use ottla_telemetry::RateLimited;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::connection;
use crate::context::{ConnectionInfo, Context, Software};
use crate::limits;

static ACCEPT_LINES: RateLimited =
    RateLimited::new(limits::STRANGER_LINES_MAX, limits::STRANGER_LINES_PERIOD);

/// The connections of one listener.
struct Connections {
    context: Arc<Context>,
    tasks: JoinSet<()>,
    /// Which address a task serves: a task that panicked cannot say.
    addresses: BTreeMap<Id, IpAddr>,
    per_address: BTreeMap<IpAddr, usize>,
    accepted: u64,
}

/// Accepts until the broker drains, then waits for the open connections to end: those that have not
/// after [`limits::DRAIN_MAX`] are cut.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>) {
    let mut connections = Connections {
        context: context.clone(),
        tasks: JoinSet::new(),
        addresses: BTreeMap::new(),
        per_address: BTreeMap::new(),
        accepted: 0,
    };
    loop {
        tokio::select! {
            biased;
            () = context.until_draining() => break,
            Some(ended) = connections.tasks.join_next_with_id() => connections.ended(ended),
            accepted = listener.accept() => match accepted {
                Ok((socket, address)) => connections.accept(socket, address),
                Err(error) => {
                    if let Some(suppressed) = ACCEPT_LINES.permit() {
                        tracing::warn!(%error, suppressed, "cannot accept a connection");
                    }
                    ottla_env::delay(limits::ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Closed first: a client that comes now is refused instead of waiting.
    drop(listener);
    let deadline = Instant::now() + limits::DRAIN_MAX;
    while let Ok(Some(ended)) = timeout_at(deadline, connections.tasks.join_next_with_id()).await {
        connections.ended(ended);
    }
    connections.tasks.shutdown().await;
}

impl Connections {
    fn accept(&mut self, socket: TcpStream, address: SocketAddr) {
        let ip = address.ip();
        let of_address = self.per_address.get(&ip).copied().unwrap_or(0);
        let all = self.tasks.len();
        if of_address >= limits::CONNECTIONS_PER_ADDRESS_MAX || all >= limits::CONNECTIONS_MAX {
            self.context.metrics.kafka.connections_closed.with(["too_many"]).inc();
            if let Some(suppressed) = ACCEPT_LINES.permit() {
                tracing::warn!(client = %ip, of_address, all, suppressed, "too many connections");
            }
            return;
        }
        let info = ConnectionInfo {
            id: self.accepted,
            client_id: "".into(),
            address,
            software: Software::default(),
        };
        self.accepted += 1;
        self.context.metrics.kafka.connections_accepted.inc();
        let task = self.tasks.spawn(connection::serve(self.context.clone(), socket, info));
        self.addresses.insert(task.id(), ip);
        *self.per_address.entry(ip).or_default() += 1;
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    self.context.metrics.kafka.connections_closed.with(["defect"]).inc();
                    // The panic has told of itself, with its place, by the process's hook.
                    tracing::debug!(%error, "a connection's task panicked; others go on");
                }
                error.id()
            }
        };
        let Some(ip) = self.addresses.remove(&id) else { return };
        if let Some(count) = self.per_address.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&ip);
            }
        }
    }
}
