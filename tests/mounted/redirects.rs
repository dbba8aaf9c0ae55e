//! A farm of redirects: where each of them leads, and what it takes along.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::support::certs::Authority;
use crate::support::guards::in_own_network;
use crate::support::origin::{Fault, When};
use crate::support::{Item, KIB, MIB, Mounted, Origin, figure, needs, os, outputs};

const HOME: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const AWAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

const QUERY: &str = "kanarienvogel-query";
const HEADER: &str = "kanarienvogel-header";
const FILE: &str = "kanarienvogel-file";
const KEY: &str = "kanarienvogel-key";
/// In a Location: the host that it leads to may see it, and nobody else.
const SIGNED: &str = "kanarienvogel-signed";

const LEN: u64 = 20 * KIB;

/// What comes of opening a name.
enum Want {
    /// The body, with the secrets sent along to the end, as all was the same origin.
    Same,
    /// The body, with the secrets left behind at the first hop to another origin.
    Cross,
    /// EIO, for a reason in whose text this is.
    Refused(&'static str),
}
use Want::{Cross, Refused, Same};

/// The origins of the farm. What must not be reached is a trap: nobody may so much as connect.
struct Farm {
    home: Origin,
    away: Origin,
    home_tls: Origin,
    away_tls: Origin,
    /// May redirect to AWAY alone, and nowhere.
    picky: Origin,
    stern: Origin,
    /// On loopback, and what it leads to.
    near: Origin,
    next_door: Origin,
    traps: [Origin; 3],
    cases: Vec<(String, Want)>,
    catalog: String,
}

impl Farm {
    fn new(dir: &Path) -> Farm {
        let authority = Authority::new("farm");
        authority.write(&dir.join("ca.pem"));
        let hosts = [HOME.to_string(), AWAY.to_string()];
        let (chain, key) = authority.server(&hosts.each_ref().map(|h| &**h)).write(dir, "server");
        let at = |address: Ipv4Addr| Origin::start_at(IpAddr::V4(address));
        let secure = |address| Origin::start_tls_at(IpAddr::V4(address), &chain, &key);
        let farm = Farm {
            home: at(HOME),
            away: at(AWAY),
            home_tls: secure(HOME),
            away_tls: secure(AWAY),
            picky: at(HOME),
            stern: at(HOME),
            near: at(Ipv4Addr::LOCALHOST),
            next_door: at(Ipv4Addr::LOCALHOST),
            traps: [
                at(METADATA),
                at(Ipv4Addr::LOCALHOST),
                Origin::start_at(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ],
            cases: Vec::new(),
            catalog: String::new(),
        };
        for origin in farm.origins() {
            for path in ["/same/end", "/cross/end"] {
                origin.put(path, Item::made(1, LEN));
            }
        }
        farm
    }

    fn origins(&self) -> [&Origin; 8] {
        [
            &self.home,
            &self.away,
            &self.home_tls,
            &self.away_tls,
            &self.picky,
            &self.stern,
            &self.near,
            &self.next_door,
        ]
    }

    /// Adds a name that redirects to one place.
    fn to(
        &mut self,
        name: &str,
        from: fn(&Farm) -> &Origin,
        location: impl Into<String>,
        want: Want,
    ) {
        let item = Item { redirect: Some(location.into()), ..Item::made(1, LEN) };
        self.case(name, from, item, want);
    }

    /// Adds a name that redirects to one place with another status than 302.
    fn with_status(&mut self, name: &str, status: u16, want: Want) {
        let location = ("Location".to_owned(), format!("/same/end?{SIGNED}"));
        let item = Item { status: Some(status), headers: vec![location], ..Item::made(1, LEN) };
        self.case(name, |farm| &farm.home, item, want);
    }

    /// Adds a name, with a secret in every place that a source has for one.
    fn case(&mut self, name: &str, from: fn(&Farm) -> &Origin, item: Item, want: Want) {
        let origin = from(self);
        origin.put(&format!("/{name}"), item);
        let url = origin.url(&format!("/{name}?token={QUERY}"));
        let _ = writeln!(
            self.catalog,
            "[downloads.{name}]\nurl = \"{url}\"\nkey = \"{KEY}-{name}\"\n\
             headers = {{ X-Tenant = \"{HEADER}\", Cookie = {{ file = \"token\" }} }}"
        );
        self.cases.push((name.to_owned(), want));
    }

    /// Adds a chain of hops within one origin.
    fn chain(&mut self, name: &str, hops: usize, want: Want) {
        for n in 1..hops {
            let next = if n + 1 == hops { "end".to_owned() } else { format!("{name}{}", n + 1) };
            let redirect = Some(format!("/same/{next}?{SIGNED}"));
            self.home.put(&format!("/same/{name}{n}"), Item { redirect, ..Item::made(1, LEN) });
        }
        self.to(name, |farm| &farm.home, format!("/same/{name}1"), want);
    }

    fn plant(&mut self) {
        let signed = |url: String| format!("{url}?sig={SIGNED}#{SIGNED}");
        let home = |farm: &Farm| signed(farm.home.url("/same/end"));
        let away = |farm: &Farm| signed(farm.away.url("/cross/end"));
        let away_tls = |farm: &Farm| signed(farm.away_tls.url("/cross/end"));

        // Within one origin.
        let (there, port) = (home(self), self.home.addr().port());
        self.to("relative", |f| &f.home, format!("same/end?{SIGNED}"), Same);
        self.to("absolute", |f| &f.home, there, Same);
        self.to("without-scheme", |f| &f.home, format!("//{HOME}:{port}/same/end"), Same);
        for status in [301, 303, 307, 308] {
            self.with_status(&format!("status{status}"), status, Same);
        }
        self.with_status("status300", 300, Refused("300"));
        self.with_status("status304", 304, Refused("304"));
        self.to("loop", |f| &f.home, format!("/loop?{SIGNED}"), Refused("more than 5"));
        self.chain("hops5", 5, Same);
        self.chain("hops6", 6, Refused("more than 5"));

        // To another one.
        let (there, secure) = (away(self), away_tls(self));
        self.to("other-host", |f| &f.home, there.clone(), Cross);
        let other_port = signed(self.picky.url("/cross/end"));
        self.to("other-port", |f| &f.home, other_port, Cross);
        self.to("to-https", |f| &f.home, secure.clone(), Cross);
        self.to("https-to-https", |f| &f.home_tls, secure, Cross);
        let item = Item { redirect: Some(home(self).replace("same", "cross")), ..Item::made(1, 1) };
        self.away.put("/cross/back", item);
        self.to("and-back", |f| &f.home, self.away.url("/cross/back"), Cross);
        let body = Item::ranged(1, LEN + 2 * MIB);
        self.away.put("/cross/cut", body.strike(When::Plain, Fault::Cut(MIB), 1));
        self.to("cut", |f| &f.home, signed(self.away.url("/cross/cut")), Cross);

        // What no redirect may do.
        let down = signed(self.home.url("/same/end"));
        self.to("https-to-http", |f| &f.home_tls, down, Refused("not encrypted"));
        self.to("https-to-http-away", |f| &f.home_tls, there.clone(), Refused("not encrypted"));
        let with = |user: &str| there.replacen("://", &format!("://{user}@"), 1);
        let userinfo = "user name or password";
        self.to("user", |f| &f.home, with(&format!("{SIGNED}:{SIGNED}")), Refused(userinfo));
        self.to("user-alone", |f| &f.home, with(SIGNED), Refused(userinfo));
        let scheme = "only http and https";
        self.to("file", |f| &f.home, format!("file:///etc/passwd?{SIGNED}"), Refused(scheme));
        self.to("ftp", |f| &f.home, format!("ftp://{AWAY}/x?{SIGNED}"), Refused(scheme));
        self.to("data", |f| &f.home, format!("data:,{SIGNED}"), Refused(scheme));
        let nowhere = "usable Location";
        let empty = Item { status: Some(302), ..Item::made(1, LEN) };
        self.case("no-location", |f| &f.home, empty.clone(), Refused(nowhere));
        let two = ["/same/end", "/same/other"].map(|to| ("Location".to_owned(), to.to_owned()));
        let item = Item { headers: two.into(), ..empty };
        self.case("two-locations", |f| &f.home, item, Refused(nowhere));
        self.to("blank", |f| &f.home, " ", Refused(nowhere));
        self.to("long", |f| &f.home, format!("/{}", "x".repeat(8000)), Refused(nowhere));
        self.to("no-host", |f| &f.home, format!("http://[{SIGNED}]/"), Refused(nowhere));

        self.plant_addresses();
        self.plant_lists();
    }

    /// Addresses that a redirect must not reach, in every spelling.
    fn plant_addresses(&mut self) {
        let address = "link-local or loopback address";
        let port = self.traps[0].addr().port();
        for (name, host) in [
            ("metadata", "169.254.169.254"),
            ("metadata-decimal", "2852039166"),
            ("metadata-hex", "0xa9fea9fe"),
            ("metadata-octal", "0251.0376.0251.0376"),
            ("metadata-short", "169.254.43518"),
            ("metadata-mapped", "[::ffff:169.254.169.254]"),
            ("metadata-nat64", "[64:ff9b::a9fe:a9fe]"),
            ("metadata-6to4", "[2002:a9fe:a9fe::]"),
            ("link-local", "[fe80::1]"),
        ] {
            let location = format!("http://{host}:{port}/latest?{SIGNED}");
            self.to(name, |f| &f.home, location.clone(), Refused(address));
            // An origin on loopback may lead to loopback, and there neither.
            self.to(&format!("near-{name}"), |f| &f.near, location, Refused(address));
        }
        let ports = [self.traps[1].addr().port(), self.traps[2].addr().port()];
        for (name, host, port) in [
            ("loopback", "127.0.0.1", ports[0]),
            ("loopback-decimal", "2130706433", ports[0]),
            ("loopback-hex", "0x7f.1", ports[0]),
            ("loopback-dot", "127.0.0.1.", ports[0]),
            ("loopback-mapped", "[::ffff:127.0.0.1]", ports[0]),
            ("loopback6", "[::1]", ports[1]),
            ("unspecified", "0.0.0.0", ports[0]),
            ("unspecified6", "[::]", ports[1]),
        ] {
            let location = format!("http://{host}:{port}/admin?{SIGNED}");
            self.to(name, |f| &f.home, location, Refused(address));
        }
        // A name is refused for what it resolves to.
        let location = format!("http://localhost:{}/admin?{SIGNED}", ports[0]);
        self.to("localhost", |f| &f.home, location, Refused("redirects may not reach"));

        // From loopback to loopback: as laboratories have it. But not once it has left.
        let next_door = format!("{}?{SIGNED}", self.next_door.url("/cross/end"));
        self.to("next-door", |f| &f.near, next_door, Cross);
        let back = format!("http://127.0.0.1:{}/admin?{SIGNED}", ports[0]);
        self.away.put("/cross/in", Item { redirect: Some(back), ..Item::made(1, 1) });
        self.to("out-and-in", |f| &f.near, self.away.url("/cross/in"), Refused(address));
    }

    /// Hosts that an operator has listed, or not.
    fn plant_lists(&mut self) {
        let listed = "allowed_redirect_hosts";
        let away = |path: &str, farm: &Farm| format!("{}?{SIGNED}", farm.away.url(path));
        self.to("listed", |f| &f.picky, away("/cross/end", self), Cross);
        self.to("listed-self", |f| &f.picky, format!("/same/end?{SIGNED}"), Same);
        let home = format!("{}?{SIGNED}", self.home.url("/cross/end"));
        self.to("not-listed", |f| &f.picky, home.clone(), Refused(listed));
        self.away.put("/cross/on", Item { redirect: Some(home), ..Item::made(1, 1) });
        self.to("listed-and-on", |f| &f.picky, away("/cross/on", self), Refused(listed));
        self.to("none-listed", |f| &f.stern, away("/cross/end", self), Refused(listed));
    }

    fn config(&self, dir: &Path) -> String {
        let at = dir.display();
        let mut text = format!("secrets_dir = \"{at}/secrets\"\n");
        for origin in [&self.home_tls, &self.away_tls] {
            let address = origin.addr();
            let _ = writeln!(text, "[origins.\"{address}\"]\nca_file = \"{at}/ca.pem\"");
        }
        for (origin, hosts) in [(&self.picky, format!("\"{AWAY}\"")), (&self.stern, String::new())]
        {
            let address = origin.addr();
            let _ = writeln!(text, "[origins.\"{address}\"]\nallowed_redirect_hosts = [{hosts}]");
        }
        text
    }

    /// Opens every name, and returns what was not as it should be.
    fn open_all(&self, mounted: &Mounted) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, want) in &self.cases {
            let read = std::fs::read(mounted.path(name));
            let error = os::xattr(&mounted.path(name), "user.cached_downloads.error");
            let error = error.unwrap_or_default();
            let good = match (&read, want) {
                (Ok(bytes), Same | Cross) => {
                    let body = Item::made(1, bytes.len() as u64).body;
                    bytes.len() as u64 >= LEN && body.differs(0, bytes).is_none()
                }
                (Err(refused), Refused(why)) => {
                    refused.raw_os_error() == Some(libc::EIO) && error.contains(why)
                }
                _ => false,
            };
            if !good {
                wrong.push(format!("{name}: {:?}, `{error}`", read.map(|bytes| bytes.len())));
            }
        }
        wrong
    }

