//! Text that is not UTF-8, and clients that want to authenticate.

use kafka_protocol::messages::{OffsetFetchRequest, SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::*;
use crate::testing::World;

/// ILLEGAL_SASL_STATE
const ILLEGAL_SASL_STATE: i16 = 34;

/// A frame with this client id.
fn framed(key: i16, version: i16, client_id: &[u8], body: &[u8]) -> Vec<u8> {
    let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
    frame.extend([0, 0, 0, 1, 0, client_id.len() as u8]);
    frame.extend(client_id);
    frame.extend(body);
    [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
}

#[tokio::test]
async fn latin_1_in_a_client_id_a_group_and_metadata_is_served_as_kafka_does() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    // OffsetCommit 7 of the group "grün", its metadata "café".
    let body = [
        &b"\0\x04gr\xfcn\xff\xff\xff\xff\0\0\xff\xff"[..],
        b"\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x05\xff\xff\xff\xff",
        b"\0\x04caf\xe9",
    ];
    client.send_raw(&framed(8, 7, b"caf\xe9", &body.concat())).await;
    let answer = client.receive_raw().await.expect("an answer");
    assert!(answer.ends_with(&[0, 0]), "{answer:?}");

    let mut fetch = OffsetFetchRequest::default().with_topics(None);
    fetch.group_id.0 = StrBytes::from_static_str("gr\u{fffd}n");
    let offsets = client.call(7, &fetch).await;
    let partition = &offsets.topics[0].partitions[0];
    assert_eq!(partition.committed_offset, 5);
    assert_eq!(partition.metadata.as_deref(), Some("caf\u{fffd}"));
}

#[tokio::test]
async fn a_client_that_wants_to_authenticate_is_told_that_it_cannot() {
    let world = World::start().await;
    let mut client = world.client().await;
    for version in 0..=1 {
        let request =
            SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
        let answer = client.call(version, &request).await;
        assert_eq!((answer.error_code, answer.mechanisms.len()), (ILLEGAL_SASL_STATE, 0));
    }
    for version in 0..=2 {
        let request = SaslAuthenticateRequest::default()
            .with_auth_bytes(Bytes::from_static(b"\0user\0secret"));
        let answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, ILLEGAL_SASL_STATE);
    }
    // The connection stays.
    create(&mut client, "t").await;
}
