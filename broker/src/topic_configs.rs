//! The one table of topic configs: names, types, defaults, and what each does here.
//!
//! Kafka's tools set configs freely and read them back, so every config of Kafka 4.2 is accepted,
//! checked by type, and kept with the topic. Configs without an effect say so in the table. An
//! unknown name is refused with the nearest known one.

use std::collections::BTreeMap;
use std::time::Duration;

use ottla_format::limits::{CONFIG_VALUE_BYTES_MAX, CONFIGS_BYTES_MAX};
use ottla_model::{TimestampMs, TimestampType};
use ottla_wire::verify::{RecordRules, TimestampLimits};

use crate::limits::CONFIG_NAME_BYTES_MAX;

/// The form of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigType {
    /// `true` or `false`.
    Boolean,
    /// A whole number within bounds (both included); Kafka's types int and long.
    Integer {
        /// The lowest.
        min: i64,
        /// The highest.
        max: i64,
    },
    /// A number between 0 and 1.
    Ratio,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list, separated by commas, of these words.
    ListOf(&'static [&'static str]),
    /// Any text.
    Text,
}

/// The effect of a config.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What Kafka does with it.
    Honoured,
    /// Kept and shown only.
    Kept,
}

/// A topic config.
#[derive(Clone, Copy, Debug)]
pub struct TopicConfig {
    /// Its name.
    pub name: &'static str,
    /// The form of its value.
    pub kind: ConfigType,
    /// The value when none is set, here or at the broker; Kafka's default.
    pub default: &'static str,
    /// Its effect.
    pub effect: Effect,
    /// Its meaning, in a sentence.
    pub doc: &'static str,
}

const fn kept(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    doc: &'static str,
) -> TopicConfig {
    TopicConfig { name, kind, default, effect: Effect::Kept, doc }
}

const fn honoured(
    name: &'static str,
    kind: ConfigType,
    default: &'static str,
    doc: &'static str,
) -> TopicConfig {
    TopicConfig { name, kind, default, effect: Effect::Honoured, doc }
}

const fn from(min: i64) -> ConfigType {
    ConfigType::Integer { min, max: i64::MAX }
}

const fn int_from(min: i64) -> ConfigType {
    ConfigType::Integer { min, max: i32::MAX as i64 }
}

const LONG_MAX: &str = "9223372036854775807";

/// The one config whose default is a setting of the broker.
pub const LINGER: &str = "ottla.linger.ms";

/// The longest [`LINGER`]. More would eat the time that a produce request has.
const LINGER_MS_MAX: i64 = 10_000;

