//! Bounds of the server's own doings.

use std::time::Duration;

use ottla_broker::limits::FILES_KEPT;

/// How often a start tries to note in the store how far the cluster is. The store was just read
/// from; one that takes no write would not serve either.
pub const HEIGHT_ATTEMPTS_MAX: u32 = 3;

/// A drain that takes longer has failed: what is undecided then is told to clients by the closed
/// connection, and settled by the next start. Well below the 30 s that container platforms wait
/// before they kill.
pub const DRAIN_MAX: Duration = Duration::from_secs(20);

/// Connections to the admin listener at the same time. A scraper and a few probes have one each; with
/// more, the oldest one makes room, so that nobody who connects and waits keeps a probe out.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;

/// A connection to the admin listener is closed after this time, whatever it did: it carries one
/// request. Prometheus gives a scrape 10 s unless told otherwise.
pub const ADMIN_CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// The pause after a connection to the admin listener could not be accepted.
pub const ADMIN_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Files that the process itself has open: standard streams, listeners, the runtime's and the
/// signals', and what a metric reads for a moment.
const OWN_FILES: u64 = 24;

/// Requests to an object store over the network at the same time, each with a connection: uploads
/// with their hedges, reads with theirs, the sweep's deletes.
const STORE_REQUESTS_MAX: u64 = {
    use ottla_storage::limits as storage;
    (storage::UPLOADS_DEFAULT * storage::UPLOAD_ATTEMPTS_AT_ONCE
        + 2 * (storage::TAIL_READS_MAX + storage::CATCH_UP_READS_MAX)
        + storage::SWEEP_DELETES_AT_ONCE) as u64
};

const fn open_files_max(store: u64) -> u64 {
    OWN_FILES + ADMIN_CONNECTIONS_MAX as u64 + ottla_control_plane::limits::OPEN_FILES_MAX + store
}

const _: () = assert!(open_files_max(STORE_REQUESTS_MAX) <= FILES_KEPT);
const _: () =
    assert!(open_files_max(ottla_object_io::limits::DIRECTORY_OPEN_FILES_MAX) <= FILES_KEPT);
