//! Settings in force, as a settings file.

use std::fmt::Write as _;

use crate::Loaded;
use crate::value::Raw;

impl Loaded {
    /// TOML with every setting; with `origin`, each line says who set it. Reads back as a settings
    /// file, except for secrets, which are masked.
    pub fn to_toml(&self, origin: bool) -> String {
        let mut text = String::new();
        let mut section = "";
        for shown in &self.shown {
            if shown.setting.section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                section = shown.setting.section;
                put(&mut text, format_args!("{gap}[{section}]\n"));
            }
            let line = format!("{} = {}", shown.setting.key, literal(&shown.value));
            if origin {
                put(&mut text, format_args!("{line:<48} # {}\n", shown.origin));
            } else {
                put(&mut text, format_args!("{line}\n"));
            }
        }
        text
    }
}

fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing into a String cannot fail");
}

fn literal(value: &Raw) -> String {
    match value {
        Raw::Text(text) => toml::Value::String(text.clone()).to_string(),
        other => other.text(),
    }
}
