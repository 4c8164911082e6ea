//! From header blocks and stream events to exchanges.

use wirespan_parser_api::{
    Abandon, Direction, Emit, Event, ExchangeId, Flags, Init, ParseError, Policy, ProtocolName,
    Request, http, keys,
};

use crate::answers::{error_name, tell_grpc, tell_http, tell_late, tell_progress};
use crate::attributes::Attributes;
use crate::grpc;
use crate::message::{Field, Message};
use crate::streams::{Answer, Half, Kind, Stream, Streams};

/// Protocol of the records that are not gRPC.
pub(crate) const HTTP: ProtocolName = ProtocolName("http");
/// Protocol of the records of gRPC calls.
pub(crate) const GRPC: ProtocolName = ProtocolName("grpc");

/// One or more frames of a stream behind each other: HEADERS and its CONTINUATIONs, or DATA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    pub(crate) stream: u32,
    pub(crate) end_stream: bool,
    /// Offset of the first byte.
    pub(crate) at: u64,
    /// Offset behind the last byte.
    pub(crate) end: u64,
}

impl Frames {
    const fn size(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }
}

/// Pairs requests with responses by their stream.
#[derive(Debug)]
pub(crate) struct Exchanges {
    streams: Streams,
    /// Most streams that are kept.
    max_open: usize,
    pub(crate) policy: Policy,
    /// Number of the next exchange.
    next: u64,
    /// Highest stream of a request so far.
    highest: u32,
    /// Whether requests may have been missed: then a lower stream can still be a new one.
    lossy: bool,
    /// Room for a redacted target, and for a `tracestate`.
    target: String,
    tracestate: String,
}

impl Exchanges {
    pub(crate) fn new(max_open: usize, init: &Init<'_>) -> Self {
        Self {
            streams: Streams::default(),
            max_open,
            policy: init.policy.clone(),
            next: 1,
            highest: 0,
            lossy: false,
            target: String::new(),
            tracestate: String::new(),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let text = self
            .target
            .capacity()
            .saturating_add(self.tracestate.capacity());
        self.streams.heap_bytes().saturating_add(text)
    }

    /// The highest stream of a request so far.
    pub(crate) fn highest(&self) -> u32 {
        self.highest
    }

    pub(crate) fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        self.streams.find(id)
    }

    /// Tells how far an exchange has come.
    pub(crate) fn progress(&self, id: ExchangeId, out: &mut dyn Emit) {
        if let Some(stream) = self.streams.by_exchange(id) {
            tell_progress(stream, out);
        }
    }

    /// Notes that frames were lost, of whatever stream.
    pub(crate) fn lose(&mut self, dir: Direction) {
        self.lossy = true;
        self.streams.lose(dir);
    }

    /// Takes a header block; `None`: its contents are lost.
    pub(crate) fn headers(
        &mut self,
        dir: Direction,
        frames: Frames,
        message: Option<&Message>,
        out: &mut dyn Emit,
    ) {
        if let Some(n) = message.map(|message| message.unknown).filter(|n| *n > 0) {
            out.emit(Event::Count {
                what: "unknown HPACK entries",
                n,
            });
        }
        match dir {
            // Streams that a server opens are pushes.
            Direction::ToServer if frames.stream.is_multiple_of(2) => {
                error("stream of HEADERS", out)
            }
            Direction::ToClient if frames.stream.is_multiple_of(2) => {}
            Direction::ToServer => self.client_headers(frames, message, out),
            Direction::ToClient => self.server_headers(frames, message, out),
        }
    }

    fn client_headers(&mut self, frames: Frames, message: Option<&Message>, out: &mut dyn Emit) {
        if self.streams.find(frames.stream).is_none() && !self.open(&frames, message, out) {
            return;
        }
        self.add(Direction::ToServer, &frames);
        let kind = self.streams.find(frames.stream).map(|stream| &stream.kind);
        // What follows CONNECT belongs to the tunnel.
        if frames.end_stream || kind == Some(&Kind::Connect) {
            self.end(Direction::ToServer, &frames, out);
        }
    }

