//! `ottla`: the server and the operations command line in one binary.
//!
//! The node itself is the library beside it; [`run`] runs one for as long as the process lives.
//! Everything else here is small: settings shown and checked, tables printed.
//!
//! Standard output is for what was asked for, standard error for logs and complaints. A command
//! that fails says so in one line and with its exit code ([`exit`]).

mod cli;
mod commands;
mod exit;
mod fsck;
mod output;
mod pages;
mod run;

use std::process::ExitCode;

use clap::Parser;

/// jemalloc, for two reasons. A count that a client claims can make a decoder reserve terabytes:
/// here the reservation is address space that is never touched and decoding goes on to find the
/// bytes missing, where the system's allocator would abort the process. And its background threads
/// give the memory of a burst back while the process is idle.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match commands::run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
