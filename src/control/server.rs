//! The server: a unix socket, the check of the peer, and the routes.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Path as UrlPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use tokio::net::UnixListener;

use super::names::Names;
use super::types::{ApiError, EvictRefusal, Operator};
use crate::sys;
use crate::types::Name;

/// Why the control socket cannot be served; the text names the path and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another daemon answers on it.
    #[error(
        "the control socket {} is in use by a running daemon; stop that one, or give this one its own: --control SOCKET",
        .0.display()
    )]
    InUse(PathBuf),
    /// Something that is no socket has its name.
    #[error(
        "{} exists and is not a socket, so it is not replaced; remove it or choose another control socket: --control SOCKET",
        .0.display()
    )]
    NotSocket(PathBuf),
    /// It cannot be made.
    #[error("cannot make the control socket {}: {error}; its directory must exist and be writable, or choose another: --control SOCKET", path.display())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// A bound control socket, removed on drop.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: SocketFile,
}

/// Removes the socket's file, unless a successor has put its own there.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Server {
    /// Makes the socket with mode 0600, in place of one that a dead daemon left. Must be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub fn bind(path: &Path) -> Result<Server, ServerError> {
        let failed = |error| ServerError::Bind { path: path.to_owned(), error };
        // Relative paths must mean the same when the file is removed.
        let path = std::path::absolute(path).map_err(failed)?;
        check_free(&path)?;
        // Made aside and renamed: it appears with its mode, and replaces a stale one at once.
        let aside = aside(&path);
        let _ = fs::remove_file(&aside);
        let listener = UnixListener::bind(&aside).map_err(failed)?;
        let finish = || -> io::Result<u64> {
            fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
            let inode = fs::symlink_metadata(&aside)?.ino();
            fs::rename(&aside, &path)?;
            Ok(inode)
        };
        match finish() {
            Ok(inode) => Ok(Server { listener, file: SocketFile { path, inode } }),
            Err(error) => {
                let _ = fs::remove_file(&aside);
                Err(failed(error))
            }
        }
    }

    /// Answers operators until `stop` ends, then ends the requests under way and removes the
    /// socket.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn serve(
        self,
        operator: Arc<dyn Operator>,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let Server { listener, file } = self;
        let service = routes(operator).into_make_service_with_connect_info::<Peer>();
        let result = axum::serve(listener, service).with_graceful_shutdown(stop).await;
        drop(file);
        result
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

fn check_free(path: &Path) -> Result<(), ServerError> {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !meta.file_type().is_socket() {
        return Err(ServerError::NotSocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        // Nobody listens: its daemon is dead.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // Gone in the meantime.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ServerError::Bind { path: path.to_owned(), error }),
        Ok(_) => Err(ServerError::InUse(path.to_owned())),
    }
}

/// Who is at the other end, as the kernel says (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug)]
struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Peer { uid: stream.io().peer_cred().ok().map(|cred| cred.uid()) }
    }
}

impl Peer {
    fn may_operate(self) -> bool {
        self.uid.is_some_and(|uid| uid == 0 || uid == sys::uid())
    }
}

type App = State<Arc<dyn Operator>>;

fn routes(operator: Arc<dyn Operator>) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/names", get(names))
        .route("/v1/names/{name}", get(one_name))
        .route("/v1/names/{name}/evict", post(evict))
        .route("/v1/reload", post(reload))
        .route("/v1/shutdown", post(shutdown))
        .fallback(not_found)
        .method_not_allowed_fallback(bad_method)
        .layer(axum::middleware::from_fn(only_operators))
        .with_state(operator)
}

async fn only_operators(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if peer.may_operate() {
        return next.run(request).await;
    }
    tracing::warn!(uid = peer.uid, "refused an operator with another user id");
    problem(
        StatusCode::FORBIDDEN,
        "denied",
        format!("only root and the daemon's own user (uid {}) may operate it", sys::uid()),
    )
}

async fn status(State(operator): App) -> Response {
    match apart(move || operator.status()).await {
        Ok(status) => Json(status).into_response(),
        Err(stopping) => stopping,
    }
}

/// Runs what asks the disk on a thread that may wait for it.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Response> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        let text = "the daemon is stopping".to_owned();
        problem(StatusCode::SERVICE_UNAVAILABLE, "internal", text)
    })
}

async fn names(State(operator): App) -> Response {
    match apart(move || operator.names()).await {
        Ok(names) => Json(Names { names }).into_response(),
        Err(stopping) => stopping,
    }
}

async fn one_name(State(operator): App, UrlPath(name): UrlPath<String>) -> Response {
    let names = match apart(move || operator.names()).await {
        Ok(names) => names,
        Err(stopping) => return stopping,
    };
    let asked = |shown: &Name| shown.as_str() == name;
    // An alias is another way to the name, here as in the mount.
    let found =
        names.into_iter().find(|status| asked(&status.name) || status.aliases.iter().any(asked));
    match found {
        Some(status) => Json(status).into_response(),
        None => problem(
            StatusCode::NOT_FOUND,
            EvictRefusal::UnknownName.as_str(),
            format!("no catalog binds the name `{}`", name.escape_default()),
        ),
    }
}

async fn evict(State(operator): App, UrlPath(name): UrlPath<String>) -> Response {
    let name: Name = match name.parse() {
        Ok(name) => name,
        Err(error) => {
            return problem(StatusCode::BAD_REQUEST, "bad-request", format!("{error}"));
        }
    };
    match operator.evict(name).await {
        Ok(evicted) => Json(evicted).into_response(),
        Err(refused) => {
            let code = match refused.reason {
                EvictRefusal::UnknownName => StatusCode::NOT_FOUND,
                EvictRefusal::Pinned => StatusCode::CONFLICT,
            };
            problem(code, refused.reason.as_str(), refused.message)
        }
    }
}

async fn reload(State(operator): App) -> Response {
    match tokio::task::spawn_blocking(move || operator.reload()).await {
        Ok(report) => Json(report).into_response(),
        Err(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the reload ended without an answer; see the daemon's log".to_owned(),
        ),
    }
}

async fn shutdown(State(operator): App) -> StatusCode {
    operator.shutdown();
    StatusCode::ACCEPTED
}

async fn not_found() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "not-found",
        "no such resource; this is version 1 of the interface, below /v1".to_owned(),
    )
}

async fn bad_method() -> Response {
    problem(
        StatusCode::METHOD_NOT_ALLOWED,
        "bad-request",
        "this resource has another method; see docs/operations.md".to_owned(),
    )
}

fn problem(code: StatusCode, error: &str, message: String) -> Response {
    let body = ApiError { error: error.to_owned(), message };
    (code, Json(body)).into_response()
}
