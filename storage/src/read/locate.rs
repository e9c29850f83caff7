//! Where a fetch's records are: from the broker's view when it knows, from the control plane when
//! it does not or when the offset looks wrong.
//!
//! A view is a moment behind. An offset above its high watermark may be right, one below its log
//! start can have been right a moment ago: the leader decides before a client is told that its
//! offset is out of range.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use ottla_control_api::view::Extent;
use ottla_control_api::{CallError, PartitionBounds};
use ottla_model::Offset;
use tokio::time::{Instant, timeout_at};

use super::leader::Answered;
use super::{FetchPartition, FetchRequest, Isolation, ReadError, Reader};
use crate::cache::Heat;
use crate::limits::{FETCH_QUESTION_TIME_MAX, FETCH_QUESTIONS_MAX, READ_AHEAD_BYTES};

/// What is known of a partition before anything is read.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub bounds: PartitionBounds,
    pub found: Found,
}

#[derive(Clone, Debug)]
pub(super) enum Found {
    /// The offset is at the end of what may be read.
    AtEnd,
    /// Extents in offset order, the first holds the offset (or is the next one after a gap).
    Extents(Vec<Arc<Extent>>, Heat),
    Error(ReadError),
}

impl Reader {
    /// Locates all partitions of a request, in its order. Partitions that the view does not know
    /// are asked for, all within [`FETCH_QUESTION_TIME_MAX`]: a fetch of very many has no more time
    /// than one.
    pub(super) async fn locate(&self, request: &FetchRequest) -> Vec<Located> {
        let max_bytes = |wanted: &FetchPartition| wanted.max_bytes.min(request.max_bytes).max(1);
        let seen: Vec<_> = request
            .partitions
            .iter()
            .map(|wanted| {
                let located = self.look(&wanted, max_bytes(&wanted) as u64, request.isolation);
                located.ok_or(wanted)
            })
            .collect();
        let deadline = Instant::now() + FETCH_QUESTION_TIME_MAX;
        // By value: over references the compiler cannot prove that the future is `Send`.
        stream::iter(seen)
            .map(|seen| async move {
                match seen {
                    Ok(located) => located,
                    Err(wanted) => {
                        let max_bytes = max_bytes(&wanted) as u64;
                        self.ask(&wanted, max_bytes, request.isolation, deadline).await
                    }
                }
            })
            .buffered(FETCH_QUESTIONS_MAX)
            .collect()
            .await
    }

    /// The view's answer, when it has one that cannot be wrong.
    fn look(
        &self,
        wanted: &FetchPartition,
        max_bytes: u64,
        isolation: Isolation,
    ) -> Option<Located> {
        let bounds = self.view.bounds(wanted.partition)?;
        if wanted.offset < bounds.log_start || wanted.offset > bounds.high_watermark {
            return None;
        }
        if wanted.offset >= isolation.end(&bounds) {
            return Some(Located { bounds, found: Found::AtEnd });
        }
        let recent = |bytes| self.view.recent_extents(wanted.partition, wanted.offset, bytes);
        let mut recent_extents = recent(max_bytes)?;
        // The view remembers further back than the cache.
        let first = recent_extents.extents.first().and_then(|extent| extent.object());
        let passed = first.is_some_and(|object| self.gather.has_passed(object));
        let heat = if passed { Heat::CatchUp } else { Heat::Tail };
        if heat == Heat::CatchUp {
            recent_extents = recent(max_bytes + READ_AHEAD_BYTES)?;
        }
        let bounds = recent_extents.bounds;
        let found = readable(recent_extents.extents, isolation.end(&bounds), heat);
        Some(Located { bounds, found })
    }

    /// The leader's answer, with extents for the next fetches of the same reader as well.
    async fn ask(
        &self,
        wanted: &FetchPartition,
        max_bytes: u64,
        isolation: Isolation,
        deadline: Instant,
    ) -> Located {
        let answered =
            self.find_extents(wanted.partition, wanted.offset, max_bytes + READ_AHEAD_BYTES);
        let answered = timeout_at(deadline, answered).await.unwrap_or_else(|_| {
            Err(CallError::OutcomeUnknown("no answer in time".to_owned()).into())
        });
        // The view may have passed the answer meanwhile. Its extents end where the answer says; a
        // client is shown the later of both, and is out of range only by that.
        let Answered { shown, bounds, page } = match answered {
            Ok(answered) => answered,
            Err(error @ ReadError::UnknownPartition) => {
                return Located { bounds: PartitionBounds::default(), found: Found::Error(error) };
            }
            Err(error) => {
                let bounds = self.view.bounds(wanted.partition).unwrap_or_default();
                return Located { bounds, found: Found::Error(error) };
            }
        };
        let end = isolation.end(&bounds);
        let found = if wanted.offset < shown.log_start || wanted.offset > shown.high_watermark {
            Found::Error(ReadError::OffsetOutOfRange)
        } else if wanted.offset >= end {
            Found::AtEnd
        } else {
            readable(page.extents, end, Heat::CatchUp)
        };
        Located { bounds: shown, found }
    }
}

/// Extents below `end`. There are records below it, so extents must be there.
fn readable(mut extents: Vec<Arc<Extent>>, end: Offset, heat: Heat) -> Found {
    extents.retain(|extent| extent.base_offset < end);
    if extents.is_empty() {
        let missing = "no extent holds an offset below the partition's end".to_owned();
        return Found::Error(ReadError::Unavailable(CallError::Unavailable(missing)));
    }
    Found::Extents(extents, heat)
}
