//! `wirespan agent`: live traffic to metrics and spans, until stopped.

mod ask;
mod control;
mod desk;
mod flows;
mod governor;
mod kubernetes;
mod lines;
mod log;
mod own;
mod recorder;
mod recording;
mod shelf;
mod status;
mod systemd;
mod watch;

use std::fs;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use clap::ArgMatches;
use serde_json::{Value, json};
use wirespan_capture::{HookSet, Live, Options};
use wirespan_engine::{Closed, Nanos, Registry};
use wirespan_export::metrics::Metrics;
use wirespan_export::record::RecordWriter;
use wirespan_export::semconv::Routes;
use wirespan_export::spans;
use wirespan_identity::Root;
use wirespan_telemetry::{Admin, Config as Exporting, Doors, Exporter, Scrape};

use crate::census::{Census, Taps};
use crate::cli::AgentArgs;
use crate::config::{self, Config, Effective, Fault, Running, Sources};
use crate::doctor;
use crate::exit::Exit;
use crate::live;
use crate::terminal::Terminal;
use crate::top::Watched;
use crate::workers;
pub(crate) use ask::{default_socket, get, status};
use control::{Control, Order, Orders};
use desk::Desk;
use flows::Flows;
pub(crate) use governor::Budget;
use governor::{Governor, Resource, Step, Usage};
use lines::{Lines, Target};
use log::Log;
use own::Own;
use recorder::Recorder;
use recording::Recording;
use status::{Status, Vitals};
use systemd::Notify;
use watch::{Seen, Watch};

/// How often the program looks at itself, and at series that nothing was counted in.
const LOOK: Duration = Duration::from_secs(1);
/// How often memory that is free is given back to the kernel: what one burst needed is not needed
/// for ever.
const RETURN: Duration = Duration::from_secs(60);

/// Runs `agent`; `matches` are those of its command line.
pub(crate) fn run(
    args: &AgentArgs,
    matches: Option<&ArgMatches>,
    registry: &Arc<Registry>,
    terminal: &Terminal,
) -> Exit {
    match matches.map(|matches| try_run(args, matches, registry, terminal)) {
        Some(Err((exit, message))) => {
            terminal.error(&message);
            exit
        }
        Some(Ok(())) | None => Exit::Done,
    }
}

/// What the agent was told to do, and what it takes to do it.
struct Plan {
    effective: Effective,
    running: Running,
    exporting: Exporting,
    scrape: Option<Scrape>,
    doors: Option<Doors>,
    /// Why it does without the Unix socket that it would have had.
    no_socket: Option<String>,
    lines: Option<Lines>,
}

impl Plan {
    fn make(sources: &Sources, registry: &Registry) -> Result<Self, Fault> {
        let effective = sources.load()?;
        let running = Running::of(sources, &effective, registry)?;
        let exporting = config::exporting(sources, &effective)?;
        let scrape = listen(&effective.config.metrics.listen)?;
        let pushes = exporting.traces.is_some() || exporting.metrics.is_some();
        if scrape.is_none() && !pushes && effective.config.records.file.is_none() {
            return Err(Fault::new(
                "nothing would be exported: give --listen, --otlp or --records, or set \
                 OTEL_EXPORTER_OTLP_ENDPOINT",
            ));
        }
        let (doors, no_socket) = doors(&effective.config.admin)?;
        Ok(Self {
            effective,
            running,
            exporting,
            scrape,
            doors,
            no_socket,
            lines: None,
        })
    }

    fn config(&self) -> &Config {
        &self.effective.config
    }

    /// Opens the file for records, if there is to be one.
    fn open_lines(&mut self, log: &Log) -> Result<(), Fault> {
        let keys = &self.config().records;
        let Some(file) = &keys.file else {
            return Ok(());
        };
        let target = Target {
            path: file.into(),
            most: u64::from(keys.rotate) << 20,
            keep: keys.files,
        };
        let lines = Lines::start(target, log.clone());
        let wrong = |error| Fault::new(format!("records.file: {file}: {error}"));
        self.lines = Some(lines.map_err(wrong)?);
        Ok(())
    }

