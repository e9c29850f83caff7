//! How a command ends: 0 done, 1 failed, 2 wrong usage.

use std::fmt;
use std::process::ExitCode;

use ottla_config::ConfigErrors;

use crate::output;

/// Why a command did not do what it was asked; the text is for people, one line per complaint.
#[derive(Debug)]
pub struct Failure {
    text: String,
    usage: bool,
}

impl Failure {
    /// It tried and failed.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { text: reason.to_string(), usage: false }
    }

    /// Says why on standard error and gives the exit code.
    pub fn report(self) -> ExitCode {
        for line in self.text.lines() {
            output::complain(&format!("ottla: {line}"));
        }
        ExitCode::from(if self.usage { 2 } else { 1 })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        // The whole chain on one line, whatever line ends the causes have.
        Self::new(format!("{error:#}").replace('\n', " "))
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self { text: errors.to_string(), usage: errors.is_usage() }
    }
}
