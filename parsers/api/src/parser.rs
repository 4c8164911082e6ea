//! The traits, and what passes between the engine and a parser besides events.

use alloc::boxed::Box;
use core::fmt;

use crate::{Emit, ExchangeId, Policy, secrets};

/// Name of a protocol, stable across releases; appears in records, metrics and configuration.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProtocolName(pub &'static str);

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A wire protocol that the engine can detect and parse. Stateless: one instance per process.
pub trait Protocol: Send + Sync + 'static {
    /// The name, such as `redis`. Unique within a registry.
    fn name(&self) -> ProtocolName;

    /// One line for people: what it covers, such as `Redis: RESP2, RESP3, inline commands`.
    fn description(&self) -> &'static str;

    /// The protocols that its exchanges are recorded under, where these are not its own name alone.
    fn recorded_as(&self) -> &[ProtocolName] {
        &[]
    }

    /// Server ports on which this protocol is usual. A hint that breaks ties, never proof.
    fn ports(&self) -> &[u16] {
        &[]
    }

    /// Decides whether `head` could be this protocol.
    ///
    /// Must be monotonic: once a prefix yields [`Probe::Accept`] or [`Probe::Reject`], every longer
    /// prefix yields the same verdict. The engine relies on it and the test kit checks it.
    fn probe(&self, head: &ProbeInput<'_>) -> Probe;

    /// Creates the per-connection state. Called once per connection, or once per upgrade.
    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser>;
}

/// Per-connection parsing state; sees both directions, in capture order.
pub trait Parser: Send {
    /// Consumes a message, or one step of a long one, from `input`; or several short messages.
    ///
    /// The engine loops. `input.bytes` starts where the last [`Step`] in this direction left off.
    ///
    /// # Errors
    ///
    /// An error means the bytes cannot be this protocol here. The engine counts it, drops one byte,
    /// calls [`gap`](Self::gap) for it and then [`resync`](Self::resync). Too few bytes is not an error: return [`Next::Need`].
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError>;

    /// Tells the parser that `gap.len` bytes were lost and will never arrive; or that they went by
    /// unread, because the parser failed on them or because [`resync`](Self::resync) passed them
    /// over. In the second case the engine resynchronises whatever the answer, unless it is `Stop`.
    ///
    /// Not called for a gap that lies wholly inside a [`Next::Skip`]: lost body bytes cost nothing.
    /// Nor for what the first resync of a late attach passes over.
    fn gap(&mut self, _dir: Direction, _gap: Gap<'_>, _out: &mut dyn Emit) -> AfterGap {
        AfterGap::Stop
    }

    /// Finds where a message could start in `window`: after a gap, an error, or a late attach.
    ///
    /// `Some(0)` is a fine answer: the window may begin at a boundary. A cheap filter; the engine
    /// confirms a candidate by parsing it, and asks again behind it on failure. On `None` the
    /// engine drops all but the last 64 bytes and asks again
    /// with more.
    fn resync(&mut self, _dir: Direction, _window: &[u8]) -> Option<usize> {
        None
    }

    /// Tells the parser that `dir` ended at `offset`, cleanly or not. No call for `dir` follows.
    fn end(&mut self, _dir: Direction, _offset: u64, _out: &mut dyn Emit) {}

    /// Something else may leave the parser as text from now on. One that lets out only what
    /// [`Redaction::On`] does need not listen, unless it is told [`Redaction::Full`].
    fn set_policy(&mut self, _policy: &Policy) {}

    /// Tells how far an open exchange has come, with at most one [`Event::Progress`](crate::Event::Progress).
    ///
    /// Called when an exchange is reported while it is open, or closed by the engine before its end.
    /// For protocols whose messages interleave, or that keep counts until the end; the default
    /// leaves the counting of bytes to the engine.
    fn progress(&self, _id: ExchangeId, _out: &mut dyn Emit) {}

    /// Heap bytes owned by this parser, for the engine's memory budget. Need not be exact.
    fn heap_bytes(&self) -> usize;
}

