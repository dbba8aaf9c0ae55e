//! The origin over HTTP: attempts, redirects, retries.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Method, Request, Response, StatusCode};
use url::Url;

use super::body::HttpBody;
use super::clients::Clients;
use super::connect;
use super::dead::Dead;
use super::fault::Fault;
use super::head::{self, Unchanged};
use super::redirect::{self, MAX_REDIRECTS, Reach, Refused};
use super::request;
use super::retry::{Hope, Schedule, random};
use super::settings::{OriginSettings, SettingsError};
use super::stats::{OriginStats, count};
use super::{Answer, Ask, Failure, FailureKind, Origin, Patience};
use crate::source::shown_url;
use crate::types::Pending;
use crate::validators::Validators;

/// Origins reached over HTTP/1.1, with or without TLS.
///
/// Connections are kept and shared. The proxy variables of the environment are not looked at.
#[derive(Debug)]
pub struct HttpOrigin {
    settings: OriginSettings,
    clients: Clients,
    dead: Dead,
    stats: Arc<OriginStats>,
}

impl HttpOrigin {
    /// Builds the clients. Reads the TLS files, and blocks while it does.
    ///
    /// # Errors
    /// A file or a setting that is wrong; the text names it.
    pub fn new(settings: OriginSettings) -> Result<HttpOrigin, SettingsError> {
        Ok(HttpOrigin {
            clients: Clients::new(&settings)?,
            settings,
            dead: Dead::default(),
            stats: Arc::default(),
        })
    }

    /// Returns the counters, which go on counting.
    pub fn stats(&self) -> Arc<OriginStats> {
        Arc::clone(&self.stats)
    }

