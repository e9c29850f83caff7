//! Fetches: the long poll, and one pass of locate, plan, read, assemble, spend, patch.

use std::ops::Range;
use std::sync::Arc;

use ottla_control_api::view::Extent;
use ottla_model::{Offset, PartitionId};
use ottla_object_io::{ReadCause, StoreError, StoreErrorKind};
use tokio::time::{Instant, timeout_at};

use super::assemble::{Place, Source, Stop, StoredBatch, batches};
use super::gather::{Gathered, Wanted};
use super::locate::{Found, Located};
use super::patch::patch;
use super::plan::{Brought, Offer, allot, spend};
use super::{FetchPartition, FetchRequest, FetchedPartition, ReadError, Reader, Records};
use crate::cache::Heat;
use crate::limits::{FETCH_BYTES_MAX, READ_AHEAD_BYTES};

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
        let wait = self.view.wait_on(request.partitions.iter().map(|p| p.partition));
        loop {
            let started = Instant::now();
            let out_of_time = started >= deadline;
            let located = self.locate(&request).await;
            stages.with(["plan"]).time(started.elapsed());
            if out_of_time || is_worth_reading(&request, &located) {
                let started = Instant::now();
                let (answer, cut) = self.read(&request, located).await;
                stages.with(["read"]).time(started.elapsed());
                if out_of_time || cut || is_enough(&request, &answer) {
                    self.count(&answer);
                    return answer;
                }
            }
            let started = Instant::now();
            // Out of time: one more pass, so that the answer has current offsets.
            let _ = timeout_at(deadline, wait.changed()).await;
            stages.with(["wait"]).time(started.elapsed());
        }
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
            .map(|(wanted, located)| self.part(request, *wanted, located))
            .collect();
        let offers: Vec<Offer> = parts.iter().map(Part::offer).collect();
        for (part, bytes) in parts.iter_mut().zip(allot(&offers, request.max_bytes as u64)) {
            part.take_up_to(bytes);
        }
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
        let answer = parts
            .into_iter()
            .zip(located)
            .zip(sent)
            .map(|((part, located), sent)| self.finish(part, located, sent))
            .collect();
        (answer, cut)
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
        let place = Place {
            position: known.unwrap_or(extent.position.0),
            offset: if known.is_some() {
                wanted.offset.max(extent.base_offset)
            } else {
                extent.base_offset
            },
        };
        // Without a known place, the batch may be anywhere in the extent: take all of it.
        let until = if known.is_some() { 0 } else { extent.position.0 + extent.length };
        (Source { extent: Arc::clone(extent), place }, until)
    }

    /// Puts the part's batches together and repairs once what can be repaired.
    async fn collect(&self, part: &mut Part, gathered: &mut Gathered, need_one: bool) {
        let cause = part.cause();
        let mut repaired = false;
        let mut extended = 0;
        while let Some((at, stop)) = part.assemble(gathered) {
            let Some((source, _)) = part.sources.get(at).cloned() else { return };
            let object = Arc::clone(&source.extent.object);
            match stop {
                Stop::Cut(until)
                    if need_one && part.batches.is_empty() && extended < EXTENSIONS_MAX =>
                {
                    extended += 1;
                    part.extend(at, until);
                }
                Stop::End | Stop::Cut(_) => {
                    part.cut = true;
                    return;
                }
                Stop::Damaged(position, reason) if !repaired => {
                    repaired = true;
                    tracing::warn!(
                        partition = %part.wanted.partition, object = %object.name, position, reason,
                        "read damaged bytes again"
                    );
                    self.gather.forget(&object, &(position..part.until(at).max(position + 1)));
                    gathered.distrust(&object);
                }
                Stop::Failed(StoreError::Corrupt { .. }) if !repaired => repaired = true,
                Stop::Failed(error) if !repaired && error.kind() == StoreErrorKind::NotFound => {
                    repaired = true;
                    match self.replaced(part.wanted.partition, &source.extent).await {
                        Ok(Some(extents)) => {
                            let sources = extents.iter().map(|e| self.source(&part.wanted, e));
                            let sources: Vec<_> = sources.collect();
                            part.sources.splice(at.., sources);
                            part.take_up_to(part.allotted);
                        }
                        Ok(None) => return part.fail(error.into(), &object.name),
                        Err(error) => return part.fail(error, &object.name),
                    }
                }
                Stop::Failed(StoreError::Corrupt { reason, .. }) | Stop::Damaged(_, reason) => {
                    return part.fail(ReadError::Corrupt(reason), &object.name);
                }
                Stop::Failed(error) => return part.fail(error.into(), &object.name),
            }
            let wanted: Vec<Wanted> = part.wanted_ranges().collect();
            self.gather.read(&wanted, part.heat, cause, gathered).await;
        }
    }

    /// The extents that now hold an extent's records, when those are others.
    async fn replaced(
        &self,
        partition: PartitionId,
        extent: &Extent,
    ) -> Result<Option<Vec<Arc<Extent>>>, ReadError> {
        let page = self.find_extents(partition, extent.base_offset, extent.length).await?;
        let bounds = page.bounds.ok_or(ReadError::UnknownPartition)?;
        if extent.last_offset < bounds.log_start {
            return Err(ReadError::OffsetOutOfRange);
        }
        let moved = page.extents.first().is_some_and(|e| e.object.name != extent.object.name);
        Ok(moved.then_some(page.extents))
    }

    fn finish(&self, part: Part, located: Located, sent: usize) -> FetchedPartition {
        let bounds = located.bounds;
        let records = match patch(part.batches.iter().take(sent).map(|(_, batch)| batch)) {
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

    /// Reads ahead for parts that go through older data.
    fn read_ahead(&self, parts: &[Part]) {
        let ahead: Vec<Wanted> = parts
            .iter()
            .filter(|part| part.heat == Heat::CatchUp && part.error.is_none())
            .flat_map(|part| part.ranges(part.allotted..part.allotted + READ_AHEAD_BYTES))
            .collect();
        if !ahead.is_empty() {
            self.ahead.start(&self.gather, ahead);
        }
    }
}

/// One partition of a fetch on its way.
struct Part {
    wanted: FetchPartition,
    /// One past the last offset that may be read.
    end: Offset,
    heat: Heat,
    /// Extents with the places where reading begins, and the position up to which is read.
    sources: Vec<(Source, u64)>,
    allotted: u64,
    /// With the number of the source they come from.
    batches: Vec<(usize, StoredBatch)>,
    /// There is more than was read.
    cut: bool,
    error: Option<ReadError>,
}

impl Part {
    fn cause(&self) -> ReadCause {
        match self.heat {
            Heat::Tail => ReadCause::Tail,
            Heat::CatchUp => ReadCause::CatchUp,
        }
    }

    fn offer(&self) -> Offer {
        let available = self.sources.iter().map(|(source, _)| source.length()).sum();
        Offer { available, max_bytes: self.wanted.max_bytes as u64 }
    }

    /// Takes the first `bytes` of the sources, and whole extents where the place is not known.
    fn take_up_to(&mut self, bytes: u64) {
        self.allotted = bytes;
        let mut left = bytes;
        for (source, until) in &mut self.sources {
            if left == 0 {
                // What is not read at all is not half read either.
                *until = source.place.position;
                continue;
            }
            let take = source.length().min(left);
            left -= take;
            *until = (*until).max(source.place.position + take);
        }
    }

    /// Reads a source further, up to `until`.
    fn extend(&mut self, at: usize, until: u64) {
        if let Some((_, read_until)) = self.sources.get_mut(at) {
            *read_until = until.max(*read_until);
        }
    }

    fn until(&self, at: usize) -> u64 {
        self.sources.get(at).map_or(0, |(_, until)| *until)
    }

    fn wanted_ranges(&self) -> impl Iterator<Item = Wanted> {
        self.sources
            .iter()
            .map(|(source, until)| {
                (Arc::clone(&source.extent.object), source.place.position..*until)
            })
            .filter(|(_, range)| !range.is_empty())
    }

    /// A range of the sources' bytes, counted over all of them.
    fn ranges(&self, range: Range<u64>) -> Vec<Wanted> {
        let mut before = 0;
        let mut found = Vec::new();
        for (source, _) in &self.sources {
            let length = source.length();
            let from = range.start.saturating_sub(before).min(length);
            let to = range.end.saturating_sub(before).min(length);
            before += length;
            if from < to {
                let start = source.place.position;
                found.push((Arc::clone(&source.extent.object), start + from..start + to));
            }
        }
        found
    }

    /// Puts the batches together from what was gathered; says where and why it stopped before the
    /// end of the sources.
    fn assemble(&mut self, gathered: &Gathered) -> Option<(usize, Stop)> {
        self.batches.clear();
        for (at, (source, until)) in self.sources.iter().enumerate() {
            if *until <= source.place.position {
                return Some((at, Stop::Cut(source.place.position)));
            }
            let Some(bytes) = gathered.object(&source.extent.object) else {
                return Some((at, Stop::Cut(source.place.position)));
            };
            let (found, stop) = batches(&source.extent, source.place, *until, bytes);
            let readable = found.into_iter().filter(|batch| {
                batch.last_offset() >= self.wanted.offset && batch.last_offset() < self.end
            });
            self.batches.extend(readable.map(|batch| (at, batch)));
            if !matches!(stop, Stop::End) {
                return Some((at, stop));
            }
        }
        None
    }

    /// Whether there is more to read than the `sent` batches.
    fn is_cut(&self, sent: usize) -> bool {
        self.cut || sent < self.batches.len()
    }

    /// Ends the part: what came before is served, the next fetch meets the error.
    fn fail(&mut self, error: ReadError, object: &ottla_model::ObjectName) {
        tracing::warn!(partition = %self.wanted.partition, %object, %error, "read partition");
        self.error = Some(error);
    }
}

impl Source {
    /// Bytes from the place to the extent's end.
    fn length(&self) -> u64 {
        (self.extent.position.0 + self.extent.length).saturating_sub(self.place.position)
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
                available += extents.iter().map(|e| e.length).sum::<u64>()
            }
        }
    }
    available >= request.min_bytes as u64
}

fn is_enough(request: &FetchRequest, answer: &[FetchedPartition]) -> bool {
    let bytes: usize = answer.iter().map(|p| p.records.length).sum();
    bytes >= request.min_bytes || answer.iter().any(|p| p.error.is_some())
}
