//! How fast batches are verified, by codec and size: MB of plain records per second of processor time.
//!
//! `cargo run --release -p ottla-wire --example verify_speed`

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people")]

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use ottla_test_kit::batch::{changed, plain};
use ottla_wire::batch::BATCH_HEADER_BYTES;
use ottla_wire::decompress::{OutputLimits, Scratch};
use ottla_wire::verify::{ReceivedBatch, RecordRules};
use tokio::time::Instant;

const RECORD_BYTES: usize = 1_000;
const MEASURE_FOR: Duration = Duration::from_millis(500);

fn main() {
    println!("{:8} {:>8} {:>8} {:>10} {:>10}", "codec", "plain", "sent", "CRC MB/s", "all MB/s");
    for records in [1, 16, 256, 1_000] {
        let text = text(records * RECORD_BYTES);
        let values: Vec<_> = text.chunks(RECORD_BYTES).map(|value| (1, value)).collect();
        let batch = plain(&values);
        for codec in 0..5 {
            let packed = compressed(codec, &batch[BATCH_HEADER_BYTES..]);
            let bytes = changed(&batch, |bytes| {
                bytes.truncate(BATCH_HEADER_BYTES);
                bytes[22] = codec;
                bytes.extend(&packed);
            });
            let read = speed(batch.len(), || drop(ReceivedBatch::read(bytes.clone()).unwrap()));
            let mut scratch = Scratch::default();
            let all = speed(batch.len(), || verify(&bytes, &mut scratch));
            let name = ["none", "gzip", "snappy", "lz4", "zstd"][usize::from(codec)];
            println!("{name:8} {:8} {:8} {read:10.0} {all:10.0}", batch.len(), bytes.len());
        }
    }
}

fn verify(bytes: &Bytes, scratch: &mut Scratch) {
    let received = ReceivedBatch::read(bytes.clone()).unwrap();
    received.verify(&RecordRules::NONE, OutputLimits::SMALL, scratch).unwrap();
}

fn speed(bytes: usize, mut work: impl FnMut()) -> f64 {
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let mut rounds = 0;
    while begin.elapsed() < MEASURE_FOR {
        (0..10).for_each(|_| work());
        rounds += 10;
    }
    (rounds * bytes) as f64 / 1e6 / (cpu_seconds() - cpu)
}

/// Of this thread.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Words in an order that does not repeat.
fn text(bytes: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let letters: Vec<u8> = (0..16_000).map(|_| b'a' + (next() % 26) as u8).collect();
    let mut text = Vec::with_capacity(bytes + 8);
    while text.len() < bytes {
        let word = (next() % 1_900) as usize;
        text.extend_from_slice(&letters[word * 8..][..3 + word % 6]);
        text.push(b' ');
    }
    text.truncate(bytes);
    text
}

fn compressed(codec: u8, plain: &[u8]) -> Vec<u8> {
    match codec {
        1 => {
            let level = flate2::Compression::default();
            let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
            out.write_all(plain).unwrap();
            out.finish().unwrap()
        }
        2 => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        3 => {
            let mut out = lz4_flex::frame::FrameEncoder::new(Vec::new());
            out.write_all(plain).unwrap();
            out.finish().unwrap()
        }
        4 => zstd::encode_all(plain, 3).unwrap(),
        _ => plain.to_vec(),
    }
}
