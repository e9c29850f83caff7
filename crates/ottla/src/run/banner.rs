//! The lines that are printed once the node is ready: addresses, paths, and first commands.

use std::net::SocketAddr;
use std::path::Path;

use ottla_model::ClusterId;
use ottla_model::HostPort;

/// The facts of the banner.
pub struct Banner<'a> {
    /// Where clients connect.
    pub kafka: HostPort,
    /// Where operators look.
    pub admin: SocketAddr,
    /// The data directory.
    pub data_dir: &'a Path,
    /// Where records are kept.
    pub object_store: &'a str,
    /// Which cluster this is.
    pub cluster: ClusterId,
    /// Which of its nodes.
    pub node: i32,
}

impl Banner<'_> {
    /// The text.
    pub fn text(&self) -> String {
        let Self { kafka, admin, object_store, cluster, node, .. } = self;
        let data_dir = self.data_dir.display();
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "\
Ottla {version} is ready.

  Kafka clients    {kafka}
  Admin            http://{admin}  (/livez /readyz /metrics)
  Data directory   {data_dir}
  Object store     {object_store}
  Cluster          {cluster}, node {node}

Try it:

  echo hello | kcat -P -b {kafka} -t greetings
  kcat -C -b {kafka} -t greetings -o beginning -e

Ctrl-C stops it; every acknowledged record is there at the next start.
"
        )
    }
}
