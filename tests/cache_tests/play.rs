//! One test, translated: each request is an open of the same name.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::data::{Expected, Request, Test};
use crate::origin::{Asked, Origin};

/// What the data mean by a pause.
const PAUSE: Duration = Duration::from_secs(3);

/// What lies between two requests without one: a version that has just landed is a hit for a
/// second, as the kernel may have to open it twice, and so is a failure remembered.
const BETWEEN: Duration = Duration::from_millis(1100);

/// What came of a test.
pub(crate) enum Outcome {
    Passed,
    /// Why not.
    Failed(String),
}

/// A test with its origin.
pub(crate) struct Player<'a> {
    pub(crate) test: &'a Test,
    origin: Origin,
}

/// What an open brought.
enum Got {
    /// The body that answered this request.
    Body(usize),
    Error(std::io::Error),
}

impl<'a> Player<'a> {
    pub(crate) fn new(test: &'a Test) -> Player<'a> {
        Player { test, origin: Origin::start(&test.requests) }
    }

    /// Returns the catalog's table for this test. The header fields that the client sends with
    /// every request are those of the source.
    pub(crate) fn binding(&self) -> String {
        let first = &self.test.requests[0];
        let query = first.query_arg.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let (id, at) = (&self.test.id, self.origin.address());
        let mut text = format!("[downloads.\"{id}\"]\nurl = \"http://{at}/{id}{query}\"\n");
        text.push_str("revalidate = \"http\"\nheaders = {");
        for (index, (name, value)) in first.request_headers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // A JSON text is a TOML text; what is none belongs to tests that do not apply.
            let _ = write!(text, "{comma} \"{name}\" = {value}");
        }
        text.push_str(" }");
        text
    }

    /// Opens the name once for each request.
    pub(crate) fn play(&self, path: &Path) -> Outcome {
        for (index, request) in self.test.requests.iter().enumerate() {
            self.origin.play(index);
            let got = match std::fs::read_to_string(path) {
                Ok(text) => match text.trim().parse() {
                    Ok(index) => Got::Body(index),
                    Err(_) => return Outcome::Failed(format!("read {text:?}")),
                },
                Err(error) => Got::Error(error),
            };
            if let Err(why) = check(index, request, &got, &self.origin.asked()) {
                let setup = if request.setup { " (setup)" } else { "" };
                return Outcome::Failed(format!("request {}{setup}: {why}", index + 1));
            }
            std::thread::sleep(if request.pause_after { PAUSE } else { BETWEEN });
        }
        Outcome::Passed
    }
}

/// Holds what an open brought, and what the origin was asked meanwhile, against what is expected.
fn check(index: usize, request: &Request, got: &Got, asked: &[Asked]) -> Result<(), String> {
    // A mount shows bodies of 200 alone; any other answer is an errno.
    let fails = request.status() != 200 || request.disconnect;
    let from = match got {
        Got::Body(from) => Some(*from),
        Got::Error(_) if fails => None,
        Got::Error(error) => return Err(error.to_string()),
    };
    let kept = from.is_some_and(|from| from < index);
    // A failure may be cached too.
    let cached = kept || (from.is_none() && asked.is_empty());
    match request.expected_type {
        Some(Expected::Cached) if !cached => return Err("not from the cache".to_owned()),
        Some(Expected::NotCached) if kept => return Err("came from the cache".to_owned()),
        Some(Expected::NotCached) if asked.is_empty() => return Err("nothing asked".to_owned()),
        Some(Expected::EtagValidated) => validated(kept, asked, "if-none-match")?,
        Some(Expected::LmValidated) => validated(kept, asked, "if-modified-since")?,
        None if from.is_some() && fails => return Err("opened, though it should fail".to_owned()),
        Some(Expected::Cached | Expected::NotCached) | None => {}
    }
    // What the cache answers by itself is not seen by the origin.
    let Some(first) = asked.first() else { return Ok(()) };
    for wanted in &request.expected_request_headers {
        let (name, value) = match wanted {
            Value::Array(pair) => (pair.first(), pair.get(1).and_then(Value::as_str)),
            name => (Some(name), None),
        };
        let name = name.and_then(Value::as_str).unwrap_or_default().to_lowercase();
        match (first.field(&name), value) {
            (Some(sent), Some(wanted)) if sent == wanted => {}
            (Some(_), None) => {}
            (sent, _) => return Err(format!("sent {name}: {sent:?}")),
        }
    }
    Ok(())
}

fn validated(kept: bool, asked: &[Asked], condition: &str) -> Result<(), String> {
    match asked {
        [] => Err("nothing asked".to_owned()),
        [first, ..] if first.field(condition).is_none() => {
            Err(format!("asked without {condition}"))
        }
        _ if !kept => Err("the 304 was not used".to_owned()),
        _ => Ok(()),
    }
}
