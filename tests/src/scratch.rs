//! The folder of one test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Lines of each log that are shown when a test fails.
const SHOWN_LINES: usize = 60;

/// A fresh folder below `target/e2e`. [`Scratch::done`] removes it; dropped without, it stays, and
/// the end of every `*.log` in it is printed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
    shown: bool,
}

impl Scratch {
    /// A folder named after the test.
    pub fn new(test: &str) -> Result<Self> {
        let path = crate::root().join("target/e2e").join(format!("{test}-{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, keep: true, shown: true })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The test passed.
    pub fn done(mut self) {
        self.keep = false;
    }

    /// The folder stays, and nobody needs to be shown its logs.
    pub fn leave(mut self) {
        self.shown = false;
    }
}

impl Drop for Scratch {
    #[allow(clippy::print_stderr, reason = "a failing test shows its logs")]
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
            return;
        }
        if !self.shown {
            return;
        }
        eprintln!("\nfiles of the failed test: {}", self.path.display());
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                eprintln!("--- {}", path.display());
                eprintln!("{}", last_lines(&path));
            }
        }
    }
}

fn last_lines(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