    /// Says who saw a secret that is not meant for him, and whom the secrets did not reach.
    fn told(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for seen in self.origins().into_iter().flat_map(Origin::seen) {
            let path = &seen.path;
            let (first, cross) = (!path[1..].contains('/'), path.starts_with("/cross/"));
            let fields = seen.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
            let head: String = fields.collect();
            // Of the URL nothing goes on; the headers go as far as its origin does.
            for secret in [QUERY, KEY] {
                if !first && (path.contains(secret) || head.contains(secret)) {
                    wrong.push(format!("{path} got {secret}"));
                }
            }
            for secret in [HEADER, FILE] {
                if head.contains(secret) == cross {
                    let got = if cross { "got" } else { "did not get" };
                    wrong.push(format!("{path} {got} {secret}"));
                }
            }
            if head.contains(SIGNED) || head.contains("referer") {
                wrong.push(format!("{path} was told where from: {head}"));
            }
        }
        wrong
    }
}

#[test]
fn each_redirect_leads_where_it_may_and_takes_no_secret_along() {
    needs!("fuse", "root", "ip");
    let addresses = [HOME, AWAY, METADATA].map(|address| format!("{address}/32"));
    in_own_network(&addresses.each_ref().map(|address| &**address), || {
        for format in ["text", "json"] {
            let setup = Mounted::with();
            let mut farm = Farm::new(setup.dir());
            farm.plant();
            let (config, secrets) = (setup.dir().join("config.toml"), setup.dir().join("secrets"));
            std::fs::write(&config, farm.config(setup.dir())).expect("write the configuration");
            std::fs::create_dir(&secrets).expect("make the secrets directory");
            std::fs::write(secrets.join("token"), format!("{FILE}\n")).expect("write a secret");
            let mounted = setup
                .catalog("test.toml", &farm.catalog)
                .args(["--log-format", format, "--config", config.to_str().expect("a path")])
                .env("CACHED_DOWNLOADS_LOG", "trace")
                .start();

            let wrong = farm.open_all(&mounted);
            assert!(wrong.is_empty(), "of {}:\n{}", farm.cases.len(), wrong.join("\n"));
            let wrong = farm.told();
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
            for trap in &farm.traps {
                assert_eq!(trap.connections(), 0, "{} was connected to", trap.addr());
                std::net::TcpStream::connect(trap.addr()).expect("it could have been");
            }
            assert_eq!(farm.home.requests("/cut"), 2, "the rest was asked for from the beginning");

            let names: Vec<&str> = farm.cases.iter().map(|(name, _)| &**name).collect();
            let outputs = outputs::all(&mounted, &names, &config);
            outputs::assert_silent(&outputs, &["kanarienvogel"]);
            figure(&format!("{} redirects, log as {format}", farm.cases.len()));
        }
    });
}
