//! What a name is bound to: the validated form of one catalog item.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::digest::Digest;
use crate::types::Name;

/// How an archive or file is shown under its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// One read-only file.
    #[default]
    File,
    /// A directory with the members of the archive.
    Directory,
}

/// When the origin is asked whether the cached version is still the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revalidate {
    /// At every open outside the revalidate window.
    Always,
    /// Never; the default for a source with a digest.
    Never,
    /// Once the last answer is older than this.
    After(Duration),
    /// When the answer's own lifetime is over (RFC 9111, as a private cache).
    Http,
}

/// How much of a body is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// All of it, in the background; what readers wait for comes first.
    #[default]
    All,
    /// What is read, where the origin serves ranges.
    OnRead,
}

impl Fill {
    /// Returns the default: of an archive shown as a directory little may be wanted.
    pub fn of(form: Form) -> Fill {
        match form {
            Form::File => Fill::All,
            Form::Directory => Fill::OnRead,
        }
    }
}

/// When the bytes of a source with a digest may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Integrity {
    /// After the digest has matched.
    Strict,
    /// While they arrive, if a strong validator holds them together; the digest is checked at the end.
    Eventual,
}

/// Header fields that no source may set, in lower case: the client sets them itself, or they would
/// change the meaning of a request or the framing of an answer.
pub const RESERVED_HEADERS: [&str; 18] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request header a catalog asks for.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    /// The field name, lower case, already checked to be a legal token.
    pub name: String,
    /// Where the value comes from.
    pub value: HeaderValue,
}

/// Where a header's value comes from; never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// Written in the catalog.
    Literal(String),
    /// The trimmed content of a file inside the operator's secrets directory, read at each request.
    File(PathBuf),
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<hidden>")
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: <hidden>", self.name)
    }
}

/// What a name is bound to.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// Where to fetch from, with its query; print it only through [`shown_url`].
    pub url: Url,
    /// What the bytes must hash to.
    pub digest: Option<Digest>,
    /// What the stager calls it.
    pub key: Option<String>,
    /// The length in bytes, where the catalog gives it.
    pub size: Option<u64>,
    /// File or directory.
    pub form: Form,
    /// The freshness policy; the default depends on whether there is a digest.
    pub revalidate: Revalidate,
    /// When bytes may be served; `Strict` without a digest has no effect.
    pub integrity: Integrity,
    /// Other names shown as relative symlinks to this one.
    pub aliases: Vec<Name>,
    /// Extra request headers.
    pub headers: Vec<Header>,
    /// Accepts a body that ends only by closing the connection.
    pub allow_close_delimited: bool,
    /// How long a copy may be served while its origin fails, counted from its last validation.
    pub stale_if_error: Duration,
    /// How much of the body is fetched.
    pub fill: Fill,
}

/// The default of `stale_if_error`.
pub const STALE_IF_ERROR: Duration = Duration::from_secs(24 * 60 * 60);

impl Source {
    /// Returns a source with every default, as `--download NAME=URL` makes it.
    pub fn new(url: Url) -> Source {
        Source {
            url,
            digest: None,
            key: None,
            size: None,
            form: Form::File,
            revalidate: Revalidate::Always,
            integrity: Integrity::Strict,
            aliases: Vec::new(),
            headers: Vec::new(),
            allow_close_delimited: false,
            stale_if_error: STALE_IF_ERROR,
            fill: Fill::All,
        }
    }

    /// Says whether two sources mean the same bytes: the same digest, else the same key, else the
    /// same URL with its query.
    pub fn same(&self, other: &Source) -> bool {
        self.identity() == other.identity()
    }

    /// Says whether the whole body is fetched, whatever is read of it: also where it must be checked
    /// before its first byte is served.
    pub fn wants_all(&self) -> bool {
        let strict = self.digest.is_some() && self.integrity == Integrity::Strict;
        strict || self.fill == Fill::All
    }

    /// Says whether one copy can serve both: they mean the same bytes, fetched from the same place
    /// and kept by the same rules. In which form it is shown, under which other names, and how much
    /// is fetched ahead makes no difference.
    pub fn shares(&self, other: &Source) -> bool {
        let Source { form, aliases, fill, .. } = self;
        let (form, aliases, fill) = (*form, aliases.clone(), *fill);
        *self == Source { form, aliases, fill, ..other.clone() }
    }

