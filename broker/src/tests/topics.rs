//! Topics that come, go, and come again.

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest, DescribeClusterRequest};

use super::*;
use crate::testing::{World, batch};

fn topic(text: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(text))
        .with_num_partitions(1)
        .with_replication_factor(1)
}

async fn create_one(client: &mut Client, topic: CreatableTopic) -> CreatableTopicResult {
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
    client.call(7, &request).await.topics.remove(0)
}

#[tokio::test]
async fn a_topic_made_again_is_another_one_and_its_old_data_is_gone() {
    let world = World::start().await;
    let mut client = world.client().await;
    let old = create(&mut client, "t").await.topics[0].topic_id;
    produced(&mut client, "t", batch(&["old"])).await;
    let state = DeleteTopicState::default().with_name(None).with_topic_id(old);
    let request = DeleteTopicsRequest::default().with_topics(vec![state]);
    let deleted = client.call(6, &request).await;
    assert_eq!(deleted.responses[0].error_code, 0);
    assert_eq!(deleted.responses[0].name, Some(name("t")));
    // By its old id it is unknown, in the words of requests by id.
    assert_eq!(client.call(6, &request).await.responses[0].error_code, 100);
    let new = create(&mut client, "t").await.topics[0].topic_id;
    assert_ne!(old, new);
    let fresh = fetched(&mut client, "t", 0).await;
    assert_eq!((fresh.high_watermark, fresh.records.unwrap().len()), (0, 0));
    assert_eq!(produced(&mut client, "t", batch(&["new"])).await.base_offset, 0);
    let mut by_id = produce("", -1, &[(0, batch(&["stale"]))]);
    by_id.topic_data[0].topic_id = old;
    let stale = client.call(13, &by_id).await;
    assert_eq!(stale.responses[0].partition_responses[0].error_code, 100);
}

#[tokio::test]
async fn the_shown_linger_is_the_topics_or_the_brokers() {
    let world =
        World::with_both(|_, write| write.linger = std::time::Duration::from_millis(40)).await;
    let mut client = world.client().await;
    let set = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("ottla.linger.ms"))
        .with_value(Some(StrBytes::from_static_str("7")));
    for (configs, shown) in [(vec![], ("40", 4)), (vec![set], ("7", 1))] {
        let name = format!("t{}", configs.len());
        let created = create_one(&mut client, topic(&name).with_configs(configs)).await;
        let configs = created.configs.unwrap();
        let linger = configs.iter().find(|config| &*config.name == "ottla.linger.ms").unwrap();
        assert_eq!((linger.value.as_deref().unwrap(), linger.config_source), shown);
        let other = configs.iter().find(|config| &*config.name == "retention.ms").unwrap();
        assert_eq!(other.config_source, 5);
    }
}

#[tokio::test]
async fn bad_topics_are_refused_with_their_own_code() {
    let world = World::start().await;
    let mut client = world.client().await;
    assert_eq!(create_one(&mut client, topic("t")).await.error_code, 0);
    assert_eq!(create_one(&mut client, topic("t")).await.error_code, 36);
    assert_eq!(create_one(&mut client, topic("a b")).await.error_code, 17);
    assert_eq!(create_one(&mut client, topic("p").with_num_partitions(0)).await.error_code, 37);
    let no_factor = topic("f").with_replication_factor(0);
    assert_eq!(create_one(&mut client, no_factor).await.error_code, 38);
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("retention.msec"))
        .with_value(Some(StrBytes::from_static_str("1")));
    let refused = create_one(&mut client, topic("c").with_configs(vec![config])).await;
    assert_eq!(refused.error_code, 40);
    assert!(refused.error_message.unwrap().contains("retention.ms"));
    let twice = CreateTopicsRequest::default().with_topics(vec![topic("x"), topic("x")]);
    let twice = client.call(7, &twice).await;
    assert_eq!((twice.topics.len(), twice.topics[0].error_code), (1, 42));
}

#[tokio::test]
async fn validate_only_creates_nothing() {
    let world = World::start().await;
    let mut client = world.client().await;
    let request =
        CreateTopicsRequest::default().with_topics(vec![topic("t")]).with_validate_only(true);
    assert_eq!(client.call(7, &request).await.topics[0].error_code, 0);
    let asked = metadata("t").with_allow_auto_topic_creation(false);
    assert_eq!(client.call(12, &asked).await.topics[0].error_code, 3);
}

#[tokio::test]
async fn validate_only_sees_what_creating_would_refuse() {
    let world = World::start().await;
    let mut client = world.client().await;
    assert_eq!(create_one(&mut client, topic("a.b")).await.error_code, 0);
    let request =
        CreateTopicsRequest::default().with_topics(vec![topic("a_b")]).with_validate_only(true);
    assert_eq!(client.call(7, &request).await.topics[0].error_code, 17, "the names collide");
}

#[tokio::test]
async fn the_controllers_cannot_be_described_here() {
    let world = World::start().await;
    let mut client = world.client().await;
    for (endpoints, error) in [(1, 0), (2, 114), (3, 115)] {
        let request = DescribeClusterRequest::default().with_endpoint_type(endpoints);
        assert_eq!(client.call(2, &request).await.error_code, error);
    }
}

#[tokio::test]
async fn topics_are_not_made_by_asking_when_that_is_off() {
    let world = World::with(|options| options.auto_create_topics = false).await;
    let mut client = world.client().await;
    assert_eq!(client.call(12, &metadata("t")).await.topics[0].error_code, 3);
    assert_eq!(client.call(12, &metadata("a b")).await.topics[0].error_code, 17);
}

#[tokio::test]
async fn one_request_makes_a_bounded_number_of_topics_and_the_next_one_the_rest() {
    let world = World::start().await;
    let mut client = world.client().await;
    let most = crate::limits::TOPICS_PER_REQUEST_MAX;
    let wanted = (0..most + 3)
        .map(|at| MetadataRequestTopic::default().with_name(Some(name(&format!("t{at}")))));
    let request = MetadataRequest::default()
        .with_topics(Some(wanted.collect()))
        .with_allow_auto_topic_creation(true);
    for made in [most, most + 3] {
        let answer = client.call(12, &request).await;
        let codes = answer.topics.iter().map(|topic| topic.error_code);
        let expected = (0..most + 3).map(|at| if at < made { 0 } else { 3 });
        assert!(codes.eq(expected), "not the first {made}");
    }
}
