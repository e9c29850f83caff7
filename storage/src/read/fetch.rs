//! Fetches: the long poll, and one pass of locate, plan, read, assemble, spend, patch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_control_api::view::Extent;
use ottla_model::PartitionId;
use ottla_object_io::{ReadCause, StoreError, StoreErrorKind};
use tokio::time::{Instant, timeout, timeout_at};

use super::assemble::{Place, Source, Stop};
use super::gather::{Gathered, Held, Wanted};
use super::leader::Answered;
use super::locate::{Found, Located};
use super::part::{Part, pins_too_much};
use super::patch::patch;
use super::plan::{Brought, Offer, allot, spend};
use super::{
    FetchPartition, FetchRequest, FetchedPartition, PassMemory, ReadError, Reader, Records,
};
use crate::cache::{BlockKey, Heat};
use crate::limits::{
    FETCH_BLOCKS_MAX, FETCH_BYTES_MAX, HOLD_WAIT_MAX, PASS_PARTITION_BYTES, PASS_WAIT_MAX,
    READ_AHEAD_BLOCKS_MAX, SMALL_PASS_PARTITIONS,
};
use crate::write::Reservation;

/// A first batch that is larger than what was read for it is completed in at most this many
/// further reads: one for its header, one for its body.
const EXTENSIONS_MAX: u32 = 2;

impl Reader {
    /// Answers a fetch: one entry per partition, in the request's order. Waits up to `max_wait`
    /// for `min_bytes`, unless a partition has an error to report.
    pub async fn fetch(&self, mut request: FetchRequest) -> Vec<FetchedPartition> {
        request.max_bytes = request.max_bytes.min(FETCH_BYTES_MAX);
        let deadline = Instant::now() + request.max_wait;
        let stages = &self.metrics.fetch.stage_seconds;
        // Registered before the first look, so that no change is missed.
        let wait = self.view.wait_on(Arc::clone(&request.partitions));
        loop {
            if let Some(answer) = self.pass(&request, deadline).await {
                self.count(&answer);
                return answer;
            }
            let started = Instant::now();
            // Out of time: one more pass, so that the answer has current offsets.
            let _ = timeout_at(deadline, wait.changed()).await;
            stages.with(["wait"]).time(started.elapsed());
        }
    }

    /// One pass; `None` when it is worth waiting for more. Keeps nothing.
    async fn pass(
        &self,
        request: &FetchRequest,
        deadline: Instant,
    ) -> Option<Vec<FetchedPartition>> {
        let _memory = match memory_for_a_pass(request).await {
            Ok(memory) => memory,
            Err(NoMemory) => return Some(self.without_looking(request)),
        };
        let stages = &self.metrics.fetch.stage_seconds;
        let started = Instant::now();
        let out_of_time = started >= deadline;
        let located = self.locate(request).await;
        stages.with(["plan"]).time(started.elapsed());
        if !out_of_time && !is_worth_reading(request, &located) {
            return None;
        }
        let started = Instant::now();
        let (answer, cut) = self.read(request, located).await;
        stages.with(["read"]).time(started.elapsed());
        (out_of_time || cut || is_enough(request, &answer)).then_some(answer)
    }

    /// An answer without records, as far as the view goes.
    fn without_looking(&self, request: &FetchRequest) -> Vec<FetchedPartition> {
        let answer = |wanted: FetchPartition| {
            let bounds = self.view.bounds(wanted.partition);
            let error = bounds.is_none().then_some(ReadError::UnknownPartition);
            let bounds = bounds.unwrap_or_default();
            FetchedPartition { bounds, records: Records::default(), error }
        };
        request.partitions.iter().map(answer).collect()
    }

    fn count(&self, answer: &[FetchedPartition]) {
        let bytes: usize = answer.iter().map(|p| p.records.length).sum();
        self.metrics.fetch.response_bytes.observe(bytes as f64);
        for error in answer.iter().filter_map(|p| p.error.as_ref()) {
            self.metrics.fetch.partition_errors.with([error.label()]).inc();
        }
    }

