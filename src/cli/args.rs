//! The grammar of the command line. Values stay texts here; they are parsed with the settings.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::exit;

/// Shows a cache of HTTP downloads as ordinary files.
///
/// A mounted name is fetched when it is first opened, checked with its origin at every later
/// open, kept while anything holds it, and evicted, least recently used first, when the store
/// passes its quota. Programs need nothing but open and read.
#[derive(Debug, Parser)]
#[command(
    name = "cached-downloads",
    version,
    arg_required_else_help = true,
    after_help = "Try it, without a configuration: cached-downloads demo",
    after_long_help = concat_help()
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

fn concat_help() -> String {
    format!(
        "\
Examples:
  cached-downloads demo
  cached-downloads mount /cached-downloads --download jdk.tgz=https://example.org/jdk.tgz
  cached-downloads mount /cached-downloads --config /etc/cached-downloads/config.toml
  cached-downloads status
  cached-downloads unmount /cached-downloads

Environment:
  CACHED_DOWNLOADS_CONTROL  the control socket, where --control is not given
  CACHED_DOWNLOADS_LOG      what `mount` logs: info (the default), debug,
                            cached_downloads::origin=debug, ...
  NOTIFY_SOCKET             set by systemd: `mount` says READY=1, RELOADING=1, STOPPING=1

{}",
        exit::HELP
    )
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Mounts and serves until it is stopped
    ///
    /// Stays in the foreground and prints `ready` when the mount answers. SIGTERM and SIGINT
    /// unmount and end it, SIGHUP reads the catalogs again (a change of the configuration needs a
    /// restart). A mount that a killed predecessor left is replaced.
    #[command(after_long_help = "\
Examples:
  One download, no files at all:
    cached-downloads mount ~/downloads --download jdk.tgz=https://example.org/jdk.tgz
  An archive as a directory, without downloading all of it:
    cached-downloads mount ~/downloads --directory ruby=https://example.org/ruby-cached.zip
  A directory of catalogs, 20 GB of disk:
    cached-downloads mount /cached-downloads --catalog /etc/cached-downloads/catalog.d \\
        --store /var/cache/cached-downloads --quota 20GB
  Everything from a file, one value overridden:
    cached-downloads mount /cached-downloads --config config.toml --revalidate-window 5s

Sizes are bytes, or kB, MB, GB (powers of ten), KiB, MiB, GiB (powers of two).")]
    Mount(Box<MountArgs>),

    /// Unmounts a mount of cached-downloads
    ///
    /// Also one whose daemon is dead. Waits for the daemon to end, unless --lazy.
    Unmount(UnmountArgs),

    /// Shows what the daemon does and what is wrong
    Status(ReportArgs),

    /// Lists the names and what the cache has of them
    Ls(ReportArgs),

    /// Drops the copy of a name; its next open fetches it anew
    ///
    /// A copy that somebody holds is not dropped.
    Evict(EvictArgs),

    /// Checks catalogs
    Catalog {
        #[command(subcommand)]
        verb: CatalogVerb,
    },

    /// Checks the configuration
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },

    /// Shows a mount at work in 20 seconds, with an origin of its own
    ///
    /// Serves samples on loopback, mounts them in a temporary directory and takes a tour. Needs
    /// /dev/fuse and no network, and leaves nothing behind. On a terminal it stays mounted
    /// afterwards until Ctrl-C.
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(super) struct MountArgs {
    /// The directory to mount on
    pub(super) mountpoint: PathBuf,

    /// Binds a name to a URL; may be given often
    #[arg(long = "download", value_name = "NAME=URL")]
    pub(super) downloads: Vec<String>,

    /// As --download, and shows what is in the archive as a directory
    #[arg(long = "directory", value_name = "NAME=URL")]
    pub(super) directories: Vec<String>,

    /// A catalog, or a directory of catalogs; may be given often
    #[arg(long = "catalog", value_name = "FILE_OR_DIR")]
    pub(super) catalogs: Vec<PathBuf>,

    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Where the copies are kept
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,

    /// How much disk to use before the least recently used copy goes [default: 10GB]
    #[arg(long, value_name = "SIZE")]
    pub(super) quota: Option<String>,

    /// How much disk never to pass, pinned copies included [default: quota + 20 %]
    #[arg(long, value_name = "SIZE")]
    pub(super) hard_limit: Option<String>,

    /// How much of the disk to leave free [default: 5 %, at least 1 GiB]
    #[arg(long, value_name = "SIZE_OR_PERCENT")]
    pub(super) min_free: Option<String>,

    /// How long one answer of an origin serves all who open [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub(super) revalidate_window: Option<String>,

    /// Where to listen for status, ls and evict
    #[arg(long, value_name = "SOCKET")]
    pub(super) control: Option<PathBuf>,

    /// Answers every read in the daemon, instead of letting the kernel read complete files itself
    #[arg(long)]
    pub(super) no_passthrough: bool,

    /// Shows every name as a directory; programs then open files without asking the daemon
    #[arg(long)]
    pub(super) directories_only: bool,

    /// Lets other users read, when an ordinary user mounts (root always does)
    #[arg(long)]
    pub(super) allow_other: bool,

    /// How to log [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub(super) log_format: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct UnmountArgs {
    /// Where it is mounted
    pub(super) mountpoint: PathBuf,

    /// Detaches a mount that is in use; it ends when its last holder leaves
    #[arg(long)]
    pub(super) lazy: bool,
}

