//! Counts applied commands by type. The handles are looked up once: apply is a hot path.

use ottla_format::command_kind::CommandKind;
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::Counter;

/// One counter per kind of command, in the order of the kinds' numbers, which begin at 1.
#[derive(Debug)]
pub struct CommandCounters([Counter; CommandKind::ALL.len()]);

impl CommandCounters {
    /// The counters of a process.
    pub fn new(metrics: &Metrics) -> Self {
        Self(CommandKind::ALL.map(|kind| metrics.raft.commands.with([kind.name()])))
    }

    /// One more of this kind.
    pub fn count(&self, kind: CommandKind) {
        if let Some(counter) = self.0.get(usize::from(kind as u8 - 1)) {
            counter.inc();
        }
    }
}
