//! A defect in a handler costs one connection.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest};
use ottla_test_kit::Fault;

use super::*;
use crate::testing::{World, batch};

#[tokio::test]
async fn a_handler_that_panics_ends_its_connection_and_no_other() {
    let world = World::start().await;
    let mut other = world.client().await;
    create(&mut other, "t").await;
    // Under way on another connection while the handler panics.
    let fetched = other.send(12, &fetch("t", 0, 60_000)).await;

    let mut unlucky = world.client().await;
    world.control.fail_next(&[Fault::Panic]);
    let topic = CreatableTopic::default()
        .with_name(name("u"))
        .with_num_partitions(1)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
    unlucky.send(7, &request).await;
    assert!(unlucky.sees_the_end().await, "closed without an answer");

    let mut next = world.client().await;
    assert_eq!(next.call(7, &request).await.topics[0].error_code, 0, "the same request again");
    assert_eq!(produced(&mut next, "t", batch(&["v"])).await.base_offset, 0);
    let woken = other.receive::<FetchRequest>(12, fetched).await;
    assert!(woken.responses[0].partitions[0].records.as_ref().is_some_and(|r| !r.is_empty()));

    let metrics = &world.metrics.kafka;
    assert_eq!(metrics.connections_closed.with(["defect"]).get(), 1);
    assert_eq!(metrics.connections.get(), 2, "the other two are open");
}