    /// Opens an exchange, if the block is a request's.
    fn open(&mut self, frames: &Frames, message: Option<&Message>, out: &mut dyn Emit) -> bool {
        let unseen = frames.stream > self.highest;
        let begins = match message {
            None => unseen,
            Some(message) => {
                let pseudo = [Field::Method, Field::Path, Field::Scheme, Field::Authority];
                pseudo.into_iter().any(|field| message.has(field))
            }
        };
        if !begins {
            // Trailers of a stream that is closed or was never seen.
            if unseen && !self.lossy {
                error("request without method", out);
            }
            return false;
        }
        if !unseen && !self.lossy {
            error("stream used again", out);
            return false;
        }
        self.highest = self.highest.max(frames.stream);
        self.make_room(out);
        let exchange = ExchangeId(self.next);
        self.next = self.next.saturating_add(1);
        let kind = self.request(exchange, frames.at, message, out);
        self.streams.push(Stream {
            id: frames.stream,
            exchange,
            kind,
            request: Half::default(),
            response: Half::default(),
            status: None,
            answer: Answer::None,
            unsure: false,
        });
        true
    }

    fn make_room(&mut self, out: &mut dyn Emit) {
        while self.streams.len() >= self.max_open
            && let Some(stream) = self.streams.remove_oldest()
        {
            let id = stream.exchange;
            out.emit(Event::Count {
                what: "evicted streams",
                n: 1,
            });
            out.emit(Event::Annotate {
                id,
                flags: Flags::TRUNCATED,
                attrs: &[],
            });
            abandon(&stream, Abandon::Cancelled, out);
        }
    }

    /// Reports a request.
    fn request(
        &mut self,
        id: ExchangeId,
        at: u64,
        message: Option<&Message>,
        out: &mut dyn Emit,
    ) -> Kind {
        let none = Message::default();
        let cut = message.is_none_or(|message| message.cut);
        let message = message.unwrap_or(&none);
        let kind = classify(message);
        let flags = if cut { Flags::TRUNCATED } else { Flags::NONE };
        let path = message.get(Field::Path).unwrap_or_default();
        let trace = message.trace(&mut self.tracestate);
        if kind == Kind::Grpc {
            let operation = method_of(message);
            let attrs = Attributes::of_grpc(message, operation);
            let attrs = attrs.as_slice();
            let request = Request {
                protocol: GRPC,
                operation,
                target: "",
                trace,
                flags,
                attrs,
            };
            out.emit(Event::Request { id, at, request });
            return kind;
        }
        let operation = message.text(Field::Method).unwrap_or_default();
        // CONNECT alone has no path; its target is the authority (RFC 9113 §8.5).
        let text = match message.get(Field::Authority) {
            Some(authority) if operation == "CONNECT" && path.is_empty() => authority,
            _ => path,
        };
        let target = http::read_target(text, &self.policy, &mut self.target);
        let attrs = Attributes::of_http(message, &target);
        let attrs = attrs.as_slice();
        let target = target.text;
        let request = Request {
            protocol: HTTP,
            operation,
            target,
            trace,
            flags,
            attrs,
        };
        out.emit(Event::Request { id, at, request });
        kind
    }

    fn server_headers(&mut self, frames: Frames, message: Option<&Message>, out: &mut dyn Emit) {
        let status = message.and_then(Message::status);
        let Some(stream) = self.streams.find(frames.stream) else {
            self.orphan(&frames, status, out);
            return;
        };
        stream.unsure |= message.is_none_or(|message| message.unknown > 0);
        self.add(Direction::ToClient, &frames);
        if let Some(message) = message {
            // Interim responses are not reported.
            if matches!(status, Some(100..=199)) {
                return;
            }
            self.settle(frames.stream, message.is_grpc(), Flags::NONE, out);
            self.response(&frames, message, out);
        }
        if frames.end_stream {
            self.end(Direction::ToClient, &frames, out);
        }
    }

