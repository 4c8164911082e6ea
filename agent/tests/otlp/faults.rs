//! Backends that hang, refuse, die half-way and come back. Spans are pushed as live capture pushes
//! them: whoever pushes never waits.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wirespan_engine::{Exchange, Nanos, Sink};
use wirespan_export::metrics::Reading;
use wirespan_export::observe::Observer;
use wirespan_export::spans::{Options, Span, Spans};
use wirespan_replay::{Collect, Input};
use wirespan_telemetry::{Collection, Config, Counts, Exporter, Source, Wanted};

use crate::receiver::{Behaviour, Receiver, Speaks};
use crate::{capture, support};

/// Spans that may wait.
const QUEUE: u64 = 200;

/// Keeps all spans.
struct Keep {
    observer: Observer,
    spans: Vec<Span>,
}

impl Sink for Keep {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        self.spans.extend(self.observer.exchange(exchange));
    }
}

impl Collect for Keep {
    type Batch = ();

    fn at(&mut self, _now: Nanos) {}

    fn take(&mut self) {}
}

/// Some spans.
fn spans() -> Vec<Span> {
    let options = wirespan_replay::Options {
        jobs: 1,
        registry: support::registry(),
        engine: wirespan_engine::Config::default(),
    };
    let report = wirespan_replay::run(
        Input::open(&capture("demo/demo.pcap")).expect("a capture"),
        &options,
        |_| Keep {
            observer: Observer::new(
                Arc::default(),
                Arc::default(),
                Some(Spans::new(Options::default())),
            ),
            spans: Vec::new(),
        },
        |_| std::ops::ControlFlow::Continue(()),
        |_| {},
    );
    report
        .collectors
        .into_iter()
        .flat_map(|keep| keep.spans)
        .collect()
}

/// No metrics.
#[derive(Debug)]
struct Nothing;

impl Source for Nothing {
    fn collect(&self) -> Collection {
        Collection::default()
    }
}

/// One metric.
#[derive(Debug)]
struct One;

impl Source for One {
    fn collect(&self) -> Collection {
        Collection {
            readings: vec![Reading::counter("test.one", "1", "One.").value(1.0)],
            ..Collection::default()
        }
    }
}

fn exporter(url: &str, speaks: Speaks) -> Exporter {
    let config = config(url, speaks);
    Exporter::start(&config, Arc::new(Nothing), None, None, |_| {}).expect("an exporter")
}

fn config(url: &str, speaks: Speaks) -> Config {
    let protocol = match speaks {
        Speaks::Grpc => "grpc",
        Speaks::Http => "http/protobuf",
    };
    let variable = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("300".to_owned()),
        "OTEL_BSP_MAX_QUEUE_SIZE" => Some(QUEUE.to_string()),
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE" => Some("50".to_owned()),
        "OTEL_BSP_SCHEDULE_DELAY" => Some("20".to_owned()),
        _ => None,
    };
    Config::read(&variable, Some(url), Wanted::Configured).expect("valid")
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Memory of this process in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("of this process");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("memory");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse().expect("a number")
}

/// Pushes spans for a while; fails where a push has waited. Returns how many.
fn press(exporter: &Exporter, spans: &[Span], n: usize) -> u64 {
    let began = Instant::now();
    for span in spans.iter().cycle().take(n) {
        exporter.queue().push(span.clone());
    }
    assert!(began.elapsed() < Duration::from_secs(10), "pushing waited");
    n as u64
}

/// Every span that was pushed has one fate.
fn fates(exporter_counts: &Counts, dropped: u64) -> u64 {
    get(&exporter_counts.spans_sent)
        + get(&exporter_counts.spans_refused)
        + get(&exporter_counts.spans_given_up)
        + dropped
}

/// A backend that misbehaves and then recovers: memory is flat meanwhile, what finds no room is
/// counted, and what was held is sent when the backend is back, without anybody's doing.
fn survives(behaviour: Behaviour, speaks: Speaks) {
    let spans = spans();
    let receiver = Receiver::start(speaks);
    receiver.behave(behaviour);
    let exporter = exporter(&receiver.url(), speaks);
    let mut pushed = press(&exporter, &spans, 1_000);
    receiver.wait_for("an attempt", |received| received.attempts > 0);
    let before = resident();
    pushed += press(&exporter, &spans, 100_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 48 << 10, "{grown} KiB more with {behaviour:?}");
    assert!(exporter.queue().len() as u64 <= QUEUE);
    assert!(exporter.queue().dropped() > 90_000);
    assert_eq!(receiver.received(|received| received.spans()), 0);
    receiver.behave(Behaviour::Take);
    // The batch that was under way, and those that waited.
    receiver.wait_for("what was held", |received| received.spans() as u64 >= QUEUE);
    pushed += press(&exporter, &spans, 10);
    let (queue, counts) = (Arc::clone(exporter.queue()), Arc::clone(exporter.counts()));
    exporter.stop(Duration::from_secs(10));
    assert_eq!(fates(&counts, queue.dropped()), pushed);
    let taken = receiver.received(|received| received.spans()) as u64;
    assert_eq!(get(&counts.spans_sent), taken);
    assert_eq!(get(&counts.spans_given_up), 0);
    assert!(get(&counts.retries) > 0);
}

