//! The keys of a bucket. This is the whole layout:
//!
//! ```text
//! ottla-cluster                                       the marker: which cluster owns the bucket
//! <cluster>/wal/<2 hex>/<broker>-<broker epoch>-<nonce>-<seq>.<attempt>
//! <cluster>/height/<applied index, 20 digits>         how far the cluster's state was
//! ```
//!
//! No key is a folder of another, so that the same layout works on stores that keep keys as files.
//! The two hex digits spread consecutive objects over prefixes, which is what S3 scales by. They
//! follow from the object's name, so a reader needs nothing but the name.

use ottla_model::{AppliedIndex, ClusterId, ObjectName};

use crate::limits::SPREAD_FOLDERS;

/// The key of the marker that says which cluster owns the bucket.
pub const MARKER: &str = "ottla-cluster";

/// The key of an object as a broker flushed it.
pub fn wal(cluster: ClusterId, name: &ObjectName) -> String {
    format!("{}/{name}", wal_folder(cluster, spread(name)))
}

/// The name of the object under a key; `None` for a key that [`wal`] never makes.
pub fn wal_name(cluster: ClusterId, key: &str) -> Option<ObjectName> {
    let (_, last) = key.rsplit_once('/')?;
    ObjectName::parse(last).filter(|name| wal(cluster, name) == key)
}

/// The folders that [`wal`] spreads objects over.
pub fn wal_folders(cluster: ClusterId) -> Vec<String> {
    (0..SPREAD_FOLDERS).map(|spread| wal_folder(cluster, spread)).collect()
}

/// The key of a height.
pub fn height(cluster: ClusterId, height: AppliedIndex) -> String {
    format!("{}/{:020}", height_folder(cluster), height.0)
}

/// The height under a key; `None` for a key that [`height`] never makes.
pub fn height_at(cluster: ClusterId, key: &str) -> Option<AppliedIndex> {
    let (_, last) = key.rsplit_once('/')?;
    let found = AppliedIndex(last.parse().ok()?);
    (height(cluster, found) == key).then_some(found)
}

/// The folder of heights.
pub fn height_folder(cluster: ClusterId) -> String {
    format!("{cluster}/height")
}

/// What a key holds, as metrics show it.
pub fn area(key: &str) -> &'static str {
    match key.split('/').nth(1) {
        Some("wal") => "wal",
        Some("height") => "height",
        _ if key == MARKER => "marker",
        _ => "other",
    }
}

fn wal_folder(cluster: ClusterId, spread: u64) -> String {
    format!("{cluster}/wal/{spread:02x}")
}

/// Consecutive sequences land in different folders, and so do the attempts of one sequence: a
/// retry does not go back to the prefix that was slow.
fn spread(name: &ObjectName) -> u64 {
    let mixed = name.nonce.0.wrapping_add(name.seq.0).wrapping_add(u64::from(name.attempt.0) * 97);
    mixed % SPREAD_FOLDERS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ottla_model::{Attempt, BrokerAuthor, BrokerEpoch, BrokerId, ObjectSeq, ProcessNonce};

    use super::*;

    fn name(seq: u64, attempt: u32) -> ObjectName {
        ObjectName {
            author: BrokerAuthor { broker: BrokerId(3), epoch: BrokerEpoch(7) },
            nonce: ProcessNonce(0xabc),
            seq: ObjectSeq(seq),
            attempt: Attempt(attempt),
        }
    }

    #[test]
    fn a_key_shows_writer_sequence_and_attempt() {
        assert_eq!(
            wal(ClusterId(1), &name(4, 2)),
            "AAAAAAAAAAAAAAAAAAAAAQ/wal/82/3-7-0000000000000abc-4.2"
        );
    }

    #[test]
    fn a_key_is_read_back_and_a_foreign_one_is_not() {
        let key = wal(ClusterId(1), &name(4, 2));
        assert_eq!(wal_name(ClusterId(1), &key), Some(name(4, 2)));
        assert_eq!(wal_name(ClusterId(2), &key), None, "another cluster's");
        assert_eq!(wal_name(ClusterId(1), &key.replace("/82/", "/83/")), None, "out of place");
        assert_eq!(wal_name(ClusterId(1), MARKER), None);
    }

    #[test]
    fn a_height_is_read_back_and_a_foreign_one_is_not() {
        let key = height(ClusterId(1), AppliedIndex(42));
        assert_eq!(key, "AAAAAAAAAAAAAAAAAAAAAQ/height/00000000000000000042");
        assert_eq!(height_at(ClusterId(1), &key), Some(AppliedIndex(42)));
        assert_eq!(height_at(ClusterId(2), &key), None);
        assert_eq!(height_at(ClusterId(1), &key.replace("/000", "/+00")), None);
        assert_eq!(height_at(ClusterId(1), &wal(ClusterId(1), &name(4, 2))), None);
    }

    #[test]
    fn consecutive_objects_are_spread_over_all_folders() {
        let folders: BTreeSet<String> = (0..256)
            .map(|seq| wal(ClusterId(1), &name(seq, 0)).rsplit_once('/').unwrap().0.to_owned())
            .collect();
        assert_eq!(folders, wal_folders(ClusterId(1)).into_iter().collect());
    }

    #[test]
    fn keys_know_their_area() {
        assert_eq!(area(&wal(ClusterId(1), &name(0, 0))), "wal");
        assert_eq!(area(MARKER), "marker");
        assert_eq!(area(&height(ClusterId(1), AppliedIndex(5))), "height");
        assert_eq!(area(&height_folder(ClusterId(1))), "height");
        assert_eq!(area("x"), "other");
    }
}
