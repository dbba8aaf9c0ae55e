//! One download of a catalog.

use std::time::Duration;

use url::Url;

use super::buildpack;
use super::{Rules, headers};
use crate::digest::{Algorithm, Digest};
use crate::document::{Item, Reader, Table, Value};
use crate::source::{Fill, Form, Header, Integrity, Revalidate, Source, shown_text};
use crate::types::Name;

/// The keys of a download.
pub(super) const KEYS: [&str; 16] = [
    "url",
    "sha256",
    "sha512",
    "sha1",
    "md5",
    "key",
    "size",
    "as",
    "revalidate",
    "integrity",
    "aliases",
    "buildpack_key",
    "headers",
    "allow_close_delimited",
    "stale_if_error",
    "fill",
];

/// The keys among them that say what one download is, and so cannot be defaults.
const OWN: [&str; 9] =
    ["url", "sha256", "sha512", "sha1", "md5", "key", "size", "aliases", "buildpack_key"];

/// What one table says; what it leaves out is `None`.
#[derive(Default)]
pub(super) struct Keys {
    url: Option<Url>,
    digest: Option<Digest>,
    key: Option<String>,
    size: Option<u64>,
    form: Option<Form>,
    revalidate: Option<Revalidate>,
    integrity: Option<Integrity>,
    aliases: Vec<Name>,
    headers: Vec<Header>,
    allow_close_delimited: Option<bool>,
    stale_if_error: Option<Duration>,
    fill: Option<Fill>,
}

/// Reads `[defaults]`.
pub(super) fn defaults(r: &mut Reader<'_>, table: &Table, rules: &Rules) -> Keys {
    let mut keys = Keys::default();
    for item in &table.0 {
        if OWN.contains(&item.key.as_str()) {
            r.at(
                item.line,
                format!(
                    "`{}` belongs to one download; move it from [defaults] to [downloads.NAME]",
                    item.key
                ),
            );
        } else {
            read_key(r, item, "[defaults]", rules, &mut keys);
        }
    }
    keys
}

/// Reads one download; `None` when it cannot be used, which is then recorded.
pub(super) fn source(
    r: &mut Reader<'_>,
    name: &Name,
    line: usize,
    table: &Table,
    defaults: &Keys,
    rules: &Rules,
) -> Option<Source> {
    let place = format!("[downloads.{}]", quoted(name.as_str()));
    let before = r.problems.len();
    let mut keys = Keys::default();
    for item in &table.0 {
        read_key(r, item, &place, rules, &mut keys);
    }
    if !table.0.iter().any(|item| item.key == "url") {
        r.at(line, format!("{place} has no `url`"));
    }
    if r.problems.len() > before {
        return None;
    }
    let digest = keys.digest;
    let mut aliases = keys.aliases;
    // The order they are written in means nothing, nor that one is given twice.
    aliases.sort();
    aliases.dedup();
    let mut headers = keys.headers;
    for header in &defaults.headers {
        if !headers.iter().any(|h| h.name == header.name) {
            headers.push(header.clone());
        }
    }
    // The order they are written in means nothing, so it must not look like a change.
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    let policy = match digest {
        Some(_) => Revalidate::Never,
        None => Revalidate::Always,
    };
    let source = Source::new(keys.url?);
    let form = keys.form.or(defaults.form).unwrap_or(match rules.directories_only {
        true => Form::Directory,
        false => source.form,
    });
    Some(Source {
        key: keys.key,
        size: keys.size,
        form,
        revalidate: keys.revalidate.or(defaults.revalidate).unwrap_or(policy),
        integrity: keys.integrity.or(defaults.integrity).unwrap_or(source.integrity),
        aliases,
        headers,
        allow_close_delimited: keys
            .allow_close_delimited
            .or(defaults.allow_close_delimited)
            .unwrap_or(source.allow_close_delimited),
        stale_if_error: keys
            .stale_if_error
            .or(defaults.stale_if_error)
            .unwrap_or(source.stale_if_error),
        fill: keys.fill.or(defaults.fill).unwrap_or(Fill::of(form)),
        digest,
        ..source
    })
}