#[test]
fn a_backend_that_hangs() {
    survives(Behaviour::Hang, Speaks::Http);
    survives(Behaviour::Hang, Speaks::Grpc);
}

#[test]
fn a_backend_that_is_too_busy() {
    survives(Behaviour::Refuse(503, None), Speaks::Http);
    survives(Behaviour::Refuse(503, None), Speaks::Grpc);
    survives(Behaviour::Refuse(429, Some(1)), Speaks::Http);
}

#[test]
fn what_a_backend_rejects_of_what_it_takes_is_counted_and_said() {
    for (speaks, protocol) in [
        (Speaks::Grpc, "grpc"),
        (Speaks::Http, "http/protobuf"),
        (Speaks::Http, "http/json"),
    ] {
        let receiver = Receiver::start(speaks);
        receiver.behave(Behaviour::TakePart(3));
        let variable = |name: &str| {
            let of = name == "OTEL_EXPORTER_OTLP_PROTOCOL";
            of.then(|| protocol.to_owned())
        };
        let url = receiver.url();
        let config = Config::read(&variable, Some(&url), Wanted::Configured).expect("valid");
        let (told, said) = std::sync::mpsc::channel();
        let report = move |message: &str| drop(told.send(message.to_owned()));
        let exporter = Exporter::start(&config, Arc::new(One), None, None, report);
        let exporter = exporter.expect("an exporter");
        press(&exporter, &spans(), 10);
        let counts = Arc::clone(exporter.counts());
        exporter.stop(Duration::from_secs(10));
        assert_eq!(get(&counts.spans_sent), 7);
        assert_eq!(get(&counts.spans_refused), 3);
        assert_eq!(get(&counts.points_rejected), 3);
        let said: Vec<String> = said.iter().collect();
        assert_eq!(said.len(), 2, "once for each signal: {said:?}");
        assert!(
            said.iter()
                .all(|said| said.ends_with("3 rejected: too old"))
        );
    }
}

#[test]
fn a_backend_that_breaks_off() {
    survives(Behaviour::BreakOff, Speaks::Http);
    survives(Behaviour::BreakOff, Speaks::Grpc);
}

#[test]
fn when_to_come_back_is_obeyed() {
    come_back(Speaks::Http);
    come_back(Speaks::Grpc);
}

fn come_back(speaks: Speaks) {
    let receiver = Receiver::start(speaks);
    receiver.behave(Behaviour::Refuse(429, Some(3)));
    let exporter = exporter(&receiver.url(), speaks);
    let began = Instant::now();
    press(&exporter, &spans(), 10);
    receiver.wait_for("the first attempt", |received| received.attempts == 1);
    receiver.behave(Behaviour::Take);
    receiver.wait_for("the spans", |received| received.spans() == 10);
    assert!(
        began.elapsed() >= Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(receiver.received(|received| received.attempts), 2);
    exporter.stop(Duration::from_secs(1));
}

#[test]
fn a_backend_that_dies_and_comes_back_at_the_same_port() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let spans = spans();
        let receiver = Receiver::start(speaks);
        let exporter = exporter(&receiver.url(), speaks);
        press(&exporter, &spans, 10);
        receiver.wait_for("the first spans", |received| received.spans() == 10);
        let port = receiver.address.port();
        drop(receiver);
        press(&exporter, &spans, 20);
        std::thread::sleep(Duration::from_millis(500));
        let receiver = Receiver::start_at(speaks, port);
        receiver.wait_for("the others", |received| received.spans() == 20);
        let counts = Arc::clone(exporter.counts());
        exporter.stop(Duration::from_secs(5));
        assert_eq!(get(&counts.spans_sent), 30);
    }
}

#[test]
fn stopping_takes_no_longer_than_it_may_and_counts_what_is_left() {
    let receiver = Receiver::start(Speaks::Http);
    receiver.behave(Behaviour::Hang);
    let exporter = exporter(&receiver.url(), Speaks::Http);
    press(&exporter, &spans(), 100);
    receiver.wait_for("an attempt", |received| received.attempts > 0);
    let counts = Arc::clone(exporter.counts());
    let began = Instant::now();
    exporter.stop(Duration::from_millis(500));
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(get(&counts.spans_given_up), 100);
}

#[test]
fn a_run_that_waits_for_room_does_not_wait_for_a_backend_that_is_gone() {
    let receiver = Receiver::start(Speaks::Http);
    receiver.behave(Behaviour::Hang);
    let mut config = config(&receiver.url(), Speaks::Http);
    config.give_up = Duration::from_secs(1);
    let exporter = Exporter::once(&config, Arc::new(Nothing), |_| {}).expect("an exporter");
    let began = Instant::now();
    for span in spans().iter().cycle().take(5_000) {
        let patience = Duration::from_secs(30);
        exporter.queue().push_waiting(span.clone(), patience);
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    let (queue, counts) = (Arc::clone(exporter.queue()), Arc::clone(exporter.counts()));
    exporter.stop(Duration::from_secs(1));
    assert_eq!(fates(&counts, queue.dropped()), 5_000);
    assert_eq!(get(&counts.spans_sent), 0);
}
