//! What is counted and printed.

use std::fmt;
use std::time::Duration;

/// Counts of a round, or of all rounds.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Rounds.
    pub rounds: u64,
    /// `kill -9` of the server.
    pub kills: u64,
    /// Times it was stopped and continued.
    pub freezes: u64,
    /// SIGTERM and start.
    pub restarts: u64,
    /// Starts that ended by themselves.
    pub refused_starts: u64,
    /// Store requests that something happened to.
    pub store_faults: u64,
    /// Times the store was away as a whole.
    pub outages: u64,
    /// Topics deleted and created again.
    pub rebirths: u64,
    /// Records acknowledged to producers.
    pub acknowledged: u64,
    /// Records sent without an answer.
    pub unknown: u64,
    /// Records read and compared.
    pub read: u64,
    /// Commits of group members that were acknowledged.
    pub commits: u64,
    /// Objects that `fsck` found in place.
    pub objects: u64,
    /// Anomalies and complaints.
    pub anomalies: u64,
    /// The slowest start in fair weather.
    pub ready_max: Duration,
    /// The most resident memory, in bytes.
    pub resident_max: u64,
    /// The most open descriptors.
    pub descriptors_max: u64,
}

impl Counts {
    /// Adds a round's.
    pub fn add(&mut self, round: &Self) {
        self.rounds += round.rounds;
        self.kills += round.kills;
        self.freezes += round.freezes;
        self.restarts += round.restarts;
        self.refused_starts += round.refused_starts;
        self.store_faults += round.store_faults;
        self.outages += round.outages;
        self.rebirths += round.rebirths;
        self.acknowledged += round.acknowledged;
        self.unknown += round.unknown;
        self.read += round.read;
        self.commits += round.commits;
        self.objects += round.objects;
        self.anomalies += round.anomalies;
        self.ready_max = self.ready_max.max(round.ready_max);
        self.resident_max = self.resident_max.max(round.resident_max);
        self.descriptors_max = self.descriptors_max.max(round.descriptors_max);
    }
}

impl fmt::Display for Counts {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills {:>2}  freezes {:>2}  restarts {:>2}  outages {:>2}  store faults {:>4}  \
             acknowledged {:>6}  read {:>7}  ready {:.2} s  {:>3} MiB  anomalies {}",
            self.kills,
            self.freezes,
            self.restarts,
            self.outages,
            self.store_faults,
            self.acknowledged,
            self.read,
            self.ready_max.as_secs_f64(),
            self.resident_max >> 20,
            self.anomalies,
        )
    }
}

/// The closing table.
pub fn table(all: &Counts) -> String {
    let rows = [
        ("rounds", all.rounds.to_string()),
        ("kill -9", all.kills.to_string()),
        ("freezes", all.freezes.to_string()),
        ("restarts (SIGTERM)", all.restarts.to_string()),
        ("starts refused while the store was away", all.refused_starts.to_string()),
        ("store outages", all.outages.to_string()),
        ("store requests with a fault", all.store_faults.to_string()),
        ("topics deleted and created again", all.rebirths.to_string()),
        ("records acknowledged", all.acknowledged.to_string()),
        ("records without an answer", all.unknown.to_string()),
        ("records read and compared", all.read.to_string()),
        ("commits acknowledged", all.commits.to_string()),
        ("objects verified by fsck", all.objects.to_string()),
        ("slowest start, store well", format!("{:.2} s", all.ready_max.as_secs_f64())),
        ("most memory", format!("{} MiB", all.resident_max >> 20)),
        ("most descriptors", all.descriptors_max.to_string()),
        ("anomalies", all.anomalies.to_string()),
    ];
    rows.iter().map(|(name, value)| format!("{name:<40} {value:>12}\n")).collect()
}
