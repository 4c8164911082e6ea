//! An agent that may use little under a load that wants much: it does with less, counts all the
//! same, and takes everything up again.

use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Lab, run};
use crate::page::labelled as sum;
use crate::receiver::{Receiver, Speaks};
use crate::watch::{Watcher, capture, until};

#[test]
fn beyond_its_budget_an_agent_does_with_less_and_counts_all() {
    const REQUESTS: u64 = 500;
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let receiver = Receiver::start(Speaks::Http);
    let (port, otlp) = (lab.told("nginx"), receiver.url());
    let arguments = ["agent", "--no-tls", "--port", port, "--otlp", &otlp];
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("WIRESPAN_LISTEN", "127.0.0.1:0"),
        ("WIRESPAN_BUDGET_PROCESSORS", "0.05"),
    ];
    let watcher = Watcher::start_with(&arguments, &variables);
    let watcher = watcher.unwrap_or_else(|(status, said)| panic!("{status}: {said:?}"));
    let page = watcher.hear("wirespan: metrics at ");
    let url = format!("http://127.0.0.1:{port}/api/x");

    let mut asked = 0;
    let began = Instant::now();
    let down = || sum(&page, "wirespan_governor_steps_total", "down_processors");
    while down() < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "no steps");
        let requests = REQUESTS.to_string();
        run("ab", &["-q", "-k", "-n", &requests, "-c", "4", &url]);
        asked += REQUESTS;
    }
    let counted = |metric: &str| {
        sum(
            &page,
            &format!("{metric}_request_duration_seconds_count"),
            "",
        )
    };
    until("the count of all", || {
        counted("http_server") == asked && counted("http_client") == asked
    });
    // From the second step on there are fewer spans.
    let left_out = sum(&page, "wirespan_spans_left_out_total", "sampling");
    assert!(left_out > 0, "of {asked}");
    assert_eq!(sum(&page, "wirespan_capture_lost_events_total", ""), 0);
    // Each look at the page costs, too.
    let began = Instant::now();
    while sum(&page, "wirespan_governor_level", "") > 0 {
        assert!(began.elapsed() < Duration::from_secs(90), "it stays down");
        thread::sleep(Duration::from_secs(1));
    }
    let up = sum(&page, "wirespan_governor_steps_total", "\"up\"");
    assert_eq!(up, down());
    watcher.end();
}
