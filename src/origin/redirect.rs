//! Which redirects are followed (RFC 9110, section 15.4, and rules of our own).
//!
//! A catalog's owner chose the first URL; whoever answers there must not be able to make the
//! daemon, which may run as root on a host with metadata services, talk to places of its choice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::header::{HeaderMap, LOCATION};
use url::{Host, Url};

use crate::source::shown_url;

/// How many redirects are followed for one request.
pub(super) const MAX_REDIRECTS: usize = 5;

/// The longest Location that is followed, in bytes: the length that RFC 9110, section 4.1,
/// recommends to support at least.
const MAX_LOCATION: usize = 8000;

/// Which addresses a request may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The URL was configured, or is of the configured origin: every address.
    Any,
    /// Redirected by an origin on loopback: all but link-local ones.
    Local,
    /// Redirected by any other origin: neither link-local nor loopback ones.
    Public,
}

/// Why a redirect is refused. The text holds no query and no userinfo.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooMany,
    #[error("a redirect without a usable Location")]
    NoLocation,
    #[error("a redirect to a URL of scheme `{0}`; only http and https are followed")]
    Scheme(String),
    #[error("a redirect from https to {0}, which is not encrypted")]
    Downgrade(String),
    #[error("a redirect whose Location has a user name or password")]
    Userinfo,
    #[error("a redirect to {0}, a link-local or loopback address")]
    Address(String),
    #[error("a redirect to {0}, whose host is not among the origin's allowed_redirect_hosts")]
    NotListed(String),
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// The absolute URL, without userinfo and fragment.
    pub(super) url: Url,
    /// Which addresses may be reached for it.
    pub(super) reach: Reach,
    /// Whether scheme, host and port are those of the URL before it, so that secrets may go on.
    pub(super) same_origin: bool,
}

/// Returns the Location of an answer, if there is exactly one (RFC 9110, section 10.2.2): of two,
/// another client on the way may have obeyed the other.
pub(super) fn location(fields: &HeaderMap) -> Option<&[u8]> {
    let mut values = fields.get_all(LOCATION).iter();
    match (values.next(), values.next()) {
        (Some(only), None) => Some(only.as_bytes()),
        _ => None,
    }
}

/// Decides about one redirect. `from` answered over a connection to `peer` with this Location;
/// `reach` is what the request for `from` was bound to.
///
/// # Errors
/// The rule that refuses it.
pub(super) fn follow(
    from: &Url,
    peer: Option<IpAddr>,
    location: Option<&[u8]>,
    reach: Reach,
) -> Result<Next, Refused> {
    let location = location
        .filter(|bytes| bytes.len() <= MAX_LOCATION)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .filter(|text| !text.trim().is_empty())
        .ok_or(Refused::NoLocation)?;
    // Without userinfo in the base, userinfo in the result comes from Location alone.
    let mut base = from.clone();
    let _ = base.set_username("");
    let _ = base.set_password(None);
    let mut url = base.join(location).map_err(|_| Refused::NoLocation)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refused::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::Userinfo);
    }
    if from.scheme() == "https" && url.scheme() == "http" {
        return Err(Refused::Downgrade(shown_url(&url)));
    }
    url.set_fragment(None);
    if url.origin() == from.origin() {
        return Ok(Next { url, reach, same_origin: true });
    }
    let reach = match peer.or_else(|| literal(from)) {
        Some(address) if class(address) == Class::Loopback => Reach::Local,
        _ => Reach::Public,
    };
    match literal(&url) {
        Some(address) if !permitted(address, reach) => Err(Refused::Address(shown_url(&url))),
        _ => Ok(Next { url, reach, same_origin: false }),
    }
}

/// Says whether a request of this reach may connect to an address.
pub(super) fn permitted(address: IpAddr, reach: Reach) -> bool {
    match class(address) {
        Class::Other => true,
        Class::Loopback => reach != Reach::Public,
        Class::LinkLocal => reach == Reach::Any,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Loopback,
    LinkLocal,
    Other,
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => class4(v4),
        IpAddr::V6(v6) => match embedded(v6) {
            _ if v6.is_loopback() || v6.is_unspecified() => Class::Loopback,
            _ if v6.is_unicast_link_local() => Class::LinkLocal,
            Some(v4) => class4(v4),
            None => Class::Other,
        },
    }
}

fn class4(address: Ipv4Addr) -> Class {
    // Linux connects 0.0.0.0 to itself, and all of 0.0.0.0/8 means "this network".
    if address.is_loopback() || address.octets()[0] == 0 {
        Class::Loopback
    } else if address.is_link_local() {
        Class::LinkLocal
    } else {
        Class::Other
    }
}

/// Returns the IPv4 address inside a mapped (RFC 4291, 2.5.5.2), compatible (2.5.5.1), NAT64
/// (RFC 6052) or 6to4 (RFC 3056) one.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => None,
    }
}

