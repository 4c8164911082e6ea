//! What a sink was told, kept until it can be told to another one: where several engines work side by
//! side, they have one sink at last, which is to hear everything in order.

use wirespan_parser_api::TraceContext;

use crate::handshake::Handshake;
use crate::text::{Attrs, Span, Text};
use crate::types::{Closed, Exchange, Process, Sink};

/// Calls of a [`Sink`], in order. Cleared and filled again without allocating.
#[derive(Debug, Default)]
pub struct Calls {
    text: Text,
    calls: Vec<Call>,
}

#[derive(Debug)]
enum Call {
    Begun(Kept),
    Exchange(Kept),
    Progress(Kept),
    Closed(Box<KeptClosed>),
}

/// An exchange whose texts are elsewhere.
#[derive(Debug)]
struct Kept {
    /// Without its texts and attributes.
    frame: Exchange<'static>,
    operation: Span,
    target: Span,
    status: Span,
    tracestate: Span,
    /// The attributes are those between.
    attrs: (usize, usize),
}

#[derive(Debug)]
struct KeptClosed {
    /// Without what it borrows.
    frame: Closed<'static>,
    process: Option<Process>,
    handshake: Option<Handshake>,
}

impl Calls {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.text.clear();
        self.calls.clear();
    }

    /// Tells the call with this number, counted from 0, to `sink`; nothing where there is none.
    pub fn tell(&self, number: usize, sink: &mut dyn Sink) {
        match self.calls.get(number) {
            Some(Call::Begun(kept)) => sink.begun(&self.exchange(kept)),
            Some(Call::Exchange(kept)) => sink.exchange(&self.exchange(kept)),
            Some(Call::Progress(kept)) => sink.progress(&self.exchange(kept)),
            Some(Call::Closed(kept)) => sink.closed(&Closed {
                process: kept.process.as_ref(),
                handshake: kept.handshake.as_ref(),
                ..kept.frame
            }),
            None => {}
        }
    }

    fn exchange<'a>(&'a self, kept: &'a Kept) -> Exchange<'a> {
        let with_state = |trace: TraceContext<'static>| TraceContext {
            tracestate: self.text.get(kept.tracestate),
            ..trace
        };
        Exchange {
            operation: self.text.get(kept.operation),
            target: self.text.get(kept.target),
            status: self.text.get(kept.status),
            trace: kept.frame.trace.map(with_state),
            attrs: self.text.attrs_in(kept.attrs.0, kept.attrs.1),
            ..kept.frame
        }
    }

    fn keep(&mut self, exchange: &Exchange<'_>) -> Kept {
        // The engine has cut them.
        let mut text = |text: &str| self.text.push(text).0;
        let (operation, target) = (text(exchange.operation), text(exchange.target));
        let status = text(exchange.status);
        let tracestate = exchange.trace.map_or("", |trace| trace.tracestate);
        let tracestate = text(tracestate);
        let from = self.text.attr_count();
        for attr in exchange.attrs.iter() {
            self.text.push_attr(&attr);
        }
        let without_state = |trace: TraceContext<'_>| TraceContext {
            tracestate: "",
            ..trace
        };
        Kept {
            frame: Exchange {
                operation: "",
                target: "",
                status: "",
                trace: exchange.trace.map(without_state),
                attrs: Attrs::NONE,
                ..*exchange
            },
            operation,
            target,
            status,
            tracestate,
            attrs: (from, self.text.attr_count()),
        }
    }
}

impl Sink for Calls {
    fn begun(&mut self, request: &Exchange<'_>) {
        let kept = self.keep(request);
        self.calls.push(Call::Begun(kept));
    }

    fn exchange(&mut self, exchange: &Exchange<'_>) {
        let kept = self.keep(exchange);
        self.calls.push(Call::Exchange(kept));
    }

    fn progress(&mut self, exchange: &Exchange<'_>) {
        let kept = self.keep(exchange);
        self.calls.push(Call::Progress(kept));
    }

    fn closed(&mut self, connection: &Closed<'_>) {
        let kept = KeptClosed {
            frame: Closed {
                process: None,
                handshake: None,
                ..*connection
            },
            process: connection.process.copied(),
            handshake: connection.handshake.cloned(),
        };
        self.calls.push(Call::Closed(Box::new(kept)));
    }
}

