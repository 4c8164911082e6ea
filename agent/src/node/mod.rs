//! `wirespan agent`: live traffic to metrics and spans, until stopped.

mod status;

use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use wirespan_capture::Live;
use wirespan_engine::{Exchange, Nanos, Registry, Sink};
use wirespan_export::metrics::Metrics;
use wirespan_export::observe::Observer;
use wirespan_telemetry::{Config, Exporter, Queue, Scrape, Wanted};

use crate::cli::{AgentArgs, Redact};
use crate::doctor;
use crate::exit::Exit;
use crate::filter::Filter;
use crate::live;
use crate::signals::{self, Signals};
use crate::terminal::Terminal;
use status::{Status, Vitals};

/// How often the program looks at itself, and at series that nothing was counted in.
const LOOK: Duration = Duration::from_secs(1);

/// Runs `agent`.
pub(crate) fn run(args: &AgentArgs, registry: &Arc<Registry>, terminal: &Terminal) -> Exit {
    match try_run(args, registry, terminal) {
        Ok(()) => Exit::Done,
        Err((exit, message)) => {
            terminal.error(&message);
            exit
        }
    }
}

fn try_run(
    args: &AgentArgs,
    registry: &Arc<Registry>,
    terminal: &Terminal,
) -> Result<(), (Exit, String)> {
    let usage = |message: String| (Exit::Usage, message);
    args.filter.check(registry).map_err(usage)?;
    let config = signals::config(&args.signals, Wanted::Configured);
    let config = config.map_err(|error| usage(error.to_string()))?;
    let scrape = listen(&args.listen).map_err(usage)?;
    let address = scrape.as_ref().map(Scrape::address);
    if scrape.is_none() && config.traces.is_none() && config.metrics.is_none() {
        return Err(usage(
            "nothing would be exported: give --listen or --otlp, or set OTEL_EXPORTER_OTLP_ENDPOINT"
                .into(),
        ));
    }
    let stop = live::stop_flag();
    let stop = stop.map_err(|e| (Exit::Preflight, format!("cannot watch for signals: {e}")))?;
    let options = live::options(&args.observe, &args.filter, Redact::On, registry);
    let (hooks, ring_bytes) = (options.hooks.clone(), options.ring_bytes);
    let live = Live::start(options);
    let live = live.map_err(|error| {
        let advice = doctor::advice(&error, &hooks, ring_bytes);
        (Exit::Preflight, advice)
    })?;
    terminal.note(&format!(
        "wirespan: observing with {} hooks\n",
        live.hooks()
    ));
    if let Some(address) = address {
        terminal.note(&format!("wirespan: metrics at http://{address}/metrics\n"));
    }
    for target in [&config.traces, &config.metrics].into_iter().flatten() {
        terminal.note(&format!("wirespan: exporting to {}\n", target.endpoint));
    }
    let agent = Agent::start(args, &config, scrape, terminal);
    let agent = agent.map_err(|error| (Exit::Preflight, error.to_string()))?;
    agent.run(live, &stop, args, terminal)
}

/// The socket for Prometheus, unless there is to be none.
fn listen(address: &str) -> Result<Option<Scrape>, String> {
    if address == "none" {
        return Ok(None);
    }
    let parsed = address.parse();
    let parsed = parsed.map_err(|_| {
        format!("--listen {address}: expected an address and port, such as 127.0.0.1:9464, or none")
    })?;
    let scrape = Scrape::bind(parsed).map_err(|error| error.to_string())?;
    Ok(Some(scrape))
}

/// Metrics, spans and what exports them.
struct Agent {
    recorder: Recorder,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    exporter: Exporter,
}

/// Takes exchanges of the engine.
struct Recorder {
    filter: Filter,
    observer: Observer,
    queue: Option<Arc<Queue>>,
    own_pid: u32,
}

impl Sink for Recorder {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        // What the program itself exports, and who asks it for metrics, would be counted by being
        // counted.
        let own = exchange
            .process
            .is_some_and(|process| process.pid == self.own_pid);
        if own || !self.filter.matches(exchange) {
            return;
        }
        let span = self.observer.exchange(exchange);
        if let (Some(span), Some(queue)) = (span, &self.queue) {
            queue.push(span);
        }
    }
}

impl Agent {
    fn start(
        args: &AgentArgs,
        config: &Config,
        scrape: Option<Scrape>,
        terminal: &Terminal,
    ) -> Result<Self, wirespan_telemetry::Error> {
        let mut signals = Signals::of(&args.signals, config);
        signals.metrics.ttl = args.series_ttl.0;
        signals.spans.suppress_instrumented = !args.duplicate_spans;
        signals.spans.adopt_sent_ids = !args.own_client_ids;
        let metrics = Arc::new(Metrics::new(signals.metrics));
        let status = Arc::new(Status::new(Arc::clone(&metrics), wall_clock()));
        let source = Arc::clone(&status);
        let terminal = *terminal;
        let report = move |message: &str| terminal.note(&format!("wirespan: {message}\n"));
        let exporter = Exporter::start(config, source, scrape, report)?;
        status.exports(exporter.queue(), exporter.counts());
        let queue = config.traces.as_ref();
        Ok(Self {
            recorder: Recorder {
                filter: args.filter.clone(),
                observer: signals.observer_of(Arc::clone(&metrics)),
                queue: queue.map(|_| Arc::clone(exporter.queue())),
                own_pid: process::id(),
            },
            metrics,
            status,
            exporter,
        })
    }

    /// Observes until it is time to end; then drains what the kernel still holds, and flushes.
    fn run(
        mut self,
        mut live: Live,
        stop: &AtomicBool,
        args: &AgentArgs,
        terminal: &Terminal,
    ) -> Result<(), (Exit, String)> {
        let limit = args.duration.map(|limit| Duration::from_nanos(limit.0));
        let until = limit.map(|limit| Instant::now() + limit);
        let mut next_look = Instant::now();
        let mut failed = None;
        while !stop.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
            if let Err(error) = live.poll(&mut self.recorder, &mut ()) {
                failed = Some((Exit::Preflight, error.to_string()));
                break;
            }
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK;
                self.metrics.expire(live.now());
                self.status.set(Vitals {
                    ledger: *live.ledger(),
                    losses: live.losses(),
                    stats: live.stats(),
                    spans: self.recorder.observer.span_counts(),
                });
            }
        }
        terminal.note("wirespan: stopping\n");
        let finished = live.finish(&mut self.recorder, &mut ());
        self.status.set(Vitals {
            ledger: finished.ledger,
            losses: finished.losses,
            stats: finished.stats.clone(),
            spans: self.recorder.observer.span_counts(),
        });
        let counts = Arc::clone(self.exporter.counts());
        self.exporter.stop(Duration::from_nanos(args.flush.0));
        let left = counts.spans_given_up.load(Ordering::Relaxed);
        if left > 0 {
            terminal.note(&format!("wirespan: {left} spans were given up\n"));
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The time of day.
fn wall_clock() -> Nanos {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
