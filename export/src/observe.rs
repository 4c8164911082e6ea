//! From exchanges to metrics and spans: what every source of exchanges calls.

use std::sync::Arc;

use wirespan_engine::{Exchange, Nanos};

use crate::metrics::{Metrics, Scratch};
use crate::owner::Ends;
use crate::semconv::{Facts, Routes};
use crate::spans::{Counts, Made, Options, Span, Spans};

/// Counts exchanges and makes spans of them. One for each thread; the metrics may be shared.
#[derive(Clone, Debug)]
pub struct Observer {
    metrics: Arc<Metrics>,
    routes: Arc<Routes>,
    spans: Option<Spans>,
    scratch: Scratch,
    route: String,
}

impl Observer {
    /// Counts into `metrics`; makes spans where `spans` is given. Exemplars name spans that somebody
    /// exports: those that are made, or where none are, those that the requests name.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, routes: Arc<Routes>, spans: Option<Spans>) -> Self {
        Self {
            metrics,
            routes,
            spans,
            scratch: Scratch::default(),
            route: String::new(),
        }
    }

    /// Changes how routes are found, and how spans are made, of what comes from now on.
    pub fn configure(&mut self, routes: Arc<Routes>, options: Options) {
        self.routes = routes;
        if let Some(spans) = &mut self.spans {
            spans.configure(options);
        }
    }

    /// Takes a request that begins, whose task is known. Each comes again, as one that is finished
    /// or left out.
    pub fn begun(&mut self, request: &Exchange<'_>) {
        if let Some(spans) = &mut self.spans {
            spans.begin(request);
        }
    }

    /// Takes a finished exchange that is not to be counted.
    pub fn left_out(&mut self, exchange: &Exchange<'_>) {
        if let Some(spans) = &mut self.spans {
            spans.leave_out(exchange);
        }
    }

    /// Counts a finished exchange. Returns its span, if it is one to be exported; the exemplars of
    /// metrics name only such.
    pub fn exchange(&mut self, exchange: &Exchange<'_>) -> Option<Span> {
        self.exchange_between(exchange, &Ends::default())
    }

    /// The same of an exchange whose ends are known.
    pub fn exchange_between(&mut self, exchange: &Exchange<'_>, ends: &Ends<'_>) -> Option<Span> {
        let facts = Facts::of(exchange, &self.routes, &mut self.route).between(ends);
        if let Some(owner) = ends.owner {
            self.metrics.introduce(&owner.service, &mut self.scratch);
        }
        let spans = self.spans.as_mut();
        let made = spans.map(|spans| spans.of(exchange, &facts, ends));
        let named = match &made {
            Some(Made::Span(span)) => Some((span.ids.trace_id, span.ids.span_id)),
            Some(Made::Waits(_) | Made::Nothing) => None,
            None => sent(exchange),
        };
        let (metrics, scratch) = (&self.metrics, &mut self.scratch);
        metrics.record(exchange, &facts, named, scratch);
        match (made, &mut self.spans) {
            (Some(Made::Span(span)), _) => Some(span),
            (Some(Made::Waits(waits)), Some(spans)) => {
                spans.hold(*waits, metrics.latest(exchange, &facts, scratch));
                None
            }
            _ => None,
        }
    }

    /// Takes the spans that had to wait for their trace, at `now` by the clock of exchanges; with
    /// `None`, all that still wait. To be called now and then, and at the end.
    pub fn released(&mut self, now: Option<Nanos>) -> Vec<Span> {
        let spans = self.spans.as_mut();
        spans.map_or_else(Vec::new, |spans| spans.released(now))
    }

    /// The metrics.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What became of spans so far.
    #[must_use]
    pub fn span_counts(&self) -> Counts {
        self.spans.as_ref().map(Spans::counts).unwrap_or_default()
    }
}

/// The span that a request names, unless whoever sent it does not record it.
fn sent(exchange: &Exchange<'_>) -> Option<([u8; 16], [u8; 8])> {
    let context = exchange.trace.as_ref()?;
    let is_recorded = context.sampled != Some(false);
    is_recorded.then_some((context.trace_id, context.span_id))
}
