//! Errors of settings.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use crate::Origin;

/// One complaint. Its text is one line and says where, which key and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config file {}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The extension does not say how the file is written.
    #[error("config file {}: the name must end in .toml, .yaml, .yml or .json", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file is not what its extension says.
    #[error("config file {}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What the parser found, with the line.
        reason: String,
    },
    /// There is no such section or setting.
    #[error("{origin}: unknown setting {name}{}", suggestion(nearest.as_deref()))]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// The name as given.
        name: String,
        /// The setting it looks most like.
        nearest: Option<String>,
    },
    /// A value that the setting cannot have.
    #[error("{origin}: {name}: {problem}")]
    Invalid {
        /// Where it stands.
        origin: Origin,
        /// `section.key`.
        name: String,
        /// What is wrong, with the value unless it is a secret.
        problem: String,
    },
}

impl ConfigError {
    /// Whether it was made on the command line (and not in a file or the environment).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Unknown { origin, .. } | Self::Invalid { origin, .. } => {
                matches!(origin, Origin::Flag(_))
            }
            _ => false,
        }
    }
}

fn suggestion(nearest: Option<&str>) -> String {
    nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default()
}

/// All complaints of one load, at least one; shown one per line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// Whether the command line alone is to blame.
    pub fn is_usage(&self) -> bool {
        self.0.iter().all(ConfigError::is_usage)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}
