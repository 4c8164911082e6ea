//! Differences: whatever becomes of requests, those that a backend takes add up to what was counted.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use wirespan_engine::{Exchange, Nanos, Sink};
use wirespan_export::metrics::{Metrics, Reading};
use wirespan_export::observe::Observer;
use wirespan_replay::{Collect, Input};
use wirespan_telemetry::{Collection, Config, Exporter, Source, Wanted};

use crate::receiver::{Behaviour, Received, Receiver, Speaks};
use crate::{capture, check, support};

const DELTA: i32 = 1;

/// Counts into metrics that it shares.
struct Count(Observer);

impl Sink for Count {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        assert!(self.0.exchange(exchange).is_none(), "nobody wants spans");
    }
}

impl Collect for Count {
    type Batch = ();

    fn at(&mut self, _now: Nanos) {}

    fn take(&mut self) {}
}

/// Metrics that grow, and a counter of the program itself.
#[derive(Debug, Default)]
struct Growing {
    metrics: Arc<Metrics>,
    collected: AtomicU64,
    own: AtomicU64,
}

impl Growing {
    /// Counts the exchanges of a capture; returns how many.
    fn grow(&self, name: &str) -> u64 {
        let options = wirespan_replay::Options {
            jobs: 1,
            registry: support::registry(),
            engine: wirespan_engine::Config::default(),
        };
        let observer = || Observer::new(Arc::clone(&self.metrics), Arc::default(), None);
        wirespan_replay::run(
            Input::open(&capture(name)).expect("a capture"),
            &options,
            |_| Count(observer()),
            |_| ControlFlow::Continue(()),
            |_| {},
        );
        let n = support::records(&capture(name), 1).records.lines().count() as u64;
        self.own.fetch_add(n, Ordering::Relaxed);
        n
    }
}

impl Source for Growing {
    fn collect(&self) -> Collection {
        let own = self.own.load(Ordering::Relaxed) as f64;
        let snapshot = self.metrics.snapshot();
        let n = self.collected.fetch_add(1, Ordering::Relaxed) + 1;
        Collection {
            snapshot,
            readings: vec![Reading::counter("test.own", "{exchange}", "All.").value(own)],
            began: Nanos(4_000_000_000_000_000_000),
            time: Nanos(4_000_000_000_000_000_000 + n * 1_000_000_000),
        }
    }
}

fn exporter(
    receiver: &Receiver,
    speaks: Speaks,
    preference: &str,
    source: &Arc<Growing>,
) -> Exporter {
    let protocol = match speaks {
        Speaks::Grpc => "grpc",
        Speaks::Http => "http/protobuf",
    };
    let variable = |name: &str| match name {
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE" => Some(preference.to_owned()),
        "OTEL_EXPORTER_OTLP_PROTOCOL" => Some(protocol.to_owned()),
        "OTEL_EXPORTER_OTLP_TIMEOUT" => Some("300".to_owned()),
        "OTEL_METRIC_EXPORT_INTERVAL" => Some("50".to_owned()),
        _ => None,
    };
    let config = Config::read(&variable, Some(&receiver.url()), Wanted::Configured);
    let source = Arc::clone(source);
    Exporter::start(&config.expect("valid"), source, None, None, |_| {}).expect("an exporter")
}

/// What a backend that adds up differences has, by metric.
fn added_up(received: &Received) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for metric in metrics(received) {
        let n: f64 = match metric.data.as_ref().expect("data") {
            Data::Histogram(of) => of.data_points.iter().map(|p| p.count as f64).sum(),
            Data::ExponentialHistogram(of) => of.data_points.iter().map(|p| p.count as f64).sum(),
            Data::Sum(of) => {
                let points = of.data_points.iter();
                points
                    .map(|point| match point.value {
                        Some(Value::AsInt(number)) => number as f64,
                        Some(Value::AsDouble(number)) => number,
                        None => panic!("no value"),
                    })
                    .sum()
            }
            other => panic!("of another kind: {other:?}"),
        };
        *sums.entry(metric.name.clone()).or_default() += n;
    }
    sums
}

fn metrics(received: &Received) -> impl Iterator<Item = &Metric> {
    let resources = received.metrics.iter().flat_map(|r| &r.resource_metrics);
    resources
        .flat_map(|of| &of.scope_metrics)
        .flat_map(|scope| &scope.metrics)
}

/// Exchanges but for their edges, which repeat them.
fn exchanges(sums: &BTreeMap<String, f64>) -> f64 {
    let own = |name: &str| !name.starts_with("wirespan.edge") && name != "test.own";
    sums.iter()
        .filter(|(name, _)| own(name))
        .map(|(_, n)| n)
        .sum()
}