/// Every topic config, by name.
pub const TOPIC_CONFIGS: &[TopicConfig] = &[
    honoured(
        "cleanup.policy",
        ConfigType::ListOf(&["delete", "compact"]),
        "delete",
        "A topic with \"compact\" takes only records with a key. Neither is carried out yet.",
    ),
    kept(
        "compression.gzip.level",
        ConfigType::Integer { min: -1, max: 9 },
        "-1",
        "Level when compression.type is gzip.",
    ),
    kept(
        "compression.lz4.level",
        ConfigType::Integer { min: 1, max: 17 },
        "9",
        "Level when compression.type is lz4.",
    ),
    honoured(
        "compression.type",
        ConfigType::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "producer",
        "\"producer\" keeps batches byte for byte as they were sent. Other values are kept and do \
         not recompress yet.",
    ),
    kept(
        "compression.zstd.level",
        ConfigType::Integer { min: -131_072, max: 22 },
        "3",
        "Level when compression.type is zstd.",
    ),
    kept("delete.retention.ms", from(0), "86400000", "How long key compaction keeps tombstones."),
    kept("diskless.enable", ConfigType::OneOf(&["true"]), "true", "Every topic is diskless."),
    kept("file.delete.delay.ms", from(0), "60000", "Of Kafka's segment files."),
    kept("flush.messages", from(1), LONG_MAX, "Every acknowledged record is durable."),
    kept("flush.ms", from(0), LONG_MAX, "Every acknowledged record is durable."),
    kept("follower.replication.throttled.replicas", ConfigType::Text, "", "No replica copies."),
    kept("index.interval.bytes", int_from(0), "4096", "Of Kafka's index files."),
    kept("leader.replication.throttled.replicas", ConfigType::Text, "", "No replica copies."),
    kept("local.retention.bytes", from(-2), "-2", "Of Kafka's tiered storage."),
    kept("local.retention.ms", from(-2), "-2", "Of Kafka's tiered storage."),
    kept("max.compaction.lag.ms", from(1), LONG_MAX, "The longest a record stays uncompacted."),
    honoured(
        "max.message.bytes",
        int_from(0),
        "1048588",
        "The largest record batch, in bytes as sent.",
    ),
    kept("message.downconversion.enable", ConfigType::Boolean, "true", "Removed in Kafka 4."),
    kept("message.format.version", ConfigType::Text, "3.0-IV1", "Removed in Kafka 4."),
    honoured(
        "message.timestamp.after.max.ms",
        from(0),
        "3600000",
        "How far a record's timestamp may be ahead of the broker's clock.",
    ),
    honoured(
        "message.timestamp.before.max.ms",
        from(0),
        LONG_MAX,
        "How far a record's timestamp may be behind the broker's clock.",
    ),
    honoured(
        "message.timestamp.type",
        ConfigType::OneOf(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "Whose clock gives a record its timestamp: the producer's, or the cluster's at commit.",
    ),
    kept(
        "min.cleanable.dirty.ratio",
        ConfigType::Ratio,
        "0.5",
        "How much of a partition must be uncompacted before it is compacted.",
    ),
    kept("min.compaction.lag.ms", from(0), "0", "The shortest a record stays uncompacted."),
    kept(
        "min.insync.replicas",
        int_from(1),
        "1",
        "Satisfied by every acknowledgement: objects are replicated by the store.",
    ),
    honoured(
        LINGER,
        ConfigType::Integer { min: 0, max: LINGER_MS_MAX },
        "250",
        "The longest a batch waits in the broker for company in its object; not set, it is the \
         broker's `produce.linger`. Less costs more PUTs.",
    ),
    kept("preallocate", ConfigType::Boolean, "false", "Of Kafka's segment files."),
    kept("remote.log.copy.disable", ConfigType::Boolean, "false", "Of Kafka's tiered storage."),
    kept(
        "remote.log.delete.on.disable",
        ConfigType::Boolean,
        "false",
        "Of Kafka's tiered storage.",
    ),
    kept("remote.storage.enable", ConfigType::Boolean, "false", "Of Kafka's tiered storage."),
    kept(
        "retention.bytes",
        from(-1),
        "-1",
        "How many bytes of a partition are kept; -1: no limit.",
    ),
    kept("retention.ms", from(-1), "604800000", "How long records are kept; -1: for ever."),
    kept("segment.bytes", int_from(1024 * 1024), "1073741824", "Of Kafka's segment files."),
    kept("segment.index.bytes", int_from(4), "10485760", "Of Kafka's segment files."),
    kept("segment.jitter.ms", from(0), "0", "Of Kafka's segment files."),
    kept("segment.ms", from(1), "604800000", "Of Kafka's segment files."),
    kept(
        "unclean.leader.election.enable",
        ConfigType::Boolean,
        "false",
        "No replica can be behind another.",
    ),
];

/// The reference page of the table.
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Topic configs\n\nEvery topic config of Kafka is taken, checked and kept with its topic. \
         Configs marked *kept* have no effect here (yet): tools can set them and read them back.\n\n\
         | Config | Default | Effect | Meaning |\n| --- | --- | --- | --- |\n",
    );
    for config in TOPIC_CONFIGS {
        let effect = match config.effect {
            Effect::Honoured => "honoured",
            Effect::Kept => "kept",
        };
        let (name, default, doc) = (config.name, config.default, config.doc);
        page.push_str(&format!("| `{name}` | `{default}` | {effect} | {doc} |\n"));
    }
    page
}

/// The config of this name.
pub fn find(name: &str) -> Option<&'static TopicConfig> {
    TOPIC_CONFIGS.iter().find(|config| config.name == name)
}

