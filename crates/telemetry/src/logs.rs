//! Logs: set up once by the binary, written through `tracing` everywhere.
//!
//! Logs go to standard error, so that standard output stays for what was asked for. Text is for
//! people (time, level, target, message, fields; coloured on a terminal unless `NO_COLOR` is set),
//! JSON for machines: one object per line. Payloads never appear in logs, and lines that
//! clients can cause go through [`RateLimited`](crate::RateLimited).

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

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
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse_filter(filter)?)
        .with_writer(std::io::stderr)
        .with_ansi(colour());
    let set = match format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    set.map_err(|_| LogError::Twice)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
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
