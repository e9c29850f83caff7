//! A topic, without its partitions' contents.

use std::collections::BTreeMap;

use ottla_model::TopicName;

use super::version::{StoredValue, put_value};
use crate::codec::{Reader, Result, put_text, put_zigzag};
use crate::command_codec::{put_configs, read_configs, read_topic_name};

/// A topic as it was created and grown.
///
/// `name text · partitions zigzag · replication factor zigzag · list of (name text · value text)`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicEntry {
    /// Its name.
    pub name: TopicName,
    /// Number of partitions.
    pub partitions: i32,
    /// Virtual replication factor to show.
    pub replication_factor: i16,
    /// Configs that were set, by name.
    pub configs: BTreeMap<String, String>,
}

impl TopicEntry {
    /// Appends the value's bytes.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_value(out, self);
    }
}

impl StoredValue for TopicEntry {
    fn put_body(&self, _version: u8, out: &mut Vec<u8>) {
        put_text(out, self.name.as_str());
        put_zigzag(out, i64::from(self.partitions));
        put_zigzag(out, i64::from(self.replication_factor));
        put_configs(out, &self.configs);
    }

    fn read_body(_version: u8, r: &mut Reader<'_>) -> Result<Self> {
        Ok(Self {
            name: read_topic_name(r)?,
            partitions: r.narrow_zigzag("partition count")?,
            replication_factor: r.narrow_zigzag("replication factor")?,
            configs: read_configs(r)?,
        })
    }
}