/// Checks configs by name, length and type, and takes the spaces off their values as Kafka does. The
/// error names what is wrong and, for an unknown name, the nearest known one.
pub fn check<'a>(
    configs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> Result<BTreeMap<String, String>, String> {
    let mut checked = BTreeMap::new();
    let mut bytes = 0;
    for (name, value) in configs {
        let config = find(name).ok_or_else(|| unknown(name))?;
        let value = value.ok_or_else(|| format!("Null value not supported for {name}"))?;
        // Before the value is looked at, and may be quoted.
        bytes += name.len() + value.len();
        if value.len() > CONFIG_VALUE_BYTES_MAX || bytes > CONFIGS_BYTES_MAX {
            return Err(too_long(value));
        }
        config.check(value)?;
        if checked.insert(name.to_owned(), config.normal(value)).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(checked)
}

fn too_long(value: &str) -> String {
    let (what, max) = if value.len() > CONFIG_VALUE_BYTES_MAX {
        ("value size", CONFIG_VALUE_BYTES_MAX)
    } else {
        ("size of all configs of a topic", CONFIGS_BYTES_MAX)
    };
    // Kafka's words.
    format!(
        "The configuration value cannot be added because it exceeds the maximum {what} of {max} bytes."
    )
}

fn unknown(name: &str) -> String {
    if name.len() > CONFIG_NAME_BYTES_MAX {
        // Neither compared with every known one nor sent back.
        return format!("Unknown topic config name of {} bytes", name.len());
    }
    let nearest = TOPIC_CONFIGS
        .iter()
        .max_by(|a, b| {
            strsim::jaro_winkler(name, a.name).total_cmp(&strsim::jaro_winkler(name, b.name))
        })
        .map_or("", |config| config.name);
    format!("Unknown topic config name: {name}; the nearest known one is {nearest}")
}

impl TopicConfig {
    /// A value that passes the check, as it is kept: readers compare it as it is.
    fn normal(&self, value: &str) -> String {
        match self.kind {
            ConfigType::Boolean => value.trim().to_ascii_lowercase(),
            _ => value.trim().to_owned(),
        }
    }

    /// Checks a value of this config.
    pub fn check(&self, value: &str) -> Result<(), String> {
        let value = value.trim();
        let name = self.name;
        // In any case, as Kafka takes it: tools in Python write "True".
        let same = |word: &&str| word.eq_ignore_ascii_case(value);
        let refuse = |wanted: String| {
            Err(format!("Invalid value {value:?} for configuration {name}: {wanted}"))
        };
        match self.kind {
            ConfigType::Boolean if !["true", "false"].iter().any(same) => {
                refuse("true or false".to_owned())
            }
            ConfigType::Integer { min, max } => match value.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => refuse(format!("a whole number from {min} to {max}")),
            },
            ConfigType::Ratio => match value.parse::<f64>() {
                Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
                _ => refuse("a number from 0 to 1".to_owned()),
            },
            ConfigType::OneOf(words) if !words.contains(&value) => {
                refuse(format!("one of {}", words.join(", ")))
            }
            ConfigType::ListOf(words) => {
                let known = |word: &str| words.contains(&word.trim());
                match value.is_empty() || value.split(',').all(known) {
                    true => Ok(()),
                    false => refuse(format!("a list of {}", words.join(", "))),
                }
            }
            _ => Ok(()),
        }
    }
}

/// What the write path needs to know of a topic's configs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSettings {
    /// `max.message.bytes`
    pub batch_bytes_max: usize,
    /// `message.timestamp.type`
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// Whether `cleanup.policy` includes `compact`.
    pub keys_required: bool,
    /// `ottla.linger.ms`, when it is set.
    pub linger: Option<Duration>,
}

impl WriteSettings {
    /// Reads them from a topic's configs. A value that cannot be read counts as not set: values
    /// were checked before they were stored.
    pub fn of(configs: &BTreeMap<String, String>) -> Self {
        let text = |name: &str| {
            let set = configs.get(name).map(|value| value.trim());
            set.or_else(|| find(name).map(|config| config.default)).unwrap_or_default()
        };
        let number = |name: &str| {
            let default = || find(name).and_then(|config| config.default.parse().ok());
            text(name).parse::<i64>().ok().or_else(default).unwrap_or(0)
        };
        let linger = configs.get(LINGER).and_then(|ms| ms.trim().parse().ok());
        Self {
            batch_bytes_max: usize::try_from(number("max.message.bytes")).unwrap_or(0),
            timestamp_type: match text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            keys_required: text("cleanup.policy").split(',').any(|p| p.trim() == "compact"),
            linger: linger.map(Duration::from_millis),
        }
    }

