//! What the agent says of itself, beside the metrics that it aggregates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::Value;
use wirespan_capture::{HookSet, Ledger, Losses, WorkerLoad};
use wirespan_engine::{FILTERED, Nanos, Stats};
use wirespan_export::honesty;
use wirespan_export::metrics::{Metrics, Reading, Snapshot};
use wirespan_export::spans;
use wirespan_telemetry::{Collection, Counts, Queue, Source};

use super::control::{Control, State};
use super::flows::{Flows, Followed};
use super::governor::Level;
use super::own::Own;
use crate::pods::Pods;

/// Where metrics come from: the aggregated ones, and those of the agent itself.
#[derive(Debug)]
pub(super) struct Status {
    metrics: Arc<Metrics>,
    began: Nanos,
    vitals: Mutex<Vitals>,
    exports: OnceLock<Exports>,
    control: Arc<Control>,
    flows: Arc<Flows>,
    pods: Pods,
    hooks: HookSet,
}

/// What exports, and whether it is to export anything but on request.
#[derive(Debug)]
struct Exports {
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    pushes: bool,
}

/// Counters of capture and engine, as they stood at the latest look.
#[derive(Clone, Debug, Default)]
pub(super) struct Vitals {
    pub(super) ledger: Ledger,
    pub(super) losses: Losses,
    pub(super) stats: Stats,
    /// Of each worker, where there are several.
    pub(super) workers: Vec<WorkerLoad>,
    pub(super) spans: spans::Counts,
    pub(super) level: Level,
    /// Records written to a file, dropped, and failed.
    pub(super) records: Option<[u64; 3]>,
}

impl Status {
    pub(super) fn new(
        (metrics, control, flows): (Arc<Metrics>, Arc<Control>, Arc<Flows>),
        pods: Pods,
        hooks: HookSet,
        began: Nanos,
    ) -> Self {
        Self {
            metrics,
            began,
            vitals: Mutex::default(),
            exports: OnceLock::new(),
            control,
            flows,
            pods,
            hooks,
        }
    }

    /// How it is with the pods of this node; null where nobody is asked for them.
    pub(super) fn kubernetes(&self) -> Value {
        self.pods.state()
    }

    /// The name of the hook set that is in use.
    pub(super) fn hooks(&self) -> String {
        self.hooks.to_string()
    }

    /// Whether everything works: traffic is observed, and where it is to be exported, a backend has
    /// taken something.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(super) fn ready(&self) -> Result<(), &'static str> {
        let Some(exports) = self.exports.get() else {
            return Err("it is starting");
        };
        let counts = &exports.counts;
        let taken = [&counts.spans_sent, &counts.metrics_sent];
        let taken = taken.iter().any(|taken| taken.load(Ordering::Relaxed) > 0);
        match taken || !exports.pushes {
            true => Ok(()),
            false => Err("nothing was exported yet"),
        }
    }

    /// Tells of the exporter, which needs this first.
    pub(super) fn exports(&self, queue: &Arc<Queue>, counts: &Arc<Counts>, pushes: bool) {
        let exports = Exports {
            queue: Arc::clone(queue),
            counts: Arc::clone(counts),
            pushes,
        };
        // There is one exporter: a second one would not be told of.
        let _ = self.exports.set(exports);
    }

    pub(super) fn set(&self, vitals: Vitals) {
        *self.vitals.lock().unwrap_or_else(PoisonError::into_inner) = vitals;
    }
}

