//! How the scripted origin sends an answer: at its pace, past its gates, into its faults.

use std::io;
use std::time::{Duration, Instant};

use super::origin::{At, Seen, Shared};
use super::origin_answer::Answer;
use super::origin_item::{Fault, Framing};
use super::origin_serve::gate;
use super::origin_wire::Connection;

/// What happens to the connection after an answer.
pub(super) enum After {
    KeepAlive,
    Close,
    Drop,
    Reset,
}

/// An answer on its way.
pub(super) struct Sending<'a> {
    shared: &'a Shared,
    index: usize,
    path: &'a str,
    answer: Answer,
    rate: Option<u64>,
    fault: Option<Fault>,
}

impl<'a> Sending<'a> {
    /// Returns an answer to the request with this number in the log.
    pub(super) fn new(
        shared: &'a Shared,
        index: usize,
        path: &'a str,
        answer: Answer,
    ) -> Sending<'a> {
        Sending { shared, index, path, answer, rate: None, fault: None }
    }

    /// Sets the bytes per second.
    pub(super) fn rate(self, rate: Option<u64>) -> Sending<'a> {
        Sending { rate, ..self }
    }

    /// Sets what goes wrong in the body.
    pub(super) fn fault(self, fault: Option<Fault>) -> Sending<'a> {
        let rate = match fault {
            Some(Fault::Drip(rate)) => Some(rate),
            _ => self.rate,
        };
        Sending { rate, fault, ..self }
    }

    /// Sends head and body.
    pub(super) fn send(&self, connection: &mut Connection) -> io::Result<After> {
        let busy = Busy::new(self.shared);
        self.note(|seen| {
            seen.status = self.answer.status;
            seen.from = self.answer.part.start;
        });
        connection.send(self.answer.head().as_bytes())?;
        if matches!(self.fault, Some(Fault::Endless)) {
            return self.endless(connection);
        }
        self.body(connection, busy)
    }

    fn body(&self, connection: &mut Connection, busy: Busy<'_>) -> io::Result<After> {
        let total = self.answer.part.end - self.answer.part.start;
        let mut pace = Pace::new(self.rate);
        let mut buf = vec![0; pace.step];
        let mut sent = 0;
        let mut busy = Some(busy);
        loop {
            if self.fault_at() == Some(sent) {
                return self.strike(connection);
            }
            let held = self.held_at(sent);
            if held == Some(sent) {
                gate(self.shared, self.path, At::Byte(sent));
                continue;
            }
            if sent == total {
                break;
            }
            let trickles = matches!(self.fault, Some(Fault::Trickle(at)) if sent >= at);
            let stop = [self.fault_at(), held, Some(total)].into_iter().flatten().min();
            let step = if trickles { 1 } else { buf.len() as u64 };
            let want = (stop.unwrap_or(total) - sent).min(step) as usize;
            let n = self.answer.body.read_at(self.answer.part.start + sent, &mut buf[..want]);
            if sent + n as u64 == total {
                // Whoever has the last bytes may ask for more before this thread goes on.
                drop(busy.take());
            }
            self.piece(connection, &buf[..n])?;
            sent += n as u64;
            self.note(|seen| seen.sent = sent);
            pace.wait(n);
            if trickles {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        if self.answer.framing == Framing::Chunked
            && !matches!(self.fault, Some(Fault::NoLastChunk))
        {
            connection.send(b"0\r\n\r\n")?;
        }
        let close = self.answer.framing == Framing::Close
            || self.answer.misframed()
            || matches!(self.fault, Some(Fault::NoLastChunk));
        Ok(if close { After::Close } else { After::KeepAlive })
    }

    /// Sends some bytes as the framing wants them.
    fn piece(&self, connection: &mut Connection, bytes: &[u8]) -> io::Result<()> {
        if self.answer.framing != Framing::Chunked {
            return connection.send(bytes);
        }
        let head = format!("{:x}\r\n", bytes.len());
        connection.send(&[head.as_bytes(), bytes, b"\r\n"].concat())
    }

    /// Sends what was asked for in chunks, and again and again, until the client leaves.
    fn endless(&self, connection: &mut Connection) -> io::Result<After> {
        let mut pace = Pace::new(self.rate);
        let mut buf = vec![0; pace.step];
        let part = &self.answer.part;
        let mut at = part.start;
        loop {
            let want = (part.end - at).min(buf.len() as u64) as usize;
            let n = self.answer.body.read_at(at, &mut buf[..want]);
            self.piece(connection, &buf[..n])?;
            self.note(|seen| seen.sent += n as u64);
            at += n as u64;
            if at >= part.end {
                at = part.start;
            }
            pace.wait(n);
        }
    }

    /// Returns the place where the body goes wrong. A place past the end is not reached.
    fn fault_at(&self) -> Option<u64> {
        match self.fault {
            Some(
                Fault::Cut(at)
                | Fault::Dropped(at)
                | Fault::Reset(at)
                | Fault::Stall(at)
                | Fault::Change(at)
                | Fault::BadChunk(at),
            ) => Some(at),
            _ => None,
        }
    }

    /// Does what the fault does at its place.
    fn strike(&self, connection: &mut Connection) -> io::Result<After> {
        match self.fault {
            Some(Fault::Reset(_)) => return Ok(After::Reset),
            Some(Fault::Dropped(_)) => return Ok(After::Drop),
            Some(Fault::Stall(_)) => self.shared.wait_while(|_| true),
            Some(Fault::BadChunk(_)) => connection.send(b"no size\r\n")?,
            Some(Fault::Change(_)) => {
                let mut script = self.shared.lock();
                if let Some(item) = script.items.get_mut(self.path)
                    && let Some(next) = item.next.take()
                {
                    *item = *next;
                }
            }
            _ => {}
        }
        Ok(After::Close)
    }

    /// Returns the place in the body, not before `sent`, where a gate stands.
    fn held_at(&self, sent: u64) -> Option<u64> {
        match self.shared.lock().gates.get(self.path) {
            Some(At::Byte(at)) if *at >= sent => Some(*at),
            _ => None,
        }
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        if let Some(seen) = self.shared.lock().seen.get_mut(self.index) {
            change(seen);
        }
    }
}

/// Counts an answer while it is sent.
struct Busy<'a>(&'a Shared);

impl<'a> Busy<'a> {
    fn new(shared: &'a Shared) -> Busy<'a> {
        let mut script = shared.lock();
        script.answering += 1;
        script.most = script.most.max(script.answering);
        drop(script);
        Busy(shared)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().answering -= 1;
    }
}

/// A token bucket: what a client was too slow to take is not made up for in a burst.
struct Pace {
    rate: Option<u64>,
    /// The most bytes sent at once.
    step: usize,
    /// When the next bytes are due.
    due: Instant,
}

impl Pace {
    /// What may be made up for; more than a sleep is late.
    const BURST: Duration = Duration::from_millis(5);

    fn new(rate: Option<u64>) -> Pace {
        let step = rate.map_or(128 << 10, |rate| (rate / 20).clamp(1, 4 << 10));
        Pace { rate, step: step as usize, due: Instant::now() }
    }

    /// Waits until more may follow these bytes.
    fn wait(&mut self, sent: usize) {
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        let earliest = now.checked_sub(Pace::BURST).unwrap_or(now);
        self.due = self.due.max(earliest) + Duration::from_secs_f64(sent as f64 / rate as f64);
        std::thread::sleep(self.due.saturating_duration_since(now));
    }
}
