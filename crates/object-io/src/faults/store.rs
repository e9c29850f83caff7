//! The store that misbehaves.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use ottla_env::{Random, delay};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::capacity::Capacity;
use super::{FaultRates, ReadFault, WriteFault};
use crate::{ObjectEntry, Payload, PutDone, ReadCause, Store, StoreError};

/// A store with faults around another one. See the module for what it does.
pub struct FaultStore {
    inner: Arc<dyn Store>,
    random: Random,
    charges: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rates: FaultRates,
    writes: VecDeque<WriteFault>,
    reads: VecDeque<ReadFault>,
    outage: bool,
    capacity: Option<Capacity>,
    late: JoinSet<()>,
    puts: Vec<String>,
    reads_seen: Vec<(String, Range<u64>)>,
}

/// What a whole store can be in.
enum Trouble {
    Refused,
    Denied,
    Silent,
}

impl State {
    fn trouble(&mut self, random: &Random) -> Option<Trouble> {
        if self.outage {
            Some(Trouble::Refused)
        } else if random.chance(self.rates.denied) {
            Some(Trouble::Denied)
        } else {
            random.chance(self.rates.silent).then_some(Trouble::Silent)
        }
    }
}

impl FaultStore {
    /// Around `inner`; without faults until told otherwise. `random` decides all drawn ones.
    pub fn new(inner: Arc<dyn Store>, random: Random) -> Arc<Self> {
        Arc::new(Self {
            charges: inner.charges_for_requests(),
            inner,
            random,
            state: Mutex::default(),
        })
    }

    /// As [`FaultStore::new`], and says that its requests cost money.
    pub fn charging(inner: Arc<dyn Store>, random: Random) -> Arc<Self> {
        Arc::new(Self { inner, random, charges: true, state: Mutex::default() })
    }

    /// Draws faults by these rates from now on.
    pub fn set_rates(&self, rates: FaultRates) {
        self.state().rates = rates;
    }

    /// The next write without a scripted fault gets this one.
    pub fn script_write(&self, fault: WriteFault) {
        self.state().writes.push_back(fault);
    }

    /// The next read without a scripted fault gets this one.
    pub fn script_read(&self, fault: ReadFault) {
        self.state().reads.push_back(fault);
    }

    /// Begins (`true`) or ends (`false`) an outage: every request is refused.
    pub fn set_outage(&self, outage: bool) {
        self.state().outage = outage;
    }

    /// From now on only so many writes per second are served, the others refused; `None`: all.
    pub fn set_write_capacity(&self, per_second: Option<u32>) {
        self.state().capacity = per_second.map(|rate| Capacity::new(rate, Instant::now()));
    }

    /// Waits until all late writes have arrived.
    pub async fn settle(&self) {
        let mut late = std::mem::take(&mut self.state().late);
        while late.join_next().await.is_some() {}
    }

    /// The keys of all writes that were asked for, in order.
    pub fn puts(&self) -> Vec<String> {
        self.state().puts.clone()
    }

