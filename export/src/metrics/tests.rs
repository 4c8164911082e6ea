//! Metrics against a model that is too simple to be wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;

use wirespan_engine::api::{Flags, Outcome};
use wirespan_engine::{Address, Exchange, Side, UnixName};

use super::*;
use crate::fixture::with_exchange;
use crate::semconv::{Label, Routes};

/// What one exchange of a test is.
#[derive(Clone, Copy, Debug)]
struct Case {
    host: u16,
    nanos: Option<u64>,
    span: u64,
    outcome: Option<Outcome>,
}

/// Cases without a pattern, always the same.
fn cases(seed: u64, n: usize) -> Vec<Case> {
    let mut state = seed;
    let mut next = || {
        state = crate::ids::spread(u128::from(state) + 1);
        state
    };
    let mut case = || Case {
        host: (next() % 7) as u16,
        // From 1 µs to 17 s, and exactly on bounds now and then.
        nanos: match next() % 10 {
            0 => None,
            1 => Some(5_000_000),
            _ => Some((1_000 << (next() % 24)) + next() % 1_000),
        },
        span: next() | 1,
        outcome: match next() % 5 {
            0 => Some(Outcome::Error),
            1 => Some(Outcome::ClientFault),
            _ => Some(Outcome::Ok),
        },
    };
    (0..n).map(|_| case()).collect()
}

fn record(metrics: &Metrics, cases: &[Case]) {
    let routes = Routes::default();
    let mut scratch = Scratch::default();
    with_exchange(|mut exchange| {
        exchange.side = Side::Client;
        for case in cases {
            exchange.server = ([10, 0, 0, 2], 1_000 + case.host).into();
            exchange.duration = case.nanos;
            exchange.outcome = case.outcome;
            let mut route = String::new();
            let facts = Facts::of(&exchange, &routes, &mut route);
            let span = (u128::from(case.span).to_be_bytes(), case.span.to_be_bytes());
            metrics.record(&exchange, &facts, Some(span), &mut scratch);
        }
    });
}

/// By server and whether it failed: durations.
type Model = BTreeMap<(u16, bool), Vec<Option<u64>>>;

fn model(cases: &[Case]) -> Model {
    let mut model = Model::new();
    for case in cases {
        let failed = case.outcome != Some(Outcome::Ok);
        let series = model.entry((case.host, failed)).or_default();
        series.push(case.nanos);
    }
    model
}

fn integer(identity: &Identity, wanted: Label) -> Option<i64> {
    let labels = identity.labels.iter();
    labels.into_iter().find_map(|(label, value)| match value {
        LabelValue::Integer(number) if *label == wanted => Some(*number),
        _ => None,
    })
}

/// Holds a snapshot against the model, to the last count and nanosecond.
fn check(snapshot: &Snapshot, cases: &[Case]) {
    let model = model(cases);
    let mut seen = 0;
    for (identity, series) in &snapshot.series {
        if identity.instrument != Instrument::HttpClient {
            continue;
        }
        seen += 1;
        let port = integer(identity, Label::ServerPort).expect("a port");
        let failed = identity
            .labels
            .iter()
            .any(|(label, _)| *label == Label::ErrorType);
        let expected = &model[&(port as u16 - 1_000, failed)];
        let timed: Vec<u64> = expected.iter().copied().flatten().collect();
        assert_eq!(series.count() as usize, expected.len());
        assert_eq!(series.durations.count() as usize, timed.len());
        let sum: u128 = timed.iter().map(|nanos| u128::from(*nanos)).sum();
        assert_eq!(series.durations.whole_sum(), sum);
        let mut below = 0;
        for (bound, count) in REQUEST_SECONDS.raw.iter().zip(series.durations.counts()) {
            below += count;
            let at_most = timed.iter().filter(|nanos| *nanos <= bound).count();
            assert_eq!(below as usize, at_most, "up to {bound}");
        }
        check_exemplars(&series.durations, cases);
        let exponential = series.exponential.as_ref().expect("asked for");
        assert_eq!(exponential.counts().sum::<u64>() as usize, timed.len());
    }
    assert_eq!(seen, model.len());
}

/// Each exemplar is of an exchange that was recorded, with its value, in its bucket.
fn check_exemplars(histogram: &Explicit, cases: &[Case]) {
    for (bucket, exemplar) in histogram.exemplars().iter().enumerate() {
        assert_eq!(exemplar.is_some(), histogram.counts()[bucket] > 0);
        let Some(exemplar) = exemplar else { continue };
        let span = u64::from_be_bytes(exemplar.span_id);
        assert_eq!(u128::from_be_bytes(exemplar.trace_id), span.into());
        let its = cases.iter().find(|case| case.span == span);
        assert_eq!(its.and_then(|case| case.nanos), Some(exemplar.value));
        let bound = REQUEST_SECONDS.raw.partition_point(|b| *b < exemplar.value);
        assert_eq!(bound, bucket);
    }
}

