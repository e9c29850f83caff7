//! Background jobs that rewrite objects, as their outputs are named after them.

use std::fmt;

/// The control plane's number of a job: counted on, and not given twice by one control plane. One that
/// was rolled back gives the numbers after the copy again, to other leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 64 random bits of one lease of a job: a compactor draws them anew whenever it takes one, also of
/// the same job. Two leases, of whatever process and whatever past of the control plane, therefore
/// never write the same key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseNonce(pub u64);

impl fmt::Display for LeaseNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for LeaseNonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseNonce({self})")
    }
}

/// Place of an object among the outputs of its job: 0, 1, 2, …
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobOutput(pub u32);

impl fmt::Display for JobOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
