//! Upper bounds of histograms. Few and fixed, so that quantiles of different metrics compare.

/// Anything that waits for an object store: 1 ms … 10 s, dense around the usual latencies of a PUT
/// (20 ms … 1 s).
pub const STORE_SECONDS: &[f64] = &[
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.35, 0.5, 0.75, 1.0, 2.5,
    5.0, 10.0,
];

/// The stages of a produce, of which some wait for an object store and some for this machine alone:
/// 200 µs … 10 s, dense where a budget of 10 ms is spent.
pub const STAGE_SECONDS: &[f64] = &[
    0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1,
    0.15, 0.25, 0.35, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0,
];

/// Work of this machine alone (apply, fsync, planning): 20 µs … 1 s.
pub const LOCAL_SECONDS: &[f64] = &[
    0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25,
    0.5, 1.0,
];

/// Sizes of objects, requests and answers: 1 KiB … 64 MiB in steps of four.
pub const BYTES: &[f64] = &[
    1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 8388608.0, 16777216.0,
    67108864.0,
];

/// Numbers of things in one thing: batches of an object, entries of a sync.
pub const COUNT: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0];