/// Which peer the bytes travel to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// From client to server: requests, usually.
    ToServer,
    /// From server to client: responses, usually.
    ToClient,
}

impl Direction {
    /// The other one.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::ToServer => Self::ToClient,
            Self::ToClient => Self::ToServer,
        }
    }

    /// Who speaks in this direction.
    #[must_use]
    pub const fn speaker(self) -> Speaker {
        match self {
            Self::ToServer => Speaker::Client,
            Self::ToClient => Speaker::Server,
        }
    }
}

/// Contiguous bytes of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The bytes. Never empty.
    pub bytes: &'a [u8],
    /// Stream offset of the first of `bytes`: a position in this direction of the connection. Only
    /// differences mean anything.
    pub offset: u64,
}

/// What [`Parser::parse`] did, and what it wants next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use]
pub struct Step {
    /// Bytes of `input.bytes` that are done with. At most `input.bytes.len()`.
    pub consumed: usize,
    /// What to do after `consumed`.
    pub next: Next,
}

impl Step {
    /// Done with `consumed` bytes (at least one); call again as soon as there is a byte.
    pub const fn more(consumed: usize) -> Self {
        Self {
            consumed,
            next: Next::More,
        }
    }

    /// Nothing consumed; call again when `total` bytes are visible.
    pub const fn need(total: usize) -> Self {
        Self {
            consumed: 0,
            next: Next::Need(total),
        }
    }
}

/// What the engine does after a [`Step`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Next {
    /// Call again as soon as there is a byte. Requires `consumed > 0`.
    More,
    /// Call again once this many bytes are visible after `consumed`. At least one more than now.
    ///
    /// With `consumed == 0` it promises that the parser's state did not change. Above
    /// [`Limits::max_message`] the engine reports an error on the parser's behalf.
    Need(usize),
    /// Drop this many bytes after `consumed`, unseen and unbuffered. Gaps inside are harmless.
    Skip(u64),
    /// Drop the rest of this direction. The other direction goes on.
    SkipToEnd,
    /// Hold this direction until the other one makes a step: what follows depends on the answer
    /// (HTTP `Upgrade` and CONNECT, Postgres `SSLRequest`).
    Wait,
    /// The connection changes protocol after `consumed`.
    Upgrade(Upgrade),
    /// Nothing more can be learnt from this connection.
    Stop,
}

/// A change of protocol inside a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Upgrade {
    /// Both directions continue as the named protocol (HTTP/1.1 101, h2c). Opaque if unknown.
    To(ProtocolName),
    /// Both directions continue as TLS. This same parser is resumed on the cleartext if a TLS probe
    /// supplies it (Postgres `SSLRequest`, MySQL `CLIENT_SSL`); else the connection turns opaque.
    Tls,
    /// Both directions continue as something to be detected afresh (HTTP CONNECT).
    Detect,
}

/// What to do after a gap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum AfterGap {
    /// The parser knows where it is: the next byte after the gap is where it wants to read.
    Continue,
    /// Look for a message boundary with [`Parser::resync`].
    Resync,
    /// Give up on the connection.
    Stop,
}

/// Bytes that were lost, or that went by unread. The length is always known: capture counts bytes
/// that it does not deliver.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Gap<'a> {
    /// Stream offset of the first of them.
    pub offset: u64,
    /// Their number.
    pub len: u64,
    /// The bytes before the gap that the parser was shown and did not consume: the beginning of a
    /// message whose rest is lost. They end at `offset`, and are not shown again.
    pub unread: &'a [u8],
}

impl<'a> Gap<'a> {
    /// A gap of `len` bytes from `offset` on, behind these unread ones. Made by whoever drives a parser.
    #[must_use]
    pub const fn new(offset: u64, len: u64, unread: &'a [u8]) -> Self {
        Self {
            offset,
            len,
            unread,
        }
    }
}

