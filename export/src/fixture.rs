//! An exchange for tests, as the engine makes it: from a protocol whose one exchange is fixed.

use std::sync::Arc;

use wirespan_engine::api::{
    Attr, Direction, Emit, Event, ExchangeId, Flags, Init, Input, Outcome, ParseError, Parser,
    Probe, ProbeInput, Propagation, Protocol, ProtocolName, Request, Response, Step, TraceContext,
    keys,
};
use wirespan_engine::{
    Config, Engine, Exchange, Layer, Nanos, Opening, Registry, Roles, Side, Sink, Start,
};

/// The attributes of the exchange: one key twice, one text that needs escaping.
const ATTRS: [Attr<'static>; 4] = [
    keys::HTTP_RESPONSE_STATUS_CODE.of(200),
    keys::DB_NAMESPACE.of("0"),
    keys::DB_NAMESPACE.of("2"),
    keys::SERVER_ADDRESS.of("a\u{1}b"),
];

/// Protocol and attributes of the exchange.
#[derive(Clone, Copy)]
struct Fixed(&'static str, &'static [Attr<'static>]);

impl Protocol for Fixed {
    fn name(&self) -> ProtocolName {
        ProtocolName(self.0)
    }

    fn description(&self) -> &'static str {
        "one fixed exchange"
    }

    fn probe(&self, _head: &ProbeInput<'_>) -> Probe {
        use wirespan_engine::api::{Confidence, Speaker};
        Probe::Accept(Confidence::Certain, Speaker::Client)
    }

    fn parser(&self, _init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(*self)
    }
}

impl Parser for Fixed {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let (id, at, len) = (ExchangeId(0), input.offset, input.bytes.len());
        let (end, size) = (at + len as u64, len as u64);
        match dir {
            Direction::ToServer => {
                let request = Request {
                    protocol: self.name(),
                    operation: "GET",
                    target: "/a?b=c",
                    trace: None,
                    flags: Flags::NONE,
                    attrs: self.1,
                };
                out.emit(Event::Request { id, at, request });
                out.emit(Event::RequestEnd { id, at: end, size });
            }
            Direction::ToClient => {
                let response = Response {
                    status: "200",
                    outcome: Outcome::Ok,
                    flags: Flags::NONE,
                    attrs: &[],
                };
                out.emit(Event::Response { id, at, response });
                out.emit(Event::ResponseEnd { id, at: end, size });
            }
        }
        Ok(Step::more(len))
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

struct Run<F>(Option<F>);

impl<F: FnOnce(Exchange<'_>)> Sink for Run<F> {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        let test = self.0.take().expect("one exchange");
        test(Exchange {
            duration: Some(1_500_000),
            ttfb: Some(1_000),
            request_bytes: 78,
            response_bytes: 1234,
            ..*exchange
        });
    }
}

/// Runs `test` on an exchange of its own, to change as it likes.
pub(crate) fn with_exchange(test: impl FnOnce(Exchange<'_>)) {
    with_exchange_of("http", &ATTRS, test);
}

/// The same, of this protocol and with these attributes.
pub(crate) fn with_exchange_of(
    protocol: &'static str,
    attrs: &'static [Attr<'static>],
    test: impl FnOnce(Exchange<'_>),
) {
    let fixed = Fixed(protocol, attrs);
    let registry = Registry::builder().with(fixed).build().expect("one name");
    let mut engine = Engine::new(Arc::new(registry), Config::default());
    let time = Nanos(1_798_761_599_000_000_001);
    let opening = Opening {
        number: 3,
        client: ([10, 0, 0, 1], 40_000).into(),
        server: ([10, 0, 0, 2], 80).into(),
        roles: Roles::Known,
        start: Start::Beginning,
        side: Side::Wire,
        layer: Layer::Transport,
        process: None,
    };
    let mut run = Run(Some(test));
    let id = engine.open(&opening, time, &mut run);
    engine.chunk(id, Direction::ToServer, 0, b"request", time, &mut run);
    engine.chunk(id, Direction::ToClient, 0, b"response", time, &mut run);
    engine.finish(time, &mut run);
    assert!(run.0.is_none(), "the engine gave no exchange");
}

/// A W3C context.
pub(crate) fn w3c() -> TraceContext<'static> {
    TraceContext {
        trace_id: [0x4b; 16],
        span_id: [0xf0; 8],
        parent_span_id: None,
        sampled: Some(true),
        flags: 1,
        propagation: Propagation::W3c,
        tracestate: "",
    }
}

/// A B3 context with a parent.
pub(crate) fn b3() -> TraceContext<'static> {
    TraceContext {
        parent_span_id: Some([0x0a; 8]),
        propagation: Propagation::B3,
        ..w3c()
    }
}
