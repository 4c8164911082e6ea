//! The state of one HTTP/1 connection.

use std::collections::VecDeque;
use std::mem::take;

use wirespan_parser_api::http::read_target;
use wirespan_parser_api::{
    Abandon, AfterGap, Direction, Emit, Event, ExchangeId, Fifo, Flags, Gap, Init, Input, Next,
    Outcome, ParseError, Parser, Policy, Request, Response, Step, Upgrade, keys,
};

use crate::attributes::Attributes;
use crate::framing::{Body, Framing, upgrade};
use crate::head::{self, RequestFields, RequestLine, StatusLine};
use crate::message::{Asked, Half, Message, Reading, Span};
use crate::read::Read;
use crate::wire::{self, TrailerLine};
use crate::{HTTP, probe};

/// Texts longer than this are not kept for reuse.
const KEEP_TEXT: usize = 8 * 1024;

/// Parser of one connection.
#[derive(Debug)]
pub(crate) struct HttpParser {
    pairs: Fifo,
    /// The requests in flight that can be paired, oldest first: as many as `pairs.in_flight()`.
    asked: VecDeque<Asked>,
    requests: Half,
    responses: Half,
    /// Whether bytes that are no response were passed over before the next one.
    after_junk: bool,
    /// Steps that the server's direction made.
    server_steps: u64,
    /// `server_steps` when the client's direction was last held.
    held_at: Option<u64>,
    max_message: usize,
    max_in_flight: usize,
    policy: Policy,
    /// Scratch for redacted targets.
    text: String,
    /// Scratch for combined `tracestate` headers.
    tracestate: String,
}

impl Parser for HttpParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let step = match self.half(dir).reading {
            Reading::Head => match dir {
                Direction::ToServer => self.request(input, out),
                Direction::ToClient => self.response(input, out),
            },
            Reading::Unsure(body) => self.unsure(body, input, out),
            Reading::Chunk => self.chunk(dir, input, out),
            Reading::Trailers(left) => self.trailer(dir, left, input, out),
            Reading::ToEnd | Reading::Broken => Ok(Step {
                consumed: input.bytes.len(),
                next: Next::SkipToEnd,
            }),
        };
        if dir == Direction::ToClient {
            self.server_steps = self.server_steps.wrapping_add(1);
        }
        step
    }

    fn gap(&mut self, dir: Direction, gap: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        let next = match self.half(dir).reading {
            Reading::Chunk | Reading::Trailers(_) => {
                let end = gap.offset.saturating_add(gap.len);
                self.cut(dir, end, Flags::GAP, out);
                Next::More
            }
            Reading::Head => self.cut_head(dir, gap, out),
            Reading::Unsure(_) => {
                self.responses.reading = Reading::Head;
                Next::More
            }
            Reading::ToEnd | Reading::Broken => Next::More,
        };
        self.lose(dir, out);
        match next {
            // Where the other protocol begins is lost.
            Next::Upgrade(_) => AfterGap::Stop,
            _ => AfterGap::Resync,
        }
    }

    fn resync(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        match (dir, self.half(dir).reading) {
            (_, Reading::Broken) => None,
            (Direction::ToServer, _) => probe::next_request(window),
            (Direction::ToClient, _) => probe::next_response(window),
        }
    }

    fn end(&mut self, dir: Direction, offset: u64, out: &mut dyn Emit) {
        let half = self.half(dir);
        match half.reading {
            Reading::ToEnd => self.finish(dir, offset, out),
            Reading::Chunk | Reading::Trailers(_) => self.cut(dir, offset, Flags::TRUNCATED, out),
            Reading::Head if half.message.end > offset => {
                annotate(half.message.id, Flags::TRUNCATED, out);
            }
            Reading::Head | Reading::Unsure(_) | Reading::Broken => {}
        }
    }

    fn heap_bytes(&self) -> usize {
        let asked = self.asked.capacity().saturating_mul(size_of::<Asked>());
        let texts = self
            .text
            .capacity()
            .saturating_add(self.tracestate.capacity());
        asked.saturating_add(texts)
    }

    fn set_policy(&mut self, policy: &Policy) {
        self.policy = policy.clone();
    }
}

impl HttpParser {
    pub(crate) fn new(init: &Init<'_>) -> Self {
        Self {
            pairs: Fifo::new(init.late_attach),
            asked: VecDeque::new(),
            requests: Half::default(),
            responses: Half::default(),
            after_junk: false,
            server_steps: 0,
            held_at: None,
            max_message: init.limits.max_message,
            max_in_flight: init.limits.max_in_flight,
            policy: init.policy.clone(),
            text: String::new(),
            tracestate: String::new(),
        }
    }

