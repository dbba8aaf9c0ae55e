//! The ways to an origin that only an operator can open: proxies, and certificates that nobody
//! checks.

use std::net::{IpAddr, Ipv4Addr};

use crate::support::certs::Authority;
use crate::support::{Body, Item, KIB, Mounted, Origin, needs};

const LEN: u64 = 10 * KIB;

#[test]
fn the_environment_names_a_proxy_only_for_those_who_ask() {
    needs!("fuse");
    // On addresses of their own, as settings belong to hosts.
    let at = |last| Origin::start_at(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)));
    let (asks, excepted, silent, proxy) = (at(1), at(2), at(3), at(4));
    for (seed, origin) in [(1, &asks), (2, &excepted), (3, &silent)] {
        origin.put("/a", Item::made(seed, LEN));
        // A request to a proxy names the whole URL (RFC 9112, section 3.2.2).
        proxy.put(&origin.url("/a"), Item::made(10 + seed, LEN));
    }
    let mut catalog = String::new();
    for (name, origin) in [("asks", &asks), ("excepted", &excepted), ("silent", &silent)] {
        catalog += &format!("[downloads.{name}]\nurl = \"{}\"\n", origin.url("/a"));
    }
    let setup = Mounted::with().catalog("test.toml", &catalog);
    let config = setup.dir().join("config.toml");
    let text = "[origins.\"127.0.0.1\"]\nproxy = \"environment\"\n\
                [origins.\"127.0.0.2\"]\nproxy = \"environment\"\n";
    std::fs::write(&config, text).expect("write the configuration");
    let mounted = setup
        .args(["--config".to_owned(), config.display().to_string()])
        .env("HTTP_PROXY", &format!("http://{}", proxy.addr()))
        .env("NO_PROXY", "localhost, 127.0.0.2")
        .start();
    for (name, seed) in [("asks", 11), ("excepted", 2), ("silent", 3)] {
        let read = Body::made(seed, LEN).check(&mounted.path(name));
        read.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let asked = [&asks, &excepted, &silent, &proxy].map(|origin| origin.seen().len());
    assert_eq!(asked, [0, 1, 1, 1]);
}

#[test]
fn an_unchecked_certificate_is_taken_where_told_and_never_in_silence() {
    needs!("fuse");
    let setup = Mounted::with();
    let authority = Authority::new("nobody knows");
    let (chain, key) = authority.server(&["elsewhere.invalid"]).write(setup.dir(), "origin");
    let (lax, strict) = (Origin::start_tls(&chain, &key), Origin::start_tls(&chain, &key));
    let mut catalog = String::new();
    for (name, origin) in [("lax", &lax), ("strict", &strict)] {
        origin.put("/a", Item::made(1, LEN));
        catalog += &format!("[downloads.{name}]\nurl = \"{}\"\n", origin.url("/a"));
    }
    let config = setup.dir().join("config.toml");
    let text = format!("[origins.\"{}\"]\ninsecure_skip_verify = true\n", lax.addr());
    std::fs::write(&config, text).expect("write the configuration");
    let mounted = setup
        .catalog("test.toml", &catalog)
        .args(["--config".to_owned(), config.display().to_string()])
        .start();
    Body::made(1, LEN).check(&mounted.path("lax")).expect("any certificate will do");
    let error = Body::made(1, LEN).check(&mounted.path("strict")).expect_err("unknown");
    assert!(error.ends_with("(os error 5)"), "{error}");
    assert!(strict.seen().is_empty(), "a request went to whoever was there");

    let warning = format!("INSECURE: any certificate is accepted for {}", lax.addr());
    assert!(mounted.log().contains(&warning), "the log says so");
    let problems = mounted.status()["problems"].to_string();
    assert!(problems.contains(&warning), "{problems}");
    let loud = |log: &str| log.matches(&warning).count();
    mounted.signal(libc::SIGHUP);
    crate::support::wait_until("it is said again", std::time::Duration::from_secs(5), || {
        loud(&mounted.log()) == 2
    });
}
