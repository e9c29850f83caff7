//! Flags of the command line, already taken apart by it.

use crate::layers::{Entry, Origin};
use crate::settings::settings;
use crate::value::Raw;

/// Turns flags into entries.
///
/// # Panics
/// On a flag that no setting names: the command line's definition and ours are held together by a
/// test.
pub fn read(flags: Vec<(&'static str, String)>, entries: &mut Vec<Entry>) {
    for (flag, value) in flags {
        let setting = settings()
            .find(|setting| setting.flag == Some(flag))
            .expect("every flag belongs to a setting, as a test of the command line makes sure");
        entries.push(Entry { setting, origin: Origin::Flag(flag), value: Raw::Text(value) });
    }
}
