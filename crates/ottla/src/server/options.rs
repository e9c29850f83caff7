//! Settings turned into the options of each part: the one place where they meet.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ottla_broker::{BrokerOptions, EdgeOptions, LISTENER_DEFAULT};
use ottla_config::Config;
use ottla_format::limits::{AZ_BYTES_MAX, HOST_BYTES_MAX};
use ottla_model::{AppliedIndex, Az, BrokerId, HostPort};
use ottla_object_io::{S3Credentials, S3Options, Store, StoreOptions, StoreUrl};
use ottla_storage::sweep::SweepOptions;
use ottla_storage::write::WriteOptions;

/// The directory of objects in the data directory, when no store is named.
const OBJECTS: &str = "objects";

/// Everything a node is started with.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where the node keeps its files; absolute.
    pub data_dir: PathBuf,
    /// Where operators look.
    pub admin_listen: SocketAddr,
    /// Where records are kept.
    pub store_url: String,
    /// How the store is spoken to.
    pub store: StoreOptions,
    /// The write path.
    pub write: WriteSettings,
    /// Memory for cached object data.
    pub cache_bytes: usize,
    /// The sweep.
    pub sweep: SweepOptions,
    /// The control plane's files.
    pub controller: ottla_config::Controller,
    /// How long the control plane keeps the offsets of a group without members.
    pub offsets_retention: Duration,
    /// How long the control plane keeps an object without a reference.
    pub condemned_delay: Duration,
    /// The broker.
    pub broker: BrokerOptions,
}

/// The write path's settings, some of which depend on the store once it is open.
#[derive(Clone, Debug)]
pub struct WriteSettings(ottla_config::Produce);

impl WriteSettings {
    /// The options for a store.
    pub fn for_store(&self, store: &dyn Store) -> WriteOptions {
        let defaults = WriteOptions::for_store(store);
        let settings = &self.0;
        WriteOptions {
            linger: settings.linger,
            size_max: settings.object_size.as_usize(),
            put_rate: settings.put_rate.map_or(defaults.put_rate, f64::from),
            put_burst: f64::from(settings.put_burst),
            seal_interval_min: settings.seal_interval_min,
            uploads_max: settings.uploads_max as usize,
            budget_bytes: settings.budget_bytes.as_usize(),
            ..defaults
        }
    }
}

impl NodeOptions {
    /// The entry of the log up to which a loss is accepted; see [`super::Age`].
    pub fn accept_loss_up_to(&self) -> Option<AppliedIndex> {
        self.controller.accept_loss_up_to.map(AppliedIndex)
    }

    /// Checks what single settings cannot know: how they fit together.
    pub fn new(config: &Config) -> Result<Self> {
        let data_dir = std::path::absolute(&config.node.data_dir).context("node.data_dir")?;
        let store_url = store_url(config.object_store.url.as_deref(), &data_dir);
        let _: StoreUrl = store_url.parse().context("object_store.url")?;
        Ok(Self {
            data_dir,
            admin_listen: config.admin.listen,
            store_url,
            store: store_options(config)?,
            write: WriteSettings(config.produce.clone()),
            cache_bytes: config.cache.bytes.as_usize(),
            sweep: SweepOptions {
                interval: config.sweep.interval,
                orphan_age: config.sweep.orphan_age,
                share_percent: config.sweep.share_percent,
            },
            controller: config.controller.clone(),
            offsets_retention: config.kafka.offsets_retention,
            condemned_delay: config.sweep.condemned_delay,
            broker: broker_options(config)?,
        })
    }
}

fn store_url(url: Option<&str>, data_dir: &Path) -> String {
    match url {
        Some(url) => url.to_owned(),
        None => format!("file://{}", data_dir.join(OBJECTS).display()),
    }
}

fn store_options(config: &Config) -> Result<StoreOptions> {
    let settings = &config.object_store;
    let credentials = match (&settings.access_key_id, &settings.secret_access_key) {
        (Some(key_id), Some(secret)) => Some(S3Credentials {
            key_id: key_id.reveal().to_owned(),
            secret: secret.reveal().to_owned(),
        }),
        (None, None) => None,
        _ => bail!(
            "object_store.access_key_id and object_store.secret_access_key must be set together"
        ),
    };
    let s3 = S3Options {
        endpoint: settings.endpoint.clone(),
        region: settings.region.clone(),
        path_style: settings.path_style,
        allow_http: settings.allow_http,
        credentials,
    };
    Ok(StoreOptions { s3, ..StoreOptions::default() })
}

