//! A protocol made for these tests, and a sink that remembers.
//!
//! Requests are `Q <name> <len>\n` and `len` bytes of body; responses `A <status> <len>\n` and
//! body; in order. `U ...` asks for an upgrade, granted by `A 101 0` to what is then detected
//! afresh, or by `A 102 0` to TLS. `P\n` from the server is a push. `!` makes the parser panic.
#![allow(missing_docs, dead_code, unreachable_pub)]

use std::sync::Arc;

use wirespan_engine::api::*;
use wirespan_engine::{
    Address, Both, Config, ConnectionId, Engine, Exchange, Layer, Nanos, Opening, Registry, Roles,
    Side, Sink, Start,
};

pub struct Line;

#[derive(Default)]
struct LineParser {
    fifo: Option<Fifo>,
    upgrading: bool,
}

impl Protocol for Line {
    fn name(&self) -> ProtocolName {
        ProtocolName("line")
    }
    fn description(&self) -> &'static str {
        "lines, for tests"
    }
    fn ports(&self) -> &[u16] {
        &[7777]
    }
    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        match head.bytes {
            [b'Q' | b'U', b' ', ..] => Probe::Accept(Confidence::Strong, Speaker::Client),
            [b'A', b' ', ..] => Probe::Accept(Confidence::Strong, Speaker::Server),
            [b'?', ..] => Probe::Accept(Confidence::Weak, Speaker::Client),
            [b'Q' | b'U' | b'A'] => Probe::NeedMore(2),
            _ => Probe::Reject,
        }
    }
    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(LineParser {
            fifo: Some(Fifo::new(init.late_attach)),
            upgrading: false,
        })
    }
}

impl Parser for LineParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let Some(end) = input.bytes.iter().position(|b| *b == b'\n') else {
            return Ok(Step::need(input.bytes.len() + 1));
        };
        let line =
            std::str::from_utf8(&input.bytes[..end]).map_err(|_| ParseError::malformed("line"))?;
        assert!(!line.starts_with('!'), "the parser panics");
        let words: Vec<&str> = line.split(' ').collect();
        if words == ["P"] {
            out.emit(Event::Push {
                at: input.offset,
                kind: "push",
            });
            return Ok(Step::more(end + 1));
        }
        let [kind, name, len] = words[..] else {
            return Err(ParseError::malformed("words"));
        };
        let len: u64 = len.parse().map_err(|_| ParseError::malformed("length"))?;
        let size = end as u64 + 1 + len;
        let at = input.offset;
        let fifo = self.fifo.as_mut().unwrap();
        match (dir, kind) {
            (Direction::ToServer, "Q" | "U") => {
                self.upgrading = kind == "U";
                let ticket = fifo.request();
                out.emit(Event::Request {
                    id: ticket.id,
                    at,
                    request: Request {
                        protocol: ProtocolName("line"),
                        operation: name,
                        target: "",
                        trace: None,
                        flags: if ticket.guessed {
                            Flags::GUESSED
                        } else {
                            Flags::NONE
                        },
                        attrs: &[],
                    },
                });
                out.emit(Event::RequestEnd {
                    id: ticket.id,
                    at: at + size,
                    size,
                });
                if !ticket.pairable {
                    out.emit(Event::Abandon {
                        id: ticket.id,
                        why: Abandon::Lost,
                    });
                }
                let next = match (kind, len) {
                    ("U", _) => Next::Wait,
                    (_, 0) => Next::More,
                    (_, n) => Next::Skip(n),
                };
                Ok(Step {
                    consumed: end + 1,
                    next,
                })
            }
            (Direction::ToClient, "A") => {
                match fifo.response() {
                    Some(id) => {
                        out.emit(Event::Response {
                            id,
                            at,
                            response: Response {
                                status: name,
                                outcome: Outcome::Ok,
                                flags: Flags::NONE,
                                attrs: &[],
                            },
                        });
                        out.emit(Event::ResponseEnd {
                            id,
                            at: at + size,
                            size,
                        });
                    }
                    None => out.emit(Event::Orphan { at }),
                }
                let next = match (self.upgrading, name, len) {
                    (true, "101", _) => Next::Upgrade(Upgrade::Detect),
                    (true, "102", _) => Next::Upgrade(Upgrade::Tls),
                    (_, _, 0) => Next::More,
                    (_, _, n) => Next::Skip(n),
                };
                Ok(Step {
                    consumed: end + 1,
                    next,
                })
            }
            _ => Err(ParseError::malformed("kind")),
        }
    }
    fn gap(&mut self, dir: Direction, _: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        self.fifo.as_mut().unwrap().gap(dir, out);
        AfterGap::Resync
    }
    fn resync(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        let starts = |rest: &[u8]| match dir {
            Direction::ToServer => rest.starts_with(b"Q ") || rest.starts_with(b"U "),
            Direction::ToClient => rest.starts_with(b"A "),
        };
        (0..window.len()).find(|at| starts(&window[*at..]))
    }
    fn heap_bytes(&self) -> usize {
        0
    }
}

/// What is remembered of an exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    pub operation: String,
    pub status: String,
    pub duration: Option<u64>,
    pub ttfb: Option<u64>,
    pub bytes: (u64, u64),
    pub flags: String,
    pub server: Address,
    pub side: Side,
    /// `key=value`
    pub attrs: Vec<String>,
}

