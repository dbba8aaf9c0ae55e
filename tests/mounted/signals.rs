//! Whoever waits for us dies when told to, and disturbs nobody.

use std::time::Duration;

use crate::support::origin::At;
use crate::support::{Body, Item, MIB, Mounted, Origin, Proc, figure, needs, process, timed};

/// Where the programs wait.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Open,
    Read,
    Fault,
}

fn waiters_die(wait: Wait, signal: i32) {
    let origin = Origin::start();
    let fine = Body::made(2, MIB);
    origin.put("/stalled", Item::made(1, 8 * MIB));
    origin.put("/fine", Item::made(2, MIB));
    let gate = match wait {
        Wait::Open => At::Head,
        Wait::Read | Wait::Fault => At::Byte(MIB),
    };
    origin.hold("/stalled", gate);
    let mounted =
        Mounted::names(&[("stalled", &origin.url("/stalled")), ("fine", &origin.url("/fine"))]);
    fine.check(&mounted.path("fine")).expect("another name");
    let path = mounted.path("stalled");
    let mut waiters: Vec<Proc> = (0..10)
        .map(|_| match wait {
            Wait::Open | Wait::Read => Proc::cat(&path),
            Wait::Fault => Proc::touch_page(&path, 6 * MIB),
        })
        .collect();
    origin.wait_held("/stalled", 1);
    eprintln!("{wait:?}, signal {signal}");
    let took = process::end_all(&mut waiters, signal);
    figure(&format!("ten waiters gone after {took:?}"));
    let (result, took) = timed(|| fine.check(&mounted.path("fine")));
    result.expect("another reader");
    assert!(took < Duration::from_secs(1), "another reader waited {took:?}");
    origin.release("/stalled");
    Body::made(1, 8 * MIB).check(&path).expect("the download goes on without those who died");
    assert_eq!(origin.count("/stalled", 200), 1);
}

macro_rules! cases {
    ($($name:ident: $wait:expr, $signal:expr;)*) => {
        $(#[test]
        fn $name() {
            needs!("fuse", "python3");
            waiters_die($wait, $signal);
        })*
    };
}

cases! {
    sigint_ends_those_who_wait_in_open: Wait::Open, libc::SIGINT;
    sigterm_ends_those_who_wait_in_open: Wait::Open, libc::SIGTERM;
    sigkill_ends_those_who_wait_in_open: Wait::Open, libc::SIGKILL;
    sigint_ends_those_who_wait_in_read: Wait::Read, libc::SIGINT;
    sigterm_ends_those_who_wait_in_read: Wait::Read, libc::SIGTERM;
    sigkill_ends_those_who_wait_in_read: Wait::Read, libc::SIGKILL;
    sigint_ends_those_who_wait_in_a_page_fault: Wait::Fault, libc::SIGINT;
    sigterm_ends_those_who_wait_in_a_page_fault: Wait::Fault, libc::SIGTERM;
    sigkill_ends_those_who_wait_in_a_page_fault: Wait::Fault, libc::SIGKILL;
}

#[test]
fn a_caught_signal_disturbs_no_one() {
    needs!("fuse", "python3");
    const CODE: &str = "import signal, sys
seen = []
for s in (signal.SIGCHLD, signal.SIGUSR1):
    signal.signal(s, lambda *_: seen.append(1))
f = open(sys.argv[1], 'rb')
data = f.read()
sys.exit(0 if len(data) == int(sys.argv[2]) else 1)";
    let origin = Origin::start();
    origin.put("/a", Item::made(1, 4 * MIB));
    origin.hold("/a", At::Head);
    let mounted = Mounted::names(&[("a", &origin.url("/a"))]);
    let mut reader = Proc::start(
        process::command("python3")
            .args(["-c", CODE])
            .arg(mounted.path("a"))
            .arg((4 * MIB).to_string()),
    );
    origin.wait_held("/a", 1);
    reader.wait_blocked();
    let storm = |reader: &mut Proc| {
        for _ in 0..30 {
            reader.signal(libc::SIGCHLD);
            reader.signal(libc::SIGUSR1);
            std::thread::sleep(Duration::from_millis(20));
            assert!(!reader.ended(), "it still waits");
        }
    };
    storm(&mut reader);
    origin.hold("/a", At::Byte(MIB));
    // The gate has moved: the head goes out, the body stops after a mebibyte.
    origin.wait_held("/a", 1);
    storm(&mut reader);
    origin.release("/a");
    let status = reader.wait(Duration::from_secs(10)).expect("it ends");
    assert!(status.success(), "{status}");
    let interrupted = mounted.status();
    let refused = crate::support::status::find(&interrupted, "interrupted");
    assert!(refused.is_none_or(|count| count == 0), "{interrupted:#}");
}
