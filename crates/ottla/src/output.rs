//! Standard output and error. A reader that went away (`ottla … | head`) is no failure, and a server
//! waits for none.

use std::io::{self, ErrorKind, Write};
use std::thread;

use ottla_telemetry::logs;

use crate::exit::Failure;

/// Writes what was asked for.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes what is for people to read, from a thread of its own: a server goes on when nobody reads.
pub fn print_beside(text: String) {
    let printing = thread::Builder::new().name("banner".to_owned()).spawn(move || {
        if let Err(failure) = print(&text) {
            tracing::warn!(%failure, "the banner is not printed");
        }
    });
    if let Err(error) = printing {
        tracing::warn!(%error, "the banner is not printed");
    }
}

/// Writes one line to standard error, before the process ends.
pub fn complain(line: &str) {
    logs::last_words(line);
}
