//! Layers: which value wins, and where it came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::SettingInfo;
use crate::error::{ConfigError, ConfigErrors};
use crate::settings::{Config, settings};
use crate::source;
use crate::value::{Raw, Value};

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody.
    Default,
    /// A settings file.
    File(PathBuf),
    /// An environment variable, by its name.
    Environment(String),
    /// A flag, without dashes.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "config file {}", path.display()),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag --{flag}"),
        }
    }
}

/// Where settings come from, beside the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The settings file, if any.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not begin with `OTTLA__` are passed over.
    pub environment: Vec<(OsString, OsString)>,
    /// Flags that were given, without dashes, with their values.
    pub flags: Vec<(&'static str, String)>,
}

/// Settings with their origins.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Every setting, in the order of the definitions.
    pub shown: Vec<ShownSetting>,
}

/// A setting as it is in force.
#[derive(Clone, Debug)]
pub struct ShownSetting {
    /// Which one.
    pub setting: &'static SettingInfo,
    /// Who set it.
    pub origin: Origin,
    pub(crate) value: Raw,
}

impl ShownSetting {
    /// The value as it would be written; secrets masked, empty for "not set".
    pub fn value(&self) -> String {
        self.value.text()
    }
}

/// One value of one layer.
pub(crate) struct Entry {
    pub setting: &'static SettingInfo,
    pub origin: Origin,
    pub value: Raw,
}

impl Sources {
    /// Reads all layers and checks every value.
    ///
    /// # Errors
    /// All complaints together.
    pub fn load(self) -> Result<Loaded, ConfigErrors> {
        let mut errors = Vec::new();
        let mut entries = Vec::new();
        if let Some(path) = self.file {
            source::file::read(&path, &mut entries, &mut errors);
        }
        source::environment::read(self.environment, &mut entries, &mut errors);
        source::flags::read(self.flags, &mut entries);

        // Later entries replace earlier ones: that is the order of the layers.
        let mut merged = BTreeMap::new();
        for entry in entries {
            merged.insert((entry.setting.section, entry.setting.key), entry);
        }
        let mut reader = Reader { merged, errors: &mut errors, shown: Vec::new() };
        let config = Config::read(&mut reader);
        let shown = reader.shown;
        debug_assert_eq!(shown.len(), settings().count());
        if errors.is_empty() { Ok(Loaded { config, shown }) } else { Err(ConfigErrors(errors)) }
    }
}

/// Hands the merged values out, typed.
pub(crate) struct Reader<'a> {
    merged: BTreeMap<(&'static str, &'static str), Entry>,
    errors: &'a mut Vec<ConfigError>,
    shown: Vec<ShownSetting>,
}

impl Reader<'_> {
    /// The value in force; the default after a complaint, so that reading can go on.
    pub fn read<T: Value>(&mut self, setting: &'static SettingInfo) -> T {
        let mut origin = Origin::Default;
        let mut value = None;
        if let Some(entry) = self.merged.remove(&(setting.section, setting.key)) {
            value = T::parse(&entry.value);
            if value.is_none() {
                self.complain(setting, &entry.origin, not_expected::<T>(&entry.value));
            }
            origin = entry.origin;
        }
        let value = value.unwrap_or_else(|| default(setting));
        self.shown.push(ShownSetting { setting, origin, value: value.show() });
        value
    }

    /// Complains when `value`, read just before, is not from `low` to `high`. What is not set is
    /// in every range.
    pub fn check_range<T: Value + PartialOrd>(
        &mut self,
        setting: &'static SettingInfo,
        value: &T,
        low: &'static str,
        high: &'static str,
    ) {
        let set = !value.show().text().is_empty();
        let within = !set || (bound::<T>(low) <= *value && *value <= bound::<T>(high));
        let origin = self.shown.last().map(|shown| shown.origin.clone());
        if let (false, Some(origin)) = (within, origin) {
            let problem = format!("{} is not from {low} to {high}", value.show().text());
            self.complain(setting, &origin, problem);
        }
    }

    fn complain(&mut self, setting: &SettingInfo, origin: &Origin, problem: String) {
        let (origin, name) = (origin.clone(), setting.name());
        self.errors.push(ConfigError::Invalid { origin, name, problem });
    }
}

fn not_expected<T: Value>(raw: &Raw) -> String {
    if T::SECRET {
        return format!("expected {}", T::EXPECTED);
    }
    format!("{:?} is not valid; expected {}", raw.text(), T::EXPECTED)
}

fn default<T: Value>(setting: &SettingInfo) -> T {
    bound(setting.default)
}

/// A default or a bound: text from a definition.
fn bound<T: Value>(text: &str) -> T {
    T::parse(&Raw::Text(text.to_owned()))
        .expect("defaults and bounds are constants, and a test reads every one")
}
