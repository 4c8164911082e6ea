//! How metrics and spans are made, and where they go, by command line and environment.

use std::sync::Arc;

use wirespan_engine::Nanos;
use wirespan_export::metrics::{self, Metrics};
use wirespan_export::observe::Observer;
use wirespan_export::semconv::Routes;
use wirespan_export::spans::{self, Spans};
use wirespan_telemetry::{Collection, Config, Error, JsonLines, Resource, Wanted};

use crate::cli::{SignalArgs, Switch};

/// How metrics and spans are made of exchanges.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// How metrics are kept.
    pub metrics: metrics::Options,
    /// How routes are found.
    pub routes: Arc<Routes>,
    /// How spans are made.
    pub spans: spans::Options,
    /// What is said of all services.
    pub resource: Resource,
}

impl Signals {
    /// By the command line; what it does not say, by the environment.
    pub(crate) fn of(args: &SignalArgs, config: &Config) -> Self {
        let mut spans = config.spans;
        spans.tail.rate = args.keep_spans;
        Self {
            metrics: metrics::Options {
                max_series: args.max_series,
                exponential: config.exponential,
                sizes: args.body_sizes,
                ..metrics::Options::default()
            },
            routes: Arc::new(Routes {
                patterns: args.route.clone(),
                heuristic: args.route_heuristic == Switch::On,
                methods: config.known_methods.clone(),
            }),
            spans,
            resource: config.resource.clone(),
        }
    }

    /// An observer with metrics of its own.
    pub(crate) fn observer(&self) -> Observer {
        self.observer_of(Arc::new(Metrics::new(self.metrics)), true)
    }

    /// An observer that counts into `metrics`, and makes spans where somebody wants them.
    pub(crate) fn observer_of(&self, metrics: Arc<Metrics>, spans: bool) -> Observer {
        let spans = spans.then(|| Spans::new(self.spans));
        Observer::new(metrics, Arc::clone(&self.routes), spans)
    }

    /// What writes them as lines of JSON.
    pub(crate) fn lines(signals: Option<&Self>) -> JsonLines {
        let resource = signals.map(|signals| signals.resource.clone());
        JsonLines::new(resource.unwrap_or_default())
    }
}

/// Reads the environment; `--otlp` comes before it.
pub(crate) fn config(args: &SignalArgs, wanted: Wanted) -> Result<Config, Error> {
    let variable = |name: &str| std::env::var(name).ok();
    Config::read(&variable, args.otlp.as_deref(), wanted)
}

/// The metrics of a capture, as of its latest packet.
pub(crate) fn collection(metrics: &Metrics, latest: Option<Nanos>) -> Collection {
    let snapshot = metrics.snapshot();
    let time = latest.unwrap_or_default().max(snapshot.latest);
    Collection {
        snapshot,
        time,
        ..Collection::default()
    }
}