    fn half(&mut self, dir: Direction) -> &mut Half {
        match dir {
            Direction::ToServer => &mut self.requests,
            Direction::ToClient => &mut self.responses,
        }
    }

    fn request(&mut self, input: Input<'_>, out: &mut dyn Emit) -> Result<Step, ParseError> {
        if self.holds() {
            return Ok(Step {
                consumed: 0,
                next: Next::Wait,
            });
        }
        if let Some(blank) = blank_lines(input.bytes) {
            return Ok(Step::more(blank));
        }
        let mut fields = RequestFields::default();
        let read = head::request(input.bytes, &mut fields);
        let read = bounded(read, input.bytes.len(), self.max_message, "request head")?;
        Ok(match read {
            Ok((line, len)) => {
                self.begin_request(Span::whole(input.offset, len), &line, &fields, out)
            }
            Err(step) => step,
        })
    }

    /// Whether what follows in the client's direction depends on an answer that may still come.
    ///
    /// Asked again without a step of the server in between, the engine has waited long enough.
    fn holds(&mut self) -> bool {
        let due = matches!(self.asked.back(), Some(Asked::Connect | Asked::Upgrade));
        let holds = due && self.held_at != Some(self.server_steps);
        self.held_at = holds.then_some(self.server_steps);
        if due && !holds {
            // Not again for this request.
            if let Some(last) = self.asked.back_mut() {
                *last = Asked::Other;
            }
        }
        holds
    }

    /// Reports the message of which the gap has left the front of the head; what else was lost with
    /// the rest of it, nobody knows.
    fn cut_head(&mut self, dir: Direction, gap: Gap<'_>, out: &mut dyn Emit) -> Next {
        // What a client sends while its direction is held may be no HTTP.
        let held = dir == Direction::ToServer && self.held_at.is_some();
        let Some(front) = head::front(dir, gap.unread).filter(|_| !held) else {
            return Next::More;
        };
        let span = Span {
            at: gap.offset.saturating_sub(gap.unread.len() as u64),
            len: gap.unread.len(),
            lost: gap.len,
        };
        let step = match dir {
            Direction::ToServer => {
                let mut fields = RequestFields::default();
                match head::request(&front, &mut fields) {
                    Read::Done(line, _) => self.begin_request(span, &line, &fields, out),
                    Read::Short(_) | Read::Bad(_) => return Next::More,
                }
            }
            Direction::ToClient => {
                let mut framing = Framing::default();
                match head::response(&front, &mut framing) {
                    Read::Done(line, _) => self.begin_response(span, &line, &framing, out),
                    Read::Short(_) | Read::Bad(_) => return Next::More,
                }
            }
        };
        step.next
    }

    fn begin_request(
        &mut self,
        span: Span,
        line: &RequestLine<'_>,
        fields: &RequestFields<'_>,
        out: &mut dyn Emit,
    ) -> Step {
        if self.asked.len() >= self.max_in_flight {
            self.lose(Direction::ToClient, out);
        }
        let ticket = self.pairs.request();
        let (body, flags) = span.body(|| fields.framing.request_body());
        let mut flags = flags.with(line.flags);
        if ticket.guessed {
            flags = flags.with(Flags::GUESSED);
        }
        let target = read_target(line.target, &self.policy, &mut self.text);
        let attributes = Attributes::of_request(line, fields, &target);
        out.emit(Event::Request {
            id: ticket.id,
            at: span.at,
            request: Request {
                protocol: HTTP,
                operation: line.method,
                target: target.text,
                trace: fields.trace.context(&mut self.tracestate),
                flags,
                attrs: attributes.as_slice(),
            },
        });
        if self.text.capacity() > KEEP_TEXT {
            self.text = String::new();
        }
        let step = self.begin(Direction::ToServer, Some(ticket.id), span, body, out);
        if ticket.pairable {
            self.asked.push_back(asked(line.method, &fields.framing));
        } else {
            self.requests.message.id = None;
            // All that has been read of it; where its body ends may be known already.
            out.emit(Event::Progress {
                id: ticket.id,
                request_bytes: span.len as u64,
                response_bytes: 0,
                attrs: &[],
            });
            out.emit(Event::Abandon {
                id: ticket.id,
                why: Abandon::Lost,
            });
        }
        step
    }

