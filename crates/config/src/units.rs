//! Sizes and durations as people write them.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// As a size in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Units of sizes, the larger binary ones first: that order is also how a size is shown.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

/// Units of durations in nanoseconds, the larger first.
const TIME_UNITS: &[(&str, u64)] = &[
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// The longest duration there is; written out because it is no number of units.
const FOREVER: &str = "forever";

/// `8MiB`, `64 KiB`, `1GB`, `100B`, or a bare number of bytes.
pub(crate) fn parse_size(text: &str) -> Option<ByteSize> {
    if let Ok(bytes) = text.parse() {
        return Some(ByteSize(bytes));
    }
    let (number, unit) = split_unit(text)?;
    let (_, factor) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.checked_mul(*factor).map(ByteSize)
}

/// `250ms`, `10s`, `7d`, `forever`, or a bare `0`.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    match text {
        FOREVER => return Some(Duration::MAX),
        "0" => return Some(Duration::ZERO),
        _ => {}
    }
    let (number, unit) = split_unit(text)?;
    let (_, nanos) = TIME_UNITS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*nanos).map(Duration::from_nanos)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start_matches(' ')))
}

impl fmt::Display for ByteSize {
    /// In the largest binary unit that divides it: `8MiB`, `1000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = SIZE_UNITS.iter().filter(|(_, factor)| factor.is_power_of_two());
        let whole = |factor: u64| self.0 >= factor && self.0.is_multiple_of(factor);
        match binary.into_iter().find(|(_, factor)| whole(*factor)) {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// In the largest unit that divides it: `250ms`, `90s`, `7d`.
pub(crate) fn show_duration(duration: Duration) -> String {
    if duration == Duration::MAX {
        return FOREVER.to_owned();
    }
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let whole = |factor: u64| nanos >= factor && nanos.is_multiple_of(factor);
    match TIME_UNITS.iter().find(|(_, factor)| whole(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", nanos / factor),
        None => format!("{}us", nanos / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_known_unit_or_none() {
        for (text, bytes) in [
            ("8MiB", 8 << 20),
            ("64 KiB", 64 << 10),
            ("1gb", 1_000_000_000),
            ("512", 512),
            ("7B", 7),
        ] {
            assert_eq!(parse_size(text), Some(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "8M", "8 MiBs", "-1", "1.5GiB", "99999999TiB", "8é"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, millis) in [("250ms", 250), ("10s", 10_000), ("2m", 120_000), ("0", 0)] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_duration("forever"), Some(Duration::MAX));
        for text in ["", "250", "ms", "1y", "1 S", "-1s", "999999999999d"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for bytes in [0, 1, 1000, 1024, 8 << 20, (1 << 30) + 1, u64::MAX] {
            assert_eq!(parse_size(&ByteSize(bytes).to_string()), Some(ByteSize(bytes)));
        }
        for micros in [0, 1, 250_000, 90_000_000, 604_800_000_000] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&show_duration(duration)), Some(duration));
        }
        assert_eq!(show_duration(Duration::MAX), "forever");
    }
}