    /// A response to no request that is open.
    fn orphan(&mut self, frames: &Frames, status: Option<u16>, out: &mut dyn Emit) {
        if frames.stream <= self.highest {
            return;
        }
        self.highest = frames.stream;
        let at = frames.at;
        match status {
            // The request was HTTP/1.1's, which knows nothing of streams (RFC 7540 §3.2).
            Some(200..) if frames.stream == 1 && !self.lossy => {
                out.emit(Event::Push {
                    at,
                    kind: "response to an upgrade",
                });
            }
            Some(200..) => out.emit(Event::Orphan { at }),
            _ => {}
        }
    }

    /// Reports what a block of the response, or its trailers, tell.
    fn response(&mut self, frames: &Frames, message: &Message, out: &mut dyn Emit) {
        let Some(stream) = self.streams.find(frames.stream) else {
            return;
        };
        // A block without status is trailers, unless the status is what is unknown of it.
        let headers = message.has(Field::Status) || message.unknown > 0 && !stream.response.data;
        if headers && stream.answer == Answer::None {
            stream.status = message.status();
            if matches!(stream.kind, Kind::Http | Kind::Connect) {
                tell_http(stream, frames.at, message.number(Field::ContentLength), out);
                if stream.kind == Kind::Connect && matches!(stream.status, Some(200..=299)) {
                    self.tunnel(frames, out);
                }
                return;
            }
            stream.answer = Answer::Begun;
            out.emit(Event::ResponseStart {
                id: stream.exchange,
                at: frames.at,
            });
        }
        if let Some(status) = message.number(Field::GrpcStatus)
            && stream.kind == Kind::Grpc
            && stream.answer != Answer::Told
        {
            tell_grpc(stream, frames.at, Some(status), Flags::NONE, out);
        }
    }

    /// A tunnel is open: that ends the exchange, as 101 does in HTTP/1.1.
    fn tunnel(&mut self, frames: &Frames, out: &mut dyn Emit) {
        let Some(stream) = self.streams.remove(frames.stream) else {
            return;
        };
        let (id, size) = (stream.exchange, stream.response.size);
        out.emit(Event::ResponseEnd {
            id,
            at: frames.end,
            size,
        });
    }

    /// Takes what a message says of whether an undecided stream is gRPC.
    fn settle(&mut self, id: u32, grpc: Option<bool>, flags: Flags, out: &mut dyn Emit) {
        let (Some(grpc), Some(stream)) = (grpc, self.streams.find(id)) else {
            return;
        };
        let Kind::Maybe(path) = &stream.kind else {
            return;
        };
        if !grpc {
            self.streams.settle(id, Kind::Http);
            return;
        }
        let exchange = stream.exchange;
        out.emit(Event::Rename {
            id: exchange,
            protocol: GRPC,
            operation: path,
            target: "",
        });
        let mut attrs = Attributes::new();
        attrs.push(keys::RPC_SYSTEM_NAME.of("grpc"));
        attrs.push_some(Some(keys::RPC_METHOD.of(path)).filter(|_| !path.is_empty()));
        out.emit(Event::Annotate {
            id: exchange,
            flags,
            attrs: attrs.as_slice(),
        });
        for half in [&mut stream.request, &mut stream.response] {
            // Its messages were not counted so far.
            if half.data {
                half.messages.lose();
            }
        }
        self.streams.settle(id, Kind::Grpc);
    }

    /// Takes the header of a DATA frame, and what of its payload is visible.
    pub(crate) fn data(
        &mut self,
        dir: Direction,
        frames: &Frames,
        payload: &[u8],
        len: u32,
        out: &mut dyn Emit,
    ) {
        let Some(stream) = self.streams.find(frames.stream) else {
            return;
        };
        let undecided = matches!(stream.kind, Kind::Maybe(_)) && !stream.half(dir).data;
        if undecided && grpc::looks_like_a_message(payload, len) {
            self.settle(frames.stream, Some(true), Flags::GUESSED, out);
        }
        self.add(dir, frames);
        if let Some(stream) = self.streams.find(frames.stream) {
            stream.half(dir).data = true;
        }
        if frames.end_stream {
            self.end(dir, frames, out);
        }
    }

    /// Counts frames of a stream.
    fn add(&mut self, dir: Direction, frames: &Frames) {
        if let Some(stream) = self.streams.find(frames.stream) {
            let half = stream.half(dir);
            half.at = frames.at;
            half.size = half.size.saturating_add(frames.size());
        }
    }

