//! The origin over HTTP: attempts, redirects, retries.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::question::{Miss, Question, Reply, Wants};
use super::allowed::Allowed;
use super::breaker::Rules;
use super::budget::{Allowance, Budgets};
use super::by_origin::parse_origin;
use super::clients::Clients;
use super::credit::Credit;
use super::dead::Dead;
use super::near::Near;
use super::retry::{Hope, Schedule, random};
use super::settings::OriginSettings;
use super::settings_error::SettingsError;
use super::stats::{OriginStats, count};
use super::trails::Trails;
use super::{Answer, Ask, Failure, FailureKind, Origin, Patience, RangeAnswer, RangeAsk};
use crate::source::{Source, shown_url};
use crate::types::Pending;

mod answers;
mod attempt;
mod question;

/// Origins reached over HTTP/1.1, with or without TLS.
///
/// Connections are kept and shared. The proxy variables of the environment are looked at only where
/// a setting says so.
#[derive(Debug)]
pub struct HttpOrigin {
    settings: OriginSettings,
    clients: Clients,
    allowed: Allowed,
    dead: Dead,
    budgets: Budgets,
    credit: Credit,
    near: Near,
    trails: Trails,
    stats: Arc<OriginStats>,
}

impl HttpOrigin {
    /// Builds the clients. Reads the TLS files, and blocks while it does.
    ///
    /// # Errors
    /// A file or a setting that is wrong; the text names it.
    pub fn new(settings: OriginSettings) -> Result<HttpOrigin, SettingsError> {
        for origin in settings.connections.keys() {
            parse_origin(origin)?;
        }
        let rules = Rules {
            after: settings.breaker_after,
            probe_every: settings.probe_every,
            dead_for: settings.dead_for,
        };
        let allowance = Allowance { percent: settings.retry_percent, floor: settings.retry_floor };
        Ok(HttpOrigin {
            clients: Clients::new(&settings)?,
            allowed: Allowed::new(&settings)?,
            settings,
            dead: Dead::new(rules),
            budgets: Budgets::new(allowance),
            credit: Credit::default(),
            near: Near::default(),
            trails: Trails::default(),
            stats: Arc::default(),
        })
    }

    /// Returns the counters, which go on counting.
    pub fn stats(&self) -> Arc<OriginStats> {
        Arc::clone(&self.stats)
    }

