//! The configuration file.

use std::path::Path;

use super::values::based;
use super::{ConfigError, LogFormat, MinFree, Problem, Settings, archives, origins};
use crate::document::{Format, Item, Reader};

const KEYS: [&str; 15] = [
    "store",
    "catalogs",
    "control",
    "quota",
    "hard_limit",
    "min_free",
    "max_downloads",
    "revalidate_window",
    "secrets_dir",
    "passthrough",
    "directories_only",
    "allow_other",
    "log_format",
    "archives",
    "origins",
];

impl Settings {
    /// Reads a configuration file: JSON where its name ends so, else TOML. Blocks on the disk.
    ///
    /// Relative paths in it start from its directory.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong: every such thing, with its line.
    pub fn load(path: &Path) -> Result<Settings, ConfigError> {
        let bytes = std::fs::read(path).map_err(|e| {
            ConfigError(vec![format!(
                "{}: cannot be read: {e}; give the configuration file with --config",
                path.display()
            )])
        })?;
        parse(path, &bytes).map_err(ConfigError::from)
    }
}

/// Parses the bytes of a configuration file.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Settings, Vec<Problem>> {
    let mut reader = Reader::new(path);
    let mut settings = Settings::default();
    if let Some(table) = reader.parse(Format::of(path).unwrap_or(Format::Toml), bytes) {
        for item in &table.0 {
            key(&mut reader, item, &mut settings);
        }
    }
    if reader.problems.is_empty() { Ok(settings) } else { Err(reader.problems) }
}

