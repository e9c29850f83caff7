//! Accepts connections and owns their tasks.
//!
//! Three bounds: so many connections in all, so many from one address (of IPv6, from one /64), so many
//! new ones per second. Connections beyond the first two are closed at once; those beyond the third's
//! rate wait in the system's queue. In all there are never so many that the process runs out of files:
//! the log and the object store need some too.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ottla_env::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client_share::share_key;
use crate::connection;
use crate::context::{ConnectionInfo, Context, Software};
use crate::limits;

/// The connections of one listener.
struct Connections {
    context: Arc<Context>,
    tasks: JoinSet<()>,
    /// Whose share a task takes: a task that panicked cannot say.
    addresses: BTreeMap<Id, IpAddr>,
    /// By share key.
    per_address: BTreeMap<IpAddr, usize>,
    accepted: u64,
    connections_max: usize,
}

/// Accepts until the broker drains, then waits for the open connections to end: those that have not
/// after [`limits::DRAIN_MAX`] are cut.
pub(crate) async fn serve(listener: TcpListener, context: Arc<Context>) {
    let mut connections = Connections::new(context.clone());
    let mut pace = Pace::new(context.options.edge.connections_rate);
    loop {
        let next = async {
            pace.until_next().await;
            listener.accept().await
        };
        tokio::select! {
            biased;
            () = context.until_draining() => break,
            Some(ended) = connections.tasks.join_next_with_id() => connections.ended(ended),
            accepted = next => match accepted {
                Ok((socket, address)) => {
                    pace.accepted(Instant::now());
                    connections.accept(socket, address);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    pace.next = Instant::now() + limits::ACCEPT_PAUSE;
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

/// When the next connection may be accepted. Every one moves that by its part of a second; what was
/// not used in quiet times is there for a while.
struct Pace {
    next: Instant,
    step: Duration,
    /// Where `next` would be if nothing had been saved up.
    due: Instant,
}

impl Pace {
    /// `rate` per second; 0: no bound.
    fn new(rate: u32) -> Self {
        let now = Instant::now();
        let step = Duration::from_secs(1).checked_div(rate).unwrap_or_default();
        let saved = Duration::from_secs(limits::CONNECTIONS_BURST_SECONDS.into());
        Self { next: now, step, due: now.checked_sub(saved).unwrap_or(now) }
    }

    async fn until_next(&self) {
        // A timer takes a tick even when its time has come.
        if self.next > Instant::now() {
            sleep_until(self.next).await;
        }
    }

    fn accepted(&mut self, now: Instant) {
        let saved = Duration::from_secs(limits::CONNECTIONS_BURST_SECONDS.into());
        let earliest = now.checked_sub(saved).unwrap_or(now);
        self.due = self.due.max(earliest) + self.step;
        self.next = self.due.max(now);
    }
}

impl Connections {
    fn new(context: Arc<Context>) -> Self {
        let wanted = context.options.edge.connections_max as usize;
        let files = ottla_env::raise_open_files_limit().unwrap_or(u64::MAX);
        let possible = usize::try_from(files.saturating_sub(limits::FILES_KEPT).max(1));
        let connections_max = wanted.min(possible.unwrap_or(usize::MAX));
        if connections_max < wanted {
            tracing::info!(
                "at most {connections_max} client connections: the process may open {files} files"
            );
        }
        let read_ahead = connections_max.saturating_mul(ottla_wire::limits::READ_AHEAD_BYTES);
        context.metrics.memory.bytes_max.with(["connections"]).set_bytes(read_ahead);
        Self {
            context,
            tasks: JoinSet::new(),
            addresses: BTreeMap::new(),
            per_address: BTreeMap::new(),
            accepted: 0,
            connections_max,
        }
    }

    fn accept(&mut self, socket: TcpStream, address: SocketAddr) {
        let ip = address.ip().to_canonical();
        let share = share_key(ip);
        let of_address = self.per_address.get(&share).copied().unwrap_or(0);
        let all = self.tasks.len();
        let of_address_max = self.context.options.edge.connections_per_address_max as usize;
        let no_room = if all >= self.connections_max {
            Some("kafka.connections_max")
        } else {
            (!has_room(ip, of_address, of_address_max)).then_some("kafka.connections_per_address")
        };
        if let Some(setting) = no_room {
            self.context.metrics.kafka.connections_closed.with(["too_many"]).inc();
            tracing::warn!(client = %address, of_address, all, setting, "too many connections");
            return;
        }
        let info = ConnectionInfo {
            id: self.accepted,
            client_id: "".into(),
            address,
            software: Software::default(),
            last_request: None,
        };
        self.accepted += 1;
        self.context.metrics.kafka.connections_accepted.inc();
        let task = self.tasks.spawn(connection::serve(self.context.clone(), socket, info));
        self.addresses.insert(task.id(), share);
        *self.per_address.entry(share).or_default() += 1;
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
        let Some(share) = self.addresses.remove(&id) else { return };
        if let Some(count) = self.per_address.get_mut(&share) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&share);
            }
        }
    }
}

/// Whether an address may have one more connection than it has. A client that connects over
/// loopback runs on this machine, or is a proxy that speaks for many.
fn has_room(ip: IpAddr, of_address: usize, of_address_max: usize) -> bool {
    ip.is_loopback() || of_address < of_address_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_of_connections_and_loopback_is_not_held_to_it() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for address in ["192.0.2.7", "2001:db8::7"] {
            assert!(has_room(ip(address), 2, 3), "{address}");
            assert!(!has_room(ip(address), 3, 3), "{address}");
        }
        for loopback in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert!(has_room(ip(loopback), 3, 3), "{loopback}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_come_at_the_rate_after_what_was_saved_up() {
        let begin = Instant::now();
        let mut pace = Pace::new(100);
        for _ in 0..1_000 {
            pace.until_next().await;
            pace.accepted(Instant::now());
        }
        let took = begin.elapsed();
        assert!(took >= Duration::from_millis(7_900) && took <= Duration::from_millis(8_200));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let begin = Instant::now();
        let mut pace = Pace::new(0);
        for _ in 0..1_000 {
            pace.until_next().await;
            pace.accepted(Instant::now());
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}
