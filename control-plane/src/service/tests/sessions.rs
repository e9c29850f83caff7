//! What ends by itself as time passes: sessions of brokers, groups that nobody uses. It costs no log
//! while there is nothing to end.

use std::time::Duration;

use ottla_control_api::OpError;
use ottla_control_api::view::{Change, WatchEvent};
use ottla_format::command::{CommitOffsets, CommittedOffset, Fenced, ObjectOutcome};
use ottla_model::{BrokerId, GroupId, Offset};

use super::world::{PARTITION, commit, fill, last_segment, options, register, start};

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_is_fenced_and_a_renewing_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.session = Duration::from_millis(1_500);
    let controller = start(options).await.unwrap();
    let api = controller.api();
    let registration = register(&api, 1).await;
    assert_eq!(registration.session_ms, 1_500);
    for _ in 0..8 {
        ottla_env::delay(Duration::from_millis(400)).await;
        api.renew_session(registration.author).await.unwrap();
    }
    let mut events = api.watch();
    loop {
        match events.recv().await.unwrap() {
            WatchEvent::Changes { changes, .. }
                if changes.contains(&Change::BrokerGone(BrokerId(1))) =>
            {
                break;
            }
            _ => {}
        }
    }
    assert_eq!(api.renew_session(registration.author).await, Err(OpError::Refused(Fenced)));
    assert_eq!(
        api.commit_objects(commit(registration.author, 0, 0)).await.unwrap(),
        [ObjectOutcome::Fenced]
    );
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_nobody_uses_is_forgotten_after_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.offsets_retention = Duration::from_secs(2);
    let controller = start(options).await.unwrap();
    fill(&controller, 1, 1).await;
    let api = controller.api();
    let author = register(&api, 1).await.author;
    let group = GroupId::from("readers");
    let commit = async || {
        let offset = CommittedOffset { offset: Offset(5), leader_epoch: -1, metadata: "".into() };
        let offsets = vec![(PARTITION, offset)];
        let request = CommitOffsets { author, group: group.clone(), offsets };
        assert_eq!(api.commit_offsets(request).await.unwrap(), []);
    };
    // Used again and again, for longer than it would be kept.
    for _ in 0..6 {
        commit().await;
        ottla_env::delay(Duration::from_millis(500)).await;
        assert!(api.group(&group).await.unwrap().is_some());
    }
    while api.group(&group).await.unwrap().is_some() {
        ottla_env::delay(Duration::from_millis(100)).await;
    }
    let applied = controller.digest().0;
    ottla_env::delay(Duration::from_millis(1_500)).await;
    assert_eq!(controller.digest().0, applied, "nobody asks again");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_controller_writes_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let controller = start(options(folder.path())).await.unwrap();
    let author = register(&controller.api(), 1).await.author;
    // The marker of the last entry.
    ottla_env::delay(Duration::from_millis(300)).await;
    let (segment, applied) = (last_segment(folder.path()), controller.digest().0);
    let length = std::fs::metadata(&segment).unwrap().len();
    for _ in 0..4 {
        controller.api().renew_session(author).await.unwrap();
        ottla_env::delay(Duration::from_millis(400)).await;
    }
    assert_eq!(std::fs::metadata(&segment).unwrap().len(), length);
    assert_eq!(controller.digest().0, applied);
    controller.stop().await;
}
