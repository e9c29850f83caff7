//! Every version of every API is answered in that version.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use ottla_wire::apis::APIS;

use super::{create, fetch, name, produced};
use crate::testing::{World, batch};

fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let api = APIS.iter().find(|api| api.key == key).unwrap();
    api.served.min..=api.served.max
}

#[tokio::test]
async fn produce_and_fetch_name_topics_as_they_were_asked() {
    let world = World::start().await;
    let mut client = world.client().await;
    let id = create(&mut client, "t").await.topics[0].topic_id;
    for (at, version) in versions(ApiKey::Produce).enumerate() {
        let topic = TopicProduceData::default().with_partition_data(vec![
            PartitionProduceData::default().with_index(0).with_records(Some(batch(&["v"]))),
        ]);
        let by_id = version >= 13;
        let topic = if by_id { topic.with_topic_id(id) } else { topic.with_name(name("t")) };
        let request = ProduceRequest::default()
            .with_acks(1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![topic]);
        let response = client.call(version, &request).await;
        let topic = &response.responses[0];
        assert!(if by_id { topic.topic_id == id } else { topic.name == name("t") });
        let partition = &topic.partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, at as i64), "v{version}");
        assert_eq!(partition.log_append_time_ms, -1);
    }
    let records = versions(ApiKey::Produce).count() as i64;
    for version in versions(ApiKey::Fetch) {
        let by_id = version >= 13;
        let mut request = fetch("t", 1, 0);
        if by_id {
            let partition =
                FetchPartition::default().with_fetch_offset(1).with_partition_max_bytes(1 << 20);
            request.topics =
                vec![FetchTopic::default().with_topic_id(id).with_partitions(vec![partition])];
        }
        let response = client.call(version, &request).await;
        let topic = &response.responses[0];
        assert!(if by_id { topic.topic_id == id } else { topic.topic == name("t") });
        let partition = &topic.partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark), (0, records));
        assert_eq!(partition.last_stable_offset, records);
        let bytes = partition.records.clone().unwrap();
        let batches: Vec<_> = ottla_wire::batch::walk(&bytes).map(|b| b.unwrap().0).collect();
        let offsets: Vec<i64> = batches.iter().map(|batch| batch.base_offset).collect();
        assert_eq!(offsets, (1..records).collect::<Vec<_>>(), "v{version}");
    }
}

#[tokio::test]
async fn metadata_and_describe_cluster_show_the_cluster() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    let port = i32::from(world.broker.local_address().port());
    for version in versions(ApiKey::Metadata) {
        // Version 0 asks for all by an empty list, later ones by null.
        let topics = if version == 0 { Some(vec![]) } else { None };
        let request = MetadataRequest::default().with_topics(topics);
        let response = client.call(version, &request).await;
        assert_eq!((response.brokers[0].node_id.0, response.brokers[0].port), (1, port));
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.name.clone()), (0, Some(name("t"))), "v{version}");
        assert_eq!(topic.topic_id.is_nil(), version < 10);
        let partition = &topic.partitions[0];
        assert_eq!((partition.leader_id.0, partition.isr_nodes.len()), (1, 1));
        assert_eq!(partition.leader_epoch, if version >= 7 { 1 } else { -1 });
        if version >= 1 {
            let unknown = super::metadata("nowhere").with_allow_auto_topic_creation(false);
            let expected = if version >= 4 { 3 } else { 0 };
            let unknown = if version >= 4 { unknown } else { super::metadata("u") };
            let response = client.call(version, &unknown).await;
            assert_eq!(response.topics[0].error_code, expected, "v{version}");
        }
    }
    for version in versions(ApiKey::DescribeCluster) {
        let request = DescribeClusterRequest::default();
        let response = client.call(version, &request).await;
        assert_eq!((response.error_code, response.controller_id.0), (0, 1));
        assert_eq!(response.cluster_id.as_str(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(response.brokers[0].port, port);
    }
}

#[tokio::test]
async fn topics_come_grow_and_go_in_every_version() {
    let world = World::start().await;
    let mut client = world.client().await;
    for version in versions(ApiKey::CreateTopics) {
        let topic = CreatableTopic::default()
            .with_name(name(&format!("t{version}")))
            .with_num_partitions(2)
            .with_replication_factor(3);
        let request =
            CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
        let response = client.call(version, &request).await;
        assert_eq!(response.topics[0].error_code, 0, "v{version}");
        if version >= 5 {
            assert_eq!(response.topics[0].replication_factor, 3);
            assert!(response.topics[0].configs.as_ref().unwrap().len() > 30);
        }
        assert_eq!(response.topics[0].topic_id.is_nil(), version < 7);
    }
    for version in versions(ApiKey::CreatePartitions) {
        let topic = CreatePartitionsTopic::default()
            .with_name(name("t2"))
            .with_count(3 + i32::from(version))
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
        let response = client.call(version, &request).await;
        assert_eq!(response.results[0].error_code, 0, "v{version}");
    }
    let response = client.call(12, &super::metadata("t2")).await;
    assert_eq!(response.topics[0].partitions.len(), 6);
    for version in versions(ApiKey::DeleteTopics) {
        create(&mut client, "gone").await;
        let request = DeleteTopicsRequest::default().with_timeout_ms(5_000);
        let request = if version >= 6 {
            request.with_topics(vec![DeleteTopicState::default().with_name(Some(name("gone")))])
        } else {
            request.with_topic_names(vec![name("gone")])
        };
        let response = client.call(version, &request).await;
        assert_eq!(response.responses[0].error_code, 0, "v{version}");
        let response = client.call(version, &request).await;
        assert_eq!(response.responses[0].error_code, 3, "v{version}");
    }
}

#[tokio::test]
async fn offsets_are_told_in_every_version() {
    let world = World::start().await;
    let mut client = world.client().await;
    create(&mut client, "t").await;
    produced(&mut client, "t", batch(&["a", "b", "c"])).await;
    for version in versions(ApiKey::ListOffsets) {
        let ask = |timestamp| {
            let partition = ListOffsetsPartition::default()
                .with_timestamp(timestamp)
                .with_current_leader_epoch(-1);
            ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![
                ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]),
            ])
        };
        for (timestamp, since, offset) in [
            (-1, 1, 3),
            (-2, 1, 0),
            (0, 1, 0),
            (i64::MAX, 1, -1),
            (-3, 7, 0),
            (-4, 8, 0),
            (-5, 9, -1),
        ] {
            let response = client.call(version, &ask(timestamp)).await;
            let partition = &response.topics[0].partitions[0];
            let expected = if version >= since { (0, offset) } else { (35, -1) };
            let got = (partition.error_code, partition.offset);
            assert_eq!(got, expected, "v{version} {timestamp}");
        }
    }
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let partition =
            OffsetForLeaderPartition::default().with_leader_epoch(1).with_current_leader_epoch(1);
        let topic =
            OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let response = client.call(version, &request).await;
        let end = &response.topics[0].partitions[0];
        assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (0, 1, 3));
    }
}

