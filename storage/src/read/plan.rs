//! The arithmetic of a fetch: how much each partition brings, and what is read for it. Plain
//! functions over values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use ottla_control_api::view::ObjectRef;
use ottla_model::ObjectName;

use crate::cache::BlockKey;

/// What a partition has to offer, as known before anything is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Bytes of its extents, from the asked offset's place on.
    pub available: u64,
    /// The partition's own limit.
    pub max_bytes: u64,
}

/// How many bytes to read for each partition, in request order. At least one byte for the first
/// partition that has any, whatever the limits: its first batch is always sent.
pub fn allot(offers: &[Offer], max_bytes: u64) -> Vec<u64> {
    let mut left = max_bytes;
    let mut granted = false;
    offers
        .iter()
        .map(|offer| {
            let mut allotted = offer.available.min(offer.max_bytes).min(left);
            if offer.available > 0 && !granted {
                granted = true;
                allotted = allotted.max(1);
            }
            left = left.saturating_sub(allotted);
            allotted
        })
        .collect()
}

/// What a partition brought: the lengths of its batches, and its own limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// Whole batches, in offset order.
    pub batches: Vec<usize>,
    /// The partition's own limit.
    pub max_bytes: usize,
}

/// How many batches of each partition are sent. `max_bytes` is spent in request order; the first
/// batch of the first partition that has one is sent even when it exceeds the limits, and no other
/// partition has that privilege: a minimum for each would let one request grow without bound and
/// starve those at its end.
pub fn spend(brought: &[Brought], max_bytes: usize) -> Vec<usize> {
    let mut left = max_bytes;
    let mut granted = false;
    brought
        .iter()
        .map(|partition| {
            let limit = partition.max_bytes.min(left);
            let (mut count, mut sum) = (0, 0usize);
            for length in &partition.batches {
                if sum.saturating_add(*length) > limit && granted {
                    break;
                }
                granted = true;
                count += 1;
                sum = sum.saturating_add(*length);
            }
            left = left.saturating_sub(sum);
            count
        })
        .collect()
}

/// Blocks of one object to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectBlocks {
    /// The object.
    pub object: Arc<ObjectRef>,
    /// Disjoint, in order, not touching.
    pub blocks: Vec<Range<u64>>,
}

/// The blocks that hold all the wanted byte ranges, each once.
pub fn blocks_of(wanted: &[(Arc<ObjectRef>, Range<u64>)]) -> Vec<ObjectBlocks> {
    let mut objects: BTreeMap<ObjectName, (Arc<ObjectRef>, BTreeSet<u64>)> = BTreeMap::new();
    for (object, range) in wanted {
        let (_, blocks) =
            objects.entry(object.name).or_insert_with(|| (Arc::clone(object), BTreeSet::new()));
        blocks.extend(BlockKey::covering(range));
    }
    objects
        .into_values()
        .map(|(object, blocks)| ObjectBlocks { object, blocks: ranges(&blocks) })
        .collect()
}

fn ranges(numbers: &BTreeSet<u64>) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(range) if range.end == *number => range.end += 1,
            _ => ranges.push(*number..number + 1),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use ottla_test_kit::values::extent;

    use super::*;
    use crate::limits::BLOCK_BYTES;

    fn brought(batches: &[usize], max_bytes: usize) -> Brought {
        Brought { batches: batches.to_vec(), max_bytes }
    }

    #[test]
    fn bytes_are_spent_in_request_order_with_one_grant() {
        type Partition<'a> = (&'a [usize], usize);
        let table: &[(&[Partition<'_>], usize, &[usize])] = &[
            // Plenty for all.
            (&[(&[100, 100], 500), (&[100], 500)], 1_000, &[2, 1]),
            // The partition's own limit.
            (&[(&[100, 100, 100], 250), (&[100], 500)], 1_000, &[2, 1]),
            // The request's limit: the second gets what is left.
            (&[(&[100, 100], 500), (&[100, 100], 500)], 350, &[2, 1]),
            // One batch larger than everything is sent, and nothing after it.
            (&[(&[5_000, 10], 100), (&[10], 100)], 1_000, &[1, 0]),
            // An oversized batch of a later partition is not.
            (&[(&[100], 500), (&[5_000], 500)], 1_000, &[1, 0]),
            // The grant goes to the first that has data.
            (&[(&[], 500), (&[5_000], 500), (&[10], 500)], 1_000, &[0, 1, 0]),
            // An oversized first batch counts in full.
            (&[(&[900], 100), (&[150], 500)], 1_000, &[1, 0]),
            (&[(&[900], 100), (&[100], 500)], 1_000, &[1, 1]),
            // Limits of zero still make progress.
            (&[(&[10, 10], 0), (&[10], 0)], 0, &[1, 0]),
            (&[], 10, &[]),
        ];
        for (partitions, max_bytes, want) in table {
            let partitions: Vec<Brought> =
                partitions.iter().map(|(batches, max)| brought(batches, *max)).collect();
            assert_eq!(spend(&partitions, *max_bytes), *want, "{partitions:?} {max_bytes}");
        }
    }

    #[test]
    fn eight_partitions_share_alike_when_the_client_rotates_them() {
        let mut sent = [0usize; 8];
        for round in 0..8 {
            // Room for two partitions' worth; the client moves those it got to the end.
            let order: Vec<usize> = (0..8).map(|i| (i + round * 2) % 8).collect();
            let partitions: Vec<Brought> = order.iter().map(|_| brought(&[100; 20], 800)).collect();
            for (partition, count) in order.iter().zip(spend(&partitions, 1_600)) {
                sent[*partition] += count;
            }
        }
        assert_eq!(sent, [16; 8]);
    }

    #[test]
    fn reading_is_allotted_like_spending() {
        let offer = |available, max_bytes| Offer { available, max_bytes };
        let offers = [offer(0, 100), offer(1_000, 100), offer(50, 100), offer(1_000, 500)];
        assert_eq!(allot(&offers, 400), [0, 100, 50, 250]);
        assert_eq!(allot(&offers, 0), [0, 1, 0, 0]);
    }

    #[test]
    fn neighbouring_ranges_of_an_object_are_read_once() {
        let [object, other] = [1, 2].map(|seq| extent(0, 0, 0, 10, seq).object().cloned().unwrap());
        let at = |start, end| (Arc::clone(&object), start..end);
        let wanted = [
            at(10, 20),
            (Arc::clone(&other), 0..10),
            at(20, BLOCK_BYTES + 1),
            at(BLOCK_BYTES + 1, BLOCK_BYTES + 2),
            at(4 * BLOCK_BYTES, 5 * BLOCK_BYTES),
            at(7, 7),
        ];
        assert_eq!(
            blocks_of(&wanted),
            [
                ObjectBlocks { object: Arc::clone(&object), blocks: vec![0..2, 4..5] },
                ObjectBlocks { object: other, blocks: vec![Range { start: 0, end: 1 }] },
            ]
        );
    }
}
