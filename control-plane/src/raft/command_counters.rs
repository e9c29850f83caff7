//! Counts applied commands by type. The handles are looked up once: apply is a hot path.

use ottla_format::command::CommandBody;
use ottla_telemetry::Metrics;
use ottla_telemetry::metrics::Counter;

/// The types, in the order of their counters.
const TYPES: [&str; 17] = [
    "register_broker",
    "fence_broker",
    "drain_broker",
    "commit_objects",
    "abandon_object",
    "create_topic",
    "delete_topic",
    "create_partitions",
    "allocate_producer_ids",
    "commit_offsets",
    "put_group",
    "tick",
    "forget_objects",
    "accept_loss",
    "expire_groups",
    "expire_producers",
    "step_time",
];

/// One counter per type of command.
#[derive(Debug)]
pub struct CommandCounters([Counter; TYPES.len()]);

impl CommandCounters {
    /// The counters of a process.
    pub fn new(metrics: &Metrics) -> Self {
        Self(TYPES.map(|name| metrics.raft.commands.with([name])))
    }

    /// One more of this type.
    pub fn count(&self, body: &CommandBody) {
        let at = match body {
            CommandBody::RegisterBroker(_) => 0,
            CommandBody::FenceBroker(_) => 1,
            CommandBody::DrainBroker(_) => 2,
            CommandBody::CommitObjects(_) => 3,
            CommandBody::AbandonObject(_) => 4,
            CommandBody::CreateTopic(_) => 5,
            CommandBody::DeleteTopic(_) => 6,
            CommandBody::CreatePartitions(_) => 7,
            CommandBody::AllocateProducerIds(_) => 8,
            CommandBody::CommitOffsets(_) => 9,
            CommandBody::PutGroup(_) => 10,
            CommandBody::Tick => 11,
            CommandBody::ForgetObjects(_) => 12,
            CommandBody::AcceptLoss => 13,
            CommandBody::ExpireGroups { .. } => 14,
            CommandBody::ExpireProducers { .. } => 15,
            CommandBody::StepTime(_) => 16,
        };
        if let Some(counter) = self.0.get(at) {
            counter.inc();
        }
    }
}
