//! A broker process: its writer's steps, its uploads, its end and its return.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_format::command::{Answer, CommandBody, RegisterBroker};
use ottla_model::{
    Attempt, BrokerAuthor, BrokerEpoch, BrokerId, ObjectName, ObjectSeq, Offset, ProcessNonce,
};
use ottla_object_io::keys;
use ottla_storage::write::AppendOutcome;
use ottla_storage::write::step_writer::{Message, SealedObject, StepWriter};

use crate::Defect;
use crate::network::{Call, LateUpload};
use crate::plane::CLUSTER;
use crate::world::{World, lock};

/// Buffers of this world are full after two or three batches.
const BUFFER_BYTES: usize = 320;
/// Attempts of an upload, and how many run at the same time.
const ATTEMPTS_MAX: u32 = 6;
const ATTEMPTS_AT_ONCE: usize = 3;

#[derive(Debug)]
pub(crate) struct Upload {
    object: SealedObject,
    made: u32,
    running: Vec<Attempt>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Broker {
    pub id: BrokerId,
    pub nonce: ProcessNonce,
    pub author: BrokerAuthor,
    /// `None`: the process is down.
    pub writer: Option<StepWriter>,
    /// Counts writers of the whole world: an answer belongs to one of them.
    pub generation: u64,
    /// It has heard that its run is over.
    pub over: bool,
    pub uploads: Vec<Upload>,
    /// What was appended since the last seal, and what each object holds.
    pub open: Vec<u64>,
    pub sealed: BTreeMap<ObjectSeq, Vec<u64>>,
    /// For [`Defect::SequenceBeforeWrite`]: the batches it has seen, by client.
    pub seen: BTreeMap<(i32, u64), u64>,
}

impl Broker {
    pub(crate) fn down(id: BrokerId) -> Self {
        Self {
            id,
            nonce: ProcessNonce(0),
            author: BrokerAuthor { broker: id, epoch: BrokerEpoch(0) },
            writer: None,
            generation: 0,
            over: false,
            uploads: Vec::new(),
            open: Vec::new(),
            sealed: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        let idle = |writer: &StepWriter| writer.undecided() == 0 && !writer.has_buffered();
        !self.over && self.writer.as_ref().is_some_and(idle)
    }
}

/// The first half of some bytes.
pub(crate) fn half(bytes: &Bytes) -> Bytes {
    bytes.slice(..bytes.len() / 2)
}

impl World {
    /// A process that is down starts; one whose run is over registers again.
    pub(crate) fn restart(&mut self, at: usize) {
        let down = self.brokers[at].writer.is_none();
        if !down && !self.brokers[at].over {
            return;
        }
        if down {
            self.brokers[at].nonce = ProcessNonce(self.random.u64());
        }
        let Broker { id, nonce, .. } = self.brokers[at];
        let register = RegisterBroker { broker: id, nonce, profile: Default::default() };
        let mut answer = lock(&self.plane).apply(CommandBody::RegisterBroker(register.clone()));
        if self.random.chance(self.faults.doubled) {
            answer = lock(&self.plane).apply(CommandBody::RegisterBroker(register));
        }
        let Answer::Registered(Ok(epoch)) = answer else { return };
        let author = BrokerAuthor { broker: id, epoch };
        self.visit(if down { "start" } else { "registration under a new epoch" });
        self.note(|| format!("broker {id} registers, epoch {epoch}"));
        self.release_uploads(at);
        let now = self.now();
        self.next_generation += 1;
        let forgets = self.defect == Some(Defect::FailuresForgotten);
        let broker = &mut self.brokers[at];
        broker.writer = Some(match broker.writer.take() {
            Some(writer) if !forgets => writer.succeed(author, now),
            _ => StepWriter::first(CLUSTER, author, nonce, BUFFER_BYTES),
        });
        broker.author = author;
        broker.generation = self.next_generation;
        broker.over = false;
        broker.open.clear();
        broker.sealed.clear();
        if down {
            broker.seen.clear();
        }
    }

    /// What is being uploaded may still arrive.
    fn release_uploads(&mut self, at: usize) {
        for upload in std::mem::take(&mut self.brokers[at].uploads) {
            for attempt in upload.running {
                self.let_go(at, &upload.object, attempt);
            }
        }
    }

    fn let_go(&mut self, at: usize, object: &SealedObject, attempt: Attempt) {
        let key = self.key(at, object.seq, attempt);
        let bytes = Bytes::from(object.payload.chunks.concat());
        self.late.push(LateUpload { key, bytes });
    }

    fn key(&self, at: usize, seq: ObjectSeq, attempt: Attempt) -> String {
        let shared = self.defect == Some(Defect::SharedKey);
        let attempt = if shared { Attempt(0) } else { attempt };
        let Broker { author, nonce, .. } = self.brokers[at];
        keys::object(CLUSTER, &ObjectName::wal(author, nonce, seq, attempt))
    }

    pub(crate) fn crash(&mut self, at: usize) {
        if self.brokers[at].writer.is_none() {
            return;
        }
        self.visit("crash");
        self.note(|| format!("broker {} crashes", at + 1));
        self.brokers[at].writer = None;
        self.brokers[at].over = false;
        self.release_uploads(at);
        self.disconnect_all(at);
    }

