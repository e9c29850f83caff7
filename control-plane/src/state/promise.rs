//! Promises that every change is held to, in release builds too.
//!
//! [`super::invariants`] walks a whole state and is for tests and simulation. The checks here look
//! only at the entries that a change has just touched, at the cost of a few comparisons, and stand
//! where those entries are closed: a partition after its append, trim or replacement, a broker run
//! after a decision, an object after a release, the counters after a command.
//!
//! A state that breaks a promise would give wrong answers: an offset twice, a record that no reader
//! finds, an object deleted under its readers. So a broken promise panics in the middle of the apply.
//! The state's lock is poisoned by that, nothing is read from the state any more, no checkpoint is cut
//! from it, and the process ends with the line. The log has the command, so a start with a
//! corrected version applies it again.

/// Holds a change to a promise. `found` says what was found instead, with the numbers.
///
/// # Panics
/// When the promise does not hold.
#[track_caller]
pub(super) fn promise(name: &'static str, holds: bool, found: impl FnOnce() -> String) {
    if !holds {
        broken(name, &found());
    }
}

#[cfg(test)]
impl super::State {
    /// Takes back an offset that was given: the next append would give it twice.
    pub(crate) fn break_a_promise(&mut self, partition: ottla_model::PartitionId) {
        let partition = self.topics.partition_mut(partition).expect("a partition");
        partition.next_offset = partition.next_offset.plus(-1);
    }
}

#[cold]
#[track_caller]
fn broken(name: &'static str, found: &str) -> ! {
    panic!(
        "{name} is broken: {found}. This is a defect of Ottla; the node ends, because its next answers \
         would be wrong. Nothing that was acknowledged is lost. Please report this line with the log \
         before it, and keep a copy of the folder \
         controller in node.data_dir as it is now"
    )
}
