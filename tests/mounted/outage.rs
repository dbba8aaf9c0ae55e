//! An origin that is away for long: its names stay readable, and it is spared.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Body, Item, KIB, Mounted, Origin, Raise, figure, needs, scaled, timed};

const NAMES: usize = 10;

/// Accepts connections and closes each at once, with nothing said, and counts them.
fn slam(listener: &TcpListener, slammed: &AtomicUsize, stop: &AtomicBool) {
    listener.set_nonblocking(true).expect("a listener that does not wait");
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok(_closed) => {
                slammed.fetch_add(1, Ordering::Relaxed);
            }
            Err(_nobody) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

#[test]
fn warm_names_answer_while_their_origin_is_away_and_it_is_spared() {
    needs!("fuse");
    let away = Duration::from_secs(scaled(15, 600));
    let mut origin = Origin::start();
    let mut setup = Mounted::with().args(["--revalidate-window", "0"]);
    for n in 0..NAMES {
        let path = format!("/n{n}");
        origin.put(&path, Item::made(n as u64, 64 * KIB));
        setup = setup.download(&format!("n{n}"), &origin.url(&path));
    }
    let mounted = setup.start();
    for n in 0..NAMES {
        let name = format!("n{n}");
        Body::made(n as u64, 64 * KIB).check(&mounted.path(&name)).expect("cold");
        mounted.wait_complete(&name);
    }
    mounted.settle();
    origin.stop();
    let listener = TcpListener::bind(origin.addr()).expect("take the port over");
    let (slammed, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worst = std::thread::scope(|scope| {
        let _stop = Raise(&stop);
        scope.spawn(|| slam(&listener, &slammed, &stop));
        let mut openers = Vec::new();
        // Ten at five opens a second each.
        for n in 0..NAMES {
            let mounted = &mounted;
            openers.push(scope.spawn(move || {
                let (body, path) = (Body::made(n as u64, 64 * KIB), mounted.path(&format!("n{n}")));
                let (begin, mut worst) = (Instant::now(), Duration::ZERO);
                while begin.elapsed() < away {
                    let (read, took) = timed(|| body.check(&path));
                    read.expect("a warm name");
                    worst = worst.max(took);
                    std::thread::sleep(Duration::from_millis(200).saturating_sub(took));
                }
                worst
            }));
        }
        let times = openers.into_iter().map(|opener| opener.join().expect("an opener"));
        times.max().unwrap_or_default()
    });
    drop(listener);
    let rate = slammed.load(Ordering::Relaxed) as f64 / away.as_secs_f64();
    figure(&format!(
        "origin away for {away:?}: slowest warm open {worst:?}, {rate:.2} connections a second"
    ));
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    assert!(rate <= 2.0, "{rate} connections a second");
    origin.start_again();
    origin.forget();
    let ((), back) = timed(|| {
        crate::support::wait_until("it is asked again", Duration::from_secs(10), || {
            Body::made(0, 64 * KIB).check(&mounted.path("n0")).expect("a warm name");
            origin.count("/n0", 304) > 0
        });
    });
    figure(&format!("asked again {back:?} after it came back"));
}
