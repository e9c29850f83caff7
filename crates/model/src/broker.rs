//! Who speaks: cluster, broker, and the run of a broker.

use std::fmt;

/// A cluster's identity: 128 random bits made at its first start, shown in base 64 without padding
/// as Kafka shows its cluster ids (22 characters, URL-safe alphabet).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits are 21 full sextets and 2 bits, which the last character carries on its left.
        for i in 0..22u32 {
            let sextet = if i < 21 { (self.0 >> (122 - 6 * i)) & 63 } else { (self.0 << 4) & 63 };
            write!(f, "{}", BASE64_URL[sextet as usize] as char)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// A broker's id as clients see it (Kafka's node id). Never negative in a registered broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One registration of a broker id. Grows with every registration in the cluster and is never
/// given twice, so the highest of an id is its living run and all others are fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerEpoch(pub u64);

impl fmt::Display for BrokerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 64 random bits of a process start. They are part of every object key, so that even a control
/// plane that was rolled back can never cause an object to be overwritten.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessNonce(pub u64);

impl fmt::Display for ProcessNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ProcessNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessNonce({self})")
    }
}

/// The author of a command: a broker and the registration it speaks for (I-FENCE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerAuthor {
    /// The broker.
    pub broker: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
}

/// The name of an availability zone, as the operator gives it. Empty when none was given.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Az(pub String);

impl fmt::Display for Az {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_id_is_shown_in_url_safe_base64_of_22_characters() {
        assert_eq!(ClusterId(0).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(ClusterId(u128::MAX).to_string(), "_____________________w");
        assert_eq!(ClusterId(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    }
}