fn options() -> Options {
    Options {
        exponential: true,
        ..Options::default()
    }
}

#[test]
fn threads_that_share_metrics_count_everything_once_and_scrapes_only_rise() {
    for seed in 0..4 {
        let metrics = Arc::new(Metrics::new(options()));
        let all = cases(seed, 8_000);
        let start = Arc::new(Barrier::new(5));
        let recorders = all.chunks(2_000).map(|part| {
            let (metrics, start, part) = (Arc::clone(&metrics), Arc::clone(&start), part.to_vec());
            thread::spawn(move || {
                start.wait();
                record(&metrics, &part);
            })
        });
        let recorders: Vec<_> = recorders.collect();
        start.wait();
        let mut before = BTreeMap::new();
        while recorders.iter().any(|recorder| !recorder.is_finished()) {
            before = rising(&metrics.snapshot(), &before);
        }
        for recorder in recorders {
            recorder.join().expect("no panic");
        }
        rising(&metrics.snapshot(), &before);
        check(&metrics.snapshot(), &all);
    }
}

type Seen = BTreeMap<String, (u64, u128, Vec<u64>)>;

/// Fails where anything has fallen since `before`.
fn rising(snapshot: &Snapshot, before: &Seen) -> Seen {
    let mut now = Seen::new();
    for (identity, series) in &snapshot.series {
        let (durations, key) = (&series.durations, format!("{identity:?}"));
        let counts = durations.counts().to_vec();
        assert_eq!(
            counts.iter().sum::<u64>(),
            durations.count(),
            "half a record"
        );
        if let Some((count, sum, buckets)) = before.get(&key) {
            assert!(durations.count() >= *count && durations.whole_sum() >= *sum);
            assert!(counts.iter().zip(buckets).all(|(now, then)| now >= then));
        }
        now.insert(key, (durations.count(), durations.whole_sum(), counts));
    }
    assert!(
        before.keys().all(|key| now.contains_key(key)),
        "a series is gone"
    );
    now
}

#[test]
fn merged_parts_equal_the_whole_in_any_order() {
    let all = cases(9, 3_000);
    let part = |cases: &[Case]| {
        let metrics = Metrics::new(options());
        record(&metrics, cases);
        metrics
    };
    let shown = |metrics: &Metrics| {
        let mut snapshot = metrics.snapshot();
        // In which order they were made.
        snapshot
            .series
            .iter_mut()
            .for_each(|(_, series)| series.number = 0);
        format!("{snapshot:?}")
    };
    let (left, right) = all.split_at(1_111);
    let whole = shown(&part(&all));
    for (first, second) in [(left, right), (right, left)] {
        let merged = part(first);
        merged.merge(&part(second));
        check(&merged.snapshot(), &all);
        assert!(shown(&merged) == whole);
    }
}

#[test]
fn a_series_that_was_remembered_and_forgotten_begins_again() {
    let metrics = Metrics::new(options());
    let mut scratch = Scratch::default();
    let mut numbers = Vec::new();
    with_exchange(|exchange| {
        let routes = Routes::default();
        let mut route = String::new();
        let facts = Facts::of(&exchange, &routes, &mut route);
        for round in 1..=3 {
            for _ in 0..5 {
                metrics.record(&exchange, &facts, None, &mut scratch);
            }
            let snapshot = metrics.snapshot();
            assert_eq!(snapshot.series.len(), 2, "its own and its edge");
            for (_, series) in &snapshot.series {
                assert_eq!(series.count(), 5, "in round {round}");
                numbers.push(series.number);
            }
            metrics.expire(Nanos(u64::MAX));
            assert_eq!((metrics.held(), metrics.snapshot().series.len()), (0, 0));
        }
    });
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 6, "each is another one");
}

#[test]
fn an_exemplar_may_come_later() {
    let metrics = Metrics::new(options());
    let mut scratch = Scratch::default();
    with_exchange(|exchange| {
        let routes = Routes::default();
        let mut route = String::new();
        let facts = Facts::of(&exchange, &routes, &mut route);
        metrics.record(&exchange, &facts, None, &mut scratch);
        let counted = metrics.latest(&exchange, &facts, &mut scratch);
        counted.expect("a series").exemplify(([7; 16], [8; 8]));
        let snapshot = metrics.snapshot();
        let exemplars = |instrument: Instrument| {
            let of = |(identity, _): &&(Identity, Series)| identity.instrument == instrument;
            let series = &snapshot.series.iter().find(of).expect("a series").1;
            let exemplars = series.durations.exemplars().iter().flatten();
            exemplars.map(|of| of.trace_id).collect::<Vec<_>>()
        };
        assert_eq!(exemplars(facts.instrument), [[7; 16]]);
        assert!(exemplars(Instrument::Edge).is_empty());
    });
}

