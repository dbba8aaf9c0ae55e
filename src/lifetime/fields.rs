//! The header fields that say something of an answer's lifetime, read defensively.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The most that a number of seconds counts for; what is greater, or does not fit, reads as this
/// (RFC 9111, section 1.2.2).
const MOST: u32 = 1 << 31;

/// More names than this in Vary read as `*`.
const VARY_NAMES: usize = 32;

/// A field that is there, but says nothing that can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unusable;

/// What the fields of one message say; `None` where the field is missing.
#[derive(Debug, PartialEq)]
pub(super) struct Fields {
    pub(super) control: Option<Control>,
    /// Seconds since 1970; 0, which has passed, for what is no date, or for several dates.
    pub(super) expires: Option<u64>,
    /// In lower case and order.
    pub(super) vary: Option<Vec<String>>,
    pub(super) pragma_no_cache: Option<bool>,
    pub(super) date: Result<Option<SystemTime>, Unusable>,
    /// Seconds.
    pub(super) age: Result<Option<u64>, Unusable>,
}

/// The directives of Cache-Control that concern a private cache (RFC 9111, section 5.2.2, and RFC
/// 5861). Numbers are seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Control {
    #[serde(skip_serializing_if = "is_false")]
    pub(super) no_store: bool,
    /// With or without a list of fields: no field can be left out of what is served.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) no_cache: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub(super) must_revalidate: bool,
    /// 0 for what is no number, or for several numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stale_while_revalidate: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stale_if_error: Option<u32>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Fields {
    pub(super) fn read<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Fields {
        let (mut control, mut vary, mut pragma) = (Vec::new(), Vec::new(), Vec::new());
        let (mut expires, mut date, mut age) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in fields {
            let lines = match name {
                "cache-control" => &mut control,
                "expires" => &mut expires,
                "vary" => &mut vary,
                "pragma" => &mut pragma,
                "date" => &mut date,
                "age" => &mut age,
                _ => continue,
            };
            lines.push(value.trim_ascii());
        }
        Fields {
            control: given(&control).map(Control::read),
            expires: given(&expires).map(read_expires),
            vary: given(&vary).map(read_vary),
            pragma_no_cache: given(&pragma).map(has_no_cache),
            date: read_date(&date),
            age: read_age(&age),
        }
    }
}

/// Returns the lines of a field that is there.
fn given<'a, 'b>(lines: &'b [&'a [u8]]) -> Option<&'b [&'a [u8]]> {
    (!lines.is_empty()).then_some(lines)
}

/// Returns the line that all lines are, if they are all the same.
fn only<'a>(lines: &[&'a [u8]]) -> Option<&'a [u8]> {
    let first = *lines.first()?;
    lines.iter().all(|line| *line == first).then_some(first)
}

/// Reads Expires (RFC 9111, section 5.3): what is no date, `0` above all, has passed.
fn read_expires(lines: &[&[u8]]) -> u64 {
    let at = only(lines).and_then(http_date);
    at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()).map_or(0, |at| at.as_secs())
}

/// Reads Date (RFC 9110, section 6.6.1): what is no date counts as missing.
fn read_date(lines: &[&[u8]]) -> Result<Option<SystemTime>, Unusable> {
    match given(lines) {
        None => Ok(None),
        Some(lines) => only(lines).map(http_date).ok_or(Unusable),
    }
}

/// Reads Age (RFC 9111, section 5.1). That section would have the first of several numbers used and
/// other nonsense ignored; since either may hide a great age, the answer counts as stale instead.
fn read_age(lines: &[&[u8]]) -> Result<Option<u64>, Unusable> {
    match lines {
        [] => Ok(None),
        [line] => delta_seconds(line).map(|age| Some(age.into())).ok_or(Unusable),
        _ => Err(Unusable),
    }
}

fn http_date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

/// Reads a number of seconds: digits and nothing else.
fn delta_seconds(value: &[u8]) -> Option<u32> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0u32, |number, digit| {
        number.saturating_mul(10).saturating_add(u32::from(digit - b'0')).min(MOST)
    }))
}

