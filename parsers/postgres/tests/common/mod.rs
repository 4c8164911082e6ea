//! Messages, and a connection that is played to an engine.
#![allow(missing_docs, dead_code, unreachable_pub)]

use std::net::Ipv4Addr;
use std::sync::Arc;

use wirespan_engine::api::{Direction, Policy, Redaction};
use wirespan_engine::{
    Close, Config, ConnectionId, Engine, Exchange, Layer, Nanos, Opening, Registry, Roles, Side,
    Sink, Start, Stats,
};
use wirespan_postgres::Postgres;

/// A message: type, length, body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A start-up packet with this code.
pub fn opening(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

pub fn ssl_request() -> Vec<u8> {
    opening(80_877_103, b"")
}

pub fn startup() -> Vec<u8> {
    opening(0x0003_0000, b"user\0joe\0database\0shop\0\0")
}

/// `AuthenticationOk`, a parameter, the cancellation key, `ReadyForQuery`.
pub fn welcome() -> Vec<u8> {
    let mut bytes = message(b'R', &[0; 4]);
    bytes.extend(message(b'S', b"server_version\x0015.1\0"));
    bytes.extend(message(b'K', &[1; 8]));
    bytes.extend(ready());
    bytes
}

pub fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), b"\0"].concat())
}

pub fn parse(name: &str, text: &str) -> Vec<u8> {
    let body = [name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"].concat();
    message(b'P', &body)
}

/// One text parameter of this length.
pub fn bind_long(portal: &str, name: &str, len: usize) -> Vec<u8> {
    let mut body = [portal.as_bytes(), b"\0", name.as_bytes(), b"\0\0\0\0\x01"].concat();
    body.extend((len as u32).to_be_bytes());
    body.resize(body.len() + len, b'x');
    body.extend([0, 0]);
    message(b'B', &body)
}

pub fn bind(portal: &str, name: &str) -> Vec<u8> {
    bind_long(portal, name, 2)
}

pub fn describe_statement(name: &str) -> Vec<u8> {
    message(b'D', &[b"S", name.as_bytes(), b"\0"].concat())
}

pub fn describe_portal(name: &str) -> Vec<u8> {
    message(b'D', &[b"P", name.as_bytes(), b"\0"].concat())
}

pub fn execute(portal: &str) -> Vec<u8> {
    message(b'E', &[portal.as_bytes(), b"\0\0\0\0\0"].concat())
}

pub fn close_statement(name: &str) -> Vec<u8> {
    message(b'C', &[b"S", name.as_bytes(), b"\0"].concat())
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn flush() -> Vec<u8> {
    message(b'H', b"")
}

/// A whole extended query of the statement without a name.
pub fn extended(text: &str) -> Vec<u8> {
    [
        parse("", text),
        bind("", ""),
        describe_portal(""),
        execute(""),
    ]
    .concat()
}

pub fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

pub fn complete(tag: &str) -> Vec<u8> {
    message(b'C', &[tag.as_bytes(), b"\0"].concat())
}

pub fn error(sqlstate: &str) -> Vec<u8> {
    let body = format!("SERROR\0VERROR\0C{sqlstate}\0Mno CANARY\0\0");
    message(b'E', body.as_bytes())
}

/// A column `a`.
pub fn row_description() -> Vec<u8> {
    message(b'T', &[b"\0\x01a\0".as_slice(), &[0; 18]].concat())
}

pub fn row(value: &[u8]) -> Vec<u8> {
    let len = (value.len() as u32).to_be_bytes();
    message(b'D', &[&[0, 1], &len[..], value].concat())
}

/// The answer to [`extended`], up to its end.
pub fn extended_answer(tag: &str) -> Vec<u8> {
    [
        message(b'1', b""),
        message(b'2', b""),
        row_description(),
        row(b"1"),
        complete(tag),
    ]
    .concat()
}

/// An exchange as text: `operation|target|status|flags`.
#[derive(Default)]
pub struct Records {
    pub lines: Vec<String>,
    pub trace_ids: Vec<u128>,
    pub sizes: Vec<(u64, u64)>,
    /// Durations and times to the first byte.
    pub times: Vec<(Option<u64>, Option<u64>)>,
    pub attrs: Vec<String>,
}

impl Sink for Records {
    fn exchange(&mut self, e: &Exchange<'_>) {
        let flags = e.flags.to_string();
        self.lines
            .push(format!("{}|{}|{}|{flags}", e.operation, e.target, e.status));
        if let Some(trace) = e.trace {
            self.trace_ids.push(u128::from_be_bytes(trace.trace_id));
        }
        self.sizes.push((e.request_bytes, e.response_bytes));
        self.times.push((e.duration, e.ttfb));
        let attrs: Vec<_> = e.attrs.iter().map(|attr| format!("{attr:?}")).collect();
        self.attrs.push(attrs.join(" "));
    }
}

/// One connection. Everything that is said takes a microsecond.
pub struct Talk {
    engine: Engine,
    id: ConnectionId,
    offsets: [u64; 2],
    now: u64,
    pub records: Records,
}

impl Talk {
    /// From its first byte.
    pub fn from_start() -> Self {
        Self::new(Start::Beginning, Redaction::On)
    }

    /// Started and welcomed.
    pub fn new_session() -> Self {
        let mut talk = Self::from_start();
        talk.client(&startup()).server(&welcome());
        talk.records = Records::default();
        talk
    }

    pub fn unredacted() -> Self {
        Self::new(Start::Beginning, Redaction::Off)
    }

    /// Joined in the middle.
    pub fn late() -> Self {
        let mut talk = Self::new(Start::Middle, Redaction::On);
        for dir in [Direction::ToServer, Direction::ToClient] {
            talk.engine
                .anchor(talk.id, dir, 0, Nanos(0), &mut talk.records);
        }
        talk
    }

    fn new(start: Start, redaction: Redaction) -> Self {
        let registry = Registry::builder().with(Postgres).build().unwrap();
        let mut config = Config::default();
        config.policy = Policy::of(redaction);
        let mut engine = Engine::new(Arc::new(registry), config);
        let mut records = Records::default();
        let opening = Opening {
            number: 0,
            client: (Ipv4Addr::LOCALHOST, 40_000).into(),
            server: (Ipv4Addr::LOCALHOST, 5_432).into(),
            roles: Roles::Known,
            start,
            side: Side::Wire,
            layer: Layer::Transport,
            process: None,
        };
        let id = engine.open(&opening, Nanos(0), &mut records);
        Self {
            engine,
            id,
            offsets: [0; 2],
            now: 0,
            records,
        }
    }

    pub fn set_redaction(&mut self, redaction: Redaction) {
        self.engine.set_policy(Policy::of(redaction));
    }

    pub fn client(&mut self, bytes: &[u8]) -> &mut Self {
        self.say(Direction::ToServer, bytes)
    }

    pub fn server(&mut self, bytes: &[u8]) -> &mut Self {
        self.say(Direction::ToClient, bytes)
    }

    fn say(&mut self, dir: Direction, bytes: &[u8]) -> &mut Self {
        self.now += 1_000;
        let offset = &mut self.offsets[usize::from(dir == Direction::ToClient)];
        let at = *offset;
        *offset += bytes.len() as u64;
        self.engine
            .chunk(self.id, dir, at, bytes, Nanos(self.now), &mut self.records);
        self
    }

    pub fn lose_client(&mut self, len: usize) -> &mut Self {
        self.lose(Direction::ToServer, len)
    }

    pub fn lose_server(&mut self, len: usize) -> &mut Self {
        self.lose(Direction::ToClient, len)
    }

    fn lose(&mut self, dir: Direction, len: usize) -> &mut Self {
        self.now += 1_000;
        let offset = &mut self.offsets[usize::from(dir == Direction::ToClient)];
        let at = *offset;
        *offset += len as u64;
        self.engine.lost(
            self.id,
            dir,
            at,
            len as u64,
            Nanos(self.now),
            &mut self.records,
        );
        self
    }

    /// What was reported so far.
    pub fn lines(&self) -> Vec<&str> {
        self.records.lines.iter().map(String::as_str).collect()
    }

    /// Ends the connection; what was reported, and the engine's account.
    pub fn finish(mut self) -> (Records, Stats) {
        let now = Nanos(self.now);
        self.engine
            .close(self.id, Close::Finished, now, &mut self.records);
        self.engine.finish(now, &mut self.records);
        let stats = self.engine.stats();
        assert_eq!(stats.parser_faults, 0);
        (self.records, stats)
    }
}
