//! Frames, and the requests in them.

use bytes::Bytes;
use kafka_protocol::messages::RequestKind;
use ottla_env::Random;
use ottla_wire::apis::{APIS, Api};
use ottla_wire::frame::FrameReader;
use ottla_wire::request::{self, RequestHead};
use tokio::runtime;

use super::{Inputs, Target, Verdict};
use crate::damage::below;

pub(super) const TARGETS: &[Target] = &[
    Target { name: "frames", read: read_frames, examples: frames, reseal: None },
    Target { name: "requests", read: read_request, examples: requests, reseal: None },
];

/// A request of every API in every version, without the length of its frame, in ASCII and in Latin-1.
fn requests(random: &Random) -> Inputs {
    let versions = APIS
        .iter()
        .flat_map(|api| (api.served.min..=api.served.max).map(move |version| (api, version)));
    let texts = |(api, version)| {
        [None, Some(&b"gr\xfcn"[..])].map(|text| request(api, version, text, random))
    };
    Ok(versions.flat_map(texts).collect())
}

fn request(api: &Api, version: i16, text: Option<&[u8]>, random: &Random) -> Vec<u8> {
    let flexible = api.request_is_flexible(version);
    let mut bytes = (api.key as i16).to_be_bytes().to_vec();
    bytes.extend(version.to_be_bytes());
    // Correlation id, client id, no tagged fields.
    bytes.extend([0, 0, 0, 7, 0, 2, b'm', b'e']);
    bytes.extend(flexible.then_some(0));
    let mut next = |bound: usize| below(random, bound);
    bytes.extend(match text {
        Some(text) => api.shape.example_with(version, flexible, text, &mut next),
        None => api.shape.example(version, flexible, &mut next),
    });
    bytes
}

/// The way of a request through the broker, up to its handler.
fn read_request(bytes: &[u8]) -> Verdict {
    let mut rest = Bytes::copy_from_slice(bytes);
    let head = RequestHead::take(&mut rest)?;
    let api = Api::find(head.api_key).ok_or("no such API")?;
    api.served.contains(head.version).then_some(()).ok_or("no such version")?;
    let flexible = api.request_is_flexible(head.version);
    request::take_client_id(&mut rest, flexible)?;
    let checked = api.shape.check(&rest, head.version, flexible)?;
    if checked.has_malformed_text {
        rest = api.shape.with_valid_text(&rest, head.version, flexible)?.into();
        let again = api.shape.check(&rest, head.version, flexible)?;
        assert!(!again.has_malformed_text, "a string is still not UTF-8");
    }
    RequestKind::decode(api.key, &mut rest, head.version)?;
    Ok(())
}

/// Some requests each, as a connection brings them.
fn frames(random: &Random) -> Inputs {
    let framed = |request: &Vec<u8>| [&(request.len() as u32).to_be_bytes()[..], request].concat();
    Ok(requests(random)?.chunks(8).map(|some| some.iter().flat_map(framed).collect()).collect())
}

fn read_frames(bytes: &[u8]) -> Verdict {
    runtime::Builder::new_current_thread().build()?.block_on(async {
        let mut reader = FrameReader::new(bytes);
        while let Some(head) = reader.head().await? {
            reader.fill(head, head.length).await?;
            read_request(&reader.take(head))?;
        }
        Ok(())
    })
}