#[test]
fn beyond_the_bound_every_exchange_is_counted_in_the_overflow_series() {
    let options = Options {
        max_series: 1_000,
        edges: false,
        ..Options::default()
    };
    let metrics = Arc::new(Metrics::new(options));
    let threads = (0..4).map(|thread| {
        let metrics = Arc::clone(&metrics);
        thread::spawn(move || {
            with_exchange(|mut exchange| {
                let routes = Routes::default();
                let mut scratch = Scratch::default();
                exchange.side = Side::Client;
                for i in (0..50_000_u16).filter(|i| i % 4 == thread) {
                    exchange.server = ([10, 0, 0, 2], i).into();
                    let mut route = String::new();
                    let facts = Facts::of(&exchange, &routes, &mut route);
                    metrics.record(&exchange, &facts, None, &mut scratch);
                }
            });
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().expect("no panic");
    }
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.series.len(), 1_001);
    assert_eq!(metrics.held(), 1_000);
    assert_eq!(snapshot.overflowed, 49_000);
    let overflow = snapshot
        .series
        .iter()
        .find(|(identity, _)| identity.overflow);
    assert_eq!(overflow.expect("an overflow series").1.count(), 49_000);
    let all: u64 = snapshot
        .series
        .iter()
        .map(|(_, series)| series.count())
        .sum();
    assert_eq!(all, 50_000);
}

#[test]
fn a_series_is_forgotten_after_its_time_and_begins_anew() {
    let metrics = Metrics::default();
    let routes = Routes::default();
    let mut scratch = Scratch::default();
    with_exchange(|mut exchange| {
        let mut count = |exchange: &Exchange<'_>| {
            let mut route = String::new();
            let facts = Facts::of(exchange, &routes, &mut route);
            metrics.record(exchange, &facts, None, &mut scratch);
        };
        count(&exchange);
        count(&exchange);
        let latest = metrics.snapshot().latest;
        metrics.expire(Nanos(latest.0 + Options::default().ttl));
        assert_eq!(metrics.held(), 2, "the exchange's own series and its edge");
        metrics.expire(Nanos(latest.0 + Options::default().ttl + 1));
        assert_eq!((metrics.held(), metrics.snapshot().evicted), (0, 2));
        exchange.start = Nanos(latest.0 + 7);
        count(&exchange);
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.series[0].1.count(), 1);
        assert_eq!(snapshot.series[0].1.start, exchange.start);
    });
}

#[test]
fn an_edge_has_the_calls_of_its_two_ends_and_those_that_failed() {
    let metrics = Metrics::default();
    let routes = Routes::default();
    let mut scratch = Scratch::default();
    with_exchange(|mut exchange| {
        for outcome in [Some(Outcome::Ok), Some(Outcome::Error), None] {
            exchange.outcome = outcome;
            exchange.flags = Flags::NONE;
            let mut route = String::new();
            let facts = Facts::of(&exchange, &routes, &mut route);
            metrics.record(&exchange, &facts, None, &mut scratch);
        }
    });
    let edges = edges(&metrics.snapshot());
    let [edge] = &edges[..] else {
        panic!("one edge: {edges:?}");
    };
    assert_eq!((&*edge.client, &*edge.server), ("10.0.0.1", "10.0.0.2:80"));
    assert_eq!((edge.count, edge.errors), (3, 2));
}

#[test]
fn an_edge_to_a_unix_socket_ends_at_its_name() {
    let metrics = Metrics::default();
    let routes = Routes::default();
    let mut scratch = Scratch::default();
    with_exchange(|mut exchange| {
        let unix = |name: &[u8]| Address::Unix(UnixName::new(name));
        (exchange.client, exchange.server) = (unix(b""), unix(b"\0name"));
        let mut route = String::new();
        let facts = Facts::of(&exchange, &routes, &mut route);
        metrics.record(&exchange, &facts, None, &mut scratch);
    });
    let edges = edges(&metrics.snapshot());
    let [edge] = &edges[..] else {
        panic!("one edge: {edges:?}");
    };
    assert_eq!((&*edge.client, &*edge.server), ("unix:", "unix:@name"));
}
