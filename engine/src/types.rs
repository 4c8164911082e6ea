//! What goes into the engine and what comes out of it.

use std::num::NonZeroU32;

use wirespan_parser_api::{
    Direction, ErrorKind, Flags, Outcome, Policy, ProtocolName, TraceContext,
};

use crate::address::Address;
use crate::both::Both;
use crate::handshake::Handshake;
use crate::text::Attrs;

/// A moment: nanoseconds since 1970-01-01T00:00:00Z on the capturing machine's clock.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Nanoseconds from `earlier` to `self`; zero when the clock went backwards.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names an open connection of the engines of a run. Used again after the connection is closed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ConnectionId {
    /// [`Config::number`].
    pub(crate) engine: u16,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// How a connection is introduced to the engine.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Number of the connection, unique over all engines of a run, and rising in order of first sight
    /// over each of them. Breaks ties in the order of the output.
    pub number: u64,
    /// The peer that opened the connection, as far as is known.
    pub client: Address,
    /// The peer that accepted it, as far as is known.
    pub server: Address,
    /// Whether `client` and `server` are known (from a handshake) or assumed (from ports). An
    /// assumption gives way to what detection finds.
    pub roles: Roles,
    /// Whether the connection's first bytes will be seen.
    pub start: Start,
    /// Whose socket was observed.
    pub side: Side,
    /// Where its bytes were seen.
    pub layer: Layer,
    /// Whose socket it is, where that is known.
    pub process: Option<Process>,
}

/// Whether the roles of the peers are known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Roles {
    /// From the handshake.
    Known,
    /// From the ports, or from who spoke first.
    Assumed,
}

/// Whether a connection is observed from its beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Start {
    /// Both streams begin at offset 0.
    Beginning,
    /// Joined in the middle: each stream begins where its source first says so
    /// ([`Engine::anchor`](crate::Engine::anchor)); flag `midstream`.
    Middle,
}

/// Whose socket was observed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// The client's socket.
    Client,
    /// The server's socket.
    Server,
    /// The wire between them: a capture file that others made.
    Wire,
}

impl Side {
    /// The side of the peer.
    pub(crate) const fn reverse(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
            Self::Wire => Self::Wire,
        }
    }

    /// As the record format writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Wire => "wire",
        }
    }
}

/// Where the bytes of a connection were seen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Layer {
    /// As they were sent: at a socket, on the wire.
    #[default]
    Transport,
    /// In the clear, at a TLS library; flag `tls`.
    Tls,
}

/// The process that owns an observed socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Process {
    /// Its number in the initial pid namespace.
    pub pid: u32,
    name: [u8; 16],
}

impl Process {
    /// A process with the name that the kernel gives it: `comm`, at most 16 bytes, padded with
    /// zeros. What is longer is cut.
    #[must_use]
    pub fn new(pid: u32, comm: &[u8]) -> Self {
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(comm) {
            *to = *from;
        }
        Self { pid, name }
    }

    /// Its name, up to the first byte that is zero or no UTF-8: a process may call itself anything.
    #[must_use]
    pub fn name(&self) -> &str {
        let text = self.name.utf8_chunks().next();
        let text = text.map_or("", |chunk| chunk.valid());
        text.split('\0').next().unwrap_or_default()
    }
}

/// What of a process moved bytes: a thread, or a goroutine of a program in Go. Of one process, equal
/// ones are the same as long as it lives; numbers may be used again later.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Task(NonZeroU32);

impl Task {
    /// Bit by which goroutines are told from threads.
    pub const GOROUTINE: u32 = 1 << 31;

