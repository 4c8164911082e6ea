//! Prometheus' protobuf format, the only one that carries native histograms. Sent to whoever asks
//! for it.

use prost::Message;
use wirespan_export::metrics::{Exemplar, Explicit, Exponential, Reading, Snapshot};
use wirespan_export::prometheus::{Family, Sample, Type, families};

/// The `Content-Type` of a response.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.google.protobuf; \
     proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// The finest resolution that Prometheus has.
const MAX_SCHEMA: i32 = 8;
/// Empty buckets that are cheaper to write than to leave out.
const SHORT_HOLE: usize = 2;

/// Whether a request's `Accept` names the format first: Prometheus does where it is told to scrape
/// native histograms.
pub(crate) fn is_asked_for(accept: &str) -> bool {
    let first = accept.split(',').next().unwrap_or_default();
    first.contains("io.prometheus.client.MetricFamily") && first.contains("delimited")
}

/// All families, each behind its length.
pub(crate) fn encode(snapshot: &Snapshot, readings: &[Reading]) -> Vec<u8> {
    let mut out = Vec::new();
    for family in families(snapshot, readings) {
        // Writing into a Vec cannot fail.
        let _ = message(&family).encode_length_delimited(&mut out);
    }
    out
}

fn message(family: &Family<'_>) -> MetricFamily {
    let (suffix, kind) = match family.kind {
        Type::Counter => ("_total", 0),
        Type::Gauge => ("", 1),
        Type::Histogram => ("", 4),
    };
    let series = family.series.iter().map(|(labels, sample)| {
        let mut metric = Metric {
            label: labels
                .iter()
                .map(|(name, value)| label(name, value))
                .collect(),
            ..Metric::default()
        };
        match (sample, family.kind) {
            (Sample::Histogram(explicit, exponential), _) => {
                metric.histogram = Some(histogram(explicit, *exponential));
            }
            (Sample::Number(value), Type::Counter) => {
                metric.counter = Some(Number { value: *value });
            }
            (Sample::Number(value), _) => metric.gauge = Some(Number { value: *value }),
        }
        metric
    });
    MetricFamily {
        name: format!("{}{suffix}", family.name),
        help: family.help.into(),
        kind,
        metric: series.collect(),
        unit: family.unit.into(),
    }
}

fn histogram(explicit: &Explicit, exponential: Option<&Exponential>) -> Histogram {
    let bounds = explicit.bounds().shown.iter().copied();
    let mut below = 0;
    let buckets = bounds.chain([f64::INFINITY]).enumerate().map(|(i, bound)| {
        below += explicit.counts().get(i).copied().unwrap_or_default();
        let exemplar = explicit.exemplars().get(i).copied().flatten();
        Bucket {
            cumulative_count: below,
            upper_bound: bound,
            exemplar: exemplar.map(|e| exemplar_message(&e, explicit.bounds().per_unit)),
        }
    });
    let mut histogram = Histogram {
        sample_count: explicit.count(),
        sample_sum: explicit.sum(),
        bucket: buckets.collect(),
        ..Histogram::default()
    };
    if let Some(exponential) = exponential {
        native(exponential, &mut histogram);
    }
    histogram
}

/// Fills in the native buckets. Prometheus numbers a bucket by its upper bound, OpenTelemetry by
/// its lower: the same bucket is one higher there.
fn native(exponential: &Exponential, out: &mut Histogram) {
    let shift = (exponential.scale() - MAX_SCHEMA).max(0);
    out.schema = Some(exponential.scale() - shift);
    out.zero_threshold = Some(f64::MIN_POSITIVE);
    out.zero_count = exponential.zeros();
    let mut coarse: Vec<(i32, u64)> = Vec::new();
    for (i, count) in (exponential.offset()..).zip(exponential.counts()) {
        let at = (i >> shift) + 1;
        match coarse.last_mut() {
            Some((last, sum)) if *last == at => *sum += count,
            _ => coarse.push((at, count)),
        }
    }
    let mut next = 0;
    let mut previous = 0;
    let mut hole = 0;
    for (at, count) in coarse {
        if count == 0 {
            hole += 1;
            continue;
        }
        let near = hole <= SHORT_HOLE && !out.positive_span.is_empty();
        match out.positive_span.last_mut().filter(|_| near) {
            Some(span) => {
                for _ in 0..hole {
                    out.positive_delta.push(-previous);
                    previous = 0;
                }
                span.length += hole as u32 + 1;
            }
            None => out.positive_span.push(Span {
                offset: at - next,
                length: 1,
            }),
        }
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        out.positive_delta.push(count - previous);
        (previous, next, hole) = (count, at + 1, 0);
    }
    if out.positive_span.is_empty() {
        // So that a histogram without values is known to be a native one.
        out.positive_span.push(Span::default());
    }
}

