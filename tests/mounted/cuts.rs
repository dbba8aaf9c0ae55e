//! A body cut at every sixty-fourth of its length, in every framing.

use std::time::Duration;

use crate::support::{Framing, Item, KIB, Mounted, Origin, figure, needs};

const LEN: u64 = 64 * KIB;
const STEPS: u64 = 64;

#[test]
fn a_body_cut_anywhere_is_detected_or_refused_as_undetectable() {
    needs!("fuse");
    let origin = Origin::start();
    let framings =
        [("length", Framing::Length), ("chunked", Framing::Chunked), ("close", Framing::Close)];
    let mut setup = Mounted::with();
    let mut names = Vec::new();
    for (word, framing) in framings {
        for step in 0..STEPS {
            let (name, seed) = (format!("{word}{step}"), names.len() as u64);
            // Without a strong tag there is nothing that would hold two pieces together.
            let item = Item {
                etag: Some(format!("W/\"{seed}\"")),
                framing,
                cut_at: Some(LEN / STEPS * step),
                ..Item::made(seed, LEN)
            };
            origin.put(&format!("/{name}"), item.clone());
            setup = setup.download(&name, &origin.url(&format!("/{name}")));
            names.push((name, item.body));
        }
    }
    let mounted = setup.start();
    let eio = format!("(os error {})", libc::EIO);
    let mut at_open = 0;
    for (name, body) in &names {
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

    for (name, _) in names.iter().step_by(16) {
        origin.edit(&format!("/{name}"), |item| {
            item.cut_at = None;
            item.framing = Framing::Length;
        });
    }
    for (name, body) in names.iter().step_by(16) {
        crate::support::wait_until("the whole body comes", Duration::from_secs(8), || {
            body.check(&mounted.path(name)).is_ok()
        });
    }
}
