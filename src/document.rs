//! TOML and JSON text as one tree in which every key knows its line.
//!
//! Catalogs and the configuration are read through this tree and not through `serde` derives,
//! because an operator needs the line of every mistake, all mistakes at once, the nearest known key,
//! and messages that never repeat a value: values can be secrets.

mod json;
mod text;
mod tree;

use std::fmt;
use std::path::{Path, PathBuf};

pub use text::parse_duration;
pub(crate) use tree::{Item, Table, Value};

/// Something wrong in a file, or with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where there is one to name.
    pub line: Option<usize>,
    /// What is wrong, what was expected, what to do; no secrets.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// The result of a check: text for a person, and whether all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Says whether nothing needs to be mended.
    pub fine: bool,
    /// One finding a line, then a summary; ends with a newline.
    pub text: String,
}

/// The two languages a document may be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Toml,
    Json,
}

impl Format {
    /// Returns the format that a file's suffix names.
    pub(crate) fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "toml" => Some(Format::Toml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

/// Collects the problems of one file while it is read to its end.
pub(crate) struct Reader<'a> {
    file: &'a Path,
    /// What was found so far.
    pub(crate) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Starts with no problem.
    pub(crate) fn new(file: &'a Path) -> Reader<'a> {
        Reader { file, problems: Vec::new() }
    }

    /// Returns the file being read.
    pub(crate) fn file(&self) -> &'a Path {
        self.file
    }

    /// Parses a whole document; `None` when a problem was recorded.
    pub(crate) fn parse(&mut self, format: Format, bytes: &[u8]) -> Option<Table> {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let good = &bytes[..e.valid_up_to()];
                let line = 1 + good.iter().filter(|b| **b == b'\n').count();
                self.at(line, "is not UTF-8 text");
                return None;
            }
        };
        let parsed = match format {
            Format::Toml => tree::parse_toml(text),
            Format::Json => json::parse(text),
        };
        parsed.map_err(|(line, what)| self.at(line, what)).ok()
    }

    /// Records a problem in a line.
    pub(crate) fn at(&mut self, line: usize, text: impl Into<String>) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: Some(line),
            text: text.into(),
        });
    }

    /// Records the problem, if there is one, in the line of `item`, and returns the value.
    pub(crate) fn take<T>(&mut self, item: &Item, parsed: Result<T, String>) -> Option<T> {
        parsed
            .map_err(|what| self.at(item.line, format!("`{}` {what}", item.key.escape_debug())))
            .ok()
    }

    /// Records that a key is none of `known`, and names the nearest of them.
    pub(crate) fn unknown(&mut self, item: &Item, place: &str, known: &[&str]) {
        self.at(
            item.line,
            format!(
                "unknown key `{}` in {place}; {}",
                item.key.escape_debug(),
                text::nearest(&item.key, known)
            ),
        );
    }
}
