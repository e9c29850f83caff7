//! F60: requests of consumer groups that cost little to send and much to keep.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;
use ottla_tests::edge::{Edge, HONEST};
use ottla_tests::http;
use ottla_tests::member::{self, Member};
use ottla_tests::raw::{RawClient, version};
use tokio::task::JoinSet;

const GROUP: &str = "honest";
const NOT_AVAILABLE: i16 = 15;
const INCONSISTENT_PROTOCOL: i16 = 23;
const INVALID_GROUP_ID: i16 = 24;
const UNKNOWN_MEMBER: i16 = 25;
const INVALID_REQUEST: i16 = 42;
const MEMBER_ID_REQUIRED: i16 = 79;
const FULL: i16 = 81;

/// More than a broker keeps groups in memory.
const UNKNOWN_GROUPS: usize = 51_200;
const CONNECTIONS: usize = 16;
/// Requests that are sent before their answers are read.
const AT_ONCE: usize = 32;

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn protocol(name: &str, metadata: Bytes) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata)
}

/// A join without an id, which never waits for others: it is refused, or told an id.
fn join(group: String, protocols: Vec<JoinGroupRequestProtocol>) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(i32::MAX)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols)
}

async fn heartbeats(bootstrap: String, first: usize) -> Result<()> {
    let mut client = RawClient::connect(&bootstrap).await?;
    let all: Vec<_> = (first..UNKNOWN_GROUPS).step_by(CONNECTIONS).collect();
    for some in all.chunks(AT_ONCE) {
        for n in some {
            let request = HeartbeatRequest::default()
                .with_group_id(GroupId(text(format!("unknown-{n}"))))
                .with_member_id(text("nobody"))
                .with_generation_id(1);
            client.send(version::HEARTBEAT, &request).await?;
        }
        for _ in some {
            let code = client.receive::<HeartbeatRequest>().await?.error_code;
            ensure!(code == UNKNOWN_MEMBER, "a heartbeat was answered with error {code}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn f63_heartbeats_of_unknown_groups_leave_nothing() -> Result<()> {
    let mut edge = Edge::start("unknown-groups", &[]).await?;
    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    member::coordinator(&mut honest, GROUP).await?;
    let member = Member::join(&mut honest, GROUP).await?;
    let before = groups_bytes(&edge).await?;
    let mut flood = JoinSet::new();
    for first in 0..CONNECTIONS {
        flood.spawn(heartbeats(edge.bootstrap.clone(), first));
    }
    // Others are served meanwhile: members that are in, and groups that nobody has heard of.
    while !flood.is_empty() {
        member.heartbeat(&mut honest).await?;
        while let Some(ended) = flood.try_join_next() {
            ended??;
        }
    }
    let mut other = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    Member::join(&mut other, "another").await?;
    ensure!(groups_bytes(&edge).await? < before + (64 << 10), "groups are kept");
    edge.look()?;
    println!("f60: {UNKNOWN_GROUPS} heartbeats, memory grew by {} MiB", edge.grown() >> 20);
    edge.survived(48 << 20).await
}

async fn groups_bytes(edge: &Edge) -> Result<u64> {
    let (status, body) = http::get(edge.server.admin_port(), "/metrics").await?;
    ensure!(status == 200, "/metrics answered {status}");
    let series = "ottla_memory_bytes{owner=\"groups\"} ";
    let line = body.lines().find_map(|line| line.strip_prefix(series));
    Ok(line.context("no such owner")?.parse::<f64>()? as u64)
}

/// Nine megabytes of protocols with neither name nor metadata: refused, whatever their number.
#[tokio::test]
async fn f63_protocols_that_say_nothing_count() -> Result<()> {
    let edge = Edge::start("empty-protocols", &[]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    member::coordinator(&mut client, GROUP).await?;
    let one = protocol("range", Bytes::new());
    for (count, code) in [(65, INCONSISTENT_PROTOCOL), (500_000, INCONSISTENT_PROTOCOL)] {
        for n in 0..5 {
            let protocols = vec![protocol("", Bytes::new()); count - 1];
            let protocols = [vec![one.clone()], protocols].concat();
            let request = join(format!("many-{n}"), protocols);
            let Ok(answer) = client.call(version::JOIN_GROUP, &request).await else {
                // So many elements may be too many for any request.
                client = RawClient::connect(&edge.bootstrap).await?;
                continue;
            };
            ensure!(answer.error_code == code, "{count} protocols: error {}", answer.error_code);
        }
    }
    ensure!(groups_bytes(&edge).await? == 0, "refused groups are kept");
    edge.survived(160 << 20).await
}

/// Members as large as they may be, in one group and in many: what one client may hold is reached
/// long before the memory of the node is, and others join meanwhile.
#[tokio::test]
async fn f63_what_members_say_is_charged_and_refused_at_the_bound() -> Result<()> {
    const METADATA_BYTES: usize = 1 << 20;
    const SHARE: u64 = 64 << 20;
    let mut edge = Edge::start("large-members", &[]).await?;
    let mut waiting = Vec::new();
    let mut refused = 0;
    for n in 0..80 {
        let mut client = RawClient::connect(&edge.bootstrap).await?;
        if n == 0 {
            member::coordinator(&mut client, GROUP).await?;
        }
        let metadata = Bytes::from(vec![7; METADATA_BYTES]);
        let mut request = join(format!("large-{}", n / 4), vec![protocol("range", metadata)]);
        let told = client.call(version::JOIN_GROUP, &request).await?;
        ensure!(told.error_code == MEMBER_ID_REQUIRED || told.error_code == FULL, "{told:?}");
        request.member_id = told.member_id;
        client.send(version::JOIN_GROUP, &request).await?;
        waiting.push(client);
    }
    let mut answered = 0;
    for client in &mut waiting {
        let answer = client.receive::<JoinGroupRequest>().await?;
        refused += usize::from(answer.error_code == NOT_AVAILABLE);
        answered += usize::from(answer.error_code == 0);
    }
    let held = groups_bytes(&edge).await?;
    edge.look()?;
    println!(
        "f60: {answered} members of 1 MiB are in, {refused} were refused; counted {} MiB, memory \
         grew by {} MiB",
        held >> 20,
        edge.grown() >> 20
    );
    ensure!(answered >= 40 && refused >= 10, "{answered} in, {refused} refused");
    ensure!(held <= SHARE, "one client holds {held} bytes");
    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    Member::join(&mut honest, GROUP).await?;
    drop(waiting);
    edge.survived(320 << 20).await
}

/// Joins under ever new names: each is told an id that nobody uses. What one client may hold is
/// reached, and other clients make groups, and have theirs, meanwhile.
#[tokio::test]
async fn f63_new_groups_are_refused_at_the_bound_of_a_client() -> Result<()> {
    const NEW_GROUPS: usize = 12_000;
    /// Three quarters of a client's share.
    const BOUND: u64 = 48 << 20;
    let mut edge = Edge::start("new-groups", &[]).await?;
    let mut honest = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    member::coordinator(&mut honest, GROUP).await?;
    let member = Member::join(&mut honest, GROUP).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    let (mut told, mut refused) = (0, 0);
    let names: Vec<_> = (0..NEW_GROUPS).collect();
    for some in names.chunks(AT_ONCE) {
        for n in some {
            let request = join(format!("new-{n}"), vec![protocol("range", Bytes::new())]);
            client.send(version::JOIN_GROUP, &request).await?;
        }
        for _ in some {
            match client.receive::<JoinGroupRequest>().await?.error_code {
                MEMBER_ID_REQUIRED => told += 1,
                NOT_AVAILABLE => refused += 1,
                code => bail!("a join was answered with error {code}"),
            }
        }
    }
    let held = groups_bytes(&edge).await?;
    edge.look()?;
    println!(
        "f60: {told} new groups, {refused} refused; counted {} MiB, memory grew by {} MiB",
        held >> 20,
        edge.grown() >> 20
    );
    ensure!(told > 5_000 && refused > 1_000, "{told} told, {refused} refused");
    ensure!(held <= BOUND + (1 << 20), "{held} bytes are counted");
    member.heartbeat(&mut honest).await?;
    let mut other = RawClient::connect_from(HONEST, &edge.bootstrap).await?;
    Member::join(&mut other, "another").await?;
    // What is counted is what it costs.
    edge.survived(held + (24 << 20)).await
}

#[tokio::test]
async fn f63_names_that_are_too_long_are_refused() -> Result<()> {
    let edge = Edge::start("long-names", &[]).await?;
    let mut client = RawClient::connect(&edge.bootstrap).await?;
    member::coordinator(&mut client, GROUP).await?;
    let range = || vec![protocol("range", Bytes::new())];
    // The longest string that any request may have is 32,767 bytes.
    for bytes in [250, 32_767] {
        let long = || "x".repeat(bytes);
        let id = || GroupId(text(long()));
        let joined = client.call(version::JOIN_GROUP, &join(long(), range())).await?;
        let synced = SyncGroupRequest::default()
            .with_group_id(id())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")));
        let synced = client.call(version::SYNC_GROUP, &synced).await?;
        let beat = HeartbeatRequest::default().with_group_id(id());
        let beat = client.call(version::HEARTBEAT, &beat).await?;
        let left = LeaveGroupRequest::default().with_group_id(id());
        let left = client.call(version::LEAVE_GROUP, &left).await?;
        let found = FindCoordinatorRequest::default().with_key(text(long()));
        let found = client.call(version::FIND_COORDINATOR, &found).await?;
        let fetched = OffsetFetchRequest::default().with_group_id(id()).with_topics(None);
        let fetched = client.call(version::OFFSET_FETCH, &fetched).await?;
        let codes = [
            joined.error_code,
            synced.error_code,
            beat.error_code,
            left.error_code,
            found.error_code,
            fetched.error_code,
        ];
        ensure!(codes == [INVALID_GROUP_ID; 6], "{bytes} bytes: {codes:?}");
        let code = commit_code(&mut client, id()).await?;
        ensure!(code == INVALID_GROUP_ID, "a commit: error {code}");

        let named = join("g".into(), range()).with_group_instance_id(Some(text(long())));
        let code = client.call(version::JOIN_GROUP, &named).await?.error_code;
        ensure!(code == INVALID_REQUEST, "an instance id: error {code}");
        let typed = join("g".into(), range()).with_protocol_type(text(long()));
        let code = client.call(version::JOIN_GROUP, &typed).await?.error_code;
        ensure!(code == INCONSISTENT_PROTOCOL, "a protocol type: error {code}");
        let named = join("g".into(), vec![protocol(&long(), Bytes::new())]);
        let code = client.call(version::JOIN_GROUP, &named).await?.error_code;
        ensure!(code == INCONSISTENT_PROTOCOL, "a protocol: error {code}");
    }
    ensure!(groups_bytes(&edge).await? == 0, "refused groups are kept");
    edge.survived(48 << 20).await
}

async fn commit_code(client: &mut RawClient, group: GroupId) -> Result<i16> {
    use kafka_protocol::messages::offset_commit_request as commit;
    let partition = commit::OffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = commit::OffsetCommitRequestTopic::default()
        .with_name(ottla_tests::raw::topic_name(ottla_tests::edge::TOPIC))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group)
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let answer = client.call(version::OFFSET_COMMIT, &request).await?;
    let partition = answer.topics.first().and_then(|topic| topic.partitions.first());
    Ok(partition.context("no partition")?.error_code)
}
