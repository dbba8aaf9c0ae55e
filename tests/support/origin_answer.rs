//! What the scripted origin answers to a request: the honest answer, and what a fault makes of it.

use std::fmt::Write as _;
use std::ops::Range;

use super::Body;
use super::origin::Seen;
use super::origin_item::{Fault, Framing, Item, Place};

/// An answer before it is sent.
pub(super) struct Answer {
    pub(super) status: u16,
    fields: Vec<(String, String)>,
    pub(super) body: Body,
    /// The bytes of `body` to send.
    pub(super) part: Range<u64>,
    pub(super) framing: Framing,
    /// The Content-Length, where it is not the length of `part`.
    announced: Option<u64>,
}

impl Answer {
    /// Returns the honest answer to a request for an item.
    pub(super) fn honest(item: &Item, request: &Seen) -> Answer {
        if let Some((name, value)) = &item.require
            && request.header(&name.to_ascii_lowercase()) != Some(value)
        {
            return Answer::short(403);
        }
        if let Some(status) = item.status {
            return Answer { fields: fields(item), ..Answer::short(status) };
        }
        if let Some(to) = &item.redirect {
            return Answer::short(302).with("Location", to);
        }
        if not_modified(item, request) {
            let part = 0..0;
            return Answer { fields: fields(item), part, ..Answer::short(304) };
        }
        let whole = Answer {
            status: 200,
            fields: fields(item),
            body: item.body.clone(),
            part: 0..item.body.len(),
            framing: item.framing,
            announced: None,
        };
        match asked(item, request) {
            None => whole,
            Some(part) if part.is_empty() => {
                Answer::short(416).with("Content-Range", &format!("bytes */{}", item.body.len()))
            }
            Some(part) => whole.partial(part, Place::Right),
        }
    }

    /// Returns a status with a line of body.
    pub(super) fn short(status: u16) -> Answer {
        let body = Body::given(format!("scripted {status}\n"));
        Answer {
            status,
            fields: Vec::new(),
            part: 0..body.len(),
            body,
            framing: Framing::Length,
            announced: None,
        }
    }

    /// Returns what a fault makes of the answer; faults of the body alone leave it as it is.
    pub(super) fn spoiled(self, fault: &Fault, item: &Item, request: &Seen) -> Answer {
        let range = asked(item, request).unwrap_or(0..item.body.len());
        let whole = |answer: Answer| Answer { body: item.body.clone(), ..answer };
        match fault {
            Fault::Status(status, fields) => {
                let short = Answer::short(*status);
                fields.iter().fold(short, |answer, (name, value)| answer.with(name, value))
            }
            Fault::Redirect(to) => {
                let to = if to.is_empty() { request.path.as_str() } else { to };
                Answer::short(302).with("Location", to)
            }
            Fault::NotModified(tag) => {
                let answer = Answer { part: 0..0, ..Answer::short(304) };
                tag.iter().fold(answer, |answer, tag| answer.with("ETag", tag))
            }
            Fault::Partial(place) => whole(self).partial(range, *place),
            Fault::PartialOf(tag) => {
                let mut answer = whole(self).partial(range, Place::Right);
                answer.fields.retain(|(name, _)| name != "ETag");
                answer.with("ETag", tag)
            }
            Fault::Multipart => multipart(self, item, range),
            Fault::Whole => Answer { part: 0..item.body.len(), status: 200, ..whole(self) }
                .without("Content-Range"),
            Fault::Coded => self.with("Content-Encoding", "gzip"),
            Fault::TooLong(more) => self.announcing(|length| length.saturating_add(*more)),
            Fault::TooShort(fewer) => self.announcing(|length| length.saturating_sub(*fewer)),
            Fault::Lie => Answer { body: item.body.other(), ..self.tagged_as_asked(request) },
            Fault::Shorter(fewer) => {
                let answer = Answer { status: 200, ..whole(self) }.without("Content-Range");
                let part = 0..item.body.len() - fewer;
                Answer { part, ..answer.tagged_as_asked(request) }
            }
            Fault::WrongDigest => {
                self.with("Repr-Digest", &format!("sha-256=:{}=:", "A".repeat(43)))
            }
            Fault::BadChunk(_) | Fault::NoLastChunk | Fault::Endless => {
                Answer { framing: Framing::Chunked, ..self }
            }
            Fault::CloseDelimited => Answer { framing: Framing::Close, ..self },
            Fault::HeaderFlood(count) => {
                (0..*count).fold(self, |answer, n| answer.with(&format!("X-Flood-{n}"), "flood"))
            }
            _ => self,
        }
    }

