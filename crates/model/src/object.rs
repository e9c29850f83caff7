//! Identities of objects in the bucket.

use std::fmt;

use crate::{BrokerAuthor, BrokerEpoch, BrokerId, JobId, JobOutput, LeaseNonce, ProcessNonce};

/// Position of an object in its writer's seal order: 0, 1, 2, … per broker epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectSeq(pub u64);

impl ObjectSeq {
    /// The sequence after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ObjectSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of an upload of one object: first try, retries and hedges count up from 0, and each
/// writes its own key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who made an object, and as which one. All attempts to upload it share this, and their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectOrigin {
    /// A WAL object: a buffer that a broker sealed.
    Wal {
        /// The writer and its registration.
        author: BrokerAuthor,
        /// The writer's process start.
        nonce: ProcessNonce,
        /// Place in the writer's seal order.
        seq: ObjectSeq,
    },
    /// A merged object: an output of a merge job.
    Merged {
        /// The job.
        job: JobId,
        /// The lease under which it was written.
        nonce: LeaseNonce,
        /// Place among the job's outputs.
        output: JobOutput,
    },
}

impl fmt::Display for ObjectOrigin {
    /// `<broker>-<broker epoch>-<nonce>-<seq>` or `job<job>-<nonce>-<output>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal { author: BrokerAuthor { broker, epoch }, nonce, seq } => {
                write!(f, "{broker}-{epoch}-{nonce}-{seq}")
            }
            Self::Merged { job, nonce, output } => write!(f, "{JOB}{job}-{nonce}-{output}"),
        }
    }
}

/// The identity of an object in the bucket: everything that makes its key. No two uploads of a
/// cluster's whole life share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Who made it, and as which one.
    pub origin: ObjectOrigin,
    /// The upload that was verified.
    pub attempt: Attempt,
}

impl fmt::Display for ObjectName {
    /// The origin, a dot and the attempt: the last component of the object's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.origin, self.attempt)
    }
}

/// The first characters of a merged object's shown origin; that of a WAL object begins with a number.
const JOB: &str = "job";

impl ObjectName {
    /// The name of an upload of a WAL object.
    pub fn wal(
        author: BrokerAuthor,
        nonce: ProcessNonce,
        seq: ObjectSeq,
        attempt: Attempt,
    ) -> Self {
        Self { origin: ObjectOrigin::Wal { author, nonce, seq }, attempt }
    }

    /// The name of an upload of a merged object.
    pub fn merged(job: JobId, nonce: LeaseNonce, output: JobOutput, attempt: Attempt) -> Self {
        Self { origin: ObjectOrigin::Merged { job, nonce, output }, attempt }
    }

    /// The name that is shown as `text`; `None` when no name is.
    pub fn parse(text: &str) -> Option<Self> {
        let (origin, attempt) = text.split_once('.')?;
        let origin = match origin.strip_prefix(JOB) {
            Some(merged) => parse_merged(merged)?,
            None => parse_wal(origin)?,
        };
        let name = Self { origin, attempt: Attempt(attempt.parse().ok()?) };
        (name.to_string() == text).then_some(name)
    }
}

fn parse_wal(text: &str) -> Option<ObjectOrigin> {
    let mut parts = text.split('-');
    let broker = BrokerId(parts.next()?.parse().ok()?);
    let epoch = BrokerEpoch(parts.next()?.parse().ok()?);
    let nonce = ProcessNonce(u64::from_str_radix(parts.next()?, 16).ok()?);
    let seq = ObjectSeq(parts.next()?.parse().ok()?);
    Some(ObjectOrigin::Wal { author: BrokerAuthor { broker, epoch }, nonce, seq })
}

fn parse_merged(text: &str) -> Option<ObjectOrigin> {
    let mut parts = text.split('-');
    let job = JobId(parts.next()?.parse().ok()?);
    let nonce = LeaseNonce(u64::from_str_radix(parts.next()?, 16).ok()?);
    let output = JobOutput(parts.next()?.parse().ok()?);
    Some(ObjectOrigin::Merged { job, nonce, output })
}

/// The control plane's number of a committed object: dense, in commit order, never reused. Extents
/// name their object by it; the key is looked up once per object, not stored once per extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId(pub u64);

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wal() -> ObjectName {
        let author = BrokerAuthor { broker: BrokerId(3), epoch: BrokerEpoch(u64::MAX) };
        ObjectName::wal(author, ProcessNonce(0xabc), ObjectSeq(4), Attempt(2))
    }

    fn merged() -> ObjectName {
        ObjectName::merged(JobId(41), LeaseNonce(0xabc), JobOutput(4), Attempt(2))
    }

    #[test]
    fn a_name_shows_all_that_it_is_made_of() {
        assert_eq!(wal().to_string(), "3-18446744073709551615-0000000000000abc-4.2");
        assert_eq!(merged().to_string(), "job41-0000000000000abc-4.2");
    }

    #[test]
    fn a_name_is_read_as_it_is_shown_and_nothing_else_is() {
        for name in [wal(), merged()] {
            let shown = name.to_string();
            assert_eq!(ObjectName::parse(&shown), Some(name));
            for other in [shown.replace('4', "+4"), format!("{shown}-1"), shown.replace("000", "")]
            {
                assert_eq!(ObjectName::parse(&other), None, "{other:?}");
            }
        }
        let others = [
            "",
            ".",
            "3-7-abc-4.2",
            "03-7-0000000000000abc-4.2",
            "3-7-0000000000000abc-4",
            "job",
            "job.0",
            "job3-7-0000000000000abc-4.2",
            "41-0000000000000abc-4.2",
            "JOB41-0000000000000abc-4.2",
        ];
        for other in others {
            assert_eq!(ObjectName::parse(other), None, "{other:?}");
        }
    }
}