#[derive(Debug, Args)]
pub(super) struct ControlArgs {
    /// The daemon's control socket
    ///
    /// Without it: CACHED_DOWNLOADS_CONTROL, else /run/cached-downloads.sock as root and
    /// $XDG_RUNTIME_DIR/cached-downloads.sock as a user.
    #[arg(long, value_name = "SOCKET")]
    pub(super) control: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    /// Prints JSON, as docs/operations.md describes it
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Debug, Args)]
pub(super) struct EvictArgs {
    /// The name, as `ls` shows it
    pub(super) name: String,

    #[command(flatten)]
    pub(super) control: ControlArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum CatalogVerb {
    /// Reads catalogs as `mount` would, and says what is wrong and where they disagree
    ///
    /// The configuration names the directory that header files must lie in. Where there is none,
    /// they are not looked for.
    Check {
        /// The configuration file [default: /etc/cached-downloads/config.toml, if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,

        /// Reads them for a mount that was given this flag
        #[arg(long)]
        directories_only: bool,

        /// The catalogs, or directories of them
        #[arg(required = true, value_name = "FILE_OR_DIR")]
        paths: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigVerb {
    /// Reads the configuration as `mount` would, and says what is wrong
    Check {
        /// The configuration file [default: /etc/cached-downloads/config.toml]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Stays mounted after the tour, until Ctrl-C
    #[arg(long)]
    pub(super) stay: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_unknown_flag_names_the_nearest() {
        let error = Cli::try_parse_from(["cached-downloads", "mount", "/m", "--quotta", "1GB"])
            .expect_err("no such flag");
        assert!(error.to_string().contains("--quota"), "{error}");
        assert_eq!(error.exit_code(), i32::from(exit::USAGE));
        let error = Cli::try_parse_from(["cached-downloads", "statsu"]).expect_err("no such verb");
        assert!(error.to_string().contains("status"), "{error}");
    }

    #[test]
    fn every_flag_of_mount_is_read() {
        let line = "cached-downloads mount /m --download a=http://h/a --download b=http://h/b \
            --directory c=http://h/c.zip --catalog c.toml --catalog d --config e --store f --quota 1GB --hard-limit 2GB \
            --min-free 5% --revalidate-window 2s --control g --no-passthrough --directories-only --allow-other \
            --log-format json";
        let cli = Cli::try_parse_from(line.split_whitespace()).expect("parses");
        let Verb::Mount(args) = cli.verb else {
            panic!("{:?}", cli.verb);
        };
        assert_eq!((args.downloads.len(), args.directories.len()), (2, 1));
        assert_eq!(args.catalogs.len(), 2);
        assert_eq!(args.log_format, Some("json".to_owned()));
        assert!(args.no_passthrough && args.directories_only && args.allow_other);
    }

    #[test]
    fn the_long_help_has_the_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains("Exit codes:"), "{help}");
    }
}
