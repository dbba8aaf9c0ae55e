//! `headers = { X-Tenant = "a", Authorization = { file = "cc-token" } }`.

use std::path::{Component, Path, PathBuf};

use crate::document::{Item, Reader, Value};
use crate::source::{Header, HeaderValue, RESERVED_HEADERS};

/// Where catalogs may take header values from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// The operator names no directory, so files are refused.
    None,
    /// Files below this directory.
    Dir(PathBuf),
    /// The directory is not known here. Files are never looked for, and refused only where no
    /// directory could have them.
    Unchecked,
}

/// Reads a table of headers. What is wrong is recorded and left out; no value is ever repeated.
pub(super) fn read(reader: &mut Reader<'_>, item: &Item, secrets: &Secrets) -> Vec<Header> {
    let Some(table) = reader.take(item, item.table()) else {
        return Vec::new();
    };
    let mut headers: Vec<Header> = Vec::with_capacity(table.0.len());
    for field in &table.0 {
        let header = header(field, secrets).and_then(|header| {
            if headers.iter().any(|h| h.name == header.name) {
                return Err("is given twice; case does not count".to_owned());
            }
            Ok(header)
        });
        match header {
            Ok(header) => headers.push(header),
            Err(e) => reader.at(field.line, format!("the header `{}` {e}", shown_name(&field.key))),
        }
    }
    headers
}

/// Returns what may be printed of a header's name. One that is none may be a whole field, value
/// included; then it is what precedes its `:` or space, if that is a name.
fn shown_name(key: &str) -> String {
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(is_token);
    if key.is_empty() || is_name(key) {
        return key.to_owned();
    }
    match key.split_once([':', ' ']) {
        Some((name, _)) if is_name(name) => format!("{name}..."),
        _ => "...".to_owned(),
    }
}

/// Reads one header. The error is the end of a sentence.
fn header(field: &Item, secrets: &Secrets) -> Result<Header, String> {
    let name = field.key.to_ascii_lowercase();
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("is not a header name; letters, digits and `-` are expected".to_owned());
    }
    if RESERVED_HEADERS.contains(&name.as_str()) {
        return Err("is set by this program; remove it".to_owned());
    }
    let value = match &field.value {
        Value::Text(text) if text.bytes().all(is_value) => {
            HeaderValue::Literal(text.trim_matches([' ', '\t']).to_owned())
        }
        Value::Text(_) => {
            return Err("has a line break or another control character in its value".to_owned());
        }
        Value::Table(table) => match table.0.as_slice() {
            [file] if file.key == "file" => HeaderValue::File(secret_file(&file.path()?, secrets)?),
            _ => return Err("must be a string, or { file = \"NAME\" } and nothing else".to_owned()),
        },
        other => {
            return Err(format!("must be a string or {{ file = \"NAME\" }}, not {}", other.kind()));
        }
    };
    Ok(Header { name, value })
}

/// Returns the path of a secret, after a check that it lies in the secrets directory.
///
/// The path returned is not the resolved one: where secrets are rotated by switching a symlink
/// inside the directory, the next request follows the new one.
fn secret_file(path: &Path, secrets: &Secrets) -> Result<PathBuf, String> {
    let climbs = path.components().any(|c| c == Component::ParentDir);
    let dir = match secrets {
        Secrets::Unchecked if climbs => {
            return Err(format!(
                "names the file {}, which is outside any secrets directory; only files in there may be used",
                path.display()
            ));
        }
        Secrets::Unchecked => return Ok(path.to_owned()),
        Secrets::None => {
            return Err("names a file, but no secrets directory is configured; set `secrets_dir`"
                .to_owned());
        }
        Secrets::Dir(dir) => dir,
    };
    let outside = || {
        format!(
            "names the file {}, which is outside the secrets directory {}; only files in there may be used",
            path.display(),
            dir.display()
        )
    };
    let joined = dir.join(path);
    if climbs || !joined.starts_with(dir) {
        return Err(outside());
    }
    let cannot = |e: std::io::Error| {
        format!("names the file {}, which cannot be read: {e}", joined.display())
    };
    let real = joined.canonicalize().map_err(cannot)?;
    if !real.starts_with(dir.canonicalize().map_err(cannot)?) {
        return Err(outside());
    }
    if !real.is_file() {
        return Err(format!("names {}, which is not a file", joined.display()));
    }
    Ok(joined)
}

/// RFC 9110, section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// RFC 9110, section 5.5.
fn is_value(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}
