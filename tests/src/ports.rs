//! Ports for servers that must come back on the same port after they were killed.
//!
//! A port from the range that the system hands to outgoing connections can be taken by one of them
//! while the server is away, so ports come from below that range.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, anyhow};

const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of the loopback interface on which nothing listens now.
pub fn free() -> Result<u16> {
    // Suites that run at the same time begin at different places.
    let start = (std::process::id() as u16).wrapping_mul(131);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(anyhow!("no free port between {FIRST} and {}", FIRST + COUNT))
}
