//! What the final answer to a question means.

use std::sync::Arc;
use std::time::Instant;

use reqwest::StatusCode;

use super::HttpOrigin;
use super::question::{Hindrance, Miss, Question, Reply};
use crate::lifetime::Lifetime;
use crate::origin::body::HttpBody;
use crate::origin::fault::Fault;
use crate::origin::fields;
use crate::origin::head::{self, Still};
use crate::origin::partial::{self, Fit, Piece};
use crate::origin::stats::count;
use crate::origin::{Answer, Body, Failure, FailureKind, Head, RangeAnswer, RangeAsk, Unchanged};
use crate::validators::Validators;

impl HttpOrigin {
    /// Judges the answer to a plain or conditional question, or one for the first bytes.
    pub(super) fn answer(&self, question: &Question<'_>, reply: Reply) -> Result<Answer, Miss> {
        match (reply.response.status(), &question.wants.range) {
            (StatusCode::OK, _) => {
                let head = self.head(question, &reply, None)?;
                count(&self.stats.found);
                let expected = head.length;
                Ok(Answer::Found(head, self.body(question, reply, expected)))
            }
            (StatusCode::NOT_MODIFIED, _) => self.not_modified(question, &reply),
            (StatusCode::PARTIAL_CONTENT, Some(range)) => {
                self.beginning(question, range.end, reply)
            }
            // What is empty has no first byte (RFC 9110, section 14.1.2).
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
                Err(Miss::without(Hindrance::Range, status(&reply)))
            }
            // There may be no leave to ask for a part.
            (StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST, Some(_)) => {
                Err(Miss::without(Hindrance::Range, status(&reply)))
            }
            _ => Err(status(&reply).into()),
        }
    }

    /// Judges a 206 to a question for the first bytes. What cannot be gone on from is asked again
    /// whole.
    fn beginning(&self, question: &Question<'_>, first: u64, reply: Reply) -> Result<Answer, Miss> {
        let again = |fault| Miss::without(Hindrance::Range, fault);
        let piece = partial::beginning(&reply.response, first).map_err(|fault| {
            self.credit.serves_none(&question.source.url, Instant::now());
            again(fault)
        })?;
        let head = self.head(question, &reply, Some(&piece)).map_err(again)?;
        if !head.ranges {
            let text = "a part of what has no strong tag, or of which no ranges are served";
            return Err(again(Fault::new(FailureKind::BadAnswer, text)));
        }
        count(&self.stats.partial);
        let expected = piece.range.end;
        Ok(Answer::Found(head, self.body(question, reply, Some(expected))))
    }

    /// Judges the answer to a question for bytes of a known version. Of one that is none to it, the
    /// whole can still be had.
    pub(super) fn range_answer(
        &self,
        ask: &RangeAsk,
        question: &Question<'_>,
        reply: Reply,
    ) -> Result<RangeAnswer, Miss> {
        let unusable = |fault| Ok(self.unusable(question, fault));
        let bad = |text| Fault::new(FailureKind::BadAnswer, text);
        match reply.response.status() {
            // Of another resource; its tags say nothing of the version.
            StatusCode::PARTIAL_CONTENT | StatusCode::OK
                if Self::leads_elsewhere(question, &reply, &ask.validators)? =>
            {
                Ok(RangeAnswer::Changed)
            }
            StatusCode::PARTIAL_CONTENT => match partial::check(&reply.response, ask) {
                Ok(Fit::Same) => {
                    count(&self.stats.partial);
                    let expected = ask.range.end - ask.range.start;
                    Ok(RangeAnswer::Part(self.body(question, reply, Some(expected))))
                }
                Ok(Fit::Other) => Ok(RangeAnswer::Changed),
                Err(fault) => unusable(fault),
            },
            // The whole (RFC 9110, section 13.1.5): If-Range did not hold, or there are no ranges.
            StatusCode::OK => {
                let head = match self.head(question, &reply, None) {
                    Ok(head) => head,
                    Err(fault) => return unusable(fault),
                };
                let same = head.validators.same_strong(&ask.validators)
                    && head.length.is_none_or(|length| length == ask.length);
                if !same {
                    return Ok(RangeAnswer::Changed);
                }
                self.credit.serves_none(&question.source.url, Instant::now());
                Ok(RangeAnswer::NotServed)
            }
            StatusCode::PRECONDITION_FAILED => Ok(RangeAnswer::Changed),
            StatusCode::RANGE_NOT_SATISFIABLE => match partial::unsatisfied(&reply.response) {
                Some(length) if length != ask.length => Ok(RangeAnswer::Changed),
                _ => unusable(bad(format!(
                    "416 Range Not Satisfiable, without another length than the {} bytes known",
                    ask.length
                ))),
            },
            StatusCode::NOT_MODIFIED => {
                unusable(bad("304 Not Modified to a request without a condition".to_owned()))
            }
            _ => Err(status(&reply).into()),
        }
    }

    fn unusable(&self, question: &Question<'_>, fault: Fault) -> RangeAnswer {
        count(self.stats.failed(fault.kind));
        self.credit.serves_none(&question.source.url, Instant::now());
        let message = format!("{}: {}", question.what(), fault.text);
        RangeAnswer::Unusable(Failure {
            kind: fault.kind,
            message,
            retry_after: None,
            passing: false,
        })
    }

    fn not_modified(&self, question: &Question<'_>, reply: &Reply) -> Result<Answer, Miss> {
        let bad = |text: &str| Fault::new(FailureKind::BadAnswer, text);
        let Some(asked) = question.wants.validators else {
            return Err(bad("304 Not Modified to a request without a condition").into());
        };
        let headers = reply.response.headers();
        if Self::leads_elsewhere(question, reply, asked)? {
            return Err(Miss::without(
                Hindrance::Condition,
                bad("304 Not Modified, and the redirect leads elsewhere now"),
            ));
        }
        match head::not_modified(asked, headers) {
            Still::Current(mut validators) => {
                count(&self.stats.not_modified);
                // The same, or what cannot be told; that is to be known anew each time.
                validators.resource.clone_from(&reply.way.resource);
                let lifetime = Lifetime::read(fields::fields(headers), reply.asked_at, reply.at)
                    .within(reply.way.fresh_for());
                Ok(Answer::NotModified(Unchanged { validators, lifetime }))
            }
            // The condition was misunderstood.
            Still::Other => Err(Miss::without(
                Hindrance::Condition,
                bad("304 Not Modified, with the tag of another version"),
            )),
        }
    }

    /// Says whether an answer is of another resource than these validators. Before that is believed
    /// the question is asked once more, so that redirects which lead elsewhere each time are found out.
    fn leads_elsewhere(
        question: &Question<'_>,
        reply: &Reply,
        asked: &Validators,
    ) -> Result<bool, Miss> {
        let resource = reply.way.resource.clone();
        match asked.same_resource(&Validators { resource, ..Validators::default() }) {
            true => Ok(false),
            false if question.asked_again => Ok(true),
            false => {
                let text = "the redirect leads elsewhere now";
                let miss = Miss::from(Fault::new(FailureKind::BadAnswer, text));
                Err(Miss { ask_again: true, ..miss })
            }
        }
    }

    fn head(
        &self,
        question: &Question<'_>,
        reply: &Reply,
        piece: Option<&Piece>,
    ) -> Result<Head, Fault> {
        let Reply { response, asked_at, at, way } = reply;
        let head = head::found(response, piece, *asked_at, *at, way)?;
        let url = &question.source.url;
        let ranges = head.ranges && self.credit.holds(url);
        let offered = head.offered && self.credit.serves(url, Instant::now());
        Ok(Head { ranges, offered, ..head })
    }

    fn body(&self, question: &Question<'_>, reply: Reply, expected: Option<u64>) -> Box<dyn Body> {
        let stats = Arc::clone(&self.stats);
        let what = question.what();
        Box::new(HttpBody::new(reply.response, what, expected, &self.settings, stats))
    }
}

fn status(reply: &Reply) -> Fault {
    Fault::status(&reply.response, reply.at)
}
