//! What the API promises: order, currency, a watch without gaps, calls that can be repeated.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_control_api::view::{Change, WatchEvent};
use ottla_control_api::{
    CallError, CallErrorKind, ControlPlane, CreateTopicRequest, FindExtents, OpError,
};
use ottla_env::Random;
use ottla_format::command::{AllocateProducerIds, CreateTopicRefusal, Fenced};
use ottla_model::{AppliedIndex, Offset, TopicName};

use super::world::{PARTITION, TOPIC, base_offset, commit, fill, options, register, start};
use crate::service::faulty::{Faults, FaultyControlPlane};

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_proposed_in_the_order_of_the_calls() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    // `fill` hands all over before it reads an answer, and expects offsets in order.
    fill(&controller, 1, 500).await;
    assert!(controller.state().check().is_ok());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_every_commit_once_and_ends_with_the_controller() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let mut events = controller.api().watch();
    fill(&controller, 1, 50).await;
    let registered = controller.digest().0;
    let mut offsets = Vec::new();
    let mut applied = AppliedIndex(0);
    assert!(matches!(events.recv().await, Some(WatchEvent::Reset(_))));
    while applied < registered {
        match events.recv().await.unwrap() {
            WatchEvent::Reset(_) => panic!("not behind"),
            WatchEvent::Changes { applied: now, changes } => {
                applied = now;
                for change in changes.iter() {
                    if let Change::Partition { extents, .. } = change {
                        offsets.extend(extents.iter().map(|extent| extent.base_offset.0));
                    }
                }
            }
        }
    }
    assert_eq!(offsets, (0..50).map(|at| at * 10).collect::<Vec<_>>());
    controller.stop().await;
    while events.recv().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "asks as the read path does")]
async fn reads_include_everything_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    fill(&controller, 1, 3).await;
    let api = controller.api();
    let find = FindExtents { partition: PARTITION, from: Offset(15), max_bytes: 1 };
    let page = api.find_extents(find).await.unwrap();
    assert_eq!(page.extents.len(), 1);
    assert_eq!(page.extents[0].base_offset, Offset(10));
    assert_eq!(page.bounds.unwrap().high_watermark, Offset(30));
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "asks as the read path does")]
async fn after_a_stop_calls_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let api = controller.api();
    let author = register(&api, 1).await.author;
    controller.stop().await;
    let error = api.commit_objects(commit(author, 0, 0)).await.unwrap_err();
    assert_eq!(error.kind(), CallErrorKind::ShuttingDown);
    assert_eq!(api.partition_bounds(PARTITION).await, Err(CallError::ShuttingDown));
    assert!(api.watch().recv().await.is_none());
}

/// Repeats a call until it gets an answer.
async fn until_known<T>(mut call: impl AsyncFnMut() -> Result<T, CallError>) -> T {
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => assert!(
                matches!(error.kind(), CallErrorKind::Retry | CallErrorKind::RetryUnknown),
                "{error}"
            ),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::disallowed_methods, reason = "asks as the read path does")]
async fn lost_and_doubled_calls_change_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let faults = Faults {
        lost_request: 0.2,
        lost_answer: 0.3,
        doubled: 0.2,
        held: 0.0,
        delay_max: Duration::from_micros(500),
    };
    let good = controller.api();
    let author = register(&good, 1).await.author;
    let api: Arc<dyn ControlPlane> =
        FaultyControlPlane::new(good.clone(), Random::seeded(4), faults);
    let created = until_known(async || {
        let request = CreateTopicRequest {
            id: TOPIC,
            name: TopicName::new("events").unwrap(),
            partitions: 1,
            replication_factor: 1,
            configs: BTreeMap::new(),
        };
        match api.create_topic(request).await {
            Ok(id) => Ok(id),
            Err(OpError::Call(error)) => Err(error),
            Err(OpError::Refused(CreateTopicRefusal::Exists(id))) => panic!("exists: {id}"),
            Err(OpError::Refused(other)) => panic!("{other:?}"),
        }
    })
    .await;
    assert_eq!(created, TOPIC);
    for seq in 0..100 {
        let outcomes =
            until_known(async || api.commit_objects(commit(author, seq, seq)).await).await;
        assert_eq!(base_offset(&outcomes), 10 * seq as i64);
    }
    let bounds = good.partition_bounds(PARTITION).await.unwrap().unwrap();
    assert_eq!(bounds.high_watermark, Offset(1_000));
    let again = until_known(async || {
        match api.allocate_producer_ids(AllocateProducerIds { author, count: 10 }).await {
            Ok(first) => Ok(first),
            Err(OpError::Call(error)) => Err(error),
            Err(OpError::Refused(Fenced)) => panic!("fenced"),
        }
    })
    .await;
    assert!(again.0 >= 0, "blocks may be lost, never given twice");
    assert!(controller.state().check().is_ok());
    controller.stop().await;
}