    /// All ranged reads that were asked for, in order.
    pub fn reads(&self) -> Vec<(String, Range<u64>)> {
        self.state().reads_seen.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What every request meets before anything else: the latency, and trouble of the whole store.
    async fn enter(&self, key: &str) -> Result<(), StoreError> {
        let (pause, trouble) = {
            let mut state = self.state();
            (state.rates.latency.draw(&self.random), state.trouble(&self.random))
        };
        if !pause.is_zero() {
            delay(pause).await;
        }
        match trouble {
            None => Ok(()),
            Some(Trouble::Refused) => Err(refused(key)),
            Some(Trouble::Denied) => Err(denied(key)),
            Some(Trouble::Silent) => std::future::pending().await,
        }
    }

    fn next_write(&self, key: &str) -> Option<WriteFault> {
        let mut state = self.state();
        state.puts.push(key.to_owned());
        if state.capacity.as_mut().is_some_and(|left| !left.take(Instant::now())) {
            return Some(WriteFault::Refused);
        }
        state.writes.pop_front().or_else(|| state.rates.draw_write(&self.random))
    }

    fn next_read(&self) -> Option<ReadFault> {
        let mut state = self.state();
        state.reads.pop_front().or_else(|| state.rates.draw_read(&self.random))
    }

    async fn read_faulty(
        &self,
        key: &str,
        read: impl Future<Output = Result<Bytes, StoreError>> + Send,
    ) -> Result<Bytes, StoreError> {
        let fault = self.next_read();
        self.enter(key).await?;
        match fault {
            None => read.await,
            Some(ReadFault::Refused) => Err(refused(key)),
            Some(ReadFault::Missing) => Err(StoreError::NotFound { key: key.to_owned() }),
            Some(ReadFault::Denied) => Err(denied(key)),
            Some(ReadFault::AnswerLost) => std::future::pending().await,
            Some(ReadFault::Slow(pause)) => {
                delay(pause).await;
                read.await
            }
            Some(ReadFault::Short) => read.await.map(|b| b.slice(..b.len().saturating_sub(1))),
            Some(ReadFault::Corrupt) => read.await.map(|bytes| self.flip_one_bit(&bytes)),
        }
    }

    fn flip_one_bit(&self, bytes: &Bytes) -> Bytes {
        let mut copy = BytesMut::from(&bytes[..]);
        let at = self.random.below(copy.len() as u64) as usize;
        if let Some(byte) = copy.get_mut(at) {
            *byte ^= 1 << self.random.below(8);
        }
        copy.freeze()
    }

    /// Stores what is left of a write after its answer was given.
    fn arrive_late(&self, key: &str, payload: Payload, after: std::time::Duration) {
        let (inner, key) = (Arc::clone(&self.inner), key.to_owned());
        self.state().late.spawn(async move {
            delay(after).await;
            if let Err(error) = inner.put(&key, payload).await {
                tracing::debug!(%error, key, "late write");
            }
        });
    }
}

fn refused(key: &str) -> StoreError {
    StoreError::Unavailable { key: key.to_owned(), reason: "503 SlowDown (fault)".to_owned() }
}

fn unknown(key: &str) -> StoreError {
    StoreError::OutcomeUnknown {
        key: key.to_owned(),
        reason: "connection reset (fault)".to_owned(),
    }
}

fn denied(key: &str) -> StoreError {
    StoreError::Denied { key: key.to_owned(), reason: "403 (fault)".to_owned() }
}

/// The beginning of a payload.
fn first_bytes(payload: &Payload, length: u64) -> Payload {
    let mut left = length as usize;
    let mut chunks = Vec::new();
    for chunk in &payload.chunks {
        let take = chunk.len().min(left);
        chunks.push(chunk.slice(..take));
        left -= take;
    }
    Payload::checksummed(chunks)
}

impl fmt::Debug for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {:?}", self.inner)
    }
}

#[async_trait]
impl Store for FaultStore {
    async fn put(&self, key: &str, payload: Payload) -> Result<PutDone, StoreError> {
        let fault = self.next_write(key);
        self.enter(key).await?;
        match fault {
            None => self.inner.put(key, payload).await,
            Some(WriteFault::Refused) => Err(refused(key)),
            Some(WriteFault::FailedBefore) => Err(unknown(key)),
            Some(WriteFault::Denied) => Err(denied(key)),
            Some(WriteFault::FailedAfter) => {
                self.inner.put(key, payload).await?;
                Err(unknown(key))
            }
            Some(WriteFault::Truncated) => {
                self.inner.put(key, first_bytes(&payload, payload.length / 2)).await
            }
            Some(WriteFault::Empty) => self.inner.put(key, first_bytes(&payload, 0)).await,
            Some(WriteFault::Late(after)) => {
                self.arrive_late(key, payload, after);
                Err(unknown(key))
            }
            Some(WriteFault::AnswerLost) => {
                self.inner.put(key, payload).await?;
                std::future::pending().await
            }
            Some(WriteFault::Slow(pause)) => {
                delay(pause).await;
                self.inner.put(key, payload).await
            }
        }
    }

    async fn put_if_absent(&self, key: &str, body: Bytes) -> Result<bool, StoreError> {
        let fault = self.next_write(key);
        self.enter(key).await?;
        match fault {
            None | Some(WriteFault::Slow(_)) => self.inner.put_if_absent(key, body).await,
            Some(WriteFault::Refused) => Err(refused(key)),
            Some(WriteFault::Denied) => Err(denied(key)),
            Some(WriteFault::FailedBefore) => Err(unknown(key)),
            Some(_) => {
                self.inner.put_if_absent(key, body).await?;
                Err(unknown(key))
            }
        }
    }

    async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        cause: ReadCause,
    ) -> Result<Bytes, StoreError> {
        self.state().reads_seen.push((key.to_owned(), range.clone()));
        self.read_faulty(key, self.inner.get_range(key, range, cause)).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, StoreError> {
        self.read_faulty(key, self.inner.get(key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectEntry>, StoreError> {
        self.enter(prefix).await?;
        self.inner.list(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.enter(key).await?;
        self.inner.delete(key).await
    }

    async fn prepare(&self, folders: &[String]) -> Result<(), StoreError> {
        self.inner.prepare(folders).await
    }

    fn charges_for_requests(&self) -> bool {
        self.charges
    }
}
