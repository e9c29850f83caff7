//! What the nodes in this process have logged: warnings and errors, of all tests together.

use std::io::{self, Write};
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::filter::LevelFilter;

static KEPT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Keeper;

impl Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        KEPT.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// From now on what is logged is kept.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let keeper = tracing_subscriber::fmt().with_max_level(LevelFilter::WARN).with_ansi(false);
        keeper.with_writer(|| Keeper).init();
    });
}

/// How many lines contain all of this.
pub fn lines_with(parts: &[&str]) -> usize {
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = String::from_utf8_lossy(&kept);
    kept.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
}
