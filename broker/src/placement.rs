//! Which broker a client is told to use for a partition.
//!
//! Any broker serves any partition; Kafka's clients need one name. It is chosen by rendezvous
//! hashing among the brokers of the client's zone, so that every broker gives the same answer and
//! one broker that comes or goes moves only its own share. The other zones' choices are listed as
//! replicas behind it, and all replicas are in sync.

use std::collections::BTreeMap;

use ottla_control_api::BrokerInfo;
use ottla_model::{Az, BrokerId, PartitionId};

use crate::rendezvous;

/// Tags that clients put into their client id to say where they run: ours and those of the systems
/// they may come from.
const AZ_TAGS: [&str; 6] =
    ["ottla_az=", "diskless_az=", "ws_az=", "warpstream_az=", "zone=", "automq_az="];

/// The brokers that clients may be sent to: those that are not about to leave, or all when none
/// stays.
pub fn serving(brokers: Vec<BrokerInfo>) -> Vec<BrokerInfo> {
    let staying: Vec<BrokerInfo> = brokers.iter().filter(|b| !b.draining).cloned().collect();
    if staying.is_empty() { brokers } else { staying }
}

/// Those that have the listener that a client came by; the others are not shown to it, as in Kafka.
pub fn reachable(mut brokers: Vec<BrokerInfo>, listener: &str) -> Vec<BrokerInfo> {
    brokers.retain(|broker| broker.profile.endpoint(listener).is_some());
    brokers
}

/// The zone of a client: what its client id says, if a broker runs there, else `default` (the zone
/// of the broker it asked).
///
/// A tag begins at the start or after a space, comma or pipe, and its value ends at one of these or
/// at `=`. Kafka Connect appends `-configs` and the like to a client id, so a value also names the
/// longest known zone that it begins with, if a hyphen follows.
pub fn client_az(client_id: &str, brokers: &[BrokerInfo], default: &Az) -> Az {
    let known = |value: &str| {
        let matches = |az: &&Az| {
            value.strip_prefix(az.0.as_str()).is_some_and(|r| r.is_empty() || r.starts_with('-'))
        };
        let zones = brokers.iter().map(|b| &b.profile.az).filter(|az| !az.0.is_empty());
        zones.filter(matches).max_by_key(|az| az.0.len()).cloned()
    };
    client_id
        .split([' ', ',', '|'])
        .filter_map(|part| AZ_TAGS.iter().find_map(|tag| part.strip_prefix(tag)))
        .filter_map(|value| value.split('=').next())
        .find_map(known)
        .unwrap_or_else(|| default.clone())
}

/// The brokers of a partition as a client in `az` sees them: its leader first. At most
/// `replication_factor` of them, at least one; empty only without any broker.
pub fn replicas(
    partition: PartitionId,
    az: &Az,
    replication_factor: i16,
    brokers: &[BrokerInfo],
) -> Vec<BrokerId> {
    let mut ranked: Vec<&BrokerInfo> = brokers.iter().collect();
    ranked.sort_by_key(|broker| {
        let id = broker.author.broker;
        (std::cmp::Reverse(weight(partition, id)), id)
    });
    // One per zone, each zone's first choice; then whoever is next, up to the factor.
    let mut first_of_zone: BTreeMap<&Az, BrokerId> = BTreeMap::new();
    for broker in &ranked {
        first_of_zone.entry(&broker.profile.az).or_insert(broker.author.broker);
    }
    let own = first_of_zone.remove(az);
    let mut chosen: Vec<BrokerId> = own.into_iter().collect();
    let is_first = |id: &BrokerId| first_of_zone.values().any(|first| first == id);
    let ids = || ranked.iter().map(|broker| broker.author.broker);
    chosen.extend(ids().filter(is_first));
    let others: Vec<BrokerId> = ids().filter(|id| !chosen.contains(id)).collect();
    chosen.extend(others);
    chosen.truncate(usize::try_from(replication_factor).unwrap_or(1).max(1));
    chosen
}

