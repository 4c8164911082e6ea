//! A connection without an engine: bytes in, exchanges out.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part")]

use std::collections::BTreeMap;

use wirespan_parser_api::{
    Abandon, AfterGap, Direction, Emit, Event, Flags, Gap, Init, Input, Limits, Next, Outcome,
    Parser, Policy, Protocol, Redaction, Value,
};
use wirespan_redis::Redis;

/// What became of one request.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    pub(crate) operation: String,
    pub(crate) target: String,
    pub(crate) status: String,
    pub(crate) error: bool,
    pub(crate) flags: String,
    pub(crate) attrs: BTreeMap<&'static str, String>,
    /// Offset and size.
    pub(crate) request: (u64, u64),
    /// Offset and size; zero without a response.
    pub(crate) response: (u64, u64),
    /// Whether the exchange was closed by its response's end.
    pub(crate) complete: bool,
    pub(crate) abandon: Option<&'static str>,
}

/// What a parser has reported.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Log {
    pub(crate) seen: BTreeMap<u64, Seen>,
    pub(crate) pushes: Vec<&'static str>,
    pub(crate) orphans: usize,
    flags: BTreeMap<u64, Flags>,
}

impl Log {
    fn open(&mut self, id: u64) -> &mut Seen {
        let seen = self.seen.get_mut(&id).expect("an exchange that was opened");
        assert!(
            !seen.complete && seen.abandon.is_none(),
            "closed twice: {seen:?}"
        );
        seen
    }

    fn flag(&mut self, id: u64, flags: Flags) {
        let all = self.flags.entry(id).or_default();
        *all = all.with(flags);
        self.open(id).flags = self.flags[&id].to_string();
    }

    fn add(seen: &mut Seen, attrs: &[wirespan_parser_api::Attr<'_>]) {
        for attr in attrs {
            if let Value::Str(text) = attr.value() {
                seen.attrs.insert(attr.key().name(), text.to_owned());
            }
        }
    }
}

impl Emit for Log {
    fn emit(&mut self, event: Event<'_>) {
        match event {
            Event::Request { id, at, request } => {
                let last = self.seen.last_key_value();
                assert!(last.is_none_or(|(last, _)| *last < id.0), "ids rise");
                let seen = self.seen.entry(id.0).or_default();
                seen.operation = request.operation.to_owned();
                seen.target = request.target.to_owned();
                seen.request.0 = at;
                Self::add(seen, request.attrs);
                self.flag(id.0, request.flags);
            }
            Event::RequestEnd { id, at, size } => {
                let seen = self.open(id.0);
                assert_eq!(at - seen.request.0, size);
                seen.request.1 = size;
            }
            Event::Response { id, at, response } => {
                let seen = self.open(id.0);
                seen.status = response.status.to_owned();
                seen.error = response.outcome == Outcome::Error;
                seen.response.0 = at;
                Self::add(seen, response.attrs);
                self.flag(id.0, response.flags);
            }
            Event::ResponseEnd { id, at, size } => {
                let seen = self.open(id.0);
                assert_eq!(at - seen.response.0, size);
                seen.response.1 = size;
                seen.complete = true;
            }
            Event::Annotate { id, flags, .. } => self.flag(id.0, flags),
            Event::Abandon { id, why } => {
                self.open(id.0).abandon = Some(match why {
                    Abandon::Lost => "lost",
                    Abandon::OneWay => "one way",
                    _ => "cancelled",
                });
            }
            Event::Orphan { .. } => self.orphans += 1,
            Event::Push { kind, .. } => self.pushes.push(kind),
            other => panic!("not expected: {other:?}"),
        }
    }
}

#[derive(Debug, Default)]
struct Stream {
    held: Vec<u8>,
    pos: u64,
    skip: u64,
    need: usize,
    syncing: bool,
}

/// One connection.
pub(crate) struct Conn {
    parser: Box<dyn Parser>,
    streams: [Stream; 2],
    pub(crate) stopped: bool,
    pub(crate) errors: Vec<&'static str>,
    pub(crate) log: Log,
}

impl Conn {
    pub(crate) fn new() -> Self {
        Self::with(false, Redaction::On)
    }

