//! Which hosts the redirects of an origin may lead to, where its operator has listed them.

use url::Url;

use super::by_origin::ByOrigin;
use super::redirect::Refused;
use super::settings::OriginSettings;
use super::settings_error::SettingsError;
use crate::route::HostPattern;
use crate::source::shown_url;

/// The lists of all origins that have one.
#[derive(Debug)]
pub(super) struct Allowed(ByOrigin<Option<Vec<HostPattern>>>);

impl Allowed {
    /// Collects the lists. As everywhere the more exact origin decides, also if it has none.
    ///
    /// # Errors
    /// A key that is not an origin.
    pub(super) fn new(settings: &OriginSettings) -> Result<Allowed, SettingsError> {
        let lists = &settings.redirect_hosts;
        let silent = settings.per_origin.keys().filter(|origin| !lists.contains_key(*origin));
        let given = lists.iter().map(|(origin, hosts)| (origin, Some(hosts.clone())));
        ByOrigin::new(given.chain(silent.map(|origin| (origin, None)))).map(Allowed)
    }

    /// Checks a target against the list of the origin that was asked first, or else another host
    /// could send on from one that is listed, and against the list of the origin that redirects.
    ///
    /// # Errors
    /// One of them does not have the target's host.
    pub(super) fn check(&self, first: &Url, from: &Url, to: &Url) -> Result<(), Refused> {
        match self.permits(first, to) && self.permits(from, to) {
            true => Ok(()),
            false => Err(Refused::NotListed(shown_url(to))),
        }
    }

    /// An origin (scheme, host, port) may always redirect to itself.
    fn permits(&self, origin: &Url, to: &Url) -> bool {
        self.0.get(origin).and_then(Option::as_ref).is_none_or(|hosts| {
            origin.origin() == to.origin() || hosts.iter().any(|host| host.matches(to))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_the_first_origin_holds_for_all_hops() {
        let lists = [("a:443", &["b", "*.c"][..]), ("b", &["d"]), ("e", &[])];
        let lists = lists.map(|(origin, hosts)| {
            let hosts = hosts.iter().map(|host| host.parse().expect("a host")).collect();
            (origin.to_owned(), hosts)
        });
        let allowed = Allowed::new(&OriginSettings {
            redirect_hosts: lists.into(),
            per_origin: [("b:81".to_owned(), Default::default())].into(),
            ..OriginSettings::default()
        });
        let allowed = allowed.expect("lists");
        let check = |first: &str, from: &str, to: &str| {
            let url = |text| Url::parse(text).expect("a URL");
            allowed.check(&url(first), &url(from), &url(to)).is_ok()
        };
        for (first, from, to, want) in [
            ("https://a/", "https://a/", "https://b/", true),
            ("https://a/", "https://a/", "https://b:81/", true),
            ("https://a/", "https://a/", "https://x.c./", true),
            ("https://a/", "https://a/", "https://a/y", true),
            ("https://a/", "https://a/", "https://a:81/y", false),
            ("https://a/", "https://a/", "https://c/", false),
            ("https://a/", "https://a/", "https://z/", false),
            ("https://a:444/", "https://a:444/", "https://z/", true),
            ("https://a/", "https://x.c/", "https://z/", false),
            ("https://a/", "https://b/", "https://d/", false),
            ("https://z/", "https://b/", "https://d/", true),
            ("https://z/", "https://b/", "https://z/", false),
            ("https://z/", "https://b:81/", "https://z/", true),
            ("https://e/", "https://e/", "https://e/x", true),
            ("https://e/", "https://e/", "https://b/x", false),
        ] {
            assert_eq!(check(first, from, to), want, "{first}: {from} -> {to}");
        }
    }
}
