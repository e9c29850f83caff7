//! Promises of the state, as predicates that tests and simulation evaluate after every command.
//!
//! Each walks the whole state: they are for checking, never for the apply path, which has checks of
//! its own (`promise.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_format::state::{
    BrokerStatus, EXTENT_INLINE_BYTES_MAX, ExtentEntry, ExtentLocation, ObjectStatus, StateKey,
};
use ottla_model::{BrokerAuthor, GroupNumber, ObjectId, Offset};
use thiserror::Error;

use super::State;
use super::digest::Digest;
use super::groups::Group;

/// A promise that a state does not keep.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{promise} is violated: {what}")]
pub struct Violation {
    /// Its id.
    pub promise: &'static str,
    /// What is wrong, with the numbers.
    pub what: String,
}

fn violated(promise: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { promise, what })
}

impl State {
    /// All promises that can be seen in one state.
    pub fn check(&self) -> Result<(), Violation> {
        dense(self)?;
        idempotent(self)?;
        sequenced(self)?;
        live(self)?;
        counted(self)?;
        numbered(self)?;
        idle(self)?;
        extents(self)?;
        digest(self)
    }
}

/// I-DENSE: a partition's extents follow each other without a gap up to its next offset, and the
/// first one holds its log start. A partition without extents is empty.
pub fn dense(state: &State) -> Result<(), Violation> {
    for (id, partition) in state.topics.iter().flat_map(|topic| topic.partitions()) {
        let first = partition.extents.iter().next();
        let mut expected = first.map_or(partition.log_start, |extent| extent.base_offset);
        if first.is_some_and(|first| !first.holds(partition.log_start)) {
            let start = partition.log_start;
            return violated("I-DENSE", format!("{id}: {first:?} does not hold log start {start}"));
        }
        for extent in partition.extents.iter() {
            if extent.base_offset != expected {
                return violated("I-DENSE", format!("{id}: {extent:?} instead of {expected}"));
            }
            expected = extent.last_offset().plus(1);
        }
        if expected != partition.next_offset {
            let next = partition.next_offset;
            return violated("I-DENSE", format!("{id} ends at {expected}, not at {next}"));
        }
    }
    Ok(())
}

/// I-IDEM: what is remembered of a producer are stored batches that follow each other, in sequence
/// as in offsets.
pub fn idempotent(state: &State) -> Result<(), Violation> {
    for (id, partition) in state.topics.iter().flat_map(|topic| topic.partitions()) {
        for (producer, entry) in partition.producers.iter() {
            let wrong = |what| violated("I-IDEM", format!("{id}, producer {producer}: {what}"));
            for pair in entry.batches().windows(2) {
                if let [earlier, later] = pair {
                    if !earlier.last_sequence.is_followed_by(later.base_sequence) {
                        return wrong(format!("{later:?} follows {earlier:?}"));
                    }
                    if later.base_offset <= earlier.base_offset {
                        return wrong(format!("{later:?} is stored before {earlier:?}"));
                    }
                }
            }
            let end = entry.batches().last().map_or(Offset(-1), |last| last.base_offset);
            if entry.batches().is_empty() || end >= partition.next_offset {
                return wrong(format!("{entry:?} was never stored"));
            }
        }
    }
    Ok(())
}

/// I-FENCE, what one state shows of it: the outcomes of a living run are those of the sequences
/// from its frontier to the next undecided one; a fenced run has none; no epoch is from the future.
pub fn sequenced(state: &State) -> Result<(), Violation> {
    for (id, broker) in state.brokers.iter() {
        let entry = &broker.entry;
        let kept = broker.outcomes.keys().copied();
        let wanted = (entry.frontier.0..entry.next.0).map(ottla_model::ObjectSeq);
        let right = match entry.status {
            BrokerStatus::Fenced => broker.outcomes.is_empty(),
            BrokerStatus::Live | BrokerStatus::Draining => kept.eq(wanted),
        };
        if !right || entry.epoch >= state.books.counters.next_broker_epoch {
            return violated("I-FENCE", format!("broker {id}: {entry:?}"));
        }
    }
    Ok(())
}

/// I-LIVE: every object that an extent refers to exists; references and live bytes are what the
/// extents add up to; an object is live exactly as long as it has a reference, and is in the index
/// of condemned ones from then on.
pub fn live(state: &State) -> Result<(), Violation> {
    let mut used: BTreeMap<ObjectId, (u32, u64)> = BTreeMap::new();
    for (_, partition) in state.topics.iter().flat_map(|topic| topic.partitions()) {
        for extent in partition.extents.iter() {
            let Some(object) = extent.object() else { continue };
            let (references, bytes) = used.entry(object).or_default();
            *references += 1;
            *bytes += extent.length();
        }
    }
    for (id, object) in state.objects.iter() {
        let (references, bytes) = used.remove(&id).unwrap_or_default();
        let right = (references, bytes) == (object.references, object.live_bytes)
            && (references > 0) == (object.status == ObjectStatus::Live)
            && id < state.books.counters.next_object;
        if !right {
            let counted = format!("{references} extents with {bytes} bytes");
            return violated("I-LIVE", format!("object {id}: {counted}, {object:?}"));
        }
    }
    let condemned = state.objects.iter().filter_map(|(id, object)| match object.status {
        ObjectStatus::Live => None,
        ObjectStatus::Condemned { at } => Some((at, id)),
    });
    let condemned: BTreeSet<_> = condemned.collect();
    if !condemned.iter().eq(state.objects.condemned().iter()) {
        return violated("I-LIVE", format!("the index of condemned objects is not {condemned:?}"));
    }
    match used.first_key_value() {
        Some((id, _)) => violated("I-LIVE", format!("object {id} is referenced and unknown")),
        None => Ok(()),
    }
}

