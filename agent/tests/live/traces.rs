//! Parents inside processes: what a service asks while it handles a request, in the trace of that
//! request, without a context from anyone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::check;
use crate::lab::{Lab, run};
use crate::receiver::{Receiver, Speaks};
use crate::watch::{Watcher, capture};

/// A span and the service whose it is.
#[derive(Clone, Debug)]
struct Spanned {
    service: String,
    span: Span,
}

impl Spanned {
    fn attribute(&self, key: &str) -> String {
        let attributes = check::attributes(&self.span.attributes);
        attributes.get(key).cloned().unwrap_or_default()
    }

    fn kind(&self) -> &'static str {
        match self.span.kind {
            2 => "SERVER",
            _ => "CLIENT",
        }
    }
}

/// Traces by their id.
type Traces = BTreeMap<Vec<u8>, Vec<Spanned>>;

fn traces(receiver: &Receiver) -> Traces {
    let mut traces = Traces::new();
    receiver.received(|received| {
        for of in received.traces.iter().flat_map(|t| &t.resource_spans) {
            let resource = of.resource.as_ref().expect("a resource");
            let service = check::attributes(&resource.attributes)["service.name"].clone();
            for span in of.scope_spans.iter().flat_map(|scope| &scope.spans) {
                let trace = traces.entry(span.trace_id.clone()).or_default();
                trace.push(Spanned {
                    service: service.clone(),
                    span: span.clone(),
                });
            }
        }
    });
    traces
}

/// A trace as a tree: name, kind, service, and how the parent was found; children below their
/// parent, in their order. What has a parent that is not there stands at the end.
fn tree(trace: &[Spanned]) -> String {
    let mut spans: Vec<&Spanned> = trace.iter().collect();
    spans.sort_by_key(|of| of.span.start_time_unix_nano);
    let ids: BTreeSet<&[u8]> = spans.iter().map(|of| &of.span.span_id[..]).collect();
    let mut text = String::new();
    write_children(&mut text, &spans, &[], 0);
    for of in &spans {
        let parent = &of.span.parent_span_id[..];
        if !parent.is_empty() && !ids.contains(parent) {
            let _ = writeln!(text, "without parent: {} {}", of.span.name, of.service);
        }
    }
    text
}

fn write_children(text: &mut String, spans: &[&Spanned], parent: &[u8], depth: usize) {
    for of in spans.iter().filter(|of| of.span.parent_span_id == parent) {
        let (kind, source) = (of.kind(), of.attribute("wirespan.parent.source"));
        let line = format!("{} {kind} {} {source}", of.span.name, of.service);
        let _ = writeln!(text, "{}{}", "  ".repeat(depth), line.trim_end());
        assert!(depth < 16, "a circle:\n{text}");
        write_children(text, spans, &of.span.span_id, depth + 1);
    }
}

/// Starts an agent that observes these ports with so many workers, and exports soon.
fn agent(receiver: &Receiver, ports: &[&str], workers: &str) -> Watcher {
    let otlp = receiver.url();
    let mut arguments = vec!["agent", "--otlp", &otlp, "--buffer", "256"];
    arguments.extend(["--workers", workers]);
    arguments.extend(ports.iter().flat_map(|port| ["--port", port]));
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("WIRESPAN_LISTEN", "127.0.0.1:0"),
    ];
    Watcher::start_with(&arguments, &variables)
}

const QUIET: [&str; 3] = ["-sS", "-o", "/dev/null"];

/// The trace in which a service was asked for this path.
fn asked_for<'a>(traces: &'a Traces, path: &str) -> &'a [Spanned] {
    let is_it = |of: &Spanned| of.kind() == "SERVER" && of.attribute("url.path") == path;
    let mut found = traces.values().filter(|trace| trace.iter().any(is_it));
    let trace = found.next().unwrap_or_else(|| panic!("no trace of {path}"));
    assert!(found.next().is_none(), "{path} is in two traces");
    trace
}

#[test]
fn a_request_through_five_programs_is_one_trace() {
    through_five_programs("1");
}

#[test]
fn a_request_whose_connections_are_spread_over_workers_is_one_trace() {
    through_five_programs("2");
    through_five_programs("4");
}

fn through_five_programs(workers: &str) {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["shop"]) else {
        return;
    };
    let receiver = Receiver::start(Speaks::Grpc);
    let ports: Vec<&str> = lab.told("shop-ports").split(' ').collect();
    let watcher = agent(&receiver, &ports, workers);
    let url = format!("http://127.0.0.1:{}/checkout", lab.told("gateway"));
    // The first request opens connections, in threads of the library for gRPC.
    for n in 0..6 {
        run("curl", &[&QUIET[..], &[&format!("{url}/{n}")]].concat());
    }
    receiver.wait_for("all spans", |received| received.spans() >= 6 * 8);
    watcher.end();
    let traces = traces(&receiver);
    for n in 1..6 {
        let found = tree(asked_for(&traces, &format!("/checkout/{n}")));
        assert_eq!(
            found,
            include_str!("traces/shop.txt"),
            "request {n}:\n{found}"
        );
    }
}

#[test]
fn requests_at_once_are_not_mixed_up() {
    at_once("1");
}

#[test]
fn requests_at_once_are_not_mixed_up_by_several_workers() {
    at_once("2");
}

fn at_once(workers: &str) {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["goshop"]) else {
        return;
    };
    const COUNT: usize = 25;
    let receiver = Receiver::start(Speaks::Grpc);
    let versions = ["go-1.21", "go-1.24", "go-1.27"];
    let told = versions
        .iter()
        .filter_map(|name| Some((*name, lab.tls(name)?)));
    let told: Vec<(&str, &str)> = told.collect();
    let mut ports: Vec<&str> = told.iter().map(|(_, port)| *port).collect();
    ports.push(lab.told("redis"));
    let watcher = agent(&receiver, &ports, workers);
    for (name, port) in &told {
        let url = format!("https://127.0.0.1:{port}/count/{name}-[1-{COUNT}]");
        let at_once = [
            "--insecure",
            "--http1.1",
            "--parallel",
            "--parallel-immediate",
        ];
        run("curl", &[&QUIET[..], &at_once, &[&url]].concat());
    }
    let expected = told.len() * COUNT * 6;
    receiver.wait_for("all spans", |received| received.spans() >= expected);
    watcher.end();
    let traces = traces(&receiver);
    for (name, _) in &told {
        for n in 1..=COUNT {
            let trace = asked_for(&traces, &format!("/count/{name}-{n}"));
            let found = tree(trace);
            let wanted = include_str!("traces/go.txt").replace("GO", &name.replace('-', ""));
            assert_eq!(found, wanted, "{name} {n}:\n{found}");
            let asked = trace.iter().filter(|of| of.span.name == "INCR");
            for of in asked {
                let text = of.attribute("db.query.text");
                assert_eq!(text, format!("INCR {name}-{n}"));
            }
        }
    }
}