    /// Returns the head, up to the empty line.
    pub(super) fn head(&self) -> String {
        let reason = match self.status {
            200 => "OK",
            206 => "Partial Content",
            304 => "Not Modified",
            _ => "Scripted",
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        match self.framing {
            _ if self.status == 304 => {}
            Framing::Length => {
                let length = self.announced.unwrap_or(self.part.end - self.part.start);
                let _ = write!(head, "Content-Length: {length}\r\n");
            }
            Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
            Framing::Close => head += "Connection: close\r\n",
        }
        for (name, value) in &self.fields {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// Says whether the body is not as long as announced, so that the connection must be closed.
    pub(super) fn misframed(&self) -> bool {
        self.announced.is_some()
    }

    fn with(mut self, name: &str, value: &str) -> Answer {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Answer {
        self.fields.retain(|(field, _)| field != name);
        self
    }

    /// Gives it the tag of the version that the request is about.
    fn tagged_as_asked(self, request: &Seen) -> Answer {
        let asked = ["if-range", "if-none-match"].map(|field| request.header(field));
        match asked.into_iter().flatten().next() {
            Some(tag) => self.without("ETag").with("ETag", tag),
            None => self,
        }
    }

    fn announcing(mut self, length: impl FnOnce(u64) -> u64) -> Answer {
        self.announced = Some(length(self.part.end - self.part.start));
        self
    }

    /// Turns it into a 206 of some bytes.
    fn partial(self, part: Range<u64>, place: Place) -> Answer {
        let (mut unit, mut first, mut last) = ("bytes", part.start, part.end - 1);
        let mut complete = self.body.len();
        match place {
            Place::Right | Place::Missing => {}
            Place::Unit => unit = "octets",
            Place::First => first += 1,
            Place::Last => last -= 1,
            Place::Complete => complete += 1,
        }
        let answer = Answer { status: 206, part, ..self.without("Content-Range") };
        match place {
            Place::Missing => answer,
            _ => answer.with("Content-Range", &format!("{unit} {first}-{last}/{complete}")),
        }
    }
}

/// Wraps a range as the only part of a multipart answer (RFC 9110, section 14.6).
fn multipart(answer: Answer, item: &Item, range: Range<u64>) -> Answer {
    let (first, last, complete) = (range.start, range.end - 1, item.body.len());
    let head = format!("--part\r\nContent-Range: bytes {first}-{last}/{complete}\r\n\r\n");
    let bytes = item.body.slice(range.start, (range.end - range.start) as usize);
    let body = Body::given([head.as_bytes(), &bytes, b"\r\n--part--\r\n"].concat());
    let part = 0..body.len();
    Answer { status: 206, body, part, ..answer.without("Content-Range") }
        .with("Content-Type", "multipart/byteranges; boundary=part")
}

/// Returns the bytes that a request asks for, where the item is served in ranges and `If-Range`
/// names its strong tag (RFC 9110, sections 13.1.5 and 14.2): of several ranges the first, empty
/// where it lies past the end.
fn asked(item: &Item, request: &Seen) -> Option<Range<u64>> {
    if !item.ranges {
        return None;
    }
    if let Some(tag) = request.header("if-range")
        && (tag.starts_with("W/") || item.etag.as_deref() != Some(tag))
    {
        return None;
    }
    let set = request.header("range")?.strip_prefix("bytes=")?;
    let (first, last) = set.split(',').next()?.trim().split_once('-')?;
    let length = item.body.len();
    Some(match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) => first.min(length)..last.saturating_add(1).min(length),
        (Ok(first), Err(_)) => first.min(length)..length,
        (Err(_), Ok(last)) => length.saturating_sub(last)..length,
        (Err(_), Err(_)) => return None,
    })
}

fn fields(item: &Item) -> Vec<(String, String)> {
    let validators = [("ETag", &item.etag), ("Last-Modified", &item.last_modified)];
    let present =
        validators.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    let ranges = item.ranges.then(|| ("Accept-Ranges".to_owned(), "bytes".to_owned()));
    present.chain(ranges).chain(item.headers.iter().cloned()).collect()
}

/// Says whether a conditional request is answered with 304 (RFC 9110, sections 13.1.2 and 13.1.3).
fn not_modified(item: &Item, request: &Seen) -> bool {
    if let Some(tags) = request.header("if-none-match") {
        let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        let ours = item.etag.as_deref().map(bare);
        return tags.split(',').any(|tag| ours == Some(bare(tag)));
    }
    let (Some(since), Some(changed)) = (request.header("if-modified-since"), &item.last_modified)
    else {
        return false;
    };
    match (httpdate::parse_http_date(since), httpdate::parse_http_date(changed)) {
        (Ok(since), Ok(changed)) => changed <= since,
        _ => false,
    }
}
