//! `replay --otlp`: a capture's metrics and spans to a backend, all of them, or exit code 5.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wirespan_telemetry::{Collection, Exporter, Queue, Source, Wanted};

use super::plan::Plan;
use crate::cli::{Output, ReplayArgs};
use crate::signals::{self, Signals};
use crate::terminal::Terminal;

/// How long a request is tried for.
const GIVE_UP: Duration = Duration::from_secs(30);
/// How long to go on when everything was read.
const FINISH: Duration = Duration::from_secs(90);

/// How metrics and spans are made, and the export that they go to.
#[derive(Debug, Default)]
pub(super) struct Signalling {
    pub(super) signals: Option<Signals>,
    pub(super) export: Option<Export>,
}

/// An export under way.
#[derive(Debug)]
pub(super) struct Export {
    exporter: Exporter,
    last: Arc<Last>,
    spans: bool,
    metrics: bool,
}

/// The metrics, which are sent once they are complete.
#[derive(Debug, Default)]
struct Last(Mutex<Collection>);

impl Source for Last {
    fn collect(&self) -> Collection {
        let collection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        collection.clone()
    }
}

/// Starts what the command line asks for.
///
/// # Errors
///
/// What is wrong with it, or with the environment.
pub(super) fn start(
    args: &ReplayArgs,
    plan: &Plan,
    terminal: &Terminal,
) -> Result<Signalling, String> {
    let asked = args.signals.otlp.is_some();
    if !asked && plan.print != Output::OtlpJson {
        return Ok(Signalling::default());
    }
    let config = signals::config(&args.signals, Wanted::Configured);
    let mut config = config.map_err(|error| error.to_string())?;
    config.give_up = GIVE_UP;
    let signals = Some(Signals::of(&args.signals, &config));
    if !asked {
        return Ok(Signalling {
            signals,
            export: None,
        });
    }
    let last = Arc::new(Last::default());
    let terminal = *terminal;
    let report = move |message: &str| terminal.error(message);
    let source = Arc::clone(&last) as Arc<dyn Source>;
    let exporter = Exporter::once(&config, source, report);
    let exporter = exporter.map_err(|error| error.to_string())?;
    Ok(Signalling {
        signals,
        export: Some(Export {
            exporter,
            last,
            spans: config.traces.is_some(),
            metrics: config.metrics.is_some(),
        }),
    })
}

impl Signalling {
    /// Where spans go.
    pub(super) fn queue(&self) -> Option<Arc<Queue>> {
        let export = self.export.as_ref().filter(|export| export.spans)?;
        Some(Arc::clone(export.exporter.queue()))
    }
}

impl Export {
    /// Sends what is left, and the metrics; whether everything has arrived.
    pub(super) fn finish(self, metrics: Collection, terminal: &Terminal) -> bool {
        *self.last.0.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
        let counts = Arc::clone(self.exporter.counts());
        let queue = Arc::clone(self.exporter.queue());
        self.exporter.stop(FINISH);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let sent = count(&counts.spans_sent);
        let lost = count(&counts.spans_refused) + count(&counts.spans_given_up) + queue.dropped();
        let metrics_failed = self.metrics && count(&counts.metrics_failed) > 0;
        if lost > 0 {
            terminal.error(&format!("{lost} spans were not taken, {sent} were"));
        }
        if metrics_failed {
            terminal.error("the metrics were not taken");
        }
        if lost == 0 && !metrics_failed {
            terminal.note(&format!(
                "wirespan: {sent} spans were taken, and the metrics\n"
            ));
        }
        lost == 0 && !metrics_failed
    }
}