    /// What is observed, and how.
    fn options(&self, registry: &Arc<Registry>) -> Options {
        let observe = &self.config().observe;
        let mut engine = wirespan_engine::Config::default();
        engine.policy = self.running.policy.clone();
        let hooks = observe.hooks.as_ref().and_then(|name| name.parse().ok());
        Options {
            hooks: hooks.map_or_else(|| HookSet::preferred().to_vec(), |set| vec![set]),
            filters: self.running.filters.clone(),
            tls: observe.tls,
            ring_bytes: observe.buffer << 20,
            registry: Arc::clone(registry),
            engine,
            workers: workers::number(observe.workers),
        }
    }
}

fn try_run(
    args: &AgentArgs,
    matches: &ArgMatches,
    registry: &Arc<Registry>,
    terminal: &Terminal,
) -> Result<(), (Exit, String)> {
    let wrong = |fault: Fault| (Exit::Usage, fault.to_string());
    let sources = Sources::of(args.config.as_deref(), matches).map_err(wrong)?;
    let seen = Seen::of(sources.file.as_deref());
    let mut plan = Plan::make(&sources, registry).map_err(wrong)?;
    let log = Log::new(*terminal, plan.running.level);
    plan.open_lines(&log).map_err(wrong)?;
    let stop = live::stop_flag();
    let stop = stop.map_err(|e| (Exit::Preflight, format!("cannot watch for signals: {e}")))?;
    let options = plan.options(registry);
    let (hooks, ring_bytes) = (options.hooks.clone(), options.ring_bytes);
    let mut live = Live::start(options).map_err(|error| {
        let advice = doctor::advice(&error, &hooks, ring_bytes);
        (Exit::Preflight, advice)
    })?;
    live.set_call_bytes(plan.running.call_bytes)
        .map_err(|error| (Exit::Preflight, error.to_string()))?;
    log.info(&format!("observing with {} hooks", live.hooks()));
    if let Some(scrape) = &plan.scrape {
        log.info(&format!("metrics at http://{}/metrics", scrape.address()));
    }
    let targets = [&plan.exporting.traces, &plan.exporting.metrics];
    for target in targets.into_iter().flatten() {
        log.info(&format!("exporting to {}", target.endpoint));
    }
    if let Some(why) = &plan.no_socket {
        log.warn(why);
    }
    if let Some(address) = plan.doors.as_ref().and_then(Doors::address) {
        log.info(&format!("asked at http://{address}"));
    }
    let file = sources.file.clone();
    let effective = plan.effective.clone();
    let (control, orders) = Control::new(sources, effective, registry, log.clone());
    let control = Arc::new(control);
    let agent = Agent::start(plan, live.hooks(), &control, log);
    let agent = agent.map_err(|message| (Exit::Preflight, message))?;
    let watch = Watch::start(file, seen, control);
    let _watch = watch.map_err(|e| (Exit::Preflight, format!("cannot watch the file: {e}")))?;
    agent.run(live, orders, &stop, args)
}

/// The socket for Prometheus, unless there is to be none.
fn listen(address: &str) -> Result<Option<Scrape>, Fault> {
    // Whatever it is, it was checked when it was read.
    let Ok(address) = address.parse() else {
        return Ok(None);
    };
    let scrape = Scrape::bind(address);
    scrape
        .map(Some)
        .map_err(|error| Fault::new(error.to_string()))
}