impl Source for Status {
    fn collect(&self) -> Collection {
        let vitals = self.vitals.lock().unwrap_or_else(PoisonError::into_inner);
        let vitals = vitals.clone();
        let snapshot = self.metrics.snapshot();
        let mut readings = Vec::from(capture(&vitals.ledger, &vitals.losses));
        readings.push(filtered(&vitals.losses, &vitals.stats));
        readings.extend(engine(&vitals.stats));
        if !vitals.workers.is_empty() {
            readings.extend(workers(&vitals.workers));
        }
        readings.extend(series(&snapshot, self.metrics.held()));
        if let Some(Exports { queue, counts, .. }) = self.exports.get() {
            readings.extend(exports(queue, counts, &vitals.spans));
        }
        readings.push(changes(&self.control.state()));
        readings.extend(self.pods.readings());
        readings.extend(followed(self.flows.followed()));
        readings.extend(vitals.records.map(records));
        readings.extend(governor(&vitals.level));
        readings.extend(Own::read().iter().flat_map(process));
        Collection {
            snapshot,
            readings,
            began: self.began,
            time: super::wall_clock(),
        }
    }
}

fn capture(ledger: &Ledger, losses: &Losses) -> [Reading; 5] {
    let of_connections = ledger.events.saturating_sub(ledger.process_events);
    let lost = Reading::counter(
        "wirespan.capture.lost",
        "By",
        "Bytes that were moved and not seen, by reason.",
    );
    let events = Reading::counter(
        "wirespan.capture.lost_events",
        "{event}",
        "Events that did not arrive, by reason.",
    );
    [
        Reading::counter(
            "wirespan.capture.events",
            "{event}",
            "Events of the kernel, by what they tell of.",
        )
        .with("wirespan.capture.of", "connections", of_connections as f64)
        .with(
            "wirespan.capture.of",
            "processes",
            ledger.process_events as f64,
        ),
        Reading::counter("wirespan.capture.io", "By", "Bytes that connections moved.")
            .with("wirespan.capture.part", "moved", ledger.moved_bytes as f64)
            .with(
                "wirespan.capture.part",
                "copied",
                ledger.copied_bytes as f64,
            ),
        lost.with(REASON, "ring_full", losses.ring_full_bytes as f64)
            .with(REASON, "process_share", losses.share_bytes as f64)
            .with(REASON, "call_share", losses.call_share_bytes as f64)
            .with(REASON, "window", losses.window_bytes as f64)
            .with(REASON, "unwanted", losses.unwanted_bytes as f64)
            .with(
                REASON,
                "not_user_memory",
                losses.not_user_memory_bytes as f64,
            ),
        events
            .with(REASON, "ring_full", losses.ring_full_events as f64)
            .with(REASON, "process_share", losses.share_events as f64)
            .with(REASON, "map_full", losses.map_full as f64)
            .with(REASON, "unreadable_memory", ledger.unreadable_memory as f64)
            .with(REASON, "not_understood", ledger.unreadable_events as f64),
        Reading::counter(
            "wirespan.connections",
            "{connection}",
            "Connections observed.",
        )
        .value(ledger.connections as f64),
    ]
}

const REASON: &str = "wirespan.reason";

fn filtered(losses: &Losses, stats: &Stats) -> Reading {
    let by_protocol = stats.opaque.get(FILTERED).copied().unwrap_or_default();
    Reading::counter(
        "wirespan.connections.filtered",
        "{connection}",
        "Connections that the filters left out in the kernel, at once or when their protocol was known; \
         one anew with each change of them.",
    )
    .with(REASON, "connection", losses.filtered as f64)
    .with(REASON, "protocol", by_protocol as f64)
}

