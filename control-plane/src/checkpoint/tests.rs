use std::fs;
use std::sync::Mutex;

use ottla_format::command::{Command, CommandBody, CreateTopic};
use ottla_format::feature_level::{FeatureLevel, NEWEST};
use ottla_model::{AppliedIndex, TimestampMs, TopicId, TopicName};

use super::*;

const CLUSTER: ClusterId = ClusterId(0xc1);

fn create(state: &mut State, topics: std::ops::RangeInclusive<u64>) {
    for at in topics {
        let body = CommandBody::CreateTopic(CreateTopic {
            id: TopicId(u128::from(at)),
            name: TopicName::new(&format!("topic-{at}")).unwrap(),
            partitions: 3,
            replication_factor: 1,
            configs: Default::default(),
        });
        let index = AppliedIndex(state.applied().0 + 1);
        state.apply(index, &Command { time: TimestampMs(at as i64), body });
    }
}

fn delete(state: &mut State, topic: u64) {
    let body = CommandBody::DeleteTopic(TopicId(u128::from(topic)));
    let index = AppliedIndex(state.applied().0 + 1);
    state.apply(index, &Command { time: TimestampMs(0), body });
}

fn write(checkpoint: &mut Checkpoint, state: &mut State, meta: &[u8]) {
    let (copy, dirty) = state.cut_checkpoint();
    checkpoint.write(&copy, &dirty, meta).unwrap();
}

/// Opens, and closes again.
fn loaded(path: &Path) -> Option<Loaded> {
    Checkpoint::open(path, CLUSTER).unwrap().1
}

#[test]
fn what_changed_is_written_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (mut checkpoint, found) = Checkpoint::open(&path, CLUSTER).unwrap();
    assert!(found.is_none());
    let mut state = State::new(CLUSTER);
    create(&mut state, 1..=20);
    write(&mut checkpoint, &mut state, b"one");
    create(&mut state, 21..=25);
    delete(&mut state, 3);
    write(&mut checkpoint, &mut state, b"two");
    drop(checkpoint);

    let (mut checkpoint, found) = Checkpoint::open(&path, CLUSTER).unwrap();
    let Loaded { state: mut again, meta } = found.unwrap();
    assert_eq!((again.identity(), meta.as_slice()), (state.identity(), b"two".as_slice()));
    // What was loaded goes on from what the tree holds.
    create(&mut again, 30..=31);
    delete(&mut again, 4);
    write(&mut checkpoint, &mut again, b"three");
    drop(checkpoint);
    assert_eq!(loaded(&path).unwrap().state.identity(), again.identity());
}

#[test]
fn a_tree_that_was_written_at_once_is_not_bloated_whatever_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let (mut checkpoint, _) = Checkpoint::open(&folder.path().join("checkpoint"), CLUSTER).unwrap();
    let mut state = State::new(CLUSTER);
    create(&mut state, 1..=20);
    // Stands for what clients store beside their offsets.
    let texts = vec![7; 4 << 20];
    write(&mut checkpoint, &mut state, &texts);
    assert!(!checkpoint.is_bloated(&state, 1 << 20).unwrap());
}

#[test]
fn a_tree_is_bloated_when_its_files_outgrow_the_state_and_not_when_it_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (mut checkpoint, _) = Checkpoint::open(&path, CLUSTER).unwrap();
    let mut state = State::new(CLUSTER);
    create(&mut state, 1..=20);
    write(&mut checkpoint, &mut state, b"");
    let fresh = checkpoint.tree.as_ref().unwrap().bytes_on_disk().unwrap();
    assert!(!checkpoint.is_bloated(&state, fresh).unwrap());
    let mut topic = 20;
    while !checkpoint.is_bloated(&state, fresh).unwrap() {
        topic += 1;
        assert!(topic < 10_000, "sled frees what was replaced at once");
        create(&mut state, topic..=topic);
        delete(&mut state, topic);
        write(&mut checkpoint, &mut state, &[7; 4_096]);
    }
    state.lost_checkpoint();
    checkpoint.reset().unwrap();
    write(&mut checkpoint, &mut state, b"");
    assert!(!checkpoint.is_bloated(&state, fresh).unwrap());
    drop(checkpoint);
    assert_eq!(loaded(&path).unwrap().state.identity(), state.identity());
}

