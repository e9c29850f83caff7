//! The control plane: the real state machine, checked after every command, and the sweep's way to
//! it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ottla_control_api::{CallError, Condemned, ObjectStanding, SweepControl};
use ottla_control_plane::state::{State, invariants};
use ottla_env::Random;
use ottla_format::command::{Answer, BatchOutcome, Command, CommandBody, ObjectOutcome};
use ottla_model::{
    AppliedIndex, BrokerAuthor, ClusterId, ObjectId, ObjectName, Offset, TimestampMs,
};

use crate::Defect;
use crate::broken_state::Memory;
use crate::faults::Faults;
use crate::world::{end_of_step, lock};

pub(crate) const CLUSTER: ClusterId = ClusterId(0x51);

/// What the checker hears of runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RunEvent {
    Began(BrokerAuthor),
    Ended(BrokerAuthor),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plane {
    pub state: State,
    pub now_ms: i64,
    pub faults: Faults,
    /// How long condemned objects stay.
    pub delay_ms: i64,
    defect: Option<Defect>,
    memory: Memory,
    /// The first promise that the state did not keep.
    pub violation: Option<String>,
    pub runs: Vec<RunEvent>,
    /// Commands so far.
    pub commands: u64,
}

impl Plane {
    pub(crate) fn new(defect: Option<Defect>, faults: Faults, delay_ms: i64) -> Self {
        Self {
            state: State::new(CLUSTER),
            now_ms: 1_000,
            faults,
            delay_ms,
            defect,
            memory: Memory::default(),
            violation: None,
            runs: Vec::new(),
            commands: 0,
        }
    }

    /// Applies a command and checks what it did.
    pub(crate) fn apply(&mut self, mut body: CommandBody) -> Answer {
        self.commands += 1;
        if self.defect == Some(Defect::TopicByName) {
            self.bind_by_name(&mut body);
        }
        let index = AppliedIndex(self.state.applied().0 + 1);
        let command = Command { time: TimestampMs(self.now_ms), body };
        let before = self.state.clone();
        let mut answer = match self.defect.filter(|defect| defect.is_in_the_state_machine()) {
            Some(defect) => self.memory.apply(defect, &mut self.state, index, &command),
            None => {
                let answer = self.state.apply(index, &command).answer;
                self.check(&before, &command.body);
                answer
            }
        };
        match (&command.body, &answer) {
            (CommandBody::RegisterBroker(register), Answer::Registered(Ok(epoch))) => {
                let author = BrokerAuthor { broker: register.broker, epoch: *epoch };
                self.runs.push(RunEvent::Began(author));
            }
            (CommandBody::FenceBroker(author), _) => self.runs.push(RunEvent::Ended(*author)),
            _ => {}
        }
        if self.defect == Some(Defect::DuplicateWithoutOffset) {
            forget_offsets(&mut answer);
        }
        answer
    }

    fn check(&mut self, before: &State, body: &CommandBody) {
        let author = match body {
            CommandBody::CommitObjects(commit) => Some(commit.author),
            CommandBody::AbandonObject(abandon) => Some(abandon.author),
            _ => None,
        };
        let fenced =
            author.map_or(Ok(()), |author| invariants::fenced(before, author, &self.state));
        let checked =
            self.state.check().and_then(|()| invariants::forward(before, &self.state)).and(fenced);
        if let Err(violation) = checked {
            self.violation.get_or_insert_with(|| violation.to_string());
        }
    }

    fn bind_by_name(&self, body: &mut CommandBody) {
        let CommandBody::CommitObjects(commit) = body else { return };
        let Some(topic) = self.state.view().topics.first().map(|topic| topic.id) else { return };
        for batch in commit.objects.iter_mut().flat_map(|object| &mut object.batches) {
            batch.partition.topic = topic;
        }
    }
}

fn forget_offsets(answer: &mut Answer) {
    let Answer::Commits(outcomes) = answer else { return };
    for outcome in outcomes {
        let ObjectOutcome::Committed(batches) = outcome else { continue };
        *batches = batches
            .iter()
            .map(|batch| match *batch {
                BatchOutcome::Duplicate { append_time, log_start, .. } => {
                    BatchOutcome::Duplicate { base_offset: Offset(0), append_time, log_start }
                }
                other => other,
            })
            .collect();
    }
}

/// The control plane as the sweep sees it: every call may end a step, be lost, or go unanswered.
pub(crate) struct SweepPlane {
    pub plane: Arc<Mutex<Plane>>,
    pub random: Random,
}

impl SweepPlane {
    fn lost_request(&self) -> Result<(), CallError> {
        let share = lock(&self.plane).faults.lost_request;
        if self.random.chance(share) {
            return Err(CallError::Unavailable("fault".to_owned()));
        }
        Ok(())
    }

    fn lost_answer(&self) -> Result<(), CallError> {
        let share = lock(&self.plane).faults.lost_answer;
        if self.random.chance(share) {
            return Err(CallError::OutcomeUnknown("fault".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl SweepControl for SweepPlane {
    async fn condemned(&self, max: usize) -> Result<Condemned, CallError> {
        end_of_step().await;
        self.lost_request()?;
        let condemned = {
            let plane = lock(&self.plane);
            let now = if plane.defect == Some(Defect::SweepWithoutDelay) {
                plane.now_ms
            } else {
                plane.now_ms - plane.delay_ms
            };
            plane.state.condemned(TimestampMs(now), max)
        };
        end_of_step().await;
        self.lost_answer()?;
        Ok(condemned)
    }

    async fn standings(&self, names: Vec<ObjectName>) -> Result<Vec<ObjectStanding>, CallError> {
        end_of_step().await;
        self.lost_request()?;
        let standings = {
            let plane = lock(&self.plane);
            let standings = plane.state.standings(&names).into_iter().zip(&names);
            standings.map(|(standing, name)| misjudged(&plane, standing, name)).collect()
        };
        end_of_step().await;
        self.lost_answer()?;
        Ok(standings)
    }

    async fn forget_objects(&self, objects: Vec<ObjectId>) -> Result<(), CallError> {
        end_of_step().await;
        self.lost_request()?;
        lock(&self.plane).apply(CommandBody::ForgetObjects(objects));
        end_of_step().await;
        self.lost_answer()
    }
}

fn misjudged(plane: &Plane, standing: ObjectStanding, name: &ObjectName) -> ObjectStanding {
    match plane.defect {
        Some(Defect::SweepOnListingAlone) if standing == ObjectStanding::Undecided => {
            ObjectStanding::Orphan
        }
        Some(Defect::SweepBySequence) => {
            let other = ObjectName { attempt: ottla_model::Attempt(u32::MAX), ..*name };
            plane.state.standings(&[other]).pop().unwrap_or(standing)
        }
        _ => standing,
    }
}
