//! Every API in every version, with bodies that are cut off, too long, damaged or random.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use ottla_env::Random;
use ottla_tests::edge::Edge;
use ottla_tests::raw::{RawClient, request_frame};
use ottla_wire::apis::{APIS, Api};
use tokio::task::JoinSet;

/// Requests in all; `OTTLA_NOISE_REQUESTS` for another number.
const REQUESTS: u64 = 200_000;

/// `OTTLA_NOISE_SEED` for another one.
const SEED: u64 = 20_261_121;

/// Connections that send at the same time.
const SENDERS: u64 = 24;

/// A request that waits for something (records, other members) is not waited for.
const PATIENCE: Duration = Duration::from_millis(40);

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The body of a request that is wrong in some way, or right.
fn body(random: &Random, api: &Api, version: i16) -> Vec<u8> {
    let flexible = api.request_is_flexible(version);
    let mut next = |below: usize| random.below(below as u64) as usize;
    let mut body = api.shape.example(version, flexible, &mut next);
    let at = |length: usize| random.below(length.max(1) as u64) as usize;
    match random.below(6) {
        0 => body.truncate(at(body.len())),
        1 => body.extend((0..at(300)).map(|_| random.u64() as u8)),
        2 => body = (0..at(200)).map(|_| random.u64() as u8).collect(),
        3 => body = (0..at(200)).map(|_| random.u64() as u8 & 3).collect(),
        4 if !body.is_empty() => {
            for _ in 0..=random.below(3) {
                let at = at(body.len());
                body[at] = random.u64() as u8;
            }
        }
        // The largest numbers there are, wherever a count may stand.
        5 if !body.is_empty() => {
            let at = at(body.len());
            let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
            let end = body.len().min(at + most.len());
            body[at..end].copy_from_slice(&most[..end - at]);
        }
        _ => {}
    }
    body
}

/// Sends its part of the requests; answers how many were answered.
async fn sender(bootstrap: Arc<str>, seed: u64, requests: u64) -> Result<u64> {
    let random = Random::seeded(seed);
    let versions: Vec<(&Api, i16)> = APIS
        .iter()
        .flat_map(|api| (api.served.min..=api.served.max).map(move |version| (api, version)))
        .collect();
    let mut answered = 0;
    let mut open: Option<RawClient> = None;
    for _ in 0..requests {
        let (api, version) = versions[random.below(versions.len() as u64) as usize];
        let frame = request_frame(api, version, &body(&random, api, version));
        let mut client = match open.take() {
            Some(client) => client,
            None => RawClient::connect(&bootstrap).await?.with_patience(PATIENCE),
        };
        let _ = client.send_bytes(&frame).await;
        match client.receive_frame().await {
            Ok(_) => {
                answered += 1;
                open = Some(client);
            }
            // Closed, or it waits: either way this connection has done its work.
            Err(_) => client.reset()?,
        }
    }
    Ok(answered)
}

#[tokio::test]
#[allow(clippy::print_stdout, reason = "a failing run is repeated by its seed")]
async fn no_request_of_any_version_harms_the_server() -> Result<()> {
    let (seed, requests) =
        (setting("OTTLA_NOISE_SEED", SEED), setting("OTTLA_NOISE_REQUESTS", REQUESTS));
    println!("seed {seed}, {requests} requests");
    let mut edge = Edge::start("noise", &[]).await?;
    let bootstrap: Arc<str> = edge.bootstrap.as_str().into();
    let mut senders = JoinSet::new();
    for n in 0..SENDERS {
        senders.spawn(sender(bootstrap.clone(), seed.wrapping_add(n), requests / SENDERS));
    }
    let mut answered = 0;
    while let Some(sent) = senders.join_next().await {
        answered += sent??;
        edge.serves_others().await?;
    }
    println!("{answered} answered");
    // Bodies that are right are answered, or the test would test nothing.
    ensure!(answered > requests / 10, "{answered} of {requests} were answered");
    edge.survived(128 << 20).await
}
