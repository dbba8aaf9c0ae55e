//! The client that the operator's verbs use.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::names::{NameStatus, Names};
use super::status::Status;
use super::types::{ApiError, Evicted, ReloadReport};
use crate::types::Name;

/// How long a daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read: some 100,000 names.
const LONGEST: usize = 64 << 20;

/// Why a daemon gave no answer, or not the one wanted; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error(
        "no daemon answers on the control socket {}; start one with `cached-downloads mount`, or name its socket: --control SOCKET",
        .0.display()
    )]
    NoDaemon(PathBuf),
    /// The socket is another user's.
    #[error(
        "not permitted to use the control socket {}; run as root or as the daemon's own user",
        .0.display()
    )]
    Denied(PathBuf),
    /// The daemon does not answer, or with something that is not understood.
    #[error("the daemon on {} {what}", path.display())]
    Talk {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
    /// The daemon refused; the text is its own.
    #[error("{}", .0.message)]
    Refused(ApiError),
}

/// Speaks to one daemon; every request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    /// Returns a client for the daemon with this control socket. Connects to nothing yet.
    pub fn new(path: &Path) -> Client {
        Client { path: path.to_owned() }
    }

    /// Asks for the daemon's numbers.
    ///
    /// # Errors
    /// See [`ClientError`]; the same for all below.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.ask(Method::GET, "/v1/status").await
    }

    /// Asks for every name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn names(&self) -> Result<Vec<NameStatus>, ClientError> {
        let answer: Names = self.ask(Method::GET, "/v1/names").await?;
        Ok(answer.names)
    }

    /// Asks for one name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn name(&self, name: &Name) -> Result<NameStatus, ClientError> {
        let path = format!("/v1/names/{}", escape(name));
        self.ask(Method::GET, &path).await
    }

    /// Has the copy of a name dropped.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn evict(&self, name: &Name) -> Result<Evicted, ClientError> {
        let path = format!("/v1/names/{}/evict", escape(name));
        self.ask(Method::POST, &path).await
    }

    /// Has the catalogs read again.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reload(&self) -> Result<ReloadReport, ClientError> {
        self.ask(Method::POST, "/v1/reload").await
    }

    /// Has the daemon stop; it is still stopping when this returns.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn shutdown(&self) -> Result<(), ClientError> {
        self.exchange(Method::POST, "/v1/shutdown").await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T, ClientError> {
        let body = self.exchange(method, path).await?;
        serde_json::from_slice(&body).map_err(|error| {
            self.talk(format!(
                "answered something that is not understood ({error}); is it of another version?"
            ))
        })
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        match tokio::time::timeout(PATIENCE, self.send(method, path)).await {
            Ok(result) => result,
            Err(_) => Err(self.talk(format!("did not answer within {} s", PATIENCE.as_secs()))),
        }
    }

    async fn send(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        let stream =
            UnixStream::connect(&self.path).await.map_err(|error| self.not_connected(&error))?;
        let broken = |error: hyper::Error| self.talk(format!("broke off: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            // HTTP/1.1 demands a host; a unix socket has none.
            .header(HOST, "cached-downloads")
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.talk(format!("cannot be asked: {error}")))?;
        let talk = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let good = answer.status().is_success();
            let body = Limited::new(answer.into_body(), LONGEST)
                .collect()
                .await
                .map_err(|error| self.talk(format!("broke off its answer: {error}")))?;
            Ok((good, body.to_bytes()))
        };
        tokio::pin!(connection, talk);
        // The connection does the work; it may end first when the daemon closes it.
        let (good, body) = tokio::select! {
            done = &mut talk => done?,
            ended = &mut connection => match ended {
                Ok(()) => talk.await?,
                Err(error) => return Err(broken(error)),
            },
        };
        if good {
            return Ok(body);
        }
        Err(match serde_json::from_slice::<ApiError>(&body) {
            Ok(error) => ClientError::Refused(error),
            Err(_) => self.talk("refused without saying why".to_owned()),
        })
    }

    fn not_connected(&self, error: &io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NoDaemon(self.path.clone())
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied(self.path.clone()),
            _ => self.talk(format!("cannot be reached: {error}")),
        }
    }

    fn talk(&self, what: String) -> ClientError {
        ClientError::Talk { path: self.path.clone(), what }
    }
}

/// Percent-encodes a name as one segment of a path (RFC 3986, section 2.3).
fn escape(name: &Name) -> String {
    let mut out = String::new();
    for byte in name.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_segment() {
        let name: Name = "a b?%é.zip".parse().expect("a name");
        assert_eq!(escape(&name), "a%20b%3F%25%C3%A9.zip");
    }
}
