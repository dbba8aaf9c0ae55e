//! From what was written to what holds.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::limits::Room;
use super::{Config, ConfigError, Settings};
use crate::types::Bytes;

const MAX_DOWNLOADS: usize = 16;
const REVALIDATE_WINDOW: Duration = Duration::from_secs(1);

/// What a configuration is resolved against.
pub struct Env<'a> {
    /// Whether this is the superuser, whose defaults are system paths.
    pub root: bool,
    /// `$XDG_CACHE_HOME`, or `$HOME/.cache`.
    pub cache_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `$CACHED_DOWNLOADS_CONTROL`.
    pub control: Option<PathBuf>,
    /// Returns the size in bytes of the filesystem that an existing directory lies on.
    pub disk: &'a dyn Fn(&Path) -> io::Result<u64>,
}

impl<'a> Env<'a> {
    /// Reads the environment variables of this process. Empty ones count as unset.
    pub fn of_process(root: bool, disk: &'a dyn Fn(&Path) -> io::Result<u64>) -> Env<'a> {
        let path = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Env {
            root,
            cache_home: path("XDG_CACHE_HOME").or_else(|| path("HOME").map(|h| h.join(".cache"))),
            runtime_dir: path("XDG_RUNTIME_DIR"),
            control: path("CACHED_DOWNLOADS_CONTROL"),
            disk,
        }
    }
}

impl Config {
    /// Checks settings and fills in the defaults. Asks the disk for its size, once.
    ///
    /// # Errors
    /// Values that do not fit together or do not fit the disk, and defaults that the environment
    /// does not give; all of them.
    pub fn resolve(settings: Settings, env: &Env<'_>) -> Result<Config, ConfigError> {
        let mut errors = Vec::new();
        let mut notices = Vec::new();
        let store = settings.store.clone().or_else(|| env.store());
        let store = store.unwrap_or_else(|| {
            errors.push(
                "no place for the store: neither XDG_CACHE_HOME nor HOME is set; give --store DIR"
                    .to_owned(),
            );
            PathBuf::new()
        });
        let control = settings.control.clone().or_else(|| env.control_socket());
        let control = control.unwrap_or_else(|| {
            errors.push("no place for the control socket: XDG_RUNTIME_DIR is not set; give --control SOCKET".to_owned());
            PathBuf::new()
        });
        let max_downloads = settings.max_downloads.unwrap_or(MAX_DOWNLOADS);
        if max_downloads == 0 {
            errors.push("max_downloads is 0; give at least 1".to_owned());
        }
        if !errors.is_empty() {
            return Err(ConfigError(errors));
        }
        let mut config = Config {
            store: absolute(&store)?,
            catalogs: settings
                .catalogs
                .iter()
                .flatten()
                .map(|path| absolute(path))
                .collect::<Result<_, _>>()?,
            control: absolute(&control)?,
            quota: Bytes(0),
            hard_limit: Bytes(0),
            min_free: Bytes(0),
            max_downloads,
            revalidate_window: settings.revalidate_window.unwrap_or(REVALIDATE_WINDOW),
            secrets_dir: settings.secrets_dir.as_deref().map(absolute).transpose()?,
            passthrough: settings.passthrough.unwrap_or(true),
            directories_only: settings.directories_only.unwrap_or(false),
            allow_other: settings.allow_other.unwrap_or(env.root),
            log_format: settings.log_format.unwrap_or_default(),
            archives: settings.archives.unwrap_or_default(),
            origins: settings.origins.clone(),
            notices: Vec::new(),
        };
        let disk = disk_size(&config.store, env)?;
        let room = Room { disk, place: config.store.display().to_string() };
        let limits = room.limits(&settings, &mut notices)?;
        (config.quota, config.hard_limit, config.min_free) = limits;
        config.notices = notices;
        Ok(config)
    }
}

impl Env<'_> {
    fn store(&self) -> Option<PathBuf> {
        if self.root {
            return Some(PathBuf::from("/var/cache/cached-downloads"));
        }
        self.cache_home.as_ref().map(|dir| dir.join("cached-downloads"))
    }

    /// Returns where the control socket is when nothing names it.
    pub fn control_socket(&self) -> Option<PathBuf> {
        if self.control.is_some() {
            return self.control.clone();
        }
        if self.root {
            return Some(PathBuf::from("/run/cached-downloads.sock"));
        }
        self.runtime_dir.as_ref().map(|dir| dir.join("cached-downloads.sock"))
    }
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|e| ConfigError(vec![format!("{}: {e}", path.display())]))
}

