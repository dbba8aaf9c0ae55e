//! A body cut at every sixty-fourth of its length, in every framing, over plain HTTP and over TLS.

use std::path::Path;
use std::time::Duration;

use crate::support::certs::Authority;
use crate::support::origin::{Fault, When};
use crate::support::{Framing, Item, KIB, Mounted, Origin, figure, needs, wait_until};

const LEN: u64 = 64 * KIB;
const STEPS: u64 = 64;
const FRAMINGS: [(&str, Framing); 3] =
    [("length", Framing::Length), ("chunked", Framing::Chunked), ("close", Framing::Close)];

/// How a connection is closed: with whatever word there is, or, with TLS, without one.
type Close = fn(u64) -> Fault;
const CLOSES: [(&str, Close); 2] = [("told", Fault::Cut), ("untold", Fault::Dropped)];

/// Starts an origin that speaks TLS, and returns it with a configuration that trusts it.
fn secure(dir: &Path) -> (Origin, String) {
    let authority = Authority::new("cuts");
    let (chain, key) = authority.server(&["127.0.0.1"]).write(dir, "origin");
    let file = dir.join("ca.pem");
    authority.write(&file);
    let origin = Origin::start_tls(&chain, &key);
    let address = origin.addr();
    let file = file.display();
    (origin, format!("[origins.\"{address}\"]\nca_file = \"{file}\"\nca_only = true\n"))
}

#[test]
fn a_body_cut_anywhere_is_detected_or_refused_as_undetectable() {
    needs!("fuse");
    let setup = Mounted::with();
    let plain = Origin::start();
    let (tls, config) = secure(setup.dir());
    let file = setup.dir().join("config.toml");
    std::fs::write(&file, config).expect("write the configuration");
    let wires = [(&plain, "plain", &CLOSES[..1]), (&tls, "tls", &CLOSES[..])];
    let (mut catalog, mut names) = (String::new(), Vec::new());
    for (origin, wire, closes) in wires {
        for (close, fault) in closes {
            for (word, framing) in FRAMINGS {
                for step in 0..STEPS {
                    let (name, seed) = (format!("{wire}-{close}-{word}{step}"), names.len() as u64);
                    // Without a strong tag there is nothing that would hold two pieces together.
                    let etag = Some(format!("W/\"{seed}\""));
                    let item = Item { etag, framing, ..Item::made(seed, LEN) };
                    let cut = fault(LEN / STEPS * step);
                    origin.put(
                        &format!("/{name}"),
                        item.clone().strike(When::Plain, cut, usize::MAX),
                    );
                    let url = origin.url(&format!("/{name}"));
                    catalog += &format!("[downloads.{name}]\nurl = \"{url}\"\n");
                    names.push((origin, name, item.body));
                }
            }
        }
    }
    let mounted = setup
        .catalog("test.toml", &catalog)
        .args(["--config".to_owned(), file.display().to_string()])
        .start();
    let eio = format!("(os error {})", libc::EIO);
    let mut at_open = 0;
    for (_, name, body) in &names {
        let error = body.check(&mounted.path(name)).expect_err("a cut body");
        // Neither an early end of file nor other bytes: an error, at the open or where it ends.
        assert!(error.ends_with(&eio), "{name}: {error}");
        at_open += usize::from(error.starts_with("open"));
    }
    let whole = |entry: &&serde_json::Value| entry["state"] == "ready";
    let ls = mounted.ls();
    let list = ls.as_array().or_else(|| ls["names"].as_array()).expect("a list of names");
    assert_eq!(list.iter().filter(whole).count(), 0, "nothing cut is shown as whole: {ls:#}");
    figure(&format!("{} cut bodies, each an EIO; {at_open} of them at the open", names.len()));

    for (origin, name, _) in names.iter().step_by(16) {
        origin.edit(&format!("/{name}"), |item| {
            item.strikes.clear();
            item.framing = Framing::Length;
        });
    }
    for (_, name, body) in names.iter().step_by(16) {
        wait_until("the whole body comes", Duration::from_secs(8), || {
            body.check(&mounted.path(name)).is_ok()
        });
    }
}

#[test]
fn a_body_that_may_end_with_its_connection_needs_the_closing_word_of_tls() {
    needs!("fuse");
    let setup = Mounted::with();
    let (origin, config) = secure(setup.dir());
    let file = setup.dir().join("config.toml");
    std::fs::write(&file, config).expect("write the configuration");
    let mut catalog = "[defaults]\nallow_close_delimited = true\n".to_owned();
    let item = |seed| Item { framing: Framing::Close, ..Item::made(seed, LEN) };
    for step in 0..=STEPS {
        // The last one has come whole, and nobody says so.
        let cut = Fault::Dropped(LEN / STEPS * step);
        origin.put(&format!("/{step}"), item(step).strike(When::Plain, cut, usize::MAX));
        let url = origin.url(&format!("/{step}"));
        catalog += &format!("[downloads.n{step}]\nurl = \"{url}\"\n");
    }
    origin.put("/told", item(1000));
    catalog += &format!("[downloads.told]\nurl = \"{}\"\n", origin.url("/told"));
    let mounted = setup
        .catalog("test.toml", &catalog)
        .args(["--config".to_owned(), file.display().to_string()])
        .start();
    for step in 0..=STEPS {
        let name = format!("n{step}");
        let error = item(step).body.check(&mounted.path(&name)).expect_err("cut");
        assert!(error.ends_with(&format!("(os error {})", libc::EIO)), "{name}: {error}");
    }
    item(1000).body.check(&mounted.path("told")).expect("whole, and said so");
    mounted.wait_complete("told");
}
