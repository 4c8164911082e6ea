//! Metric families: what every exposition format is made of.

use crate::metrics::{
    Explicit, Exponential, Identity, LabelValue, Reading, ReadingKind, Series, Snapshot,
};
use crate::semconv::{Instrument, OVERFLOW, UNTIMED};

/// All series of one metric.
#[derive(Clone, Debug)]
pub struct Family<'a> {
    /// Its name, without the suffixes of its samples.
    pub name: String,
    /// One sentence.
    pub help: &'a str,
    /// `seconds`, `bytes`, `ratio`, or `""`.
    pub unit: &'static str,
    /// What its samples are.
    pub kind: Type,
    /// Labels and values of its series.
    pub series: Vec<(Vec<(String, String)>, Sample<'a>)>,
}

/// Type of a family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Type {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// Value of a series.
#[derive(Clone, Copy, Debug)]
pub enum Sample<'a> {
    /// Of a counter or gauge.
    Number(f64),
    /// Of a histogram; with the exponential buckets, where there are any.
    Histogram(&'a Explicit, Option<&'a Exponential>),
}

/// The families of a snapshot and of `readings`, those that have series.
#[must_use]
pub fn families<'a>(snapshot: &'a Snapshot, readings: &'a [Reading]) -> Vec<Family<'a>> {
    let mut families = Vec::new();
    for instrument in Instrument::ALL {
        families.push(durations(instrument, snapshot));
        for (i, metric) in instrument.body_sizes().into_iter().flatten().enumerate() {
            families.push(sizes(instrument, i, metric, snapshot));
        }
    }
    families.push(untimed(snapshot));
    families.push(targets(snapshot));
    families.extend(readings.iter().map(of_reading));
    families.retain(|family| !family.series.is_empty());
    families
}

/// The name that Prometheus has for a metric: underscores for dots, and the unit's word behind it.
#[must_use]
pub fn name(metric: &str, unit: &str) -> String {
    let mut name = metric.replace('.', "_");
    let word = unit_word(unit);
    if !word.is_empty() && !name.ends_with(word) {
        name.push('_');
        name.push_str(word);
    }
    name
}

/// Annotations in braces are no units.
fn unit_word(unit: &str) -> &'static str {
    match unit {
        "s" => "seconds",
        "By" => "bytes",
        "1" => "ratio",
        _ => "",
    }
}

fn of_instrument(
    instrument: Instrument,
    snapshot: &Snapshot,
) -> impl Iterator<Item = &(Identity, Series)> {
    let series = snapshot.series.iter();
    series.filter(move |(identity, _)| identity.instrument == instrument)
}

fn durations(instrument: Instrument, snapshot: &Snapshot) -> Family<'_> {
    let timed = of_instrument(instrument, snapshot)
        .filter(|(_, series)| series.durations.count() > 0)
        .map(|(identity, series)| {
            let exponential = series.exponential.as_deref();
            (
                labels(identity),
                Sample::Histogram(&series.durations, exponential),
            )
        });
    Family {
        name: name(instrument.duration(), "s"),
        help: instrument.description(),
        unit: "seconds",
        kind: Type::Histogram,
        series: timed.collect(),
    }
}

fn sizes<'a>(
    instrument: Instrument,
    which: usize,
    metric: &str,
    snapshot: &'a Snapshot,
) -> Family<'a> {
    let sized = |(identity, series): &'a (Identity, Series)| {
        let sizes = series.sizes.as_ref()?.get(which)?;
        (sizes.count() > 0).then(|| (labels(identity), Sample::Histogram(sizes, None)))
    };
    Family {
        name: name(metric, "By"),
        help: "Size of bodies as they were sent.",
        unit: "bytes",
        kind: Type::Histogram,
        series: of_instrument(instrument, snapshot)
            .filter_map(sized)
            .collect(),
    }
}

fn untimed(snapshot: &Snapshot) -> Family<'_> {
    // Edges repeat what the exchanges' own series say.
    let series = snapshot
        .series
        .iter()
        .filter(|(identity, series)| series.untimed > 0 && identity.instrument != Instrument::Edge);
    let series = series.map(|(identity, series)| {
        let mut labels = labels(identity);
        let of = identity.instrument.duration();
        labels.push(("wirespan_metric".into(), of.into()));
        (labels, Sample::Number(series.untimed as f64))
    });
    Family {
        name: name(UNTIMED, "{exchange}"),
        help: "Exchanges whose duration is not known: without response, or with lost bytes.",
        unit: "",
        kind: Type::Counter,
        series: series.collect(),
    }
}

/// What is known of services, to be joined with their series by name and instance.
fn targets(snapshot: &Snapshot) -> Family<'_> {
    let series = snapshot.services().map(|service| {
        let own = [
            ("service.name", &service.name),
            ("service.instance.id", &service.instance),
        ];
        let own = own.into_iter().filter(|(_, value)| !value.is_empty());
        let others = service.attributes.iter();
        let all = own.chain(others.map(|(key, value)| (&**key, value)));
        let mut labels: Vec<(String, String)> = Vec::new();
        for (key, value) in all {
            let key = label_name(key);
            if !labels.iter().any(|(known, _)| *known == key) {
                labels.push((key, value.to_string()));
            }
        }
        (labels, Sample::Number(1.0))
    });
    Family {
        name: "target_info".into(),
        help: "What is known of the observed services.",
        unit: "",
        kind: Type::Gauge,
        series: series.collect(),
    }
}

/// A key as Prometheus may have it: observed processes name attributes as they like.
fn label_name(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = key.chars().map(plain).collect();
    match name.as_bytes() {
        [b'0'..=b'9', ..] | [b'_', b'_', ..] => format!("key_{name}"),
        _ => name,
    }
}

fn of_reading(reading: &Reading) -> Family<'_> {
    let series = reading.points.iter().map(|(attributes, value)| {
        let label = |(key, text): &(&str, String)| (key.replace('.', "_"), text.clone());
        let labels = attributes.iter().map(label).collect();
        (labels, Sample::Number(*value))
    });
    Family {
        name: name(reading.name, reading.unit),
        help: reading.description,
        unit: unit_word(reading.unit),
        kind: match reading.kind {
            ReadingKind::Counter => Type::Counter,
            ReadingKind::Gauge => Type::Gauge,
        },
        series: series.collect(),
    }
}

fn labels(identity: &Identity) -> Vec<(String, String)> {
    let mut labels = Vec::with_capacity(identity.labels.len() + 1);
    let mut push = |key: &str, value: String| labels.push((key.replace('.', "_"), value));
    if identity.overflow {
        push(OVERFLOW, "true".into());
    } else if !identity.service.is_empty() {
        push("service.name", identity.service.to_string());
        if !identity.instance.is_empty() {
            push("service.instance.id", identity.instance.to_string());
        }
    }
    for (key, value) in &identity.labels {
        let value = match value {
            LabelValue::Text(text) => text.to_string(),
            LabelValue::Integer(number) => number.to_string(),
        };
        push(key.name(), value);
    }
    labels
}