    /// Reads what was located. The flag says that a limit of the request cut the answer: waiting
    /// would not bring more.
    async fn read(
        &self,
        request: &FetchRequest,
        located: Vec<Located>,
    ) -> (Vec<FetchedPartition>, bool) {
        let mut parts: Vec<Part> = request
            .partitions
            .iter()
            .zip(&located)
            .map(|(wanted, located)| self.part(request, wanted, located))
            .collect();
        let offers: Vec<Offer> = parts.iter().map(Part::offer).collect();
        for (part, bytes) in parts.iter_mut().zip(allot(&offers, request.max_bytes as u64)) {
            part.take_up_to(bytes);
        }
        let _held = self.hold_blocks(&mut parts).await;
        let mut gathered = self.gather_all(&parts).await;

        let mut brought = Vec::new();
        for part in &mut parts {
            let need_one = brought.iter().all(|b: &Brought| b.batches.is_empty());
            self.collect(part, &mut gathered, need_one).await;
            brought.push(Brought {
                batches: part.batches.iter().map(|(_, batch)| batch.bytes.len()).collect(),
                max_bytes: part.wanted.max_bytes,
            });
        }
        let sent = spend(&brought, request.max_bytes);
        let cut = parts.iter().zip(&sent).any(|(part, sent)| part.is_cut(*sent));
        self.read_ahead(&parts);
        let copy = pins_too_much(&parts, &sent, &gathered);
        let answer = parts
            .into_iter()
            .zip(located)
            .zip(sent)
            .map(|((part, located), sent)| self.finish(part, located, sent, copy, &gathered))
            .collect();
        (answer, cut)
    }

    /// Waits until the blocks that the parts need may be held, at most for [`HOLD_WAIT_MAX`] in all.
    /// Parts for which they were not granted are cut to nothing.
    async fn hold_blocks(&self, parts: &mut [Part]) -> [Option<Held<'_>>; 2] {
        let (tail, catch_up) = self.limit_blocks(parts);
        let deadline = Instant::now() + HOLD_WAIT_MAX;
        let mut granted = [None, None];
        let wanted = [(catch_up, Heat::CatchUp), (tail, Heat::Tail)];
        for (held, (blocks, heat)) in granted.iter_mut().zip(wanted) {
            match timeout_at(deadline, self.gather.hold(blocks, heat)).await {
                Ok(hold) => *held = hold,
                Err(_) => {
                    let without = parts.iter_mut().filter(|part| part.heat == heat);
                    without.for_each(Part::cut_to_nothing);
                }
            }
        }
        granted
    }

    /// Cuts the parts so that at most [`FETCH_BLOCKS_MAX`] blocks come from the store, but always
    /// those of the first extent; says how many tail and catch-up blocks that are. Takes the first
    /// extent of each part, then the second of each: parts that go through the same objects stay
    /// together, and each object is read whole and once.
    fn limit_blocks(&self, parts: &mut [Part]) -> (usize, usize) {
        let mut blocks: BTreeMap<BlockKey, Heat> = BTreeMap::new();
        let mut open: Vec<&mut Part> = parts.iter_mut().collect();
        for at in 0.. {
            open.retain_mut(|part| {
                let Some(wanted) = part.taken_of(at) else { return false };
                let missing = wanted.iter().flat_map(|wanted| self.gather.missing(wanted));
                let more: Vec<BlockKey> = missing.filter(|key| !blocks.contains_key(key)).collect();
                let fits = blocks.is_empty() || blocks.len() + more.len() <= FETCH_BLOCKS_MAX;
                if fits {
                    blocks.extend(more.into_iter().map(|key| (key, part.heat)));
                } else {
                    part.drop_from(at);
                }
                fits
            });
            if open.is_empty() {
                break;
            }
        }
        let tail = blocks.values().filter(|heat| **heat == Heat::Tail).count();
        (tail, blocks.len() - tail)
    }

    /// Reads everything that the parts take, tail and catch-up side by side.
    async fn gather_all(&self, parts: &[Part]) -> Gathered {
        let wanted = |heat| -> Vec<Wanted> {
            parts.iter().filter(|part| part.heat == heat).flat_map(Part::wanted_ranges).collect()
        };
        let (tail, catch_up) = (wanted(Heat::Tail), wanted(Heat::CatchUp));
        let (mut gathered, mut older) = (Gathered::default(), Gathered::default());
        tokio::join!(
            self.gather.read(&tail, Heat::Tail, ReadCause::Tail, &mut gathered),
            self.gather.read(&catch_up, Heat::CatchUp, ReadCause::CatchUp, &mut older),
        );
        gathered.add(older);
        gathered
    }

    fn part(&self, request: &FetchRequest, wanted: FetchPartition, located: &Located) -> Part {
        let mut part = Part {
            wanted,
            end: request.isolation.end(&located.bounds),
            heat: Heat::Tail,
            sources: Vec::new(),
            allotted: 0,
            batches: Vec::new(),
            cut: false,
            error: None,
        };
        match &located.found {
            Found::AtEnd => {}
            Found::Error(error) => part.error = Some(error.clone()),
            Found::Extents(extents, heat) => {
                part.heat = *heat;
                part.sources = extents.iter().map(|e| self.source(&wanted, e)).collect();
            }
        }
        part
    }

