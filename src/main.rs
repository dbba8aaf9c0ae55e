//! The `cached-downloads` program: argv in, text and an exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    cached_downloads::cli::run(std::env::args_os())
}