    /// The broker's session ends; it does not know yet.
    pub(crate) fn fence(&mut self, at: usize) {
        let author = self.brokers[at].author;
        if lock(&self.plane).state.is_living(author) {
            self.visit("fence");
            self.note(|| format!("{author:?} is fenced"));
            lock(&self.plane).apply(CommandBody::FenceBroker(author));
        } else if self.brokers[at].writer.is_some() {
            self.brokers[at].over = true;
        }
    }

    pub(crate) fn seal(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        let Some(object) = broker.writer.as_mut().and_then(StepWriter::seal) else { return };
        let attempts = std::mem::take(&mut broker.open);
        broker.sealed.insert(object.seq, attempts);
        let (seq, bytes) = (object.seq, object.payload.length);
        broker.uploads.push(Upload { object, made: 0, running: Vec::new() });
        self.visit("seal");
        self.note(|| format!("broker {} seals {seq}, {bytes} bytes", at + 1));
    }

    /// One step of one upload.
    pub(crate) fn upload(&mut self, at: usize) {
        if self.brokers[at].uploads.is_empty() {
            return;
        }
        let which = self.below(self.brokers[at].uploads.len());
        let upload = &self.brokers[at].uploads[which];
        let (made, running) = (upload.made, upload.running.len());
        if running == 0 && made >= ATTEMPTS_MAX {
            return self.upload_ended(at, which, None);
        }
        let another = running < ATTEMPTS_AT_ONCE && made < ATTEMPTS_MAX;
        if running == 0 || (another && self.random.chance(0.15)) {
            self.brokers[at].uploads[which].running.push(Attempt(made));
            self.brokers[at].uploads[which].made += 1;
            self.visit(if made == 0 { "first attempt" } else { "another attempt" });
            if self.defect == Some(Defect::CommitBeforeUpload) {
                self.upload_ended(at, which, Some(Attempt(made)));
            }
            return;
        }
        if self.random.chance(self.faults.upload_given_up) {
            self.visit("upload given up");
            return self.upload_ended(at, which, None);
        }
        let one = self.below(running);
        let attempt = self.brokers[at].uploads[which].running.swap_remove(one);
        let object = self.brokers[at].uploads[which].object.clone();
        let key = self.key(at, object.seq, attempt);
        let bytes = Bytes::from(object.payload.chunks.concat());
        if self.random.chance(self.faults.upload_failed) {
            self.visit("attempt stored nothing");
        } else if self.random.chance(self.faults.upload_truncated) {
            self.visit("attempt stored half");
            lock(&self.bucket).put(&key, half(&bytes));
            if self.defect == Some(Defect::TruncatedUploadAccepted) {
                self.upload_ended(at, which, Some(attempt));
            }
        } else if self.random.chance(self.faults.upload_unknown) {
            self.visit("attempt without an answer");
            self.late.push(LateUpload { key, bytes });
        } else {
            self.visit("attempt verified");
            lock(&self.bucket).put(&key, bytes);
            self.upload_ended(at, which, Some(attempt));
        }
    }

    fn upload_ended(&mut self, at: usize, which: usize, verified: Option<Attempt>) {
        let upload = self.brokers[at].uploads.swap_remove(which);
        for attempt in &upload.running {
            if Some(*attempt) != verified || self.defect == Some(Defect::CommitBeforeUpload) {
                self.let_go(at, &upload.object, *attempt);
            }
        }
        let seq = upload.object.seq;
        self.note(|| format!("broker {}: upload of {seq} ends with {verified:?}", at + 1));
        let shared = self.defect == Some(Defect::SharedKey);
        let named = if shared { verified.map(|_| Attempt(0)) } else { verified };
        let now = self.now();
        let broker = &mut self.brokers[at];
        if let Some(writer) = &mut broker.writer {
            writer.uploaded(&upload.object, named, now);
        }
        if self.defect == Some(Defect::AckBeforeCommit) && verified.is_some() {
            let attempts = self.brokers[at].sealed.remove(&seq).unwrap_or_default();
            let base_offset = Offset(self.checker.stored() as i64);
            let told =
                AppendOutcome::Stored { base_offset, append_time: None, log_start: Offset(0) };
            self.tell_by_force(&attempts, told);
        }
    }

    /// Hands over what can be committed or abandoned.
    pub(crate) fn hand_over(&mut self, at: usize) {
        let now = self.now();
        let broker = &mut self.brokers[at];
        let Some(writer) = broker.writer.as_mut().filter(|_| !broker.over) else { return };
        let Some((id, message)) = writer.next_message(now) else { return };
        let unsaid = self.defect == Some(Defect::AbandonNotReplicated);
        if unsaid && matches!(message, Message::Abandon(_)) {
            writer.answered(id, Ok(vec![ottla_format::command::ObjectOutcome::Abandoned]), now);
            return;
        }
        let generation = broker.generation;
        self.visit(match message {
            Message::Commit(_) => "commit handed over",
            Message::Abandon(_) => "abandon handed over",
        });
        self.note(|| format!("broker {} hands over {message:?}", at + 1));
        self.calls.push(Call::new(at, generation, id, message));
    }
}
