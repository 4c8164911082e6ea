//! Plays a conversation to an engine, and writes down what it says.

use std::net::Ipv4Addr;
use std::sync::Arc;

use wirespan_engine::{
    Address, Close, Config, ConnectionId, Engine, Exchange, Layer, Nanos, Opening, Registry, Roles,
    Side, Sink, Start, Stats,
};
use wirespan_parser_api::{Direction, Flags, Outcome, Protocol};

use crate::{Chunk, Fixture};

/// An exchange as the engine reported it, with everything owned.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Seen {
    /// Stream offset of the request's first byte.
    pub offset: u64,
    /// The peer that asked.
    pub client: Address,
    /// The peer that answered.
    pub server: Address,
    /// Protocol of the record.
    pub protocol: &'static str,
    /// What was asked.
    pub operation: String,
    /// On what.
    pub target: String,
    /// Empty without a response.
    pub status: String,
    /// By the response.
    pub outcome: Option<Outcome>,
    /// When the request's first byte was captured.
    pub start: Nanos,
    /// Nanoseconds from the request's first to the response's last byte.
    pub duration: Option<u64>,
    /// Nanoseconds from the request's last to the response's first byte.
    pub ttfb: Option<u64>,
    /// Bytes of the request.
    pub request_bytes: u64,
    /// Bytes of the response.
    pub response_bytes: u64,
    /// The trace context, as text.
    pub trace: Option<String>,
    /// Flags.
    pub flags: Flags,
    /// Attributes, as text.
    pub attrs: Vec<String>,
}

impl From<&Exchange<'_>> for Seen {
    fn from(exchange: &Exchange<'_>) -> Self {
        Self {
            offset: exchange.offset,
            client: exchange.client,
            server: exchange.server,
            protocol: exchange.protocol.0,
            operation: exchange.operation.into(),
            target: exchange.target.into(),
            status: exchange.status.into(),
            outcome: exchange.outcome,
            start: exchange.start,
            duration: exchange.duration,
            ttfb: exchange.ttfb,
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
            trace: exchange.trace.map(|trace| format!("{trace:?}")),
            flags: exchange.flags,
            attrs: exchange
                .attrs
                .iter()
                .map(|attr| format!("{attr:?}"))
                .collect(),
        }
    }
}

/// What came out of one run of an engine.
#[derive(Clone, Debug)]
pub struct Run {
    /// The exchanges, in the order in which they were reported.
    pub seen: Vec<Seen>,
    /// The engine's own account.
    pub stats: Stats,
}

impl Run {
    /// Plays a conversation from its beginning.
    ///
    /// # Panics
    ///
    /// When the parser panics or breaks the contract.
    #[must_use]
    pub fn of(protocol: impl Protocol, fixture: &Fixture) -> Self {
        Stage::new(protocol).play(&arrivals(&pieces(fixture)))
    }

    /// Plays a conversation as one that is joined in its middle.
    ///
    /// # Panics
    ///
    /// When the parser panics or breaks the contract.
    #[must_use]
    pub fn of_late(protocol: impl Protocol, fixture: &Fixture) -> Self {
        Stage::new(protocol).play_late(&arrivals(&pieces(fixture)))
    }
}

/// Writes down what it is told.
#[derive(Debug, Default)]
pub(crate) struct Witness(pub(crate) Vec<Seen>);

impl Sink for Witness {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        self.0.push(exchange.into());
    }
}

/// Something that happens to a connection.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// Bytes arrive.
    Arrive(Piece),
    /// Bytes are known never to arrive.
    Lose(Piece),
}

/// All pieces arrive.
pub(crate) fn arrivals(pieces: &[Piece]) -> Vec<Happening> {
    pieces.iter().cloned().map(Happening::Arrive).collect()
}

/// Part of a chunk.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) dir: Direction,
    pub(crate) offset: u64,
    pub(crate) time: Nanos,
    /// Bytes of the other direction that its sender has got.
    pub(crate) acked: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Piece {
    /// The two parts before and after `at` bytes.
    pub(crate) fn split(&self, at: usize) -> (Self, Self) {
        let at = at.min(self.bytes.len());
        let (before, after) = self.bytes.split_at(at);
        let part = |bytes: &[u8], skip: usize| Self {
            dir: self.dir,
            offset: self.offset + skip as u64,
            time: self.time,
            acked: self.acked,
            bytes: bytes.to_vec(),
        };
        (part(before, 0), part(after, at))
    }
}

