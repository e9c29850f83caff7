//! The machine that figures come from, and where its programs are.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

/// Processors, memory, system and file system.
pub fn description() -> String {
    let processors = std::thread::available_parallelism().map_or(0, |n| n.get());
    let model = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned());
    let memory = line_of("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .unwrap_or(0.0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "Machine: {processors} processors ({model}), {:.0} GiB of memory, Linux {}, {}; clients and \
         servers share it.",
        memory / (1 << 20) as f64,
        kernel.trim(),
        file_system()
    )
}

fn line_of(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that the servers' files are in.
fn file_system() -> String {
    let path = ottla_tests::root();
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let kinds = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (folder, kind) = (fields.next()?, fields.next()?);
        path.starts_with(folder).then_some((folder.len(), kind))
    });
    kinds.max().map_or_else(|| "unknown file system".to_owned(), |(_, kind)| kind.to_owned())
}

/// A program that cargo built into the folder of this one.
pub fn beside_this_program(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("").join(name);
    ensure!(program.exists(), "{} is missing: make bench builds it", program.display());
    Ok(program)
}
