//! The EXAMPLE protocol: the smallest complete parser, and what `cargo xtask new-parser` starts from.
//!
//! A client says `EXAMPLE/1` once and then asks in lines, `VERB key [length]`, with `length` bytes
//! of body behind the line. A server answers in order: `OK [length]` with a body, or `ERR code`.
//! Bodies are skipped, not read.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

mod wire;

use wirespan_parser_api::{
    Abandon, AfterGap, Confidence, Direction, Emit, Event, ExchangeId, Fifo, Flags, Gap, Init,
    Input, Next, Outcome, ParseError, Parser, Probe, ProbeInput, Protocol, ProtocolName, Request,
    Response, Speaker, Step,
};

/// The name in records, metrics and configuration.
const NAME: ProtocolName = ProtocolName("example");

/// The EXAMPLE protocol.
#[derive(Clone, Copy, Debug, Default)]
pub struct Example;

impl Protocol for Example {
    fn name(&self) -> ProtocolName {
        NAME
    }

    fn description(&self) -> &'static str {
        "EXAMPLE: the parser that new ones start from"
    }

    fn ports(&self) -> &[u16] {
        &[7_777]
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        let more = Probe::NeedMore(head.bytes.len().saturating_add(1));
        if head.speaker != Some(Speaker::Server) {
            match wire::hello(head.bytes) {
                Ok(Some(_)) => return Probe::Accept(Confidence::Certain, Speaker::Client),
                Ok(None) => return more,
                Err(_) => {}
            }
        }
        // Without the greeting, a line or two says little.
        if head.speaker != Some(Speaker::Client) {
            match wire::reply(head.bytes) {
                Ok(Some(_)) => return Probe::Accept(Confidence::Weak, Speaker::Server),
                Ok(None) => return more,
                Err(_) => {}
            }
        }
        if head.speaker != Some(Speaker::Server) {
            match wire::request(head.bytes) {
                Ok(Some(_)) => return Probe::Accept(Confidence::Weak, Speaker::Client),
                Ok(None) => return more,
                Err(_) => {}
            }
        }
        Probe::Reject
    }

    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(ExampleParser {
            pairs: Fifo::new(init.late_attach),
        })
    }
}

/// One connection.
#[derive(Debug)]
struct ExampleParser {
    pairs: Fifo,
}

impl Parser for ExampleParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let read = match dir {
            Direction::ToServer => self.request(input, out)?,
            Direction::ToClient => self.reply(input, out)?,
        };
        Ok(match read {
            None => Step::need(input.bytes.len().saturating_add(1)),
            Some((line, 0)) => Step::more(line),
            Some((line, body)) => Step {
                consumed: line,
                next: Next::Skip(body),
            },
        })
    }

    fn gap(&mut self, dir: Direction, _: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        self.pairs.gap(dir, out);
        AfterGap::Resync
    }

    /// For requests, a line that begins with a capital, but never the window's own beginning: half
    /// of a key can look like a verb. For replies, whatever looks like one, because a reply that is
    /// overlooked shifts the pairing, and a body need not end with a line.
    fn resync(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        match dir {
            Direction::ToServer => {
                let mut pairs = window.windows(2);
                let before = pairs.position(|pair| matches!(pair, [b'\n', b'A'..=b'Z']));
                before.map(|at| at.saturating_add(1))
            }
            Direction::ToClient => {
                let is_reply =
                    |head: &[u8]| matches!(head, b"OK\r\n" | b"ERR " | [b'O', b'K', b' ', _]);
                window.windows(4).position(is_reply)
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        0 // Beyond the parser itself, nothing: the engine holds the bytes.
    }
}

impl ExampleParser {
    /// Reads one line of the client's. Returns its length and that of the body behind it.
    fn request(
        &mut self,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Option<(usize, u64)>, ParseError> {
        if let Ok(hello) = wire::hello(input.bytes) {
            return Ok(hello.map(|len| (len, 0)));
        }
        let Some((request, len)) = wire::request(input.bytes)? else {
            return Ok(None);
        };
        let ticket = self.pairs.request();
        out.emit(Event::Request {
            id: ticket.id,
            at: input.offset,
            request: Request {
                protocol: NAME,
                operation: request.verb,
                target: request.key,
                trace: None,
                flags: if ticket.guessed {
                    Flags::GUESSED
                } else {
                    Flags::NONE
                },
                attrs: &[],
            },
        });
        let size = (len as u64).saturating_add(request.body);
        out.emit(Event::RequestEnd {
            id: ticket.id,
            at: input.offset.saturating_add(size),
            size,
        });
        if !ticket.pairable {
            out.emit(Event::Abandon {
                id: ticket.id,
                why: Abandon::Lost,
            });
        }
        Ok(Some((len, request.body)))
    }

    /// Reads one line of the server's. Returns its length and that of the body behind it.
    fn reply(
        &mut self,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Option<(usize, u64)>, ParseError> {
        let Some((reply, len)) = wire::reply(input.bytes)? else {
            return Ok(None);
        };
        let (status, outcome, body) = match reply {
            wire::Reply::Done { body } => ("OK", Outcome::Ok, body),
            wire::Reply::Failed { code } => (code, Outcome::Error, 0),
        };
        match self.pairs.response() {
            Some(id) => answer(
                id,
                status,
                outcome,
                input.offset,
                (len as u64).saturating_add(body),
                out,
            ),
            None => out.emit(Event::Orphan { at: input.offset }),
        }
        Ok(Some((len, body)))
    }
}

/// Reports a whole response: its end may lie ahead, behind a body that is skipped.
fn answer(id: ExchangeId, status: &str, outcome: Outcome, at: u64, size: u64, out: &mut dyn Emit) {
    out.emit(Event::Response {
        id,
        at,
        response: Response {
            status,
            outcome,
            flags: Flags::NONE,
            attrs: &[],
        },
    });
    out.emit(Event::ResponseEnd {
        id,
        at: at.saturating_add(size),
        size,
    });
}