/// The first bytes of one direction, shown to every registered [`Protocol`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ProbeInput<'a> {
    /// Bytes seen so far in one direction. Never empty.
    pub bytes: &'a [u8],
    /// Who is known to have sent `bytes` (the opening handshake was seen); else `None`.
    pub speaker: Option<Speaker>,
    /// Whether `bytes` begins with the first byte of the connection, as opposed to a late attach.
    pub at_start: bool,
    /// Server port, if known.
    pub server_port: Option<u16>,
}

impl<'a> ProbeInput<'a> {
    /// The first bytes of a connection of which nothing else is known. Made by whoever asks a
    /// protocol, and changed to what it knows.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            speaker: None,
            at_start: true,
            server_port: None,
        }
    }
}

/// Verdict of [`Protocol::probe`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Probe {
    /// Not this protocol.
    Reject,
    /// Consistent so far; ask again when this many bytes are visible, or when the peer speaks.
    NeedMore(usize),
    /// This protocol, this surely, spoken by this side.
    Accept(Confidence, Speaker),
}

/// How sure a probe is. The engine takes the highest; equals are settled by port, then by order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Confidence {
    /// Fits, but random bytes fit about one time in 2^8 or more. Needs the peer's bytes to agree,
    /// or the protocol's usual port.
    Weak,
    /// Several independent fields fit; random bytes fit less than one time in 2^24.
    Strong,
    /// A magic string of eight bytes or more. Ends detection at once.
    Certain,
}

/// The peer that sent some bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Speaker {
    /// The peer that sends requests.
    Client,
    /// The peer that answers them.
    Server,
}

/// What a new parser may know about its connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Init<'a> {
    /// Whether the connection's first bytes were missed. The engine then begins with
    /// [`Parser::resync`] in both directions.
    pub late_attach: bool,
    /// Bounds that the parser must keep.
    pub limits: &'a Limits,
    /// What may leave the parser as text.
    pub policy: &'a Policy,
}

impl<'a> Init<'a> {
    /// A connection from its first byte on, with redaction. Made by whoever drives a parser, and
    /// changed to what holds.
    #[must_use]
    pub const fn new(limits: &'a Limits) -> Self {
        Self {
            late_attach: false,
            limits,
            policy: &secrets::DEFAULT,
        }
    }
}

/// Whether literals and values may leave a parser. Credentials never do. What a parser does not know
/// is to it as [`Redaction::On`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub enum Redaction {
    /// Literals become `?`, values never appear.
    #[default]
    On,
    /// Statements and targets as sent, credentials excepted.
    Off,
    /// No text of statements at all, nor of keys; of URLs no value of any parameter.
    Full,
}

/// Bounds on what a parser may hold.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes a parser may ask to see at once with [`Next::Need`].
    pub max_message: usize,
    /// Most requests awaiting a response for which a parser keeps state of its own.
    pub max_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 64 * 1024,
            max_in_flight: 16 * 1024,
        }
    }
}

/// Why bytes could not be parsed. Cheap to make, and usable as a metric label as it stands.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ParseError {
    /// What was wrong.
    pub kind: ErrorKind,
    /// What was being read, such as `bulk length`. A literal: never data from the wire.
    pub what: &'static str,
}

impl ParseError {
    /// The bytes break the protocol.
    pub const fn malformed(what: &'static str) -> Self {
        Self {
            kind: ErrorKind::Malformed,
            what,
        }
    }

    /// A limit would be passed.
    pub const fn too_large(what: &'static str) -> Self {
        Self {
            kind: ErrorKind::TooLarge,
            what,
        }
    }
}

/// Class of a [`ParseError`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bytes break the protocol, or we are out of step with it.
    Malformed,
    /// A limit in [`Limits`] would be passed.
    TooLarge,
    /// Legal, but not supported by this parser.
    Unsupported,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::TooLarge => "too large",
            Self::Unsupported => "unsupported",
        })
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)
    }
}

impl core::error::Error for ParseError {}
