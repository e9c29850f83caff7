//! What client libraries seldom do on a socket, and the order of answers. Attacks are in `edge`.

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, LeaveGroupRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use ottla_tests::member::{Member, coordinator, group_id};
use ottla_tests::raw::{RawClient, topic_name, version};
use ottla_tests::server::Server;
use ottla_tests::{Scratch, topic};

const TOPIC: &str = "edge";

/// A server with one topic of two partitions.
async fn start(test: &str) -> Result<(Scratch, Server, String)> {
    let scratch = Scratch::new(test)?;
    let server = Server::start(&scratch).await?;
    let bootstrap = server.bootstrap();
    topic::create(&bootstrap, TOPIC, 2).await?;
    Ok((scratch, server, bootstrap))
}

/// The server lives and serves.
async fn check_alive(server: &mut Server) -> Result<()> {
    server.process()?.check_running()?;
    let mut client = RawClient::connect(&server.bootstrap()).await?;
    ensure!(client.brokers().await? == 1, "no broker in the metadata");
    Ok(())
}

fn commit(
    group: &'static str,
    member: &StrBytes,
    generation: i32,
    offset: i64,
) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(0)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(StrBytes::from_static_str("m")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(member.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

async fn receive_commit(client: &mut RawClient) -> Result<()> {
    let answer = client.receive::<OffsetCommitRequest>().await?;
    let code = answer.topics.first().and_then(|topic| topic.partitions.first());
    ensure!(code.is_some_and(|partition| partition.error_code == 0), "{answer:?}");
    Ok(())
}

async fn committed(bootstrap: &str, group: &'static str) -> Result<i64> {
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partition_indexes(vec![0]);
    let request =
        OffsetFetchRequest::default().with_group_id(group_id(group)).with_topics(Some(vec![topic]));
    let mut client = RawClient::connect(bootstrap).await?;
    let answer = client.call(version::OFFSET_FETCH, &request).await?;
    let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
    Ok(partition.context("no partition in the answer")?.committed_offset)
}

#[tokio::test]
async fn a_thousand_pipelined_offset_commits_end_at_the_last() -> Result<()> {
    const COMMITS: i64 = 1_000;
    let (scratch, _server, bootstrap) = start("pipelined-commits").await?;
    let mut client = RawClient::connect(&bootstrap).await?;
    coordinator(&mut client, "pipelined").await?;
    for offset in 1..=COMMITS {
        let request = commit("pipelined", &StrBytes::new(), -1, offset);
        client.send(version::OFFSET_COMMIT, &request).await?;
    }
    for _ in 0..COMMITS {
        receive_commit(&mut client).await?;
    }
    let last = committed(&bootstrap, "pipelined").await?;
    ensure!(last == COMMITS, "committed {last}");
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn an_offset_commit_followed_at_once_by_leave_group_is_committed() -> Result<()> {
    let (scratch, _server, bootstrap) = start("commit-leave").await?;
    let mut client = RawClient::connect(&bootstrap).await?;
    coordinator(&mut client, "leaver").await?;
    let Member { group, id, generation } = Member::join(&mut client, "leaver").await?;
    let leave = LeaveGroupRequest::default()
        .with_group_id(group)
        .with_members(vec![MemberIdentity::default().with_member_id(id.clone())]);
    client.send(version::OFFSET_COMMIT, &commit("leaver", &id, generation, 42)).await?;
    client.send(version::LEAVE_GROUP, &leave).await?;
    receive_commit(&mut client).await?;
    let left = client.receive::<LeaveGroupRequest>().await?;
    ensure!(left.error_code == 0, "leave: error {}", left.error_code);
    ensure!(committed(&bootstrap, "leaver").await? == 42);
    scratch.done();
    Ok(())
}

/// A request frame: header v1 (v2 with no tagged fields when `flexible`), then `body`.
fn frame(key: i16, version: i16, flexible: bool, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(-1);
    if flexible {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    let mut whole = BytesMut::new();
    whole.put_u32(frame.len() as u32);
    whole.put(frame);
    whole.freeze()
}

async fn advertised(bootstrap: &str) -> Result<ApiVersionsResponse> {
    RawClient::connect(bootstrap).await?.call(0, &ApiVersionsRequest::default()).await
}

#[tokio::test]
async fn unsupported_requests_close_the_connection() -> Result<()> {
    let (scratch, mut server, bootstrap) = start("unsupported").await?;
    for (key, api_version) in [(3, 99), (3, -1), (0, 2), (999, 0), (-1, 0)] {
        let mut client = RawClient::connect(&bootstrap).await?;
        client.send_bytes(&frame(key, api_version, true, &[0; 16])).await?;
        client.expect_close().await.with_context(|| format!("API {key} version {api_version}"))?;
    }
    check_alive(&mut server).await?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn a_too_new_api_versions_request_is_answered_in_version_0() -> Result<()> {
    const UNSUPPORTED_VERSION: i16 = 35;
    let (scratch, _server, bootstrap) = start("api-versions").await?;
    let mut client = RawClient::connect(&bootstrap).await?;
    client.send_bytes(&frame(18, 99, true, &[1, 1, 0])).await?;
    let mut answer = client.receive_frame().await?.slice(4..);
    let answer = ApiVersionsResponse::decode(&mut answer, 0)?;
    ensure!(answer.error_code == UNSUPPORTED_VERSION, "error {}", answer.error_code);
    let own =
        answer.api_keys.iter().find(|api| api.api_key == 18).context("does not name itself")?;
    ensure!(own.min_version == 0 && own.max_version >= 4, "{own:?}");
    // The connection goes on, as clients expect that fall back.
    let answer = client.call(0, &ApiVersionsRequest::default()).await?;
    ensure!(answer.error_code == 0, "error {}", answer.error_code);
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn every_version_of_api_versions_lists_the_same() -> Result<()> {
    let (scratch, _server, bootstrap) = start("api-versions-all").await?;
    let first = advertised(&bootstrap).await?;
    let produce = first.api_keys.iter().find(|api| api.api_key == 0).context("no Produce")?;
    ensure!(produce.min_version == 0, "librdkafka needs Produce from version 0");
    for api_version in 1..=4 {
        let request = if api_version < 3 {
            ApiVersionsRequest::default()
        } else {
            ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str("librdkafka"))
                .with_client_software_version(StrBytes::from_static_str("2.0.2"))
        };
        let mut client = RawClient::connect(&bootstrap).await?;
        let answer = client.call(api_version, &request).await?;
        let ranges = |answer: &ApiVersionsResponse| -> Vec<(i16, i16, i16)> {
            answer.api_keys.iter().map(|a| (a.api_key, a.min_version, a.max_version)).collect()
        };
        ensure!(ranges(&answer) == ranges(&first), "version {api_version} lists other versions");
        let features = answer.supported_features.len() + answer.finalized_features.len();
        ensure!(
            api_version != 3 || features == 0,
            "features in version 3 break librdkafka before 2.2"
        );
    }
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn frames_may_come_in_pieces_and_stop_in_the_middle() -> Result<()> {
    let (scratch, mut server, bootstrap) = start("half-frames").await?;
    let mut slow = RawClient::connect(&bootstrap).await?;
    let request = frame(18, 0, false, &[]);
    for byte in request.chunks(1) {
        slow.send_bytes(byte).await?;
    }
    slow.receive_frame().await.context("a frame sent byte by byte")?;
    for end in [1, 3, 4, 7, request.len() - 1] {
        let mut half = RawClient::connect(&bootstrap).await?;
        half.send_bytes(&request[..end]).await?;
    }
    check_alive(&mut server).await?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn answers_keep_the_order_of_requests() -> Result<()> {
    let (scratch, _server, bootstrap) = start("answer-order").await?;
    let mut client = RawClient::connect(&bootstrap).await?;
    for number in 0..50 {
        let batch = topic::batch(&[number.to_string()], 0, None)?;
        client.send(version::PRODUCE, &topic::produce_request(TOPIC, 0, batch)).await?;
        let metadata = MetadataRequest::default().with_topics(Some(Vec::new()));
        client.send(version::METADATA, &metadata).await?;
    }
    for number in 0..50 {
        let answer = client.receive::<ProduceRequest>().await?;
        let partition = &answer.responses[0].partition_responses[0];
        ensure!(partition.error_code == 0 && partition.base_offset == number, "{partition:?}");
        client.receive::<MetadataRequest>().await?;
    }
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn without_acknowledgement_there_is_no_answer_and_an_error_closes() -> Result<()> {
    let (scratch, _server, bootstrap) = start("acks-0").await?;
    let mut client = RawClient::connect(&bootstrap).await?;
    let batch = topic::batch(&["unanswered".to_owned()], 0, None)?;
    let request = topic::produce_request(TOPIC, 0, batch.clone()).with_acks(0);
    client.send_unanswered(version::PRODUCE, &request).await?;
    // The next answer belongs to the next request; both are on one connection and in order, so the
    // record is there.
    let request = topic::produce_request(TOPIC, 0, batch.clone());
    let answer = client.call(version::PRODUCE, &request).await?;
    let partition = &answer.responses[0].partition_responses[0];
    ensure!(partition.error_code == 0 && partition.base_offset == 1, "{partition:?}");

    let nowhere = topic::produce_request("no-such-topic", 9, batch).with_acks(0);
    client.send_unanswered(version::PRODUCE, &nowhere).await?;
    client.expect_close().await?;
    scratch.done();
    Ok(())
}

#[tokio::test]
async fn a_fetch_behind_an_acknowledgement_finds_the_record_without_waiting() -> Result<()> {
    const ROUNDS: i64 = 1_000;
    let (scratch, mut server, bootstrap) = start("read-your-writes").await?;
    let mut producer = RawClient::connect(&bootstrap).await?;
    let mut consumer = RawClient::connect(&bootstrap).await?;
    let mut missed = 0;
    for offset in 0..ROUNDS {
        let batch = topic::batch(&["v".to_owned()], 0, None)?;
        let request = topic::produce_request(TOPIC, 0, batch);
        let answer = producer.call(version::PRODUCE, &request).await?;
        let written = &answer.responses[0].partition_responses[0];
        ensure!((written.error_code, written.base_offset) == (0, offset), "{written:?}");
        let request = topic::fetch_request(TOPIC, 0, offset).with_max_wait_ms(0);
        let answer = consumer.call(version::FETCH, &request).await?;
        let read = &answer.responses[0].partitions[0];
        ensure!(read.error_code == 0, "{read:?}");
        missed += usize::from(read.records.as_ref().is_none_or(|records| records.is_empty()));
    }
    ensure!(missed == 0, "{missed} of {ROUNDS} fetches missed a record that was acknowledged");
    check_alive(&mut server).await?;
    scratch.done();
    Ok(())
}
