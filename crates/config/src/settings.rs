//! All settings. To add one: an entry here, its use where the server is put together, and
//! `cargo run -p ottla -- docs --write`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ottla_model::HostPort;

use crate::define::section;
use crate::layers::Reader;
use crate::value::{Raw, Secret, Value};
use crate::{ByteSize, SettingInfo};

section! {
    /// This process.
    pub struct Node in "node" {
        /// The node's id in the cluster, and its broker id as clients see it. Two nodes of a
        /// cluster must not share one.
        id: i32 = "1", range "0" to "2147483647", flag "node-id";
        /// The availability zone this node runs in.
        zone: String = "", flag "zone";
        /// The directory for everything this node keeps on disk: the control plane's log and
        /// snapshots, and the objects too unless `object_store.url` says otherwise.
        data_dir: PathBuf = "./ottla-data", flag "data-dir";
    }
}

section! {
    /// The listener for Kafka clients, and how topics begin.
    pub struct Kafka in "kafka" {
        /// Where Kafka clients connect.
        listen: SocketAddr = "127.0.0.1:9092", flag "kafka-listen";
        /// Host and port that clients are told to connect to. Not set: the address it listens on.
        /// Must be set when that is a wildcard address such as 0.0.0.0.
        advertise: Option<HostPort> = "", flag "kafka-advertise";
        /// Create a topic when a client that allows it asks for its metadata
        /// (`auto.create.topics.enable`).
        auto_create_topics: bool = "true";
        /// Partitions of a topic whose creator did not say (`num.partitions`).
        num_partitions: i32 = "1", range "1" to "10000";
        /// Replication factor shown for a topic whose creator did not say
        /// (`default.replication.factor`). Durability is the object store's; the number is only
        /// shown.
        default_replication_factor: i16 = "1", range "1" to "1000";
        /// How long the first rebalance of an empty group waits for more members
        /// (`group.initial.rebalance.delay.ms`).
        group_initial_rebalance_delay: Duration = "3s", range "0ms" to "5m";
        /// How long the offsets of a group without members are kept after its last member left or its
        /// last commit (`offsets.retention.minutes`). Then the group is forgotten.
        offsets_retention: Duration = "7d", range "1s" to "3650d";
        /// Open client connections. There are fewer when the process may not open as many files.
        connections_max: u32 = "50000", range "1" to "1000000";
        /// Open client connections from one address; of IPv6, from one /64. Loopback addresses are not
        /// held to it.
        connections_per_address: u32 = "1000", range "1" to "1000000";
        /// Client connections accepted per second; those that come faster wait. 0: no bound.
        connections_rate: u32 = "500", range "0" to "1000000";
        /// A connection without a request for this long is closed (`connections.max.idle.ms`).
        connections_max_idle: Duration = "10m", range "1s" to "1d";
        /// Memory for answers that clients have not taken yet; no answer is longer. When it is used up,
        /// answers above 16 KiB wait, and clients that take nothing of theirs are closed after 10
        /// seconds.
        answer_bytes: ByteSize = "256MiB", range "64MiB" to "1TiB";
    }
}

section! {
    /// The listener for the other nodes of the cluster.
    pub struct Rpc in "rpc" {
        /// Where this node listens for other nodes. A cluster has one node today: the address is
        /// checked and reserved for this use, and nothing listens on it.
        listen: SocketAddr = "127.0.0.1:9093", flag "rpc-listen";
        /// Host and port that other nodes are told to connect to. Not set: the address it listens
        /// on. Must be set when that is a wildcard address such as 0.0.0.0.
        advertise: Option<HostPort> = "", flag "rpc-advertise";
    }
}

section! {
    /// The control plane's files on this node.
    pub struct Controller in "controller" {
        /// Length at which a file of the Raft log is closed. Each filled file asks for a snapshot;
        /// the log is kept back to the snapshot before the newest, in case that is damaged, so it
        /// takes up to three times this much.
        log_file_size: ByteSize = "64MiB", range "64KiB" to "1GiB";
        /// Entries of the Raft log after which a snapshot is written although no file is filled:
        /// bounds how much a restart replays when the checkpoint was lost.
        snapshot_entries: u32 = "200000", range "100" to "10000000";
        /// Start although `node.data_dir` is an older copy of what it once was, and give up what is
        /// missing from it, up to this entry of the log. A start that finds such a copy is refused
        /// and names the number; it concerns no other copy.
        accept_loss_up_to: Option<u64> = "";
        /// Raise the cluster's feature level to this at the start. It says what the log and the state may
        /// hold: raise it when every node runs a version of Ottla that knows it, and no node has to go
        /// back to an older one. It never falls; a new cluster has the newest level of its first node.
        raise_feature_level_to: Option<u16> = "";
        /// Step the time that records are stamped with to the wall clock, forward or backward, at a
        /// start on the day from this time on, in seconds since 1970 (what `date +%s` says where the
        /// clock is right). For a cluster whose clock was wrong: without it, its time follows the wall
        /// clock at most at twice real speed and never backward. Nothing expires because of a step.
        accept_clock_step_at: Option<u64> = "";
    }
}

section! {
    /// The HTTP listener for operators: `/livez`, `/readyz`, `/metrics`.
    pub struct Admin in "admin" {
        /// Where operators and their monitoring connect, over HTTP. There is no authentication:
        /// keep it off public networks.
        listen: SocketAddr = "127.0.0.1:9094", flag "admin-listen";
    }
}

