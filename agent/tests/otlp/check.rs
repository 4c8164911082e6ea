//! What must hold of every message of OTLP, whatever is in it.

use std::collections::{BTreeMap, BTreeSet};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::exemplar;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{Exemplar, HistogramDataPoint, Metric};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

const SCHEMA: &str = "https://opentelemetry.io/schemas/1.45.0";
pub(crate) const CUMULATIVE: i32 = 2;

/// Attributes that no metric may have: as many values as there are requests.
const HIGH_CARDINALITY: [&str; 9] = [
    "url.path",
    "url.query",
    "url.full",
    "client.address",
    "client.port",
    "user_agent.original",
    "db.query.text",
    "http.request.method_original",
    "rpc.method_original",
];

pub(crate) fn spans(request: &ExportTraceServiceRequest) -> usize {
    let scopes = request
        .resource_spans
        .iter()
        .flat_map(|resource| &resource.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

pub(crate) fn trace_request(request: &ExportTraceServiceRequest) {
    assert!(!request.resource_spans.is_empty(), "an empty request");
    for of_resource in &request.resource_spans {
        assert_eq!(of_resource.schema_url, SCHEMA);
        resource(of_resource.resource.as_ref());
        for scope in &of_resource.scope_spans {
            assert_eq!(scope.scope.as_ref().expect("a scope").name, "wirespan");
            assert!(!scope.spans.is_empty());
            scope.spans.iter().for_each(span);
        }
    }
}

fn span(span: &Span) {
    assert_eq!(span.trace_id.len(), 16);
    assert_eq!(span.span_id.len(), 8);
    assert!(span.trace_id.iter().any(|b| *b != 0) && span.span_id.iter().any(|b| *b != 0));
    assert!(matches!(span.parent_span_id.len(), 0 | 8));
    assert_ne!(span.parent_span_id, span.span_id, "its own parent");
    assert!(matches!(span.kind, 2 | 3), "SERVER or CLIENT");
    assert!(span.start_time_unix_nano > 0);
    assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    let attributes = attributes(&span.attributes);
    let name = &span.name;
    assert!(!name.is_empty());
    if let Some(path) = attributes.get("url.path") {
        let has_route = attributes.contains_key("http.route");
        assert!(
            has_route || !name.ends_with(path.as_str()),
            "a path in a name: {name}"
        );
    }
    let status = span.status.as_ref().expect("a status");
    assert!(matches!(status.code, 0 | 2), "unset or error, never ok");
    assert_eq!(status.code == 2, attributes.contains_key("error.type"));
    assert!(status.message.is_empty(), "it would only repeat the code");
}

pub(crate) fn metrics_request(request: &ExportMetricsServiceRequest) {
    assert!(!request.resource_metrics.is_empty(), "an empty request");
    for of_resource in &request.resource_metrics {
        assert_eq!(of_resource.schema_url, SCHEMA);
        resource(of_resource.resource.as_ref());
        for scope in &of_resource.scope_metrics {
            let names: BTreeSet<_> = scope.metrics.iter().map(|metric| &metric.name).collect();
            assert_eq!(names.len(), scope.metrics.len(), "a metric twice");
            scope.metrics.iter().for_each(metric);
        }
    }
}

fn metric(metric: &Metric) {
    assert!(
        !metric.description.is_empty() && !metric.unit.is_empty(),
        "{}",
        metric.name
    );
    let lists: Vec<&[KeyValue]> = match metric.data.as_ref().expect("data") {
        Data::Histogram(histogram) => {
            histogram.data_points.iter().for_each(histogram_point);
            let points = histogram.data_points.iter();
            points.map(|point| &*point.attributes).collect()
        }
        Data::Sum(sum) => {
            assert!(sum.is_monotonic);
            let points = sum.data_points.iter();
            points.map(|point| &*point.attributes).collect()
        }
        Data::Gauge(gauge) => {
            let points = gauge.data_points.iter();
            points.map(|point| &*point.attributes).collect()
        }
        other => panic!("of another kind: {other:?}"),
    };
    assert!(matches!(temporality(metric), None | Some(1 | CUMULATIVE)));
    assert!(!lists.is_empty(), "{} without points", metric.name);
    let mut seen = BTreeSet::new();
    for list in lists {
        let attributes = attributes(list);
        for key in HIGH_CARDINALITY {
            assert!(!attributes.contains_key(key), "{key} on {}", metric.name);
        }
        assert!(seen.insert(attributes), "a series of {} twice", metric.name);
    }
}

/// Whether its values are cumulative (2) or differences (1), if it matters.
pub(crate) fn temporality(metric: &Metric) -> Option<i32> {
    match metric.data.as_ref().expect("data") {
        Data::Histogram(histogram) => Some(histogram.aggregation_temporality),
        Data::Sum(sum) => Some(sum.aggregation_temporality),
        _ => None,
    }
}

/// The points of all histograms.
pub(crate) fn histogram_points(
    request: &ExportMetricsServiceRequest,
) -> impl Iterator<Item = &HistogramDataPoint> {
    let resources = request.resource_metrics.iter();
    let scopes = resources.flat_map(|resource| &resource.scope_metrics);
    let metrics = scopes.flat_map(|scope| &scope.metrics);
    metrics.flat_map(|metric| match metric.data.as_ref() {
        Some(Data::Histogram(histogram)) => &*histogram.data_points,
        _ => &[],
    })
}

fn histogram_point(point: &HistogramDataPoint) {
    assert!(point.start_time_unix_nano > 0);
    assert!(point.start_time_unix_nano <= point.time_unix_nano);
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert!(
        point
            .explicit_bounds
            .windows(2)
            .all(|pair| pair[0] < pair[1])
    );
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
    assert!(point.count > 0, "nothing was counted");
    // Of differences they are not known.
    assert_eq!(point.min.is_some(), point.max.is_some());
    let (min, max) = (point.min.unwrap_or(0.0), point.max.unwrap_or(f64::MAX));
    let mean = point.sum.expect("a sum") / point.count as f64;
    assert!(min <= mean * (1.0 + 1e-9) && mean <= max * (1.0 + 1e-9));
    for exemplar in &point.exemplars {
        let Exemplar {
            trace_id,
            span_id,
            value,
            ..
        } = exemplar;
        assert_eq!((trace_id.len(), span_id.len()), (16, 8));
        let Some(exemplar::Value::AsDouble(value)) = value else {
            panic!("an exemplar without a value");
        };
        assert!(min <= *value && *value <= max);
    }
}

fn resource(resource: Option<&Resource>) {
    let attributes = attributes(&resource.expect("a resource").attributes);
    assert!(!attributes["service.name"].is_empty());
    assert_eq!(attributes["telemetry.sdk.name"], "wirespan");
}

/// The attributes by key, each of which stands once.
pub(crate) fn attributes(list: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        other => panic!("a value of another kind: {other:?}"),
    };
    let pairs = list
        .iter()
        .map(|pair| (pair.key.as_str(), text(&pair.value)));
    let attributes: BTreeMap<_, _> = pairs.collect();
    assert_eq!(attributes.len(), list.len(), "a key twice: {list:?}");
    attributes
}