#[test]
fn a_state_from_elsewhere_replaces_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (mut checkpoint, _) = Checkpoint::open(&path, CLUSTER).unwrap();
    let mut state = State::new(CLUSTER);
    create(&mut state, 1..=20);
    write(&mut checkpoint, &mut state, b"");
    let mut other = State::new(CLUSTER);
    create(&mut other, 100..=101);
    write(&mut checkpoint, &mut other, b"");
    drop(checkpoint);
    assert_eq!(loaded(&path).unwrap().state.identity(), other.identity());
}

#[test]
fn the_checkpoint_of_another_cluster_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (mut checkpoint, _) = Checkpoint::open(&path, ClusterId(0xc2)).unwrap();
    write(&mut checkpoint, &mut State::new(ClusterId(0xc2)), b"");
    drop(checkpoint);
    assert!(loaded(&path).is_none());
    assert!(loaded(&path).is_none());
}

#[test]
fn a_file_in_its_place_is_an_error_and_not_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    fs::write(&path, b"not a directory").unwrap();
    assert!(matches!(Checkpoint::open(&path, CLUSTER), Err(CheckpointError::Io { .. })));
}

/// A checkpoint with any wrong bytes in its files gives its whole state or none, and can be written
/// again.
#[test]
fn a_damaged_checkpoint_is_deleted_and_rebuilt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (mut checkpoint, _) = Checkpoint::open(&path, CLUSTER).unwrap();
    let mut state = State::new(CLUSTER);
    create(&mut state, 1..=50);
    write(&mut checkpoint, &mut state, b"");
    drop(checkpoint);
    let whole = fs::read(path.join("db")).unwrap();
    let config = fs::read(path.join("conf")).unwrap();
    let random = ottla_env::Random::seeded(7);
    let mut deleted = 0;
    for round in 0..30 {
        let mut damaged = whole.clone();
        match round % 3 {
            0 => damaged.truncate(random.below(whole.len() as u64) as usize),
            1 => {
                for _ in 0..20 {
                    let at = random.below(damaged.len() as u64 / 64) as usize;
                    damaged[at] ^= 1 << random.below(8);
                }
            }
            _ => {
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at..].fill(0xa5);
            }
        }
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("db"), &damaged).unwrap();
        fs::write(path.join("conf"), &config).unwrap();
        let (mut checkpoint, found) = Checkpoint::open(&path, CLUSTER).unwrap();
        match found {
            Some(found) => assert_eq!(found.state.identity(), state.identity()),
            None => {
                deleted += 1;
                state.lost_checkpoint();
                write(&mut checkpoint, &mut state, b"");
                drop(checkpoint);
                assert_eq!(loaded(&path).unwrap().state.identity(), state.identity());
            }
        }
    }
    assert!(deleted > 0);
}

#[derive(Debug)]
struct Owner(Mutex<State>);

impl CheckpointSource for Owner {
    fn cut(&self) -> Cut {
        let (state, dirty) = self.0.lock().unwrap().cut_checkpoint();
        Cut { state, dirty, meta: b"meta".to_vec() }
    }

    fn lost(&self) {
        self.0.lock().unwrap().lost_checkpoint();
    }
}

#[tokio::test]
async fn the_writer_writes_once_more_when_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (checkpoint, _) = Checkpoint::open(&path, CLUSTER).unwrap();
    let owner = std::sync::Arc::new(Owner(Mutex::new(State::new(CLUSTER))));
    let source = std::sync::Arc::clone(&owner) as std::sync::Arc<dyn CheckpointSource>;
    let task = WriteBehind::start(checkpoint, source, &ottla_env::VitalTasks::default());
    create(&mut owner.0.lock().unwrap(), 1..=5);
    task.stop().await;
    let found = loaded(&path).unwrap();
    assert_eq!(found.state.identity(), owner.0.lock().unwrap().identity());
    assert_eq!(found.meta, b"meta");
}

/// A node that must not start leaves the checkpoint to the version that can read it.
#[test]
fn a_checkpoint_of_a_level_that_is_not_known_is_refused_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let (mut checkpoint, _) = Checkpoint::open(&path, CLUSTER).unwrap();
    let mut state = State::new(CLUSTER);
    create(&mut state, 1..=3);
    let body = CommandBody::RaiseFeatureLevel { to: FeatureLevel(NEWEST.0 + 1) };
    state.apply(AppliedIndex(4), &Command { time: TimestampMs(4), body });
    write(&mut checkpoint, &mut state, b"meta");
    drop(checkpoint);
    for _ in 0..2 {
        let error = Checkpoint::open(&path, CLUSTER).unwrap_err();
        assert!(matches!(error, CheckpointError::NewerLevel(_)), "{error}");
    }
}
