//! Spans by the semantic conventions: one for each exchange, with the ids of its trace context.
//!
//! ```text
//! request ─▶ causes
//! exchange ─▶ instrumented? ─▶ place (causes, pairs) ─▶ head sampling ─▶ tail sampling ─▶ span
//! ```
//!
//! Metrics are counted before any of this and stay exact whatever is left out here.

mod build;
#[cfg(test)]
mod cause_tests;
mod causes;
mod instrumented;
mod pairs;
mod sampling;
#[cfg(test)]
mod tests;
mod traces;

use std::sync::Arc;

use wirespan_engine::api::{Propagation, Value};
use wirespan_engine::{Exchange, Nanos, Process, Side};

use crate::ids::SpanIds;
use crate::metrics::Counted;
use crate::owner::Ends;
use crate::owner::Service;
use crate::semconv::{Facts, Kind};
use causes::Causes;
pub use causes::{Inferred, Place};
use instrumented::Instrumented;
pub use sampling::{Head, Tail};
use traces::{Held, TraceKey};

/// A finished span.
#[derive(Clone, Debug)]
pub struct Span {
    /// Which span of which trace it is.
    pub ids: Ids,
    /// Whose span it is.
    pub kind: Kind,
    /// First byte of the request.
    pub start: Nanos,
    /// Last byte of the response; the start where the duration is not known, which the attribute
    /// `wirespan.flags` tells.
    pub end: Nanos,
    /// Whether its status is Error; otherwise it is unset.
    pub error: bool,
    /// The observed process.
    pub process: Option<Process>,
    /// The service that it belongs to, where more is known of it than its name.
    pub service: Option<Arc<Service>>,
    /// For how many spans it stands, by sampling.
    pub weight: f64,
    /// All text of the span, one behind the other; the name first.
    text: String,
    /// Where the name ends in `text`.
    name: u32,
    /// Where the `tracestate`, which follows the name, ends.
    trace_state: u32,
    attributes: Vec<(&'static str, Stored)>,
}

/// Value of an attribute; text by where it stands.
#[derive(Clone, Copy, Debug)]
enum Stored {
    Text { from: u32, to: u32 },
    Integer(i64),
}

/// How the parent of a span inside its process was found, where nobody told it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The thread that asks was handling a request.
    Thread,
    /// The goroutine was.
    Goroutine,
}

impl Source {
    /// Value of the attribute `wirespan.parent.source`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Goroutine => "goroutine",
        }
    }
}

/// Which span of which trace.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ids {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
    /// The span that caused it, if known.
    pub parent_span_id: Option<[u8; 8]>,
    /// W3C trace flags: 01 sampled, 02 random trace id.
    pub flags: u8,
}

impl Span {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[..self.name as usize]
    }

    /// W3C `tracestate`; empty where there was none.
    #[must_use]
    pub fn trace_state(&self) -> &str {
        &self.text[self.name as usize..self.trace_state as usize]
    }

    /// The attributes, each key once.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        self.attributes.iter().map(|(key, value)| {
            let value = match *value {
                Stored::Text { from, to } => Value::Str(&self.text[from as usize..to as usize]),
                Stored::Integer(number) => Value::Int(number),
            };
            (*key, value)
        })
    }

    /// Bytes that it occupies, about.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let one = size_of::<(&'static str, Stored)>();
        size_of::<Self>() + self.text.capacity() + self.attributes.capacity() * one
    }
}

/// How spans are made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Whether there are any: else nothing is remembered of requests and traces either.
    pub any: bool,
    /// Which traces are recorded.
    pub head: Head,
    /// Which of their spans are kept.
    pub tail: Tail,
    /// Whether the span of a client that sent a trace context *is* the span that the context names,
    /// so that the server's span, wherever it is recorded, is its child. Otherwise it is a child of
    /// that span beside the server's.
    pub adopt_sent_ids: bool,
    /// Whether the spans of processes that export spans themselves are left out.
    pub suppress_instrumented: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            any: true,
            head: Head::default(),
            tail: Tail::default(),
            adopt_sent_ids: true,
            suppress_instrumented: true,
        }
    }
}

/// Makes spans of exchanges. One for each thread; of a live run, one.
#[derive(Clone, Debug)]
pub struct Spans {
    options: Options,
    instrumented: Instrumented,
    causes: Causes,
    slowest: sampling::Slowest,
    counts: Counts,
}

/// What was made of an exchange.
#[derive(Debug)]
pub enum Made {
    /// A span, to be exported at once.
    Span(Span),
    /// A span whose trace is not settled: for [`Spans::hold`].
    Waits(Box<Waits>),
    /// None: it was not sampled, or its process exports its own.
    Nothing,
}

impl Made {
    /// The span that is to be exported at once.
    #[must_use]
    pub fn at_once(self) -> Option<Span> {
        match self {
            Self::Span(span) => Some(span),
            Self::Waits(_) | Self::Nothing => None,
        }
    }
}

/// A span whose trace is not settled.
#[derive(Debug)]
pub struct Waits {
    trace: TraceKey,
    span: Span,
    tail: f64,
}

/// What became of spans.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Made.
    pub made: u64,
    /// Left out by sampling.
    pub unsampled: u64,
    /// Left out because the process exports them itself.
    pub suppressed: u64,
    /// What became of those that had to look for their parent inside a process.
    pub inferred: Inferred,
}

