//! A controller's data directory.
//!
//! ```text
//! <data-dir>/controller/
//!   lock          held by the process that uses the directory; contains its process id
//!   identity      whose data this is: cluster, node and Raft id (written once, before anything else)
//!   raft/         the Raft log and the vote
//!   snapshots/    the snapshots
//!   checkpoint/   sled; can be deleted while the process is down
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_env::{Random, make_durable_directory, sync_directory};
use ottla_format::node_identity::NodeIdentity;
use ottla_model::{BrokerId, ClusterId};

use super::error::StartError;

/// An open data directory, locked until this is dropped.
#[derive(Debug)]
pub struct DataDirectory {
    root: PathBuf,
    /// The lock goes with the open file.
    lock: Arc<File>,
}

impl DataDirectory {
    /// Makes the directory if needed, durably, and locks it.
    pub fn open(data_dir: &Path) -> Result<Self, StartError> {
        let root = data_dir.join("controller");
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| StartError::Directory { action, path, source }
        };
        make_durable_directory(&root).map_err(failed("create", &root))?;
        let path = root.join("lock");
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = fs::read_to_string(&path).ok().and_then(|pid| pid.trim().parse().ok());
                return Err(StartError::Locked { path: root, pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
        }
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed("write", &path))?;
        Ok(Self { root, lock: Arc::new(lock) })
    }

    /// Whose data this is; for an empty directory, a new cluster's first node. The Raft id is drawn
    /// here, once: a node with a wiped disk is another one for Raft.
    pub fn identity(&self, node: BrokerId, random: &Random) -> Result<NodeIdentity, StartError> {
        let path = self.root.join("identity");
        let bytes =
            match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let has_data = |path: PathBuf| {
                        fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some())
                    };
                    if has_data(self.raft()) || has_data(self.snapshots()) {
                        return Err(StartError::IdentityMissing { path });
                    }
                    let raft_id = random.u64().max(1);
                    let cluster = ClusterId(random.u128());
                    let identity = NodeIdentity { cluster, node, raft_id };
                    write_identity(&self.root, &identity).map_err(|source| {
                        StartError::Directory { action: "write", path, source }
                    })?;
                    return Ok(identity);
                }
                Err(source) => return Err(StartError::Directory { action: "read", path, source }),
            };
        let identity =
            NodeIdentity::decode(&bytes).map_err(|source| StartError::Identity { path, source })?;
        if identity.node != node {
            return Err(StartError::OtherNode {
                path: self.root.clone(),
                found: identity.node,
                cluster: identity.cluster,
                expected: node,
            });
        }
        Ok(identity)
    }

    /// Every writer below the directory holds this.
    pub fn lock(&self) -> Arc<File> {
        self.lock.clone()
    }

    /// Where the Raft log is.
    pub fn raft(&self) -> PathBuf {
        self.root.join("raft")
    }

    /// Where the snapshots are.
    pub fn snapshots(&self) -> PathBuf {
        self.root.join("snapshots")
    }

    /// Where the checkpoint is.
    pub fn checkpoint(&self) -> PathBuf {
        self.root.join("checkpoint")
    }
}

fn write_identity(root: &Path, identity: &NodeIdentity) -> io::Result<()> {
    let unfinished = root.join("identity.new");
    let mut file = File::create(&unfinished)?;
    file.write_all(&identity.encode())?;
    file.sync_all()?;
    fs::rename(&unfinished, root.join("identity"))?;
    sync_directory(root)
}
