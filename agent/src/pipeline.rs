//! From a capture to rendered exchanges and statistics: what `wirespan replay` does, for callers.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use wirespan_engine::api::Policy;
use wirespan_engine::{Config, Registry, Stats};
use wirespan_export::metrics::Metrics;
use wirespan_export::red::Red;
use wirespan_export::table::Colour;
use wirespan_replay::{CaptureStats, Error, Input, Options, Progress};
use wirespan_telemetry::Queue;

use crate::collect::{Batch, Collector, Merger};
use crate::filter::Filter;
use crate::signals::{self, Signals};

/// How exchanges are rendered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Lines for people.
    Table(Colour),
    /// JSON lines, `wirespan.record/1`; reports of open exchanges are `wirespan.open/1`.
    Records,
    /// OTLP as lines of JSON: a span each, and at the end the metrics.
    OtlpJson,
    /// Not at all; they are only counted.
    Nothing,
}

/// How captures are replayed.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The protocols to look for.
    pub registry: Arc<Registry>,
    /// Threads that parse. The output does not depend on it.
    pub jobs: usize,
    /// What may be shown as text.
    pub policy: Policy,
    /// Which exchanges are rendered and counted.
    pub filter: Arc<Filter>,
    /// How they are rendered.
    pub format: Format,
    /// After how long, and then how often, exchanges that are still open are rendered, in
    /// nanoseconds. They are not counted.
    pub report_open: Option<u64>,
    /// How metrics and spans are made; `None` for not at all, or as a format needs them.
    pub signals: Option<Signals>,
    /// Where spans go, besides being rendered. The replay waits where it is full.
    pub queue: Option<Arc<Queue>>,
}

/// What a capture held.
#[derive(Debug)]
pub struct Found {
    /// Statistics over the exchanges that passed the filter.
    pub red: Red,
    /// The metrics over the same exchanges, where they were made.
    pub metrics: Option<Metrics>,
    /// What became of every byte, whatever the filter.
    pub stats: Stats,
    /// What was in the file.
    pub capture: CaptureStats,
    /// Why the capture could not be read to its end, or at all.
    pub error: Option<Error>,
}

impl Pipeline {
    /// A pipeline for `registry` that renders all exchanges as records, redacted, on one thread.
    #[must_use]
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            jobs: 1,
            policy: Policy::default(),
            filter: Arc::default(),
            format: Format::Records,
            report_open: None,
            signals: None,
            queue: None,
        }
    }

    /// Replays `input`. Rendered exchanges go to `write` in the order of their completion;
    /// `progress` also hears how many exchanges there were so far.
    ///
    /// # Errors
    ///
    /// What `write` failed with; the replay ends there. Trouble with the input is in
    /// [`Found::error`].
    pub fn run(
        &self,
        input: Input,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
        mut progress: impl FnMut(Progress, u64),
    ) -> io::Result<Found> {
        let mut config = Config::default();
        config.policy = self.policy.clone();
        config.report_open = self.report_open;
        let needed = || (self.format == Format::OtlpJson).then(Signals::default);
        let signals = self.signals.clone().or_else(needed);
        let options = Options {
            jobs: self.jobs,
            registry: Arc::clone(&self.registry),
            engine: config,
        };
        let exchanges = std::cell::Cell::new(0);
        let live = input.is_live();
        let mut merger = Merger::default();
        let mut lines = Vec::new();
        let mut written = Ok(());
        let deliver = |batches: Vec<Batch>| {
            let fresh: u64 = batches.iter().map(|batch| batch.exchanges).sum();
            exchanges.set(exchanges.get() + fresh);
            lines.clear();
            merger.merge(&batches, &mut lines);
            if live {
                // Whoever watches wants to see what there is.
                merger.finish(&mut lines);
            }
            if lines.is_empty() {
                return ControlFlow::Continue(());
            }
            written = write(&lines);
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        let report = wirespan_replay::run(
            input,
            &options,
            |_| {
                let filter = Arc::clone(&self.filter);
                Collector::new(filter, self.format, signals.as_ref(), self.queue.clone())
            },
            deliver,
            |now| progress(now, exchanges.get()),
        );
        written?;
        lines.clear();
        merger.finish(&mut lines);
        let mut red = Red::default();
        let metrics = signals
            .as_ref()
            .map(|signals| Metrics::new(signals.metrics));
        for collector in &report.collectors {
            red.merge(collector.red());
            if let (Some(metrics), Some(part)) = (&metrics, collector.metrics()) {
                metrics.merge(part);
            }
        }
        if let (Some(metrics), Format::OtlpJson) = (&metrics, self.format) {
            let collection = signals::collection(metrics, report.capture.last);
            Signals::lines(signals.as_ref()).metrics(&mut lines, &collection);
        }
        if !lines.is_empty() {
            write(&lines)?;
        }
        Ok(Found {
            red,
            metrics,
            stats: report.stats,
            capture: report.capture,
            error: report.error,
        })
    }
}
