//! Golden files: what released versions wrote. Tests compare with them and never change one.
//!
//! A file that is not there yet is written by `OTTLA_WRITE_GOLDEN=1 cargo test -p ottla-format golden`.

use std::fs;
use std::path::Path;

/// Compares bytes that this build writes with those of a golden file.
///
/// # Panics
/// When they differ, or the file is not there and was not asked for.
pub(crate) fn check(name: &str, written: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if !path.exists() && std::env::var_os("OTTLA_WRITE_GOLDEN").is_some() {
        fs::write(&path, written).unwrap();
    }
    let golden = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert!(written == golden, "{name} is not what this build writes: {written:02x?}");
}
