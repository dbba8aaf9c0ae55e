//! An origin for one test: it plays the answers of the test's requests, each for as long as the
//! player says, and notes what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::data::{Expected, Request};

/// A running origin. Dropping it ends it.
pub(crate) struct Origin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    requests: Vec<Request>,
    /// The request of the test that is being played.
    at: usize,
    /// The validators that were sent last.
    etag: Option<String>,
    last_modified: Option<String>,
    asked: Vec<Asked>,
}

/// What the origin was asked.
#[derive(Clone)]
pub(crate) struct Asked {
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Asked {
    /// Returns the value of a field by its name in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Origin {
    /// Starts an origin that plays the first request.
    pub(crate) fn start(requests: &[Request]) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listen on loopback");
        let address = listener.local_addr().expect("the address of a listener");
        let state = Arc::new(Mutex::new(State {
            requests: requests.to_vec(),
            at: 0,
            etag: None,
            last_modified: None,
            asked: Vec::new(),
        }));
        let ending = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (state, ending) = (state.clone(), ending.clone());
            move || {
                for stream in listener.incoming().flatten() {
                    if ending.load(Ordering::Relaxed) {
                        return;
                    }
                    // A client that goes away is its own business.
                    let _ = serve(&stream, &state);
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        });
        Origin { address, state, ending, thread: Some(thread) }
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Plays this request from now on.
    pub(crate) fn play(&self, at: usize) {
        let mut state = lock(&self.state);
        state.at = at;
        state.asked.clear();
    }

    /// Returns what was asked while the request that is played now was.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        lock(&self.state).asked.clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let woken = TcpStream::connect(self.address);
        if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers one request. What follows on the connection is not read.
fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut fields = Vec::new();
    for line in BufReader::new(stream).lines().skip(1) {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        fields.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let answer = lock(state).answer(Asked { fields });
    stream.write_all(answer.as_bytes())
}

impl State {
    /// Returns the bytes of the answer; none where the connection is to be closed.
    fn answer(&mut self, asked: Asked) -> String {
        let request = self.requests[self.at].clone();
        let status = match request.expected_type {
            Some(Expected::EtagValidated | Expected::LmValidated) if self.matches(&asked) => 304,
            _ => request.response_status.as_ref().map_or(200, |(status, _)| *status),
        };
        self.asked.push(asked);
        if request.disconnect {
            return String::new();
        }
        let now = SystemTime::now();
        let mut fields: Vec<(String, String)> =
            request.fields().map(|(name, value)| (name, text(value, now))).collect();
        let last = |name: &str| {
            fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        (self.etag, self.last_modified) = (last("etag"), last("last-modified"));
        if last("date").is_none() {
            fields.push(("date".to_owned(), httpdate::fmt_http_date(now)));
        }
        // The body tells which request it answers.
        let body = format!("{}\n", self.at);
        let has_body = !matches!(status, 204 | 304);
        if has_body {
            fields.push(("content-length".to_owned(), body.len().to_string()));
        }
        fields.push(("connection".to_owned(), "close".to_owned()));
        let lines: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let body = if has_body { body.as_str() } else { "" };
        format!("HTTP/1.1 {status} Played\r\n{lines}\r\n{body}")
    }

    /// Says whether a condition names what was sent last.
    fn matches(&self, asked: &Asked) -> bool {
        let same = |name, sent: &Option<String>| {
            sent.as_deref().is_some_and(|sent| asked.field(name) == Some(sent))
        };
        same("if-none-match", &self.etag) || same("if-modified-since", &self.last_modified)
    }
}

/// Returns a field's value; a number is that many seconds from now, as a date.
fn text(value: &Value, now: SystemTime) -> String {
    match (value.as_i64(), value.as_str()) {
        (Some(shift), _) => {
            let by = Duration::from_secs(shift.unsigned_abs());
            httpdate::fmt_http_date(if shift < 0 { now - by } else { now + by })
        }
        (None, Some(text)) => text.to_owned(),
        (None, None) => value.to_string(),
    }
}