fn engine(stats: &Stats) -> Vec<Reading> {
    let mut exchanges = Reading::counter(
        "wirespan.exchanges",
        "{exchange}",
        "Requests with their responses, by protocol.",
    );
    for (protocol, of) in &stats.protocols {
        exchanges = exchanges.with("network.protocol.name", *protocol, of.exchanges as f64);
    }
    let mut opaque = Reading::counter(
        "wirespan.connections.opaque",
        "{connection}",
        "Connections that nobody could read, by reason.",
    );
    let unread = stats.opaque.iter();
    for (reason, n) in unread.filter(|(reason, _)| **reason != FILTERED) {
        opaque = opaque.with(REASON, *reason, *n as f64);
    }
    let mut errors = Reading::counter(
        "wirespan.parse.errors",
        "{error}",
        "Parse errors, by protocol and what was being read.",
    );
    for ((protocol, _, what), n) in &stats.errors {
        let attributes = vec![
            ("network.protocol.name", (*protocol).to_owned()),
            ("wirespan.parse.what", (*what).to_owned()),
        ];
        errors.points.push((attributes, *n as f64));
    }
    let evictions = Reading::counter(
        "wirespan.engine.evictions",
        "{eviction}",
        "What had to give way to bounds.",
    );
    let bytes = Reading::counter(
        "wirespan.stream.lost",
        "By",
        "Bytes of streams that were never captured, and those that nobody could parse.",
    );
    vec![
        exchanges,
        opaque,
        merged(errors),
        evictions
            .with(REASON, "connections", stats.evicted_connections as f64)
            .with(REASON, "exchanges", stats.evicted_exchanges as f64),
        bytes
            .with(REASON, "not_captured", honesty::lost_bytes(stats) as f64)
            .with(REASON, "not_parsed", honesty::unparsed_bytes(stats) as f64),
    ]
}

/// What each worker does. What waits for it is bounded; the rest waits in the kernel's buffer.
fn workers(workers: &[WorkerLoad]) -> [Reading; 4] {
    let each = |reading: Reading, figure: fn(&WorkerLoad) -> u64| {
        let workers = workers.iter().enumerate();
        workers.fold(reading, |reading, (number, load)| {
            reading.with("wirespan.worker", number.to_string(), figure(load) as f64)
        })
    };
    [
        each(
            Reading::counter(
                "wirespan.worker.events",
                "{event}",
                "Events of the kernel that were given to each worker.",
            ),
            |load| load.events,
        ),
        each(
            Reading::gauge(
                "wirespan.worker.waiting",
                "{event}",
                "Events that wait for each worker, or that it is working on.",
            ),
            |load| load.waiting,
        ),
        each(
            Reading::counter(
                "wirespan.worker.io",
                "By",
                "Bytes that the connections of each worker moved.",
            ),
            |load| load.moved_bytes,
        ),
        each(
            Reading::counter(
                "wirespan.worker.lost",
                "By",
                "Bytes of each worker's streams that were never captured.",
            ),
            |load| load.lost_bytes,
        ),
    ]
}

/// Points with the same attributes as one: a thing may be misread in more than one way.
fn merged(mut reading: Reading) -> Reading {
    let mut points: Vec<(Vec<_>, f64)> = Vec::new();
    for (attributes, value) in reading.points {
        match points.iter_mut().find(|(known, _)| *known == attributes) {
            Some((_, sum)) => *sum += value,
            None => points.push((attributes, value)),
        }
    }
    reading.points = points;
    reading
}

fn series(snapshot: &Snapshot, held: usize) -> [Reading; 3] {
    [
        Reading::gauge(
            "wirespan.metrics.series",
            "{series}",
            "Series that are held.",
        )
        .value(held as f64),
        Reading::counter(
            "wirespan.metrics.overflowed",
            "{measurement}",
            "Measurements that were counted in overflow series.",
        )
        .value(snapshot.overflowed as f64),
        Reading::counter(
            "wirespan.metrics.evictions",
            "{series}",
            "Series that were forgotten.",
        )
        .value(snapshot.evicted as f64),
    ]
}