fn broker_options(config: &Config) -> Result<BrokerOptions> {
    let kafka = &config.kafka;
    let rpc = &config.rpc;
    let advertise = advertise("kafka", "clients", kafka.listen, kafka.advertise.as_ref())?;
    let internal = self::advertise("rpc", "other nodes", rpc.listen, rpc.advertise.as_ref())?;
    // Every controller keeps them, and every client of another zone is told the host.
    let check = |setting, text: &str, max| {
        ensure!(text.len() <= max, "{setting} has {} bytes; at most {max} are kept", text.len());
        Ok(())
    };
    check("kafka.advertise", &advertise.host, HOST_BYTES_MAX)?;
    check("rpc.advertise", &internal.host, HOST_BYTES_MAX)?;
    check("node.zone", &config.node.zone, AZ_BYTES_MAX)?;
    Ok(BrokerOptions {
        listen: kafka.listen,
        listener: LISTENER_DEFAULT.to_owned(),
        advertise,
        internal,
        node_id: BrokerId(config.node.id),
        az: Az(config.node.zone.clone()),
        auto_create_topics: kafka.auto_create_topics,
        num_partitions: kafka.num_partitions,
        default_replication_factor: kafka.default_replication_factor,
        group_initial_rebalance_delay: kafka.group_initial_rebalance_delay,
        check_large_batches: config.produce.check_large_batches,
        edge: EdgeOptions {
            connections_max: kafka.connections_max,
            connections_per_address_max: kafka.connections_per_address,
            connections_rate: kafka.connections_rate,
            idle_max: kafka.connections_max_idle,
            answers_bytes: kafka.answer_bytes.as_usize(),
        },
    })
}

/// What others are told to connect to. A wildcard cannot be told to anybody: they would try to reach
/// themselves.
fn advertise(
    section: &str,
    others: &str,
    listen: SocketAddr,
    advertise: Option<&HostPort>,
) -> Result<HostPort> {
    if let Some(told) = advertise {
        return Ok(told.clone());
    }
    ensure!(
        !listen.ip().is_unspecified(),
        "{section}.listen is {listen}, a wildcard that {others} cannot connect to: set \
         {section}.advertise (--{section}-advertise HOST:PORT) to the address they reach this node by"
    );
    Ok(HostPort::new(listen.ip().to_string(), listen.port()))
}

#[cfg(test)]
mod tests {
    use ottla_config::Sources;

    use super::*;

    fn options(flags: &[(&'static str, &str)]) -> Result<NodeOptions> {
        let flags = flags.iter().map(|(flag, value)| (*flag, (*value).to_owned())).collect();
        NodeOptions::new(&Sources { flags, ..Sources::default() }.load().unwrap().config)
    }

    #[test]
    fn a_zone_or_host_that_no_controller_keeps_is_refused() {
        let long = "z".repeat(256);
        let refused = |flag, value: &str, setting: &str| {
            let error = options(&[(flag, value)]).unwrap_err().to_string();
            assert!(error.contains(setting) && error.contains("at most 255"), "{error}");
        };
        refused("zone", &long, "node.zone");
        refused("kafka-advertise", &format!("{long}:9092"), "kafka.advertise");
        refused("rpc-advertise", &format!("{long}:9093"), "rpc.advertise");
        assert!(options(&[("zone", &long[1..])]).is_ok());
    }

    #[test]
    fn objects_are_in_the_data_directory_unless_a_store_is_named() {
        let in_data_dir = options(&[("data-dir", "/var/lib/ottla")]).unwrap();
        assert_eq!(in_data_dir.store_url, "file:///var/lib/ottla/objects");
        let named = options(&[("object-store", "s3://bucket/prefix")]).unwrap();
        assert_eq!(named.store_url, "s3://bucket/prefix");
        let refused = format!("{:#}", options(&[("object-store", "gs://bucket")]).unwrap_err());
        assert!(refused.starts_with("object_store.url: 'gs://bucket' is not"), "{refused}");
    }

    #[test]
    fn the_settings_have_the_defaults_of_the_broker() {
        let edge = options(&[]).unwrap().broker.edge;
        assert_eq!(edge, EdgeOptions::default());
        assert_eq!(edge.idle_max, Duration::from_secs(600), "connections.max.idle.ms");
    }

    #[test]
    fn clients_are_told_where_to_connect_and_never_a_wildcard() {
        let told = |flags: &[(&'static str, &str)]| options(flags).map(|o| o.broker.advertise);
        assert_eq!(told(&[]).unwrap(), HostPort::new("127.0.0.1", 9092));
        let wildcard = ("kafka-listen", "0.0.0.0:9092");
        assert!(told(&[wildcard]).unwrap_err().to_string().contains("--kafka-advertise"));
        let named = told(&[wildcard, ("kafka-advertise", "broker.example:19092")]).unwrap();
        assert_eq!(named, HostPort::new("broker.example", 19092));
    }

    #[test]
    fn other_nodes_are_told_where_to_connect_and_never_a_wildcard() {
        let told = |flags: &[(&'static str, &str)]| options(flags).map(|o| o.broker.internal);
        assert_eq!(told(&[]).unwrap(), HostPort::new("127.0.0.1", 9093));
        let wildcard = ("rpc-listen", "[::]:9093");
        assert!(told(&[wildcard]).unwrap_err().to_string().contains("--rpc-advertise"));
        let named = told(&[wildcard, ("rpc-advertise", "node-1.example:19093")]).unwrap();
        assert_eq!(named, HostPort::new("node-1.example", 19093));
    }
}
