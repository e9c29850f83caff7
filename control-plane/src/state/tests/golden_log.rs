//! The golden log: commands as a released version wrote them, each with the digest of the state after
//! it. Every build must come to the same digests: otherwise nodes of two versions would drift apart.
//!
//! ```text
//! entry   command bytes · digest u128     until the end of the file
//! ```
//!
//! A failure here means that `apply` or the encoding of a value has changed. The change needs a feature
//! level (see `docs/formats/README.md`), and a further file; none is ever changed. A file that is not
//! there yet is written by `OTTLA_WRITE_GOLDEN=1 cargo test golden_log`: an upgrade's log is that of the
//! version before with new kinds behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ottla_format::codec::{Reader, put_bytes};
use ottla_format::command::Command;
use ottla_format::command_kind::CommandKind;
use ottla_model::AppliedIndex;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::fixture::CLUSTER;
use super::random::{World, an_op};
use crate::state::State;

/// Random commands behind the first ones: enough for every kind many times over.
const OPS: usize = 1_500;

/// An entry of this many is followed by a reload of the state from its records.
const RELOAD_EVERY: usize = 100;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn entry(state: &mut State, command: &[u8]) -> u128 {
    let index = AppliedIndex(state.applied().0 + 1);
    state.apply(index, &Command::decode(command).unwrap());
    state.digest()
}

/// A log of the kinds that this version knows.
fn made() -> Vec<u8> {
    let mut world = World::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..OPS {
        world.step(&an_op().new_tree(&mut runner).unwrap().current());
    }
    let (mut state, mut out) = (State::new(CLUSTER), Vec::new());
    for command in world.log {
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        let digest = entry(&mut state, &bytes);
        put_bytes(&mut out, &bytes);
        out.extend_from_slice(&digest.to_le_bytes());
    }
    out
}

/// Applies a file and compares; answers the kinds that were in it.
fn replay(name: &str, file: &[u8]) -> BTreeSet<CommandKind> {
    let (mut state, mut kinds) = (State::new(CLUSTER), BTreeSet::new());
    let mut reader = Reader::new(file);
    for at in 0.. {
        if reader.remaining() == 0 {
            break;
        }
        let bytes = reader.bytes("command").unwrap();
        let recorded = reader.u128("digest").unwrap();
        let command = Command::decode(bytes).unwrap();
        let mut again = Vec::new();
        command.encode(&mut again);
        assert_eq!(again, bytes, "{name}: entry {at} is not written as it was: {command:?}");
        let digest = entry(&mut state, bytes);
        assert_eq!(digest, recorded, "{name}: entry {at} leaves another state: {command:?}");
        kinds.insert(command.body.kind());
        if at % RELOAD_EVERY == 0 {
            state = State::from_records(state.identity(), state.records()).unwrap();
        }
    }
    state.check().unwrap();
    kinds
}

#[test]
fn the_golden_log_leaves_the_states_that_it_left_when_it_was_recorded() {
    let newest = folder().join("log_v1.bin");
    if !newest.exists() && std::env::var_os("OTTLA_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(folder()).unwrap();
        fs::write(&newest, made()).unwrap();
    }
    let mut kinds = BTreeSet::new();
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        kinds.extend(replay(&path.display().to_string(), &fs::read(&path).unwrap()));
    }
    for kind in CommandKind::ALL {
        assert!(kinds.contains(&kind), "no golden log has a command of kind {kind:?}");
    }
}