/// Windows follow each other: the points of a request begin where the last one that was taken ends.
fn windows_follow(received: &Received) {
    let mut ended = None;
    for request in &received.metrics {
        let mut end = 0;
        for point in check::histogram_points(request) {
            if let Some(ended) = ended {
                assert_eq!(point.start_time_unix_nano, ended);
            }
            end = point.time_unix_nano;
        }
        if end > 0 {
            ended = Some(end);
        }
    }
}

fn what_is_taken_adds_up(speaks: Speaks, behaviour: Behaviour) {
    let receiver = Receiver::start(speaks);
    let source = Arc::new(Growing::default());
    let mut all = source.grow("demo/demo.pcap");
    let exporter = exporter(&receiver, speaks, "Delta", &source);
    receiver.wait_for("the first", |received| !received.metrics.is_empty());
    receiver.behave(behaviour);
    all += source.grow("redis/pipelined.pcap");
    let tried = receiver.received(|received| received.attempts);
    receiver.wait_for("an attempt", |received| received.attempts > tried);
    all += source.grow("demo/demo.pcap");
    // What the backend has not got is forgotten where it is counted.
    let collected = source.collected.load(Ordering::Relaxed);
    while source.collected.load(Ordering::Relaxed) < collected + 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    source.metrics.expire(Nanos(u64::MAX));
    assert_eq!(source.metrics.held(), 0);
    all += source.grow("redis/pipelined.pcap");
    receiver.behave(Behaviour::Take);
    receiver.wait_for("the rest", |received| {
        exchanges(&added_up(received)) >= all as f64
    });
    exporter.stop(Duration::from_secs(5));
    receiver.received(|received| {
        let sums = added_up(received);
        assert_eq!(exchanges(&sums), all as f64, "{sums:?}");
        let captures = ["demo/demo.pcap", "redis/pipelined.pcap"];
        let untimed = untimed_edges([captures[0], captures[1], captures[0], captures[1]]);
        assert_eq!(sums["wirespan.edge.duration"] + untimed, all as f64);
        assert_eq!(
            sums["test.own"], all as f64,
            "what is read is a difference, too"
        );
        for metric in metrics(received) {
            assert_eq!(check::temporality(metric), Some(DELTA), "{}", metric.name);
        }
        windows_follow(received);
    });
}

/// Exchanges without a duration, which the histograms of edges lack.
fn untimed_edges(captures: [&str; 4]) -> f64 {
    let whole = Growing::default();
    for name in captures {
        whole.grow(name);
    }
    let series = whole.metrics.snapshot().series;
    let edges = series.iter().filter(|(of, _)| of.instrument.is_edge());
    edges.map(|(_, series)| series.untimed as f64).sum()
}

#[test]
fn what_is_taken_adds_up_after_refusals() {
    what_is_taken_adds_up(Speaks::Http, Behaviour::Refuse(400, None));
    what_is_taken_adds_up(Speaks::Grpc, Behaviour::Refuse(400, None));
}

#[test]
fn what_is_taken_adds_up_after_a_while_without_answers() {
    what_is_taken_adds_up(Speaks::Http, Behaviour::Hang);
    what_is_taken_adds_up(Speaks::Http, Behaviour::Refuse(503, None));
    what_is_taken_adds_up(Speaks::Grpc, Behaviour::BreakOff);
}

#[test]
fn with_lowmemory_what_the_program_says_of_itself_is_cumulative() {
    let receiver = Receiver::start(Speaks::Http);
    let source = Arc::new(Growing::default());
    let all = source.grow("demo/demo.pcap") as f64;
    let exporter = exporter(&receiver, Speaks::Http, "lowmemory", &source);
    receiver.wait_for("some", |received| received.metrics.len() > 3);
    exporter.stop(Duration::from_secs(5));
    receiver.received(|received| {
        let sums = added_up(received);
        assert_eq!(exchanges(&sums), all);
        assert_eq!(sums["test.own"], all * received.metrics.len() as f64);
        for metric in metrics(received) {
            let own = metric.name == "test.own";
            let expected = if own { check::CUMULATIVE } else { DELTA };
            assert_eq!(check::temporality(metric), Some(expected));
        }
    });
}

#[test]
fn what_is_not_delivered_at_the_end_is_said() {
    let receiver = Receiver::start(Speaks::Http);
    receiver.behave(Behaviour::Hang);
    let source = Arc::new(Growing::default());
    let all = source.grow("demo/demo.pcap");
    let variable = |name: &str| {
        let preference = name == "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
        preference.then(|| "delta".to_owned())
    };
    let config = Config::read(&variable, Some(&receiver.url()), Wanted::Configured);
    let (told, said) = std::sync::mpsc::channel();
    let report = move |message: &str| drop(told.send(message.to_owned()));
    let config = config.expect("valid");
    let exporter = Exporter::start(&config, source, None, None, report).expect("an exporter");
    exporter.stop(Duration::from_millis(500));
    let said: Vec<String> = said.iter().collect();
    let expected = format!("metrics of {all} exchanges were not delivered");
    assert!(said.contains(&expected), "{said:?}");
}
