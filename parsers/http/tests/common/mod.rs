//! Plays bytes to a parser and writes down what it says, a line for each event.
#![allow(dead_code, reason = "each test file uses some of it")]

use wirespan_http::Http;
use wirespan_parser_api::{
    AfterGap, Direction, Emit, Event, Gap, Init, Input, Limits, Next, ParseError, Parser, Policy,
    Protocol, Redaction, Value,
};

/// Events, and what the parser asked for in the end.
#[derive(Debug, Default)]
pub(crate) struct Log(pub(crate) Vec<String>);

impl Emit for Log {
    fn emit(&mut self, event: Event<'_>) {
        self.0.push(match event {
            Event::Request { id, at, request } => {
                let (operation, target) = (request.operation, request.target);
                format!(
                    "{} request @{at} {operation} {target} [{}]",
                    id.0, request.flags
                )
            }
            Event::RequestEnd { id, at, size } => format!("{} request end @{at} {size}", id.0),
            Event::Response { id, at, response } => {
                format!(
                    "{} response @{at} {} [{}]",
                    id.0, response.status, response.flags
                )
            }
            Event::ResponseEnd { id, at, size } => format!("{} response end @{at} {size}", id.0),
            Event::Annotate { id, flags, .. } => format!("{} note {flags}", id.0),
            Event::Abandon { id, why } => format!("{} abandon {why:?}", id.0),
            Event::Orphan { at } => format!("orphan @{at}"),
            Event::Error { error } => format!("error {error}"),
            other => format!("{other:?}"),
        });
    }
}

/// A connection: each direction remembers where it is.
pub(crate) struct Session {
    parser: Box<dyn Parser>,
    offsets: [u64; 2],
    /// What was said so far.
    pub(crate) log: Log,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self::with(false, Redaction::On)
    }

    pub(crate) fn with(late_attach: bool, redaction: Redaction) -> Self {
        let limits = Limits::default();
        let mut init = Init::new(&limits);
        let policy = Policy::of(redaction);
        (init.late_attach, init.policy) = (late_attach, &policy);
        Self {
            parser: Http.parser(&init),
            offsets: [0; 2],
            log: Log::default(),
        }
    }

    pub(crate) fn set_policy(&mut self, policy: &Policy) {
        self.parser.set_policy(policy);
    }

    /// Plays the client's bytes until they are used up, or the parser wants something else.
    pub(crate) fn client(&mut self, bytes: &[u8]) -> Result<Next, ParseError> {
        self.play(Direction::ToServer, bytes)
    }

    /// The same for the server's.
    pub(crate) fn server(&mut self, bytes: &[u8]) -> Result<Next, ParseError> {
        self.play(Direction::ToClient, bytes)
    }

    fn play(&mut self, dir: Direction, mut bytes: &[u8]) -> Result<Next, ParseError> {
        loop {
            let offset = self.offsets[dir as usize];
            let step = self
                .parser
                .parse(dir, Input { bytes, offset }, &mut self.log)?;
            let skip = match step.next {
                Next::Skip(n) => usize::try_from(n).unwrap_or(usize::MAX),
                Next::SkipToEnd => usize::MAX,
                _ => 0,
            };
            let used = step.consumed.saturating_add(skip).min(bytes.len());
            self.offsets[dir as usize] += used as u64;
            bytes = &bytes[used..];
            let goes_on = matches!(step.next, Next::More | Next::Skip(_));
            if bytes.is_empty() || !goes_on {
                return Ok(step.next);
            }
        }
    }

    /// After `unread`, the next `len` bytes of `dir` are lost.
    pub(crate) fn lose(&mut self, dir: Direction, unread: &[u8], len: u64) -> AfterGap {
        let place = &mut self.offsets[dir as usize];
        let offset = *place + unread.len() as u64;
        *place = offset + len;
        self.parser
            .gap(dir, Gap::new(offset, len, unread), &mut self.log)
    }

    /// The stream of `dir` ends where it is.
    pub(crate) fn end(&mut self, dir: Direction) {
        let offset = self.offsets[dir as usize];
        self.parser.end(dir, offset, &mut self.log);
    }

    /// What was said since the last time.
    pub(crate) fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log.0)
    }
}

/// Texts of the attributes of the first request among what the client sends.
pub(crate) fn attributes(bytes: &[u8]) -> Vec<String> {
    struct Attributes(Vec<String>);
    impl Emit for Attributes {
        fn emit(&mut self, event: Event<'_>) {
            if let Event::Request { request, .. } = event {
                let text = |value| match value {
                    Value::Str(text) => text.to_owned(),
                    Value::Int(number) => number.to_string(),
                    _ => panic!("of another type"),
                };
                let attrs = request.attrs.iter();
                let lines = attrs.map(|a| format!("{}={}", a.key().name(), text(a.value())));
                self.0.extend(lines);
                self.0
                    .push(format!("{:?}", request.trace.map(|t| t.trace_id[0])));
            }
        }
    }
    let mut attributes = Attributes(Vec::new());
    let limits = Limits::default();
    let init = Init::new(&limits);
    let input = Input { bytes, offset: 0 };
    let step = Http
        .parser(&init)
        .parse(Direction::ToServer, input, &mut attributes);
    assert!(step.is_ok());
    attributes.0
}
