//! Values with a grammar of their own.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::types::Bytes;

/// How much of the store's filesystem stays free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinFree {
    /// An amount.
    Size(Bytes),
    /// A share of the filesystem in percent, 0 to 99.
    Percent(u8),
}

impl MinFree {
    /// Returns the bytes this is on a filesystem of `total` bytes.
    pub fn of(self, total: u64) -> Bytes {
        match self {
            MinFree::Size(size) => size,
            MinFree::Percent(percent) => {
                // At most 99 % of a u64 is a u64.
                Bytes((u128::from(total) * u128::from(percent) / 100) as u64)
            }
        }
    }
}

impl FromStr for MinFree {
    type Err = String;

    /// Parses a size (`2GiB`), or a whole percentage (`5%`).
    fn from_str(text: &str) -> Result<MinFree, String> {
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(MinFree::Size).map_err(|_| {
                format!(
                    "`{}` is neither a size nor a percentage; write for example `5%` or `2GiB`",
                    text.escape_debug()
                )
            });
        };
        match percent.trim_end().parse::<u8>() {
            Ok(percent) if percent < 100 && !text.starts_with('+') => Ok(MinFree::Percent(percent)),
            _ => Err(format!(
                "`{}` is not a percentage; write a whole number from 0% to 99%",
                text.escape_debug()
            )),
        }
    }
}

impl fmt::Display for MinFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MinFree::Size(size) => size.fmt(f),
            MinFree::Percent(percent) => write!(f, "{percent} %"),
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for each event.
    #[default]
    Text,
    /// One JSON object for each event.
    Json,
}

impl LogFormat {
    /// Returns the word used in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!(
                "`{}` is not a log format; write `text` or `json`",
                text.escape_debug()
            )),
        }
    }
}

/// Returns a path as seen from the directory of `file`.
pub(super) fn based(file: &Path, path: PathBuf) -> PathBuf {
    match file.parent() {
        Some(dir) => dir.join(path),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_free() {
        assert_eq!("5%".parse(), Ok(MinFree::Percent(5)));
        assert_eq!("0 %".parse(), Ok(MinFree::Percent(0)));
        assert_eq!("2GiB".parse(), Ok(MinFree::Size(Bytes(2 << 30))));
        for bad in ["", "%", "100%", "-1%", "+5%", "5.5%", "five"] {
            assert!(bad.parse::<MinFree>().is_err(), "{bad}");
        }
        assert_eq!(MinFree::Percent(5).of(1000), Bytes(50));
        assert_eq!(MinFree::Percent(99).of(u64::MAX).0, u64::MAX / 100 * 99 + 14);
        assert_eq!(MinFree::Size(Bytes(7)).of(1), Bytes(7));
    }

    #[test]
    fn log_format() {
        for format in [LogFormat::Text, LogFormat::Json] {
            assert_eq!(format.as_str().parse(), Ok(format));
        }
        assert!("xml".parse::<LogFormat>().is_err());
    }
}