    /// Asks until there is an answer or no hope left.
    async fn ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        let question = Question {
            ask,
            started: Instant::now(),
            schedule: Schedule::new(&self.settings, ask.patience),
        };
        let mut validators = ask.validators.as_ref().filter(|v| !v.is_empty());
        let mut tries = 0;
        let mut spare = true;
        loop {
            tries += 1;
            let miss = match self.attempt(&question, validators, tries == 1).await {
                Ok(answer) => return Ok(answer),
                Err(miss) => miss,
            };
            // A kept connection that had died says nothing about the origin: once, uncounted.
            if miss.fault.hope == Hope::Reset && miss.on_kept && spare {
                spare = false;
                tries -= 1;
                continue;
            }
            // A 304 about another version: the condition was misunderstood, so ask without one.
            if miss.other_version && validators.is_some() {
                validators = None;
                continue;
            }
            let elapsed = question.started.elapsed();
            let Fault { hope, .. } = miss.fault;
            let asked_for = miss.fault.retry_after;
            match question.schedule.next(hope, tries, elapsed, asked_for, random()) {
                Some(delay) => {
                    tokio::time::sleep(delay).await;
                    count(&self.stats.retries);
                }
                None => return Err(self.give_up(&question, miss, tries)),
            }
        }
    }

    /// Sends one request from the configured URL on, and follows its redirects.
    async fn attempt(
        &self,
        question: &Question<'_>,
        validators: Option<&Validators>,
        first: bool,
    ) -> Result<Answer, Miss> {
        let source = &*question.ask.source;
        let mut url = without_userinfo(&source.url);
        let mut reach = Reach::Any;
        let client = self.clients.pick(&url, reach);
        let mut private = request::private(client, source).await?;
        for _ in 0..=MAX_REDIRECTS {
            if first && question.ask.patience == Patience::Cold {
                self.check_dead(&url)?;
            }
            let mut headers = private.clone();
            let conditional = validators.is_some_and(|v| request::condition(&mut headers, v));
            let response = self.send(question, &url, reach, headers).await?;
            match response.status() {
                StatusCode::OK => return Ok(self.found(response, source.shown_url())?),
                StatusCode::NOT_MODIFIED => {
                    let asked = validators.filter(|_| conditional);
                    return self.not_modified(asked, &response);
                }
                status if is_redirect(status) => {
                    let peer = response.remote_addr().map(|address| address.ip());
                    let location = response.headers().get(LOCATION).map(|v| v.as_bytes());
                    let next = redirect::follow(&url, peer, location, reach)
                        .map_err(|refused| Miss::at(refused.into(), &url))?;
                    if !next.same_origin {
                        private.clear();
                    }
                    reach = next.reach;
                    url = Cow::Owned(next.url);
                    count(&self.stats.redirects);
                }
                _ => {
                    let fault = Fault::status(&response, SystemTime::now());
                    return Err(Miss::at(fault, &url));
                }
            }
        }
        Err(Miss::at(Refused::TooMany.into(), &url))
    }

    /// Sends one GET and waits for its head, as long as the question has time.
    async fn send(
        &self,
        question: &Question<'_>,
        url: &Url,
        reach: Reach,
        headers: HeaderMap,
    ) -> Result<Response, Miss> {
        let elapsed = question.started.elapsed();
        let left = question.schedule.total.saturating_sub(elapsed);
        let limit = left.min(self.settings.head_timeout);
        let mut request = Request::new(Method::GET, url.clone());
        *request.headers_mut() = headers;
        count(&self.stats.requests);
        let sending = tokio::time::timeout(limit, self.clients.pick(url, reach).execute(request));
        let connecting = question.schedule.connect_limit(elapsed);
        let (result, connected) = connect::watched(connecting, sending).await;
        let fault = match result {
            Ok(Ok(response)) => {
                self.dead.clear(url);
                return Ok(response);
            }
            Ok(Err(error)) => Fault::sending(&error),
            Err(_) => Fault::silent(limit),
        };
        Err(Miss { on_kept: !connected, ..Miss::at(fault, url) })
    }

    fn found(&self, response: Response, shown: String) -> Result<Answer, Fault> {
        let head = head::found(&response, SystemTime::now())?;
        count(&self.stats.found);
        let what = format!("GET {shown}");
        let stats = Arc::clone(&self.stats);
        let body = HttpBody::new(response, what, head.length, &self.settings, stats);
        Ok(Answer::Found(head, Box::new(body)))
    }

    fn not_modified(
        &self,
        asked: Option<&Validators>,
        response: &Response,
    ) -> Result<Answer, Miss> {
        let bad = |text: &str| Fault::new(FailureKind::BadAnswer, text);
        let Some(asked) = asked else {
            return Err(bad("304 Not Modified to a request without a condition").into());
        };
        match head::not_modified(asked, response.headers()) {
            Unchanged::Yes(validators) => {
                count(&self.stats.not_modified);
                Ok(Answer::NotModified(validators))
            }
            Unchanged::Other => Err(Miss {
                other_version: true,
                ..bad("304 Not Modified, with the tag of another version").into()
            }),
        }
    }

    /// Fails at once what would only wait for an origin that is known to be away.
    fn check_dead(&self, url: &Url) -> Result<(), Miss> {
        let Some(verdict) = self.dead.verdict(url, Instant::now()) else {
            return Ok(());
        };
        let text = format!(
            "{}, {:.1} s ago; tried again in {:.1} s",
            verdict.why,
            verdict.age.as_secs_f64(),
            verdict.left.as_secs_f64()
        );
        Err(Miss::at(Fault::new(FailureKind::Unreachable, text), url))
    }

    /// Turns the last miss of a question into its failure, and remembers a dead origin.
    fn give_up(&self, question: &Question<'_>, miss: Miss, tries: u32) -> Failure {
        let fault = miss.fault;
        let source = &question.ask.source;
        count(self.stats.failed(fault.kind));
        if let (Hope::Connect, Some(url)) = (fault.hope, &miss.url) {
            let keep = self.settings.dead_for;
            self.dead.note(url, &fault.text, keep, Instant::now());
        }
        let mut message = format!("GET {}: ", source.shown_url());
        // Writing to a String does not fail.
        if let Some(url) = miss.url.filter(|url| url.origin() != source.url.origin()) {
            let _ = write!(message, "redirected to {}: ", shown_url(&url));
        }
        message.push_str(&fault.text);
        if tries > 1 {
            let seconds = question.started.elapsed().as_secs_f64();
            let _ = write!(message, " ({tries} tries in {seconds:.1} s)");
        }
        Failure { kind: fault.kind, message, retry_after: fault.retry_after }
    }
}

impl Origin for HttpOrigin {
    fn get(&self, ask: Ask) -> Pending<'_, Result<Answer, Failure>> {
        Box::pin(async move { self.ask(&ask).await })
    }
}

/// A question under way.
struct Question<'a> {
    ask: &'a Ask,
    started: Instant,
    schedule: Schedule,
}

/// A failed attempt.
struct Miss {
    fault: Fault,
    /// Whose answer, or lack of one, it was.
    url: Option<Box<Url>>,
    /// Whether the request went out on a connection used before.
    on_kept: bool,
    /// Whether it was a 304 about another version.
    other_version: bool,
}

impl Miss {
    fn at(fault: Fault, url: &Url) -> Miss {
        Miss { url: Some(Box::new(url.clone())), ..fault.into() }
    }
}

impl From<Fault> for Miss {
    fn from(fault: Fault) -> Miss {
        Miss { fault, url: None, on_kept: false, other_version: false }
    }
}

/// Returns a URL as it is sent: what its userinfo says goes into a header.
fn without_userinfo(url: &Url) -> Cow<'_, Url> {
    if url.username().is_empty() && url.password().is_none() {
        return Cow::Borrowed(url);
    }
    let mut plain = url.clone();
    // Fails only for URLs that cannot have a userinfo.
    let _ = plain.set_username("");
    let _ = plain.set_password(None);
    Cow::Owned(plain)
}

/// Says whether a status sends on; 300 and 304 do not.
fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