#[cfg(test)]
mod tests {
    use wirespan_parser_api::{
        Flags, Outcome, ParseError, Propagation, ProtocolName, TraceContext, keys,
    };

    use super::*;
    use crate::both::Both;
    use crate::types::{Nanos, Side, Task, Unread};

    /// Calls as text.
    #[derive(Default)]
    struct Told(Vec<String>);

    impl Sink for Told {
        fn begun(&mut self, request: &Exchange<'_>) {
            self.0.push(format!("begun {request:?}"));
        }
        fn exchange(&mut self, exchange: &Exchange<'_>) {
            self.0.push(format!("exchange {exchange:?}"));
        }
        fn progress(&mut self, exchange: &Exchange<'_>) {
            self.0.push(format!("progress {exchange:?}"));
        }
        fn closed(&mut self, connection: &Closed<'_>) {
            self.0.push(format!("closed {connection:?}"));
        }
    }

    fn exchange<'a>(text: &'a Text, target: &'a str, state: Option<&'a str>) -> Exchange<'a> {
        Exchange {
            connection: 7,
            client: ([10, 0, 0, 1], 40_000).into(),
            server: ([10, 0, 0, 2], 80).into(),
            side: Side::Server,
            process: Some(Process::new(5, b"app")),
            task: Task::new(6),
            answered_by: None,
            protocol: ProtocolName("http"),
            operation: "GET",
            target,
            status: "200",
            outcome: Some(Outcome::Ok),
            offset: 10,
            flow_offset: 11,
            start: Nanos(12),
            open: None,
            duration: Some(13),
            ttfb: Some(14),
            request_bytes: 15,
            response_bytes: 16,
            trace: state.map(|tracestate| TraceContext {
                trace_id: [1; 16],
                span_id: [2; 8],
                parent_span_id: Some([3; 8]),
                sampled: Some(true),
                flags: 1,
                propagation: Propagation::W3c,
                tracestate,
            }),
            flags: Flags::default(),
            attrs: text.attrs(),
        }
    }

    fn closed<'a>(process: &'a Process, handshake: &'a Handshake) -> Closed<'a> {
        Closed {
            client: ([10, 0, 0, 1], 40_000).into(),
            server: ([10, 0, 0, 2], 80).into(),
            side: Side::Client,
            process: Some(process),
            flags: Flags::default(),
            protocol: "http",
            opaque: Some("tls"),
            handshake: Some(handshake),
            unread: Some(Unread {
                kind: ParseError::malformed("line").kind,
                what: "line",
                dir: wirespan_parser_api::Direction::ToServer,
                offset: 3,
            }),
            exchanges: 4,
            bytes: Both::default(),
        }
    }

    /// Everything that a sink can be told.
    fn tell(sink: &mut dyn Sink) {
        let mut text = Text::default();
        text.push_attr(&keys::HTTP_REQUEST_METHOD.of("GET"));
        text.push_attr(&keys::HTTP_RESPONSE_STATUS_CODE.of(200));
        let none = Text::default();
        sink.begun(&exchange(&text, "/föö", Some("a=1,b=2")));
        sink.progress(&exchange(&none, "", None));
        sink.exchange(&exchange(&text, "/föö?x=1", Some("")));
        let mut handshake = Handshake::default();
        let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03";
        let dir = wirespan_parser_api::Direction::ToServer;
        handshake.take(dir, hello, Some(Nanos(1)), Some(Nanos(2)));
        sink.closed(&closed(&Process::new(5, b"app"), &handshake));
        sink.exchange(&exchange(&none, "/last", None));
    }

    #[test]
    fn what_is_told_later_is_what_was_told() {
        let mut told = Told::default();
        tell(&mut told);
        let mut calls = Calls::default();
        for _ in 0..2 {
            tell(&mut calls);
            assert_eq!(calls.len(), told.0.len());
            let mut later = Told::default();
            for number in 0..=calls.len() {
                calls.tell(number, &mut later);
            }
            assert_eq!(later.0, told.0);
            calls.clear();
            assert!(calls.is_empty());
        }
    }
}
