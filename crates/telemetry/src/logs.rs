//! Logs: set up once by the binary, written through `tracing` everywhere.
//!
//! Logs go to standard error, so that standard output stays for what was asked for. Text is for
//! people (time, level, target, message, fields; the level is coloured on a terminal unless
//! `NO_COLOR` is set), JSON for machines: one object per line. Payloads never appear in logs.
//!
//! Clients can cause lines and choose words in them. So a line never waits for its reader
//! (`queue`), every place in the code has a number of lines per period (`rate`), and values are
//! cut and escaped (`line`). Who writes a log line needs to think of none of that.

mod line;
mod queue;
mod rate;

use std::io::{self, IsTerminal, Write as _};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use self::line::LineFormat;
use self::queue::{LineQueue, LineSink};
use crate::limits::FLUSH_MAX;

static LINES: LineQueue = LineQueue::new();
static IS_SET_UP: AtomicBool = AtomicBool::new(false);

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read; first the filter, then what is wrong.
    #[error("log filter {0:?} is not valid: {1}")]
    Filter(String, String),
    /// Logs were set up before in this process.
    #[error("logs are set up already")]
    Twice,
    /// There is no thread to write them.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
}

/// Whether `filter` can be read, as [`init`] would; without setting anything up.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    parse_filter(filter).map(drop)
}

/// Directs logs to standard error and panics into the logs.
///
/// `filter` is a comma-separated list of levels, for all or by target: `info`,
/// `warn,ottla_broker=debug`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_ansi(colour())
        .with_writer(|| LineSink(&LINES))
        .event_format(LineFormat::new(format))
        .finish();
    subscriber.try_init().map_err(|_| LogError::Twice)?;
    let thread = std::thread::Builder::new().name("log".to_owned());
    thread.spawn(|| LINES.write_to(io::stderr(), tell_dropped)).map_err(LogError::Thread)?;
    IS_SET_UP.store(true, Ordering::Release);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Waits until the lines so far were read, for at most a second: before a process ends.
pub fn flush() {
    LINES.flush(FLUSH_MAX);
}

/// Writes a line of a process that is about to end, behind what is in the log, and waits for both as
/// [`flush`] does.
pub fn last_words(line: &str) {
    if IS_SET_UP.load(Ordering::Acquire) {
        LINES.push_last(format!("{line}\n").as_bytes());
        flush();
    } else {
        // If that fails there is nobody left to tell.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }
}

/// Lines that were dropped because nobody read the log.
pub(crate) fn dropped_lines() -> u64 {
    LINES.dropped()
}

fn tell_dropped(dropped: u64) {
    tracing::warn!(dropped, "log lines were dropped: standard error was not read");
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::try_new(filter).map_err(|e| LogError::Filter(filter.to_owned(), e.to_string()))
}

/// Colour is for terminals, and for those who did not refuse it (<https://no-color.org>).
fn colour() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refused
}

/// A panic is a defect: it is told as an error with its place, and ends only the task it happened
/// in (the runtime catches it there).
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("(no message)");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    tracing::error!(target: "ottla::panic", place, thread, "panic: {message}");
    // The process ends with this thread.
    if thread == "main" {
        flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_cannot_be_read_is_named() {
        assert!(check_filter("warn,ottla_broker=debug").is_ok());
        let error = check_filter("ottla=lou d").unwrap_err().to_string();
        assert!(error.starts_with(r#"log filter "ottla=lou d" is not valid"#), "{error}");
    }
}
