//! The feature level: what a cluster may put into its log and its state.
//!
//! # Why
//!
//! While a cluster is upgraded, nodes of two versions of Ottla apply the same log. A command that one
//! of them does not know, or a value in a snapshot that it cannot read, would stop it. So the state
//! holds a number, the cluster's feature level, and every version says here which level each of its
//! commands and values needs. What needs more than the cluster has is not proposed.
//!
//! # Rules
//!
//! * A new cluster has no level ([`FeatureLevel::NONE`]). Its first leader sets the newest one that it
//!   knows, before anything else.
//! * After that only a command raises the level, which an operator asks for when every node runs a
//!   version that knows it. A newer process never does so by itself. No command lowers it.
//! * Whatever is written is written in the lowest version that can express it. So the level that a
//!   command or a value needs follows from its content.
//! * A leader refuses to propose what needs more than the level of its state. That state may be behind
//!   the log, but a level never falls: nothing too new gets into the log.
//! * A node that knows less than the level of a log, a snapshot or a checkpoint does not start, and one
//!   that meets a raise beyond its knowledge stops. It could not know what follows.
//!
//! # To add something
//!
//! Raise [`NEWEST`] once per release that needs it, and add a row for each new kind, and for each new
//! version of a kind. Rows are never changed.

use std::fmt;

use crate::command_kind::CommandKind;
use crate::state::StateKeyKind;

/// A feature level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeatureLevel(pub u16);

impl FeatureLevel {
    /// A cluster in which nothing has happened.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The newest level that this version of Ottla knows.
pub const NEWEST: FeatureLevel = LEVEL_1;

/// The first release.
const LEVEL_1: FeatureLevel = FeatureLevel(1);

/// Which level a version of a command's body needs.
pub const COMMANDS: &[(CommandKind, u8, FeatureLevel)] = &[
    (CommandKind::RegisterBroker, 1, LEVEL_1),
    (CommandKind::FenceBroker, 1, LEVEL_1),
    (CommandKind::DrainBroker, 1, LEVEL_1),
    (CommandKind::CommitObjects, 1, LEVEL_1),
    (CommandKind::AbandonObject, 1, LEVEL_1),
    (CommandKind::CreateTopic, 1, LEVEL_1),
    (CommandKind::DeleteTopic, 1, LEVEL_1),
    (CommandKind::CreatePartitions, 1, LEVEL_1),
    (CommandKind::AllocateProducerIds, 1, LEVEL_1),
    (CommandKind::CommitOffsets, 1, LEVEL_1),
    (CommandKind::PutGroup, 1, LEVEL_1),
    (CommandKind::Tick, 1, LEVEL_1),
    (CommandKind::ForgetObjects, 1, LEVEL_1),
    (CommandKind::AcceptLoss, 1, LEVEL_1),
    (CommandKind::ExpireGroups, 1, LEVEL_1),
    (CommandKind::ExpireProducers, 1, LEVEL_1),
    (CommandKind::StepTime, 1, LEVEL_1),
    // The command that sets the first level cannot need one.
    (CommandKind::RaiseFeatureLevel, 1, FeatureLevel::NONE),
];

/// Which level a version of a stored value needs.
pub const VALUES: &[(StateKeyKind, u8, FeatureLevel)] = &[
    // A cluster without a level has counters, too.
    (StateKeyKind::Counters, 1, FeatureLevel::NONE),
    (StateKeyKind::Topic, 1, LEVEL_1),
    (StateKeyKind::Partition, 1, LEVEL_1),
    (StateKeyKind::Extents, 1, LEVEL_1),
    (StateKeyKind::Producer, 1, LEVEL_1),
    (StateKeyKind::Objects, 1, LEVEL_1),
    (StateKeyKind::Broker, 1, LEVEL_1),
    (StateKeyKind::Outcome, 1, LEVEL_1),
    (StateKeyKind::Group, 1, LEVEL_1),
    (StateKeyKind::GroupOffset, 1, LEVEL_1),
    (StateKeyKind::DeletedTopics, 1, LEVEL_1),
];

/// The level that a version of a stored value needs; `None` when this version of Ottla does not know
/// it.
pub fn of_value(kind: StateKeyKind, version: u8) -> Option<FeatureLevel> {
    let row = VALUES.iter().find(|row| (row.0, row.1) == (kind, version));
    row.map(|(.., level)| *level)
}

/// The newest version of a stored value that this version of Ottla knows.
pub fn newest_of_value(kind: StateKeyKind) -> u8 {
    let versions = VALUES.iter().filter(|row| row.0 == kind).map(|row| row.1);
    versions.max().unwrap_or_default()
}

/// The level that a version of a command's body needs; `None` when this version of Ottla does not
/// know it.
pub fn of_command(kind: CommandKind, version: u8) -> Option<FeatureLevel> {
    let row = COMMANDS.iter().find(|row| (row.0, row.1) == (kind, version));
    row.map(|(.., level)| *level)
}

/// The newest version of a kind's body that this version of Ottla knows.
pub fn newest_of_command(kind: CommandKind) -> u8 {
    let versions = COMMANDS.iter().filter(|row| row.0 == kind).map(|row| row.1);
    versions.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of one kind: each version has one, and no later one needs less.
    fn check<K: Copy + PartialEq + fmt::Debug>(kinds: &[K], table: &[(K, u8, FeatureLevel)]) {
        for kind in kinds {
            let rows: Vec<_> = table.iter().filter(|row| row.0 == *kind).collect();
            assert!(!rows.is_empty(), "{kind:?} has no level");
            assert!(rows.iter().map(|row| row.1).eq(1..=rows.len() as u8), "{kind:?}");
            assert!(rows.is_sorted_by_key(|row| row.2), "{kind:?}");
            assert!(rows.iter().all(|row| row.2 <= NEWEST), "{kind:?}");
        }
    }

    #[test]
    fn every_kind_has_rows_without_a_gap_and_none_is_above_the_newest_level() {
        check(&CommandKind::ALL, COMMANDS);
        check(&StateKeyKind::ALL, VALUES);
        let commands = COMMANDS.iter().map(|row| row.2);
        let newest = commands.chain(VALUES.iter().map(|row| row.2)).max();
        assert_eq!(newest, Some(NEWEST), "a level without anything in it");
    }

    #[test]
    fn kinds_are_numbered_from_1() {
        for (number, kind) in (1..).zip(CommandKind::ALL) {
            assert_eq!(kind as u8, number);
            assert_eq!(CommandKind::of_number(number), Some(kind));
        }
        assert!(StateKeyKind::ALL.iter().zip(1..).all(|(kind, number)| *kind as u8 == number));
    }
}
