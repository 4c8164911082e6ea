//! What a parser reports.

use core::fmt;

use crate::{Attr, ParseError, ProtocolName, TraceContext};

/// Receives the events of one parser call. Borrowed data lives until `emit` returns.
pub trait Emit {
    /// Takes one event.
    fn emit(&mut self, event: Event<'_>);
}

/// Identifies an exchange within a connection: a running number, an HTTP/2 stream, a tag.
///
/// Rising within a connection: a request that begins later has a higher id. An id is not used again.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ExchangeId(pub u64);

/// Something a parser saw. All `at` fields are stream offsets in the direction being parsed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A request began at `at`; opens the exchange. From the client, or from a server that refuses
    /// before it was asked.
    Request {
        /// The exchange that opens.
        id: ExchangeId,
        /// Offset of the request's first byte.
        at: u64,
        /// What is known of it.
        request: Request<'a>,
    },
    /// A message began at `at` that will be reported later, when more of it is known. The engine
    /// remembers the time of consumed bytes only if it is told so; without it the message would
    /// have no time.
    Mark {
        /// Offset of the message's first byte, to be named again by the event that reports it.
        at: u64,
    },
    /// The request's last byte is just before `at`, which may lie ahead of the bytes seen so far.
    RequestEnd {
        /// The exchange.
        id: ExchangeId,
        /// Offset behind the request's last byte.
        at: u64,
        /// Bytes of the request on the wire, framing included, lost bytes counted.
        size: u64,
    },
    /// A response began at `at` whose status comes later, at its end (gRPC). [`Event::Response`]
    /// follows where the status is seen.
    ResponseStart {
        /// The exchange.
        id: ExchangeId,
        /// Offset of the response's first byte.
        at: u64,
    },
    /// A response began at `at` (the final one: interim responses are not reported).
    Response {
        /// The exchange.
        id: ExchangeId,
        /// Offset of the response's first byte; where [`Event::ResponseStart`] told it, that counts.
        at: u64,
        /// What is known of it.
        response: Response<'a>,
    },
    /// The response's last byte is just before `at`, which may lie ahead; closes the exchange.
    ResponseEnd {
        /// The exchange.
        id: ExchangeId,
        /// Offset behind the response's last byte.
        at: u64,
        /// Bytes of the response on the wire, framing included, lost bytes counted.
        size: u64,
    },
    /// More about an open exchange, learnt after its request or response was reported.
    Annotate {
        /// The exchange.
        id: ExchangeId,
        /// Added to its flags.
        flags: Flags,
        /// Added to its attributes.
        attrs: &'a [Attr<'a>],
    },
    /// An open exchange turned out to be something else than its request alone could tell: gRPC, of
    /// which a connection joined in the middle shows only the body.
    Rename {
        /// The exchange.
        id: ExchangeId,
        /// In place of [`Request::protocol`].
        protocol: ProtocolName,
        /// In place of [`Request::operation`].
        operation: &'a str,
        /// In place of [`Request::target`].
        target: &'a str,
    },
    /// How far an open exchange has come. Before an [`Event::Abandon`] it becomes part of the
    /// exchange; in answer to [`Parser::progress`](crate::Parser::progress) it is shown and forgotten.
    ///
    /// Without it, a message that has not ended counts from its first byte to where its direction
    /// has been read: right, unless the messages of several exchanges interleave.
    Progress {
        /// The exchange.
        id: ExchangeId,
        /// Bytes of the request so far, as [`Event::RequestEnd`] counts them.
        request_bytes: u64,
        /// Bytes of the response so far, as [`Event::ResponseEnd`] counts them.
        response_bytes: u64,
        /// Attributes that are otherwise told at the end, such as numbers of messages.
        attrs: &'a [Attr<'a>],
    },
    /// No (further) response can be attributed to this exchange; closes it as it stands.
    Abandon {
        /// The exchange.
        id: ExchangeId,
        /// Why.
        why: Abandon,
    },
    /// A response to a request that nobody saw: counted, never paired.
    Orphan {
        /// Offset of the response's first byte.
        at: u64,
    },
    /// A message that no request asked for: pub/sub push, `NOTIFY`, WebSocket message.
    Push {
        /// Offset of the message's first byte.
        at: u64,
        /// What it is, such as `message`. A literal.
        kind: &'static str,
    },
    /// Something that cannot be known or is worth counting, such as `unknown HPACK entries`.
    Count {
        /// What is counted. A literal.
        what: &'static str,
        /// How many more of them.
        n: u64,
    },
    /// An error that did not cost the place in the stream: it is counted, and parsing goes on.
    Error {
        /// What was wrong.
        error: ParseError,
    },
    /// A fact about the connection, added to the exchanges that begin from now on: database, user.
    /// A later fact replaces an earlier one with the same key.
    Session {
        /// The facts.
        attrs: &'a [Attr<'a>],
    },
}

