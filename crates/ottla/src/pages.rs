//! The generated pages of `docs/reference/`.
//!
//! Each page comes from the definitions that the program itself runs by. `ottla docs` fails when a
//! page is not what it would be now, and `make test` runs it.

use std::fs;
use std::path::Path;

use clap::{Command, CommandFactory};
use ottla_telemetry::Metrics;

use crate::cli::Cli;
use crate::exit::Failure;
use crate::output::print;

/// Where the pages are, from the top of a checkout.
const DIRECTORY: &str = "docs/reference";

/// How stale pages are renewed.
const RENEW: &str = "cargo run -p ottla -- docs --write";

fn pages() -> [(&'static str, String); 5] {
    [
        ("config.md", ottla_config::reference_markdown()),
        ("metrics.md", metrics_page()),
        ("api-versions.md", ottla_wire::apis::reference_page()),
        ("topic-configs.md", ottla_broker::topic_configs::reference_page()),
        ("cli.md", cli_page()),
    ]
    .map(|(name, page)| (name, with_notice(&page)))
}

/// Says under the heading where the page comes from.
fn with_notice(page: &str) -> String {
    let (heading, rest) = page.split_once('\n').unwrap_or((page, ""));
    format!("{heading}\n\n<!-- Generated: {RENEW} -->\n{rest}")
}

/// Writes all pages.
pub fn write() -> Result<(), Failure> {
    for (name, page) in pages() {
        let path = Path::new(DIRECTORY).join(name);
        fs::write(&path, page)
            .map_err(|e| Failure::new(format!("cannot write {}: {e}", path.display())))?;
        print(&format!("wrote {}\n", path.display()))?;
    }
    Ok(())
}

/// Fails when a page is missing or not what it would be now.
pub fn check() -> Result<(), Failure> {
    let fresh = |name: &str, page: &String| {
        fs::read_to_string(Path::new(DIRECTORY).join(name)).is_ok_and(|found| found == *page)
    };
    let stale: Vec<&str> =
        pages().iter().filter(|(name, page)| !fresh(name, page)).map(|(name, _)| *name).collect();
    if stale.is_empty() {
        return Ok(());
    }
    let names = stale.join(", ");
    Err(Failure::new(format!("stale in {DIRECTORY}: {names}; renew them with `{RENEW}`")))
}

fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\nServed as `/metrics` on the admin listener, in Prometheus' text format. A \
         metric with labels appears when it was first counted. Label values come from small fixed \
         sets: clients cannot add series.\n\n\
         | Name | Type | Unit | Labels | Meaning |\n| --- | --- | --- | --- | --- |\n",
    );
    let inventory = Metrics::inventory();
    for metric in &inventory {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let help = metric.help.replace('|', "\\|");
        let (name, kind, unit) = (metric.name, metric.kind, metric.unit());
        page.push_str(&format!(
            "| `{name}` | {kind} | {unit} | {} | {help} |\n",
            labels.join(", ")
        ));
    }
    page.push_str(
        "\n## Buckets\n\nUpper bounds of the histograms, in their units; the last bucket takes all.\n\n\
         | Histogram | Bounds |\n| --- | --- |\n",
    );
    for metric in inventory.iter().filter(|metric| !metric.buckets.is_empty()) {
        let bounds: Vec<String> = metric.buckets.iter().map(f64::to_string).collect();
        page.push_str(&format!("| `{}` | {} |\n", metric.name, bounds.join(" ")));
    }
    page
}

fn cli_page() -> String {
    let mut page = String::from(
        "# Command line\n\nExit codes: 0 done, 1 failed, 2 wrong usage. Results go to standard \
         output, logs and complaints to standard error.\n",
    );
    let mut root = Cli::command();
    root.build();
    add_help(&mut page, &root);
    page
}

/// Adds the help text of a command and of those below it.
fn add_help(page: &mut String, command: &Command) {
    let help = command.clone().render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    page.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    for below in command.get_subcommands().filter(shown) {
        add_help(page, below);
    }
}
