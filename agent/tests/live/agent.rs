//! `wirespan agent` beside real servers: what a backend and a scraper get is what clients did.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::Span;

use crate::check;
use crate::lab::{Lab, TRACE, run};
use crate::page::{count, sum};
use crate::receiver::{Behaviour, Receiver, Speaks};
use crate::watch::{Folder, Watcher, capture, read};

const CALLER: &str = "00f067aa0ba902b7";

/// Spans by kind: SERVER 2, CLIENT 3.
fn by_kind(receiver: &Receiver) -> BTreeMap<i32, Vec<Span>> {
    let mut spans: BTreeMap<i32, Vec<Span>> = BTreeMap::new();
    receiver.received(|received| {
        let resources = received.traces.iter().flat_map(|t| &t.resource_spans);
        for span in resources
            .flat_map(|r| &r.scope_spans)
            .flat_map(|s| &s.spans)
        {
            spans.entry(span.kind).or_default().push(span.clone());
        }
    });
    spans
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Both ends of every request, in one trace, the server below the client; and metrics that count
/// them.
fn observes(speaks: Speaks, protocol: &str) {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let receiver = Receiver::start(speaks);
    let port = lab.told("nginx");
    let otlp = receiver.url();
    // `--port` also keeps the scrapes of this test out of what is counted.
    let arguments = ["agent", "--port", port, "--otlp", &otlp, "--buffer", "256"];
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "500"),
        ("WIRESPAN_LISTEN", "127.0.0.1:0"),
    ];
    let watcher = Watcher::start_with(&arguments, &variables);
    let page = watcher.hear("wirespan: metrics at ");
    let url = format!("http://127.0.0.1:{port}");
    let header = format!("traceparent: 00-{TRACE}-{CALLER}-01");
    let quiet = ["-sS", "-o", "/dev/null"];
    run(
        "curl",
        &[&quiet[..], &[&format!("{url}/api/x?[1-50]")]].concat(),
    );
    run(
        "curl",
        &[&quiet[..], &["-H", &header, &format!("{url}/fail?[1-7]")]].concat(),
    );
    receiver.wait_for("all spans", |received| received.spans() == 2 * 57);
    assert_eq!(count(&page, "http_server_request_duration_seconds"), 57);
    assert_eq!(count(&page, "http_client_request_duration_seconds"), 57);
    watcher.end();

    let spans = by_kind(&receiver);
    let (servers, clients) = (&spans[&2], &spans[&3]);
    assert_eq!((servers.len(), clients.len()), (57, 57));
    for server in servers {
        let parent = clients.iter().find(|client| {
            client.trace_id == server.trace_id && client.span_id == server.parent_span_id
        });
        let parent = parent.unwrap_or_else(|| panic!("no parent of {server:?}"));
        assert!(parent.start_time_unix_nano <= server.start_time_unix_nano);
        let attributes = check::attributes(&server.attributes);
        let failed = attributes["url.path"] == "/fail";
        assert_eq!(
            attributes.get("error.type").map(String::as_str),
            failed.then_some("500")
        );
        assert_eq!(hex(&server.trace_id) == TRACE, failed);
        assert!(!failed || hex(&server.parent_span_id) == CALLER);
    }
    let last = receiver.received(|received| received.metrics.last().cloned());
    let last = last.expect("metrics were sent when it ended");
    let services = last.resource_metrics.iter().map(|of| {
        let resource = of.resource.as_ref().expect("a resource");
        check::attributes(&resource.attributes)["service.name"].clone()
    });
    let services: Vec<String> = services.collect();
    assert_eq!(services, ["curl", "nginx", "wirespan"]);
}

#[test]
fn an_agent_exports_over_grpc() {
    observes(Speaks::Grpc, "grpc");
}

#[test]
fn an_agent_exports_over_http() {
    observes(Speaks::Http, "http/protobuf");
}

#[test]
fn a_backend_that_hangs_costs_capture_nothing_and_every_span_has_a_fate() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let receiver = Receiver::start(Speaks::Grpc);
    receiver.behave(Behaviour::Hang);
    let (port, otlp) = (lab.told("nginx"), receiver.url());
    let arguments = ["agent", "--port", port, "--otlp", &otlp, "--buffer", "256"];
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2000"),
        ("WIRESPAN_LISTEN", "127.0.0.1:0"),
        ("WIRESPAN_FLUSH", "500ms"),
    ];
    let watcher = Watcher::start_with(&arguments, &variables);
    let page = watcher.hear("wirespan: metrics at ");
    let url = format!("http://127.0.0.1:{port}/api/x");
    run("ab", &["-q", "-k", "-n", "20000", "-c", "8", &url]);
    let counted = || count(&page, "http_server_request_duration_seconds");
    for _ in 0..300 {
        if counted() == 20_000 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(counted(), 20_000);
    assert_eq!(count(&page, "http_client_request_duration_seconds"), 20_000);
    assert_eq!(sum(&page, "wirespan_capture_lost_events_total"), 0);
    // One batch is under way, 2,000 spans wait, the others found no room.
    let dropped = sum(&page, "wirespan_spans_dropped_total");
    let queued = sum(&page, "wirespan_spans_queued");
    assert_eq!(queued, 2_000);
    assert_eq!(dropped + queued + 512, 2 * 20_000);
    watcher.end();
}

#[test]
fn records_are_written_to_a_file_as_tail_prints_them() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let folder = Folder::new("records");
    let file = folder.file("records.jsonl");
    let port = lab.told("nginx");
    let path = file.to_str().expect("UTF-8");
    let arguments = ["agent", "--no-tls", "--port", port, "--listen", "none"];
    let watcher = Watcher::start(&[&arguments[..], &["--records", path]].concat());
    let url = format!("http://127.0.0.1:{port}/api/x?[1-50]");
    run("curl", &["-sS", "-o", "/dev/null", &url]);
    watcher.end();
    let records = read(&file);
    let of = |name: &str| {
        let records = records.iter();
        let of =
            records.filter(|record| record["process"]["name"] == name && record["status"] == "200");
        of.count()
    };
    assert_eq!((records.len(), of("curl"), of("nginx")), (100, 50, 50));
}