    /// A thread by its number in the initial pid namespace; a goroutine by the low 31 bits of its
    /// number and [`Task::GOROUTINE`]. `None` for zero, which is nobody.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number that it was made of.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0.get()
    }

    /// Whether it is a goroutine.
    #[must_use]
    pub const fn is_goroutine(self) -> bool {
        self.number() & Self::GOROUTINE != 0
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Close {
    /// Both streams ended in order.
    Finished,
    /// Reset by a peer.
    Reset,
    /// Nothing was seen for a long time.
    Idle,
    /// The source's own end: end of the capture file, the agent stops.
    SourceEnded,
    /// A new connection took the same addresses.
    Replaced,
    /// Made room for another.
    Evicted,
}

/// Receives what the engine finds. Called in order of completion within a connection.
pub trait Sink {
    /// Takes a request that was read, as far as it is known, before anything that the same task does
    /// next. Only of those whose [`Exchange::task`] is known; each comes again as a finished exchange.
    fn begun(&mut self, _request: &Exchange<'_>) {}

    /// Takes one finished exchange.
    fn exchange(&mut self, exchange: &Exchange<'_>);

    /// Takes a report of an exchange that is still open: [`Exchange::open`] says for how long. It
    /// is counted nowhere, and comes again as a finished exchange.
    fn progress(&mut self, _exchange: &Exchange<'_>) {}

    /// Takes the news that a connection was closed, after its last exchange.
    fn closed(&mut self, _connection: &Closed<'_>) {}
}

/// Nobody takes anything.
impl Sink for () {
    fn exchange(&mut self, _: &Exchange<'_>) {}
}

/// One request with its response, as far as they were seen.
#[derive(Debug)]
pub struct Exchange<'a> {
    /// [`Opening::number`] of the connection.
    pub connection: u64,
    /// The peer that asked.
    pub client: Address,
    /// The peer that answered.
    pub server: Address,
    /// Whose socket was observed.
    pub side: Side,
    /// Whose socket it is, where that is known.
    pub process: Option<Process>,
    /// What of that process moved the bytes with which the request could be read, where that is
    /// known.
    pub task: Option<Task>,
    /// What of it moved those with which the response began.
    pub answered_by: Option<Task>,
    /// Protocol of the record.
    pub protocol: ProtocolName,
    /// See records.md; empty where it cannot be known.
    pub operation: &'a str,
    /// See records.md; at most 4,096 bytes.
    pub target: &'a str,
    /// See records.md; empty when no response was seen.
    pub status: &'a str,
    /// Outcome by the response; `None` when no response was seen.
    pub outcome: Option<Outcome>,
    /// Stream offset of the request's first byte: with `connection`, names the exchange.
    pub offset: u64,
    /// The same as both ends of the connection count it: from where the layer that is read began,
    /// however much of what carries it was seen at one end.
    pub flow_offset: u64,
    /// When the request's first byte was captured.
    pub start: Nanos,
    /// In a report of an exchange that is still open: for how long, in nanoseconds.
    pub open: Option<u64>,
    /// First byte of the request to last byte of the response, in nanoseconds; `None` without a
    /// whole response or after a gap.
    pub duration: Option<u64>,
    /// Last byte of the request to first byte of the response, in nanoseconds.
    pub ttfb: Option<u64>,
    /// Bytes of the request on the wire.
    pub request_bytes: u64,
    /// Bytes of the response on the wire.
    pub response_bytes: u64,
    /// The trace context that the request carried.
    pub trace: Option<TraceContext<'a>>,
    /// Flags.
    pub flags: Flags,
    /// Attributes: session attributes first, then in the order in which the parser gave them.
    pub attrs: Attrs<'a>,
}

impl Exchange<'_> {
    /// Whether it counts as an error from the server's side; true without a response, unless it is
    /// still open.
    #[must_use]
    pub fn error(&self) -> bool {
        match self.outcome {
            Some(outcome) => outcome == Outcome::Error,
            None => self.open.is_none(),
        }
    }
}

/// A connection that was closed, and what became of it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Closed<'a> {
    /// The client's address, as far as is known.
    pub client: Address,
    /// The server's address, as far as is known.
    pub server: Address,
    /// Whose socket was observed.
    pub side: Side,
    /// Whose socket it was last, where that is known.
    pub process: Option<&'a Process>,
    /// The flags that all its exchanges have.
    pub flags: Flags,
    /// Its protocol, the last one after upgrades; `opaque` if none was found.
    pub protocol: &'static str,
    /// Why its bytes were only counted at last; `None` if they were read.
    pub opaque: Option<&'static str>,
    /// Its TLS handshake, if that was seen.
    pub handshake: Option<&'a Handshake>,
    /// The last message that could not be read.
    pub unread: Option<Unread>,
    /// Exchanges that were completed.
    pub exchanges: u64,
    /// Bytes of its streams.
    pub bytes: Both<u64>,
}

/// A message that a parser could not read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unread {
    /// What kind of error it was.
    pub kind: ErrorKind,
    /// What was being read.
    pub what: &'static str,
    /// The direction.
    pub dir: Direction,
    /// Where in its stream.
    pub offset: u64,
}

/// Bounds and policies of one engine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What may leave the parsers as text.
    pub policy: Policy,
    /// Bytes that one connection may hold, over all its buffers and tables. Beyond, its oldest open
    /// exchanges are reported as they are, and then it turns opaque.
    pub connection_bytes: usize,
    /// Bytes that the engine may hold, over all connections. Beyond, the largest give way.
    pub engine_bytes: usize,
    /// Requests that one connection may have open at once. Beyond, the oldest is reported as it is.
    pub max_open: usize,
    /// Connections open at once. Beyond, the ones that were idle longest are closed.
    pub max_connections: usize,
    /// How long a hole may wait for its bytes, in nanoseconds of capture time.
    pub hole_wait: u64,
    /// How many bytes may pile up behind a hole before it is declared lost.
    pub hole_bytes: usize,
    /// How long a hole may wait for its bytes once their receiver has acknowledged them, in
    /// nanoseconds of capture time: captures shuffle packets by less.
    pub acked_wait: u64,
    /// How long a request may wait for its response before it is reported as unanswered, in
    /// nanoseconds of capture time. A message that is under way may take longer, as long as it moves
    /// once in this time.
    pub request_wait: u64,
    /// After how long, and then how often, an open exchange is given to [`Sink::progress`], in
    /// nanoseconds of capture time, to the next multiple of [`TICK`]. `None`: never.
    pub report_open: Option<u64>,
    /// Number of the engine among those of a run whose connections must be told apart by their ids.
    pub number: u16,
}

/// Nanoseconds of capture time between two calls of [`Engine::tick`](crate::Engine::tick).
pub const TICK: u64 = 250_000_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::default(),
            connection_bytes: 16 << 20,
            engine_bytes: 32 << 20,
            max_open: 16 * 1024,
            max_connections: 64 * 1024,
            hole_wait: 2_000_000_000,
            hole_bytes: 1 << 20,
            acked_wait: 50_000_000,
            request_wait: 600_000_000_000,
            report_open: None,
            number: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_the_part_of_its_name_that_is_text() {
        let named = |comm: &[u8]| Process::new(1, comm).name().to_owned();
        assert_eq!(named(b"nginx\0\0\0junk"), "nginx");
        assert_eq!(named(b"exactly sixteen!"), "exactly sixteen!");
        assert_eq!(named(b"much more than sixteen"), "much more than s");
        assert_eq!(named("fünfzehn Zeichen".as_bytes()), "fünfzehn Zeiche");
        assert_eq!(named(b"caf\xc3"), "caf", "a character that was cut");
        assert_eq!(named(b"\xff"), "");
        assert_eq!(named(b""), "");
    }
}
