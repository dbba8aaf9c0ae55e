//! A TCP proxy that makes an origin as far away as wanted: every byte takes half the round trip in
//! each direction, with no limit on how many are under way. Where wanted, all connections together
//! get so many bytes a second from the origin and no more, as those of one line do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

/// How much of the line may be unused and is made up for; less than a thread sleeps too long now
/// and then.
const BURST: Duration = Duration::from_millis(10);

/// A line that all connections share.
struct Line {
    bytes_per_second: f64,
    /// When it has carried what it was given so far.
    free: Mutex<Instant>,
}

impl Line {
    /// Waits until the line has carried so many bytes.
    fn carry(&self, bytes: usize) {
        let time = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        let done = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = Instant::now().checked_sub(BURST).unwrap_or(*free);
            *free = (*free).max(earliest) + time;
            *free
        };
        std::thread::sleep(done.saturating_duration_since(Instant::now()));
    }
}

/// Starts a proxy to a port on loopback and returns its address; it ends with the process.
pub(crate) fn start(port: u16, round_trip: Duration) -> SocketAddr {
    serve(port, round_trip, None)
}

/// Starts a proxy whose connections together get `bytes_per_second` from the origin.
pub(crate) fn line(port: u16, bytes_per_second: f64) -> SocketAddr {
    let line = Line { bytes_per_second, free: Mutex::new(Instant::now()) };
    serve(port, Duration::ZERO, Some(Arc::new(line)))
}

fn serve(port: u16, round_trip: Duration, line: Option<Arc<Line>>) -> SocketAddr {
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
            carry(client, origin2, round_trip / 2, None);
            carry(origin, client2, round_trip / 2, line.clone());
        }
    });
    addr
}

/// Carries one direction: a thread reads and stamps, another writes when the time has come.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: Duration, line: Option<Arc<Line>>) {
    // Bounded only by the delay: 64 KiB each, enough for gigabytes a second over 50 ms.
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(4096);
    std::thread::spawn(move || {
        let mut buf = vec![0; 64 << 10];
        while let Ok(n) = from.read(&mut buf) {
            if let Some(line) = &line {
                line.carry(n);
            }
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