    /// A direction of a stream ends with these frames.
    fn end(&mut self, dir: Direction, frames: &Frames, out: &mut dyn Emit) {
        let Some(stream) = self.streams.find(frames.stream) else {
            return;
        };
        if std::mem::replace(&mut stream.half(dir).ended, true) {
            if stream.kind != Kind::Connect {
                error("frame behind END_STREAM", out);
            }
            return;
        }
        let (id, at, size) = (stream.exchange, frames.end, stream.half(dir).size);
        if dir == Direction::ToServer {
            out.emit(Event::RequestEnd { id, at, size });
        } else {
            if stream.answer != Answer::Told && !tell_late(stream, frames.at, out) {
                abandon(stream, Abandon::Lost, out);
                self.streams.remove(frames.stream);
                return;
            }
            out.emit(Event::ResponseEnd { id, at, size });
            // The request's end may have been lost, and then nothing more comes.
            if stream.request.lost && !stream.request.ended {
                abandon(stream, Abandon::Lost, out);
                self.streams.remove(frames.stream);
                return;
            }
        }
        if stream.request.ended && stream.response.ended {
            self.streams.remove(frames.stream);
        }
    }

    /// RST_STREAM: the stream is closed as it stands.
    pub(crate) fn reset(&mut self, dir: Direction, stream: u32, code: u32, out: &mut dyn Emit) {
        let Some(mut stream) = self.streams.remove(stream) else {
            return;
        };
        if !stream.response.ended {
            // A client that sees an HTTP error makes its status of that, and wants no more.
            let refused = stream.status.is_some_and(|status| status != 200);
            if stream.kind == Kind::Grpc && stream.answer == Answer::Begun && refused {
                let at = stream.response.at;
                tell_late(&mut stream, at, out);
            }
            // A client that cancels makes no error.
            if dir == Direction::ToClient {
                out.emit(Event::Annotate {
                    id: stream.exchange,
                    flags: Flags::NONE,
                    attrs: &[keys::ERROR_TYPE.of(error_name(code))],
                });
            }
        }
        let why = match dir {
            Direction::ToServer => Abandon::Cancelled,
            Direction::ToClient if stream.response.ended => Abandon::Cancelled,
            Direction::ToClient => Abandon::Failed,
        };
        abandon(&stream, why, out);
    }

    /// GOAWAY of the server: requests above `last` were not and will not be processed.
    pub(crate) fn go_away(&mut self, last: u32, out: &mut dyn Emit) {
        while let Some(id) = self.streams.newest_above(last) {
            self.reset(Direction::ToClient, id, REFUSED_STREAM, out);
        }
    }
}

/// What a request is of, as far as its headers tell.
fn classify(message: &Message) -> Kind {
    match (message.text(Field::Method), message.is_grpc()) {
        (Some("CONNECT"), _) => Kind::Connect,
        // gRPC is always POST, which no encoder puts into the dynamic table.
        (Some("POST"), Some(true)) => Kind::Grpc,
        (Some("POST"), Some(false)) => Kind::Http,
        (Some("POST"), None) => Kind::Maybe(method_of(message).into()),
        (None, _) if message.unknown == 0 => Kind::Maybe(method_of(message).into()),
        _ => Kind::Http,
    }
}

/// The gRPC method that a request calls.
fn method_of(message: &Message) -> &str {
    let path = message.text(Field::Path).unwrap_or_default();
    // Paths of calls have no query; whatever it is, it does not name the method.
    let path = path.split(['?', '#']).next().unwrap_or_default();
    path.strip_prefix('/').unwrap_or(path)
}

/// Closes an exchange as it stands.
fn abandon(stream: &Stream, why: Abandon, out: &mut dyn Emit) {
    tell_progress(stream, out);
    out.emit(Event::Abandon {
        id: stream.exchange,
        why,
    });
}

fn error(what: &'static str, out: &mut dyn Emit) {
    out.emit(Event::Error {
        error: ParseError::malformed(what),
    });
}

/// The error code of requests that were not processed (RFC 9113 §7).
const REFUSED_STREAM: u32 = 7;
