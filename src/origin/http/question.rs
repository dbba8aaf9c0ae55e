//! One question while it is asked: what its requests carry, and how an attempt can miss.

use std::ops::Range;
use std::time::{Duration, Instant, SystemTime};

use reqwest::Response;
use reqwest::header::HeaderMap;
use url::Url;

use crate::origin::fault::Fault;
use crate::origin::retry::Schedule;
use crate::origin::way::Way;
use crate::origin::{Ask, FailureKind, Patience, RangeAsk, request};
use crate::source::Source;
use crate::validators::Validators;

/// A question under way.
pub(super) struct Question<'a> {
    pub(super) source: &'a Source,
    pub(super) patience: Patience,
    pub(super) wants: Wants<'a>,
    pub(super) started: Instant,
    pub(super) schedule: Schedule,
    /// The redirects were seen to lead to another resource, and may lead to yet another.
    pub(super) asked_again: bool,
}

impl Question<'_> {
    /// Returns what is asked for, as every failure begins; without secrets.
    pub(super) fn what(&self) -> String {
        self.wants.what(self.source)
    }

    /// Returns whose budget pays for another attempt after this miss.
    pub(super) fn at<'a>(&'a self, miss: &'a Miss) -> &'a Url {
        miss.url.as_deref().unwrap_or(&self.source.url)
    }
}

/// What the requests of a question carry beside the source's own headers.
#[derive(Debug)]
pub(super) struct Wants<'a> {
    /// The condition; never without a field to ask it with.
    pub(super) validators: Option<&'a Validators>,
    /// The bytes wanted, where not all are.
    pub(super) range: Option<Range<u64>>,
    /// The strong tag of the version that the bytes must be of.
    tag: Option<&'a str>,
}

impl<'a> Wants<'a> {
    /// Returns the wants of a plain or conditional question; `beginning` says whether the limit of
    /// the question to the first bytes is to be sent.
    pub(super) fn representation(ask: &'a Ask, beginning: bool) -> Wants<'a> {
        let validators = ask.validators.as_ref().filter(|v| request::condition(v).is_some());
        // No range has no bytes (RFC 9110, section 14.1.2).
        let first = ask.first.filter(|first| beginning && *first > 0);
        Wants { validators, range: first.map(|first| 0..first), tag: None }
    }

    /// Returns the wants of a question for bytes of a known version.
    pub(super) fn part(ask: &'a RangeAsk) -> Wants<'a> {
        Wants {
            validators: None,
            range: Some(ask.range.clone()),
            tag: ask.validators.etag.as_deref(),
        }
    }

    /// Adds the fields of the request.
    ///
    /// # Errors
    /// A range or a tag that cannot be asked for.
    pub(super) fn add_to(&self, fields: &mut HeaderMap) -> Result<(), Fault> {
        let local = |text: String| Fault::new(FailureKind::Local, text);
        if let Some((name, value)) = self.validators.and_then(request::condition) {
            fields.insert(name, value);
        }
        if let Some(range) = &self.range {
            let (name, value) = request::range(range)
                .ok_or_else(|| local(format!("bytes {range:?} are no range to ask for")))?;
            fields.insert(name, value);
        }
        if let Some(tag) = self.tag {
            let (name, value) = request::if_range(tag).ok_or_else(|| {
                local("the version has no strong tag; its ranges cannot be asked for".to_owned())
            })?;
            fields.insert(name, value);
        }
        Ok(())
    }

    /// Leaves out what an answer has shown to be in the way. Returns whether that makes another
    /// request.
    pub(super) fn without(&mut self, what: Hindrance) -> bool {
        match what {
            Hindrance::Condition => self.validators.take().is_some(),
            Hindrance::Range => self.range.take().is_some(),
        }
    }

    /// Returns what is asked for; without secrets.
    pub(super) fn what(&self, source: &Source) -> String {
        let shown = source.shown_url();
        match &self.range {
            Some(range) => format!("GET {shown} (bytes {})", request::shown_range(range)),
            None => format!("GET {shown}"),
        }
    }
}

/// What the next request of the same question leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hindrance {
    /// The condition: it was answered for another version.
    Condition,
    /// The range: it brought nothing that can be used.
    Range,
}

/// The head of an answer, before it is judged.
pub(super) struct Reply {
    pub(super) response: Response,
    /// When its request was sent.
    pub(super) asked_at: SystemTime,
    /// When the head had come.
    pub(super) at: SystemTime,
    /// Where it came from.
    pub(super) way: Way,
}

/// A failed attempt.
pub(super) struct Miss {
    pub(super) fault: Fault,
    /// Whose answer, or lack of one, it was.
    pub(super) url: Option<Box<Url>>,
    /// Whether the request went out on a connection used before.
    pub(super) on_kept: bool,
    /// What to ask without, at once.
    pub(super) without: Option<Hindrance>,
    /// Set if the breaker held the request back: for how long it does at least.
    pub(super) held: Option<Duration>,
    /// The redirects led to another resource: to be asked once more, at once.
    pub(super) ask_again: bool,
}

impl Miss {
    /// Returns the miss of a request for a URL.
    pub(super) fn at(fault: Fault, url: &Url) -> Miss {
        Miss::from(fault).of(url)
    }

    /// Returns this miss with the URL that it was met at.
    pub(super) fn of(self, url: &Url) -> Miss {
        Miss { url: Some(Box::new(url.clone())), ..self }
    }

    /// Returns a miss that asks again without something.
    pub(super) fn without(what: Hindrance, fault: Fault) -> Miss {
        Miss { without: Some(what), ..fault.into() }
    }
}

impl From<Fault> for Miss {
    fn from(fault: Fault) -> Miss {
        Miss { fault, url: None, on_kept: false, without: None, held: None, ask_again: false }
    }
}
