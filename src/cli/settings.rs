//! From the command line's texts to settings: the one place that knows both.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::args::MountArgs;
use super::exit::Failure;
use super::text;
use crate::catalog::{self, Download, Rules, Secrets};
use crate::config::{self, Config, Env, Settings, parse_duration};
use crate::daemon::{self, Launch};
use crate::sys;

/// Read where no other is named, if it is there.
const DEFAULT_CONFIG: &str = "/etc/cached-downloads/config.toml";

/// Returns what `mount` was asked for: flags over the configuration file over the defaults.
///
/// # Errors
/// Something that cannot be read or is wrong, with what was expected.
pub(super) fn launch(args: MountArgs) -> Result<Launch, Failure> {
    let usage = |error: String| Failure::usage(error);
    let file = written(args.config.as_deref())?.unwrap_or_default();
    let bound = |flag: &str, text: &str| {
        text.parse::<Download>().map_err(|e| usage(format!("{flag}: {e}")))
    };
    let files = args.downloads.iter().map(|text| bound("--download", text));
    let directories = args.directories.iter();
    let directories =
        directories.map(|text| bound("--directory", text).map(Download::as_directory));
    let downloads = files.chain(directories).collect::<Result<_, _>>()?;
    let flags = Settings {
        store: args.store,
        catalogs: (!args.catalogs.is_empty()).then_some(args.catalogs),
        control: args.control,
        quota: parse("--quota", args.quota)?,
        hard_limit: parse("--hard-limit", args.hard_limit)?,
        min_free: parse("--min-free", args.min_free)?,
        revalidate_window: args
            .revalidate_window
            .map(|text| parse_duration(&text))
            .transpose()
            .map_err(|e| usage(format!("--revalidate-window: {e}")))?,
        // A flag that is absent must not override the file.
        passthrough: args.no_passthrough.then_some(false),
        directories_only: args.directories_only.then_some(true),
        allow_other: args.allow_other.then_some(true),
        log_format: parse("--log-format", args.log_format)?,
        ..Settings::default()
    };
    let disk = |path: &Path| disk_size(path);
    let settings = file.overlay(flags);
    let place_given = settings.store.is_some();
    let config = Config::resolve(settings, &Env::of_process(sys::uid() == 0, &disk))
        .map_err(|e| usage(e.to_string()))?;
    if config.directories_only && !args.downloads.is_empty() {
        return Err(usage(
            "--download shows a file, and this mount shows directories only \
             (`directories_only`); give it as --directory, or mount files elsewhere"
                .to_owned(),
        ));
    }
    if !place_given && let Some(cache_home) = config.store.parent() {
        // An ordinary user may have none yet. What is wrong with it, the store says.
        let _ = std::fs::create_dir_all(cache_home);
    }
    Ok(Launch { mountpoint: args.mountpoint, downloads, config })
}

/// Returns what the configuration file says: the one named, else the usual one, which counts for
/// root alone and need not be there.
fn written(config: Option<&Path>) -> Result<Option<Settings>, Failure> {
    let usual = Path::new(DEFAULT_CONFIG);
    let path = match config {
        Some(path) => path,
        None if sys::uid() == 0 && usual.exists() => usual,
        None => return Ok(None),
    };
    Settings::load(path).map(Some).map_err(|error| Failure::usage(error.to_string()))
}

fn parse<T: FromStr<Err: std::fmt::Display>>(
    flag: &str,
    text: Option<String>,
) -> Result<Option<T>, Failure> {
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

fn disk_size(path: &Path) -> io::Result<u64> {
    sys::statvfs(path).map(|space| space.total)
}

/// Checks catalogs and prints what was found.
///
/// # Errors
/// One of them has a mistake; the configuration cannot be used.
pub(super) fn check_catalogs(
    config: Option<&Path>,
    directories_only: bool,
    paths: &[PathBuf],
) -> Result<(), Failure> {
    let settings = written(config)?;
    let configured = settings.as_ref().and_then(|settings| settings.directories_only);
    let secrets = match settings.map(|settings| settings.secrets_dir) {
        Some(Some(dir)) => Secrets::Dir(dir),
        Some(None) => Secrets::None,
        None => Secrets::Unchecked,
    };
    let rules =
        Rules { secrets, directories_only: directories_only || configured.unwrap_or(false) };
    report(&catalog::check(paths, &rules))
}

/// Checks a configuration file and prints what was found.
///
/// # Errors
/// It has a mistake.
pub(super) fn check_config(path: Option<&Path>) -> Result<(), Failure> {
    let path = path.unwrap_or(Path::new(DEFAULT_CONFIG));
    let disk = |path: &Path| disk_size(path);
    let env = Env::of_process(sys::uid() == 0, &disk);
    report(&config::check(path, &env, &daemon::refusals))
}

fn report(report: &config::Report) -> Result<(), Failure> {
    text::print(&report.text)?;
    if report.fine { Ok(()) } else { Err(Failure::failed("")) }
}
