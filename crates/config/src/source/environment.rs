//! Environment variables named `OTTLA__SECTION__KEY`.

use std::ffi::OsString;

use super::add;
use crate::error::ConfigError;
use crate::layers::{Entry, Origin};
use crate::value::Raw;

/// Begins every variable that is a setting. A single underscore after the name is left to others:
/// container platforms set `OTTLA_SERVICE_HOST` and the like by themselves.
const PREFIX: &str = "OTTLA__";

/// Reads the variables.
pub fn read(
    variables: Vec<(OsString, OsString)>,
    entries: &mut Vec<Entry>,
    errors: &mut Vec<ConfigError>,
) {
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(path) = name.strip_prefix(PREFIX) else { continue };
        let origin = Origin::Environment(name.to_owned());
        let path = path.to_ascii_lowercase();
        let (section, key) = path.split_once("__").unwrap_or((&path, ""));
        match value.into_string() {
            Ok(text) => add((section, key), origin, Raw::Text(text), entries, errors),
            Err(_) => errors.push(ConfigError::Invalid {
                origin,
                name: format!("{section}.{key}"),
                problem: "the value is not UTF-8 text".to_owned(),
            }),
        }
    }
}
