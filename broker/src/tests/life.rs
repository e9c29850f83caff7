//! Start, fencing, drain.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest, OffsetFetchRequest};
use ottla_env::{Clock, Random, delay};
use ottla_model::ClusterId;
use ottla_storage::cache::Cache;
use ottla_storage::write::WriteOptions;
use ottla_telemetry::Metrics;
use ottla_test_kit::{FakeControl, Fault};
use tokio::time::timeout;

use super::*;
use crate::registration::RegisterError;
use crate::testing::{World, batch};
use crate::{Broker, BrokerEnd, BrokerOptions, Parts, StartError};

#[tokio::test]
async fn a_fenced_broker_registers_again_and_goes_on() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    assert_eq!(produced(&mut client, "t", batch(&["v"])).await.base_offset, 0);
    world.control.fence();
    let mut stored = produced(&mut client, "t", batch(&["v"])).await;
    while stored.error_code != 0 {
        // Not stored, or it may be; both are worth another try.
        assert!(matches!(stored.error_code, 6 | 7 | 19), "{stored:?}");
        stored = produced(&mut client, "t", batch(&["v"])).await;
    }
    assert_eq!(stored.base_offset, 1);
}

#[tokio::test]
async fn a_broker_replaced_by_another_process_ends() {
    let world = World::start().await;
    world.control.replace();
    let end = timeout(Duration::from_secs(5), world.broker.ended()).await.unwrap();
    assert_eq!(end, BrokerEnd::Register(RegisterError::ReplacedByNewer(1)));
    world.broker.drain().await;
}

#[tokio::test]
async fn a_renewal_that_hangs_is_followed_by_the_next() {
    let world = World::start().await;
    world.control.hang_next_renewal();
    while !world.control.renewal_hangs() {
        tokio::task::yield_now().await;
    }
    world.control.replace();
    let end = timeout(Duration::from_secs(5), world.broker.ended()).await.unwrap();
    assert_eq!(end, BrokerEnd::Register(RegisterError::ReplacedByNewer(1)));
}

#[tokio::test]
async fn a_broker_whose_writer_died_ends() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    world.control.fail_next(&[Fault::Panic]);
    client.send(9, &produce("t", -1, &[(0, batch(&["v"]))])).await;
    let end = timeout(Duration::from_secs(5), world.broker.ended()).await.unwrap();
    assert_eq!(end, BrokerEnd::Writer);
    world.broker.drain().await;
}

#[tokio::test]
async fn draining_answers_what_is_in_flight_and_ends_in_seconds() {
    let world = World::start().await;
    let address = world.broker.local_address();
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let mut waiting = world.client().await;
    let waits = waiting.send(12, &fetch("t", 0, 60_000)).await;
    let sent = client.send(9, &produce("t", -1, &[(0, batch(&["v"]))])).await;
    // In the buffer, or at least read: nothing that was not read is promised an answer.
    while world.metrics.produce.batches.with(["stored"]).get() == 0 {
        tokio::task::yield_now().await;
    }
    timeout(Duration::from_secs(5), world.broker.drain()).await.unwrap();
    let response = client.receive::<ProduceRequest>(9, sent).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    waiting.receive::<FetchRequest>(12, waits).await;
    assert!(waiting.sees_the_end().await);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_connection_is_idle_only_when_nothing_is_being_answered() {
    let idle = Duration::from_secs(1);
    let world = World::with(|options| options.edge.idle_max = idle).await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let waits = client.send(12, &fetch("t", 0, 2_500)).await;
    let answer = client.receive::<FetchRequest>(12, waits).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 0);
    assert!(client.sees_the_end().await);
    assert_eq!(world.metrics.kafka.connections_closed.with(["idle"]).get(), 1);
}

#[tokio::test]
async fn what_was_sent_behind_a_read_is_done_although_the_client_left() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    world.control.set_away(true);
    let fetch = OffsetFetchRequest::default().with_group_id(GroupId("g".into())).with_topics(None);
    let reads = world.control.group_reads();
    client.send(7, &fetch).await;
    while world.control.group_reads() == reads {
        tokio::task::yield_now().await;
    }
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
    let topic =
        OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId("g".into()))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    client.send(8, &commit).await;
    drop(client);
    delay(Duration::from_millis(50)).await;
    world.control.set_away(false);

    let mut other = world.client().await;
    let committed = async {
        loop {
            let sent = other.send(7, &fetch).await;
            let answer = other.receive::<OffsetFetchRequest>(7, sent).await;
            if answer.topics.first().is_some_and(|t| t.partitions[0].committed_offset == 5) {
                break;
            }
            delay(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), committed).await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_told_with_its_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let (metrics, store) = (Metrics::new(), ottla_object_io::memory());
    let parts = Parts {
        control: std::sync::Arc::new(FakeControl::default()),
        cache: Cache::with_default_size(&metrics),
        cluster: ClusterId(1),
        write: WriteOptions::for_store(&*store),
        store,
        clock: Clock::system(),
        random: Random::seeded(1),
        metrics,
    };
    let options = BrokerOptions { listen, ..BrokerOptions::default() };
    match Broker::start(options, parts).await {
        Err(error @ StartError::Listen { .. }) => {
            assert!(error.to_string().contains(&listen.to_string()), "{error}");
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("two listeners on one port"),
    }
}