/// Reads Vary (RFC 9110, section 12.5.5). What is no field name reads as `*`.
fn read_vary(lines: &[&[u8]]) -> Vec<String> {
    let members = lines.iter().flat_map(|line| line.split(|byte| *byte == b','));
    let mut names = BTreeSet::new();
    for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        match std::str::from_utf8(member) {
            Ok(name) if member.iter().all(|byte| is_token(*byte)) => {
                names.insert(name.to_ascii_lowercase());
            }
            _ => return vec!["*".to_owned()],
        }
    }
    // One `*` makes the others irrelevant.
    if names.len() > VARY_NAMES || names.contains("*") {
        return vec!["*".to_owned()];
    }
    names.into_iter().collect()
}

/// Says whether a byte may stand in a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn has_no_cache(lines: &[&[u8]]) -> bool {
    directives(lines).any(|directive| directive.is("no-cache"))
}

impl Control {
    /// Reads the lines of a Cache-Control field. What restricts is recognized in any form, what
    /// permits only in the right one; of two that differ, neither permits anything.
    fn read(lines: &[&[u8]]) -> Control {
        let mut control = Control::default();
        let (mut max_age, mut behind, mut on_error) = (Vec::new(), Vec::new(), Vec::new());
        for directive in directives(lines) {
            // Any directive may stand in what cannot be taken apart.
            control.no_cache |= directive.is("no-cache") || directive.argument == Argument::Open;
            control.no_store |= directive.is("no-store");
            control.must_revalidate |= directive.is("must-revalidate");
            let seconds = directive.seconds();
            if directive.is("max-age") {
                max_age.push(seconds);
            } else if directive.is("stale-while-revalidate") {
                behind.push(seconds);
            } else if directive.is("stale-if-error") {
                on_error.push(seconds);
            }
        }
        control.max_age = (!max_age.is_empty()).then(|| agreed(&max_age).unwrap_or(0));
        control.stale_while_revalidate = agreed(&behind);
        control.stale_if_error = agreed(&on_error);
        control
    }
}

/// Returns the number that all of them are (RFC 9111, section 4.2.1).
fn agreed(numbers: &[Option<u32>]) -> Option<u32> {
    let first = *numbers.first()?;
    first.filter(|_| numbers.iter().all(|number| *number == first))
}

/// One member of Cache-Control or Pragma.
struct Directive<'a> {
    name: &'a [u8],
    argument: Argument<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum Argument<'a> {
    None,
    /// A token, or the inside of a quoted string.
    Is(&'a [u8]),
    /// Something after `=` that is neither.
    Nonsense,
    /// A quoted string that does not end.
    Open,
}

impl Directive<'_> {
    /// Names are compared without regard to case (RFC 9111, section 5.2).
    fn is(&self, name: &str) -> bool {
        self.name.trim_ascii().eq_ignore_ascii_case(name.as_bytes())
    }

    /// Returns the argument as seconds. A quoted number is one too (RFC 9111, section 5.2).
    fn seconds(&self) -> Option<u32> {
        match self.argument {
            // White space before the `=` is not in the grammar.
            Argument::Is(value) if !self.name.ends_with(b" ") && !self.name.ends_with(b"\t") => {
                delta_seconds(value)
            }
            _ => None,
        }
    }
}

fn directives<'a>(lines: &[&'a [u8]]) -> impl Iterator<Item = Directive<'a>> {
    lines.iter().flat_map(|line| {
        let mut rest = *line;
        std::iter::from_fn(move || (!rest.is_empty()).then(|| next(&mut rest)))
    })
}

/// Takes the next member, and the comma after it, off a line that is not empty.
fn next<'a>(rest: &mut &'a [u8]) -> Directive<'a> {
    let (length, open) = measure(rest);
    let (member, after) = rest.split_at(length);
    *rest = after.get(1..).unwrap_or_default();
    let (name, value) = match member.iter().position(|byte| *byte == b'=') {
        Some(equals) => (&member[..equals], Some(member[equals + 1..].trim_ascii_end())),
        None => (member, None),
    };
    let argument = match value {
        _ if open => Argument::Open,
        None => Argument::None,
        Some([b'"', inside @ .., b'"']) if !inside.iter().any(|b| b"\"\\".contains(b)) => {
            Argument::Is(inside)
        }
        Some(token) if token.iter().all(|byte| is_token(*byte)) => Argument::Is(token),
        Some(_) => Argument::Nonsense,
    };
    Directive { name, argument }
}

/// Returns the length of the first member, and whether it ends inside a quoted string.
fn measure(line: &[u8]) -> (usize, bool) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (at, false),
            _ => {}
        }
    }
    (line.len(), quoted)
}
