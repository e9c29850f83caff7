//! The settings file. A file of either language is read into one kind of tree: sections of scalars.

use std::fs;
use std::path::Path;

use serde_json::Value as Tree;

use super::{add, nearest_section};
use crate::error::ConfigError;
use crate::layers::{Entry, Origin};
use crate::settings::section_names;
use crate::value::Raw;

/// Reads the file at `path`.
pub fn read(path: &Path, entries: &mut Vec<Entry>, errors: &mut Vec<ConfigError>) {
    let tree = match read_tree(path) {
        Ok(tree) => tree,
        Err(error) => return errors.push(error),
    };
    let origin = Origin::File(path.to_owned());
    // An empty YAML file is a null.
    let sections = match tree {
        Tree::Object(sections) => sections,
        Tree::Null => return,
        _ => return errors.push(syntax(path, "it must hold sections of settings")),
    };
    for (section, content) in sections {
        if !section_names().any(|name| name == section) {
            let nearest = nearest_section(&section);
            errors.push(ConfigError::Unknown { origin: origin.clone(), name: section, nearest });
            continue;
        }
        let settings = match content {
            Tree::Object(settings) => settings,
            Tree::Null => continue,
            _ => {
                let problem = "a section of settings is expected here".to_owned();
                errors.push(ConfigError::Invalid {
                    origin: origin.clone(),
                    name: section,
                    problem,
                });
                continue;
            }
        };
        for (key, value) in settings {
            match scalar(value) {
                Some(value) => add((&section, &key), origin.clone(), value, entries, errors),
                None => errors.push(ConfigError::Invalid {
                    origin: origin.clone(),
                    name: format!("{section}.{key}"),
                    problem: "a single value is expected here".to_owned(),
                }),
            }
        }
    }
}

fn syntax(path: &Path, reason: &str) -> ConfigError {
    ConfigError::Syntax { path: path.to_owned(), reason: reason.to_owned() }
}

fn read_tree(path: &Path) -> Result<Tree, ConfigError> {
    let parse = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => parse_toml,
        Some("yaml" | "yml") => parse_yaml,
        Some("json") => parse_json,
        _ => return Err(ConfigError::UnknownFormat { path: path.to_owned() }),
    };
    let text = fs::read_to_string(path)
        .map_err(|e| ConfigError::Unreadable { path: path.to_owned(), reason: e.to_string() })?;
    parse(&text).map_err(|reason| syntax(path, &reason))
}

fn parse_toml(text: &str) -> Result<Tree, String> {
    toml::from_str(text).map_err(|e| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("line {line}: {}", e.message().replace('\n', ", "))
    })
}

fn parse_yaml(text: &str) -> Result<Tree, String> {
    // By way of YAML's own tree, which refuses a key that stands twice.
    let tree: serde_yaml_ng::Value = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    serde_json::to_value(tree).map_err(|e| e.to_string())
}

fn parse_json(text: &str) -> Result<Tree, String> {
    serde_json::from_str(text).map_err(|e| e.to_string())
}

fn scalar(value: Tree) -> Option<Raw> {
    match value {
        Tree::String(text) => Some(Raw::Text(text)),
        Tree::Bool(truth) => Some(Raw::Bool(truth)),
        Tree::Number(number) => {
            let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            whole.map(Raw::Integer).or_else(|| number.as_f64().map(Raw::Float))
        }
        Tree::Null | Tree::Array(_) | Tree::Object(_) => None,
    }
}
