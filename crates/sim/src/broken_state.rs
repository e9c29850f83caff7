//! State machines that lack a check, made from the real one: what the check would have refused is
//! made legal by rewriting the run's record before the command is applied.

use std::collections::BTreeMap;

use ottla_control_plane::state::{RecordDigest, State, StateIdentity, StateLoader};
use ottla_format::command::{
    AbandonObject, Answer, Command, CommandBody, CommitObject, CommitObjects, ObjectOutcome,
};
use ottla_format::state::{BrokerEntry, BrokerStatus, StateRecord};
use ottla_model::{AppliedIndex, BrokerAuthor, BrokerId, ObjectSeq};

use crate::Defect;

/// What a broken state machine remembers beside the state.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    outcomes: BTreeMap<(BrokerAuthor, ObjectSeq), ObjectOutcome>,
    runs: BTreeMap<BrokerAuthor, BrokerEntry>,
}

type Run = (BrokerEntry, Vec<(ObjectSeq, ObjectOutcome)>);

fn run_of(state: &State, broker: BrokerId) -> Option<Run> {
    let mut entry = None;
    let mut outcomes = Vec::new();
    for record in records(state) {
        match record {
            StateRecord::Broker(id, found) if id == broker => entry = Some(found),
            StateRecord::Outcome(id, seq, outcome) if id == broker => outcomes.push((seq, outcome)),
            _ => {}
        }
    }
    Some((entry?, outcomes))
}

fn records(state: &State) -> impl Iterator<Item = StateRecord> + '_ {
    state.records().map(|(key, value)| {
        StateRecord::decode(&key, &value).expect("a state's own records can be read")
    })
}

/// The same state with another run of a broker.
fn with_run(state: &State, broker: BrokerId, (entry, outcomes): Run) -> State {
    let mut all: Vec<StateRecord> = records(state)
        .filter(|record| match record {
            StateRecord::Broker(id, _) | StateRecord::Outcome(id, _, _) => *id != broker,
            _ => true,
        })
        .collect();
    all.push(StateRecord::Broker(broker, entry));
    all.extend(outcomes.into_iter().map(|(seq, o)| StateRecord::Outcome(broker, seq, o)));
    loaded(all, state.identity())
}

/// The same state with the entry at `index` still to be applied.
fn before(state: &State, index: AppliedIndex) -> State {
    let identity = StateIdentity { applied: AppliedIndex(index.0 - 1), ..state.identity() };
    loaded(records(state).collect(), identity)
}

fn loaded(all: Vec<StateRecord>, identity: StateIdentity) -> State {
    let mut digest = RecordDigest::default();
    all.iter().for_each(|record| digest.add(record));
    let identity = StateIdentity { digest: digest.sum(), ..identity };
    let mut loader = StateLoader::new(identity);
    for record in all {
        loader.load(record).expect("records of a state, in order");
    }
    loader.finish().expect("the digest is that of the records")
}

/// The run, with `seq` the next to be decided and no outcome kept.
fn rewound(state: &State, author: BrokerAuthor, seq: ObjectSeq) -> State {
    match run_of(state, author.broker) {
        Some((entry, _)) => {
            let entry = BrokerEntry { next: seq, frontier: seq, ..entry };
            with_run(state, author.broker, (entry, Vec::new()))
        }
        None => state.clone(),
    }
}

