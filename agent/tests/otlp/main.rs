//! OTLP as backends get it: everything, exactly, and from those that misbehave as much as they take.

mod check;
mod deltas;
mod faults;
mod receiver;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls")]
mod tls;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output};

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use receiver::{Behaviour, Receiver, Speaks};
use support::{records, repository};

fn capture(name: &str) -> PathBuf {
    repository().join("tests/pcaps").join(name)
}

fn replay(capture: &str, url: &str, variables: &[(&str, &str)]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_wirespan"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("OTEL_") {
            program.env_remove(name);
        }
    }
    program.args(["replay", "-o", "none", "--otlp", url]);
    program.arg(self::capture(capture));
    program.envs(variables.iter().copied());
    program.output().expect("the program runs")
}

/// Exchanges that the metrics of a request count, those without a duration included, and edges.
fn counted(receiver: &Receiver) -> (u64, u64) {
    receiver.received(|received| {
        let (mut own, mut edges) = (0, 0);
        let [request] = &received.metrics[..] else {
            panic!("{} requests with metrics", received.metrics.len());
        };
        let resources = request.resource_metrics.iter();
        let scopes = resources.flat_map(|resource| &resource.scope_metrics);
        for metric in scopes.flat_map(|scope| &scope.metrics) {
            let n: u64 = match metric.data.as_ref().expect("data") {
                Data::Histogram(histogram) => histogram.data_points.iter().map(|p| p.count).sum(),
                Data::Sum(sum) => sum.data_points.iter().map(|p| number(p.value)).sum(),
                _ => 0,
            };
            match metric.name.as_str() {
                "wirespan.edge.duration" => edges += n,
                _ => own += n,
            }
        }
        (own, edges)
    })
}

fn number(value: Option<Value>) -> u64 {
    match value {
        Some(Value::AsInt(number)) => number.try_into().expect("not negative"),
        other => panic!("no integer: {other:?}"),
    }
}

/// Every exchange is a span once and counted once, and its span has the ids of its record.
fn all_of_it_arrives(speaks: Speaks, variables: &[(&str, &str)]) {
    for name in ["demo/demo.pcap", "grpc/errors.pcap", "redis/pipelined.pcap"] {
        let receiver = Receiver::start(speaks);
        let done = replay(name, &receiver.url(), variables);
        let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(0), "{name}: {complaint}");
        let expected = records(&capture(name), 1).records.lines().count();
        assert_eq!(
            receiver.received(|received| received.spans()),
            expected,
            "{name}"
        );
        let (own, _) = counted(&receiver);
        assert_eq!(own as usize, expected, "{name}");
    }
}

#[test]
fn everything_arrives_over_grpc() {
    all_of_it_arrives(Speaks::Grpc, &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]);
}

#[test]
fn everything_arrives_over_http_as_protobuf() {
    all_of_it_arrives(Speaks::Http, &[]);
}

#[test]
fn everything_arrives_compressed() {
    for (speaks, protocol) in [
        (Speaks::Grpc, "grpc"),
        (Speaks::Http, "http/protobuf"),
        (Speaks::Http, "http/json"),
    ] {
        let protocol = ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let gzip = ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        all_of_it_arrives(speaks, &[protocol, gzip]);
        let receiver = Receiver::start(speaks);
        let none = ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none");
        let done = replay("demo/demo.pcap", &receiver.url(), &[protocol, gzip, none]);
        assert!(done.status.success());
        receiver.received(|received| {
            assert_eq!(received.compressed, received.traces.len(), "spans only");
        });
    }
}

#[test]
fn everything_arrives_as_differences() {
    let delta = ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta");
    all_of_it_arrives(Speaks::Http, &[delta]);
}