/// Where the agent is asked while it runs; or why not at the socket where it would be by default.
fn doors(admin: &config::Admin) -> Result<(Option<Doors>, Option<String>), Fault> {
    let address = admin.listen.as_ref().and_then(|text| text.parse().ok());
    let token = admin.token_file.as_ref().map(|path| {
        let text = fs::read_to_string(path);
        let text = text.map_err(|e| Fault::new(format!("admin.token_file: {path}: {e}")))?;
        match text.trim() {
            "" => Err(Fault::new(format!("admin.token_file: {path}: it is empty"))),
            token => Ok(token.to_owned()),
        }
    });
    let token = token.transpose()?;
    let open = |socket: Option<&Path>| Doors::open(socket, address, token.clone());
    let wrong = |error: wirespan_telemetry::Error| Fault::new(error.to_string());
    match (admin.socket.as_deref(), default_socket()) {
        (Some("none"), _) | (None, None) => Ok((Some(open(None).map_err(wrong)?), None)),
        (Some(path), _) => Ok((Some(open(Some(Path::new(path))).map_err(wrong)?), None)),
        (None, Some(path)) => match open(Some(&path)) {
            Ok(doors) => Ok((Some(doors), None)),
            Err(error) => Ok((Some(open(None).map_err(wrong)?), Some(error.to_string()))),
        },
    }
}

/// Metrics, spans and what exports them.
struct Agent {
    recorder: Recorder,
    metrics: Arc<Metrics>,
    status: Arc<Status>,
    exporter: Exporter,
    recording: Option<Recording>,
    log: Log,
    /// What is left when it ends is sent for at most this long.
    flush: Duration,
    governor: Governor,
    /// What the configuration says, of which the governor may do less.
    asked: Asked,
}

/// What the governor may do less of.
struct Asked {
    call_bytes: u32,
    routes: Arc<Routes>,
    spans: spans::Options,
}

impl Asked {
    fn of(running: &Running) -> Self {
        Self {
            call_bytes: running.call_bytes,
            routes: Arc::clone(&running.routes),
            spans: running.spans,
        }
    }
}

impl Agent {
    fn start(
        mut plan: Plan,
        hooks: HookSet,
        control: &Arc<Control>,
        log: Log,
    ) -> Result<Self, String> {
        let signals = config::signals(plan.config(), &plan.exporting, &plan.running);
        let metrics = Arc::new(Metrics::new(signals.metrics));
        let flows = Arc::new(Flows::default());
        let pods = kubernetes::pods(plan.config(), &log)?;
        let parts = (
            Arc::clone(&metrics),
            Arc::clone(control),
            Arc::clone(&flows),
        );
        let status = Arc::new(Status::new(parts, pods.clone(), hooks, wall_clock()));
        let handler = Arc::new(Desk {
            control: Arc::clone(control),
            status: Arc::clone(&status),
            flows: Arc::clone(&flows),
        });
        let admin = plan.doors.take().map(|doors| Admin { doors, handler });
        let scrape = plan.scrape.take();
        let source = Arc::clone(&status);
        let said = log.clone();
        let report = move |message: &str| said.warn(message);
        let exporter = Exporter::start(&plan.exporting, source, scrape, admin, report);
        let exporter = exporter.map_err(|error| error.to_string())?;
        let exports = plan.exporting.traces.is_some() || plan.exporting.metrics.is_some();
        status.exports(exporter.queue(), exporter.counts(), exports);
        let queue = plan.exporting.traces.as_ref();
        Ok(Self {
            recorder: Recorder {
                filter: plan.running.filter.clone(),
                observer: signals.observer_of(Arc::clone(&metrics), queue.is_some()),
                queue: queue.map(|_| Arc::clone(exporter.queue())),
                census: Census::new(Root::default(), pods),
                own_pid: process::id(),
                flows,
                lines: plan.lines.take(),
                records: RecordWriter::default(),
                line: Vec::new(),
                watched: Watched::default(),
            },
            metrics,
            status,
            exporter,
            recording: None,
            log,
            flush: Duration::from_nanos(plan.config().stop.flush.0),
            governor: Governor::new(plan.running.budget),
            asked: Asked::of(&plan.running),
        })
    }

