//! What `status --json` and `ls --json` say, by the words that the tests use.

use serde_json::Value;

/// Returns a number found under a key at any depth.
///
/// # Panics
/// No such number: the key is part of the documented surface.
#[track_caller]
pub(crate) fn number(status: &Value, key: &str) -> u64 {
    find(status, key)
        .and_then(Value::as_u64)
        .unwrap_or_else(|| panic!("status has no number `{key}`: {status:#}"))
}

/// Returns the value found under a key at any depth, the outermost first.
pub(crate) fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) => {
            map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key)))
        }
        Value::Array(list) => list.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

/// Returns the record of one name in what `ls --json` printed.
#[track_caller]
pub(crate) fn name<'a>(ls: &'a Value, name: &str) -> &'a Value {
    let list = ls
        .as_array()
        .or_else(|| ls.get("names").and_then(Value::as_array))
        .unwrap_or_else(|| panic!("ls has no list of names: {ls:#}"));
    list.iter()
        .find(|entry| entry.get("name").and_then(Value::as_str) == Some(name))
        .unwrap_or_else(|| panic!("ls does not know `{name}`: {ls:#}"))
}
