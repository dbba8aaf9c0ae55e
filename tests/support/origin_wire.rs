//! The connections of the scripted origin, plain or with TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::os;

/// Reads a server's chain and key.
///
/// # Panics
/// A file cannot be read, or the two do not fit.
pub(super) fn tls(chain: &Path, key: &Path) -> Arc<ServerConfig> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .expect("the origin's certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("the origin's key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the default versions of TLS")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a key that fits its certificate");
    Arc::new(config)
}

/// What a connection is read from and written to.
trait Wire: Read + Write {
    /// Tells the client that nothing more follows, where the protocol has a word for it.
    fn end(&mut self) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for StreamOwned<ServerConnection, TcpStream> {
    fn end(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()
    }
}

/// One connection of a client.
pub(super) struct Connection {
    wire: BufReader<Box<dyn Wire>>,
    tcp: TcpStream,
}

impl Connection {
    /// Takes a connection over; the handshake is part of the first read.
    pub(super) fn new(tcp: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Connection> {
        let copy = tcp.try_clone()?;
        let wire: Box<dyn Wire> = match tls {
            None => Box::new(tcp),
            Some(config) => {
                let server = ServerConnection::new(config).map_err(io::Error::other)?;
                Box::new(StreamOwned::new(server, tcp))
            }
        };
        Ok(Connection { wire: BufReader::new(wire), tcp: copy })
    }

    /// Reads a line with its end; empty when the client is gone.
    pub(super) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.wire.read_line(&mut line)?;
        Ok(line)
    }

    /// Sends some bytes.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let wire = self.wire.get_mut();
        wire.write_all(bytes)?;
        wire.flush()
    }

    /// Closes it cleanly: no protocol layer tells the client that bytes are missing.
    pub(super) fn close(mut self) {
        // A client that is gone already needs no word.
        let _ = self.wire.get_mut().end();
    }

    /// Has its close send RST. shutdown(2) would send FIN first.
    pub(super) fn reset(self) {
        let _ = os::reset_on_close(&self.tcp);
    }
}
