//! What is produced, and what is refused.

use ottla_model::TimestampType;
use ottla_wire::batch;

use super::*;
use ottla_test_kit::APPEND_TIME;

use crate::testing::{NOW, World, batch, batch_with};
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};

async fn create_with(client: &mut Client, topic: &str, configs: &[(&'static str, &'static str)]) {
    let configs = configs.iter().map(|(name, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_static_str(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(1)
        .with_replication_factor(-1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let response = client.call(7, &request).await;
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

#[tokio::test]
async fn a_record_comes_back_byte_for_byte_with_its_offset_patched() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let sent = batch(&["one", "two"]);
    assert_eq!(produced(&mut client, "t", sent.clone()).await.base_offset, 0);
    assert_eq!(produced(&mut client, "t", sent.clone()).await.base_offset, 2);
    // An offset inside a batch brings the whole batch.
    let got = fetched(&mut client, "t", 3).await.records.unwrap();
    let header = batch::check(&got).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (2, 1));
    assert_eq!(got[16..], sent[16..]);
}

#[tokio::test]
async fn one_bad_partition_does_not_fail_the_others() {
    let world = World::with(|options| options.num_partitions = 3).await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let mut corrupt = batch(&["x"]).to_vec();
    corrupt[65] ^= 1;
    let request = produce(
        "t",
        -1,
        &[(0, batch(&["a"])), (1, corrupt.into()), (2, batch(&["c"])), (9, batch(&["d"]))],
    );
    let response = client.call(9, &request).await;
    let codes: Vec<(i16, i64)> = response.responses[0]
        .partition_responses
        .iter()
        .map(|p| (p.error_code, p.base_offset))
        .collect();
    assert_eq!(codes, [(0, 0), (2, -1), (0, 0), (3, -1)]);
    let unknown = client.call(9, &produce("nowhere", -1, &[(0, batch(&["a"]))])).await;
    assert_eq!(unknown.responses[0].partition_responses[0].error_code, 3);
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_with_its_own_code() {
    let world = World::start().await;
    let mut client = world.client().await;
    create_with(&mut client, "t", &[("max.message.bytes", "200")]).await;
    create_with(&mut client, "compacted", &[("cleanup.policy", "compact")]).await;
    let attributes = |bits| batch_with(&["v"], NOW.0, move |b| b[22] |= bits);
    for (sent, code) in [
        (Bytes::new(), 87),
        (attributes(0x10), 48),
        (attributes(0x20), 87),
        (attributes(0x40), 87),
        (attributes(0x08), 32),
        (attributes(0x07), 76),
        (batch_with(&["v"], NOW.0 + 3_600_001, |_| {}), 32),
        (batch(&["0123456789"; 20]), 10),
        (batch_with(&["v"], NOW.0, |b| b[16] = 1), 87),
        (batch_with(&["v"], NOW.0, |b| b[60] = 7), 87),
        (batch_with(&["v"], NOW.0, |b| b[43..51].fill(0)), 87),
        ([batch(&["v"]), batch(&["v"])].concat().into(), 87),
        (batch_with(&["v"], -1, |_| {}), 0),
    ] {
        assert_eq!(produced(&mut client, "t", sent.clone()).await.error_code, code, "{sent:?}");
    }
    assert_eq!(produced(&mut client, "compacted", batch(&["v"])).await.error_code, 87);
    let old = client.call(3, &produce("t", -1, &[(0, attributes(4))])).await;
    assert_eq!(old.responses[0].partition_responses[0].error_code, 76);
    let acks = client.call(9, &produce("t", 2, &[(0, batch(&["v"]))])).await;
    assert_eq!(acks.responses[0].partition_responses[0].error_code, 21);
    let twice = produce("t", 1, &[(0, batch(&["v"])), (0, batch(&["w"]))]);
    let twice = client.call(9, &twice).await;
    let codes: Vec<i16> =
        twice.responses[0].partition_responses.iter().map(|p| p.error_code).collect();
    assert_eq!(codes, [42, 42]);
}

#[tokio::test]
async fn each_record_that_is_to_blame_is_named() {
    let world = World::start().await;
    let mut client = world.client().await;
    create_with(&mut client, "compacted", &[("cleanup.policy", "compact")]).await;
    create(&mut client, "t").await;
    let named = |partition: &PartitionProduceResponse| -> Vec<i32> {
        partition.record_errors.iter().map(|error| error.batch_index).collect()
    };
    let refused = produced(&mut client, "compacted", batch(&["a", "b", "c"])).await;
    assert_eq!((refused.error_code, named(&refused)), (87, vec![0, 1, 2]));

    let sent = ottla_test_kit::batch::plain(&[(NOW.0, b"v"), (NOW.0 + 3_600_001, b"w")]);
    let refused = produced(&mut client, "t", sent).await;
    assert_eq!((refused.error_code, named(&refused)), (32, vec![1]));

    // What is wrong with the batch is wrong with all of its records.
    let refused = produced(&mut client, "t", batch_with(&["a", "b"], NOW.0, |b| b[22] |= 8)).await;
    assert_eq!((refused.error_code, named(&refused)), (32, vec![]));
    assert!(refused.error_message.is_some());
}

#[tokio::test]
async fn a_batch_that_cannot_be_decompressed_is_refused_in_its_place() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let gzip = ottla_test_kit::batch::gzipped(&[(NOW.0, b"one"), (NOW.0, b"two")]);
    let cut = ottla_test_kit::batch::changed(&gzip, |bytes| bytes.truncate(bytes.len() - 4));
    let two_of_a_million = ottla_test_kit::batch::changed(&gzip, |bytes| {
        bytes[23..27].copy_from_slice(&999_999i32.to_be_bytes());
        bytes[57..61].copy_from_slice(&1_000_000i32.to_be_bytes());
    });
    for (sent, code, offset) in
        [(gzip.clone(), 0, 0), (cut, 87, -1), (two_of_a_million, 87, -1), (gzip, 0, 2)]
    {
        let told = produced(&mut client, "t", sent).await;
        assert_eq!((told.error_code, told.base_offset), (code, offset));
    }
}

#[tokio::test]
async fn log_append_time_is_told_and_patched() {
    let world = World::start().await;
    let mut client = world.client().await;
    create_with(&mut client, "t", &[("message.timestamp.type", "LogAppendTime")]).await;
    let forged = produced(&mut client, "t", batch_with(&["v"], NOW.0, |b| b[22] |= 8)).await;
    assert_eq!(forged.error_code, 32, "only the broker sets the bit");
    let stored = produced(&mut client, "t", batch_with(&["v"], i64::MAX, |_| {})).await;
    assert_eq!((stored.error_code, stored.log_append_time_ms), (0, APPEND_TIME.0));
    let got = fetched(&mut client, "t", 0).await.records.unwrap();
    let header = batch::check(&got).unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(header.max_timestamp, APPEND_TIME.0);
}

#[tokio::test]
async fn a_fetch_tells_offsets_also_without_records_and_errors_by_partition() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    produced(&mut client, "t", batch(&["v"])).await;
    let empty = fetched(&mut client, "t", 1).await;
    assert_eq!((empty.error_code, empty.high_watermark, empty.last_stable_offset), (0, 1, 1));
    assert_eq!((empty.log_start_offset, empty.records.unwrap().len()), (0, 0));
    assert_eq!(fetched(&mut client, "t", 2).await.error_code, 1);
    let unknown = fetched(&mut client, "nowhere", 0).await;
    assert_eq!((unknown.error_code, unknown.high_watermark), (3, -1));
    let mut of_session = fetch("t", 0, 0);
    // Full fetches, which would end a session, or begin another one in its place; then one that
    // goes on with it.
    for (session, epoch, code) in [(7, -1, 0), (7, 0, 0), (0, 0, 0), (7, 3, 70), (0, 3, 70)] {
        (of_session.session_id, of_session.session_epoch) = (session, epoch);
        let told = client.call(12, &of_session).await;
        assert_eq!((told.error_code, told.session_id), (code, 0), "{session}, {epoch}");
    }
    let mut epoch = fetch("t", 0, 0);
    epoch.topics[0].partitions[0].current_leader_epoch = 9;
    assert_eq!(client.call(12, &epoch).await.responses[0].partitions[0].error_code, 75);
}

#[tokio::test]
async fn what_was_acknowledged_is_found_at_once_however_late_the_view_is() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    // The view does not follow any more.
    world.control.close_watches();
    for base in 0..3 {
        assert_eq!(produced(&mut client, "t", batch(&["v"])).await.base_offset, base);
        let found = fetched(&mut client, "t", base).await;
        assert_eq!((found.high_watermark, found.last_stable_offset), (base + 1, base + 1));
        let header = batch::check(&found.records.unwrap()).unwrap();
        assert_eq!(header.base_offset, base);
    }
}
