//! Lines of OTLP as text that a person can review.

use std::fmt::Write as _;

use serde_json::Value;

/// Spans that a golden shows. The metrics below them count the others, too.
const MAX_SPANS: usize = 25;

/// A line for each span and series.
pub(crate) fn readable(lines: &str) -> String {
    let requests: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let spans: Vec<&Value> = each(&requests, &["resourceSpans", "scopeSpans", "spans"]);
    let mut text = String::from("# Spans: name, kind, status, nanoseconds, ids, attributes\n");
    for span in spans.iter().take(MAX_SPANS) {
        write_span(&mut text, span);
    }
    if spans.len() > MAX_SPANS {
        let _ = writeln!(text, "… {} more", spans.len() - MAX_SPANS);
    }
    text.push_str("\n# Metrics: name, attributes, count, sum, buckets, exemplars\n");
    for metric in each(&requests, &["resourceMetrics", "scopeMetrics", "metrics"]) {
        write_metric(&mut text, metric);
    }
    text
}

/// The innermost elements of lists within lists.
pub(crate) fn each<'a>(outer: &'a [Value], path: &[&str]) -> Vec<&'a Value> {
    let mut level: Vec<&Value> = outer.iter().collect();
    for key in path {
        let inner = level.iter().filter_map(|value| value.get(key)?.as_array());
        level = inner.flatten().collect();
    }
    level
}

fn write_span(text: &mut String, span: &Value) {
    let number = |key: &str| span[key].as_str().and_then(|n| n.parse::<u64>().ok());
    let nanos = number("endTimeUnixNano").zip(number("startTimeUnixNano"));
    let kind = match span["kind"].as_u64() {
        Some(2) => "SERVER",
        Some(3) => "CLIENT",
        _ => "?",
    };
    let status = match span["status"]["code"].as_u64() {
        Some(0) => "unset",
        Some(2) => "error",
        _ => "?",
    };
    let parent = span["parentSpanId"].as_str().filter(|id| !id.is_empty());
    let _ = writeln!(
        text,
        "{} | {kind} {status} {} | {} {} < {} {:x} {}| {}",
        span["name"].as_str().expect("a name"),
        nanos.map_or(0, |(end, start)| end - start),
        span["traceId"].as_str().expect("a trace"),
        span["spanId"].as_str().expect("a span"),
        parent.unwrap_or("-"),
        span["flags"].as_u64().expect("flags"),
        span["traceState"]
            .as_str()
            .map(|s| format!("{s} "))
            .unwrap_or_default(),
        attributes(&span["attributes"]),
    );
}

fn write_metric(text: &mut String, metric: &Value) {
    let data = metric.get("histogram").or_else(|| metric.get("sum"));
    for point in data.expect("a known kind")["dataPoints"]
        .as_array()
        .expect("points")
    {
        let name = metric["name"].as_str().expect("a name");
        let _ = write!(text, "{name} | {} | ", attributes(&point["attributes"]));
        if let Some(value) = point.get("asInt") {
            let _ = writeln!(text, "{}", value.as_str().expect("a number"));
            continue;
        }
        let buckets = point["bucketCounts"].as_array().expect("buckets");
        let buckets: Vec<_> = buckets
            .iter()
            .map(|n| n.as_str().expect("a count"))
            .collect();
        let exemplars = point["exemplars"].as_array().expect("exemplars").iter();
        let exemplars: Vec<_> = exemplars
            .map(|e| {
                format!(
                    "{}={}",
                    e["spanId"].as_str().expect("a span"),
                    e["asDouble"]
                )
            })
            .collect();
        let _ = writeln!(
            text,
            "{} {} | {} | {}",
            point["count"].as_str().expect("a count"),
            point["sum"],
            buckets.join(" "),
            exemplars.join(" ")
        );
    }
}

/// `key=value` for each attribute, in their order.
pub(crate) fn attributes(list: &Value) -> String {
    let attributes = list
        .as_array()
        .expect("attributes")
        .iter()
        .map(|attribute| {
            let value = attribute["value"].as_object().expect("a value");
            let value = value.values().next().expect("one value");
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!("{}={value}", attribute["key"].as_str().expect("a key"))
        });
    attributes.collect::<Vec<_>>().join(" ")
}