/// A fixture's chunks with their stream offsets.
pub(crate) fn pieces(fixture: &Fixture) -> Vec<Piece> {
    let mut next = [0u64; 2];
    let piece = |chunk: &Chunk| {
        let this = usize::from(chunk.dir == Direction::ToClient);
        let offset = next[this];
        next[this] += chunk.bytes.len() as u64;
        Piece {
            dir: chunk.dir,
            offset,
            time: chunk.time,
            acked: next[1 - this],
            bytes: chunk.bytes.clone(),
        }
    };
    fixture.chunks().iter().map(piece).collect()
}

/// A stage for one protocol: plays happenings to a fresh engine each time.
pub(crate) struct Stage {
    registry: Arc<Registry>,
    port: u16,
    /// Whether the engine is told what the sender of a piece has got, as TCP does.
    acks: bool,
}

impl Stage {
    pub(crate) fn new(protocol: impl Protocol) -> Self {
        let port = protocol.ports().first().copied().unwrap_or(9);
        // One protocol has no name in common with another.
        let registry = Registry::builder().with(protocol).build();
        Self {
            registry: Arc::new(registry.unwrap_or_else(|error| panic!("{error}"))),
            port,
            acks: false,
        }
    }

    /// The same, with acknowledgements.
    pub(crate) fn with_acks(self) -> Self {
        Self { acks: true, ..self }
    }

    pub(crate) fn protocol(&self) -> &dyn Protocol {
        let only = self.registry.protocols().next();
        only.unwrap_or_else(|| unreachable!("a stage has a protocol"))
    }

    /// The connection from its first byte.
    pub(crate) fn play(&self, happenings: &[Happening]) -> Run {
        self.play_from(Start::Beginning, happenings)
    }

    /// The connection as it is seen from somewhere in its middle: `happenings` are what is left.
    pub(crate) fn play_late(&self, happenings: &[Happening]) -> Run {
        self.play_from(Start::Middle, happenings)
    }

    fn play_from(&self, start: Start, happenings: &[Happening]) -> Run {
        let mut engine = Engine::new(Arc::clone(&self.registry), Config::default());
        let mut seen = Witness::default();
        let times = happenings.iter().map(|happening| match happening {
            Happening::Arrive(piece) | Happening::Lose(piece) => piece.time,
        });
        let last = times.clone().max().unwrap_or_default();
        let first = times.min().unwrap_or_default();
        let opening = opening(self.port, start, Roles::Known);
        let id = engine.open(&opening, first, &mut seen);
        if start == Start::Middle {
            anchor(&mut engine, id, happenings, &mut seen);
        }
        for happening in happenings {
            match happening {
                Happening::Arrive(p) => {
                    if self.acks {
                        engine.acked(id, p.dir.reverse(), p.acked, p.time, &mut seen);
                    }
                    engine.chunk(id, p.dir, p.offset, &p.bytes, p.time, &mut seen);
                }
                Happening::Lose(p) => {
                    let len = p.bytes.len() as u64;
                    engine.lost(id, p.dir, p.offset, len, p.time, &mut seen);
                }
            }
        }
        engine.close(id, Close::Finished, last, &mut seen);
        engine.finish(last, &mut seen);
        Run {
            seen: seen.0,
            stats: engine.stats(),
        }
    }
}

/// Says where each stream begins: at its lowest offset.
fn anchor(engine: &mut Engine, id: ConnectionId, happenings: &[Happening], seen: &mut Witness) {
    for dir in [Direction::ToServer, Direction::ToClient] {
        let pieces = happenings.iter().map(|happening| match happening {
            Happening::Arrive(piece) | Happening::Lose(piece) => piece,
        });
        if let Some(first) = pieces.filter(|p| p.dir == dir).min_by_key(|p| p.offset) {
            engine.anchor(id, dir, first.offset, first.time, seen);
        }
    }
}

/// How a test's connection is introduced.
pub(crate) fn opening(port: u16, start: Start, roles: Roles) -> Opening {
    Opening {
        number: 0,
        client: (Ipv4Addr::LOCALHOST, 40_000).into(),
        server: (Ipv4Addr::LOCALHOST, port).into(),
        roles,
        start,
        side: Side::Wire,
        layer: Layer::Transport,
        process: None,
    }
}
