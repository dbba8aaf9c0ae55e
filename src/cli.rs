//! The command line: argv in, text and an exit code out.

mod args;
mod client;
mod exit;
mod ls;
mod mount;
mod settings;
mod status;
mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{CatalogVerb, Cli, ConfigVerb, Verb};
use exit::Failure;

/// Runs the program with these arguments, the first of which is its own name.
pub fn run(argv: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with exit code 0; a closed pipe is nobody's fault.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE));
        }
    };
    match dispatch(cli.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Mount(args) => mount::mount(*args),
        Verb::Unmount(args) => mount::unmount(&args),
        Verb::Status(args) => client::status(&args),
        Verb::Ls(args) => client::ls(&args),
        Verb::Evict(args) => client::evict(&args),
        Verb::Catalog { verb: CatalogVerb::Check { config, directories_only, paths } } => {
            settings::check_catalogs(config.as_deref(), directories_only, &paths)
        }
        Verb::Config { verb: ConfigVerb::Check { config } } => {
            settings::check_config(config.as_deref())
        }
        Verb::Demo(args) => crate::demo::run(args.stay).map_err(Failure::from),
    }
}