/// What [`Event::Request`] tells.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Protocol of the record: the parser's own name, or a nearer one (`grpc` on HTTP/2).
    pub protocol: ProtocolName,
    /// What was asked: `GET`, `SELECT`, `pkg.Service/Method`. Empty where it cannot be known.
    pub operation: &'a str,
    /// On what: path and query, statement text, key. Redacted as [`Init`](crate::Init) says.
    /// The engine cuts it at 4,096 bytes.
    pub target: &'a str,
    /// The trace context that the request carried, if any.
    pub trace: Option<TraceContext<'a>>,
    /// What the parser knows to be unusual.
    pub flags: Flags,
    /// Attributes.
    pub attrs: &'a [Attr<'a>],
}

/// What [`Event::Response`] tells.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status as records.md writes it: `200`, `OK`, `1062`, `WRONGTYPE`.
    pub status: &'a str,
    /// What it means for the RED metrics.
    pub outcome: Outcome,
    /// What the parser knows to be unusual.
    pub flags: Flags,
    /// Attributes.
    pub attrs: &'a [Attr<'a>],
}

/// Outcome of an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Succeeded.
    Ok,
    /// Failed through the client's fault: an error for the client only (HTTP 4xx).
    ClientFault,
    /// Failed: an error seen from the server's side too (HTTP 5xx, any SQL or Redis error).
    Error,
}

/// Why an exchange closes without (the rest of) its response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Abandon {
    /// Bytes were lost, and nobody can tell which response is its own.
    Lost,
    /// The client took the request back, or went away.
    Cancelled,
    /// The server broke the exchange off: an error, whatever status it had announced.
    Failed,
    /// The protocol gives no response to this request (`CLIENT REPLY OFF`).
    OneWay,
}

/// Flags of a record: a small set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The connection's beginning was not captured.
    pub const MIDSTREAM: Self = Self(1);
    /// Lost bytes touched the exchange, or made its times unknowable.
    pub const GAP: Self = Self(1 << 1);
    /// A text was cut, or the message ended before its announced length.
    pub const TRUNCATED: Self = Self(1 << 2);
    /// No response was seen.
    pub const NO_RESPONSE: Self = Self(1 << 3);
    /// The bytes allow more than one reading (HTTP smuggling shapes); ours is documented.
    pub const AMBIGUOUS: Self = Self(1 << 4);
    /// Something was inferred rather than seen.
    pub const GUESSED: Self = Self(1 << 5);
    /// Seen through a TLS library.
    pub const TLS: Self = Self(1 << 6);
    /// A stream that is reported while it is open, or was.
    pub const STREAMING: Self = Self(1 << 7);

    const NAMES: [(Self, &'static str); 8] = [
        (Self::MIDSTREAM, "midstream"),
        (Self::GAP, "gap"),
        (Self::TRUNCATED, "truncated"),
        (Self::NO_RESPONSE, "no_response"),
        (Self::AMBIGUOUS, "ambiguous"),
        (Self::GUESSED, "guessed"),
        (Self::TLS, "tls"),
        (Self::STREAMING, "streaming"),
    ];

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are in this set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names of the flags in the set, in the order of the record format.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .iter()
            .filter(move |(flag, _)| self.has(*flag))
            .map(|(_, name)| *name)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}
