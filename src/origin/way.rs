//! Where redirects led to, and for how long they may be taken to lead there.

use std::time::{Duration, Instant};

use url::Url;

use crate::digest::sha256_hex;
use crate::lifetime::Lifetime;

/// How much of a hash tells resources apart, in hexadecimal digits.
const DIGITS: usize = 16;

/// The way from the configured URL to where an answer came from.
///
/// What an answer says is said of its own URL: its validators tell versions of that resource apart
/// (RFC 9110, section 8.8.1), and its lifetime is that of what is stored under that URL (RFC 9111,
/// section 2). Whether the configured one leads there still is for the redirects to say.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// What tells the resource that was led to from others; `None` where it is the one asked for.
    ///
    /// A hash of its path. The query is left out, where signatures stand, and the host too, since
    /// mirrors have the same under the same path. Paths may hold secrets, so it is not the path.
    /// A file of the same name at another host is a mirror, whatever stands before the name.
    pub(super) resource: Option<String>,
    /// Until when all of it may be taken without asking, where there are redirects.
    until: Option<Instant>,
}

impl Way {
    /// Adds a redirect to `url`, for who asked for `asked`; `said` is what its answer said of its use
    /// without asking, just now.
    pub(super) fn lead(&mut self, asked: &Url, url: &Url, said: &Lifetime) {
        self.resource = (!is_mirror(asked, url)).then(|| {
            let mut hash = sha256_hex(url.path().as_bytes());
            hash.truncate(DIGITS);
            hash
        });
        // A moment that cannot be told is as far as need be.
        let now = Instant::now();
        let until = now.checked_add(said.left_at_arrival()).unwrap_or(now);
        self.until = Some(self.until.map_or(until, |before| before.min(until)));
    }

    /// Returns for how long from now on the redirects may be followed without asking; `None` where
    /// there are none.
    pub(super) fn fresh_for(&self) -> Option<Duration> {
        self.until.map(|until| until.saturating_duration_since(Instant::now()))
    }
}

/// Says whether a URL has what another has, by all that can be told from both.
fn is_mirror(of: &Url, url: &Url) -> bool {
    let name = |url: &Url| url.path().rsplit('/').next().unwrap_or_default().to_owned();
    let elsewhere = url.host() != of.host() && !name(of).is_empty();
    url.path() == of.path() || (elsewhere && name(url) == name(of))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_path_is_another_resource_unless_it_is_a_mirrors() {
        let asked = Url::parse("https://h/pub/latest/x.iso").expect("a URL");
        let led = |to: &str| {
            let mut way = Way::default();
            way.lead(&asked, &Url::parse(to).expect("a URL"), &Lifetime::default());
            way.resource
        };
        for same in [
            "https://h/pub/latest/x.iso?signed",
            "https://h:444/pub/latest/x.iso",
            "https://mirror/pub/latest/x.iso",
            "https://mirror/other/place/x.iso?signed",
        ] {
            assert_eq!(led(same), None, "{same}");
        }
        let other = led("https://h/pub/v1/x.iso");
        assert!(other.as_ref().is_some_and(|hash| hash.len() == DIGITS));
        assert_eq!(led("https://h/pub/v1/x.iso?signed"), other);
        assert_eq!(led("https://cdn/pub/v1/x.iso#part"), None);
        for another in ["https://h/pub/v2/x.iso", "https://cdn/pub/v1/x-1.iso", "https://cdn/"] {
            assert!(led(another).is_some_and(|hash| Some(&hash) != other.as_ref()), "{another}");
        }
        let nameless = Url::parse("https://h/pub/").expect("a URL");
        assert!(!is_mirror(&nameless, &Url::parse("https://cdn/other/").expect("a URL")));
    }
}