    /// Where to begin in an extent: at the wanted offset when its place is known, else at the
    /// start.
    fn source(&self, wanted: &FetchPartition, extent: &Arc<Extent>) -> (Source, u64) {
        let known = self.places.find(wanted.partition, extent, wanted.offset);
        let positions = extent.positions();
        let place = Place {
            position: known.unwrap_or(positions.start),
            offset: if known.is_some() {
                wanted.offset.max(extent.base_offset)
            } else {
                extent.base_offset
            },
        };
        // Without a known place, the batch may be anywhere in the extent: take all of it.
        let until = if known.is_some() { 0 } else { positions.end };
        (Source { extent: Arc::clone(extent), place }, until)
    }

    /// Puts the part's batches together and repairs once what can be repaired.
    async fn collect(&self, part: &mut Part, gathered: &mut Gathered, need_one: bool) {
        let cause = part.cause();
        let mut repaired = false;
        let mut extended = 0;
        while let Some((at, stop)) = part.assemble(gathered) {
            let Some((source, _)) = part.sources.get(at).cloned() else { return };
            if matches!(stop, Stop::Damaged(..) | Stop::Failed(StoreError::Corrupt { .. })) {
                self.metrics.fetch.damaged_reads.inc();
            }
            let repair = match stop {
                Stop::Cut(until)
                    if need_one && part.batches.is_empty() && extended < EXTENSIONS_MAX =>
                {
                    extended += 1;
                    part.extend(at, until);
                    Ok(())
                }
                Stop::End | Stop::Cut(_) => {
                    part.cut = true;
                    return;
                }
                Stop::Damaged(_, reason) if repaired => Err(ReadError::Corrupt(reason)),
                Stop::Damaged(position, reason) => {
                    repaired = true;
                    self.read_anew(part, at, position, reason, gathered)
                }
                Stop::Failed(error) if repaired => Err(into_read_error(error)),
                Stop::Failed(error) => {
                    repaired = true;
                    self.locate_anew(part, at, error).await
                }
            };
            if let Err(error) = repair {
                return part.fail(error, &source.extent);
            }
            let wanted: Vec<Wanted> = part.wanted_ranges().collect();
            self.gather.read(&wanted, part.heat, cause, gathered).await;
        }
    }

    /// Makes the next read of a source take its bytes from `position` on from the store. Those that
    /// an extent holds by value are nowhere else.
    fn read_anew(
        &self,
        part: &Part,
        at: usize,
        position: u64,
        reason: String,
        gathered: &mut Gathered,
    ) -> Result<(), ReadError> {
        let object = part.sources.get(at).and_then(|(source, _)| source.extent.object());
        let Some(object) = object else { return Err(ReadError::Corrupt(reason)) };
        tracing::warn!(
            partition = %part.wanted.partition, object = %object.name, position, reason,
            "read damaged bytes again"
        );
        self.gather.forget(object, &(position..part.until(at).max(position + 1)));
        gathered.distrust(object);
        Ok(())
    }

    /// Makes the next read of a source find its records where they are now, if its object is gone; one
    /// that was damaged is read again.
    async fn locate_anew(
        &self,
        part: &mut Part,
        at: usize,
        error: StoreError,
    ) -> Result<(), ReadError> {
        let partition = part.wanted.partition;
        if matches!(error, StoreError::Corrupt { .. }) {
            tracing::warn!(%partition, %error, "reads it again");
            return Ok(());
        }
        let source = part.sources.get(at).filter(|_| error.kind() == StoreErrorKind::NotFound);
        let Some((source, _)) = source else { return Err(error.into()) };
        let replaced = self.replaced(partition, &source.extent).await?;
        let extents = replaced.ok_or_else(|| ReadError::from(error))?;
        let sources: Vec<_> = extents.iter().map(|e| self.source(&part.wanted, e)).collect();
        part.sources.splice(at.., sources);
        part.take_up_to(part.allotted);
        Ok(())
    }

