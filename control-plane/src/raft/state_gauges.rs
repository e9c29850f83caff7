//! Shows how far and how large the state is. The handles are looked up once: apply is a hot path.

use ottla_model::AppliedIndex;
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::Gauge;

use crate::state::StateSize;

/// The kinds, in the order of their gauges.
const KINDS: [&str; 7] =
    ["topic", "partition", "extent", "object", "producer", "group", "group_offset"];

/// One gauge per kind of entry, one for the memory of all, one for the applied index.
#[derive(Debug)]
pub struct StateGauges {
    applied: Gauge,
    entries: [Gauge; KINDS.len()],
    bytes: Gauge,
}

impl StateGauges {
    /// The gauges of a process.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            applied: metrics.raft.applied_index.clone(),
            entries: KINDS.map(|kind| metrics.state.entries.with([kind])),
            bytes: metrics.memory.bytes.with(["state"]),
        }
    }

    /// Replaces what they show.
    pub fn show(&self, applied: AppliedIndex, size: StateSize) {
        self.applied.set(shown(applied.0));
        let bytes = size.bytes();
        // Texts are no entries: they count as memory.
        let StateSize { topics, partitions, extents, objects, producers, groups, .. } = size;
        let group_offsets = size.group_offsets;
        let all = [topics, partitions, extents, objects, producers, groups, group_offsets];
        for (gauge, count) in self.entries.iter().zip(all) {
            gauge.set(shown(count));
        }
        self.bytes.set(shown(bytes));
    }
}

fn shown(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