    pub(crate) fn with(late_attach: bool, redaction: Redaction) -> Self {
        let limits = Limits::default();
        let mut init = Init::new(&limits);
        let policy = Policy::of(redaction);
        (init.late_attach, init.policy) = (late_attach, &policy);
        let parser = Redis.parser(&init);
        let mut streams = [Stream::default(), Stream::default()];
        for stream in &mut streams {
            stream.syncing = late_attach;
        }
        Self {
            parser,
            streams,
            stopped: false,
            errors: Vec::new(),
            log: Log::default(),
        }
    }

    /// The client sends.
    pub(crate) fn up(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.feed(Direction::ToServer, bytes.as_ref());
        self
    }

    /// The server sends.
    pub(crate) fn down(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.feed(Direction::ToClient, bytes.as_ref());
        self
    }

    /// Loses bytes.
    pub(crate) fn lose(&mut self, dir: Direction, mut len: u64) -> &mut Self {
        let stream = &mut self.streams[dir as usize];
        let skipped = stream.skip.min(len);
        stream.skip -= skipped;
        stream.pos += skipped;
        len -= skipped;
        if len > 0 {
            stream.pos += stream.held.len() as u64;
            stream.held.clear();
            let gap = Gap::new(stream.pos, len, &[]);
            stream.pos += len;
            stream.need = 0;
            stream.syncing = true;
            assert_eq!(self.parser.gap(dir, gap, &mut self.log), AfterGap::Resync);
        }
        self
    }

    pub(crate) fn feed(&mut self, dir: Direction, bytes: &[u8]) {
        let mut held = std::mem::take(&mut self.streams[dir as usize].held);
        held.extend_from_slice(bytes);
        let mut from = 0;
        while !self.stopped && from < held.len() {
            match self.turn(dir, &held[from..]) {
                0 => break,
                used => from += used,
            }
        }
        held.drain(..from);
        self.streams[dir as usize].held = held;
        assert!(self.heap_bytes() < 1 << 20);
    }

    fn turn(&mut self, dir: Direction, rest: &[u8]) -> usize {
        let stream = &mut self.streams[dir as usize];
        if stream.skip > 0 {
            let n = stream.skip.min(rest.len() as u64);
            stream.skip -= n;
            stream.pos += n;
            return n as usize;
        }
        if rest.len() < stream.need {
            return 0;
        }
        stream.need = 0;
        if stream.syncing {
            let (used, found) = match self.parser.resync(dir, rest) {
                Some(at) => (at, true),
                None => (rest.len().saturating_sub(64), false),
            };
            stream.syncing = !found;
            stream.pos += used as u64;
            if found {
                return used + self.step(dir, &rest[used..], true);
            }
            stream.need = rest.len() - used + 1;
            return used;
        }
        self.step(dir, rest, false)
    }

    /// Calls the parser; `candidate` when it is to confirm a boundary that it has found.
    fn step(&mut self, dir: Direction, rest: &[u8], candidate: bool) -> usize {
        let stream = &mut self.streams[dir as usize];
        let input = Input {
            bytes: rest,
            offset: stream.pos,
        };
        let used = match self.parser.parse(dir, input, &mut self.log) {
            Ok(step) => {
                match step.next {
                    Next::More => assert!(step.consumed > 0),
                    Next::Need(n) => {
                        assert!(n > rest.len() - step.consumed);
                        assert!(n <= Limits::default().max_message);
                        stream.need = n;
                    }
                    Next::Skip(n) => stream.skip = n,
                    Next::Stop => self.stopped = true,
                    other => panic!("not expected: {other:?}"),
                }
                step.consumed
            }
            Err(error) => {
                stream.syncing = true;
                if !candidate {
                    self.errors.push(error.what);
                    let gap = Gap::new(stream.pos, 1, &[]);
                    self.parser.gap(dir, gap, &mut self.log);
                }
                1
            }
        };
        assert!(used <= rest.len());
        stream.pos += used as u64;
        used
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let held: usize = self.streams.iter().map(|stream| stream.held.len()).sum();
        self.parser.heap_bytes() + held
    }

    /// Operation, target and status of each exchange.
    pub(crate) fn exchanges(&self) -> Vec<(&str, &str, &str)> {
        let seen = self.log.seen.values();
        seen.map(|seen| (&*seen.operation, &*seen.target, &*seen.status))
            .collect()
    }

    /// The n-th exchange.
    pub(crate) fn seen(&self, n: usize) -> &Seen {
        self.log.seen.values().nth(n).expect("so many exchanges")
    }
}

/// A command as an array of bulk strings.
pub(crate) fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}
