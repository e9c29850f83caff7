//! The partitions of a fetch, compact: a fetch that waits for records keeps them for minutes, and a
//! large consumer asks for thousands.

use ottla_model::{Offset, PartitionId, PartitionIndex, TopicId};

use super::FetchPartition;
use crate::limits::WAIT_ENTRY_BYTES;
use crate::view::PartitionSet;

/// Partitions in the order of a request: 16 bytes each, and 32 for each change of the topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchPartitions {
    runs: Vec<TopicRun>,
    partitions: Vec<OfTopic>,
}

/// Partitions of one topic, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TopicRun {
    topic: TopicId,
    /// One past the last of them.
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OfTopic {
    offset: i64,
    index: i32,
    max_bytes: u32,
}

const _: () = assert!(size_of::<OfTopic>() == 16);

impl FetchPartitions {
    /// Adds one behind the others. Of more than 4 GiB from one partition, 4 GiB are asked for.
    pub fn push(&mut self, wanted: FetchPartition) {
        let FetchPartition { partition, offset, max_bytes } = wanted;
        self.partitions.push(OfTopic {
            offset: offset.0,
            index: partition.index.0,
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
        });
        let end = self.partitions.len();
        match self.runs.last_mut().filter(|run| run.topic == partition.topic) {
            Some(run) => run.end = end,
            None => self.runs.push(TopicRun { topic: partition.topic, end }),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = FetchPartition> {
        let mut at = 0;
        self.runs.iter().flat_map(move |run| {
            let of_topic = &self.partitions[at..run.end];
            at = run.end;
            of_topic.iter().map(|wanted| FetchPartition {
                partition: PartitionId { topic: run.topic, index: PartitionIndex(wanted.index) },
                offset: Offset(wanted.offset),
                max_bytes: wanted.max_bytes as usize,
            })
        })
    }

    /// Gives back memory that no partition takes.
    pub fn shrink_to_fit(&mut self) {
        self.runs.shrink_to_fit();
        self.partitions.shrink_to_fit();
    }

    /// Bytes in memory while a fetch waits for them: their own, and their entries in the view.
    pub fn waiting_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<TopicRun>()
            + self.partitions.capacity() * size_of::<OfTopic>()
            + self.len() * WAIT_ENTRY_BYTES
    }
}

impl FromIterator<FetchPartition> for FetchPartitions {
    fn from_iter<I: IntoIterator<Item = FetchPartition>>(wanted: I) -> Self {
        let mut partitions = Self::default();
        wanted.into_iter().for_each(|wanted| partitions.push(wanted));
        partitions.shrink_to_fit();
        partitions
    }
}

impl PartitionSet for std::sync::Arc<FetchPartitions> {
    fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.iter().map(|wanted| wanted.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_come_out_as_they_went_in() {
        let wanted = |topic, index, max_bytes| FetchPartition {
            partition: PartitionId { topic: TopicId(topic), index: PartitionIndex(index) },
            offset: Offset(i64::from(index) << 40),
            max_bytes,
        };
        let all = [
            wanted(1, 0, 7),
            wanted(1, 5, 0),
            wanted(u128::MAX, 3, u32::MAX as usize),
            wanted(1, 0, 7),
            wanted(1, 0, 7),
        ];
        let compact: FetchPartitions = all.into_iter().collect();
        assert_eq!(compact.iter().collect::<Vec<_>>(), all);
        assert_eq!((compact.len(), compact.is_empty()), (5, false));
        assert_eq!(FetchPartitions::default().iter().next(), None);
    }

    #[test]
    fn a_thousand_consumers_of_a_thousand_partitions_wait_in_64_mb() {
        let thousand = (0..1_000).map(|index| FetchPartition {
            partition: PartitionId { topic: TopicId(1), index: PartitionIndex(index) },
            offset: Offset(0),
            max_bytes: 1 << 20,
        });
        let bytes = thousand.collect::<FetchPartitions>().waiting_bytes();
        assert!(1_000 * bytes <= 64_000_000, "{bytes} bytes for each");
    }
}