/// What was counted as it came and went is what there is.
pub fn counted(state: &State) -> Result<(), Violation> {
    let (counted, found) = (state.size(), state.recount());
    if counted != found {
        return violated("the size", format!("{counted:?} was counted, {found:?} is there"));
    }
    Ok(())
}

/// Every group has a number of its own, below the counter, and is found by its id; it has members or
/// an offset.
pub fn numbered(state: &State) -> Result<(), Violation> {
    let groups = &state.groups;
    let ids: BTreeMap<_, _> = groups.by_number.iter().map(|(n, g)| (&g.entry.id, n)).collect();
    if ids.len() != groups.by_number.len() || !ids.into_iter().eq(groups.numbers.iter()) {
        return violated("the numbers of groups", format!("are {:?}", groups.numbers));
    }
    for (number, group) in &groups.by_number {
        if *number >= state.books.counters.next_group {
            return violated("the numbers of groups", format!("{number} was never given"));
        }
        if group.offsets.is_empty() && !group.entry.has_members() {
            return violated("the groups", format!("{number} has neither members nor offsets"));
        }
    }
    let of_group = |(number, group): (&GroupNumber, &Arc<Group>)| {
        let topics: BTreeSet<_> = group.offsets.keys().map(|partition| partition.topic).collect();
        topics.into_iter().map(|topic| (topic, *number)).collect::<Vec<_>>()
    };
    let wanted: BTreeSet<_> = groups.by_number.iter().flat_map(of_group).collect();
    if !wanted.iter().eq(groups.by_topic.iter()) {
        return violated("the index of groups by topic", format!("should be {wanted:?}"));
    }
    Ok(())
}

/// A group is in the index of idle ones exactly while it has no members, under the time since when,
/// and otherwise in that of groups with members.
pub fn idle(state: &State) -> Result<(), Violation> {
    let groups = || state.groups.by_number.iter();
    let idle = groups().filter(|(_, group)| !group.entry.has_members());
    let wanted: BTreeSet<_> = idle.map(|(number, g)| (g.entry.idle_since, *number)).collect();
    let indexed = state.groups.idle.iter().map(|(since, number)| (Some(*since), *number));
    if !wanted.iter().copied().eq(indexed) {
        return violated("the index of idle groups", format!("should be {wanted:?}"));
    }
    let attended = groups().filter(|(_, group)| group.entry.has_members());
    let wanted: BTreeSet<_> = attended.map(|(_, group)| &group.entry.id).collect();
    if !wanted.iter().copied().eq(state.groups.attended.iter()) {
        return violated("the index of groups with members", format!("should be {wanted:?}"));
    }
    Ok(())
}

/// Every partition's extents keep what their module promises; so do the sums of their hashes. None
/// holds more by value than it may.
fn extents(state: &State) -> Result<(), Violation> {
    let mut digest = Digest::default();
    for (id, partition) in state.topics.iter().flat_map(|topic| topic.partitions()) {
        let checked = partition.extents.check(|extent| {
            digest.add(&StateKey::Extents(id, extent.base_offset), |out| extent.put(out))
        });
        if let Err(what) = checked {
            return violated("extents", format!("{id}: {what}"));
        }
        let fits = |extent: &&ExtentEntry| match &extent.location {
            ExtentLocation::Object { .. } => true,
            ExtentLocation::Inline(bytes) => (1..=EXTENT_INLINE_BYTES_MAX).contains(&bytes.len()),
        };
        if let Some(extent) = partition.extents.iter().find(|extent| !fits(extent)) {
            let bytes = extent.inline_bytes();
            return violated("I-BOUND", format!("{id}: an extent of {bytes} inline bytes"));
        }
    }
    Ok(())
}

/// The digest that was adjusted with every change is the digest of what there is.
pub fn digest(state: &State) -> Result<(), Violation> {
    let (adjusted, computed) = (state.digest(), state.recompute_digest());
    if adjusted != computed {
        return violated("digest", format!("adjusted {adjusted:032x}, computed {computed:032x}"));
    }
    Ok(())
}

/// I-FENCE over a step: the command of an author whose run is over changes nothing but the time
/// and the applied index.
pub fn fenced(before: &State, author: BrokerAuthor, after: &State) -> Result<(), Violation> {
    if before.is_living(author) {
        return Ok(());
    }
    let mut expected = before.clone();
    let counters = expected.books.counters;
    expected.books.counters.time = after.books.counters.time;
    expected.books.counters_changed(counters);
    if expected.digest() != after.digest() {
        return violated("I-FENCE", format!("{author:?} is fenced and changed the state"));
    }
    Ok(())
}

/// I-FWD over a step: no partition that lives on has offsets below what it had.
pub fn forward(before: &State, after: &State) -> Result<(), Violation> {
    for (id, partition) in before.topics.iter().flat_map(|topic| topic.partitions()) {
        let (old, new) = (partition.bounds(), after.bounds(id));
        let backward = new.is_some_and(|new| {
            new.log_start < old.log_start
                || new.high_watermark < old.high_watermark
                || new.last_stable < old.last_stable
        });
        if backward {
            return violated("I-FWD", format!("{id}: {old:?} became {new:?}"));
        }
    }
    Ok(())
}