fn weight(partition: PartitionId, broker: BrokerId) -> u64 {
    let topic = partition.topic.0.to_be_bytes();
    rendezvous::weight(topic.into_iter().chain(partition.index.0.to_be_bytes()), broker)
}

#[cfg(test)]
mod tests {
    use ottla_model::{BrokerProfile, Endpoint, HostPort, PartitionIndex, TopicId};
    use ottla_test_kit::values::broker;

    use super::*;

    fn partition(index: i32) -> PartitionId {
        PartitionId { topic: TopicId(7), index: PartitionIndex(index) }
    }

    fn six() -> Vec<BrokerInfo> {
        (0..6).map(|id| broker(id, ["a", "b", "c"][id as usize % 3])).collect()
    }

    #[test]
    fn the_leader_is_in_the_clients_zone_and_the_others_zones_follow() {
        let brokers = six();
        for index in 0..50 {
            let chosen = replicas(partition(index), &Az("b".into()), 3, &brokers);
            let zone = |id: &BrokerId| id.0 % 3;
            assert_eq!(zone(&chosen[0]), 1);
            let zones: std::collections::BTreeSet<i32> = chosen.iter().map(zone).collect();
            assert_eq!(zones.len(), 3);
        }
        assert_eq!(replicas(partition(0), &Az("x".into()), 1, &brokers).len(), 1);
        assert_eq!(replicas(partition(0), &Az("a".into()), 9, &brokers).len(), 6);
        assert!(replicas(partition(0), &Az("a".into()), 3, &[]).is_empty());
    }

    #[test]
    fn a_broker_that_goes_moves_only_its_own_partitions() {
        let all: Vec<_> = (0..5).map(|id| broker(id, "")).collect();
        let leader = |index, brokers: &[BrokerInfo]| {
            replicas(partition(index), &Az::default(), 1, brokers)[0]
        };
        let mut moved = 0;
        for index in 0..1_000 {
            let before = leader(index, &all);
            let after = leader(index, &all[..4]);
            assert!(before == after || before == BrokerId(4));
            moved += i32::from(before != after);
        }
        assert!((120..280).contains(&moved), "{moved}");
    }

    #[test]
    fn a_client_id_tells_the_zone_in_the_tags_of_many_systems() {
        let brokers = [broker(1, "eu-1"), broker(2, "eu-1a"), broker(3, "eu-2")];
        let default = Az("eu-2".into());
        let az = |id: &str| client_az(id, &brokers, &default).0;
        assert_eq!(az("ottla_az=eu-1"), "eu-1");
        assert_eq!(az("app,zone=eu-1a,x"), "eu-1a");
        assert_eq!(az("ws_az=eu-1-configs"), "eu-1");
        assert_eq!(az("diskless_az=eu-1|src->dst|connector"), "eu-1");
        assert_eq!(az("timezone=eu-1"), "eu-2");
        assert_eq!(az("zone=nowhere"), "eu-2");
        assert_eq!(az(""), "eu-2");
    }

    #[test]
    fn brokers_without_the_clients_listener_are_not_shown() {
        let inside = broker(1, "");
        let mut outside = broker(2, "");
        let address = HostPort::new("outside", 9092);
        let endpoints = [Endpoint { listener: "OUTSIDE".to_owned(), address }].into();
        outside.profile = BrokerProfile { endpoints, ..BrokerProfile::default() }.into();
        let all = vec![inside.clone(), outside.clone()];
        assert_eq!(reachable(all.clone(), "PLAINTEXT"), [inside]);
        assert_eq!(reachable(all, "OUTSIDE"), [outside]);
    }

    #[test]
    fn brokers_that_leave_are_not_shown_while_another_stays() {
        let mut leaving = broker(1, "");
        leaving.draining = true;
        assert_eq!(serving(vec![leaving.clone(), broker(2, "")]), [broker(2, "")]);
        assert_eq!(serving(vec![leaving.clone()]), [leaving]);
    }
}