    fn response(&mut self, input: Input<'_>, out: &mut dyn Emit) -> Result<Step, ParseError> {
        if let Some(blank) = blank_lines(input.bytes) {
            return Ok(Step::more(blank));
        }
        let mut framing = Framing::default();
        let read = head::response(input.bytes, &mut framing);
        // One response is due: what precedes it can only belong to it.
        if matches!(read, Read::Bad(_)) && self.asked.len() == 1 {
            match probe::junk(input.bytes) {
                Read::Done((), len) => {
                    self.after_junk = true;
                    out.emit(Event::Error {
                        error: ParseError::malformed("status line"),
                    });
                    return Ok(Step::more(len));
                }
                Read::Short(n) => return Ok(Step::need(n)),
                Read::Bad(_) => {}
            }
        }
        let read = bounded(read, input.bytes.len(), self.max_message, "response head")?;
        Ok(match read {
            Ok((line, len)) => {
                self.begin_response(Span::whole(input.offset, len), &line, &framing, out)
            }
            Err(step) => step,
        })
    }

    fn begin_response(
        &mut self,
        span: Span,
        line: &StatusLine<'_>,
        framing: &Framing<'_>,
        out: &mut dyn Emit,
    ) -> Step {
        let Span { at, len, .. } = span;
        // Interim responses (RFC 9110 §15.2); after 101 another protocol follows.
        if matches!(line.code, 100 | 102..=199) {
            return Step::more(len);
        }
        let id = self.pairs.response();
        let asked = id
            .and_then(|_| self.asked.pop_front())
            .unwrap_or(Asked::Other);
        let (body, flags) = match (asked, line.code) {
            (Asked::Head, _) | (_, 101 | 204 | 304) | (Asked::Connect, 200..=299) => {
                (Body::Empty, Flags::NONE)
            }
            _ => framing.response_body(),
        };
        let (body, flags) = span.body(|| (body, flags));
        let flags = flags
            .with(line.flags)
            .with(match take(&mut self.after_junk) {
                true => Flags::AMBIGUOUS,
                false => Flags::NONE,
            });
        match id {
            Some(id) => report(id, at, line, framing, flags, out),
            None => out.emit(Event::Orphan { at }),
        }
        if id.is_none() && line.code != 101 && !matches!(body, Body::Empty | Body::Length(0)) {
            self.responses.reading = Reading::Unsure(body);
            return Step::more(len);
        }
        let step = self.begin(Direction::ToClient, id, span, body, out);
        match (asked, line.code) {
            (_, 101) => Step {
                consumed: len,
                next: Next::Upgrade(upgrade(framing.upgrade)),
            },
            (Asked::Connect, 200..=299) => Step {
                consumed: len,
                next: Next::Upgrade(Upgrade::Detect),
            },
            _ => step,
        }
    }

    /// Reads what follows the head of a response to an unknown request.
    fn unsure(
        &mut self,
        body: Body,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        const NEXT: &[u8] = b"HTTP/1.";
        if input.bytes.starts_with(NEXT) {
            self.responses.reading = Reading::Head;
            return self.response(input, out);
        }
        if NEXT.starts_with(input.bytes) {
            return Ok(Step::need(NEXT.len()));
        }
        self.responses.reading = Reading::Head;
        let behind_head = Span::whole(input.offset, 0);
        let step = self.begin(Direction::ToClient, None, behind_head, body, out);
        match body {
            Body::Chunked => self.chunk(Direction::ToClient, input, out),
            _ => Ok(step),
        }
    }

    /// Begins the body of the message whose head is at `span`.
    fn begin(
        &mut self,
        dir: Direction,
        id: Option<ExchangeId>,
        span: Span,
        body: Body,
        out: &mut dyn Emit,
    ) -> Step {
        let end = span.end();
        let half = self.half(dir);
        half.message = Message {
            id,
            began: span.at,
            end,
        };
        let next = match body {
            Body::Empty | Body::Length(0) => Next::More,
            Body::Length(n) => {
                half.message.end = end.saturating_add(n);
                Next::Skip(n)
            }
            Body::Chunked => {
                half.reading = Reading::Chunk;
                Next::More
            }
            Body::ToEnd => {
                half.reading = Reading::ToEnd;
                Next::SkipToEnd
            }
        };
        if let Reading::Head = half.reading {
            let end = half.message.end;
            self.finish(dir, end, out);
        }
        Step {
            consumed: span.len,
            next,
        }
    }

    fn chunk(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        match wire::chunk_line(input.bytes) {
            Read::Done(chunk, len) => {
                let half = self.half(dir);
                if chunk.bare_lf {
                    annotate(half.message.id, Flags::AMBIGUOUS, out);
                }
                if chunk.size == 0 {
                    self.half(dir).reading = Reading::Trailers(self.max_message);
                    return Ok(Step::more(len));
                }
                // The data, and the line end behind them.
                Ok(Step {
                    consumed: len,
                    next: Next::Skip(chunk.size.saturating_add(2)),
                })
            }
            Read::Short(n) => Ok(Step::need(n)),
            Read::Bad(what) => Err(self.break_off(dir, input.offset, what, out)),
        }
    }