fn key(r: &mut Reader<'_>, item: &Item, to: &mut Settings) {
    let file = r.file();
    let path = || item.path().map(|path| based(file, path));
    match item.key.as_str() {
        "store" => to.store = r.take(item, path()),
        "control" => to.control = r.take(item, path()),
        "secrets_dir" => to.secrets_dir = r.take(item, path()),
        "catalogs" => {
            let paths = item.texts().map(|all| all.iter().map(|p| based(file, p.into())).collect());
            to.catalogs = r.take(item, paths);
        }
        "quota" => to.quota = r.take(item, item.size()),
        "hard_limit" => to.hard_limit = r.take(item, item.size()),
        "min_free" => {
            let parsed = match item.count() {
                Ok(bytes) => Ok(MinFree::Size(crate::types::Bytes(bytes))),
                Err(_) => item
                    .text()
                    .and_then(|t| t.parse().map_err(|e: String| format!("is wrong: {e}"))),
            };
            to.min_free = r.take(item, parsed);
        }
        "max_downloads" => {
            let count = item
                .count()
                .and_then(|n| usize::try_from(n).map_err(|_| "is too large".to_owned()));
            to.max_downloads = r.take(item, count);
        }
        "revalidate_window" => to.revalidate_window = r.take(item, item.duration()),
        "passthrough" => to.passthrough = r.take(item, item.bool()),
        "directories_only" => to.directories_only = r.take(item, item.bool()),
        "allow_other" => to.allow_other = r.take(item, item.bool()),
        "log_format" => {
            let parsed = item
                .text()
                .and_then(|t| t.parse::<LogFormat>().map_err(|e| format!("is wrong: {e}")));
            to.log_format = r.take(item, parsed);
        }
        "archives" => to.archives = archives::read(r, item),
        "origins" => {
            let Some(table) = r.take(item, item.table()) else {
                return;
            };
            for section in &table.0 {
                if let Some((host, section)) = origins::read(r, section) {
                    to.origins.insert(host, section);
                }
            }
        }
        _ => r.unknown(item, "the configuration", &KEYS),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::tree::Limits;
    use crate::types::Bytes;

    fn problems(text: &str) -> Vec<String> {
        let problems = parse(Path::new("/etc/c.toml"), text.as_bytes()).unwrap_err();
        problems.iter().map(Problem::to_string).collect()
    }

    const EXAMPLE: &str = r#"
store    = "/var/cache/cached-downloads"
catalogs = ["/etc/cached-downloads/catalog.d", "more"]
control  = "/run/cached-downloads.sock"
quota    = "10GB"
hard_limit = 12000000000
min_free = "5%"
max_downloads = 16
revalidate_window = "1s"
secrets_dir = "secrets"
passthrough = false
directories_only = true
allow_other = true
log_format = "json"
[archives]
members = 1000
index = "1MiB"
expanded = "1GB"
ratio = 50
member = 1048576
depth = 8
path = 255
[origins."Blobstore.internal:8443"]
ca_file = "ca.pem"
cert_file = "/c.pem"
key_file = "/k.pem"
ca_only = true
connections = 8
proxy = "http://u:p@proxy:3128"
allowed_redirect_hosts = ["cdn.internal", "*.storage.example"]
"#;

    #[test]
    fn every_key() {
        let read = parse(Path::new("/etc/c.toml"), EXAMPLE.as_bytes()).unwrap();
        let origin = OriginSection {
            ca_file: Some("/etc/ca.pem".into()),
            ca_only: true,
            cert_file: Some("/c.pem".into()),
            key_file: Some("/k.pem".into()),
            insecure_skip_verify: false,
            connections: Some(8),
            proxy: Some("http://u:p@proxy:3128".parse().unwrap()),
            allowed_redirect_hosts: Some(
                ["cdn.internal", "*.storage.example"].map(|host| host.parse().unwrap()).into(),
            ),
        };
        let expected = Settings {
            store: Some("/var/cache/cached-downloads".into()),
            catalogs: Some(vec!["/etc/cached-downloads/catalog.d".into(), "/etc/more".into()]),
            control: Some("/run/cached-downloads.sock".into()),
            quota: Some(Bytes(10_000_000_000)),
            hard_limit: Some(Bytes(12_000_000_000)),
            min_free: Some(MinFree::Percent(5)),
            max_downloads: Some(16),
            revalidate_window: Some(Duration::from_secs(1)),
            secrets_dir: Some("/etc/secrets".into()),
            passthrough: Some(false),
            directories_only: Some(true),
            allow_other: Some(true),
            log_format: Some(LogFormat::Json),
            archives: Some(Limits {
                members: 1000,
                index: 1 << 20,
                expanded: 1_000_000_000,
                ratio: 50,
                member: 1 << 20,
                depth: 8,
                path: 255,
            }),
            origins: [("blobstore.internal:8443".to_owned(), origin)].into(),
        };
        assert_eq!(read, expected);
        let json = r#"{"quota": "10GB", "max_downloads": 16}"#;
        let read = parse(Path::new("c.json"), json.as_bytes()).unwrap();
        assert_eq!(read.quota, Some(Bytes(10_000_000_000)));
        let read = parse(Path::new("c.json"), br#"{"archives": {"depth": 3}}"#).unwrap();
        assert_eq!(read.archives, Some(Limits { depth: 3, ..Limits::default() }));
    }

    #[test]
    fn every_limit_of_archives_is_checked() {
        for (line, expected) in [
            ("members = 0", "`members` must be a whole number from 1 to 2097151"),
            ("members = 2097152", "`members` must be a whole number from 1 to 2097151"),
            ("index = 1", "`index` must be a size from 4.0 KiB to "),
            ("index = \"1 elephant\"", "`index` has a bad size: `1 elephant` is not a size"),
            ("expanded = 0", "`expanded` must be a size from 1 B to "),
            ("ratio = \"x\"", "`ratio` must be a whole number from 1 to 1000000"),
            ("member = true", "`member` must be a size, for example \"10GB\", not a boolean"),
            ("depth = 2049", "`depth` must be a whole number from 1 to 2048"),
            ("path = 65536", "`path` must be a whole number from 1 to 65535"),
            ("raito = 5", "unknown key `raito` in [archives]; did you mean `ratio`?"),
        ] {
            let found = problems(&format!("[archives]\n{line}"));
            assert_eq!(found.len(), 1, "{found:#?}");
            assert!(found[0].starts_with(&format!("/etc/c.toml:2: {expected}")), "{}", found[0]);
        }
        assert_eq!(
            problems("archives = 1"),
            ["/etc/c.toml:1: `archives` must be a table, not an integer"]
        );
    }

    use super::super::OriginSection;

    #[test]
    fn each_mistake_has_its_line() {
        let found = problems(
            "qouta = \"1GB\"\nquota = \"1 gigabyte\"\nrevalidate_window = 5\nlog_format = \"xml\"\nmax_downloads = -1\n\
             catalogs = \"x\"\n[origins.blobstore.internal]\nca_file = \"x\"\n[origins.h]\nproxy = \"x\"\ncert_file = \"x\"\n\
             conections = 2\nconnections = 65\nca_only = true\nallowed_redirect_hosts = [\"http://h\"]\n",
        );
        let expected = [
            "/etc/c.toml:1: unknown key `qouta` in the configuration; did you mean `quota`?",
            "/etc/c.toml:2: `quota` has a bad size: `1 gigabyte` is not a size; ",
            "/etc/c.toml:3: `revalidate_window` has a bad duration: `5` has no unit; ",
            "/etc/c.toml:4: `log_format` is wrong: `xml` is not a log format; ",
            "/etc/c.toml:5: `max_downloads` must be a whole number from 0",
            "/etc/c.toml:6: `catalogs` must be an array of strings, not a string",
            "/etc/c.toml:7: the origin `blobstore.internal...` has dots; quote all of it",
            "/etc/c.toml:10: `proxy` is not a proxy; write `http://host:port`",
            "/etc/c.toml:12: unknown key `conections` in [origins.\"h\"]; did you mean `connections`?",
            "/etc/c.toml:13: `connections` must be a whole number from 1 to 64",
            "/etc/c.toml:15: `allowed_redirect_hosts` is wrong: `http://h` is not a host; ",
            "/etc/c.toml:9: [origins.\"h\"] needs both `cert_file` and `key_file`",
            "/etc/c.toml:9: [origins.\"h\"] has `ca_only` and no `ca_file` to trust; give one",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
        assert!(problems("quota = ")[0].starts_with("/etc/c.toml:1: is not TOML: "));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(Path::new("c.toml"), &bytes);
            let _ = parse(Path::new("c.json"), &bytes);
        }

        #[test]
        fn a_damaged_file_never_panics(at in 0..EXAMPLE.len(), with in "[\\[\\]{}\"=.,a0\n]{0,4}") {
            let mut text = EXAMPLE.to_owned();
            text.replace_range(at..(at + 1), &with);
            let _ = parse(Path::new("c.toml"), text.as_bytes());
        }
    }
}