impl Memory {
    /// Applies a command as the state machine with this defect would.
    pub(crate) fn apply(
        &mut self,
        defect: Defect,
        state: &mut State,
        index: AppliedIndex,
        command: &Command,
    ) -> Answer {
        let answer = match (defect, &command.body) {
            (Defect::CommitsOutOfOrder, CommandBody::CommitObjects(commit)) => {
                let decide = |object| self.commit_any(state, index, command, commit, object);
                Answer::Commits(commit.objects.iter().map(decide).collect())
            }
            (Defect::CommitsOutOfOrder, CommandBody::AbandonObject(abandon)) => {
                let AbandonObject { author, seq, .. } = *abandon;
                let outcome = self.outcomes.entry((author, seq));
                Answer::Commits(vec![outcome.or_insert(ObjectOutcome::Abandoned).clone()])
            }
            (Defect::CommitAppliedTwice, CommandBody::CommitObjects(commit)) => {
                let decide = |object| commit_again(state, index, command, commit, object);
                Answer::Commits(commit.objects.iter().map(decide).collect())
            }
            (Defect::FenceUnchecked, body) => match author_of(body) {
                Some(author) if !state.is_living(author) && self.runs.contains_key(&author) => {
                    self.apply_as_living(state, index, command, author)
                }
                _ => state.apply(index, command).answer,
            },
            _ => state.apply(index, command).answer,
        };
        if defect == Defect::OutcomesForgotten {
            let brokers: Vec<BrokerId> = state.living_brokers().map(|a| a.broker).collect();
            for broker in brokers {
                if let Some((entry, _)) = run_of(state, broker) {
                    *state = with_run(state, broker, (entry, Vec::new()));
                }
            }
        }
        if defect == Defect::FenceUnchecked {
            for author in state.living_brokers().collect::<Vec<_>>() {
                if let Some((entry, _)) = run_of(state, author.broker) {
                    self.runs.insert(author, entry);
                }
            }
        }
        answer
    }

    /// Decides an object whatever came before it.
    fn commit_any(
        &mut self,
        state: &mut State,
        index: AppliedIndex,
        command: &Command,
        commit: &CommitObjects,
        object: &CommitObject,
    ) -> ObjectOutcome {
        let key = (commit.author, object.seq);
        if let Some(outcome) = self.outcomes.get(&key) {
            return outcome.clone();
        }
        if !state.is_living(commit.author) {
            return ObjectOutcome::Fenced;
        }
        *state = rewound(state, commit.author, object.seq);
        let outcome = commit_one(state, index, command, commit, object);
        self.outcomes.insert(key, outcome.clone());
        outcome
    }

    /// Applies a command of a run that is over as if it were not.
    fn apply_as_living(
        &mut self,
        state: &mut State,
        index: AppliedIndex,
        command: &Command,
        author: BrokerAuthor,
    ) -> Answer {
        let present = run_of(state, author.broker);
        let (Some(present), Some(old)) = (present, self.runs.get(&author)) else {
            return state.apply(index, command).answer;
        };
        let old = BrokerEntry { frontier: old.next, status: BrokerStatus::Live, ..old.clone() };
        *state = with_run(state, author.broker, (old, Vec::new()));
        let answer = state.apply(index, command).answer;
        if let Some((entry, _)) = run_of(state, author.broker) {
            self.runs.insert(author, entry);
        }
        *state = with_run(state, author.broker, present);
        answer
    }
}

fn commit_one(
    state: &mut State,
    index: AppliedIndex,
    command: &Command,
    commit: &CommitObjects,
    object: &CommitObject,
) -> ObjectOutcome {
    if state.applied() >= index {
        // Another object of the same command.
        *state = before(state, index);
    }
    let objects = vec![object.clone()];
    let body = CommandBody::CommitObjects(CommitObjects { objects, ..*commit });
    match state.apply(index, &Command { time: command.time, body }).answer {
        Answer::Commits(mut outcomes) if outcomes.len() == 1 => outcomes.remove(0),
        _ => ObjectOutcome::BelowFrontier,
    }
}

/// Decides an object that is next, or was decided before.
fn commit_again(
    state: &mut State,
    index: AppliedIndex,
    command: &Command,
    commit: &CommitObjects,
    object: &CommitObject,
) -> ObjectOutcome {
    let next = run_of(state, commit.author.broker).map(|(entry, _)| entry.next);
    let Some(next) = next.filter(|next| state.is_living(commit.author) && object.seq < *next)
    else {
        return commit_one(state, index, command, commit, object);
    };
    *state = rewound(state, commit.author, object.seq);
    let outcome = commit_one(state, index, command, commit, object);
    *state = rewound(state, commit.author, next);
    outcome
}

fn author_of(body: &CommandBody) -> Option<BrokerAuthor> {
    match body {
        CommandBody::CommitObjects(commit) => Some(commit.author),
        CommandBody::AbandonObject(abandon) => Some(abandon.author),
        _ => None,
    }
}