/// The finished exchanges, and the reports of open ones with how long they were open.
#[derive(Default)]
pub struct Seens(pub Vec<Seen>, pub Vec<(u64, Seen)>);

impl From<&Exchange<'_>> for Seen {
    fn from(exchange: &Exchange<'_>) -> Self {
        Self {
            operation: exchange.operation.into(),
            status: exchange.status.into(),
            duration: exchange.duration,
            ttfb: exchange.ttfb,
            bytes: (exchange.request_bytes, exchange.response_bytes),
            flags: exchange.flags.to_string(),
            server: exchange.server,
            side: exchange.side,
            attrs: exchange.attrs.iter().map(|attr| text(&attr)).collect(),
        }
    }
}

fn text(attr: &Attr<'_>) -> String {
    let key = attr.key().name();
    match attr.value() {
        Value::Int(number) => format!("{key}={number}"),
        Value::Str(text) => format!("{key}={text}"),
        _ => key.to_owned(),
    }
}

impl Sink for Seens {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        assert_eq!(exchange.open, None);
        self.0.push(exchange.into());
    }

    fn progress(&mut self, exchange: &Exchange<'_>) {
        self.1.push((exchange.open.unwrap(), exchange.into()));
    }
}

/// One engine with one connection.
pub struct Rig {
    pub engine: Engine,
    pub id: ConnectionId,
    pub seen: Seens,
    pub sent: [u64; 2],
    pub now: u64,
}

pub fn client() -> Address {
    ([10, 0, 0, 1], 50_000).into()
}

pub fn server() -> Address {
    ([10, 0, 0, 2], 7_777).into()
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Config::default(), Start::Beginning, Roles::Known)
    }

    pub fn with(config: Config, start: Start, roles: Roles) -> Self {
        Self::at_side(config, start, roles, Side::Wire)
    }

    pub fn at_side(config: Config, start: Start, roles: Roles, side: Side) -> Self {
        let registry = Registry::builder().with(Line).build().unwrap();
        let mut engine = Engine::new(Arc::new(registry), config);
        let mut seen = Seens::default();
        let opening = Opening {
            number: 1,
            client: client(),
            server: server(),
            roles,
            start,
            side,
            layer: Layer::Transport,
            process: None,
        };
        let id = engine.open(&opening, Nanos(0), &mut seen);
        Self {
            engine,
            id,
            seen,
            sent: [0; 2],
            now: 0,
        }
    }

    /// Gives bytes at an offset; every input takes 10 ns.
    pub fn at(&mut self, dir: Direction, offset: u64, text: &str) -> &mut Self {
        self.now += 10;
        let time = Nanos(self.now);
        self.engine
            .chunk(self.id, dir, offset, text.as_bytes(), time, &mut self.seen);
        self.sent[dir as usize] = self.sent[dir as usize].max(offset + text.len() as u64);
        self
    }

    /// Gives the next bytes from the client.
    pub fn ask(&mut self, text: &str) -> &mut Self {
        self.at(Direction::ToServer, self.sent[0], text)
    }

    /// Gives the next bytes from the server.
    pub fn answer(&mut self, text: &str) -> &mut Self {
        self.at(Direction::ToClient, self.sent[1], text)
    }

    /// From here on, bytes are what goes on inside TLS; the ones before it, `hidden` in each
    /// direction, were not told of.
    pub fn cleartext(&mut self, hidden: u64, start: Start) -> &mut Self {
        self.sent = self.sent.map(|sent| sent + hidden);
        let at = Both {
            to_server: self.sent[0],
            to_client: self.sent[1],
        };
        let time = Nanos(self.now);
        self.engine
            .cleartext(self.id, at, start, time, &mut self.seen);
        self
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: u64) -> &mut Self {
        self.now = now;
        self.engine.tick(Nanos(now), &mut self.seen);
        self
    }

    /// Leaves bytes out.
    pub fn miss(&mut self, dir: Direction, len: u64) -> &mut Self {
        self.sent[dir as usize] += len;
        self
    }

    /// Says that bytes went by which were not copied.
    pub fn pass(&mut self, dir: Direction, len: u64) -> &mut Self {
        self.now += 10;
        let offset = self.sent[dir as usize];
        self.engine
            .passed(self.id, dir, offset, len, Nanos(self.now), &mut self.seen);
        self.miss(dir, len)
    }

    pub fn acked(&mut self, dir: Direction, upto: u64) -> &mut Self {
        self.engine
            .acked(self.id, dir, upto, Nanos(self.now), &mut self.seen);
        self
    }

    /// Ends the input, checks the books, and returns the exchanges as `operation=status`.
    pub fn finish(&mut self) -> Vec<String> {
        self.now += 10;
        self.engine.finish(Nanos(self.now), &mut self.seen);
        let stats = self.engine.stats();
        let mut total = 0;
        for (name, protocol) in &stats.protocols {
            for dir in [Direction::ToServer, Direction::ToClient] {
                let ledger = &protocol.bytes[dir];
                assert!(ledger.balances(), "{name} {dir:?}: {ledger:?}");
                total += ledger.seen;
            }
        }
        assert_eq!(total, stats.intake, "every byte is on the books once");
        assert_eq!(self.engine.heap_bytes(), 0);
        self.pairs()
    }

    pub fn pairs(&self) -> Vec<String> {
        let pair = |seen: &Seen| format!("{}={}", seen.operation, seen.status);
        self.seen.0.iter().map(pair).collect()
    }
}