fn exemplar_message(exemplar: &Exemplar, per_unit: f64) -> ExemplarMessage {
    let trace = format!("{:032x}", u128::from_be_bytes(exemplar.trace_id));
    let span = format!("{:016x}", u64::from_be_bytes(exemplar.span_id));
    let second = 1_000_000_000;
    ExemplarMessage {
        label: vec![label("trace_id", &trace), label("span_id", &span)],
        value: exemplar.value as f64 / per_unit,
        timestamp: Some(Timestamp {
            seconds: (exemplar.time.0 / second) as i64,
            nanos: (exemplar.time.0 % second) as i32,
        }),
    }
}

fn label(name: &str, value: &str) -> Label {
    Label {
        name: name.into(),
        value: value.into(),
    }
}

// The messages of io.prometheus.client, those that are used.

#[derive(Clone, PartialEq, Message)]
struct MetricFamily {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    help: String,
    #[prost(int32, tag = "3")]
    kind: i32,
    #[prost(message, repeated, tag = "4")]
    metric: Vec<Metric>,
    #[prost(string, tag = "5")]
    unit: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(message, optional, tag = "2")]
    gauge: Option<Number>,
    #[prost(message, optional, tag = "3")]
    counter: Option<Number>,
    #[prost(message, optional, tag = "7")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// `Gauge` and `Counter` alike.
#[derive(Clone, Copy, PartialEq, Message)]
struct Number {
    #[prost(double, tag = "1")]
    value: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Histogram {
    #[prost(uint64, tag = "1")]
    sample_count: u64,
    #[prost(double, tag = "2")]
    sample_sum: f64,
    #[prost(message, repeated, tag = "3")]
    bucket: Vec<Bucket>,
    #[prost(sint32, optional, tag = "5")]
    schema: Option<i32>,
    #[prost(double, optional, tag = "6")]
    zero_threshold: Option<f64>,
    #[prost(uint64, tag = "7")]
    zero_count: u64,
    #[prost(message, repeated, tag = "12")]
    positive_span: Vec<Span>,
    #[prost(sint64, repeated, tag = "13")]
    positive_delta: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    cumulative_count: u64,
    #[prost(double, tag = "2")]
    upper_bound: f64,
    #[prost(message, optional, tag = "3")]
    exemplar: Option<ExemplarMessage>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Span {
    #[prost(sint32, tag = "1")]
    offset: i32,
    #[prost(uint32, tag = "2")]
    length: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ExemplarMessage {
    #[prost(message, repeated, tag = "1")]
    label: Vec<Label>,
    #[prost(double, tag = "2")]
    value: f64,
    #[prost(message, optional, tag = "3")]
    timestamp: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn native_buckets_are_what_was_counted() {
        let mut exponential = Exponential::default();
        for value in [0.0, 0.25, 0.3, 0.3, 1.0, 60.0] {
            exponential.record(value);
        }
        let mut out = Histogram::default();
        native(&exponential, &mut out);
        let schema = out.schema.expect("a native histogram");
        // Reads spans and deltas as Prometheus does.
        let (mut at, mut count, mut deltas) = (0, 0, out.positive_delta.iter());
        let mut found = Vec::new();
        for span in &out.positive_span {
            at += span.offset;
            for _ in 0..span.length {
                count += deltas.next().expect("a delta for each bucket");
                if count > 0 {
                    found.push((f64::from(at) * f64::from(-schema).exp2(), count));
                }
                at += 1;
            }
        }
        assert_eq!(deltas.next(), None);
        assert_eq!(out.zero_count, 1);
        let expected = [(0.25, 1), (0.3, 2), (1.0, 1), (60.0, 1)];
        assert_eq!(found.len(), expected.len());
        let width = f64::from(-schema).exp2();
        for ((log2, count), (value, times)) in found.into_iter().zip(expected) {
            let (bound, value): (f64, f64) = (log2, f64::log2(value));
            assert!(
                value <= bound && value > bound - width,
                "{value} in {bound}"
            );
            assert_eq!(count, times);
        }
    }

    #[test]
    fn only_who_prefers_the_format_gets_it() {
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                      encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8";
        assert!(is_asked_for(native));
        assert!(!is_asked_for("application/openmetrics-text, */*"));
    }
}
