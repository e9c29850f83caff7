//! Settings: what can be set, where a value came from, and what is wrong with it.
//!
//! Every setting is one entry of `settings.rs`: its key, type, default, legal range, flag
//! and documentation stand together. The parser, `ottla config print`, `ottla config reference`
//! and the generated page are all made from that entry.
//!
//! # Layers
//!
//! default < file < environment < flag. A layer replaces single values, never whole sections. The
//! origin of each value is kept.
//!
//! - *File*: TOML, YAML or JSON, told apart by the extension.
//! - *Environment*: `OTTLA__SECTION__KEY`. Nothing inside a value is ever expanded.
//! - *Secrets* can be given as a file's name instead: the same key with `_file` (in a file) or
//!   `_FILE` (in the environment) appended.
//!
//! # What is refused
//!
//! A name that is no setting, in any layer, with the nearest one that is; a value of the wrong
//! type, without a unit, or out of range. All complaints of a load are reported together, each on
//! one line: where, which key, what is wrong. Numbers written as integral floats are accepted,
//! because Helm prints integers that way.
//!
//! This crate reads files and changes nothing. It does not know clap: flags are handed in.

mod define;
mod error;
mod layers;
mod print;
mod reference;
mod settings;
mod source;
mod units;
mod value;

#[cfg(test)]
mod tests;

pub use define::SettingInfo;
pub use error::{ConfigError, ConfigErrors};
pub use layers::{Loaded, Origin, ShownSetting, Sources};
pub use reference::reference_markdown;
pub use settings::{
    Admin, Cache, Config, Controller, Kafka, Log, LogFormat, Node, ObjectStore, Produce, Rpc,
    Sweep, settings,
};
pub use units::ByteSize;
pub use value::Secret;
