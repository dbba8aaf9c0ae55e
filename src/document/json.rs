//! JSON with line numbers.
//!
//! `serde_json` tells no places. It does lend out the raw text of a value, and where that text
//! lies in the document gives the line. Each level is parsed once more per level above it, which
//! the small depth allowed keeps cheap.

use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::tree::{Item, Lines, Table, Value};

/// No document of ours nests deeper than five levels.
const DEPTH: usize = 16;

/// Parses a JSON object. The error has a line, and no text of the document, which may be a secret.
pub(super) fn parse(text: &str) -> Result<Table, (usize, String)> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|e| (e.line(), broken(&e)))?;
    let document = Document { start: text.as_ptr() as usize, lines: Lines::new(text) };
    match document.value(raw, DEPTH)? {
        Value::Table(table) => Ok(table),
        other => Err((1, format!("must be a JSON object, not {}", other.kind()))),
    }
}

/// Names the fault alone: `serde_json` adds its own line, which is relative to the part parsed.
fn broken(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("is not JSON: {what}")
}

struct Document {
    start: usize,
    lines: Lines,
}

impl Document {
    fn line(&self, raw: &RawValue) -> usize {
        // Every raw value borrows from the document, so the difference is its place in it.
        self.lines.of((raw.get().as_ptr() as usize).wrapping_sub(self.start))
    }

    fn value(&self, raw: &RawValue, depth: usize) -> Result<Value, (usize, String)> {
        let text = raw.get();
        let fail = |e: serde_json::Error| (self.line(raw), broken(&e));
        if depth == 0 {
            return Err((self.line(raw), "is nested too deeply".to_owned()));
        }
        Ok(match text.as_bytes().first() {
            Some(b'{') => {
                let pairs = serde_json::Deserializer::from_str(text)
                    .deserialize_map(Pairs)
                    .map_err(fail)?;
                self.table(pairs, depth - 1)?
            }
            Some(b'[') => Value::Array(
                serde_json::from_str::<Vec<&RawValue>>(text)
                    .map_err(fail)?
                    .into_iter()
                    .map(|inner| self.value(inner, depth - 1))
                    .collect::<Result<_, _>>()?,
            ),
            Some(b'"') => Value::Text(serde_json::from_str(text).map_err(fail)?),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'n') => Value::Other("null"),
            _ => text.parse().map_or(Value::Other("a float"), Value::Integer),
        })
    }

    fn table(
        &self,
        pairs: Vec<(String, &RawValue)>,
        depth: usize,
    ) -> Result<Value, (usize, String)> {
        let mut seen = std::collections::HashSet::new();
        let mut items = Vec::with_capacity(pairs.len());
        for (key, raw) in &pairs {
            let line = self.line(raw);
            if !seen.insert(key.as_str()) {
                return Err((line, format!("the key `{}` is given twice", key.escape_debug())));
            }
            items.push(Item { key: key.clone(), line, value: self.value(raw, depth)? });
        }
        Ok(Value::Table(Table(items)))
    }
}

struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_duplicates() {
        let table = parse("{\n \"a\": {\n  \"b\": [1, \"x\"],\n  \"c\": 1.5 } }").unwrap();
        let Value::Table(a) = &table.0[0].value else { panic!("a table") };
        assert_eq!((table.0[0].line, a.0[0].line, a.0[1].line), (2, 3, 4));
        assert_eq!(a.0[1].value.kind(), "a float");
        let (line, text) = parse("{\"a\":1,\n\n\"a\":2}").unwrap_err();
        assert_eq!((line, text.as_str()), (3, "the key `a` is given twice"));
        let (line, text) = parse("{\n\"a\": tru }").unwrap_err();
        assert_eq!(line, 2);
        assert!(text.starts_with("is not JSON: "), "{text}");
        assert!(!text.contains("line"), "{text}");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(1000), "]".repeat(1000));
        assert!(parse(&deep).unwrap_err().1.contains("nested too deeply"));
    }
}
