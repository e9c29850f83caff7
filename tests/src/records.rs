//! The records that drivers write, the line by which readers compare them, and the command line
//! that all drivers share.
//!
//! ```text
//! DRIVER produce --bootstrap H:P --topic T --partitions N --count C --seed S --codec X --idempotent true|false
//! DRIVER consume --bootstrap H:P --topic T --partitions N --count C
//! DRIVER group   --bootstrap H:P --topic T --partitions N --count C --group G
//! ```
//!
//! `produce` writes records 0 to C−1 of the seed, record i to partition i mod N. `consume` reads C
//! records from the beginning; `group` subscribes, reads C records, commits exactly these, leaves.
//! Both print one line: `count=… ranges=<partition>:<first>-<end>,… sha256=…`, the hash being over
//! the lines of the records read, by partition and offset.
//!
//! A record is a pure function of seed and index, written again in each driver's language:
//! - key: none for every 13th record, else `k<seed>-<index>`;
//! - value: none for every 97th record that has a key, else 1 + (7·index mod 400) letters, each the top five bits
//!   of the next state of a linear congruential generator that starts at seed·1000003 + index;
//! - headers: none for every 5th record, else `seed` and `index`;
//! - timestamp: 1700000000000 + 1000·seed + 7·index.
//!
//! Its line: partition, offset, timestamp, key or `-`, value or `-`, headers as `a=b,c=d`; separated
//! by tabs.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// One record as drivers write it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestRecord {
    /// The key.
    pub key: Option<String>,
    /// The value.
    pub value: Option<String>,
    /// The headers, in order.
    pub headers: Vec<(String, String)>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
}

impl TestRecord {
    /// Record `index` of `seed`.
    pub fn new(seed: u64, index: u64) -> Self {
        let headers = [("seed", seed), ("index", index)];
        Self {
            key: (!index.is_multiple_of(13)).then(|| format!("k{seed}-{index}")),
            value: (!index.is_multiple_of(97) || index.is_multiple_of(13))
                .then(|| text(seed * 1_000_003 + index, 1 + index * 7 % 400)),
            headers: if index.is_multiple_of(5) {
                Vec::new()
            } else {
                headers
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.to_string()))
                    .collect()
            },
            timestamp: 1_700_000_000_000 + (seed * 1000 + index * 7) as i64,
        }
    }

    /// The line of this record where it was read.
    pub fn line(&self, partition: i32, offset: i64) -> String {
        let headers: Vec<String> = self.headers.iter().map(|(n, v)| format!("{n}={v}")).collect();
        format!(
            "{partition}\t{offset}\t{}\t{}\t{}\t{}\n",
            self.timestamp,
            self.key.as_deref().unwrap_or("-"),
            self.value.as_deref().unwrap_or("-"),
            headers.join(",")
        )
    }
}

/// Letters that follow from a seed.
pub(crate) fn text(mut state: u64, length: u64) -> String {
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(ALPHABET[(state >> 59) as usize])
        })
        .collect()
}

/// Lines by partition and offset.
pub type Lines = BTreeMap<(i32, i64), String>;

/// What a driver says it read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Records read.
    pub count: u64,
    /// Per partition, the first offset read and the one after the last.
    pub ranges: BTreeMap<i32, (i64, i64)>,
    /// Hash of the lines.
    pub sha256: String,
}

impl Report {
    /// The report of a reader of these lines.
    pub fn of(lines: &Lines) -> Self {
        let mut ranges: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
        let mut hash = Sha256::new();
        for (&(partition, offset), line) in lines {
            ranges.entry(partition).or_insert((offset, offset)).1 = offset + 1;
            hash.update(line);
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { count: lines.len() as u64, ranges, sha256 }
    }

    /// Reads the line that a driver printed.
    pub fn parse(output: &str) -> Result<Self> {
        Self::parse_line(output.lines().last().unwrap_or_default())
            .with_context(|| format!("not a report: {output:?}"))
    }

    fn parse_line(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let count = fields.next()?.strip_prefix("count=")?.parse().ok()?;
        let mut ranges = BTreeMap::new();
        for range in fields.next()?.strip_prefix("ranges=")?.split(',').filter(|r| !r.is_empty()) {
            let (partition, offsets) = range.split_once(':')?;
            let (first, end) = offsets.split_once('-')?;
            ranges.insert(partition.parse().ok()?, (first.parse().ok()?, end.parse().ok()?));
        }
        Some(Self { count, ranges, sha256: fields.next()?.strip_prefix("sha256=")?.to_owned() })
    }

    /// The line a driver prints.
    pub fn render(&self) -> String {
        let ranges: Vec<String> =
            self.ranges.iter().map(|(p, (first, end))| format!("{p}:{first}-{end}")).collect();
        format!("count={} ranges={} sha256={}", self.count, ranges.join(","), self.sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_line() {
        let mut lines = Lines::new();
        for index in 0..100 {
            let at = ((index % 3) as i32, (index / 3) as i64);
            lines.insert(at, TestRecord::new(1, index).line(at.0, at.1));
        }
        let report = Report::of(&lines);
        assert_eq!(report.ranges[&0], (0, 34));
        assert_eq!(Report::parse(&report.render()).unwrap(), report);
    }
}
