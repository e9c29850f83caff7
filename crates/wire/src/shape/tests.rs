//! The table against `kafka-protocol`, and lies of every kind.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, RequestKind};
use proptest::prelude::*;

use super::*;
use crate::apis::{APIS, Api};

fn versions() -> impl Iterator<Item = (&'static Api, i16)> {
    APIS.iter().flat_map(|api| (api.served.min..=api.served.max).map(move |v| (api, v)))
}

fn written(api: &Api, version: i16, next: &mut dyn FnMut(usize) -> usize) -> Vec<u8> {
    api.shape.example(version, api.request_is_flexible(version), next)
}

fn walk(api: &Api, version: i16, body: &[u8]) -> Result<(usize, usize), RequestError> {
    let flexible = api.request_is_flexible(version);
    let mut walk = Walk::new(body, version, flexible);
    walk.structure(api.shape)?;
    Ok((walk.checked.elements, walk.rest.len()))
}

/// Whether `kafka-protocol` reads the body, and how many bytes it leaves.
fn decoded(key: ApiKey, version: i16, body: &[u8]) -> Option<usize> {
    let mut bytes = Bytes::copy_from_slice(body);
    RequestKind::decode(key, &mut bytes, version).ok().map(|_| bytes.len())
}

#[test]
fn what_is_written_by_the_table_is_read_to_the_end_by_another_decoder() {
    let mut seed = 7usize;
    for (api, version) in versions() {
        for _ in 0..20 {
            let mut next = |below: usize| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
                (seed >> 33) % below
            };
            let body = written(api, version, &mut next);
            let name = api.name;
            assert_eq!(walk(api, version, &body).map(|(_, left)| left), Ok(0), "{name} {version}");
            assert_eq!(decoded(api.key, version, &body), Some(0), "{name} {version}: {body:02x?}");
        }
    }
}

/// A body of the table in which every string is `text`.
fn written_with(api: &Api, version: i16, text: &[u8]) -> Vec<u8> {
    api.shape.example_with(version, api.request_is_flexible(version), text, &mut |below| below - 1)
}

#[test]
fn strings_that_are_not_utf_8_are_read_as_kafka_reads_them_in_every_request() {
    // Latin-1, a character that is cut off, and one that is well-formed.
    let (sent, read) = (&b"gr\xfcn \xe2\x82 \xc3\xbc"[..], "gr\u{fffd}n \u{fffd} \u{fc}");
    for (api, version) in versions() {
        let (name, flexible) = (api.name, api.request_is_flexible(version));
        let body = written_with(api, version, sent);
        let expected = written_with(api, version, read.as_bytes());
        let checked = api.shape.check(&body, version, flexible).unwrap();
        assert_eq!(checked.has_malformed_text, body != expected, "{name} {version}");
        let repaired = api.shape.with_valid_text(&body, version, flexible).unwrap();
        assert_eq!(repaired, expected, "{name} {version}");
        assert_eq!(decoded(api.key, version, &repaired), Some(0), "{name} {version}");
    }
}

#[test]
fn no_string_of_any_request_is_longer_than_kafkas() {
    let longest = vec![b'x'; TEXT_BYTES_MAX];
    let longer = vec![b'x'; TEXT_BYTES_MAX + 1];
    for (api, version) in versions() {
        let (name, flexible) = (api.name, api.request_is_flexible(version));
        let body = written_with(api, version, &longest);
        assert!(api.shape.check(&body, version, flexible).is_ok(), "{name} {version}");
        if !flexible || body == written_with(api, version, b"") {
            continue;
        }
        let body = written_with(api, version, &longer);
        let refused = api.shape.check(&body, version, flexible).unwrap_err();
        let bytes = longer.len();
        assert_eq!(refused, RequestError::TextLength { bytes }, "{name} {version}");
    }
}

#[test]
fn a_string_that_grows_beyond_the_longest_is_refused() {
    let api = Api::find(ApiKey::Heartbeat as i16).unwrap();
    let body = written_with(api, 4, &[0xff; TEXT_BYTES_MAX / 3 + 1]);
    assert!(api.shape.check(&body, 4, true).unwrap().has_malformed_text);
    let refused = api.shape.with_valid_text(&body, 4, true).unwrap_err();
    assert!(matches!(refused, RequestError::TextLength { bytes } if bytes > TEXT_BYTES_MAX));
}

#[test]
fn a_body_that_is_cut_off_is_refused() {
    for (api, version) in versions() {
        let body = written(api, version, &mut |below| below - 1);
        for end in 0..body.len() {
            assert!(walk(api, version, &body[..end]).is_err(), "{} {version} at {end}", api.name);
        }
    }
}

