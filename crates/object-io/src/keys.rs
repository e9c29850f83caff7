//! The keys of a bucket. This is the whole layout:
//!
//! ```text
//! ottla-cluster                                       the marker: which cluster owns the bucket
//! <cluster>/wal/<2 hex>/<broker>-<broker epoch>-<nonce>-<seq>.<attempt>
//! <cluster>/merged/<1 hex>/job<job>-<nonce>-<output>.<attempt>
//! <cluster>/height/<applied index, 20 digits>         how far the cluster's state was
//! ```
//!
//! An object's key and its name say the same: [`object`] makes the key of a name, [`object_name`]
//! reads it back, and nothing else does either.
//!
//! No key is a folder of another, so that the same layout works on stores that keep keys as files.
//! The hex digits spread consecutive objects over prefixes, which is what S3 scales by. They
//! follow from the object's name, so a reader needs nothing but the name.

use ottla_model::{AppliedIndex, ClusterId, ObjectName, ObjectOrigin};

use crate::limits::{MERGED_FOLDERS, WAL_FOLDERS};

/// The key of the marker that says which cluster owns the bucket.
pub const MARKER: &str = "ottla-cluster";

/// The key of an object.
pub fn object(cluster: ClusterId, name: &ObjectName) -> String {
    let spread = spread(name);
    let folder = match name.origin {
        ObjectOrigin::Wal { .. } => wal_folder(cluster, spread % WAL_FOLDERS),
        ObjectOrigin::Merged { .. } => merged_folder(cluster, spread % MERGED_FOLDERS),
    };
    format!("{folder}/{name}")
}

/// The name of the object under a key; `None` for a key that [`object`] never makes.
pub fn object_name(cluster: ClusterId, key: &str) -> Option<ObjectName> {
    let (_, last) = key.rsplit_once('/')?;
    ObjectName::parse(last).filter(|name| object(cluster, name) == key)
}

/// The folders that [`object`] spreads objects over: a listing of each shows all objects.
pub fn object_folders(cluster: ClusterId) -> Vec<String> {
    let wal = (0..WAL_FOLDERS).map(|spread| wal_folder(cluster, spread));
    wal.chain((0..MERGED_FOLDERS).map(|spread| merged_folder(cluster, spread))).collect()
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
        Some("merged") => "merged",
        Some("height") => "height",
        _ if key == MARKER => "marker",
        _ => "other",
    }
}

fn wal_folder(cluster: ClusterId, spread: u64) -> String {
    format!("{cluster}/wal/{spread:02x}")
}

fn merged_folder(cluster: ClusterId, spread: u64) -> String {
    format!("{cluster}/merged/{spread:x}")
}

/// Consecutive objects of a writer land in different folders, and so do the attempts of one object:
/// a retry does not go back to the prefix that was slow.
fn spread(name: &ObjectName) -> u64 {
    let (nonce, number) = match name.origin {
        ObjectOrigin::Wal { nonce, seq, .. } => (nonce.0, seq.0),
        ObjectOrigin::Merged { nonce, output, .. } => (nonce.0, u64::from(output.0)),
    };
    nonce.wrapping_add(number).wrapping_add(u64::from(name.attempt.0) * 97)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ottla_model::{
        Attempt, BrokerAuthor, BrokerEpoch, BrokerId, JobId, JobOutput, LeaseNonce, ObjectSeq,
        ProcessNonce,
    };

    use super::*;

    const CLUSTER: ClusterId = ClusterId(1);

    fn wal(seq: u64, attempt: u32) -> ObjectName {
        let author = BrokerAuthor { broker: BrokerId(3), epoch: BrokerEpoch(7) };
        ObjectName::wal(author, ProcessNonce(0xabc), ObjectSeq(seq), Attempt(attempt))
    }

    fn merged(output: u32, attempt: u32) -> ObjectName {
        let (nonce, output) = (LeaseNonce(0xabc), JobOutput(output));
        ObjectName::merged(JobId(7), nonce, output, Attempt(attempt))
    }

    #[test]
    fn a_key_shows_what_the_name_does() {
        assert_eq!(
            object(CLUSTER, &wal(4, 2)),
            "AAAAAAAAAAAAAAAAAAAAAQ/wal/82/3-7-0000000000000abc-4.2"
        );
        assert_eq!(
            object(CLUSTER, &merged(4, 2)),
            "AAAAAAAAAAAAAAAAAAAAAQ/merged/2/job7-0000000000000abc-4.2"
        );
    }

    #[test]
    fn a_key_is_read_back_and_a_foreign_one_is_not() {
        for name in [wal(4, 2), merged(4, 2)] {
            let key = object(CLUSTER, &name);
            assert_eq!(object_name(CLUSTER, &key), Some(name));
            assert_eq!(object_name(ClusterId(2), &key), None, "another cluster's");
            assert_eq!(object_name(CLUSTER, &key.replace("2/", "3/")), None, "out of place");
            let exchanged = key.replace("wal", "x").replace("merged", "wal").replace('x', "merged");
            assert_eq!(object_name(CLUSTER, &exchanged), None, "in the other kind's folder");
        }
        assert_eq!(object_name(CLUSTER, MARKER), None);
    }

    #[test]
    fn a_height_is_read_back_and_a_foreign_one_is_not() {
        let key = height(CLUSTER, AppliedIndex(42));
        assert_eq!(key, "AAAAAAAAAAAAAAAAAAAAAQ/height/00000000000000000042");
        assert_eq!(height_at(CLUSTER, &key), Some(AppliedIndex(42)));
        assert_eq!(height_at(ClusterId(2), &key), None);
        assert_eq!(height_at(CLUSTER, &key.replace("/000", "/+00")), None);
        assert_eq!(height_at(CLUSTER, &object(CLUSTER, &wal(4, 2))), None);
    }

    #[test]
    fn consecutive_objects_are_spread_over_all_folders() {
        let names = (0..256).map(|seq| wal(seq, 0)).chain((0..16).map(|output| merged(output, 0)));
        let folder = |name| object(CLUSTER, &name).rsplit_once('/').unwrap().0.to_owned();
        let folders: BTreeSet<String> = names.map(folder).collect();
        assert_eq!(folders, object_folders(CLUSTER).into_iter().collect());
    }

    #[test]
    fn keys_know_their_area() {
        assert_eq!(area(&object(CLUSTER, &wal(0, 0))), "wal");
        assert_eq!(area(&object(CLUSTER, &merged(0, 0))), "merged");
        assert_eq!(area(MARKER), "marker");
        assert_eq!(area(&height(CLUSTER, AppliedIndex(5))), "height");
        assert_eq!(area(&height_folder(CLUSTER)), "height");
        assert_eq!(area("x"), "other");
    }
}
