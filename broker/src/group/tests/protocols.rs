//! Which protocols a group takes, against Kafka's own rule.

use std::collections::BTreeMap;

use ottla_env::Random;

use super::machine::{Machine, new_member, protocols};
use crate::group::{GroupError, Join, State};

const RUNS: u64 = 200;
const STEPS: usize = 40;
const NAMES: [&str; 4] = ["range", "sticky", "cooperative", "other"];
const TYPES: [&str; 2] = ["consumer", "connect"];

/// `ClassicGroup.supportsProtocols` of Kafka: an empty group takes any type and any protocols, if
/// there are some; another one its own type, and one protocol that as many members support as it
/// has.
fn kafka_supports(
    is_empty: bool,
    group_type: Option<&str>,
    members: &BTreeMap<String, Vec<&str>>,
    protocol_type: &str,
    protocols: &[&str],
) -> bool {
    if is_empty {
        return !protocol_type.is_empty() && !protocols.is_empty();
    }
    let supporters =
        |name: &&str| members.values().filter(|protocols| protocols.contains(name)).count();
    group_type == Some(protocol_type) && protocols.iter().any(|p| supporters(p) == members.len())
}

#[test]
fn protocols_are_refused_exactly_where_kafka_refuses_them() {
    let mut cases = BTreeMap::new();
    for seed in 0..RUNS {
        let random = Random::seeded(seed);
        let pick = |from: &[&'static str]| from[random.below(from.len() as u64) as usize];
        let mut machine = Machine::new();
        let mut members: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut group_type = None;
        for step in 0..STEPS {
            if random.chance(0.5) {
                // Somebody leaves, perhaps the last one.
                if let Some((id, _)) = members.pop_first() {
                    machine.leave(&id, None);
                }
                continue;
            }
            let mut names: Vec<_> = NAMES.into_iter().filter(|_| random.chance(0.4)).collect();
            names.sort_unstable();
            let protocol_type = if random.chance(0.9) { TYPES[0] } else { pick(&TYPES) };
            let is_empty = machine.group.state() == State::Empty;
            let expected = kafka_supports(is_empty, group_type, &members, protocol_type, &names);
            let id = format!("m{step:03}");
            let ticket = machine.join(Join {
                protocol_type: protocol_type.into(),
                protocols: protocols(&names),
                can_be_told_its_id: false,
                fresh_id: id.as_str().into(),
                ..new_member("m")
            });
            let refused =
                machine.seen.joins.remove(&ticket).map(|result| result.unwrap_err().error);
            let error = (!expected).then_some(GroupError::InconsistentProtocol);
            assert_eq!(refused, error, "seed {seed}, step {step}: {names:?} among {members:?}");
            *cases.entry((is_empty, members.is_empty(), expected)).or_insert(0) += 1;
            if expected {
                if members.is_empty() {
                    group_type = Some(protocol_type);
                }
                members.insert(id, names);
            }
        }
    }
    let rebalances_without_members = cases.get(&(false, true, true)).copied().unwrap_or(0);
    assert!(rebalances_without_members > 100, "{cases:?}");
    assert!(cases.len() >= 5, "{cases:?}");
}
