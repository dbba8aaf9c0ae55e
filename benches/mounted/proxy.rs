//! A TCP proxy that makes an origin as far away as wanted: every byte takes half the round trip in
//! each direction, with no limit on how many are under way.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Starts a proxy to a port on loopback and returns its address; it ends with the process.
pub(crate) fn start(port: u16, round_trip: Duration) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind on loopback");
    let addr = listener.local_addr().expect("the bound address");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(origin) = TcpStream::connect(("127.0.0.1", port)) else {
                continue;
            };
            for stream in [&client, &origin] {
                let _ = stream.set_nodelay(true);
            }
            let (Ok(client2), Ok(origin2)) = (client.try_clone(), origin.try_clone()) else {
                continue;
            };
            carry(client, origin2, round_trip / 2);
            carry(origin, client2, round_trip / 2);
        }
    });
    addr
}

/// Carries one direction: a thread reads and stamps, another writes when the time has come.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    // Bounded only by the delay: 64 KiB each, enough for gigabytes a second over 50 ms.
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(4096);
    std::thread::spawn(move || {
        let mut buf = vec![0; 64 << 10];
        while let Ok(n) = from.read(&mut buf) {
            if n == 0 || sender.send((Instant::now(), buf[..n].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (at, bytes) in receiver {
            std::thread::sleep((at + delay).saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
