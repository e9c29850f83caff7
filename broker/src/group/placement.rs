//! Which broker coordinates a group.
//!
//! Every broker can serve every group: what outlives a coordinator is in the control plane. The
//! choice only has to be the same wherever it is made, and to move few groups when a broker comes
//! or goes: the broker with the highest hash of (group, broker), rendezvous hashing.

use ottla_control_api::BrokerInfo;
use ottla_model::{BrokerId, GroupId};

/// The broker of `brokers` that coordinates `group`; `None` when there is none at all.
pub fn coordinator_of<'a>(group: &GroupId, brokers: &'a [BrokerInfo]) -> Option<&'a BrokerInfo> {
    brokers.iter().max_by_key(|broker| (weight(group, broker.author.broker), broker.author))
}

/// FNV-1a over the group's id and the broker's, with a final mix: neighbouring broker ids have to
/// get unrelated weights. Not stored anywhere, but every broker of a cluster must agree on it.
fn weight(group: &GroupId, broker: BrokerId) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = group.as_str().bytes().chain([0xff]).chain(broker.0.to_be_bytes());
    let hash = bytes.fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ottla_model::{Az, BrokerAuthor, BrokerEpoch};

    use super::*;

    fn broker(id: i32) -> BrokerInfo {
        BrokerInfo {
            author: BrokerAuthor { broker: BrokerId(id), epoch: BrokerEpoch(1) },
            az: Az::default(),
            host: "localhost".into(),
            port: 9092,
            draining: false,
        }
    }

    fn choose(group: usize, brokers: &[BrokerInfo]) -> BrokerId {
        let group = GroupId::from(format!("group-{group}").as_str());
        coordinator_of(&group, brokers).unwrap().author.broker
    }

    #[test]
    fn groups_are_spread_over_the_brokers() {
        let brokers: Vec<_> = (1..=4).map(broker).collect();
        let mut counts: BTreeMap<BrokerId, usize> = BTreeMap::new();
        for group in 0..4_000 {
            *counts.entry(choose(group, &brokers)).or_default() += 1;
        }
        assert_eq!(counts.len(), 4);
        assert!(counts.values().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_the_groups_of_a_broker_that_goes_move() {
        let all: Vec<_> = (1..=4).map(broker).collect();
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