    /// The extents that now hold an extent's records, when those are others.
    async fn replaced(
        &self,
        partition: PartitionId,
        extent: &Extent,
    ) -> Result<Option<Vec<Arc<Extent>>>, ReadError> {
        let Answered { shown, page, .. } =
            self.find_extents(partition, extent.base_offset, extent.length()).await?;
        if extent.last_offset < shown.log_start {
            return Err(ReadError::OffsetOutOfRange);
        }
        let name = |extent: &Extent| extent.object().map(|object| object.name);
        let moved = page.extents.first().is_some_and(|first| name(first) != name(extent));
        Ok(moved.then_some(page.extents))
    }

    fn finish(
        &self,
        part: Part,
        located: Located,
        sent: usize,
        copy: bool,
        gathered: &Gathered,
    ) -> FetchedPartition {
        let bounds = located.bounds;
        if part.heat == Heat::CatchUp {
            self.gather.note_served(&part.sent_ranges(sent), gathered);
        }
        let batches = part.batches.iter().take(sent).map(|(_, batch)| batch);
        let records = match patch(batches, copy) {
            Ok(records) => records,
            Err(error) => {
                return FetchedPartition {
                    bounds,
                    records: Records::default(),
                    error: Some(error),
                };
            }
        };
        if let Some((at, last)) = sent.checked_sub(1).and_then(|last| part.batches.get(last))
            && let Some((source, _)) = part.sources.get(*at)
        {
            let next = last.last_offset().plus(1);
            self.places.note(part.wanted.partition, &source.extent, next, last.end_position);
        }
        let error = if records.length == 0 && part.batches.is_empty() { part.error } else { None };
        FetchedPartition { bounds, records, error }
    }

    /// Reads ahead for parts that go through older data: what the next fetch will ask for is read
    /// while this answer is on its way.
    fn read_ahead(&self, parts: &[Part]) {
        let mut blocks = BTreeSet::new();
        let mut ahead: Vec<Wanted> = Vec::new();
        let parts = parts.iter().filter(|part| part.heat == Heat::CatchUp && part.error.is_none());
        let mut unread: Vec<_> = parts.map(Part::unread).collect();
        while !unread.is_empty() && blocks.len() < READ_AHEAD_BLOCKS_MAX {
            // One range of each part at a time, as they will be asked for.
            unread.retain_mut(|part| {
                let Some(wanted) = part.next() else { return false };
                let missing: Vec<BlockKey> = self.gather.missing(&wanted).collect();
                if !missing.is_empty() && blocks.len() < READ_AHEAD_BLOCKS_MAX {
                    blocks.extend(missing);
                    ahead.push(wanted);
                }
                true
            });
        }
        if !ahead.is_empty() {
            self.ahead.start(&self.gather, ahead);
        }
    }
}

/// There is no memory for a pass, and the fetch may not wait, or has waited long enough.
struct NoMemory;

/// Waits until there is memory for a pass over many partitions, if the fetch may wait; one over few
/// takes little.
async fn memory_for_a_pass(request: &FetchRequest) -> Result<Option<Reservation>, NoMemory> {
    let partitions = request.partitions.len();
    let memory = request.memory.as_ref().filter(|_| partitions > SMALL_PASS_PARTITIONS);
    let Some(PassMemory { budget, client, may_wait }) = memory else { return Ok(None) };
    let bytes = partitions * PASS_PARTITION_BYTES;
    if !may_wait {
        return budget.try_reserve(*client, bytes).map(Some).ok_or(NoMemory);
    }
    match timeout(PASS_WAIT_MAX, budget.reserve(*client, bytes)).await {
        Ok(Ok(reserved)) => Ok(Some(reserved)),
        // More than the whole budget cannot be: no request has so many partitions.
        Ok(Err(_)) => Ok(Some(budget.charge(*client, bytes))),
        Err(_) => Err(NoMemory),
    }
}

/// Whether a pass can bring an answer: an error, or by the extents' lengths enough bytes.
fn is_worth_reading(request: &FetchRequest, located: &[Located]) -> bool {
    let mut available = 0;
    for located in located {
        match &located.found {
            Found::AtEnd => {}
            Found::Error(_) => return true,
            Found::Extents(extents, _) => {
                available += extents.iter().map(|extent| extent.length()).sum::<u64>()
            }
        }
    }
    available >= request.min_bytes as u64
}

fn into_read_error(error: StoreError) -> ReadError {
    match error {
        StoreError::Corrupt { reason, .. } => ReadError::Corrupt(reason),
        error => error.into(),
    }
}

fn is_enough(request: &FetchRequest, answer: &[FetchedPartition]) -> bool {
    let bytes: usize = answer.iter().map(|p| p.records.length).sum();
    bytes >= request.min_bytes || answer.iter().any(|p| p.error.is_some())
}
