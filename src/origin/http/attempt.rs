//! One attempt: a request from the configured URL on, and its redirects.

use std::borrow::Cow;
use std::time::{Duration, Instant, SystemTime};

use reqwest::header::HeaderMap;
use reqwest::{Method, Request, StatusCode};
use url::Url;

use super::HttpOrigin;
use super::question::{Miss, Question, Reply};
use crate::lifetime::Lifetime;
use crate::origin::breaker::Asker;
use crate::origin::fault::Fault;
use crate::origin::fields::fields;
use crate::origin::redirect::{self, MAX_REDIRECTS, Reach, Refused};
use crate::origin::retry::Hope;
use crate::origin::stats::count;
use crate::origin::way::Way;
use crate::origin::{FailureKind, Patience, connect, head, request};
use crate::validators::ANY_RESOURCE;

impl HttpOrigin {
    /// Asks the configured URL, follows redirects, and has `judge` take the head of the first
    /// answer that is none. Each attempt begins anew: a redirect may be signed for a short time.
    pub(super) async fn attempt<T>(
        &self,
        question: &Question<'_>,
        first: bool,
        judge: &(impl Fn(&Question<'_>, Reply) -> Result<T, Miss> + Sync),
    ) -> Result<T, Miss> {
        let mut url = without_userinfo(&question.source.url);
        let mut reach = Reach::Any;
        let client = self.clients.pick(&url, reach);
        let (mut way, began) = (Way::default(), Instant::now());
        let mut private = request::private(client, question.source).await?;
        for _ in 0..=MAX_REDIRECTS {
            self.check_dead(question, &url, first)?;
            let mut headers = private.clone();
            question.wants.add_to(&mut headers)?;
            let reply = self.send(question, &url, reach, headers).await?;
            if !is_redirect(reply.response.status()) {
                self.follow(question, &reply, &mut way, began);
                return judge(question, Reply { way, ..reply }).map_err(|miss| miss.of(&url));
            }
            let Reply { response, asked_at, at, .. } = reply;
            // Of a proxy's address nothing follows for the origin.
            let peer = response.remote_addr().filter(|_| !self.clients.is_proxied(&url));
            let peer = peer.map(|address| address.ip());
            let location = redirect::location(response.headers());
            let next = redirect::follow(&url, peer, location, reach)
                .and_then(|next| {
                    self.allowed.check(&question.source.url, &url, &next.url)?;
                    Ok(next)
                })
                .map_err(|refused| Miss::at(refused.into(), &url))?;
            if !next.same_origin {
                private.clear();
            }
            let said = Lifetime::read(fields(response.headers()), asked_at, at);
            way.lead(&question.source.url, &next.url, &said);
            reach = next.reach;
            url = Cow::Owned(next.url);
            count(&self.stats.redirects);
        }
        Err(Miss::at(Refused::TooMany.into(), &url))
    }

    /// Notes where an answer came from, and whether that tells anything: not where the catalog has a
    /// digest, which tells better, nor where redirects lead to another path each time.
    fn follow(&self, question: &Question<'_>, reply: &Reply, way: &mut Way, began: Instant) {
        let (source, status) = (question.source, reply.response.status());
        let gave = status.is_success() || status == StatusCode::NOT_MODIFIED;
        let asked = (began, question.asked_again);
        let led = || self.trails.led(&source.url, way.resource.as_deref(), asked, Instant::now());
        if source.digest.is_some() || (gave && led()) {
            way.resource = Some(ANY_RESOURCE.to_owned());
        }
    }

    /// Sends one GET and waits for its head, as long as the question has time. Interim answers
    /// (1xx) do not prolong the wait.
    async fn send(
        &self,
        question: &Question<'_>,
        url: &Url,
        reach: Reach,
        headers: HeaderMap,
    ) -> Result<Reply, Miss> {
        let elapsed = question.started.elapsed();
        let left = question.schedule.total.saturating_sub(elapsed);
        let limit = left.min(self.settings.head_timeout);
        let mut request = Request::new(Method::GET, url.clone());
        *request.headers_mut() = headers;
        count(&self.stats.requests);
        if question.wants.range.is_some() {
            count(&self.stats.ranges);
        }
        self.budgets.request(url, Instant::now());
        let asked_at = SystemTime::now();
        let sending = tokio::time::timeout(limit, self.clients.pick(url, reach).execute(request));
        let sending = self.near.wait(&question.source.url, sending);
        let connecting = question.schedule.connect_limit(elapsed);
        let (result, connected) = connect::watched(connecting, sending).await;
        let fault = match result {
            Ok(Ok(response)) => {
                self.dead.clear(url);
                head::check_size(response.headers()).map_err(|fault| Miss::at(fault, url))?;
                let at = SystemTime::now();
                return Ok(Reply { response, asked_at, at, way: Way::default() });
            }
            Ok(Err(error)) => Fault::sending(&error),
            Err(_) => Fault::silent(limit),
        };
        self.dead.failed(url, &fault, !connected, Instant::now());
        Err(Miss { on_kept: !connected, ..Miss::at(fault, url) })
    }

    /// Holds back what would only meet an origin that is known to be away. The first attempt of a
    /// question fails for good then; a later one is put off, so that an origin that is restarted
    /// while somebody waits is found again.
    fn check_dead(&self, question: &Question<'_>, url: &Url, first: bool) -> Result<(), Miss> {
        let asker = match question.patience {
            Patience::Cold | Patience::Range if first => Asker::NewCold,
            _ => Asker::Other,
        };
        let Err(verdict) = self.dead.admit(url, asker, Instant::now()) else {
            return Ok(());
        };
        let text = format!(
            "{}, {:.1} s ago; tried again in {:.1} s",
            verdict.why,
            verdict.age.as_secs_f64(),
            verdict.left.as_secs_f64()
        );
        let mut fault = Fault::new(FailureKind::Unreachable, text);
        if !first {
            fault.hope = Hope::Connect;
        }
        let held = if verdict.probing { Duration::ZERO } else { verdict.left };
        Err(Miss { held: Some(held), ..Miss::at(fault, url) })
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
