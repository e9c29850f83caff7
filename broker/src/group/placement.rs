//! Which broker coordinates a group.
//!
//! Every broker can serve every group: what outlives a coordinator is in the control plane. The
//! choice only has to be the same wherever it is made, and to move few groups when a broker comes
//! or goes: the broker with the highest weight for the group (`rendezvous`).

use ottla_control_api::BrokerInfo;
use ottla_model::GroupId;

use crate::rendezvous::weight;

/// The broker of `brokers` that coordinates `group`; `None` when there is none at all.
pub fn coordinator_of<'a>(group: &GroupId, brokers: &'a [BrokerInfo]) -> Option<&'a BrokerInfo> {
    brokers
        .iter()
        .max_by_key(|broker| (weight(group.as_str().bytes(), broker.author.broker), broker.author))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ottla_model::BrokerId;
    use ottla_test_kit::values::broker;

    use super::*;

    fn choose(group: usize, brokers: &[BrokerInfo]) -> BrokerId {
        let group = GroupId::from(format!("group-{group}").as_str());
        coordinator_of(&group, brokers).unwrap().author.broker
    }

    #[test]
    fn groups_are_spread_over_the_brokers() {
        let brokers: Vec<_> = (1..=4).map(|id| broker(id, "")).collect();
        let mut counts: BTreeMap<BrokerId, usize> = BTreeMap::new();
        for group in 0..4_000 {
            *counts.entry(choose(group, &brokers)).or_default() += 1;
        }
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_the_groups_of_a_broker_that_goes_move() {
        let all: Vec<_> = (1..=4).map(|id| broker(id, "")).collect();
        let without: Vec<_> = all[..3].to_vec();
        for group in 0..1_000 {
            let before = choose(group, &all);
            if before != BrokerId(4) {
                assert_eq!(choose(group, &without), before);
            }
        }
    }

    #[test]
    fn without_brokers_there_is_no_coordinator() {
        assert!(coordinator_of(&GroupId::from("g"), &[]).is_none());
    }
}