fn exports(queue: &Queue, counts: &Counts, spans: &spans::Counts) -> [Reading; 7] {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let dropped = Reading::counter(
        "wirespan.spans.dropped",
        "{span}",
        "Spans that did not reach a backend, by reason.",
    );
    let left_out = Reading::counter(
        "wirespan.spans.left_out",
        "{span}",
        "Exchanges of which no span was made, by reason.",
    );
    let parents = Reading::counter(
        "wirespan.spans.parents",
        "{span}",
        "Client spans that no context told a parent of, by what was made of their thread or goroutine.",
    );
    let requests = Reading::counter(
        "wirespan.export.metrics",
        "{request}",
        "Requests with metrics, by outcome.",
    );
    [
        Reading::gauge(
            "wirespan.spans.queued",
            "{span}",
            "Spans that wait to be sent.",
        )
        .value(queue.len() as f64),
        Reading::counter(
            "wirespan.spans.sent",
            "{span}",
            "Spans that a backend took.",
        )
        .value(of(&counts.spans_sent)),
        dropped
            .with(REASON, "queue_full", queue.dropped() as f64)
            .with(REASON, "refused", of(&counts.spans_refused))
            .with(REASON, "given_up", of(&counts.spans_given_up)),
        left_out
            .with(REASON, "sampling", spans.unsampled as f64)
            .with(REASON, "instrumented", spans.suppressed as f64),
        parents
            .with(REASON, "inferred", spans.inferred.found as f64)
            .with(REASON, "mixed", spans.inferred.mixed as f64)
            .with(REASON, "idle", spans.inferred.idle as f64),
        requests
            .with("wirespan.outcome", "taken", of(&counts.metrics_sent))
            .with("wirespan.outcome", "failed", of(&counts.metrics_failed)),
        Reading::counter(
            "wirespan.export.rejected",
            "{data_point}",
            "Points that a backend rejected of requests with metrics that it took.",
        )
        .value(of(&counts.points_rejected)),
    ]
}

fn changes(state: &State) -> Reading {
    let changes = Reading::counter(
        "wirespan.config.changes",
        "{change}",
        "Changes of the configuration while the agent ran, by outcome.",
    );
    changes
        .with("wirespan.outcome", "applied", state.applied as f64)
        .with("wirespan.outcome", "refused", state.refused as f64)
}

fn records([written, dropped, failed]: [u64; 3]) -> Reading {
    let lines = Reading::counter(
        "wirespan.records.lines",
        "{line}",
        "Exchanges written to the file for records, by outcome.",
    );
    lines
        .with("wirespan.outcome", "written", written as f64)
        .with("wirespan.outcome", "dropped", dropped as f64)
        .with("wirespan.outcome", "failed", failed as f64)
}

fn followed(flows: Followed) -> [Reading; 2] {
    let lines = Reading::counter(
        "wirespan.flows.lines",
        "{line}",
        "Exchanges told to those who follow them, by outcome.",
    );
    [
        Reading::gauge(
            "wirespan.flows.followers",
            "{follower}",
            "Those who follow exchanges.",
        )
        .value(flows.followers as f64),
        lines
            .with("wirespan.outcome", "taken", flows.sent as f64)
            .with("wirespan.outcome", "dropped", flows.dropped as f64),
    ]
}

/// CPU time and memory, by the names that the conventions have for them.
fn process(own: &Own) -> [Reading; 2] {
    [
        Reading::counter("process.cpu.time", "s", "CPU time of this program.")
            .with("cpu.mode", "user", own.user)
            .with("cpu.mode", "system", own.system),
        Reading::gauge("process.memory.usage", "By", "Memory of this program.")
            .value(own.resident as f64),
    ]
}

fn governor(level: &Level) -> [Reading; 3] {
    let steps = Reading::counter(
        "wirespan.governor.steps",
        "{step}",
        "Steps taken to stay within the budget: down, by what was passed, and up again.",
    );
    let down = "down_processors";
    [
        Reading::gauge(
            "wirespan.governor.level",
            "{step}",
            "Steps below doing all that the configuration asks for.",
        )
        .value(level.level as f64),
        Reading::gauge(
            "wirespan.governor.exhausted",
            "1",
            "Whether the budget is passed though nothing is left to do without.",
        )
        .value(f64::from(u8::from(level.exhausted))),
        steps
            .with("wirespan.step", down, level.steps.down_processors as f64)
            .with(
                "wirespan.step",
                "down_memory",
                level.steps.down_memory as f64,
            )
            .with("wirespan.step", "up", level.steps.up as f64),
    ]
}