impl Spans {
    /// With these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            instrumented: Instrumented::default(),
            causes: Causes::default(),
            slowest: sampling::Slowest::default(),
            counts: Counts::default(),
        }
    }

    /// Makes spans this way from now on.
    pub fn configure(&mut self, options: Options) {
        if self.options.any && !options.any {
            self.causes.forget();
        }
        self.options = options;
    }

    /// The span of a finished exchange, if one is to be made, at its place.
    #[must_use]
    pub fn of(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>, ends: &Ends<'_>) -> Made {
        if !self.options.any {
            self.counts.unsampled += 1;
            return Made::Nothing;
        }
        let place = self.place(exchange, facts);
        self.make(exchange, facts, ends, place)
    }

    /// What became of spans so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        Counts {
            inferred: self.causes.inferred,
            ..self.counts
        }
    }

    /// A request begins, whose task is known ([`Sink::begun`](wirespan_engine::Sink::begun)): now it
    /// is decided what caused it.
    pub fn begin(&mut self, exchange: &Exchange<'_>) {
        if !self.options.any {
            return;
        }
        let facts = Facts::outline(exchange);
        let told = self.told(exchange, &facts);
        self.causes.begin(exchange, facts.kind, told);
    }

    /// A request that had begun has ended, and no span is made of it.
    pub fn leave_out(&mut self, exchange: &Exchange<'_>) {
        if exchange.task.is_some() {
            let _ = self.causes.end(exchange);
        }
    }

    /// The place of a finished exchange in a trace, whether or not its span is kept.
    #[must_use]
    pub fn place(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>) -> Place {
        let told = |spans: &Self| spans.told(exchange, facts);
        let place = if exchange.side == Side::Wire {
            told(self)
        } else {
            if exchange.task.is_none() {
                // Its beginning was not told.
                self.causes.begin(exchange, facts.kind, told(self));
            }
            self.causes.end(exchange).or_else(|| told(self))
        };
        place.unwrap_or_else(|| Place::of(self.causes.pairs.ids(exchange, facts.kind).0, None))
    }

    /// The place by the context that the request carries.
    fn told(&self, exchange: &Exchange<'_>, facts: &Facts<'_>) -> Option<Place> {
        let context = exchange.trace.as_ref()?;
        let seen = SpanIds::of(exchange)?;
        let of = |span_id, parent_span_id| Ids {
            trace_id: context.trace_id,
            span_id,
            parent_span_id,
            flags: context.flags,
        };
        let sent = exchange.side == Side::Client && (facts.is_http() || facts.is_rpc());
        let shared = context.propagation == Propagation::B3;
        let ids = match (exchange.side, shared) {
            // The server's view, which is also that of the wire; and a client of a database, whose
            // statement names the span that it belongs to.
            (Side::Wire, _) | (Side::Client, false) if !sent => {
                of(seen.span_id, seen.parent_span_id)
            }
            (Side::Client, false) if self.options.adopt_sent_ids => of(context.span_id, None),
            (Side::Client, false) => of(pairs::beside(seen.span_id), Some(context.span_id)),
            (Side::Server, false) if !facts.is_http() && !facts.is_rpc() => {
                of(pairs::beside(seen.span_id), Some(context.span_id))
            }
            _ => of(seen.span_id, seen.parent_span_id),
        };
        Some(Place::of(ids, context.sampled))
    }

    /// The span of a finished exchange, if one is to be made. `place` is what [`Spans::place`] gave.
    #[must_use]
    pub fn make(
        &mut self,
        exchange: &Exchange<'_>,
        facts: &Facts<'_>,
        ends: &Ends<'_>,
        place: Place,
    ) -> Made {
        let exported = self.instrumented.look(exchange, facts);
        if exported && self.options.suppress_instrumented {
            self.counts.suppressed += 1;
            return Made::Nothing;
        }
        let slow = self.slowest.is_slow(facts, exchange.duration);
        let always = facts.error_type.is_some() || (slow && self.options.tail.slowest);
        let tail = if always { 1.0 } else { self.options.tail.rate };
        let weight = match place.unsettled {
            Some(_) => Some(1.0),
            None => self.weight(&place.ids, place.sampled, tail),
        };
        let Some(weight) = weight else {
            return Made::Nothing;
        };
        let mut span = build::span(exchange, facts, place, weight);
        span.is_between(ends);
        match place.unsettled {
            None => Made::Span(span),
            Some(trace) => Made::Waits(Box::new(Waits { trace, span, tail })),
        }
    }

    /// Keeps a span until its trace is settled; then [`Spans::released`] has it, and where the
    /// exchange was counted its exemplar is.
    pub fn hold(&mut self, waits: Waits, counted: Option<Counted>) {
        let Waits { trace, span, tail } = waits;
        let held = Held {
            span,
            tail,
            counted,
        };
        self.causes.traces.hold(trace, held);
    }

    /// For how many spans one stands; `None` if it is not kept.
    fn weight(&mut self, ids: &Ids, sampled: Option<bool>, tail: f64) -> Option<f64> {
        let head = self.options.head.probability(sampled);
        let weight = sampling::weight(&ids.trace_id, head * tail);
        match weight {
            Some(_) => self.counts.made += 1,
            None => self.counts.unsampled += 1,
        }
        weight
    }

    /// Takes the spans whose trace was settled by what was told since, or has waited long enough at
    /// `now`; with `None`, all that wait.
    pub fn released(&mut self, now: Option<Nanos>) -> Vec<Span> {
        let traces = &mut self.causes.traces;
        match now {
            Some(now) => traces.expire(now),
            None => traces.finish(),
        }
        let released = traces.released();
        let spans = released.into_iter().filter_map(|(held, common)| {
            let mut span = held.span;
            span.ids.trace_id = common.id;
            span.ids.flags = common.flags;
            span.weight = self.weight(&span.ids, common.sampled, held.tail)?;
            if let Some(counted) = held.counted {
                counted.exemplify((span.ids.trace_id, span.ids.span_id));
            }
            Some(span)
        });
        spans.collect()
    }
}