    /// Returns the text that [`same`](Source::same) compares. It holds the key (which may itself
    /// be a signed URL) and the URL with its query only in hashed form, so it may be written to
    /// disk.
    pub fn identity(&self) -> String {
        if let Some(digest) = &self.digest {
            digest.to_string()
        } else if let Some(key) = &self.key {
            format!("key:{}", crate::digest::sha256_hex(key.as_bytes()))
        } else {
            format!("url:{}", crate::digest::sha256_hex(self.url.as_str().as_bytes()))
        }
    }

    /// Returns the URL without query, fragment and userinfo, fit to be printed.
    pub fn shown_url(&self) -> String {
        shown_url(&self.url)
    }
}

impl fmt::Debug for Source {
    /// Shows what may be printed: the key can be a signed URL, the headers can be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("url", &self.shown_url())
            .field("digest", &self.digest)
            .field("key", &self.key.as_ref().map(|_| "<hidden>"))
            .field("size", &self.size)
            .field("form", &self.form)
            .field("revalidate", &self.revalidate)
            .field("integrity", &self.integrity)
            .field("aliases", &self.aliases)
            .field("headers", &self.headers)
            .field("allow_close_delimited", &self.allow_close_delimited)
            .field("stale_if_error", &self.stale_if_error)
            .field("fill", &self.fill)
            .finish()
    }
}

/// Returns a URL without query, fragment and userinfo, fit to be printed.
pub fn shown_url(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Fails only for URLs that cannot have a userinfo, which then have none to hide.
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.into()
}

/// Returns what may be printed of a text that was meant to be a URL and is not a good one: no
/// query, no fragment, no userinfo, no control characters.
pub fn shown_text(text: &str) -> String {
    // A `/`, `?` or `#` within a password ends the userinfo early, so that what looks like a host,
    // a port or a path may be a part of it: behind a scheme nothing is safe.
    let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    match text.split_once("://") {
        Some((scheme, "")) if scheme.chars().all(of_scheme) => format!("{scheme}://"),
        Some((scheme, _)) if scheme.chars().all(of_scheme) => format!("{scheme}://..."),
        None if !text.contains([':', '@', '?', '#']) => text.escape_debug().to_string(),
        _ => "...".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn source(url: &str) -> Source {
        Source::new(Url::parse(url).unwrap())
    }

    #[test]
    fn identity_is_digest_then_key_then_url() {
        let digest = |c: &str| Digest::parse(Algorithm::Md5, &c.repeat(32)).ok();
        let plain = source("http://h/a");
        let keyed = |url: &str, key: &str| Source { key: Some(key.to_owned()), ..source(url) };
        let hashed = |url: &str, c: &str| Source { digest: digest(c), ..keyed(url, c) };
        assert!(plain.same(&source("http://h/a")));
        assert!(!plain.same(&source("http://h/a?x=1")), "the query counts");
        assert!(!plain.same(&source("https://h/a")));
        assert!(keyed("http://h/a", "k").same(&keyed("http://other/b", "k")));
        assert!(!keyed("http://h/a", "k").same(&keyed("http://h/a", "l")));
        assert!(hashed("http://h/a", "0").same(&hashed("http://other/b", "0")));
        assert!(!hashed("http://h/a", "0").same(&hashed("http://h/a", "1")));
        assert!(!hashed("http://h/a", "0").same(&keyed("http://h/a", "0")));
        assert!(!keyed("http://h/a", "http://h/a").same(&plain));
    }

    #[test]
    fn nothing_printable_holds_a_secret() {
        let mut secret = source("https://canary:canary@h/p?sig=canary#canary");
        secret.key = Some("https://h/?sig=canary".to_owned());
        secret.headers.push(Header {
            name: "authorization".to_owned(),
            value: HeaderValue::Literal("canary".to_owned()),
        });
        assert_eq!(secret.shown_url(), "https://h/p");
        let broken = [
            "https://canary:canary@h:port/p?canary",
            "http://u:canary#canary@h/x",
            "http://u:canary?canary@h/x",
            "http://u:canary/canary@h/x",
            "http://u:1#canary@canary/x",
            "canary:canary@h/p",
            "u:canary#canary@h",
            "ftp://canary@h#canary",
            "canary@x://h",
            "//canary:can@ary@h",
            "h/p?canary",
        ];
        assert_eq!(shown_text(broken[0]), "https://...");
        assert_eq!(shown_text("http://"), "http://");
        assert_eq!(shown_text("h/p"), "h/p");
        for text in broken {
            assert!(!shown_text(text).contains("canary"), "{text}");
        }
        for text in [format!("{secret:?}"), secret.identity()] {
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
