//! Producers that go on through kills and keep a history of everything they tried.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::messages::{InitProducerIdRequest, ProduceRequest, ProducerId};
use ottla_env::{Random, delay};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout};

use crate::history::{Attempt, Kind, Outcome};
use crate::payload;
use crate::raw::{ANSWER_WITHIN, RawClient, version};
use crate::topic::{self, Sequenced};

/// Pause before a server that does not answer is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// After [`Load::stop`], producers that retry have this long to be acknowledged.
pub const FINISH_WITHIN: Duration = Duration::from_secs(30);
/// Kafka's DUPLICATE_SEQUENCE_NUMBER: stored before.
const STORED_BEFORE: i16 = 46;
/// INVALID_PRODUCER_EPOCH, UNKNOWN_PRODUCER_ID: a resend cannot help.
const FATAL: [i16; 2] = [47, 59];
/// A batch that is tried so often is stuck.
const ATTEMPTS_MAX: u32 = 300;
/// Records of a batch, at most.
const RECORDS_MAX: u64 = 12;
/// The timestamp of every record.
const TIMESTAMP: i64 = 1_700_000_000_000;

/// How producers behave.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// Pause between two batches of a producer.
    pub pace: Duration,
    /// Bytes that pad a value, at most.
    pub padding_max: u64,
    /// A server that cannot be reached, or does not answer, for so long is gone for good.
    pub patience: Duration,
    /// After [`Load::stop`], producers that retry have this long to be acknowledged.
    pub finish_within: Duration,
}

impl Default for Manner {
    /// As fast as answers come.
    fn default() -> Self {
        Self {
            pace: Duration::ZERO,
            padding_max: 600,
            patience: ANSWER_WITHIN,
            finish_within: FINISH_WITHIN,
        }
    }
}

/// Running producers.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Vec<Attempt>>>>,
    manner: Manner,
}

impl Load {
    /// One producer per kind in the list; producer n writes to partition n of the topic.
    pub fn start(bootstrap: &str, topic: &str, kinds: &[Kind], seed: u64) -> Self {
        Self::start_with(bootstrap, topic, kinds, seed, Manner::default())
    }

    /// The same with producers that behave as told.
    pub fn start_with(
        bootstrap: &str,
        topic: &str,
        kinds: &[Kind],
        seed: u64,
        manner: Manner,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = kinds
            .iter()
            .enumerate()
            .map(|(number, &kind)| {
                let producer = Producer {
                    bootstrap: bootstrap.to_owned(),
                    topic: topic.to_owned(),
                    number: number as u32,
                    kind,
                    manner,
                    random: Random::seeded(seed.wrapping_add(number as u64)),
                    stop: stop.clone(),
                    identity: None,
                    next_batch: 0,
                    next_sequence: 0,
                    window: VecDeque::new(),
                    history: Vec::new(),
                };
                tokio::spawn(producer.run())
            })
            .collect();
        Self { stop, tasks, manner }
    }

    /// Lets the producers finish; answers everything they tried.
    pub async fn stop(self) -> Result<Vec<Attempt>> {
        self.stop.store(true, Ordering::SeqCst);
        let mut history = Vec::new();
        for task in self.tasks {
            let attempts =
                timeout(self.manner.finish_within, task).await.context("a producer hangs")??;
            history.extend(attempts?);
        }
        Ok(history)
    }
}

/// A batch that is not decided yet.
#[derive(Debug)]
struct Pending {
    number: u64,
    sequence: i32,
    attempt: u32,
    values: Vec<String>,
}

struct Producer {
    bootstrap: String,
    topic: String,
    number: u32,
    kind: Kind,
    manner: Manner,
    random: Random,
    stop: Arc<AtomicBool>,
    identity: Option<(i64, i16)>,
    next_batch: u64,
    next_sequence: i32,
    /// In send order. On a connection all of them are in flight, except while it is being filled.
    window: VecDeque<Pending>,
    history: Vec<Attempt>,
}

impl Producer {
    async fn run(mut self) -> Result<Vec<Attempt>> {
        loop {
            let mut client = self.connect().await?;
            // However the connection ended: what is left in the window was not answered.
            if let Ok(()) = self.use_connection(&mut client).await? {
                return Ok(self.history);
            }
            self.unanswered();
            delay(RETRY_PAUSE).await;
        }
    }

    async fn connect(&self) -> Result<RawClient> {
        let begin = Instant::now();
        loop {
            match RawClient::connect(&self.bootstrap).await {
                Ok(client) => return Ok(client.with_patience(self.manner.patience)),
                Err(error) if begin.elapsed() > self.manner.patience => return Err(error),
                Err(_) => delay(RETRY_PAUSE).await,
            }
        }
    }

