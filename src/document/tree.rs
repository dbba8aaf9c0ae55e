//! The tree, and how TOML becomes one.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::types::Bytes;

/// A table or object. Its keys differ from one another.
#[derive(Debug, Default)]
pub(crate) struct Table(pub(crate) Vec<Item>);

/// A key with its value.
#[derive(Debug)]
pub(crate) struct Item {
    /// The key, unquoted.
    pub(crate) key: String,
    /// The line of the key, from 1.
    pub(crate) line: usize,
    /// Its value.
    pub(crate) value: Value,
}

/// A value.
#[derive(Debug)]
pub(crate) enum Value {
    Text(String),
    Integer(i128),
    Bool(bool),
    Array(Vec<Value>),
    Table(Table),
    /// Null, a float, a date: no key wants one. Holds its name with an article.
    Other(&'static str),
}

impl Value {
    /// Returns what it is, with an article.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Bool(_) => "a boolean",
            Value::Array(_) => "an array",
            Value::Table(_) => "a table",
            Value::Other(kind) => kind,
        }
    }
}

// Each accessor returns the end of a sentence that begins with the key.
impl Item {
    fn must<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("must be {what}, not {}", self.value.kind()))
    }

    /// Returns a string.
    pub(crate) fn text(&self) -> Result<&str, String> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => self.must("a string"),
        }
    }

    /// Returns a string that is not empty, as a path.
    pub(crate) fn path(&self) -> Result<PathBuf, String> {
        match self.text()? {
            "" => Err("is empty; give a path".to_owned()),
            text => Ok(PathBuf::from(text)),
        }
    }

    /// Returns a boolean.
    pub(crate) fn bool(&self) -> Result<bool, String> {
        match self.value {
            Value::Bool(value) => Ok(value),
            _ => self.must("true or false"),
        }
    }

    /// Returns a table.
    pub(crate) fn table(&self) -> Result<&Table, String> {
        match &self.value {
            Value::Table(table) => Ok(table),
            _ => self.must("a table"),
        }
    }

    /// Returns the strings of an array.
    pub(crate) fn texts(&self) -> Result<Vec<&str>, String> {
        let Value::Array(values) = &self.value else {
            return self.must("an array of strings");
        };
        values
            .iter()
            .map(|value| match value {
                Value::Text(text) => Ok(text.as_str()),
                other => Err(format!("must hold strings only, not {}", other.kind())),
            })
            .collect()
    }

    /// Returns a whole number that is not negative.
    pub(crate) fn count(&self) -> Result<u64, String> {
        match self.value {
            Value::Integer(n) => {
                u64::try_from(n).map_err(|_| "must be a whole number from 0".to_owned())
            }
            _ => self.must("a whole number"),
        }
    }

    /// Returns a size: a whole number of bytes, or text with a unit.
    pub(crate) fn size(&self) -> Result<Bytes, String> {
        match &self.value {
            Value::Text(text) => {
                text.parse().map_err(|e: crate::types::SizeError| format!("has a bad size: {e}"))
            }
            Value::Integer(_) => self.count().map(Bytes),
            _ => self.must("a size, for example \"10GB\""),
        }
    }

    /// Returns a duration: text with a unit, or 0.
    pub(crate) fn duration(&self) -> Result<Duration, String> {
        match &self.value {
            Value::Text(text) => super::parse_duration(text),
            Value::Integer(n) => super::parse_duration(&n.to_string()),
            _ => return self.must("a duration, for example \"1s\""),
        }
        .map_err(|e| format!("has a bad duration: {e}"))
    }
}

/// Parses TOML. The error has a line, and no text of the document, which may be a secret.
pub(super) fn parse_toml(text: &str) -> Result<Table, (usize, String)> {
    let lines = Lines::new(text);
    let root = DeTable::parse(text).map_err(|e| {
        let line = e.span().map_or(1, |span| lines.of(span.start));
        (line, format!("is not TOML: {}", e.message()))
    })?;
    Ok(table(root.into_inner(), &lines))
}

fn table(from: DeTable<'_>, lines: &Lines) -> Table {
    let mut items: Vec<Item> = from
        .into_iter()
        .map(|(key, value)| Item {
            line: lines.of(key.span().start),
            key: key.into_inner().into_owned(),
            value: convert(value, lines),
        })
        .collect();
    // Problems are reported in the order of the lines.
    items.sort_by_key(|item| item.line);
    Table(items)
}

fn convert(from: Spanned<DeValue<'_>>, lines: &Lines) -> Value {
    match from.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(n) => i128::from_str_radix(n.as_str(), n.radix())
            .map_or(Value::Other("an integer out of range"), Value::Integer),
        DeValue::Float(_) => Value::Other("a float"),
        DeValue::Boolean(value) => Value::Bool(value),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(values) => {
            Value::Array(values.into_iter().map(|v| convert(v, lines)).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, lines)),
    }
}

/// Finds the line of a byte.
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    /// Reads a text once.
    pub(super) fn new(text: &str) -> Lines {
        let breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        Lines { starts: breaks.map(|(at, _)| at + 1).collect() }
    }

    /// Returns the line, from 1, of the byte at `offset`.
    pub(super) fn of(&self, offset: usize) -> usize {
        1 + self.starts.partition_point(|start| *start <= offset)
    }
}
