//! SIGTERM and SIGINT: the first asks for a drain, the second ends the process at once.

use std::process;

use ottla_telemetry::logs;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, watched from now on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system's default, which ends the process.
    pub fn watch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for one of them and names it.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for one of them and ends the process with code 1: whoever asks twice is in a hurry.
    /// Nothing acknowledged can be lost by it.
    pub async fn exit_on_next(mut self) {
        let name = self.next().await;
        tracing::warn!("{name} again: ending at once");
        logs::flush();
        process::exit(1);
    }
}
