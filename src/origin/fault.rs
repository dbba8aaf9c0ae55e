//! Why one attempt failed, told apart from the client's errors.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime};

use reqwest::Response;
use reqwest::StatusCode;
use reqwest::header::{DATE, RETRY_AFTER};

use super::FailureKind;
use super::connect::{ConnectTimeout, RefusedAddress};
use super::redirect::Refused;
use super::retry::{self, Hope};

/// The failure of one attempt. Its text holds no secret: neither the client's own texts, which
/// have URLs, nor anything the origin sent gets into it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: FailureKind,
    pub(super) hope: Hope,
    pub(super) text: String,
    pub(super) retry_after: Option<Duration>,
}

impl Fault {
    /// Returns a fault that trying again would not mend.
    pub(super) fn new(kind: FailureKind, text: impl Into<String>) -> Fault {
        Fault { kind, hope: Hope::None, text: text.into(), retry_after: None }
    }

    /// Returns the fault of a head that did not come in time.
    pub(super) fn silent(limit: Duration) -> Fault {
        Fault {
            hope: Hope::Silent,
            ..Fault::new(
                FailureKind::Silent,
                format!("no answer within {:.1} s", limit.as_secs_f64()),
            )
        }
    }

    /// Returns the fault of a status that is no usable answer.
    pub(super) fn status(response: &Response, now: SystemTime) -> Fault {
        let status = response.status();
        let reason = status.canonical_reason().unwrap_or("unknown status");
        let text = format!("{} {reason}", status.as_u16());
        let (kind, hope) = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => (FailureKind::Gone, Hope::None),
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED => (FailureKind::Denied, Hope::None),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                (FailureKind::Status, Hope::Busy)
            }
            _ if status.is_server_error() => (FailureKind::Status, Hope::Busy),
            _ => (FailureKind::Status, Hope::None),
        };
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry::retry_after(value, sent_at(response).unwrap_or(now)));
        Fault { kind, hope, text, retry_after }
    }

    /// Returns the fault of a request for which the client found no head.
    pub(super) fn sending(error: &reqwest::Error) -> Fault {
        if let Some(refused) = find::<RefusedAddress>(error) {
            return Fault::new(FailureKind::Redirect, refused.to_string());
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return Fault::new(FailureKind::Tls, format!("TLS failed: {tls}"));
        }
        if error.is_connect() || find::<ConnectTimeout>(error).is_some() {
            return Fault {
                hope: Hope::Connect,
                ..Fault::new(FailureKind::Unreachable, innermost(error))
            };
        }
        if error.is_builder() {
            return Fault::new(FailureKind::Local, "the request cannot be built");
        }
        if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse_too_large) {
            return Fault::new(
                FailureKind::BadAnswer,
                "the header of the answer has more than 100 fields or is too long",
            );
        }
        if ended(error) {
            return Fault {
                hope: Hope::Reset,
                ..Fault::new(
                    FailureKind::BadAnswer,
                    format!("connection lost before an answer ({})", innermost(error)),
                )
            };
        }
        Fault::new(FailureKind::BadAnswer, format!("not an HTTP/1.1 answer ({})", innermost(error)))
    }

    /// Returns the text for a body that the client could not read on.
    pub(super) fn body_text(error: &reqwest::Error) -> String {
        innermost(error)
    }
}

/// Returns the time of an answer by the origin's own clock: a date in Retry-After is of that clock.
fn sent_at(response: &Response) -> Option<SystemTime> {
    let date = response.headers().get(DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok()
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Fault {
        Fault::new(FailureKind::Redirect, refused.to_string())
    }
}

/// Says whether the connection ended, rather than the answer being wrong.
fn ended(error: &reqwest::Error) -> bool {
    if let Some(hyper) = find::<hyper::Error>(error)
        && (hyper.is_incomplete_message() || hyper.is_canceled() || hyper.is_closed())
    {
        return true;
    }
    find::<io::Error>(error).is_some()
}

/// Finds an error of a type among an error's causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Returns what the last cause says, for a person.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let last = causes(error).last().unwrap_or(error);
    match last.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(io::ErrorKind::HostUnreachable) => "no route to host".to_owned(),
        Some(io::ErrorKind::NetworkUnreachable) => "network unreachable".to_owned(),
        Some(io::ErrorKind::UnexpectedEof) => "connection closed".to_owned(),
        // The client's own error prints its URL; its causes never do.
        _ if last.is::<reqwest::Error>() => "the request failed".to_owned(),
        _ => last.to_string(),
    }
}

/// Returns an error and its causes, outermost first. What an [`io::Error`] carries counts as its
/// cause: `source` would skip it.
fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> + 'a {
    fn next<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        match error.downcast_ref::<io::Error>().map(io::Error::get_ref) {
            Some(Some(inner)) => Some(inner),
            _ => error.source(),
        }
    }
    std::iter::successors(Some(error), |error| next(*error))
}