    /// Observes until it is time to end; then drains what the kernel still holds, and flushes.
    fn run(
        mut self,
        mut live: Live,
        orders: Orders,
        stop: &AtomicBool,
        args: &AgentArgs,
    ) -> Result<(), (Exit, String)> {
        let limit = args.duration.map(|limit| Duration::from_nanos(limit.0));
        let until = limit.map(|limit| Instant::now() + limit);
        let mut next_look = Instant::now();
        let mut next_return = Instant::now() + RETURN;
        let mut looked = (Own::read(), Instant::now());
        let mut systemd = Notify::of_environment();
        systemd.ready();
        let mut failed = None;
        while !stop.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
            let mut census = self.recorder.census.clone();
            let mut taps = Taps {
                census: &mut census,
                other: self.recording.as_mut().map(Recording::tap),
            };
            self.recorder.watched.at(live.now());
            if let Err(error) = live.poll(&mut self.recorder, &mut taps) {
                failed = Some((Exit::Preflight, error.to_string()));
                break;
            }
            while let Ok(order) = orders.try_recv() {
                self.obey(order, &mut live);
            }
            systemd.alive(Instant::now());
            self.look_at_recording(Instant::now());
            self.recorder.release(Some(live.told_until()));
            if Instant::now() >= next_look {
                next_look = Instant::now() + LOOK;
                self.metrics.expire(live.now());
                self.govern(&mut looked, &mut live);
                self.status.set(Vitals {
                    ledger: live.ledger(),
                    losses: live.losses(),
                    stats: live.stats(),
                    workers: live.workers(),
                    spans: self.recorder.observer.span_counts(),
                    level: self.governor.level(),
                    records: self.recorder.written(),
                });
            }
            if Instant::now() >= next_return {
                next_return = Instant::now() + RETURN;
                wirespan_capture::give_back();
            }
        }
        self.log.info("stopping");
        systemd.stopping();
        // Whoever waits for an answer is told at once.
        drop(orders);
        let mut census = self.recorder.census.clone();
        let finished = live.finish(&mut self.recorder, &mut census);
        self.recorder.release(None);
        self.status.set(Vitals {
            ledger: finished.ledger,
            losses: finished.losses,
            stats: finished.stats.clone(),
            workers: finished.workers(),
            spans: self.recorder.observer.span_counts(),
            level: self.governor.level(),
            records: self.recorder.written(),
        });
        self.recorder.flows.end();
        if let Some(lines) = self.recorder.lines.take() {
            lines.finish(self.flush);
        }
        if let Some(recording) = self.recording.take() {
            recording.finish();
        }
        let counts = Arc::clone(self.exporter.counts());
        self.exporter.stop(self.flush);
        let left = counts.spans_given_up.load(Ordering::Relaxed);
        if left > 0 {
            self.log.warn(&format!("{left} spans were given up"));
        }
        failed.map_or(Ok(()), Err)
    }

    fn obey(&mut self, order: Order, live: &mut Live) {
        match order {
            Order::Apply(running, done) => {
                let applied = self.apply(*running, live);
                // Whoever asked may have lost patience.
                let _ = done.send(applied.map_err(|error| error.to_string()));
            }
            Order::Record(wanted, begun) => {
                let body = match self.recording {
                    Some(_) => None,
                    None => {
                        let mut census = self.recorder.census.clone();
                        let (recording, body) = Recording::start(wanted, |tape| {
                            live.introduce_to(tape, &mut self.recorder, &mut census);
                        });
                        self.recording = Some(recording);
                        Some(body)
                    }
                };
                let _ = begun.send(body);
            }
            Order::Picture(told) => {
                let lost = live.losses().ring_full_events;
                let watched = &mut self.recorder.watched;
                let _ = told.send(watched.picture(&self.asked.routes, lost));
            }
            Order::Connections(told) => {
                let mut connections = Vec::new();
                live.connections(|of| connections.push(connection(of)));
                let _ = told.send(connections);
            }
        }
    }

    /// Ends a recording whose time has come.
    fn look_at_recording(&mut self, now: Instant) {
        if let Some(recording) = &mut self.recording
            && let Some(why) = recording.over(now)
        {
            self.log.audit(&format!("the recording has ended: {why}"));
            if let Some(recording) = self.recording.take() {
                recording.finish();
            }
        }
    }

    /// Goes on with another configuration, as far as it can change.
    fn apply(
        &mut self,
        mut running: Running,
        live: &mut Live,
    ) -> Result<(), wirespan_capture::Error> {
        let mut census = self.recorder.census.clone();
        let mut taps = Taps {
            census: &mut census,
            other: self.recording.as_mut().map(Recording::tap),
        };
        // What is in work of connections that are left out from now on is not counted.
        std::mem::swap(&mut self.recorder.filter, &mut running.filter);
        if let Err(error) = live.set_filters(&running.filters, &mut self.recorder, &mut taps) {
            self.recorder.filter = running.filter;
            return Err(error);
        }
        self.asked = Asked::of(&running);
        self.governor.set(running.budget);
        self.measure(live)?;
        live.set_policy(running.policy);
        self.log.set(running.level);
        Ok(())
    }

    /// Compares what the agent uses with its budget, and goes on accordingly.
    fn govern(&mut self, looked: &mut (Option<Own>, Instant), live: &mut Live) {
        let (own, at) = (Own::read(), Instant::now());
        let (before, since) = std::mem::replace(looked, (own, at));
        let (Some(own), Some(before)) = (own, before) else {
            return;
        };
        let usage = Usage {
            processors: (own.seconds() - before.seconds()) / (at - since).as_secs_f64(),
            memory: own.resident,
        };
        let Some(step) = self.governor.look(usage) else {
            return;
        };
        let uses = format!(
            "{:.2} processors and {} MiB are in use",
            usage.processors,
            usage.memory >> 20
        );
        match step {
            Step::Down(of) => self.log.warn(&format!(
                "budget of {}: {uses}; one step less is done",
                of.name()
            )),
            Step::Up => self.log.info(&format!("budget: {uses}; one step more is done")),
            Step::Exhausted(of) => self.log.warn(&format!(
                "budget of {}: {uses}, and nothing is left to do without; observe less (observe.…) or \
                 raise it",
                of.name()
            )),
        }
        if let Err(error) = self.measure(live) {
            self.log.warn(&format!("budget: {error}"));
        }
        if step == Step::Down(Resource::Memory) {
            // What was given up is in the allocator's hands until then.
            wirespan_capture::give_back();
        }
    }

    /// Does what the configuration says, as far as the governor allows.
    fn measure(&mut self, live: &mut Live) -> Result<(), wirespan_capture::Error> {
        let measures = self.governor.measures();
        live.set_pause(measures.pause);
        let mut spans = self.asked.spans;
        match measures.spans {
            Some(share) => spans.tail.rate *= share,
            None => spans.any = false,
        }
        let routes = Arc::clone(&self.asked.routes);
        self.recorder.observer.configure(routes, spans);
        self.exporter.queue().set_room(measures.queue());
        live.set_call_bytes(self.asked.call_bytes.min(measures.call_bytes))
    }
}

/// An open connection as `/connections` tells of it.
fn connection(of: &Closed<'_>) -> Value {
    json!({
        "client": of.client.to_string(),
        "server": of.server.to_string(),
        "side": of.side.name(),
        "process": of.process.map(|process| json!({"pid": process.pid, "name": process.name()})),
        "protocol": of.protocol,
        "opaque": of.opaque,
        "exchanges": of.exchanges,
        "request_bytes": of.bytes.to_server,
        "response_bytes": of.bytes.to_client,
    })
}

/// The time of day.
fn wall_clock() -> Nanos {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    Nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