#[test]
fn methods_are_those_that_are_known() {
    let receiver = Receiver::start(Speaks::Http);
    let known = ("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "get, POST");
    assert!(
        replay("demo/demo.pcap", &receiver.url(), &[known])
            .status
            .success()
    );
    let (mut others, mut posts) = (0, 0);
    receiver.received(|received| {
        let resources = received.traces.iter().flat_map(|t| &t.resource_spans);
        for span in resources
            .flat_map(|r| &r.scope_spans)
            .flat_map(|s| &s.spans)
        {
            let attributes = check::attributes(&span.attributes);
            let Some(method) = attributes.get("http.request.method") else {
                continue;
            };
            let original = attributes.get("http.request.method_original");
            match (method.as_str(), original.map(String::as_str)) {
                ("_OTHER", Some("GET" | "HEAD" | "PUT" | "DELETE")) => others += 1,
                ("POST", None) => posts += 1,
                other => panic!("{other:?}"),
            }
            assert_eq!(span.name.starts_with("HTTP"), method == "_OTHER");
        }
    });
    assert!(others > 0 && posts > 0, "{others} and {posts}");
}

#[test]
fn everything_arrives_over_http_as_json() {
    let json = ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json");
    all_of_it_arrives(
        Speaks::Http,
        &[json, ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7")],
    );
}

#[test]
fn spans_have_the_ids_of_their_records() {
    for name in [
        "http/traceparent.pcap",
        "grpc/traceparent.pcap",
        "postgresql/traceparent.pcap",
    ] {
        let receiver = Receiver::start(Speaks::Http);
        let always = ("OTEL_TRACES_SAMPLER", "always_on");
        assert!(replay(name, &receiver.url(), &[always]).status.success());
        let mut found = receiver.received(|received| {
            let resources = received.traces.iter().flat_map(|t| &t.resource_spans);
            let spans = resources
                .flat_map(|r| &r.scope_spans)
                .flat_map(|s| &s.spans);
            let hex = |id: &[u8]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
            let ids = spans.map(|s| [&s.trace_id, &s.span_id, &s.parent_span_id].map(|id| hex(id)));
            ids.collect::<Vec<_>>()
        });
        let records = records(&capture(name), 1).records;
        let mut traced = 0;
        for line in records.lines() {
            let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let id = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
            let ids = ["trace_id", "span_id", "parent_span_id"].map(id);
            if !ids[0].is_empty() {
                let at = found.iter().position(|span| *span == ids);
                found.swap_remove(at.unwrap_or_else(|| panic!("{name}: no span for {line}")));
                traced += 1;
            }
        }
        assert!(traced > 0, "{name}");
        assert_eq!(
            found.len(),
            records.lines().count() - traced,
            "the others have made-up ids"
        );
    }
}

#[test]
fn who_was_not_sampled_has_no_span_but_is_counted() {
    let receiver = Receiver::start(Speaks::Http);
    assert!(
        replay("http/traceparent.pcap", &receiver.url(), &[])
            .status
            .success()
    );
    let all = records(&capture("http/traceparent.pcap"), 1)
        .records
        .lines()
        .count();
    let spans = receiver.received(|received| received.spans());
    assert!(spans < all, "{spans} of {all}");
    assert_eq!(counted(&receiver), (all as u64, all as u64));
}

#[test]
fn headers_and_resource_attributes_of_the_environment_are_sent() {
    for (speaks, protocol) in [(Speaks::Grpc, "grpc"), (Speaks::Http, "http/protobuf")] {
        let receiver = Receiver::start(speaks);
        let variables = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20secret"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,host.name=h1"),
        ];
        assert!(
            replay("demo/demo.pcap", &receiver.url(), &variables)
                .status
                .success()
        );
        receiver.received(|received| {
            assert!(received.keys.iter().all(|key| key == "a secret"));
            assert_eq!(received.keys.len() as u64, received.attempts);
            let resource = received.traces[0].resource_spans[0].resource.as_ref();
            let attributes = check::attributes(&resource.expect("a resource").attributes);
            let wanted = BTreeMap::from([("service.name", "shop"), ("host.name", "h1")]);
            assert!(wanted.iter().all(|(key, value)| attributes[key] == *value));
        });
    }
}

#[test]
fn what_a_backend_never_takes_is_said_and_exits_with_5() {
    for speaks in [Speaks::Http, Speaks::Grpc] {
        let receiver = Receiver::start(speaks);
        receiver.behave(Behaviour::Refuse(400, None));
        let protocol = match speaks {
            Speaks::Grpc => "grpc",
            Speaks::Http => "http/protobuf",
        };
        let variables = [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        let done = replay("demo/demo.pcap", &receiver.url(), &variables);
        let complaint = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(5), "{complaint}");
        assert!(
            complaint.contains("110 spans were not taken"),
            "{complaint}"
        );
        assert!(
            complaint.contains("the metrics were not taken"),
            "{complaint}"
        );
        assert!(!complaint.contains("panicked"), "{complaint}");
    }
}
