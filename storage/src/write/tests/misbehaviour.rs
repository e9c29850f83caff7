//! Many idempotent clients over a store and a control plane that misbehave by a seed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use ottla_env::Random;
use ottla_model::PartitionId;
use ottla_object_io::faults::{FaultRates, FaultStore, Latency};
use ottla_object_io::memory;

use super::world::{CLIENT, World, ms};
use crate::write::AppendOutcome;
use crate::write::testing::{CallFaults, HandedOver, append_batch, partition, producer};

/// An idempotent client on one partition with five batches on the way, which sends again whatever
/// was not acknowledged, in order.
async fn client(world: Arc<World>, id: i64, partition: PartitionId, batches: i32, random: Random) {
    let mut unsent: VecDeque<i32> = (0..batches).collect();
    let mut offsets: BTreeMap<i32, i64> = BTreeMap::new();
    while !unsent.is_empty() {
        let window: Vec<i32> = (0..5).filter_map(|_| unsent.pop_front()).collect();
        let mut tickets = Vec::new();
        for sequence in window {
            let size = random.below(2_000) as usize;
            let batch = append_batch(partition, Some(producer(id, sequence)), size);
            let reservation =
                world.writer.budget().reserve(CLIENT, batch.batch.bytes().len()).await.unwrap();
            let waiting = Arc::new(AtomicU32::new(tickets.len() as u32 + 1));
            let timeout = ms(500 + random.below(20_000));
            let connection = id as u64;
            let ticket =
                world.append_as(connection, timeout, waiting, Some(reservation), vec![batch]);
            tickets.push((sequence, ticket));
            ottla_env::delay(ms(random.below(20))).await;
        }
        let mut again = Vec::new();
        for (sequence, ticket) in tickets {
            match ticket.await[0] {
                AppendOutcome::Stored { base_offset, .. } => {
                    offsets.insert(sequence, base_offset.0);
                }
                AppendOutcome::Fenced => panic!("nobody fenced it"),
                _ => again.push(sequence),
            }
        }
        again.into_iter().rev().for_each(|sequence| unsent.push_front(sequence));
    }
    let log = world.control.model().logs[&partition].clone();
    for (sequence, offset) in offsets {
        assert_eq!(log[offset as usize], Some(producer(id, sequence)));
    }
    let mine: Vec<i32> = log
        .iter()
        .flatten()
        .filter(|producer| producer.id.0 == id)
        .map(|producer| producer.base_sequence.0)
        .collect();
    assert_eq!(mine, (0..batches).collect::<Vec<_>>(), "each once, in order");
}

async fn misbehave(seed: u64) {
    let random = Random::seeded(seed);
    let store = FaultStore::new(memory(), random.clone());
    store.set_rates(FaultRates {
        latency: Latency { usual: ms(40), slow: ms(3_000), slow_share: 0.05 },
        refused: 0.1,
        write_failed_before: 0.05,
        write_failed_after: 0.05,
        write_truncated: 0.05,
        write_late: 0.05,
        late_by: ms(20_000),
        answer_lost: 0.05,
        ..FaultRates::default()
    });
    let world = World::new(store, random.clone(), |options| {
        options.size_max = 20_000;
        options.budget_bytes = 200_000;
        options.upload_time_max = ms(3_000);
        options.uploads_max = 4;
    });
    world.control.set_faults(CallFaults {
        unavailable: 0.1,
        lost: 0.1,
        answer_lost: 0.1,
        delay: ms(50),
    });
    let world = Arc::new(world);
    let mut clients = tokio::task::JoinSet::new();
    for id in 0..6 {
        let home = partition((id % 3) as i32);
        clients.spawn(client(world.clone(), id, home, 60, random.clone()));
    }
    // Two outages, long enough that objects are abandoned.
    let outages = world.store.clone();
    clients.spawn(async move {
        for _ in 0..2 {
            ottla_env::delay(ms(500)).await;
            outages.set_outage(true);
            ottla_env::delay(ms(6_000)).await;
            outages.set_outage(false);
        }
    });
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            panic!("seed {seed}: {error}");
        }
    }
    world.writer.drain().await;
    assert_eq!(world.writer.budget().used(), 0, "seed {seed}");
    assert_eq!(world.metrics.produce.buffer_bytes.get(), 0, "seed {seed}");
    world.store.settle().await;
    world.store.set_rates(FaultRates::default());
    world.check_objects().await;
    let model = world.control.model();
    for seq in &model.abandoned {
        assert!(!model.attempts.contains_key(&seq.0), "seed {seed}: {seq} is both");
    }
    for handed_over in world.control.handed_over() {
        if let HandedOver::Commit(objects) = handed_over {
            assert!(objects.iter().all(|object| !model.abandoned.contains(&object.seq)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn acknowledged_batches_survive_a_store_and_a_control_plane_that_misbehave() {
    for seed in 0..12 {
        misbehave(seed).await;
    }
}