#[tokio::test]
async fn producer_ids_are_given_in_every_version_and_never_twice() {
    let world = World::start().await;
    let mut client = world.client().await;
    let mut ids = std::collections::BTreeSet::new();
    for version in versions(ApiKey::InitProducerId) {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let request = if version >= 3 {
            request.with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
        } else {
            request
        };
        let response = client.call(version, &request).await;
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        assert!(ids.insert(response.producer_id.0));
        let transactional =
            request.with_transactional_id(Some(TransactionalId(StrBytes::from_static_str("x"))));
        assert_eq!(client.call(version, &transactional).await.error_code, 53);
    }
}

#[tokio::test]
async fn api_versions_are_honest_and_features_go_only_to_those_who_can_read_them() {
    let world = World::start().await;
    for (version, software, features) in [
        (0, "", false),
        (1, "", false),
        (2, "", false),
        (3, "librdkafka", false),
        (3, "apache-kafka-java", true),
        (4, "librdkafka", true),
    ] {
        let mut client = world.client().await;
        let request = ApiVersionsRequest::default();
        let request = if version >= 3 {
            request
                .with_client_software_name(StrBytes::from_static_str(software))
                .with_client_software_version(StrBytes::from_static_str("1.0"))
        } else {
            request
        };
        let response = client.call(version, &request).await;
        assert_eq!(response.error_code, 0);
        let listed: Vec<i16> = response.api_keys.iter().map(|api| api.api_key).collect();
        assert_eq!(listed, APIS.iter().map(|api| api.key as i16).collect::<Vec<_>>());
        assert_eq!((response.api_keys[0].min_version, response.api_keys[0].max_version), (0, 13));
        assert_eq!(!response.finalized_features.is_empty(), features, "v{version} {software}");
        if features {
            assert_eq!(response.finalized_features[0].name.as_str(), "metadata.version");
        }
    }
}

/// Every other API is asked above; this makes sure that none of the table lacks a handler.
#[tokio::test]
async fn the_group_apis_are_answered_in_every_version() {
    let world = World::start().await;
    let mut client = world.client().await;
    let group = || GroupId(StrBytes::from_static_str("g"));
    for version in versions(ApiKey::Heartbeat) {
        let response =
            client.call(version, &HeartbeatRequest::default().with_group_id(group())).await;
        assert_ne!(response.error_code, 0);
    }
    for version in versions(ApiKey::FindCoordinator) {
        let request = FindCoordinatorRequest::default();
        let request = if version >= 4 {
            request.with_coordinator_keys(vec![StrBytes::from_static_str("g")])
        } else {
            request.with_key(StrBytes::from_static_str("g"))
        };
        let response = client.call(version, &request).await;
        let node = match response.coordinators.first() {
            Some(coordinator) => coordinator.node_id,
            None => response.node_id,
        };
        assert_eq!(node.0, 1, "v{version}");
    }
    for version in versions(ApiKey::OffsetFetch) {
        let request = OffsetFetchRequest::default();
        let request = if version >= 8 {
            request.with_groups(vec![
                offset_fetch_request::OffsetFetchRequestGroup::default()
                    .with_group_id(group())
                    .with_topics(None),
            ])
        } else {
            request.with_group_id(group()).with_topics(Some(vec![]))
        };
        client.call(version, &request).await;
    }
    for version in versions(ApiKey::OffsetCommit) {
        client.call(version, &OffsetCommitRequest::default().with_group_id(group())).await;
    }
    for version in versions(ApiKey::JoinGroup) {
        client.call(version, &JoinGroupRequest::default().with_group_id(group())).await;
    }
    for version in versions(ApiKey::SyncGroup) {
        client.call(version, &SyncGroupRequest::default().with_group_id(group())).await;
    }
    for version in versions(ApiKey::LeaveGroup) {
        client.call(version, &LeaveGroupRequest::default().with_group_id(group())).await;
    }
}
