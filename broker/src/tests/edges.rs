//! Bytes that are no requests.

use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use tokio::time::timeout;

use super::*;
use crate::testing::World;

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes(), body].concat()
}

#[tokio::test]
async fn what_is_no_request_closes_its_connection_only() {
    let world = World::start().await;
    let mut other = world.client().await;
    let no_requests: [&[u8]; 10] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
        &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0, 0, 0, 0],
        // Longer than 100 MiB.
        &[0x7f, 0xff, 0xff, 0xff, 0, 0],
        // An unknown API.
        &framed(&[0x03, 0xe7, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        // Metadata 99, and Produce 2, which is advertised and does not exist.
        &framed(&[0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff]),
        &framed(&[0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff]),
        // Metadata 12 with 2³² − 1 topics in five bytes.
        &framed(&[0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        // A client id that is longer than the frame.
        &framed(&[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff]),
    ];
    for bytes in no_requests {
        let mut client = world.client().await;
        client.send_raw(bytes).await;
        assert!(client.sees_the_end().await, "{bytes:?}");
    }
    create(&mut other, "t").await;
}

#[tokio::test]
async fn an_api_versions_from_the_future_is_answered_in_version_0() {
    let world = World::start().await;
    let mut client = world.client().await;
    client.send_raw(&framed(&[0, 18, 0, 99, 0, 0, 0, 7, 1, 2, 3, 4, 5])).await;
    let mut frame = client.receive_raw().await.unwrap();
    assert_eq!(frame.split_to(4), 7i32.to_be_bytes()[..]);
    let response = ApiVersionsResponse::decode(&mut frame, 0).unwrap();
    assert_eq!(response.error_code, 35);
    assert!(response.api_keys.iter().any(|api| api.api_key == 18 && api.max_version == 4));
    // The connection goes on.
    client.call(0, &ApiVersionsRequest::default()).await;
}

#[tokio::test]
async fn a_fetch_of_a_supposed_replica_is_refused() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let request = fetch("t", 0, 0).with_replica_id(kafka_protocol::messages::BrokerId(1));
    client.send(12, &request).await;
    assert!(client.sees_the_end().await);
}

#[tokio::test]
async fn no_header_with_random_bytes_behind_it_brings_the_broker_down() {
    let world = World::start().await;
    let address = world.broker.local_address();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let bodies = proptest::collection::vec(any::<u8>(), 0..64);
    for api in ottla_wire::apis::APIS {
        for version in api.served.min..=api.served.max {
            for _ in 0..4 {
                let body = bodies.new_tree(&mut runner).unwrap().current();
                // Small bytes, so that counts are believable and the decoder comes further.
                let small = body.into_iter().map(|byte| byte & 0x0f);
                let flexible = api.request_is_flexible(version);
                let mut frame = Vec::new();
                frame.extend((api.key as i16).to_be_bytes());
                frame.extend(version.to_be_bytes());
                frame.extend([0, 0, 0, 1, 0xff, 0xff]);
                frame.extend(flexible.then_some(0));
                frame.extend(small);
                let mut client = Client::connect(address).await;
                client.send_raw(&framed(&frame)).await;
                // An answer, or the end; what does neither waits for records or members.
                let _ = timeout(Duration::from_secs(1), client.receive_raw()).await;
            }
        }
    }
    let mut client = world.client().await;
    create(&mut client, "t").await;
    drop(client);
    // Ends when every connection's task was looked at.
    world.broker.drain().await;
    assert_eq!(world.metrics.kafka.connections_closed.with(["defect"]).get(), 0);
}