    fn trailer(
        &mut self,
        dir: Direction,
        left: usize,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        match wire::trailer_line(input.bytes, left) {
            Read::Done(TrailerLine::Field, len) => {
                self.half(dir).reading = Reading::Trailers(left.saturating_sub(len));
                Ok(Step::more(len))
            }
            Read::Done(TrailerLine::Blank, len) => {
                self.finish(dir, input.offset.saturating_add(len as u64), out);
                Ok(Step::more(len))
            }
            Read::Short(n) => Ok(Step::need(n)),
            Read::Bad(what) => Err(self.break_off(dir, input.offset, what, out)),
        }
    }

    /// Ends a chunked body that cannot be read on.
    ///
    /// A server answers such a request and closes: what follows in its direction is not read, so
    /// that no part of the body becomes a request. After a response the next one is looked for, and
    /// the engine tells of a gap, which puts the pairing right.
    fn break_off(
        &mut self,
        dir: Direction,
        at: u64,
        what: &'static str,
        out: &mut dyn Emit,
    ) -> ParseError {
        self.cut(dir, at, Flags::AMBIGUOUS, out);
        if dir == Direction::ToServer {
            self.requests.reading = Reading::Broken;
        }
        ParseError::malformed(what)
    }

    /// Notes that messages of `dir` may have been missed.
    fn lose(&mut self, dir: Direction, out: &mut dyn Emit) {
        self.pairs.gap(dir, out);
        if dir == Direction::ToClient {
            self.asked.clear();
        }
    }

    /// Ends the current message at `at`, before its time.
    fn cut(&mut self, dir: Direction, at: u64, flags: Flags, out: &mut dyn Emit) {
        annotate(self.half(dir).message.id, flags, out);
        self.finish(dir, at, out);
    }

    /// Ends the current message at `at`.
    fn finish(&mut self, dir: Direction, at: u64, out: &mut dyn Emit) {
        let half = self.half(dir);
        half.reading = Reading::Head;
        let Message { id, began, .. } = half.message;
        let size = at.saturating_sub(began);
        let Some(id) = id else { return };
        out.emit(match dir {
            Direction::ToServer => Event::RequestEnd { id, at, size },
            Direction::ToClient => Event::ResponseEnd { id, at, size },
        });
    }
}

/// Splits what came of reading a head into the head, a step that asks for more, and an error.
fn bounded<T>(
    read: Read<T>,
    visible: usize,
    limit: usize,
    what: &'static str,
) -> Result<Result<(T, usize), Step>, ParseError> {
    match read {
        Read::Done(_, len) if len > limit => Err(ParseError::too_large(what)),
        Read::Done(item, len) => Ok(Ok((item, len))),
        Read::Short(_) if visible >= limit => Err(ParseError::too_large(what)),
        Read::Short(n) => Ok(Err(Step::need(n))),
        Read::Bad(what) => Err(ParseError::malformed(what)),
    }
}

/// Bytes of blank lines before a start line (RFC 9112 §2.2), if any.
fn blank_lines(bytes: &[u8]) -> Option<usize> {
    let len = bytes
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    (len > 0).then_some(len)
}

fn asked(method: &str, framing: &Framing<'_>) -> Asked {
    match method {
        "HEAD" => Asked::Head,
        "CONNECT" => Asked::Connect,
        _ if framing.connection_upgrade && framing.upgrade.is_some() => Asked::Upgrade,
        _ => Asked::Other,
    }
}

fn report(
    id: ExchangeId,
    at: u64,
    line: &StatusLine<'_>,
    framing: &Framing<'_>,
    flags: Flags,
    out: &mut dyn Emit,
) {
    let code = keys::HTTP_RESPONSE_STATUS_CODE.of(i64::from(line.code));
    let size = framing.content_length_known();
    let size = size.and_then(|size| i64::try_from(size).ok());
    let size = size.map(|size| keys::HTTP_RESPONSE_BODY_SIZE.of(size));
    let attrs = [code, size.unwrap_or(code)];
    let count = if size.is_some() { 2 } else { 1 };
    out.emit(Event::Response {
        id,
        at,
        response: Response {
            status: line.status,
            outcome: outcome(line.code),
            flags,
            attrs: attrs.get(..count).unwrap_or_default(),
        },
    });
}

/// A code that is no status code counts as a server's error (RFC 9110 §15).
const fn outcome(code: u16) -> Outcome {
    match code {
        100..=399 => Outcome::Ok,
        400..=499 => Outcome::ClientFault,
        _ => Outcome::Error,
    }
}

fn annotate(id: Option<ExchangeId>, flags: Flags, out: &mut dyn Emit) {
    if let Some(id) = id {
        out.emit(Event::Annotate {
            id,
            flags,
            attrs: &[],
        });
    }
}
