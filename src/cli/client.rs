//! The verbs that ask a running daemon.

use std::path::{Path, PathBuf};

use super::args::{ControlArgs, EvictArgs, ReportArgs};
use super::exit::Failure;
use super::{ls as list, status as summary, text};
use crate::control::{Client, ClientError};
use crate::sys;
use crate::types::{Bytes, Name};

/// `status`
pub(super) fn status(args: &ReportArgs) -> Result<(), Failure> {
    let client = client(&args.control);
    let status = wait(client.status())?;
    if args.json {
        return text::print(&json(&status)?);
    }
    text::print(&summary::render(&status))
}

/// `ls`
pub(super) fn ls(args: &ReportArgs) -> Result<(), Failure> {
    let client = client(&args.control);
    let names = wait(client.names())?;
    if args.json {
        return text::print(&json(&names)?);
    }
    text::print(&list::render(&names))
}

/// `evict`
pub(super) fn evict(args: &EvictArgs) -> Result<(), Failure> {
    let name: Name = args.name.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let evicted = wait(client(&args.control).evict(&name))?;
    text::print(&if evicted.freed == Bytes(0) {
        format!("{name}: there was no copy\n")
    } else {
        format!("{name}: evicted, {} freed\n", evicted.freed)
    })
}

fn client(args: &ControlArgs) -> Client {
    let path = args.control.clone().unwrap_or_else(|| {
        default_control(
            |variable| std::env::var_os(variable).filter(|value| !value.is_empty()),
            sys::uid() == 0,
        )
    });
    Client::new(&path)
}

/// Returns the control socket that verbs use without `--control`; the daemon's default is the
/// same.
fn default_control(variable: impl Fn(&str) -> Option<std::ffi::OsString>, root: bool) -> PathBuf {
    const FILE: &str = "cached-downloads.sock";
    if let Some(path) = variable("CACHED_DOWNLOADS_CONTROL") {
        return path.into();
    }
    match variable("XDG_RUNTIME_DIR") {
        Some(dir) if !root => Path::new(&dir).join(FILE),
        _ => Path::new("/run").join(FILE),
    }
}

fn wait<T>(question: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    Ok(runtime.block_on(question)?)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value)
        .map(|text| text + "\n")
        .map_err(|error| Failure::failed(format!("cannot print: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_variable_then_the_users_then_the_systems() {
        let all = |name: &str| {
            Some(match name {
                "CACHED_DOWNLOADS_CONTROL" => "/a.sock".into(),
                _ => "/run/user/7".into(),
            })
        };
        let xdg = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| "/run/user/7".into());
        assert_eq!(default_control(all, true), Path::new("/a.sock"));
        assert_eq!(default_control(xdg, false), Path::new("/run/user/7/cached-downloads.sock"));
        assert_eq!(default_control(xdg, true), Path::new("/run/cached-downloads.sock"));
    }
}
