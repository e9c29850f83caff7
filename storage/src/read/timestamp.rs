//! Records by timestamp, exact to the record (ListOffsets with a timestamp, and −3).
//!
//! The control plane knows the largest timestamp of each extent and gives the first extent that
//! can hold the answer. Its batches are looked through in order up to the record that is the answer,
//! as a stream and under a cap. What their headers say of times is not believed: stored bytes are as
//! they were sent, and old clients leave the maximum at −1. Where the log gave the time (log-append
//! time), all records of a batch have it and none is looked at.
//!
//! What a producer compressed well takes a second to look through, so that is done off the threads
//! that serve, for a few look-ups at a time, each of which lets others have its turn between batches.
//! Turns go around the clients' addresses.
//!
//! An extent is in memory from its read until it was looked through, also while the look-up waits for
//! a turn. The extents of all look-ups have a budget of their own, of which an address has a share. So
//! a client with very many look-ups waits for its own ones, before anything is read for them; it holds
//! nothing that fetches need. A look-up whose caller stops waiting keeps its part of the budget until
//! the turn that it is in ends.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use ottla_control_api::view::Extent;
use ottla_control_api::{CallError, ExtentPage, TimestampQuery};
use ottla_model::{Offset, PartitionId, TimestampMs};
use ottla_object_io::ReadCause;
use ottla_wire::batch::BATCH_HEADER_BYTES;
use ottla_wire::decompress::{self, OutputLimits, Scratch};
use ottla_wire::records::records;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::assemble::{Place, Source, Stop, StoredBatch, batches};
use super::gather::{Gathered, Wanted};
use super::leader::Answered;
use super::{Isolation, ReadError, Reader};
use crate::cache::{BlockKey, Heat};
use crate::limits::{BLOCK_BYTES, RECORD_WALK_TURN_MAX, TIMESTAMP_EXTENTS_MAX};
use crate::write::Reservation;

/// A record by its offset and timestamp.
type Found = (Offset, TimestampMs);

impl Reader {
    /// The offset and timestamp of the record that a query asks for, among those that `isolation`
    /// may see; `None` when there is none. Waits for room and for turns in the share of `client`, and
    /// has no deadline: the caller drops it when its time is over.
    pub async fn offset_at(
        &self,
        client: IpAddr,
        partition: PartitionId,
        query: TimestampQuery,
        isolation: Isolation,
    ) -> Result<Option<Found>, ReadError> {
        let mut answered = self.find_timestamp(partition, query).await?;
        // The header of a batch that was stored unopened may claim a larger timestamp than its
        // records have: then the next extents are looked at.
        for _ in 0..TIMESTAMP_EXTENTS_MAX {
            let Answered { bounds, ref page, .. } = answered;
            let Some(last) = page.extents.last() else { return Ok(None) };
            let readable = Readable { from: bounds.log_start, end: isolation.end(&bounds) };
            let mut behind = last.last_offset;
            if let Some(extent) = first_candidate(page, query) {
                if extent.base_offset >= readable.end {
                    return Ok(None);
                }
                let found = self.search(client, &extent, query, readable).await?;
                if found.is_some() || query == TimestampQuery::Max {
                    return Ok(found);
                }
                behind = extent.last_offset;
            }
            // As many as one answer has: those that cannot hold it are passed over unread.
            answered = self.find_extents(partition, behind.plus(1), u64::MAX).await?;
        }
        let reason = "too many batch headers claim a later time than their records have";
        Err(ReadError::Corrupt(reason.to_owned()))
    }

    async fn search(
        &self,
        client: IpAddr,
        extent: &Arc<Extent>,
        query: TimestampQuery,
        readable: Readable,
    ) -> Result<Option<Found>, ReadError> {
        let memory = self.memory_of(client, extent).await;
        let batches = self.whole_extent(extent).await?.into();
        let most = extent.max_timestamp;
        let mut search = Search { query, readable, most, batches, best: None, _memory: memory };
        loop {
            // It goes along, because a walk ends by itself only, asked for or not.
            let turn = self.walks.turn(client).await;
            let walk = move || {
                let _turn = turn;
                let ended = search.take_turn();
                (search, ended)
            };
            let ended;
            (search, ended) = match spawn_blocking(walk).await {
                Ok(walked) => walked,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The process ends.
                    Err(_) => return Err(CallError::ShuttingDown.into()),
                },
            };
            if ended? {
                return Ok(search.best);
            }
        }
    }

    /// Waits for room for an extent's blocks.
    async fn memory_of(&self, client: IpAddr, extent: &Extent) -> Reservation {
        // The state's own copy of an extent's bytes is counted there.
        let blocks = extent.object().map_or(0, |_| BlockKey::covering(&extent.positions()).count());
        let bytes = blocks * BLOCK_BYTES as usize;
        // One that is longer than the budget, which only an enormous batch can be, is read alone.
        let bytes = bytes.min(self.look_ups.total());
        let reserved = self.look_ups.reserve(client, bytes).await;
        reserved.unwrap_or_else(|_| self.look_ups.charge(client, bytes))
    }

    async fn whole_extent(&self, extent: &Arc<Extent>) -> Result<Vec<StoredBatch>, ReadError> {
        let std::ops::Range { start, end } = extent.positions();
        let place = Place { position: start, offset: extent.base_offset };
        let source = Source { extent: Arc::clone(extent), place };
        let wanted: Vec<Wanted> = source.wanted(start..end).into_iter().collect();
        for last_try in [false, true] {
            let mut gathered = Gathered::default();
            self.gather.read(&wanted, Heat::CatchUp, ReadCause::Timestamp, &mut gathered).await;
            let stop = match gathered.of(extent) {
                Some(bytes) => match batches(extent, place, end, bytes) {
                    (found, Stop::End) => return Ok(found),
                    (_, stop) => stop,
                },
                None => Stop::Cut(end),
            };
            match stop {
                Stop::Failed(error) => return Err(error.into()),
                Stop::Damaged(_, reason) if last_try => return Err(ReadError::Corrupt(reason)),
                _ => wanted.iter().for_each(|(object, range)| self.gather.forget(object, range)),
            }
        }
        Err(ReadError::Corrupt("the extent ends inside a batch".to_owned()))
    }
}

