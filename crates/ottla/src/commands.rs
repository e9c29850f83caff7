//! The commands.

use crate::cli::{ConfigCommand, Subcommands};
use crate::exit::Failure;
use crate::output::print;
use crate::{fsck, pages, run as server};

/// Runs a command to its end.
pub fn run(command: Subcommands) -> Result<(), Failure> {
    match command {
        Subcommands::Server(settings) => server::run(settings.load()?.config),
        Subcommands::Fsck(settings) => fsck::run(&settings.load()?.config),
        Subcommands::Config(ConfigCommand::Print { origin, settings }) => {
            print(&settings.load()?.to_toml(origin))
        }
        Subcommands::Config(ConfigCommand::Check(settings)) => {
            server::check(&settings.load()?.config)?;
            print("the settings are valid\n")
        }
        Subcommands::Config(ConfigCommand::Reference) => print(&ottla_config::reference_markdown()),
        Subcommands::ApiVersions => print(&api_versions()),
        Subcommands::Version => print(&format!("ottla {}\n", env!("CARGO_PKG_VERSION"))),
        Subcommands::Docs { write: true } => pages::write(),
        Subcommands::Docs { write: false } => pages::check(),
    }
}

/// A plain table, numbers to the right.
fn api_versions() -> String {
    let mut table = format!("{:>4}  {:<22}  {:>3}  {:>3}\n", "KEY", "API", "MIN", "MAX");
    for api in ottla_wire::apis::APIS {
        let (key, name, versions) = (api.key as i16, api.name, api.advertised);
        table
            .push_str(&format!("{key:>4}  {name:<22}  {:>3}  {:>3}\n", versions.min, versions.max));
    }
    table
}