    /// Returns what an operator should know of the origins now, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        self.clients.problems().chain(self.dead.away(Instant::now())).collect()
    }

    /// Looks whether TLS files have changed; blocks while it does. New connections find out by
    /// themselves within a second; this is for those who do not want to wait for one.
    pub fn look_again(&self) {
        self.clients.look();
    }

    fn question<'a>(
        &self,
        source: &'a Source,
        patience: Patience,
        wants: Wants<'a>,
    ) -> Question<'a> {
        let schedule = Schedule::new(&self.settings, patience);
        Question { source, patience, wants, started: Instant::now(), schedule, asked_again: false }
    }

    /// Asks until `judge` has made an answer of a reply, or there is no hope left.
    async fn pursue<T>(
        &self,
        mut question: Question<'_>,
        judge: impl Fn(&Question<'_>, Reply) -> Result<T, Miss> + Sync,
    ) -> Result<T, Failure> {
        let mut tries = 0;
        let mut spare = true;
        loop {
            tries += 1;
            let miss = match self.attempt(&question, tries == 1, &judge).await {
                Ok(answer) => return Ok(answer),
                Err(miss) => miss,
            };
            // A kept connection that had died says nothing about the origin: once, uncounted.
            if miss.fault.hope == Hope::Reset && miss.on_kept && spare {
                spare = false;
                tries -= 1;
                continue;
            }
            // Each can be left out once, so this ends.
            if miss.without.is_some_and(|what| question.wants.without(what)) {
                continue;
            }
            if miss.ask_again && !question.asked_again {
                question.asked_again = true;
                continue;
            }
            let elapsed = question.started.elapsed();
            let hope = miss.fault.hope;
            let wait = self.wait(&question, &miss);
            match question.schedule.next(hope, tries, elapsed, wait, random()) {
                Some(delay) if self.may_retry(&question, &miss) => tokio::time::sleep(delay).await,
                _ => return Err(self.give_up(&question, miss, tries)),
            }
        }
    }

    /// Returns the least time before the next attempt: what the origin asked for, or what the
    /// breaker demands.
    fn wait(&self, question: &Question<'_>, miss: &Miss) -> Option<Duration> {
        let asked = miss.fault.retry_after.filter(|_| miss.fault.hope == Hope::Busy);
        let pause = self.budgets.pause(question.at(miss), asked, Instant::now());
        // The pause of an origin is capped; what this very answer asked for is not.
        asked.max(pause).max(miss.held)
    }

    /// Takes a retry from the origin's budget. What the breaker held back was not sent, and costs
    /// nothing.
    fn may_retry(&self, question: &Question<'_>, miss: &Miss) -> bool {
        if miss.held.is_some() {
            return true;
        }
        let granted = self.budgets.spend(question.at(miss), Instant::now());
        if granted {
            count(&self.stats.retries);
        }
        granted
    }

    /// Turns the last miss of a question into its failure, and remembers a dead origin.
    fn give_up(&self, question: &Question<'_>, miss: Miss, tries: u32) -> Failure {
        let fault = miss.fault;
        let source = question.source;
        count(self.stats.failed(fault.kind));
        if let (Hope::Connect, None, Some(url)) = (fault.hope, miss.held, &miss.url) {
            self.dead.gave_up(url, Instant::now());
        }
        let mut message = format!("{}: ", question.what());
        // Writing to a String does not fail.
        if let Some(url) = miss.url.filter(|url| url.origin() != source.url.origin()) {
            let _ = write!(message, "redirected to {}: ", shown_url(&url));
        }
        message.push_str(&fault.text);
        if tries > 1 {
            let seconds = question.started.elapsed().as_secs_f64();
            let _ = write!(message, " ({tries} tries in {seconds:.1} s)");
        }
        let passing = fault.hope != Hope::None || fault.kind == FailureKind::Unreachable;
        Failure { kind: fault.kind, message, retry_after: fault.retry_after, passing }
    }
}

impl Origin for HttpOrigin {
    fn get(&self, ask: Ask) -> Pending<'_, Result<Answer, Failure>> {
        Box::pin(async move {
            // A beginning is of use only where the rest can be asked for.
            let beginning = self.credit.serves(&ask.source.url, Instant::now());
            let wants = Wants::representation(&ask, beginning);
            let question = self.question(&ask.source, ask.patience, wants);
            self.pursue(question, |question, reply| self.answer(question, reply)).await
        })
    }

    fn range(&self, ask: RangeAsk) -> Pending<'_, Result<RangeAnswer, Failure>> {
        Box::pin(async move {
            if !self.credit.serves(&ask.source.url, Instant::now()) {
                return Ok(RangeAnswer::NotServed);
            }
            let question = self.question(&ask.source, ask.patience, Wants::part(&ask));
            self.pursue(question, |question, reply| self.range_answer(&ask, question, reply)).await
        })
    }

    fn connections(&self, source: &Source) -> usize {
        self.settings.connections_for(&source.url)
    }

    fn lied(&self, source: &Source) {
        count(&self.stats.lied);
        if self.credit.lied(&source.url, Instant::now()) {
            tracing::warn!(
                url = source.shown_url(),
                "the origin gave other bytes under the same strong tag; its ranges are no longer used"
            );
        }
    }

    fn wavers(&self, source: &Source) {
        self.credit.wavers(&source.url, Instant::now());
        tracing::warn!(
            url = source.shown_url(),
            "the origin goes back and forth between versions, as several servers do whose tags differ; its ranges are not used for an hour"
        );
    }
}