/// Asks for the size of the disk below the nearest directory that exists: the store need not yet.
fn disk_size(store: &Path, env: &Env<'_>) -> Result<u64, ConfigError> {
    let exists = store.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    (env.disk)(exists).map_err(|e| {
        ConfigError(vec![format!(
            "the store {}: the size of its filesystem cannot be read: {e}",
            store.display()
        )])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MinFree;

    const GB: u64 = 1_000_000_000;

    fn resolve(settings: Settings, disk: u64) -> Result<Config, String> {
        let disk = move |_: &Path| Ok(disk);
        let env =
            Env { root: true, cache_home: None, runtime_dir: None, control: None, disk: &disk };
        Config::resolve(settings, &env).map_err(|e| e.to_string())
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    }

    #[test]
    fn defaults_of_root() {
        let config = resolve(Settings::default(), 100 * GB).unwrap();
        assert_eq!(config.store, Path::new("/var/cache/cached-downloads"));
        assert_eq!(config.control, Path::new("/run/cached-downloads.sock"));
        assert_eq!(config.quota, Bytes(10 * GB));
        assert_eq!(config.hard_limit, Bytes(12 * GB));
        assert_eq!(config.min_free, Bytes(5 * GB));
        assert_eq!(config.max_downloads, 16);
        assert_eq!(config.revalidate_window, Duration::from_secs(1));
        assert!(config.passthrough && config.allow_other);
        assert!(config.catalogs.is_empty() && config.notices.is_empty());
    }

    #[test]
    fn defaults_of_a_user() {
        let disk = |_: &Path| Ok(100 * GB);
        let mut env = Env {
            root: false,
            cache_home: Some("/home/u/.cache".into()),
            runtime_dir: Some("/run/user/1".into()),
            control: None,
            disk: &disk,
        };
        let config = Config::resolve(Settings::default(), &env).unwrap();
        assert_eq!(config.store, Path::new("/home/u/.cache/cached-downloads"));
        assert_eq!(config.control, Path::new("/run/user/1/cached-downloads.sock"));
        assert!(!config.allow_other);
        env.control = Some("/tmp/c.sock".into());
        let config = Config::resolve(Settings::default(), &env).unwrap();
        assert_eq!(config.control, Path::new("/tmp/c.sock"));
        (env.cache_home, env.runtime_dir, env.control) = (None, None, None);
        let error = Config::resolve(Settings::default(), &env).unwrap_err();
        assert_eq!(error.0.len(), 2, "{error}");
    }

    #[test]
    fn a_default_is_clamped_and_said() {
        let config = resolve(Settings::default(), 8 * GB).unwrap();
        assert!(config.quota.0 < 8 * GB && config.hard_limit.0 + config.min_free.0 <= 8 * GB);
        assert_eq!(config.min_free, Bytes(1 << 30));
        assert_eq!(config.notices.len(), 1, "{:?}", config.notices);
        let tiny = resolve(Settings::default(), 100 << 20).unwrap();
        assert_eq!(tiny.min_free, Bytes(50 << 20));
        assert!(tiny.quota.0 > 40 << 20);
        let bounded = resolve(with(|s| s.hard_limit = Some(Bytes(GB))), 100 * GB).unwrap();
        assert!(bounded.quota.0 < GB && bounded.hard_limit == Bytes(GB));
    }

    #[test]
    fn what_is_written_must_fit() {
        let error = resolve(with(|s| s.quota = Some(Bytes(9 * GB))), 8 * GB).unwrap_err();
        assert!(
            error.starts_with("quota is 9GB (8.4 GiB), but the disk below /var/cache"),
            "{error}"
        );
        let error = resolve(with(|s| s.min_free = Some(MinFree::Size(Bytes(9 * GB)))), 8 * GB);
        assert!(error.unwrap_err().starts_with("min_free is "));
        let error = resolve(with(|s| s.quota = Some(Bytes(0))), GB).unwrap_err();
        assert!(error.starts_with("quota is 0"), "{error}");
        let less = with(|s| (s.quota, s.hard_limit) = (Some(Bytes(2)), Some(Bytes(1))));
        assert!(resolve(less, GB).unwrap_err().contains("less than the quota"));
        assert!(resolve(with(|s| s.max_downloads = Some(0)), GB).is_err());
        let whole = resolve(with(|s| s.quota = Some(Bytes(8 * GB))), 8 * GB).unwrap();
        assert_eq!((whole.quota, whole.hard_limit), (Bytes(8 * GB), Bytes(8 * GB)));
        assert_eq!(whole.notices.len(), 1);
    }

    #[test]
    fn flags_win() {
        let file = with(|s| (s.quota, s.max_downloads) = (Some(Bytes(1)), Some(3)));
        let flags = with(|s| s.quota = Some(Bytes(2)));
        let both = file.overlay(flags);
        assert_eq!((both.quota, both.max_downloads), (Some(Bytes(2)), Some(3)));
    }
}
