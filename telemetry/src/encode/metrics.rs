//! Metrics as OTLP has them: cumulative, or as what was counted since a time.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge,
    Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum,
    exemplar, number_data_point,
};
use wirespan_engine::Nanos;
use wirespan_export::metrics::{
    Explicit, Exponential, Identity, LabelValue, Reading, ReadingKind, Series,
};
use wirespan_export::semconv::{Instrument, OVERFLOW, SCHEMA_URL, UNTIMED};

use super::{Collection, Resource, attribute, integer, scope, text};

/// Since when values count.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Counted {
    /// Since their series began.
    #[default]
    Always,
    /// Since this time; without one, since their series began, and not before it.
    Since(Option<Nanos>),
}

impl Counted {
    const fn temporality(self) -> i32 {
        match self {
            Self::Always => AggregationTemporality::Cumulative as i32,
            Self::Since(_) => AggregationTemporality::Delta as i32,
        }
    }

    /// Since when the values of a series count that began at `start`.
    fn start(self, start: Nanos) -> u64 {
        match self {
            Self::Always | Self::Since(None) => start.0,
            Self::Since(Some(since)) => since.0,
        }
    }
}

/// Since when what is sent was counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Window {
    /// The series.
    pub(crate) series: Counted,
    /// What the program says of itself.
    pub(crate) readings: Counted,
}

/// The request that exports a collection: the series by service, and what the program says of
/// itself. All is cumulative.
#[must_use]
pub fn metrics_request(
    collection: &Collection,
    resource: &Resource,
) -> ExportMetricsServiceRequest {
    request_of(collection, resource, Window::default())
}

/// The same of what was counted in a window.
pub(crate) fn request_of(
    collection: &Collection,
    resource: &Resource,
    window: Window,
) -> ExportMetricsServiceRequest {
    let time = collection.time;
    let snapshot = &collection.snapshot;
    let mut services = BTreeMap::<(&str, &str), Vec<&(Identity, Series)>>::new();
    for entry in &snapshot.series {
        let service = (&*entry.0.service, &*entry.0.instance);
        services.entry(service).or_default().push(entry);
    }
    let of = |(name, instance): (&str, &str), metrics| ResourceMetrics {
        resource: Some(resource.of(name, snapshot.service(name, instance))),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope()),
            metrics,
            schema_url: SCHEMA_URL.into(),
        }],
        schema_url: SCHEMA_URL.into(),
    };
    let mut resource_metrics: Vec<_> = services
        .into_iter()
        .map(|(service, series)| of(service, metrics(&series, time, window.series)))
        .collect();
    let readings = collection.readings.iter();
    let readings = readings.filter(|reading| !reading.points.is_empty());
    let own: Vec<_> = readings
        .map(|reading| of_reading(reading, window.readings, (collection.began, time)))
        .collect();
    if !own.is_empty() {
        resource_metrics.push(of(("wirespan", ""), own));
    }
    ExportMetricsServiceRequest { resource_metrics }
}

/// The metrics of one service.
fn metrics(series: &[&(Identity, Series)], time: Nanos, counted: Counted) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for instrument in Instrument::ALL {
        let of = |(identity, _): &&&(Identity, Series)| identity.instrument == instrument;
        let points: Vec<_> = series
            .iter()
            .filter(of)
            .map(|entry| Point::of(entry, time, counted))
            .collect();
        metrics.extend(durations(instrument, &points, counted));
        metrics.extend(sizes(instrument, &points, counted));
    }
    let untimed = series.iter().filter(|(identity, series)| {
        // Edges repeat what the exchanges' own series say.
        series.untimed > 0 && identity.instrument != Instrument::Edge
    });
    let untimed = untimed.map(|entry| Point::of(entry, time, counted).untimed());
    let data_points: Vec<_> = untimed.collect();
    if !data_points.is_empty() {
        metrics.push(Metric {
            name: UNTIMED.into(),
            description: "Exchanges whose duration is not known.".into(),
            unit: "{exchange}".into(),
            data: Some(Data::Sum(Sum {
                data_points,
                aggregation_temporality: counted.temporality(),
                is_monotonic: true,
            })),
            ..Metric::default()
        });
    }
    metrics
}

