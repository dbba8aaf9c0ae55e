//! More downloads than slots.

use std::time::Instant;

use super::*;

/// Has the next answer drip for as long as anybody listens.
fn dripping(rig: &Rig) -> tokio::task::JoinHandle<()> {
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(1 << 30)), sent));
    tokio::spawn(async move {
        while body.send(Ok(vec![0; 1024].into())).is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
}

#[tokio::test]
async fn bodies_that_drip_keep_nobody_waiting() {
    let names = ["a", "b", "c", "d"];
    let slow = names.map(|name| (name, source(&format!("http://h/{name}"))));
    let quick = Source { digest: sha256(b"quick"), ..source("http://h/e") };
    let [a, b, c, d] = slow;
    let limits = Limits { quota: 8 << 30, hard: 9 << 30, min_free: 0 };
    let rig = Rig::with(limits, table([a, b, c, d, ("e", quick)]));
    let mut held = Vec::new();
    let mut drips = Vec::new();
    for name in names {
        drips.push(dripping(&rig));
        held.push(rig.open(name).await.unwrap());
    }
    until("each to hold a slot", || held.iter().all(|o| o.version.blob.filled() > 0)).await;
    rig.will(found("1", b"quick"));
    let begin = Instant::now();
    let quick = rig.open("e").await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(4), "after {:?}", begin.elapsed());
    assert_eq!(bytes_of(&quick).await, b"quick");
    // And those go on.
    for opened in &held {
        let blob = &opened.version.blob;
        let filled = blob.filled();
        until("more of the others", || blob.filled() > filled).await;
    }
    drop(held);
    for drip in drips {
        drip.abort();
    }
}