/// 2³² − 1 as an unsigned varint.
const MOST: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];

fn check(key: ApiKey, version: i16, body: &[u8]) -> Result<usize, RequestError> {
    let api = Api::find(key as i16).unwrap();
    let checked = api.shape.check(body, version, api.request_is_flexible(version))?;
    Ok(checked.elements)
}

#[test]
fn a_count_beyond_the_bytes_is_refused_wherever_it_stands() {
    // Metadata 12 in five bytes asks a decoder for 309 GB, Metadata 4 for 154, CreateTopics 7 for 481.
    let counts = [
        check(ApiKey::Metadata, 12, &MOST),
        check(ApiKey::Metadata, 4, &[0x7f, 0xff, 0xff, 0xff, 0]),
        check(ApiKey::CreateTopics, 7, &MOST),
        // Inside of the first topic: assignments, then configs.
        check(ApiKey::CreateTopics, 7, &[&[2, 1, 0, 0, 0, 1, 0, 1][..], &MOST].concat()),
        check(ApiKey::CreateTopics, 7, &[&[2, 1, 0, 0, 0, 1, 0, 1, 1][..], &MOST].concat()),
        check(ApiKey::Produce, 9, &[&[0, 0, 1, 0, 0, 0, 1][..], &MOST].concat()),
        check(ApiKey::Produce, 9, &[&[0, 0, 1, 0, 0, 0, 1, 2, 1][..], &MOST].concat()),
        check(ApiKey::FindCoordinator, 4, &[&[0][..], &MOST].concat()),
        check(ApiKey::JoinGroup, 9, &[&[1; 8][..], &[1, 1, 0, 1], &MOST].concat()),
    ];
    for (at, refused) in counts.into_iter().enumerate() {
        assert!(
            matches!(refused, Err(RequestError::Count { count, .. }) if count > 1 << 30),
            "{at}: {refused:?}"
        );
    }
}

#[test]
fn true_counts_are_bounded_too() {
    let names = |count: usize| {
        let mut body = (count as i32).to_be_bytes().to_vec();
        body.extend(vec![0; 2 * count]);
        check(ApiKey::Metadata, 0, &body)
    };
    assert_eq!(names(REQUEST_ELEMENTS_MAX), Ok(REQUEST_ELEMENTS_MAX));
    assert_eq!(names(REQUEST_ELEMENTS_MAX + 1), Err(RequestError::TooManyElements));
}

#[test]
fn a_defined_tag_must_be_as_long_as_it_is() {
    // Fetch 17 with one partition, whose directory id (tag 0) claims one byte instead of 16.
    let head =
        [vec![0; 4 + 4 + 4 + 1 + 4 + 4], vec![2], vec![0; 16], vec![2], vec![0; 32]].concat();
    let tagged = |size: u8| [&head[..], &[1, 0, size], &[0; 16], &[0, 1, 1, 0]].concat();
    assert_eq!(check(ApiKey::Fetch, 17, &tagged(16)), Ok(3));
    assert!(check(ApiKey::Fetch, 17, &tagged(1)).is_err());
    assert!(matches!(
        check(ApiKey::Fetch, 17, &tagged(17)),
        Err(RequestError::TagSize { tag: 0, bytes: 17 })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What passes and can be decoded is decoded to the byte where the walk ended: at no place did
    /// the decoder follow a number that the walk had not seen.
    #[test]
    fn a_decoder_never_leaves_the_way_of_the_walk(
        seed: u64,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut state = seed as usize | 1;
        for (api, version) in versions() {
            let mut next = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
                (state >> 33) % below
            };
            let mut body = written(api, version, &mut next);
            for (at, byte) in &damage {
                if !body.is_empty() {
                    let at = at.index(body.len());
                    body[at] = *byte;
                }
            }
            let flexible = api.request_is_flexible(version);
            if let Ok(checked) = api.shape.check(&body, version, flexible)
                && checked.has_malformed_text
            {
                let repaired = api.shape.with_valid_text(&body, version, flexible).unwrap();
                let again = api.shape.check(&repaired, version, flexible).unwrap();
                prop_assert_eq!(again, Checked { has_malformed_text: false, ..checked });
                body = repaired;
            }
            if let Ok((_, left)) = walk(api, version, &body)
                && let Some(decoder_left) = decoded(api.key, version, &body)
            {
                prop_assert_eq!(left, decoder_left, "{} {}: {:02x?}", api.name, version, body);
            }
        }
    }
}