section! {
    /// Where records are kept.
    pub struct ObjectStore in "object_store" {
        /// `file:///absolute/path`, `s3://bucket/prefix` or `memory:` (gone with the process). Not
        /// set: the directory `objects` in `node.data_dir`. A bucket and prefix belong to one
        /// cluster.
        url: Option<String> = "", flag "object-store";
        /// URL of an S3-compatible service. Not set: AWS.
        endpoint: Option<String> = "";
        /// The bucket's region. Not set: `AWS_REGION`.
        region: Option<String> = "";
        /// Put the bucket's name into the path of requests instead of the host name, as most
        /// S3-compatible services expect.
        path_style: bool = "true";
        /// Allow an endpoint without TLS.
        allow_http: bool = "false";
        /// Key id for the S3 service. Not set: the usual sources (`AWS_ACCESS_KEY_ID`, web
        /// identity, instance role).
        access_key_id: Option<Secret> = "";
        /// The secret that belongs to `access_key_id`.
        secret_access_key: Option<Secret> = "";
    }
}

section! {
    /// The write path: when buffered records become an object.
    pub struct Produce in "produce" {
        /// The longest time a record waits in the buffer before its object is sealed. A topic's
        /// `ottla.linger.ms` goes before it.
        linger: Duration = "250ms", range "0ms" to "10s";
        /// A buffer of this size is sealed at once.
        object_size: ByteSize = "8MiB", range "64KiB" to "256MiB";
        /// Objects per second that may be sealed early, before `linger` is over. Not set: 8 for
        /// stores that charge for requests, 400 for `file:` and `memory:`.
        put_rate: Option<u32> = "", range "0" to "10000";
        /// Early objects that can be saved up in quiet times.
        put_burst: u32 = "16", range "0" to "10000";
        /// The shortest time between two early objects.
        seal_interval_min: Duration = "2ms", range "0ms" to "10s";
        /// Objects uploaded at the same time, at most: fewer while the store refuses requests.
        uploads_max: u32 = "16", range "1" to "1024";
        /// Memory for records that are received but not yet durable. When it is used up, producers
        /// wait; a Produce request larger than half of this is refused.
        budget_bytes: ByteSize = "256MiB", range "8MiB" to "1TiB";
        /// Decompress and check compressed batches of more than 64 KiB, as smaller ones always are.
        /// Without, such a batch is believed: consumers may stop at one that they cannot read, and
        /// look-ups by time and offsets are as right as its header.
        check_large_batches: bool = "true";
    }
}

section! {
    /// The cache of object data that fetches read through.
    pub struct Cache in "cache" {
        /// Memory for cached object data.
        bytes: ByteSize = "256MiB", range "1MiB" to "1TiB";
    }
}

section! {
    /// The sweep: deleting objects that nobody needs any more.
    pub struct Sweep in "sweep" {
        /// How often objects without a reference are looked for, and how far the cluster is is noted
        /// in the store. Costs no request while nothing happens.
        interval: Duration = "1m", range "100ms" to "1d";
        /// How long an object stays after its last record was deleted. Shorter than the default
        /// only for tests: a slow reader would find its object gone.
        condemned_delay: Duration = "10m", range "0ms" to "30d";
        /// How old an object that was never committed must be to be deleted.
        orphan_age: Duration = "1h", range "0ms" to "30d";
        /// The part of the bucket's objects that one pass may delete, in percent. More objects
        /// without a reference wait for the next pass; more that were never committed are left
        /// alone, with an error in the log.
        share_percent: u32 = "25", range "1" to "100";
    }
}

section! {
    /// Logs, on standard error.
    pub struct Log in "log" {
        /// `text` for people, `json` for machines: one object per line.
        format: LogFormat = "text", flag "log-format";
        /// Levels, for all or by part, separated by commas: `info`, `warn,ottla_broker=debug`.
        filter: String = "info,openraft=error";
    }
}

/// Declares the sections once: the tree, its reader and the lists made from it.
macro_rules! config {
    ($($field:ident: $section:ident,)+) => {
        /// All settings of a process.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $(#[doc = concat!("Section `[", stringify!($field), "]`.")] pub $field: $section,)+
        }

        impl Config {
            pub(crate) fn read(reader: &mut Reader<'_>) -> Self {
                Self { $($field: $section::read(reader),)+ }
            }
        }

        /// Every setting, in the order of the reference page.
        pub fn settings() -> impl Iterator<Item = &'static SettingInfo> {
            [$($section::SETTINGS,)+].into_iter().flatten()
        }

        /// Every section: its name and what it is about.
        pub(crate) fn sections() -> impl Iterator<Item = (&'static str, &'static str)> {
            [$((stringify!($field), $section::DOC),)+].into_iter()
        }
    };
}

config! {
    node: Node,
    kafka: Kafka,
    rpc: Rpc,
    controller: Controller,
    admin: Admin,
    object_store: ObjectStore,
    produce: Produce,
    cache: Cache,
    sweep: Sweep,
    log: Log,
}

pub(crate) fn section_names() -> impl Iterator<Item = &'static str> {
    sections().map(|(name, _)| name)
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Value for LogFormat {
    const KIND: &'static str = "`text` or `json`";
    const PLACEHOLDER: &'static str = "text|json";
    const EXPECTED: &'static str = "text or json";

    fn parse(raw: &Raw) -> Option<Self> {
        match raw.text().as_str() {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn show(&self) -> Raw {
        let text = match self {
            Self::Text => "text",
            Self::Json => "json",
        };
        Raw::Text(text.to_owned())
    }
}
