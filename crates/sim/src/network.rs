//! What is on its way: calls to the control plane with their answers, and uploads that nobody waits
//! for any more.

use bytes::Bytes;
use ottla_control_api::CallError;
use ottla_format::command::{Answer, CommandBody, CreateTopic, ObjectOutcome};
use ottla_model::{ObjectName, TopicId, TopicName};
use ottla_object_io::keys;
use ottla_storage::write::step_writer::{Message, MessageId};

use crate::Defect;
use crate::broker::half;
use crate::plane::CLUSTER;
use crate::world::{World, lock};

/// A call of a broker. It stays until it is neither in the network nor waited for.
#[derive(Debug)]
pub(crate) struct Call {
    broker: usize,
    generation: u64,
    id: MessageId,
    message: Message,
    /// It can (still, or once more) be delivered.
    in_network: bool,
    delivered: bool,
    /// The answer on its way back.
    answer: Option<Vec<ObjectOutcome>>,
    /// The caller waits.
    waited_for: bool,
}

/// An upload that may still arrive.
#[derive(Debug)]
pub(crate) struct LateUpload {
    pub key: String,
    pub bytes: Bytes,
}

impl Call {
    pub(crate) fn new(broker: usize, generation: u64, id: MessageId, message: Message) -> Self {
        Self {
            broker,
            generation,
            id,
            message,
            in_network: true,
            delivered: false,
            answer: None,
            waited_for: true,
        }
    }
}

fn unknown() -> CallError {
    CallError::OutcomeUnknown("fault".to_owned())
}

impl World {
    /// One step of one call.
    pub(crate) fn call(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let at = self.below(self.calls.len());
        let Call { in_network, delivered, waited_for, .. } = self.calls[at];
        let has_answer = self.calls[at].answer.is_some();
        if waited_for && self.random.chance(self.faults.timeout) {
            self.visit("call timed out");
            self.answered(at, Err(unknown()));
        } else if in_network && (!has_answer || self.random.chance(0.5)) {
            if self.random.chance(self.faults.lost_request) {
                self.visit("call lost");
                self.calls[at].in_network = false;
                // The caller may see at once that it was not taken.
                if waited_for && !delivered && self.random.chance(0.5) {
                    self.answered(at, Err(CallError::Unavailable("fault".to_owned())));
                }
            } else {
                self.deliver(at);
            }
        } else if waited_for {
            let answer = self.calls[at].answer.take();
            let lost = self.random.chance(self.faults.lost_answer);
            match answer {
                Some(outcomes) if !lost => self.answered(at, Ok(outcomes)),
                Some(_) => {
                    self.visit("answer lost");
                    self.answered(at, Err(unknown()));
                }
                // It was lost, and the caller's time is up.
                None => self.answered(at, Err(unknown())),
            }
        }
        if !self.calls[at].in_network && !self.calls[at].waited_for {
            self.calls.swap_remove(at);
        }
    }

    fn deliver(&mut self, at: usize) {
        let again = self.calls[at].delivered;
        let body = match self.calls[at].message.clone() {
            Message::Commit(commit) => CommandBody::CommitObjects(commit),
            Message::Abandon(abandon) => CommandBody::AbandonObject(abandon),
        };
        let Answer::Commits(outcomes) = lock(&self.plane).apply(body) else { return };
        self.visit(match (again, self.calls[at].waited_for) {
            (false, true) => "call applied",
            (false, false) => "late call applied",
            (true, _) => "call applied again",
        });
        self.visit(match outcomes.first() {
            Some(ObjectOutcome::Committed(_)) => "outcome committed",
            Some(ObjectOutcome::Abandoned) => "outcome abandoned",
            Some(ObjectOutcome::NotYet { .. }) => "outcome not yet",
            Some(ObjectOutcome::Fenced) => "outcome fenced",
            Some(ObjectOutcome::BelowFrontier) => "outcome below the frontier",
            None => "no outcome",
        });
        self.note(|| format!("applied: {outcomes:?}"));
        let doubled = self.random.chance(self.faults.doubled);
        let call = &mut self.calls[at];
        call.delivered = true;
        call.in_network = doubled;
        call.answer = Some(outcomes);
    }

    /// The caller hears of its call.
    fn answered(&mut self, at: usize, mut result: Result<Vec<ObjectOutcome>, CallError>) {
        let now = self.now();
        let call = &mut self.calls[at];
        call.waited_for = false;
        let (broker, generation, id) = (call.broker, call.generation, call.id);
        let objects = match &call.message {
            Message::Commit(commit) => commit.objects.clone(),
            Message::Abandon(_) => Vec::new(),
        };
        if self.brokers[broker].generation != generation || self.brokers[broker].writer.is_none() {
            return;
        }
        if matches!(result, Err(CallError::OutcomeUnknown(_))) && !objects.is_empty() {
            match self.defect {
                Some(Defect::DeletedOnUnknown) => {
                    let (author, nonce) = (self.brokers[broker].author, self.brokers[broker].nonce);
                    for object in &objects {
                        let (seq, attempt) = (object.seq, object.attempt);
                        let name = ObjectName::wal(author, nonce, seq, attempt);
                        lock(&self.bucket).delete(&keys::object(CLUSTER, &name));
                    }
                }
                Some(Defect::UnknownCommitAbandoned) => {
                    result = Ok(vec![ObjectOutcome::Abandoned; objects.len()]);
                }
                _ => {}
            }
        }
        self.note(|| format!("broker {} hears {result:?}", broker + 1));
        let stay = self.defect == Some(Defect::SuccessorsStay);
        let broker = &mut self.brokers[broker];
        let Some(writer) = &mut broker.writer else { return };
        let step = if stay {
            writer.answered_leaving_successors(id, result, now)
        } else {
            writer.answered(id, result, now)
        };
        broker.over |= step.fenced;
        if step.abandoned > 0 {
            self.visit("object abandoned");
        }
    }

    /// An upload that nobody waits for arrives, whole or in part, or never.
    pub(crate) fn late_upload(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.below(self.late.len());
        let LateUpload { key, bytes } = self.late.swap_remove(at);
        self.note(|| format!("{key} arrives late, perhaps"));
        match self.random.below(4) {
            0 => {}
            1 => {
                self.visit("late attempt arrived in part");
                lock(&self.bucket).put(&key, half(&bytes));
            }
            _ => {
                self.visit("late attempt arrived");
                lock(&self.bucket).put(&key, bytes);
            }
        }
    }

    pub(crate) fn delete_topic(&mut self) {
        let Some(topic) = self.topic.take() else { return };
        self.visit("topic deleted");
        self.note(|| format!("topic {topic} is deleted"));
        self.former_topic = Some(topic);
        lock(&self.plane).apply(CommandBody::DeleteTopic(topic));
    }

    pub(crate) fn create_topic(&mut self) {
        if self.topic.is_some() {
            return;
        }
        self.topics_made += 1;
        let topic = TopicId(self.topics_made);
        self.visit("topic created");
        self.note(|| format!("topic {topic} is created"));
        let name = TopicName::new("topic").expect("a legal name");
        let create = CreateTopic {
            id: topic,
            name,
            partitions: self.partitions,
            replication_factor: 1,
            configs: Default::default(),
        };
        lock(&self.plane).apply(CommandBody::CreateTopic(create));
        self.topic = Some(topic);
    }
}
