//! More downloads than slots.

use std::time::Instant;

use super::*;

/// What a body is sent through.
type Sender = mpsc::UnboundedSender<Result<bytes::Bytes, Failure>>;

/// A body that drips, and one that is fast: bytes, and how often they come.
const DRIP: (usize, Duration) = (1024, Duration::from_millis(50));
const FAST: (usize, Duration) = (1 << 20, Duration::from_millis(60));

/// Has the next answer come as it is sent.
fn sent(rig: &Rig) -> Sender {
    let (body, sent) = mpsc::unbounded_channel();
    rig.will(Reply::Slow(head(Some("1"), Some(1 << 30)), sent));
    body
}

/// Sends for as long as anybody listens.
fn keep_sending(body: Sender, (bytes, every): (usize, Duration)) -> tokio::task::JoinHandle<()> {
    let bytes = bytes::Bytes::from(vec![0; bytes]);
    tokio::spawn(async move {
        while body.send(Ok(bytes.clone())).is_ok() {
            tokio::time::sleep(every).await;
        }
    })
}

/// A cache with four slots and much room, and six names.
fn roomy<const N: usize>(names: [&str; N]) -> Rig {
    let limits = Limits { quota: 8 << 30, hard: 9 << 30, min_free: 0 };
    Rig::with(limits, table(names.map(|name| (name, source(&format!("http://h/{name}"))))))
}

/// Opens names whose bodies fill the slots, and go on fast.
async fn fill_slots(rig: &Rig, names: &[&str]) -> (Vec<Opened>, Vec<tokio::task::JoinHandle<()>>) {
    let (mut held, mut senders) = (Vec::new(), Vec::new());
    for name in names {
        senders.push(keep_sending(sent(rig), FAST));
        held.push(rig.open(name).await.unwrap());
    }
    until("each to have begun", || held.iter().all(|o| o.version.blob.filled() > 0)).await;
    (held, senders)
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
        drips.push(keep_sending(sent(&rig), DRIP));
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

/// An origin may drop a body that nobody reads for a while.
#[tokio::test]
async fn a_body_that_has_begun_is_never_made_to_wait() {
    let rig = roomy(["a", "b", "c", "stalls", "e", "waits"]);
    let (held, mut senders) = fill_slots(&rig, &["a", "b", "c"]).await;
    let body = sent(&rig);
    let stalls = rig.open("stalls").await.unwrap();
    let piece = bytes::Bytes::from(vec![0; 1 << 20]);
    body.send(Ok(piece.clone())).unwrap();
    let blob = &stalls.version.blob;
    until("it to begin", || blob.filled() > 0).await;
    // It loses its slot meanwhile, which the next one takes; one more waits.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    let (fifth, more) = fill_slots(&rig, &["e"]).await;
    senders.extend(more);
    senders.push(keep_sending(sent(&rig), FAST));
    let waits = rig.open("waits").await.unwrap();
    for _ in 0..60 {
        body.send(Ok(piece.clone())).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    until("all that was sent", || blob.filled() == 61 << 20).await;
    assert_eq!(waits.version.blob.filled(), 0, "all slots are taken");
    // A body that ends frees its slot.
    senders[0].abort();
    until("its turn", || waits.version.blob.filled() > 0).await;
    drop((held, fifth));
    senders.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn the_wait_for_a_turn_is_not_held_against_a_body() {
    let rig = roomy(["a", "b", "c", "d", "next", "last"]);
    let (held, mut senders) = fill_slots(&rig, &["a", "b", "c", "d"]).await;
    let mut waiting = Vec::new();
    for name in ["next", "last"] {
        senders.push(keep_sending(sent(&rig), FAST));
        waiting.push(rig.open(name).await.unwrap());
        // The order of coming is that of the turns.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let filled = |n: usize| waiting[n].version.blob.filled();
    assert_eq!((filled(0), filled(1)), (0, 0), "all slots are taken");
    // A body that ends frees its slot.
    senders[3].abort();
    until("its turn", || filled(0) > 8 << 20).await;
    assert_eq!(filled(1), 0, "it keeps the slot that it waited for");
    drop(held);
    senders.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_stat_beside_an_open_is_not_told_what_was_heard_long_ago() {
    let rig = Rig::new(table([("a", source("http://h/a"))]));
    rig.will(found("1", b"old"));
    rig.size("a").await.unwrap();
    later().await;
    later().await;
    rig.will_after(300, found("2", b"much longer"));
    let stat = async {
        until("the open to ask", || rig.asked() == 2).await;
        rig.size("a").await.unwrap().length
    };
    let (opened, length) = tokio::join!(rig.open("a"), stat);
    assert_eq!((length, bytes_of(&opened.unwrap()).await.len()), (11, 11));
}
