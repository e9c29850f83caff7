//! The changes of a command that watchers see.

use std::sync::Arc;

use ottla_control_api::PartitionBounds;
use ottla_control_api::view::{Change, Extent};
use ottla_model::PartitionId;

use super::promise::promise;

/// Collects changes; a partition that several objects of one command touch is reported once.
#[derive(Debug, Default)]
pub(super) struct Changes {
    list: Vec<Change>,
    partitions: Vec<(PartitionId, PartitionBounds, Vec<Arc<Extent>>)>,
}

impl Changes {
    pub(super) fn push(&mut self, change: Change) {
        self.list.push(change);
    }

    /// Extents were added to a partition; `bounds` are those after them.
    pub(super) fn partition(
        &mut self,
        partition: PartitionId,
        bounds: PartitionBounds,
        extents: Vec<Arc<Extent>>,
    ) {
        let follow = extents.is_sorted_by(|a, b| a.last_offset.plus(1) == b.base_offset);
        let end = extents.last().map(|extent| extent.last_offset.plus(1));
        promise("I-FWD", follow && end.is_none_or(|end| end == bounds.high_watermark), || {
            format!("{partition} is shown with {bounds:?} and {extents:?}")
        });
        self.partitions.push((partition, bounds, extents));
    }

    pub(super) fn finish(mut self) -> Vec<Change> {
        let ascending = self.partitions.is_sorted_by(|(a, ..), (b, ..)| a < b);
        if !ascending {
            // Stable: the extents of one partition stay in the order they were added.
            self.partitions.sort_by_key(|(partition, ..)| *partition);
            self.partitions.dedup_by(|(later, bounds, added), (earlier, latest, extents)| {
                let same = later == earlier;
                if same {
                    *latest = *bounds;
                    extents.append(added);
                }
                same
            });
        }
        self.list.extend(
            self.partitions.into_iter().map(|(partition, bounds, extents)| Change::Partition {
                partition,
                bounds,
                extents,
            }),
        );
        self.list
    }
}
