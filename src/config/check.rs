//! `config check`.

use std::path::Path;

use super::{Config, Env, Report, Settings};

/// Checks a configuration file against this machine, and shows what would hold. `refused` says why
/// a mount with it would be refused although the file itself is right. Blocks on the disk.
pub fn check(path: &Path, env: &Env<'_>, refused: &dyn Fn(&Config) -> Vec<String>) -> Report {
    let resolved = Settings::load(path).and_then(|settings| Config::resolve(settings, env));
    let config = match resolved {
        Ok(config) => config,
        Err(e) => return Report { fine: false, text: format!("{e}\n") },
    };
    let problems = refused(&config);
    if problems.is_empty() {
        return Report { fine: true, text: format!("{}: fine\n{config}", path.display()) };
    }
    let text = problems.iter().map(|problem| format!("{}: {problem}\n", path.display()));
    Report { fine: false, text: text.collect() }
}

impl std::fmt::Display for Config {
    /// Shows every value that holds, a line each, and then the notices.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |paths: &[std::path::PathBuf]| {
            let shown: Vec<_> = paths.iter().map(|p| p.display().to_string()).collect();
            shown.join(", ")
        };
        let mut line =
            |key: &str, value: &dyn std::fmt::Display| writeln!(f, "  {key:<18} {value}");
        line("store", &self.store.display())?;
        line("catalogs", &list(&self.catalogs))?;
        line("control", &self.control.display())?;
        line("quota", &self.quota)?;
        line("hard_limit", &self.hard_limit)?;
        line("min_free", &self.min_free)?;
        line("max_downloads", &self.max_downloads)?;
        let window = humantime::format_duration(self.revalidate_window);
        line("revalidate_window", &window)?;
        if let Some(dir) = &self.secrets_dir {
            line("secrets_dir", &dir.display())?;
        }
        line("passthrough", &self.passthrough)?;
        line("directories_only", &self.directories_only)?;
        line("allow_other", &self.allow_other)?;
        line("log_format", &self.log_format.as_str())?;
        line("archives", &super::archives::shown(&self.archives))?;
        for (host, section) in &self.origins {
            line("origin", &format_args!("{host}: {section}"))?;
        }
        for notice in &self.notices {
            writeln!(f, "  note: {notice}")?;
        }
        Ok(())
    }
}
