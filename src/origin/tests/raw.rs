//! An origin that sends exactly the bytes it is told, when it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One step of an answer.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Send(Vec<u8>),
    Wait(Duration),
    /// Ends the connection with FIN.
    Close,
    /// Ends the connection with RST.
    Reset,
    /// Answers nothing more, and keeps the connection.
    Hang,
}

/// What one connection asked, and where.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) connection: usize,
    pub(super) head: String,
}

impl Seen {
    /// Returns the value of a field, if the request had it.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// The server; stops when dropped.
pub(super) struct Raw {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Raw {
    /// Starts a server whose n-th request (from 0, over all connections) is answered with
    /// `script(n, request)`.
    pub(super) async fn start(
        script: impl Fn(usize, &Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Raw {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Raw::start_at(any, script).await
    }

    /// Starts a server at an address.
    pub(super) async fn start_at(
        address: SocketAddr,
        script: impl Fn(usize, &Seen) -> Vec<Act> + Send + Sync + 'static,
    ) -> Raw {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(script);
        let task = tokio::spawn({
            let seen = Arc::clone(&seen);
            async move {
                // Dropping the set ends the connections with the server.
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    let number = connections.len();
                    let (seen, script) = (Arc::clone(&seen), Arc::clone(&script));
                    connections.spawn(async move { serve(stream, number, &seen, &*script).await });
                }
            }
        });
        Raw { address, seen, task }
    }

    /// Returns the requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// Returns the URL of a path here.
    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    script: &(dyn Fn(usize, &Seen) -> Vec<Act> + Send + Sync),
) {
    loop {
        let Some(head) = request(&mut stream).await else {
            return;
        };
        let one = Seen { connection, head };
        let number = {
            let mut seen = seen.lock().expect("not poisoned");
            seen.push(one.clone());
            seen.len() - 1
        };
        for act in script(number, &one) {
            match act {
                Act::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Act::Wait(time) => tokio::time::sleep(time).await,
                Act::Close => return,
                Act::Reset => {
                    stream.set_zero_linger().expect("a socket");
                    return;
                }
                Act::Hang => std::future::pending().await,
            }
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Returns a step that sends text.
pub(super) fn send(text: &str) -> Act {
    Act::Send(text.as_bytes().to_vec())
}

/// Returns a step that waits.
pub(super) fn wait(millis: u64) -> Act {
    Act::Wait(Duration::from_millis(millis))
}

/// Returns a whole answer with Content-Length; `lines` are further header lines, each ended.
pub(super) fn answer(status: &str, lines: &str, body: &str) -> Act {
    send(&format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{lines}\r\n{body}", body.len()))
}