/// Offsets that the asker may see.
#[derive(Clone, Copy)]
struct Readable {
    from: Offset,
    end: Offset,
}

impl Readable {
    fn holds(self, offset: Offset) -> bool {
        self.from <= offset && offset < self.end
    }
}

fn first_candidate(page: &ExtentPage, query: TimestampQuery) -> Option<Arc<Extent>> {
    match query {
        TimestampQuery::Max => page.extents.first().cloned(),
        TimestampQuery::AtOrAfter(time) => {
            page.extents.iter().find(|extent| extent.max_timestamp >= time).cloned()
        }
    }
}

/// A look-up in the batches of one extent.
struct Search {
    query: TimestampQuery,
    readable: Readable,
    /// No record of the extent is later.
    most: TimestampMs,
    /// Those that were not looked through.
    batches: VecDeque<StoredBatch>,
    best: Option<Found>,
    /// For what the batches lie in.
    _memory: Reservation,
}

impl Search {
    /// Looks through batches for one turn; `true` when the best is found, or there is none.
    fn take_turn(&mut self) -> Result<bool, ReadError> {
        let began = Instant::now();
        let mut scratch = Scratch::default();
        while let Some(batch) = self.batches.pop_front() {
            match self.look_through(&batch, &mut scratch) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // One that was stored unopened. It hides nothing but itself.
                Err(_) if !self.may_be_in(&batch) => {}
                Err(error) => return Err(error),
            }
            if began.elapsed() >= RECORD_WALK_TURN_MAX {
                return Ok(self.batches.is_empty());
            }
        }
        Ok(true)
    }

    /// `true` when no further batch need be looked through.
    fn look_through(
        &mut self,
        batch: &StoredBatch,
        scratch: &mut Scratch,
    ) -> Result<bool, ReadError> {
        for found in timestamps(batch, self.readable, scratch)? {
            let found = found?;
            match self.query {
                TimestampQuery::AtOrAfter(time) if found.1 < time => continue,
                TimestampQuery::AtOrAfter(_) => {
                    self.best = Some(found);
                    return Ok(true);
                }
                // The first of those with the largest timestamp; "no timestamp" is not one.
                TimestampQuery::Max => {
                    let so_far = self.best.map_or(TimestampMs::NONE, |best| best.1);
                    if found.1 > so_far {
                        self.best = Some(found);
                    }
                    if found.1 >= self.most {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Whether the header of a batch that cannot be read says that it may hold the answer.
    fn may_be_in(&self, batch: &StoredBatch) -> bool {
        let largest = TimestampMs(batch.header.max_timestamp);
        match self.query {
            TimestampQuery::AtOrAfter(time) => largest >= time,
            TimestampQuery::Max => self.best.is_none_or(|best| largest > best.1),
        }
    }
}

/// Offset and timestamp of each readable record of a batch, in offset order.
fn timestamps<'a>(
    batch: &'a StoredBatch,
    readable: Readable,
    scratch: &'a mut Scratch,
) -> Result<Box<dyn Iterator<Item = Result<Found, ReadError>> + 'a>, ReadError> {
    if let Some(time) = batch.append_time {
        // The first stands for all.
        let first = batch.base_offset.max(readable.from);
        let found = first <= batch.last_offset() && readable.holds(first);
        return Ok(Box::new(found.then_some(Ok((first, time))).into_iter()));
    }
    let damaged = |reason: String| ReadError::Corrupt(reason);
    let codec = batch.header.compression().map_err(|e| damaged(e.to_string()))?;
    let length = batch.bytes.len().saturating_sub(BATCH_HEADER_BYTES);
    let limits = OutputLimits::full(length);
    let plain = decompress::plain(codec, batch.bytes.records_reader(), limits, scratch)
        .map_err(|e| damaged(e.to_string()))?;
    let found = records(plain).map(move |record| {
        let record = record.map_err(|e| damaged(e.to_string()))?;
        let offset = batch.base_offset.plus(i64::from(record.offset_delta));
        let time = batch.header.base_timestamp.saturating_add(record.timestamp_delta);
        Ok((offset, TimestampMs(time)))
    });
    let is_readable = move |found: &Result<Found, ReadError>| match found {
        Ok((offset, _)) => readable.holds(*offset),
        Err(_) => true,
    };
    Ok(Box::new(found.filter(is_readable)))
}
