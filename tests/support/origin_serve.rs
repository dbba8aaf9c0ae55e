//! How the scripted origin answers one connection.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::origin::{At, Framing, Item, Seen, Shared};
use super::os;

/// What happens to the connection after an answer.
enum After {
    KeepAlive,
    Close,
    Reset,
}

/// Serves requests until the client leaves, the script ends the connection or the origin stops.
pub(super) fn connection(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Ok(Some((index, request))) = read_request(&mut reader, shared) {
        match answer(stream, shared, index, &request) {
            Ok(After::KeepAlive) => {}
            Ok(After::Close) | Err(_) => return,
            Ok(After::Reset) => {
                let _ = os::reset_on_close(stream);
                // shutdown(2) would send FIN first; the close of both copies sends RST.
                return;
            }
        }
    }
}

/// Reads one request head and files it in the log; `None` when the client is gone.
fn read_request(
    reader: &mut BufReader<&TcpStream>,
    shared: &Shared,
) -> io::Result<Option<(usize, Seen)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut seen = Seen {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        status: 0,
        sent: 0,
        at: Instant::now(),
    };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                seen.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()))
            }
            None => break,
        }
    }
    let mut script = shared.lock();
    script.seen.push(seen.clone());
    Ok(Some((script.seen.len() - 1, seen)))
}

/// Sends the answer that the script has for a request.
fn answer(stream: &TcpStream, shared: &Shared, index: usize, request: &Seen) -> io::Result<After> {
    let path = request.path.split('?').next().unwrap_or("").to_owned();
    shared.wait_while(|script| script.silent);
    gate(shared, &path, At::Head);
    // Looked up behind the gate: a test may replace the item while requests wait.
    let Some(item) = shared.lock().items.get(&path).cloned() else {
        return short(stream, shared, index, 404, "");
    };
    std::thread::sleep(item.delay);
    if let Some((name, value)) = &item.require
        && request.header(&name.to_ascii_lowercase()) != Some(value)
    {
        return short(stream, shared, index, 403, "");
    }
    if let Some(status) = item.status {
        return short(stream, shared, index, status, &more_headers(&item));
    }
    if let Some(to) = &item.redirect {
        return short(stream, shared, index, 302, &format!("Location: {to}\r\n"));
    }
    if not_modified(&item, request) {
        note(shared, index, |seen| seen.status = 304);
        let head = format!("HTTP/1.1 304 Not Modified\r\n{}\r\n", more_headers(&item));
        (&*stream).write_all(head.as_bytes())?;
        return Ok(After::KeepAlive);
    }
    full(stream, shared, index, &path, &item)
}

/// Sends a 200 with its body.
fn full(
    mut stream: &TcpStream,
    shared: &Shared,
    index: usize,
    path: &str,
    item: &Item,
) -> io::Result<After> {
    let framing = match item.framing {
        Framing::Length => format!("Content-Length: {}\r\n", item.body.len()),
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Framing::Close => "Connection: close\r\n".to_owned(),
    };
    let head = format!("HTTP/1.1 200 OK\r\n{framing}{}\r\n", more_headers(item));
    note(shared, index, |seen| seen.status = 200);
    stream.write_all(head.as_bytes())?;

    let mut sent = 0;
    // A tenth of a second's worth at most, so that a rate is smooth and a gate exact.
    let step = item.rate.map_or(128 << 10, |rate| (rate / 20).max(1));
    let begin = Instant::now();
    let mut buf = vec![0; 128 << 10];
    while sent < item.body.len() {
        let ends = [item.cut_at, item.reset_at, held_at(shared, path, sent)];
        let stop = ends.into_iter().flatten().min().unwrap_or(u64::MAX);
        if item.cut_at == Some(sent) {
            return Ok(After::Close);
        }
        if item.reset_at == Some(sent) {
            return Ok(After::Reset);
        }
        if stop == sent {
            gate(shared, path, At::Byte(sent));
            continue;
        }
        let want = step.min(buf.len() as u64).min(stop - sent) as usize;
        let n = item.body.read_at(sent, &mut buf[..want]);
        if item.framing == Framing::Chunked {
            write!(stream, "{n:x}\r\n")?;
            stream.write_all(&buf[..n])?;
            stream.write_all(b"\r\n")?;
        } else {
            stream.write_all(&buf[..n])?;
        }
        sent += n as u64;
        note(shared, index, |seen| seen.sent = sent);
        if let Some(rate) = item.rate {
            let due = Duration::from_secs_f64(sent as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    if held_at(shared, path, sent) == Some(sent) {
        gate(shared, path, At::Byte(sent));
    }
    if item.framing == Framing::Chunked {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(match item.framing {
        Framing::Close => After::Close,
        _ => After::KeepAlive,
    })
}

/// Sends a status with a short body.
fn short(
    mut stream: &TcpStream,
    shared: &Shared,
    index: usize,
    status: u16,
    headers: &str,
) -> io::Result<After> {
    note(shared, index, |seen| seen.status = status);
    let body = format!("scripted {status}\n");
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    Ok(After::KeepAlive)
}

/// Waits at a gate of a path if there is one at this place.
fn gate(shared: &Shared, path: &str, at: At) {
    let closed = |script: &super::origin::Script| script.gates.get(path) == Some(&at);
    if !closed(&shared.lock()) {
        return;
    }
    *shared.lock().waiting.entry(path.to_owned()).or_default() += 1;
    shared.wait_while(closed);
    *shared.lock().waiting.entry(path.to_owned()).or_default() -= 1;
}

/// Returns the place in the body, not before `sent`, where a gate stands.
fn held_at(shared: &Shared, path: &str, sent: u64) -> Option<u64> {
    match shared.lock().gates.get(path) {
        Some(At::Byte(at)) if *at >= sent => Some(*at),
        _ => None,
    }
}

fn note(shared: &Shared, index: usize, change: impl FnOnce(&mut Seen)) {
    if let Some(seen) = shared.lock().seen.get_mut(index) {
        change(seen);
    }
}

fn more_headers(item: &Item) -> String {
    let mut lines = String::new();
    let validators = [("ETag", &item.etag), ("Last-Modified", &item.last_modified)];
    for (name, value) in validators {
        if let Some(value) = value {
            lines += &format!("{name}: {value}\r\n");
        }
    }
    for (name, value) in &item.headers {
        lines += &format!("{name}: {value}\r\n");
    }
    lines
}

/// Says whether a conditional request is answered with 304 (RFC 9110, sections 13.1.2 and 13.1.3).
fn not_modified(item: &Item, request: &Seen) -> bool {
    if let Some(tags) = request.header("if-none-match") {
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let ours = item.etag.as_deref().map(bare);
        return tags.split(',').any(|tag| ours == Some(bare(tag)));
    }
    let (Some(since), Some(changed)) = (request.header("if-modified-since"), &item.last_modified)
    else {
        return false;
    };
    match (httpdate::parse_http_date(since), httpdate::parse_http_date(changed)) {
        (Ok(since), Ok(changed)) => changed <= since,
        _ => false,
    }
}
