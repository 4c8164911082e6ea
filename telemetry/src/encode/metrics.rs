//! Metrics as OTLP has them: cumulative.

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

const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

/// The request that exports a collection: the series by service, and what the program says of
/// itself.
#[must_use]
pub fn metrics_request(
    collection: &Collection,
    resource: &Resource,
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
        .map(|(service, series)| of(service, metrics(&series, time)))
        .collect();
    let readings = collection.readings.iter();
    let readings = readings.filter(|reading| !reading.points.is_empty());
    let own: Vec<_> = readings
        .map(|reading| of_reading(reading, collection.began, time))
        .collect();
    if !own.is_empty() {
        resource_metrics.push(of(("wirespan", ""), own));
    }
    ExportMetricsServiceRequest { resource_metrics }
}

/// The metrics of one service.
fn metrics(series: &[&(Identity, Series)], time: Nanos) -> Vec<Metric> {
    let mut metrics = Vec::new();
    for instrument in Instrument::ALL {
        let of = |(identity, _): &&&(Identity, Series)| identity.instrument == instrument;
        let points: Vec<_> = series
            .iter()
            .filter(of)
            .map(|entry| Point::of(entry, time))
            .collect();
        metrics.extend(durations(instrument, &points));
        metrics.extend(sizes(instrument, &points));
    }
    let untimed = series.iter().filter(|(identity, series)| {
        // Edges repeat what the exchanges' own series say.
        series.untimed > 0 && identity.instrument != Instrument::Edge
    });
    let untimed = untimed.map(|entry| Point::of(entry, time).untimed());
    let data_points: Vec<_> = untimed.collect();
    if !data_points.is_empty() {
        metrics.push(Metric {
            name: UNTIMED.into(),
            description: "Exchanges whose duration is not known.".into(),
            unit: "{exchange}".into(),
            data: Some(Data::Sum(Sum {
                data_points,
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            })),
            ..Metric::default()
        });
    }
    metrics
}

fn durations(instrument: Instrument, points: &[Point<'_>]) -> Option<Metric> {
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
            aggregation_temporality: CUMULATIVE,
        })
    } else {
        let explicit = |point: &Point<'_>| point.explicit(&point.series.durations);
        Data::Histogram(Histogram {
            data_points: timed().map(explicit).collect(),
            aggregation_temporality: CUMULATIVE,
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

fn sizes(instrument: Instrument, points: &[Point<'_>]) -> Vec<Metric> {
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
                aggregation_temporality: CUMULATIVE,
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
    time: u64,
}

impl<'a> Point<'a> {
    fn of((identity, series): &'a (Identity, Series), time: Nanos) -> Self {
        Self {
            identity,
            series,
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
            start_time_unix_nano: self.series.start.0,
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
            start_time_unix_nano: self.series.start.0,
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
            start_time_unix_nano: self.series.start.0,
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

fn of_reading(reading: &Reading, began: Nanos, time: Nanos) -> Metric {
    let point = |(attributes, value): &(Vec<(&str, String)>, f64)| NumberDataPoint {
        attributes: attributes
            .iter()
            .map(|(key, value)| text(key, value))
            .collect(),
        start_time_unix_nano: began.0,
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
                aggregation_temporality: CUMULATIVE,
                is_monotonic: true,
            }),
        }),
        ..Metric::default()
    }
}
