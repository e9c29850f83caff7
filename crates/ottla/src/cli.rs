//! The command line. The flags that are settings come from the settings' definitions.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use ottla_config::{Loaded, SettingInfo, Sources, settings};

use crate::exit::Failure;

/// A Kafka-compatible broker that keeps its records in an object store.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Subcommands,
}

/// What `ottla` can do.
#[derive(Debug, Subcommand)]
pub enum Subcommands {
    /// Run a node.
    ///
    /// Needs no arguments: all roles run in this process, on a local directory.
    #[command(after_help = SERVER_EXAMPLES)]
    Server(SettingArgs),
    /// Check a stopped node: its state, and whether its objects are in the bucket.
    ///
    /// Prints what there is, one count per line: objects with records (live) and their bytes,
    /// objects that the sweep will delete (condemned, orphans), uploads that can still be
    /// committed (undecided), objects of others (foreign). Fails when the state is damaged or an
    /// object with records is missing or has another length. Changes no object.
    Fsck(SettingArgs),
    /// Show and check settings.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Show the Kafka APIs and versions that are served.
    ApiVersions,
    /// Show the version.
    Version,
    /// Check or write the generated reference pages, in a checkout of the source.
    #[command(hide = true)]
    Docs {
        /// Write the pages instead of checking them.
        #[arg(long)]
        write: bool,
    },
}

/// What can be done with settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the settings in force, as a TOML file.
    #[command(after_help = PRINT_EXAMPLES)]
    Print {
        /// Say who set each value: default, file, environment or flag.
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        settings: SettingArgs,
    },
    /// Check settings without starting anything.
    Check(SettingArgs),
    /// Print the reference of all settings, in Markdown.
    Reference,
}

const SERVER_EXAMPLES: &str = "\
Examples:
  ottla server
  ottla server --data-dir /var/lib/ottla --kafka-listen 0.0.0.0:9092 --kafka-advertise me:9092
  ottla server --config ottla.toml --object-store s3://bucket/prefix";

const PRINT_EXAMPLES: &str = "\
Examples:
  ottla config print > ottla.toml
  OTTLA__PRODUCE__LINGER=50ms ottla config print --origin --config ottla.toml";

/// The settings file and the flags that are settings.
#[derive(Clone, Debug, Default)]
pub struct SettingArgs {
    file: Option<PathBuf>,
    flags: Vec<(&'static str, String)>,
}

impl SettingArgs {
    /// Loads the settings from all layers.
    pub fn load(self) -> Result<Loaded, Failure> {
        let environment = std::env::vars_os().collect();
        Ok(Sources { file: self.file, environment, flags: self.flags }.load()?)
    }
}

const CONFIG_FLAG: &str = "config";

fn setting_flags() -> impl Iterator<Item = (&'static str, &'static SettingInfo)> {
    settings().filter_map(|setting| Some((setting.flag?, setting)))
}

fn setting_arg(flag: &'static str, setting: &SettingInfo) -> Arg {
    let mut help = setting.help();
    if !setting.default.is_empty() {
        help.push_str(&format!(" [default: {}]", setting.default));
    }
    Arg::new(flag).long(flag).value_name(setting.placeholder).help(help)
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG_FLAG)
            .long(CONFIG_FLAG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Settings file: TOML, YAML or JSON by its extension.");
        let flags = setting_flags().map(|(flag, setting)| setting_arg(flag, setting));
        command.arg(file).args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>(CONFIG_FLAG).cloned();
        self.flags = setting_flags()
            .filter_map(|(flag, _)| Some((flag, matches.get_one::<String>(flag)?.clone())))
            .collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_handed_to_the_settings() {
        let cli = Cli::try_parse_from(["ottla", "server", "--node-id", "7", "--config", "a.toml"]);
        let Subcommands::Server(args) = cli.unwrap().command else { panic!("not the server") };
        assert_eq!(args.file, Some(PathBuf::from("a.toml")));
        assert_eq!(args.flags, [("node-id", "7".to_owned())]);
    }
}
