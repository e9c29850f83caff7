//! How many files and sockets the process may open, and what happens when there are no more.

use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

/// How long an open file is waited for. A request that took the last one and returns it does so
/// within its time-out. After that nothing will, and only a restart frees files.
const FILE_WAIT_MAX: Duration = Duration::from_secs(30);

/// The pause between two attempts: short beside the wait of an acknowledgement, long beside a call.
const FILE_PAUSE: Duration = Duration::from_millis(20);

/// Raises the soft limit on open files to the hard one and returns what holds then; `None`: no
/// limit. Many systems give a process 1,024 unless it asks.
pub fn raise_open_files_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        // The limit from before still holds.
        Err(_) => current,
    }
}

/// Whether the process, or the machine, has no file descriptor left. Nothing was done then.
pub fn is_out_of_files(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    errno == Some(Errno::MFILE.raw_os_error()) || errno == Some(Errno::NFILE.raw_os_error())
}

/// Opens something, and waits for a free file descriptor when there is none: that is load, and no
/// damage. Blocks, for at most half a minute. `open` must do nothing when it fails.
///
/// # Errors
/// Any other error at once, and the want of descriptors when it does not end.
pub fn open_patiently<T>(mut open: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + FILE_WAIT_MAX;
    loop {
        match open() {
            Err(error) if is_out_of_files(&error) && Instant::now() < deadline => pause(),
            done => return done,
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the door; nobody tells when a file is closed"
)]
fn pause() {
    std::thread::sleep(FILE_PAUSE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_of_descriptors_is_waited_out_and_other_errors_are_not() {
        let mut errors = vec![Errno::NFILE, Errno::MFILE];
        let opened = open_patiently(|| match errors.pop() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno.raw_os_error())),
            None => Ok("open"),
        });
        assert_eq!(opened.unwrap(), "open");
        let mut calls = 0;
        let refused = open_patiently(|| -> io::Result<()> {
            calls += 1;
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert_eq!((refused.unwrap_err().kind(), calls), (io::ErrorKind::PermissionDenied, 1));
    }
}
