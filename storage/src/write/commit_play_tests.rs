//! Random interleavings of everything that can happen to the committer.

use ottla_env::Random;
use proptest::prelude::*;

use super::*;

const PRODUCERS: u64 = 3;

/// Clients, uploads and calls around a [`World`].
struct Play {
    random: Random,
    world: World,
    /// Of each producer: the sequence of its next batch.
    next: [i32; PRODUCERS as usize],
    uploading: Vec<ObjectSeq>,
    /// Messages handed over; with the outcomes once they have taken effect.
    calls: Vec<(MessageId, Message, Option<Vec<ObjectOutcome>>)>,
    /// Messages whose sender has given up, but which may still take effect.
    ghosts: Vec<Message>,
}

/// Plays `steps` random events: seals, uploads that end in any order, messages that take effect in
/// any order or never, answers that are lost. A client resends what was not stored, from the first.
fn play(seed: u64, steps: usize, fence_at: Option<usize>) {
    let mut play = Play {
        random: Random::seeded(seed),
        world: World::new(),
        next: [0; PRODUCERS as usize],
        uploading: Vec::new(),
        calls: Vec::new(),
        ghosts: Vec::new(),
    };
    for step in 0.. {
        let winding_down = step >= steps;
        if winding_down && play.is_over() {
            break;
        }
        assert!(step < steps * 20, "seed {seed}: it comes to an end");
        if fence_at == Some(step) {
            play.world.model.fenced = true;
        }
        match play.random.below(6) {
            0 if !winding_down => play.send(),
            1 => play.end_an_upload(),
            2 => play.hand_over(),
            3 => play.take_effect(),
            4 => play.answer(),
            5 => play.take_effect_late(),
            _ => {}
        }
        play.go_back();
        check(seed, &play.world);
    }
}

impl Play {
    fn is_over(&self) -> bool {
        self.uploading.is_empty() && self.calls.is_empty() && self.world.committer.len() == 0
    }

    /// One of so many; `None` of none.
    fn any(&self, of: usize) -> Option<usize> {
        (of > 0).then(|| self.random.below(of as u64) as usize)
    }

    /// Some batches are let in and sealed.
    fn send(&mut self) {
        let mut batches = Vec::new();
        if self.world.over {
            return;
        }
        for _ in 0..1 + self.random.below(3) {
            let id = self.random.below(PRODUCERS) as usize;
            let batch = producer(id as i64, self.next[id]);
            if self.world.failed.admit(partition(0), Some(batch), self.world.now) {
                batches.push(batch);
            }
            self.next[id] += 1;
        }
        if !batches.is_empty() {
            self.uploading.push(self.world.seal(&batches));
        }
    }

    fn end_an_upload(&mut self) {
        let Some(at) = self.any(self.uploading.len()) else { return };
        let seq = self.uploading.swap_remove(at);
        if self.world.committer.object(seq).is_none_or(|object| object.is_decided()) {
            return;
        }
        if self.random.chance(0.25) { self.world.give_up(seq) } else { self.world.verify(seq) }
    }

    fn hand_over(&mut self) {
        if let Some((id, message)) = self.world.committer.next_message(self.world.now) {
            self.calls.push((id, message, None));
        }
    }

    fn take_effect(&mut self) {
        let Some(at) = self.any(self.calls.len()) else { return };
        let (_, message, outcomes) = &mut self.calls[at];
        if outcomes.is_none() {
            *outcomes = Some(self.world.apply(message));
        }
    }

    /// A call ends: with its answer, or without one whether it took effect or not.
    fn answer(&mut self) {
        let Some(at) = self.any(self.calls.len()) else { return };
        let (id, message, outcomes) = self.calls.swap_remove(at);
        match outcomes {
            Some(outcomes) if self.random.chance(0.7) => self.world.answer(id, Ok(outcomes)),
            Some(_) => self.world.answer(id, unknown()),
            None => {
                self.ghosts.push(message);
                self.world.answer(id, unknown());
            }
        }
    }

    fn take_effect_late(&mut self) {
        let Some(at) = self.any(self.ghosts.len()) else { return };
        let message = self.ghosts.swap_remove(at);
        self.world.apply(&message);
    }

    /// Clients go back to their first batch that was not stored.
    fn go_back(&mut self) {
        let told = &mut self.world.told;
        let stored = |outcome: &AppendOutcome| matches!(outcome, AppendOutcome::Stored { .. });
        for (id, next) in (0i64..).zip(&mut self.next) {
            let of_one = told.iter().filter(|(_, batch, _)| batch.id.0 == id);
            let failed = of_one.filter(|(_, _, outcome)| !stored(outcome));
            if let Some(first) = failed.map(|(_, batch, _)| batch.base_sequence.0).min()
                && self.random.chance(0.5)
            {
                told.retain(|(_, batch, outcome)| batch.id.0 != id || stored(outcome));
                *next = first;
            }
        }
    }
}

fn check(seed: u64, world: &World) {
    let empty = Vec::new();
    let log = world.model.logs.get(&partition(0)).unwrap_or(&empty);
    for (partition, producer, outcome) in &world.told {
        if matches!(outcome, AppendOutcome::Stored { .. }) {
            let true_answer = world.model.holds(*partition, Some(*producer), *outcome);
            assert!(true_answer, "seed {seed}: {producer:?} was told {outcome:?}");
        }
    }
    for id in 0..PRODUCERS as i64 {
        let of_one = log.iter().flatten().filter(|p| p.id.0 == id).map(|p| p.base_sequence.0);
        let stored: Vec<i32> = of_one.collect();
        let dense: Vec<i32> = (0..stored.len() as i32).collect();
        assert_eq!(stored, dense, "seed {seed}: producer {id} lost its order");
    }
    for seq in &world.model.abandoned {
        assert!(!world.model.attempts.contains_key(&seq.0), "seed {seed}: {seq} is both");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_interleaving_keeps_order_and_tells_the_truth(seed: u64) {
        play(seed, 300, None);
    }

    #[test]
    fn any_interleaving_with_a_fence_keeps_order_and_tells_the_truth(
        seed: u64, fence_at in 0usize..300
    ) {
        play(seed, 300, Some(fence_at));
    }
}