fn read_key(r: &mut Reader<'_>, item: &Item, place: &str, rules: &Rules, to: &mut Keys) {
    match item.key.as_str() {
        "url" => to.url = r.take(item, item.text().and_then(parse_url)),
        "key" => to.key = r.take(item, key(item)),
        "size" => to.size = r.take(item, item.size()).map(|size| size.0),
        "as" => {
            let choices = [("file", Form::File), ("directory", Form::Directory)];
            let form = choice(item, &choices).and_then(|form| match form {
                Form::File if rules.directories_only => {
                    Err("must be \"directory\": this mount has `directories_only`; \
                     show files in a mount without it"
                        .to_owned())
                }
                form => Ok(form),
            });
            to.form = r.take(item, form);
        }
        "integrity" => {
            let choices = [("strict", Integrity::Strict), ("eventual", Integrity::Eventual)];
            to.integrity = r.take(item, choice(item, &choices));
        }
        "revalidate" => to.revalidate = r.take(item, revalidate(item)),
        "fill" => {
            let choices = [("all", Fill::All), ("on-read", Fill::OnRead)];
            to.fill = r.take(item, choice(item, &choices));
        }
        "aliases" => to.aliases.extend(r.take(item, aliases(item)).unwrap_or_default()),
        "buildpack_key" => {
            let names = key(item).and_then(|key| buildpack::names(&key));
            to.aliases.extend(r.take(item, names).into_iter().flatten());
        }
        "headers" => to.headers = headers::read(r, item, &rules.secrets),
        "allow_close_delimited" => to.allow_close_delimited = r.take(item, item.bool()),
        "stale_if_error" => to.stale_if_error = r.take(item, item.duration()),
        word => match Algorithm::ALL.into_iter().find(|a| a.as_str() == word) {
            Some(_) if to.digest.is_some() => {
                r.at(item.line, format!("{place} has more than one digest; keep the strongest"))
            }
            Some(algorithm) => {
                let digest = item
                    .text()
                    .and_then(|hex| Digest::parse(algorithm, hex).map_err(|e| e.to_string()))
                    .map_err(|e| format!("is wrong: {e}"));
                to.digest = r.take(item, digest);
            }
            None => r.unknown(item, place, &KEYS),
        },
    }
}

/// Parses a URL to fetch from. The error is the end of a sentence and shows no more than
/// [`shown_text`] does.
pub(super) fn parse_url(text: &str) -> Result<Url, String> {
    const WANTED: &str = "write http://HOST/PATH or https://HOST/PATH";
    let shown = shown_text(text);
    let mut url = Url::parse(text).map_err(|e| {
        // The `#`, `?` or `/` of a password is a usual reason, and not to be seen in the error.
        let hint = if text.contains('@') { ", and credentials as `headers`" } else { "" };
        format!("`{shown}` is not a URL ({e}); {WANTED}{hint}")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{shown}` is neither http nor https; {WANTED}"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("`{shown}` has no host; {WANTED}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "`{shown}` has credentials in it; give them as `headers`, best from a file"
        ));
    }
    // A fragment is never sent, so it must not tell two sources apart.
    url.set_fragment(None);
    Ok(url)
}

fn key(item: &Item) -> Result<String, String> {
    match item.text()? {
        "" => Err("is empty; give the stager's word for it, or leave it out".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn choice<T: Copy>(item: &Item, choices: &[(&str, T)]) -> Result<T, String> {
    let text = item.text()?;
    let found = choices.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        format!("must be {}", words.join(" or "))
    })
}

fn revalidate(item: &Item) -> Result<Revalidate, String> {
    match &item.value {
        Value::Text(text) if text == "always" => Ok(Revalidate::Always),
        Value::Text(text) if text == "never" => Ok(Revalidate::Never),
        Value::Text(text) if text == "http" => Ok(Revalidate::Http),
        _ => item
            .duration()
            .map(Revalidate::After)
            .map_err(|e| format!("{e}; or write \"always\", \"never\" or \"http\"")),
    }
}

fn aliases(item: &Item) -> Result<Vec<Name>, String> {
    item.texts()?
        .into_iter()
        .map(|text| text.parse::<Name>().map_err(|e| format!("is wrong: {e}")))
        .collect()
}

/// Returns a key as TOML wants it written.
pub(super) fn quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        format!("\"{}\"", key.escape_debug())
    }
}