    /// Produces until told to stop (`Ok(Ok)`) or until the connection breaks (`Ok(Err)`).
    async fn use_connection(&mut self, client: &mut RawClient) -> Result<Result<()>> {
        if self.kind == Kind::Idempotent && self.identity.is_none() {
            let answer = match client.call(version::INIT_PRODUCER_ID, &identity_request()).await {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(error)),
            };
            ensure!(answer.error_code == 0, "InitProducerId: error {}", answer.error_code);
            self.identity = Some((answer.producer_id.0, answer.producer_epoch));
        }
        let mut in_flight = 0;
        let mut refused = false;
        loop {
            // A refusal is followed by a pause in sending, until everything in flight is answered;
            // then what is left goes out again, in order.
            refused &= in_flight > 0;
            if !refused {
                if self.manner.pace > Duration::ZERO && !self.stop.load(Ordering::SeqCst) {
                    delay(self.random.jitter(self.manner.pace)).await;
                }
                self.fill();
                while in_flight < self.window.len() {
                    let request = self.request(in_flight)?;
                    in_flight += 1;
                    if let Err(error) = client.send(version::PRODUCE, &request).await {
                        return Ok(Err(error));
                    }
                }
            }
            if in_flight == 0 {
                return Ok(Ok(()));
            }
            let answer = match client.receive::<ProduceRequest>().await {
                Ok(answer) => answer,
                // The connection stands, but nothing comes.
                Err(error) if error.is::<Elapsed>() => {
                    let batch = self.window[self.window.len() - in_flight].number;
                    let what = format!("producer {} ({:?}), batch {batch}", self.number, self.kind);
                    return Err(error.context(what));
                }
                Err(error) => return Ok(Err(error)),
            };
            let answer = answer
                .responses
                .first()
                .and_then(|topic| topic.partition_responses.first())
                .context("a produce answer without a partition")?;
            // Batches refused since the last pause stay at the front.
            let position = self.window.len() - in_flight;
            in_flight -= 1;
            refused |= self.settle(position, answer.error_code, answer.base_offset).await?;
        }
    }

    /// Records the answer to a batch of the window; whether the batch has to be sent again.
    async fn settle(&mut self, position: usize, code: i16, base_offset: i64) -> Result<bool> {
        let outcome = match code {
            0 => Outcome::Acknowledged(base_offset),
            STORED_BEFORE if self.kind == Kind::Idempotent => Outcome::Acknowledged(-1),
            code if FATAL.contains(&code) => bail!("producer {}: error {code}", self.number),
            code => Outcome::Refused(code),
        };
        self.record(position, outcome);
        if let Outcome::Acknowledged(_) = outcome {
            self.window.remove(position);
            return Ok(false);
        }
        if self.kind == Kind::Once {
            self.window.remove(position);
            delay(RETRY_PAUSE).await;
            return Ok(false);
        }
        self.again(position);
        let Pending { number, attempt, sequence, .. } = self.window[position];
        ensure!(
            attempt < ATTEMPTS_MAX,
            "producer {} ({:?}): batch {number} (sequence {sequence}): {outcome:?} again",
            self.number,
            self.kind
        );
        delay(RETRY_PAUSE).await;
        Ok(true)
    }

    fn fill(&mut self) {
        let size = if self.kind == Kind::Retrying { 1 } else { 5 };
        while self.window.len() < size && !self.stop.load(Ordering::SeqCst) {
            let count = 1 + self.random.below(RECORDS_MAX);
            let pending = Pending {
                number: self.next_batch,
                sequence: self.next_sequence,
                attempt: 0,
                values: self.values(self.next_batch, 0, count),
            };
            self.next_batch += 1;
            self.next_sequence += count as i32;
            self.window.push_back(pending);
        }
    }

    fn values(&self, batch: u64, attempt: u32, count: u64) -> Vec<String> {
        (0..count)
            .map(|index| {
                let id = format!("{}/{}/{batch}/{attempt}/{index}", self.topic, self.number);
                payload::value(&id, self.random.below(self.manner.padding_max) as usize)
            })
            .collect()
    }

    fn request(&self, position: usize) -> Result<ProduceRequest> {
        let pending = &self.window[position];
        let from = self.identity.map(|(producer_id, epoch)| Sequenced {
            producer_id,
            epoch,
            sequence: pending.sequence,
        });
        let batch = topic::batch(&pending.values, TIMESTAMP, from)?;
        Ok(topic::produce_request(&self.topic, self.number as i32, batch))
    }

    fn record(&mut self, position: usize, outcome: Outcome) {
        let pending = &self.window[position];
        self.history.push(Attempt {
            producer: self.number,
            kind: self.kind,
            partition: self.number as i32,
            batch: pending.number,
            values: pending.values.iter().map(|value| payload::id(value).to_owned()).collect(),
            outcome,
        });
    }

    /// The batch will be sent again.
    fn again(&mut self, position: usize) {
        self.window[position].attempt += 1;
        if self.kind == Kind::Retrying {
            let Pending { number, attempt, ref values, .. } = self.window[position];
            let values = self.values(number, attempt, values.len() as u64);
            self.window[position].values = values;
        }
    }

    /// The connection is gone.
    fn unanswered(&mut self) {
        for position in 0..self.window.len() {
            self.record(position, Outcome::Unknown);
            self.again(position);
        }
        if self.kind == Kind::Once {
            self.window.clear();
        }
    }
}

/// Asks for a fresh producer id.
fn identity_request() -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1)
        .with_transaction_timeout_ms(60_000)
}
