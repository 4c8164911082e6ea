//! The two text formats.

use std::fmt::Write as _;

use super::family::{Family, Sample, Type, families};
use crate::metrics::{Exemplar, Explicit, Reading, Snapshot};

/// A text format of Prometheus.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type` of a response.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Appends all series of `snapshot`, and `readings`, to `out`. Writing into a String cannot fail,
/// which is why results are dropped here.
pub fn write(out: &mut String, snapshot: &Snapshot, readings: &[Reading], format: Format) {
    for family in families(snapshot, readings) {
        head(out, &family, format);
        for (labels, sample) in &family.series {
            let labels = joined(labels);
            match sample {
                Sample::Number(value) => number(out, &family, &labels, *value),
                Sample::Histogram(histogram, _) => {
                    write_histogram(out, &family.name, &labels, histogram, format);
                }
            }
        }
    }
    if format == Format::OpenMetrics {
        out.push_str("# EOF\n");
    }
}

fn head(out: &mut String, family: &Family<'_>, format: Format) {
    // OpenMetrics names a counter without the suffix of its samples, the older format with it.
    let suffix = match (family.kind, format) {
        (Type::Counter, Format::Text) => "_total",
        _ => "",
    };
    let (name, help) = (&family.name, family.help);
    let kind = match family.kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
        Type::Histogram => "histogram",
    };
    let _ = writeln!(out, "# HELP {name}{suffix} {help}");
    let _ = writeln!(out, "# TYPE {name}{suffix} {kind}");
    if format == Format::OpenMetrics && !family.unit.is_empty() {
        let _ = writeln!(out, "# UNIT {name} {}", family.unit);
    }
}

fn number(out: &mut String, family: &Family<'_>, labels: &str, value: f64) {
    let suffix = match family.kind {
        Type::Counter => "_total",
        _ => "",
    };
    let (name, set) = (&family.name, braced(labels));
    let _ = writeln!(out, "{name}{suffix}{set} {value}");
}

fn write_histogram(
    out: &mut String,
    name: &str,
    labels: &str,
    histogram: &Explicit,
    format: Format,
) {
    let comma = if labels.is_empty() { "" } else { "," };
    let bounds = histogram.bounds().shown.iter().copied();
    let mut below = 0;
    for (i, bound) in bounds.chain([f64::INFINITY]).enumerate() {
        below += histogram.counts().get(i).copied().unwrap_or_default();
        let _ = write!(out, "{name}_bucket{{{labels}{comma}le=\"");
        let _ = match bound.is_finite() {
            // As `1.0`, never `1`: the text is what tells buckets apart.
            true => write!(out, "{bound:?}\"}} {below}"),
            false => write!(out, "+Inf\"}} {below}"),
        };
        let exemplar = histogram.exemplars().get(i).copied().flatten();
        if let Some(exemplar) = exemplar.filter(|_| format == Format::OpenMetrics) {
            write_exemplar(out, &exemplar, histogram.bounds().per_unit);
        }
        out.push('\n');
    }
    let set = braced(labels);
    let _ = writeln!(out, "{name}_sum{set} {}", histogram.sum());
    let _ = writeln!(out, "{name}_count{set} {below}");
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar, per_unit: f64) {
    let value = exemplar.value as f64 / per_unit;
    let second = 1_000_000_000;
    let (seconds, nanos) = (exemplar.time.0 / second, exemplar.time.0 % second);
    let _ = write!(
        out,
        " # {{trace_id=\"{:032x}\",span_id=\"{:016x}\"}} {value} {seconds}.{nanos:09}",
        u128::from_be_bytes(exemplar.trace_id),
        u64::from_be_bytes(exemplar.span_id),
    );
}

fn braced(labels: &str) -> String {
    match labels {
        "" => String::new(),
        labels => format!("{{{labels}}}"),
    }
}

/// Labels without braces, their values escaped.
fn joined(labels: &[(String, String)]) -> String {
    let mut out = String::new();
    for (key, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(key);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
    out
}
