//! The contract of every store, as one suite that runs against each back end.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ottla_env::Random;
use ottla_model::ClusterId;

use crate::{ClaimError, Payload, PutDone, ReadCause, Store, StoreErrorKind, claim_bucket, keys};

/// Runs the suite. It writes under a random folder of its own, and the marker of a random cluster,
/// so give it a bucket or prefix without one.
///
/// # Panics
/// When the store does not conform; the message says how.
pub async fn run(store: Arc<dyn Store>, random: Random) {
    let folder = format!("conformance-{:016x}", random.u64());
    let key = |name: &str| format!("{folder}/{name}");
    written_bytes_are_read_back(&*store, &key("whole")).await;
    ranges_are_exact(&*store, &key("ranged")).await;
    large_objects_keep_every_byte(&*store, &key("large"), &random).await;
    missing_objects_are_not_found(&*store, &key("missing")).await;
    create_once_has_one_winner(&store, &key("once")).await;
    listings_show_a_folder(&*store, &key("list")).await;
    deletes_are_idempotent(&*store, &key("deleted")).await;
    strange_keys_are_refused(&*store).await;
    a_bucket_has_one_owner(&*store, &random).await;
    for entry in store.list(&folder).await.expect("list") {
        store.delete(&entry.key).await.expect("delete");
    }
}

async fn written_bytes_are_read_back(store: &dyn Store, key: &str) {
    let chunks = ["one ", "", "two ", "three"].map(|c| Bytes::from_static(c.as_bytes()));
    let payload = Payload::checksummed(chunks.to_vec());
    assert_eq!(store.put(key, payload).await, Ok(PutDone { bytes: 13 }));
    assert_eq!(store.get(key).await, Ok(Bytes::from_static(b"one two three")));
}

async fn ranges_are_exact(store: &dyn Store, key: &str) {
    store.put(key, Bytes::from_static(b"0123456789").into()).await.expect("put");
    let read = |range| store.get_range(key, range, ReadCause::Inspect);
    assert_eq!(read(0..10).await, Ok(Bytes::from_static(b"0123456789")));
    assert_eq!(read(3..4).await, Ok(Bytes::from_static(b"3")));
    assert_eq!(read(5..5).await, Ok(Bytes::new()));
    assert!(read(8..12).await.is_err(), "a range beyond the end must not be cut");
    assert!(read(20..22).await.is_err(), "a range behind the end must not be empty");
}

async fn large_objects_keep_every_byte(store: &dyn Store, key: &str, random: &Random) {
    let chunks: Vec<Bytes> =
        (0..9).map(|_| random.u64().to_le_bytes().repeat(1 << 17).into()).collect();
    let payload = Payload::checksummed(chunks);
    store.put(key, payload.clone()).await.expect("put");
    let read = store.get_range(key, 0..payload.length, ReadCause::Inspect).await.expect("get");
    assert_eq!(crc32c::crc32c(&read), payload.crc32c);
}

async fn missing_objects_are_not_found(store: &dyn Store, key: &str) {
    let kind = store.get(key).await.map_err(|e| e.kind());
    assert_eq!(kind, Err(StoreErrorKind::NotFound));
    let kind = store.get_range(key, 0..1, ReadCause::Inspect).await.map_err(|e| e.kind());
    assert_eq!(kind, Err(StoreErrorKind::NotFound));
}

async fn create_once_has_one_winner(store: &Arc<dyn Store>, key: &str) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8u8 {
        let (store, key) = (Arc::clone(store), key.to_owned());
        writers.spawn(async move {
            (writer, store.put_if_absent(&key, Bytes::from(vec![writer])).await.expect("create"))
        });
    }
    let won: BTreeSet<u8> =
        writers.join_all().await.into_iter().filter(|(_, won)| *won).map(|(w, _)| w).collect();
    assert_eq!(won.len(), 1, "writers {won:?} all won");
    let there = store.get(key).await.expect("get");
    assert!(won.contains(&there[0]), "the object is the winner's");
}

async fn listings_show_a_folder(store: &dyn Store, folder: &str) {
    for name in ["b", "a", "sub/c"] {
        store
            .put(&format!("{folder}/{name}"), Bytes::from_static(b"xy").into())
            .await
            .expect("put");
    }
    store.put(&format!("{folder}-other"), Bytes::from_static(b"x").into()).await.expect("put");
    let entries = store.list(folder).await.expect("list");
    let names: Vec<&str> =
        entries.iter().map(|e| e.key.strip_prefix(folder).expect("inside the folder")).collect();
    assert_eq!(names, ["/a", "/b", "/sub/c"]);
    assert!(entries.iter().all(|entry| entry.size == 2 && entry.modified_ms > 0));
    assert_eq!(store.list(&format!("{folder}-none")).await, Ok(Vec::new()));
}

async fn deletes_are_idempotent(store: &dyn Store, key: &str) {
    store.put(key, Bytes::from_static(b"x").into()).await.expect("put");
    assert_eq!(store.delete(key).await, Ok(()));
    assert_eq!(store.delete(key).await, Ok(()));
    assert!(store.get(key).await.is_err());
}

async fn strange_keys_are_refused(store: &dyn Store) {
    for key in ["", "a//b", "a/../b", "ä", "a#1", "/a", "a/"] {
        let put = store.put(key, Bytes::from_static(b"x").into()).await;
        assert_eq!(put.map_err(|e| e.kind()), Err(StoreErrorKind::Invalid), "{key:?}");
    }
}

async fn a_bucket_has_one_owner(store: &dyn Store, random: &Random) {
    let (ours, theirs) = (ClusterId(random.u128()), ClusterId(random.u128()));
    assert_eq!(claim_bucket(store, ours, random).await, Ok(()));
    assert_eq!(claim_bucket(store, ours, random).await, Ok(()));
    let foreign = ClaimError::Foreign { owner: ours.to_string(), cluster: theirs };
    assert_eq!(claim_bucket(store, theirs, random).await, Err(foreign));
    store.delete(keys::MARKER).await.expect("delete");
}
