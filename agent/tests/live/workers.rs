//! Several workers: what they see together is what one sees.

use wirespan_workload::{Hooks, compare};

use crate::lab::{Ends, Lab, assert_counts, kind, run};
use crate::page::{count, sum};
use crate::scenarios::{assert_none, assert_replays_as_seen};
use crate::watch::{Watcher, capture, play, until};

const SEVERAL: [&str; 2] = ["2", "4"];

#[test]
fn every_way_of_moving_bytes_is_seen_at_both_ends() {
    let Some(_alone) = capture() else { return };
    for workers in SEVERAL {
        let watcher = Watcher::tail(&["--hooks", "tracepoint", "--workers", workers]);
        let truth = play(&["all"]);
        let watched = watcher.end();
        let differences = compare(&truth, &watched.records, Hooks::Tracepoint);
        assert_none(&differences, &truth, &watched.said);
    }
}

#[test]
fn a_recording_replays_as_what_was_seen() {
    let Some(_alone) = capture() else { return };
    assert_replays_as_seen("3");
}

const REQUESTS: usize = 10_000;
const COMMANDS: usize = 20_000;

/// Connections at full speed, and commands 16 at a time.
fn load(http: &str, redis: &str) {
    let (requests, commands) = (REQUESTS.to_string(), COMMANDS.to_string());
    let url = format!("http://127.0.0.1:{http}/api/x");
    run("ab", &["-q", "-k", "-c", "16", "-n", &requests, &url]);
    let pipelined = ["-q", "-c", "20", "-P", "16", "-t", "set,incr"];
    run(
        "redis-benchmark",
        &[&pipelined[..], &["-p", redis, "-n", &commands]].concat(),
    );
}

#[test]
fn a_load_is_counted_exactly() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx", "redis"]) else {
        return;
    };
    let (http, redis) = (lab.told("nginx"), lab.told("redis"));
    for workers in SEVERAL {
        let ports = format!("{http},{redis}");
        let watcher = Watcher::tail(&["--workers", workers, "--port", &ports]);
        load(http, redis);
        let watched = watcher.end();
        let ends = |client, server| Ends { client, server };
        let requests = [(kind("http", "GET", "/api/x", "200"), REQUESTS)];
        let mut counted = assert_counts(&watched.records, &ends("ab", "nginx"), &requests);
        let command = |name| (kind("redis", name, "", "OK"), COMMANDS);
        let commands = [command("SET"), command("INCR")];
        let ends = ends("redis-benchmark", "redis-server");
        counted.extend(assert_counts(&watched.records, &ends, &commands));
        assert_eq!(counted.len(), 2 * (REQUESTS + 2 * COMMANDS));
        let flagged = counted
            .iter()
            .find(|record| record["flags"] != serde_json::json!([]));
        assert_eq!(flagged, None, "{workers} workers: {:?}", watched.said);
        assert_eq!(watched.count("bytes lost"), 0, "{:?}", watched.said);
    }
}

#[test]
fn an_agent_tells_what_each_worker_does() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx", "redis"]) else {
        return;
    };
    let (http, redis) = (lab.told("nginx"), lab.told("redis"));
    let ports = format!("{http},{redis}");
    let arguments = [
        "agent",
        "--workers",
        "2",
        "--socket",
        "none",
        "--port",
        &ports,
    ];
    let more = ["--buffer", "256", "--listen", "127.0.0.1:0"];
    let watcher = Watcher::start(&[&arguments[..], &more].concat());
    let page = watcher.hear("wirespan: metrics at ");
    load(http, redis);
    let requests = || count(&page, "http_server_request_duration_seconds");
    until("all requests are counted", || requests() == REQUESTS as u64);
    let of =
        |name: &str, worker: &str| sum(&page, &format!("{name}{{wirespan_worker=\"{worker}\"}}"));
    until("nothing waits", || {
        ["0", "1"]
            .iter()
            .all(|worker| of("wirespan_worker_waiting", worker) == 0)
    });
    let total = String::from("wirespan_capture_io_bytes_total{wirespan_capture_part=\"moved\"}");
    // Figures are a second old at most.
    until("each has its part of what was moved", || {
        let moved = ["0", "1"].map(|worker| of("wirespan_worker_io_bytes_total", worker));
        moved.iter().all(|moved| *moved > 0) && moved.iter().sum::<u64>() == sum(&page, &total)
    });
    assert_eq!(sum(&page, "wirespan_worker_lost_bytes_total"), 0);
    watcher.end();
}
