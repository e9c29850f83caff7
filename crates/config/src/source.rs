//! The content of each layer, turned into entries for known settings and complaints about others.

pub mod environment;
pub mod file;
pub mod flags;

use std::fs;
use std::path::Path;

use crate::SettingInfo;
use crate::error::ConfigError;
use crate::layers::{Entry, Origin};
use crate::settings::{section_names, settings};
use crate::value::Raw;

/// Appended to a secret's key, it makes the value the name of a file that holds the secret.
const FILE_SUFFIX: &str = "_file";

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be suggested for the other.
const ALIKE_MIN: f64 = 0.75;

/// Adds the entry for `section.key`, or a complaint.
fn add(
    (section, key): (&str, &str),
    origin: Origin,
    value: Raw,
    entries: &mut Vec<Entry>,
    errors: &mut Vec<ConfigError>,
) {
    let find = |key: &str| settings().find(|s| s.section == section && s.key == key);
    if let Some(setting) = find(key) {
        entries.push(Entry { setting, origin, value });
        return;
    }
    let secret = key.strip_suffix(FILE_SUFFIX).and_then(find).filter(|setting| setting.secret);
    let Some(setting) = secret else {
        let name = format!("{section}.{key}");
        let nearest = nearest(section, key);
        errors.push(ConfigError::Unknown { origin, name, nearest });
        return;
    };
    match read_secret(&value) {
        Ok(value) => entries.push(Entry { setting, origin, value }),
        Err(problem) => errors.push(invalid(setting, origin, problem)),
    }
}

fn invalid(setting: &SettingInfo, origin: Origin, problem: String) -> ConfigError {
    ConfigError::Invalid { origin, name: setting.name(), problem }
}

/// The text of the named file, without the line end that editors leave.
fn read_secret(value: &Raw) -> Result<Raw, String> {
    let path = value.text();
    let text = fs::read_to_string(Path::new(&path))
        .map_err(|e| format!("the secret's file {path:?} cannot be read: {e}"))?;
    Ok(Raw::Text(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// The setting whose name is most like this one: in the section if that exists, else anywhere.
fn nearest(section: &str, key: &str) -> Option<String> {
    let known = section_names().any(|name| name == section);
    let likeness = |setting: &SettingInfo| {
        let keys = strsim::jaro_winkler(setting.key, key);
        if known && setting.section == section {
            keys
        } else {
            // A right key in a wrong section, or both a little wrong.
            (keys + strsim::jaro_winkler(setting.section, section)) / 2.0
        }
    };
    settings()
        .map(|setting| (likeness(setting), setting))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness >= ALIKE_MIN)
        .map(|(_, setting)| setting.name())
}

/// The section whose name is most like this one, or the setting with this key.
fn nearest_section(name: &str) -> Option<String> {
    if let Some(setting) = settings().find(|setting| setting.key == name) {
        return Some(setting.name());
    }
    section_names()
        .map(|section| (strsim::jaro_winkler(section, name), section))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .filter(|(likeness, _)| *likeness >= ALIKE_MIN)
        .map(|(_, section)| section.to_owned())
}
