//! Counts of the operating system and the allocator for this process, read at every scrape.
//!
//! Names and meanings of what is in `/proc` are those that Prometheus' client libraries share. On
//! systems without it the values stay 0, as do the allocator's in a program that has another one.

use std::fs;
use std::time::Duration;

use tikv_jemalloc_ctl::{epoch, stats};

use super::define::group;
use super::handle::{Counter, Gauge, GaugeVec, SecondsCounter};
use crate::logs;

/// `USER_HZ`: the unit of times in `/proc/<pid>/stat`. Fixed at 100 by the kernel's ABI on every
/// architecture we build for.
const TICKS_PER_SECOND: u64 = 100;

/// Unit of the sizes in `/proc/self/status`.
const STATUS_KIB: u64 = 1024;

group! {
    /// What the operating system counts for this process.
    pub struct ProcessMetrics {
        /// Resident memory.
        resident_memory: Gauge = "process_resident_memory_bytes";
        /// Address space.
        virtual_memory: Gauge = "process_virtual_memory_bytes";
        /// User and system CPU time spent.
        cpu: SecondsCounter = "process_cpu_seconds_total";
        /// Open file descriptors.
        open_fds: Gauge = "process_open_fds";
        /// The most file descriptors that may be open.
        max_fds: Gauge = "process_max_fds";
        /// Threads of the process.
        threads: Gauge = "process_threads";
        /// Start of the process, in seconds since 1970.
        start_time: Gauge = "process_start_time_seconds";
        /// Bytes of the allocator, by kind: allocated (asked for by the program, rounded up to the
        /// allocator's sizes), active (pages with something allocated in them; the difference is
        /// fragmentation), resident (those and freed pages that are kept for a while), retained
        /// (address space only).
        allocator: GaugeVec<1> = "ottla_allocator_bytes", labels ["kind"];
        /// Log lines that were dropped because standard error was not read.
        log_lines_dropped: Counter = "ottla_log_lines_dropped_total";
        /// Always 1; the labels say which build this is.
        build_info: GaugeVec<1> = "ottla_build_info", labels ["version"];
    }
}

impl ProcessMetrics {
    /// Takes the current values over. A value that cannot be read keeps what it was.
    pub(super) fn refresh(&self) {
        self.refresh_allocator();
        let dropped = logs::dropped_lines();
        self.log_lines_dropped.add(dropped.saturating_sub(self.log_lines_dropped.get()));
        self.build_info.with([env!("CARGO_PKG_VERSION")]).set(1);
        if let Some(stat) =
            fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(parse_stat)
        {
            self.cpu.advance_to(stat.cpu);
            set(&self.threads, stat.threads);
            if let Some(booted) = boot_time() {
                set(&self.start_time, booted + stat.started_after_boot.as_secs());
            }
        }
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            if let Some(kib) = field_kib(&status, "VmRSS:") {
                set(&self.resident_memory, kib * STATUS_KIB);
            }
            if let Some(kib) = field_kib(&status, "VmSize:") {
                set(&self.virtual_memory, kib * STATUS_KIB);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            set(&self.open_fds, entries.count() as u64);
        }
        if let Some(max) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(max_fds)
        {
            set(&self.max_fds, max);
        }
    }
}

impl ProcessMetrics {
    fn refresh_allocator(&self) {
        // The allocator's figures are of one moment, taken by this.
        if epoch::advance().is_err() {
            return;
        }
        let kinds = [
            ("allocated", stats::allocated::read()),
            ("active", stats::active::read()),
            ("resident", stats::resident::read()),
            ("retained", stats::retained::read()),
        ];
        for (kind, bytes) in kinds {
            if let Ok(bytes) = bytes {
                self.allocator.with([kind]).set_bytes(bytes);
            }
        }
    }
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu: Duration,
    threads: u64,
    started_after_boot: Duration,
}

/// Reads `/proc/<pid>/stat`, see proc_pid_stat(5). The command's name may hold spaces and
/// brackets, so fields are counted from its last bracket: what follows is field 3.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let field = |number: usize| -> Option<u64> {
        after_name.split_ascii_whitespace().nth(number - 3)?.parse().ok()
    };
    let ticks = |n: u64| Duration::from_millis(n * 1000 / TICKS_PER_SECOND);
    Some(Stat {
        cpu: ticks(field(14)? + field(15)?),
        threads: field(20)?,
        started_after_boot: ticks(field(22)?),
    })
}

/// When the machine was booted, in seconds since 1970.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn field_kib(status: &str, name: &str) -> Option<u64> {
    let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn max_fds(limits: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_a_name_with_brackets_and_spaces() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 7 0 12345 1 1";
        let read = parse_stat(stat).unwrap();
        assert_eq!(read.cpu, Duration::from_secs(3));
        assert_eq!(read.threads, 7);
        assert_eq!(read.started_after_boot, Duration::from_millis(123_450));
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn sizes_and_limits_are_found_by_name() {
        assert_eq!(field_kib("VmSize:\t  10 kB\nVmRSS:\t    7 kB\n", "VmRSS:"), Some(7));
        let limits = "Max open files            1024                 524288               files";
        assert_eq!(max_fds(limits), Some(1024));
        assert_eq!(max_fds("Max open files unlimited unlimited files"), None);
    }
}