fn durations(instrument: Instrument, points: &[Point<'_>], counted: Counted) -> Option<Metric> {
    let timed = || {
        points
            .iter()
            .filter(|point| point.series.durations.count() > 0)
    };
    timed().next()?;
    let exponential = timed().all(|point| point.series.exponential.is_some());
    let data = if exponential {
        Data::ExponentialHistogram(ExponentialHistogram {
            data_points: timed().filter_map(Point::exponential).collect(),
            aggregation_temporality: counted.temporality(),
        })
    } else {
        let explicit = |point: &Point<'_>| point.explicit(&point.series.durations);
        Data::Histogram(Histogram {
            data_points: timed().map(explicit).collect(),
            aggregation_temporality: counted.temporality(),
        })
    };
    Some(Metric {
        name: instrument.duration().into(),
        description: instrument.description().into(),
        unit: "s".into(),
        data: Some(data),
        ..Metric::default()
    })
}

fn sizes(instrument: Instrument, points: &[Point<'_>], counted: Counted) -> Vec<Metric> {
    let names = instrument.body_sizes().into_iter().flatten();
    let metric = |(i, name): (usize, &str)| {
        let point = |point: &Point<'_>| {
            let sizes = point.series.sizes.as_ref()?.get(i)?;
            (sizes.count() > 0).then(|| point.explicit(sizes))
        };
        let data_points: Vec<_> = points.iter().filter_map(point).collect();
        (!data_points.is_empty()).then(|| Metric {
            name: name.into(),
            description: "Size of bodies as they were sent.".into(),
            unit: "By".into(),
            data: Some(Data::Histogram(Histogram {
                data_points,
                aggregation_temporality: counted.temporality(),
            })),
            ..Metric::default()
        })
    };
    names.enumerate().filter_map(metric).collect()
}

/// A series at a time.
struct Point<'a> {
    identity: &'a Identity,
    series: &'a Series,
    start: u64,
    time: u64,
}

impl<'a> Point<'a> {
    fn of((identity, series): &'a (Identity, Series), time: Nanos, counted: Counted) -> Self {
        Self {
            identity,
            series,
            start: counted.start(series.start),
            time: time.0,
        }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        if self.identity.overflow {
            return vec![attribute(OVERFLOW, Value::BoolValue(true))];
        }
        let labels = self.identity.labels.iter();
        let one = |(label, value): &(_, LabelValue)| match value {
            LabelValue::Text(value) => text(wirespan_export::semconv::Label::name(*label), value),
            LabelValue::Integer(value) => {
                integer(wirespan_export::semconv::Label::name(*label), *value)
            }
        };
        labels.map(one).collect()
    }

    fn explicit(&self, histogram: &Explicit) -> HistogramDataPoint {
        let range = histogram.range();
        HistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.start,
            time_unix_nano: self.time,
            count: histogram.count(),
            sum: Some(histogram.sum()),
            bucket_counts: histogram.counts().to_vec(),
            explicit_bounds: histogram.bounds().shown.to_vec(),
            exemplars: exemplars(histogram),
            min: range.map(|(min, _)| min),
            max: range.map(|(_, max)| max),
            ..HistogramDataPoint::default()
        }
    }

    fn exponential(&self) -> Option<ExponentialHistogramDataPoint> {
        let exponential: &Exponential = self.series.exponential.as_ref()?;
        let explicit = &self.series.durations;
        let range = explicit.range();
        Some(ExponentialHistogramDataPoint {
            attributes: self.attributes(),
            start_time_unix_nano: self.start,
            time_unix_nano: self.time,
            count: explicit.count(),
            sum: Some(explicit.sum()),
            scale: exponential.scale(),
            zero_count: exponential.zeros(),
            positive: Some(Buckets {
                offset: exponential.offset(),
                bucket_counts: exponential.counts().collect(),
            }),
            exemplars: exemplars(explicit),
            min: range.map(|(min, _)| min),
            max: range.map(|(_, max)| max),
            ..ExponentialHistogramDataPoint::default()
        })
    }

    fn untimed(&self) -> NumberDataPoint {
        let mut attributes = self.attributes();
        let of = self.identity.instrument.duration();
        attributes.push(text("wirespan.metric", of));
        let untimed = i64::try_from(self.series.untimed).unwrap_or(i64::MAX);
        NumberDataPoint {
            attributes,
            start_time_unix_nano: self.start,
            time_unix_nano: self.time,
            value: Some(number_data_point::Value::AsInt(untimed)),
            ..NumberDataPoint::default()
        }
    }
}

fn exemplars(histogram: &Explicit) -> Vec<Exemplar> {
    let exemplars = histogram.exemplars().iter().flatten();
    let per_unit = histogram.bounds().per_unit;
    let one = |exemplar: &wirespan_export::metrics::Exemplar| Exemplar {
        time_unix_nano: exemplar.time.0,
        span_id: exemplar.span_id.to_vec(),
        trace_id: exemplar.trace_id.to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.value as f64 / per_unit)),
        ..Exemplar::default()
    };
    exemplars.map(one).collect()
}

fn of_reading(reading: &Reading, counted: Counted, (began, time): (Nanos, Nanos)) -> Metric {
    let point = |(attributes, value): &(Vec<(&str, String)>, f64)| NumberDataPoint {
        attributes: attributes
            .iter()
            .map(|(key, value)| text(key, value))
            .collect(),
        start_time_unix_nano: counted.start(began),
        time_unix_nano: time.0,
        value: Some(number_data_point::Value::AsDouble(*value)),
        ..NumberDataPoint::default()
    };
    let data_points = reading.points.iter().map(point).collect();
    Metric {
        name: reading.name.into(),
        description: reading.description.into(),
        unit: reading.unit.into(),
        data: Some(match reading.kind {
            ReadingKind::Gauge => Data::Gauge(Gauge { data_points }),
            ReadingKind::Counter => Data::Sum(Sum {
                data_points,
                aggregation_temporality: counted.temporality(),
                is_monotonic: true,
            }),
        }),
        ..Metric::default()
    }
}
