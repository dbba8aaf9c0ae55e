//! The protocol of sd_notify(3): datagrams to the service manager.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// What a service manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The mount answers.
    Ready,
    /// The catalogs are being read again; [`Notice::Ready`] follows. Holds the
    /// time of the monotonic clock (`Type=notify-reload` demands it).
    Reloading(Duration),
    /// The end has begun.
    Stopping,
    /// A line for `systemctl status`.
    Status(String),
}

impl Notice {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = match self {
            Notice::Ready => write!(text, "READY=1"),
            Notice::Reloading(at) => {
                write!(text, "RELOADING=1\nMONOTONIC_USEC={}", at.as_micros())
            }
            Notice::Stopping => write!(text, "STOPPING=1"),
            Notice::Status(line) => write!(text, "STATUS={}", line.replace('\n', " ")),
        };
        text
    }
}

/// Tells the service manager, where there is one.
#[derive(Debug)]
pub struct Notifier {
    socket: Option<UnixDatagram>,
}

impl Notifier {
    /// Connects to the socket that NOTIFY_SOCKET names: a path, or `@` and an abstract name.
    ///
    /// Without the variable, or when the socket is not there, notices go nowhere; the latter is
    /// logged.
    pub fn from_env() -> Notifier {
        match std::env::var_os("NOTIFY_SOCKET") {
            Some(address) if !address.is_empty() => match connect(&address) {
                Ok(socket) => Notifier { socket: Some(socket) },
                Err(error) => {
                    tracing::warn!(?address, %error, "NOTIFY_SOCKET cannot be reached; the service manager is not notified");
                    Notifier { socket: None }
                }
            },
            _ => Notifier { socket: None },
        }
    }

    /// Sends a notice. Does not wait; a notice that cannot be sent is logged and lost.
    pub fn send(&self, notice: &Notice) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(notice.text().as_bytes())
        {
            tracing::warn!(%error, ?notice, "the service manager was not notified");
        }
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = receiver.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_reached() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).expect("binds");
        let notifier = Notifier { socket: Some(connect(path.as_os_str()).expect("connects")) };
        notifier.send(&Notice::Ready);
        assert_eq!(heard(&receiver), "READY=1");

        let name = format!("cached-downloads-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let receiver = UnixDatagram::bind_addr(&address).expect("binds");
        let notifier =
            Notifier { socket: Some(connect(OsStr::new(&format!("@{name}"))).expect("connects")) };
        notifier.send(&Notice::Reloading(Duration::from_millis(2)));
        assert_eq!(heard(&receiver), "RELOADING=1\nMONOTONIC_USEC=2000");
        notifier.send(&Notice::Status("two\nlines".to_owned()));
        assert_eq!(heard(&receiver), "STATUS=two lines");
        notifier.send(&Notice::Stopping);
        assert_eq!(heard(&receiver), "STOPPING=1");
    }

    #[test]
    fn a_socket_that_is_not_there_is_an_error() {
        assert!(connect(OsStr::new("/nowhere/notify")).is_err());
        Notifier { socket: None }.send(&Notice::Ready);
    }
}
