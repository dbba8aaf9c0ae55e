//! An origin that is slow and honest.

use std::time::Duration;

use crate::support::{Item, MIB, Mounted, Origin, figure, needs, scaled, timed};

#[test]
fn no_deadline_strikes_a_slow_body_while_bytes_come() {
    needs!("fuse");
    // Longer than the deadline of a read in the long form; in the short one than that of a head.
    let len = scaled(12, 256) * MIB;
    let origin = Origin::start();
    let item = Item { rate: Some(MIB), ..Item::made(1, len) };
    origin.put("/streamed", item.clone());
    origin.put("/checked", item.clone());
    let (streamed, checked) = (origin.url("/streamed"), origin.url("/checked"));
    let digest = item.body.sha256();
    let text = format!(
        "[downloads.streamed]\nurl = \"{streamed}\"\n\
         [downloads.checked]\nurl = \"{checked}\"\nsha256 = \"{digest}\"\nintegrity = \"strict\"\n"
    );
    let mounted = Mounted::with().catalog("test.toml", &text).start();
    let least = Duration::from_secs(len / MIB * 9 / 10);
    std::thread::scope(|scope| {
        for name in ["streamed", "checked"] {
            let (mounted, item) = (&mounted, &item);
            scope.spawn(move || {
                let (result, took) = timed(|| item.body.check(&mounted.path(name)));
                result.unwrap_or_else(|error| panic!("{name}: {error}"));
                figure(&format!("{name}: {len} bytes at 1 MiB/s read in {took:.1?}"));
                assert!(took > least, "{name} came in {took:?}: it was not slow");
            });
        }
    });
    for name in ["/streamed", "/checked"] {
        assert_eq!(origin.requests(name), 1, "{name} came in one answer");
    }
}
