//! Spans by the semantic conventions: one for each exchange, with the ids of its trace context.
//!
//! ```text
//! exchange ─▶ instrumented? ─▶ ids (pairs) ─▶ head sampling ─▶ tail sampling ─▶ span
//! ```
//!
//! Metrics are counted before any of this and stay exact whatever is left out here.

mod build;
mod instrumented;
mod pairs;
mod sampling;
#[cfg(test)]
mod tests;

use wirespan_engine::api::{Propagation, Value};
use wirespan_engine::{Exchange, Nanos, Process, Side};

use crate::ids::SpanIds;
use crate::semconv::{Facts, Kind};
use instrumented::Instrumented;
use pairs::Pairs;
pub use sampling::{Head, Tail};

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
    pairs: Pairs,
    slowest: sampling::Slowest,
    counts: Counts,
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
}

impl Spans {
    /// With these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            instrumented: Instrumented::default(),
            pairs: Pairs::default(),
            slowest: sampling::Slowest::default(),
            counts: Counts::default(),
        }
    }

    /// Makes spans this way from now on.
    pub const fn configure(&mut self, options: Options) {
        self.options = options;
    }

    /// What became of spans so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The ids that the exchange has as a span, whether or not it is kept.
    #[must_use]
    pub fn ids(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>) -> Ids {
        let Some(context) = &exchange.trace else {
            return self.pairs.ids(exchange, facts.kind);
        };
        let flags = context.flags;
        let seen = SpanIds::of(exchange).unwrap_or(SpanIds {
            trace_id: context.trace_id,
            span_id: context.span_id,
            parent_span_id: None,
        });
        let of = |span_id, parent_span_id| Ids {
            trace_id: context.trace_id,
            span_id,
            parent_span_id,
            flags,
        };
        let sent = exchange.side == Side::Client && (facts.is_http() || facts.is_rpc());
        let shared = context.propagation == Propagation::B3;
        match (exchange.side, shared) {
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
        }
    }

    /// The span of a finished exchange, if it is to be exported. `ids` are those that
    /// [`Spans::ids`] gave.
    #[must_use]
    pub fn make(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>, ids: Ids) -> Option<Span> {
        let exported = self.instrumented.look(exchange, facts);
        if exported && self.options.suppress_instrumented {
            self.counts.suppressed += 1;
            return None;
        }
        let decision = exchange.trace.as_ref().and_then(|trace| trace.sampled);
        let head = self.options.head.probability(decision);
        let slow = self.slowest.is_slow(facts, exchange.duration);
        let always = facts.error_type.is_some() || (slow && self.options.tail.slowest);
        let tail = if always { 1.0 } else { self.options.tail.rate };
        let Some(weight) = sampling::weight(&ids.trace_id, head * tail) else {
            self.counts.unsampled += 1;
            return None;
        };
        self.counts.made += 1;
        Some(build::span(exchange, facts, ids, weight))
    }
}
