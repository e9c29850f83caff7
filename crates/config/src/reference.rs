//! The reference page, from the definitions.

use crate::SettingInfo;
use crate::settings::{sections, settings};

const HEAD: &str = "\
# Settings

Every setting has a default; `ottla server` needs none of them. Layers, each over the one before:
default, file (`--config`, TOML, YAML or JSON by its extension), environment
(`OTTLA__SECTION__KEY`), flag. `ottla config print --origin` shows the values in force and who set
them, `ottla config check` finds mistakes without starting anything.

Sizes are written with a unit (`8MiB`, `64KiB`, `1GB`) or as a number of bytes, durations always
with a unit (`250ms`, `10s`, `5m`, `7d`). An empty text stands for \"not set\". A secret can be
given as the name of a file that holds it: append `_file` to its key (`_FILE` in the environment).
Changes take effect at the next start.
";

/// The page in Markdown.
pub fn reference_markdown() -> String {
    let mut page = HEAD.to_owned();
    for (section, doc) in sections() {
        page.push_str(&format!("\n## [{section}]\n\n{}\n\n", doc.trim()));
        page.push_str(
            "| Key | Type | Default | Flag | Meaning |\n| --- | --- | --- | --- | --- |\n",
        );
        for setting in settings().filter(|setting| setting.section == section) {
            page.push_str(&row(setting));
        }
    }
    page
}

fn row(setting: &SettingInfo) -> String {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let flag = setting.flag.map(|flag| code(&format!("--{flag}"))).unwrap_or_default();
    let range = match setting.range {
        Some((low, high)) => format!(" From `{low}` to `{high}`."),
        None => String::new(),
    };
    let meaning = format!("{}{range}", setting.help()).replace('|', "\\|");
    let (key, kind, default) = (code(setting.key), setting.kind, code(setting.default));
    format!("| {key} | {kind} | {default} | {flag} | {meaning} |\n")
}
