//! Every byte that outlives a process: objects, Raft log segments, votes, snapshots, the commands
//! of the state machine and the records of its state.
//!
//! One format per file, each opening with a drawing of its bytes. All of them share three rules:
//! a magic and a version come first, a CRC-32C covers everything, and decoding never panics and
//! never returns a wrong value: truncation at any byte and a flip of any bit is an error
//! (I-BYTES). Golden files under `golden/` are only ever added to: whatever a released version
//! wrote can be read by all later ones. Integers are little-endian; variable-length integers are
//! LEB128, signed ones zigzag first. Nothing here does I/O.

pub mod checkpoint;
pub mod checksum;
pub mod codec;
pub mod command;
pub mod command_codec;
pub mod command_kind;
pub mod command_texts;
pub mod feature_level;
#[cfg(test)]
mod golden;
pub mod limits;
pub mod node_identity;
pub mod object;
pub mod raft_entry;
pub mod raft_log;
pub mod snapshot;
pub mod software;
pub mod state;
pub mod vote;
