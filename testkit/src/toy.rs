//! A protocol that makes the engine do everything that a parser can ask of it.

use wirespan_parser_api::{
    Abandon, AfterGap, Confidence, Direction, Emit, Event, ExchangeId, Fifo, Flags, Gap, Init,
    Input, Next, Outcome, ParseError, Parser, Probe, ProbeInput, Protocol, ProtocolName, Request,
    Response, Step, Upgrade,
};

const NAME: ProtocolName = ProtocolName("toy");

/// One byte says what to do, some have a number behind them.
pub(crate) struct Toy;

impl Protocol for Toy {
    fn name(&self) -> ProtocolName {
        NAME
    }

    fn description(&self) -> &'static str {
        "toy: each byte is an order to the engine"
    }

    fn ports(&self) -> &[u16] {
        &[9]
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        match (head.bytes, head.speaker) {
            ([b'?'], _) => Probe::NeedMore(2),
            ([b'?', ..] | [b'!', ..], _) => Probe::Reject,
            ([b'.', ..], Some(speaker)) => Probe::Accept(Confidence::Certain, speaker),
            (_, Some(speaker)) => Probe::Accept(Confidence::Weak, speaker),
            (_, None) => Probe::Accept(Confidence::Weak, wirespan_parser_api::Speaker::Server),
        }
    }

    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(ToyParser {
            pairs: Fifo::new(init.late_attach),
            open: None,
        })
    }
}

struct ToyParser {
    pairs: Fifo,
    /// The last request: it can be annotated and abandoned.
    open: Option<ExchangeId>,
}

impl Parser for ToyParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let number = input.bytes.get(1).copied();
        let numbered = matches!(
            input.bytes.first(),
            Some(b'N' | b'S' | b'U' | b'Q' | b'R' | b'A')
        );
        let (Some(order), true) = (input.bytes.first(), !numbered || number.is_some()) else {
            return Ok(Step::need(2));
        };
        let n = usize::from(number.unwrap_or(0));
        let next = match order {
            b'N' if input.bytes.len() < n + 2 => return Ok(Step::need(n + 2)),
            b'N' => return Ok(Step::more(n + 2)),
            b'S' => Next::Skip((n as u64) << (n % 48)),
            b'E' => Next::SkipToEnd,
            b'W' => Next::Wait,
            b'U' if n % 3 == 0 => Next::Upgrade(Upgrade::To(NAME)),
            b'U' if n % 3 == 1 => Next::Upgrade(Upgrade::Detect),
            b'U' => Next::Upgrade(Upgrade::Tls),
            b'X' => Next::Stop,
            b'#' => return Err(ParseError::malformed("order")),
            b'Q' if dir == Direction::ToServer => self.request(input.offset, n as u64, out),
            b'R' if dir == Direction::ToClient => self.response(input.offset, n as u64, out),
            b'A' => self.annotate(n, out),
            _ => Next::More,
        };
        let consumed = if numbered { 2 } else { 1 };
        Ok(Step { consumed, next })
    }

    fn gap(&mut self, dir: Direction, gap: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        self.pairs.gap(dir, out);
        match gap.len % 7 {
            0 => AfterGap::Stop,
            1 | 2 => AfterGap::Continue,
            _ => AfterGap::Resync,
        }
    }

    fn resync(&mut self, _: Direction, window: &[u8]) -> Option<usize> {
        window.iter().position(|byte| byte.is_ascii_uppercase())
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

impl ToyParser {
    fn request(&mut self, at: u64, body: u64, out: &mut dyn Emit) -> Next {
        let ticket = self.pairs.request();
        self.open = Some(ticket.id);
        out.emit(Event::Request {
            id: ticket.id,
            at,
            request: Request {
                protocol: NAME,
                operation: "ASK",
                target: "",
                trace: None,
                flags: Flags::NONE,
                attrs: &[],
            },
        });
        let size = body + 2;
        out.emit(Event::RequestEnd {
            id: ticket.id,
            at: at.saturating_add(size),
            size,
        });
        if !ticket.pairable {
            out.emit(Event::Abandon {
                id: ticket.id,
                why: Abandon::Lost,
            });
        }
        Next::Skip(body)
    }

    fn response(&mut self, at: u64, body: u64, out: &mut dyn Emit) -> Next {
        let Some(id) = self.pairs.response() else {
            out.emit(Event::Orphan { at });
            return Next::Skip(body);
        };
        out.emit(Event::Response {
            id,
            at,
            response: Response {
                status: "OK",
                outcome: Outcome::Ok,
                flags: Flags::NONE,
                attrs: &[],
            },
        });
        let size = body + 2;
        out.emit(Event::ResponseEnd {
            id,
            at: at.saturating_add(size),
            size,
        });
        Next::Skip(body)
    }

    fn annotate(&mut self, n: usize, out: &mut dyn Emit) -> Next {
        if let Some(id) = self.open {
            let why = Abandon::Cancelled;
            out.emit(match n % 3 {
                0 => Event::Abandon { id, why },
                1 => Event::Push { at: 0, kind: "toy" },
                _ => Event::Annotate {
                    id,
                    flags: Flags::AMBIGUOUS,
                    attrs: &[],
                },
            });
        }
        Next::More
    }
}