    /// What is asked of records that come at `now`, of which `refused_max` are named when they are
    /// not taken.
    pub fn record_rules(&self, now: TimestampMs, refused_max: usize) -> RecordRules {
        let limits = TimestampLimits {
            now,
            before_max_ms: self.timestamp_before_max_ms,
            after_max_ms: self.timestamp_after_max_ms,
        };
        let are_the_producers = self.timestamp_type == TimestampType::CreateTime;
        RecordRules {
            keys_required: self.keys_required,
            timestamps: are_the_producers.then_some(limits),
            refused_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_pass_their_own_check() {
        assert!(TOPIC_CONFIGS.windows(2).all(|pair| pair[0].name < pair[1].name));
        for config in TOPIC_CONFIGS {
            assert_eq!(config.check(config.default), Ok(()), "{}", config.name);
        }
    }

    #[test]
    fn values_are_checked_by_type() {
        let check = |name, value| super::check([(name, Some(value))]);
        assert!(check("retention.ms", "-1").is_ok());
        assert!(check("retention.ms", "-2").is_err());
        assert!(check("retention.ms", "soon").is_err());
        assert!(check("cleanup.policy", "compact, delete").is_ok());
        assert!(check("cleanup.policy", "").is_ok());
        assert!(check("cleanup.policy", "burn").is_err());
        assert!(check("min.cleanable.dirty.ratio", "1.1").is_err());
        assert!(check("preallocate", "yes").is_err());
        assert!(check("message.timestamp.type", "createtime").is_err());
        assert!(super::check([("retention.ms", None)]).is_err());
        assert!(super::check([("flush.ms", Some("1")), ("flush.ms", Some("1"))]).is_err());
    }

    #[test]
    fn long_values_and_names_are_refused_without_being_quoted() {
        let check = |name, value: &str| check([(name, Some(value))]);
        let longest = "x".repeat(CONFIG_VALUE_BYTES_MAX);
        assert!(check("message.format.version", &longest).is_ok());
        let kafka = "The configuration value cannot be added because it exceeds the maximum value \
                     size of 4096 bytes.";
        let longer = format!("{longest}x");
        assert_eq!(check("message.format.version", &longer).unwrap_err(), kafka);
        let zeros = format!("{}1", "0".repeat(CONFIG_VALUE_BYTES_MAX));
        assert_eq!(check("retention.ms", &zeros).unwrap_err(), kafka);
        let names = ["message.format.version", "follower.replication.throttled.replicas"];
        let error = super::check(names.map(|name| (name, Some(longest.as_str())))).unwrap_err();
        assert!(error.contains("all configs of a topic of 8192 bytes"), "{error}");
        let error = check(&"n".repeat(1_000_000), "1").unwrap_err();
        assert_eq!(error, "Unknown topic config name of 1000000 bytes");
    }

    #[test]
    fn all_configs_together_are_within_what_a_topic_keeps() {
        let each = |config: &TopicConfig| config.name.len() + config.default.len();
        let all: usize = TOPIC_CONFIGS.iter().map(each).sum();
        assert!(2 * all < CONFIGS_BYTES_MAX, "the defaults take {all} bytes");
        assert!(TOPIC_CONFIGS.iter().all(|config| config.name.len() < CONFIG_NAME_BYTES_MAX));
    }

    #[test]
    fn booleans_are_taken_in_any_case_and_kept_in_one() {
        let checked = check([("preallocate", Some(" True"))]).unwrap();
        assert_eq!(checked.get("preallocate").unwrap(), "true");
    }

    /// The state machine reads some of them, and compares them as they are.
    #[test]
    fn values_are_kept_without_the_spaces_around_them() {
        let checked = check([("message.timestamp.type", Some(" LogAppendTime "))]).unwrap();
        assert_eq!(checked.get("message.timestamp.type").unwrap(), "LogAppendTime");
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_one() {
        let error = check([("retention.msec", Some("1"))]).unwrap_err();
        assert!(error.contains("retention.ms"), "{error}");
    }

    #[test]
    fn write_settings_come_from_what_is_set_and_kafkas_defaults() {
        let defaults = WriteSettings::of(&BTreeMap::new());
        assert_eq!(defaults.batch_bytes_max, 1_048_588);
        assert_eq!(defaults.timestamp_type, TimestampType::CreateTime);
        assert_eq!((defaults.keys_required, defaults.linger), (false, None));
        let set = check([
            ("max.message.bytes", Some("10")),
            ("message.timestamp.type", Some("LogAppendTime")),
            ("cleanup.policy", Some("delete,compact")),
            ("ottla.linger.ms", Some("5")),
        ]);
        let set = WriteSettings::of(&set.unwrap());
        assert_eq!(set.batch_bytes_max, 10);
        assert_eq!(set.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!((set.keys_required, set.linger), (true, Some(Duration::from_millis(5))));
    }

    #[test]
    fn timestamps_of_producers_are_held_to_the_clock_and_others_do_not_count() {
        let now = TimestampMs(10_000_000);
        let rules = WriteSettings::of(&BTreeMap::new()).record_rules(now, 1);
        let limits = rules.timestamps.unwrap();
        assert!(limits.allow(TimestampMs(0)) && limits.allow(TimestampMs(now.0 + 3_600_000)));
        assert!(!limits.allow(TimestampMs(now.0 + 3_600_001)));
        let set = check([("message.timestamp.type", Some("LogAppendTime"))]).unwrap();
        assert!(WriteSettings::of(&set).record_rules(now, 1).timestamps.is_none());
    }
}
