//! How the scripted origin serves one connection.

use std::io;
use std::time::{Duration, Instant};

use super::origin::{At, Seen, Shared};
use super::origin_answer::Answer;
use super::origin_item::{Fault, Item};
use super::origin_send::{After, Sending};
use super::origin_wire::Connection;

/// Serves requests until the client leaves, the script ends the connection or the origin stops.
pub(super) fn connection(mut connection: Connection, shared: &Shared) {
    while let Ok(Some((index, request))) = read_request(&mut connection, shared) {
        match answer(&mut connection, shared, index, &request) {
            Ok(After::KeepAlive) => {}
            Ok(After::Close) => return connection.close(),
            // Its fall closes it, and says nothing.
            Ok(After::Drop) => return,
            Ok(After::Reset) => return connection.reset(),
            Err(_) => return,
        }
    }
}

/// Reads one request head and files it in the log; `None` when the client is gone.
fn read_request(connection: &mut Connection, shared: &Shared) -> io::Result<Option<(usize, Seen)>> {
    let line = connection.line()?;
    if line.is_empty() {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let mut seen = Seen {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        status: 0,
        from: 0,
        sent: 0,
        at: Instant::now(),
    };
    loop {
        let line = connection.line()?;
        if line.is_empty() {
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
fn answer(
    connection: &mut Connection,
    shared: &Shared,
    index: usize,
    request: &Seen,
) -> io::Result<After> {
    let path = request.path.split('?').next().unwrap_or("").to_owned();
    shared.wait_while(|script| script.silent);
    gate(shared, &path, At::Head);
    let Some((item, fault)) = scripted(shared, &path, index, request) else {
        let sending = Sending::new(shared, index, &path, Answer::short(404));
        return sending.send(connection);
    };
    std::thread::sleep(item.delay);
    if let Some(fault) = &fault
        && let Some(after) = before_head(connection, shared, fault)
    {
        return after;
    }
    let mut answer = Answer::honest(&item, request);
    if let Some(fault) = &fault {
        answer = answer.spoiled(fault, &item, request);
    }
    Sending::new(shared, index, &path, answer).rate(item.rate).fault(fault).send(connection)
}

/// Takes what the script has for a request. Looked up behind the gate: a test may replace the item
/// while requests wait there.
fn scripted(
    shared: &Shared,
    path: &str,
    index: usize,
    request: &Seen,
) -> Option<(Item, Option<Fault>)> {
    let script = &mut *shared.lock();
    let same = |seen: &&Seen| seen.path.split('?').next() == Some(path);
    let nth = script.seen.iter().take(index).filter(same).count();
    let item = script.items.get_mut(path)?;
    let fault = item.struck(request, nth);
    if let Some(Fault::Replaced) = fault
        && let Some(next) = item.next.take()
    {
        *item = *next;
    }
    Some((item.clone(), fault))
}

/// Does what a fault does instead of a head; `None` where it does nothing there.
fn before_head(
    connection: &mut Connection,
    shared: &Shared,
    fault: &Fault,
) -> Option<io::Result<After>> {
    match fault {
        Fault::Silent => {
            shared.wait_while(|_| true);
            Some(Ok(After::Close))
        }
        Fault::CloseFirst => Some(Ok(After::Close)),
        Fault::ResetFirst => Some(Ok(After::Reset)),
        Fault::Garbage => {
            Some(connection.send(b"220 mail.example ESMTP\r\n\r\n").map(|()| After::Close))
        }
        Fault::EndlessInterim => Some(loop {
            if let Err(error) = connection.send(b"HTTP/1.1 102 Processing\r\n\r\n") {
                break Err(error);
            }
            std::thread::sleep(Duration::from_millis(20));
        }),
        _ => None,
    }
}

/// Waits at a gate of a path if there is one at this place.
pub(super) fn gate(shared: &Shared, path: &str, at: At) {
    let closed = |script: &super::origin::Script| script.gates.get(path) == Some(&at);
    if !closed(&shared.lock()) {
        return;
    }
    *shared.lock().waiting.entry(path.to_owned()).or_default() += 1;
    shared.wait_while(closed);
    *shared.lock().waiting.entry(path.to_owned()).or_default() -= 1;
}
