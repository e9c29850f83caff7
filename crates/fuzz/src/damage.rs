//! How bytes are damaged.

use ottla_env::Random;

/// The longest input: short enough to be shown whole. The longest example has a quarter of it.
const LENGTH_MAX: usize = 16 << 10;

/// Numbers that lie at an edge of something, as varints and in both byte orders.
const EDGES: [&[u8]; 10] = [
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0x7f],
    &[0x80, 0, 0, 0],
    &[0, 0, 0, 0x80],
    &[0xff, 0x7f],
    &[0x7f, 0xff],
    &[0xff; 10],
    &[0; 8],
];

/// A number below `bound`; 0 when there is none.
pub fn below(random: &Random, bound: usize) -> usize {
    random.below(bound as u64) as usize
}

/// One of `items`; `None` when there is none.
pub fn one<'a, T>(random: &Random, items: &'a [T]) -> Option<&'a T> {
    items.get(below(random, items.len()))
}

/// Damages `bytes` in one to four places; `other` is something of its kind.
pub fn damage(random: &Random, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=below(random, 4) {
        once(random, bytes, other);
    }
    bytes.truncate(LENGTH_MAX);
}

fn once(random: &Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let length = bytes.len();
    let at = below(random, length);
    let upto = |part: usize| at..length.min(at + part);
    match below(random, 8) {
        0 => bytes.truncate(at),
        1 => bytes[upto(1)].iter_mut().for_each(|byte| *byte ^= 1 << below(random, 8)),
        2 => bytes[upto(1)].iter_mut().for_each(|byte| *byte = random.u64() as u8),
        3 => {
            let edge = EDGES[below(random, EDGES.len())];
            bytes.splice(upto(edge.len()), edge.iter().copied());
        }
        4 => {
            let inserted = random.u128().to_le_bytes();
            bytes.splice(at..at, inserted.into_iter().take(1 + below(random, 16)));
        }
        5 => drop(bytes.drain(upto(below(random, 16)))),
        // A part of it twice.
        6 => {
            let part = bytes[upto(below(random, 64))].to_vec();
            bytes.splice(at..at, part);
        }
        // The end of the other.
        _ => {
            bytes.truncate(at);
            bytes.extend(&other[below(random, other.len())..]);
        }
    }
}