/// Returns the address a URL names literally. The parser has already turned decimal, octal,
/// hexadecimal and shortened forms into addresses (WHATWG URL, section 3.5).
fn literal(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(v4) => Some(IpAddr::V4(v4)),
        Host::Ipv6(v6) => Some(IpAddr::V6(v6)),
        Host::Domain(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOP: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    const FAR: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)));

    enum Want {
        /// Followed to this URL, with secrets and the reach of the request before.
        Same(&'static str),
        /// Followed to this URL, without secrets, bound to this reach.
        Other(&'static str, Reach),
        Refuse(fn(&Refused) -> bool),
    }
    use Want::{Other, Refuse, Same};

    #[test]
    fn the_table_of_redirects() {
        let address: fn(&Refused) -> bool = |r| matches!(r, Refused::Address(_));
        let scheme: fn(&Refused) -> bool = |r| matches!(r, Refused::Scheme(_));
        let userinfo: fn(&Refused) -> bool = |r| *r == Refused::Userinfo;
        let nowhere: fn(&Refused) -> bool = |r| *r == Refused::NoLocation;
        let downgrade: fn(&Refused) -> bool = |r| matches!(r, Refused::Downgrade(_));
        let public = Reach::Public;
        let local = Reach::Local;
        #[rustfmt::skip]
        let table: &[(&str, Option<IpAddr>, &str, Want)] = &[
            ("http://a/x?s=1", FAR, "/y", Same("http://a/y")),
            ("http://a/d/x", FAR, "y?t=2", Same("http://a/d/y?t=2")),
            ("http://a/x", FAR, "http://a:80/y", Same("http://a/y")),
            ("http://a/x", FAR, "http://A/y#part", Same("http://a/y")),
            ("http://u:p@a/x", FAR, "/y", Same("http://a/y")),
            ("https://a/x", FAR, "//a/y", Same("https://a/y")),
            ("http://a/x", FAR, "http://b/y", Other("http://b/y", public)),
            ("http://a/x", FAR, "http://a:81/y", Other("http://a:81/y", public)),
            ("http://a/x", FAR, "https://a/x", Other("https://a/x", public)),
            ("http://a/x", FAR, "//b/y?sig=1", Other("http://b/y?sig=1", public)),
            ("https://a/x", FAR, "https://b/y", Other("https://b/y", public)),
            ("http://a/x", FAR, "http://10.0.0.1/y", Other("http://10.0.0.1/y", public)),
            ("https://a/x", FAR, "http://a/x", Refuse(downgrade)),
            ("https://a/x", FAR, "http://b/x", Refuse(downgrade)),
            ("http://a/x", FAR, "http://u@b/x", Refuse(userinfo)),
            ("http://a/x", FAR, "http://u:p@a/x", Refuse(userinfo)),
            ("http://u:p@a/x", FAR, "http://u:p@a/y", Refuse(userinfo)),
            ("http://a/x", FAR, "http://:p@b/x", Refuse(userinfo)),
            ("http://a/x", FAR, "file:///etc/passwd", Refuse(scheme)),
            ("http://a/x", FAR, "ftp://b/x", Refuse(scheme)),
            ("http://a/x", FAR, "data:,x", Refuse(scheme)),
            ("http://a/x", FAR, "javascript:alert(1)", Refuse(scheme)),
            ("http://a/x", FAR, "FILE:///etc/passwd", Refuse(scheme)),
            ("http://a/x", FAR, "//u:p@b/x", Refuse(userinfo)),
            ("http://a/x", FAR, "\\\\b/x", Other("http://b/x", public)),
            ("http://a/d/x", FAR, "../../../y", Same("http://a/y")),
            ("http://a/x", FAR, "?t=1", Same("http://a/x?t=1")),
            ("http://a/x", FAR, "#part", Same("http://a/x")),
            ("http://a/x", FAR, "  ", Refuse(nowhere)),
            // A name that ends in a dot is another origin, so no secret goes there.
            ("http://a/x", FAR, "http://a./x", Other("http://a./x", public)),
            ("http://a/x", FAR, "http://127.0.0.1./x", Refuse(address)),
            // Names are for the resolver, which refuses what they resolve to.
            ("http://a/x", FAR, "http://localhost/x", Other("http://localhost/x", public)),
            ("http://a/x", FAR, "http://localhost.:80/x", Other("http://localhost./x", public)),
            ("http://a/x", FAR, "http://0xa9fea9fe/latest", Refuse(address)),
            ("http://a/x", FAR, "http://0251.0376.0251.0376/latest", Refuse(address)),
            ("http://a/x", FAR, "http://169.254.43518/latest", Refuse(address)),
            ("http://a/x", FAR, "", Refuse(nowhere)),
            ("http://a/x", FAR, "http://", Refuse(nowhere)),
            ("http://a/x", FAR, "http://[zz]/", Refuse(nowhere)),
            ("http://a/x", FAR, "http://127.0.0.1/y", Refuse(address)),
            ("http://a/x", FAR, "http://127.9.9.9:8080/y", Refuse(address)),
            ("http://a/x", FAR, "http://2130706433/y", Refuse(address)),
            ("http://a/x", FAR, "http://0x7f.1/y", Refuse(address)),
            ("http://a/x", FAR, "http://0177.0.0.1/y", Refuse(address)),
            ("http://a/x", FAR, "http://0.0.0.0/y", Refuse(address)),
            ("http://a/x", FAR, "http://[::1]/y", Refuse(address)),
            ("http://a/x", FAR, "http://[::]/y", Refuse(address)),
            ("http://a/x", FAR, "http://[::ffff:127.0.0.1]/y", Refuse(address)),
            ("http://a/x", FAR, "http://169.254.169.254/latest", Refuse(address)),
            ("http://a/x", FAR, "http://2852039166/latest", Refuse(address)),
            ("http://a/x", FAR, "http://[fe80::1]/y", Refuse(address)),
            ("http://a/x", FAR, "http://[::ffff:169.254.169.254]/y", Refuse(address)),
            ("http://a/x", FAR, "http://[64:ff9b::a9fe:a9fe]/y", Refuse(address)),
            ("http://a/x", FAR, "http://[2002:7f00:1::]/y", Refuse(address)),
            ("http://a/x", LOOP, "http://127.0.0.1:81/y", Other("http://127.0.0.1:81/y", local)),
            ("http://a/x", LOOP, "http://[::1]:81/y", Other("http://[::1]:81/y", local)),
            ("http://a/x", LOOP, "http://b/y", Other("http://b/y", local)),
            ("http://a/x", LOOP, "http://169.254.169.254/y", Refuse(address)),
            ("http://127.0.0.1/x", None, "http://127.0.0.2/y", Other("http://127.0.0.2/y", local)),
            ("http://localhost/x", None, "http://127.0.0.1/y", Refuse(address)),
            ("http://169.254.1.1/x", FAR, "/y", Same("http://169.254.1.1/y")),
            ("http://169.254.1.1/x", FAR, "http://169.254.1.2/y", Refuse(address)),
        ];
        for (from, peer, location, want) in table {
            let case = format!("{from} -> {location}");
            let from = Url::parse(from).expect(&case);
            let got = follow(&from, *peer, Some(location.as_bytes()), Reach::Any);
            match (want, got) {
                (Same(url), Ok(next)) => {
                    assert_eq!(next.url.as_str(), *url, "{case}");
                    assert!(next.same_origin && next.reach == Reach::Any, "{case}");
                }
                (Other(url, reach), Ok(next)) => {
                    assert_eq!(next.url.as_str(), *url, "{case}");
                    assert!(!next.same_origin && next.reach == *reach, "{case}");
                }
                (Refuse(expected), Err(refused)) => {
                    assert!(expected(&refused), "{case}: {refused}");
                }
                (_, got) => panic!("{case}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_missing_or_garbled_location_is_refused() {
        let from = Url::parse("http://a/x").expect("a URL");
        let long = [b'/'; MAX_LOCATION + 1];
        for location in [None, Some(&b"/\xff\xfe"[..]), Some(&long)] {
            let got = follow(&from, FAR, location, Reach::Any);
            assert_eq!(got, Err(Refused::NoLocation));
        }
    }

    #[test]
    fn of_two_locations_none_counts() {
        let fields = |values: &[&'static str]| {
            let values = values.iter().map(|v| (LOCATION, v.parse().expect("a value")));
            values.fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            })
        };
        assert_eq!(location(&fields(&[])), None);
        assert_eq!(location(&fields(&["/x"])), Some(&b"/x"[..]));
        assert_eq!(location(&fields(&["/x", "/y"])), None);
    }

    #[test]
    fn the_same_origin_keeps_the_reach_it_had() {
        let from = Url::parse("http://b/x").expect("a URL");
        let next = follow(&from, LOOP, Some(b"/y"), Reach::Public).expect("followed");
        assert_eq!(next.reach, Reach::Public);
    }

    #[test]
    fn refusals_hold_no_secret() {
        let from = Url::parse("https://a/x?sig=CANARY").expect("a URL");
        for location in [
            "http://b/y?sig=CANARY#CANARY",
            "http://CANARY:CANARY@b/",
            "https://127.0.0.1/?CANARY",
            "file:///x?CANARY",
        ] {
            let refused = follow(&from, FAR, Some(location.as_bytes()), Reach::Any);
            let text = refused.expect_err(location).to_string();
            assert!(!text.contains("CANARY"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_followed_keeps_the_rules(
            from in "https?://(a|b:81|198\\.51\\.100\\.7)/x",
            location in "(https?:)?//([a-z]{0,3}(:[a-z]?)?@)?(a|b:81|127\\.1|0xa9fe0101|\\[::1\\])?(:[0-9]{1,3})?[/?#\\\\@ -~]{0,8}",
        ) {
            let from = Url::parse(&from).expect("a URL");
            if let Ok(next) = follow(&from, FAR, Some(location.as_bytes()), Reach::Any) {
                let url = &next.url;
                assert!(matches!(url.scheme(), "http" | "https"));
                assert!(from.scheme() == "http" || url.scheme() == "https");
                assert!(url.username().is_empty() && url.password().is_none());
                assert_eq!(next.same_origin, url.origin() == from.origin());
                assert!(literal(url).is_none_or(|a| permitted(a, Reach::Public)));
            }
        }
    }
}
