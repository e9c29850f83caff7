//! The marker object: a bucket belongs to one cluster.
//!
//! Two clusters in one bucket would sweep each other's objects. The first cluster writes its id
//! under [`keys::MARKER`] with a create-once write; every later start reads it and refuses a
//! foreign one. Nothing ever rewrites the marker. A write whose outcome is unknown is settled by
//! reading: whoever's id is there owns the bucket.

use bytes::Bytes;
use ottla_env::{Random, delay};
use ottla_model::ClusterId;
use thiserror::Error;

use crate::limits::{MARKER_ATTEMPTS_MAX, READ_PAUSE_FIRST};
use crate::{Store, StoreError, StoreErrorKind, keys};

/// First line of a marker; a later version may add lines.
const HEADING: &str = "ottla bucket marker 1";

/// Why a bucket cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClaimError {
    /// Another cluster's marker is there.
    #[error(
        "the object store belongs to another cluster: its marker '{}' names cluster {owner}, this \
         cluster is {cluster}; use another bucket or prefix",
        keys::MARKER
    )]
    Foreign {
        /// Who owns it.
        owner: String,
        /// Who asks.
        cluster: ClusterId,
    },
    /// Something is under the marker's key that Ottla did not write.
    #[error("the object '{key}' is not an Ottla marker: {0}", key = keys::MARKER)]
    NotAMarker(String),
    /// The store did not answer.
    #[error("the object store's marker '{key}' could not be read or written: {0}", key = keys::MARKER)]
    Store(#[from] StoreError),
}

/// Makes sure that this cluster owns the bucket, writing the marker if there is none, and prepares
/// the cluster's folders. Repeating it is harmless.
pub async fn claim_bucket(
    store: &dyn Store,
    cluster: ClusterId,
    random: &Random,
) -> Result<(), ClaimError> {
    let mut attempt = 1;
    loop {
        match claim_once(store, cluster).await {
            Err(ClaimError::Store(error))
                if attempt < MARKER_ATTEMPTS_MAX
                    && matches!(
                        error.kind(),
                        StoreErrorKind::Retry
                            | StoreErrorKind::RetryUnknown
                            | StoreErrorKind::NotFound
                    ) =>
            {
                tracing::debug!(%error, attempt, "claim bucket");
                delay(random.jitter(READ_PAUSE_FIRST * 2u32.pow(attempt))).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

async fn claim_once(store: &dyn Store, cluster: ClusterId) -> Result<(), ClaimError> {
    let body = Bytes::from(format!("{HEADING}\ncluster {cluster}\n"));
    match store.get(keys::MARKER).await {
        Err(error) if error.kind() == StoreErrorKind::NotFound => {
            if !store.put_if_absent(keys::MARKER, body).await? {
                // Somebody else was first: the next line says who.
                check_owner(&store.get(keys::MARKER).await?, cluster)?;
            }
        }
        found => check_owner(&found?, cluster)?,
    }
    Ok(store.prepare(&keys::object_folders(cluster)).await?)
}

fn check_owner(marker: &[u8], cluster: ClusterId) -> Result<(), ClaimError> {
    let text = std::str::from_utf8(marker)
        .map_err(|_| ClaimError::NotAMarker("it is not text".to_owned()))?;
    let mut lines = text.lines();
    if lines.next() != Some(HEADING) {
        return Err(ClaimError::NotAMarker(format!("it does not begin with '{HEADING}'")));
    }
    let owner = lines
        .find_map(|line| line.strip_prefix("cluster "))
        .ok_or_else(|| ClaimError::NotAMarker("it names no cluster".to_owned()))?;
    if owner == cluster.to_string() {
        Ok(())
    } else {
        Err(ClaimError::Foreign { owner: owner.to_owned(), cluster })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_names_its_owner() {
        let marker = format!("{HEADING}\ncluster {}\n", ClusterId(1));
        assert_eq!(check_owner(marker.as_bytes(), ClusterId(1)), Ok(()));
        assert_eq!(
            check_owner(marker.as_bytes(), ClusterId(2)),
            Err(ClaimError::Foreign { owner: ClusterId(1).to_string(), cluster: ClusterId(2) })
        );
        assert!(matches!(check_owner(b"hello", ClusterId(1)), Err(ClaimError::NotAMarker(_))));
        assert!(matches!(check_owner(b"\xff", ClusterId(1)), Err(ClaimError::NotAMarker(_))));
    }
}
