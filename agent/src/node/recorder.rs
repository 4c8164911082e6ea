//! What becomes of an exchange that the agent has observed.

use std::sync::Arc;

use wirespan_engine::{Exchange, Nanos, Sink};
use wirespan_export::observe::Observer;
use wirespan_export::record::RecordWriter;
use wirespan_telemetry::Queue;

use super::flows::Flows;
use super::lines::Lines;
use crate::census::Census;
use crate::filter::Filter;
use crate::top::Watched;

/// Takes exchanges of the engine.
pub(super) struct Recorder {
    pub(super) filter: Filter,
    pub(super) observer: Observer,
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) census: Census,
    pub(super) own_pid: u32,
    pub(super) flows: Arc<Flows>,
    pub(super) lines: Option<Lines>,
    pub(super) records: RecordWriter,
    /// The line in work.
    pub(super) line: Vec<u8>,
    pub(super) watched: Watched,
}

impl Sink for Recorder {
    fn begun(&mut self, request: &Exchange<'_>) {
        self.observer.begun(request);
    }

    fn exchange(&mut self, exchange: &Exchange<'_>) {
        // What the program itself exports, and who asks it for metrics, would be counted by being
        // counted.
        let own = exchange
            .process
            .is_some_and(|process| process.pid == self.own_pid);
        if own || !self.filter.matches(exchange) {
            self.observer.left_out(exchange);
            return;
        }
        let known = self.census.known(exchange);
        let ends = known.ends();
        if self.lines.is_some() || self.flows.is_followed() {
            self.line.clear();
            self.records.write_between(&mut self.line, exchange, &ends);
            self.flows.tell(&self.line);
            if let Some(lines) = &self.lines {
                lines.feed(&self.line);
            }
        }
        self.watched.record(exchange, &ends);
        let span = self.observer.exchange_between(exchange, &ends);
        if let (Some(span), Some(queue)) = (span, &self.queue) {
            queue.push(span);
        }
    }
}

impl Recorder {
    /// What became of records, where they go to a file.
    pub(super) fn written(&self) -> Option<[u64; 3]> {
        let lines = self.lines.as_ref();
        lines.map(|lines| lines.counts().now())
    }

    /// Exports the spans that need not wait for their trace any longer: at `now`, or at the end.
    pub(super) fn release(&mut self, now: Option<Nanos>) {
        for span in self.observer.released(now) {
            if let Some(queue) = &self.queue {
                queue.push(span);
            }
        }
    }
}
