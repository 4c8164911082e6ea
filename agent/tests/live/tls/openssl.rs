//! Calls that OpenSSL wants to be made again, that move a part, or that change keys.

use serde_json::Value;

use super::{Asked, assert_all_seen};
use crate::lab::{Lab, kind, run};
use crate::watch::{Watcher, capture};

const WRITES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/tls/writes.py");

#[test]
fn writes_made_again_and_in_parts_and_changed_keys_count_once() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["tls/writes"]) else {
        return;
    };
    let Some(port) = lab.tls("writes") else {
        return;
    };
    let watcher = Watcher::with_tls(&["--port", port]);
    let said = run("python3", &["-B", WRITES, "play", port]);
    let records = watcher.end().records;
    let truths = said.lines().map(serde_json::from_str);
    let truths: Vec<Value> = truths.map(|truth| truth.expect("a truth")).collect();
    assert_eq!(truths.len(), 20, "{said}");
    let post = |truth: &Value| {
        let target = truth["target"].as_str().expect("a target");
        (kind("http", "POST", target, "200"), 1)
    };
    let wanted: Vec<_> = truths.iter().map(post).collect();
    let asked = Asked::new(port, "python3", "python3", &wanted);
    assert_eq!(assert_all_seen(&records, &[asked]), records.len());
    for truth in &truths {
        for record in records
            .iter()
            .filter(|record| record["target"] == truth["target"])
        {
            for key in ["request_bytes", "response_bytes"] {
                assert_eq!(record[key], truth[key], "{key}: {record}");
            }
        }
    }
}

const EARLY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/tls/early.py");
const OLD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/tls/old.py");

/// TLS 1.3's 0-RTT: what is sent before the handshake is over is a request like any other.
#[test]
fn early_data_counts_once() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["tls/early"]) else {
        return;
    };
    let Some(port) = lab.tls("early") else {
        return;
    };
    let watcher = Watcher::with_tls(&["--port", port]);
    let said = run("python3", &["-B", EARLY, "get", port, "5"]);
    let records = watcher.end().records;
    let answers = |word| said.lines().filter(|line| *line == word).count();
    assert_eq!((answers("early"), answers("late")), (5, 6), "{said}");
    let get = |target, count| (kind("http", "GET", target, "200"), count);
    let wanted = [get("/early", 5), get("/late", 6)];
    let asked = Asked::new(port, "python3", "python3", &wanted);
    assert_eq!(assert_all_seen(&records, &[asked]), records.len());
    let took = |record: &Value| record["attributes"]["wirespan.tls.handshake_ns"].as_u64();
    let (early, late): (Vec<&Value>, Vec<&Value>) = records.iter().partition(|record| {
        let target = record["target"].as_str().unwrap_or_default();
        target.starts_with("/early")
    });
    // From outside early data look like the end of the handshake.
    assert!(
        early.iter().all(|record| took(record).is_none()),
        "{early:#?}"
    );
    let timed = late.iter().filter(|record| took(record) > Some(0));
    assert_eq!(
        timed.count(),
        2,
        "the connection that the others resume, at both ends"
    );
}

/// OpenSSL 1.0.2 and 1.1.1 in wheels of their own, and 1.1.0 inside of an extension of Python's.
#[test]
fn old_versions_of_openssl() {
    const NAMES: [&str; 3] = ["old-1.0.2", "old-1.1.0", "old-1.1.1"];
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&NAMES.map(|name| format!("tls/{name}"))) else {
        return;
    };
    let known: Vec<_> = NAMES
        .into_iter()
        .filter_map(|name| Some((name, lab.tls(name)?)))
        .collect();
    let ports: Vec<&str> = known.iter().map(|(_, port)| *port).collect();
    let watcher = Watcher::with_tls(&super::ports(&ports));
    let mut asked = Vec::new();
    for (name, port) in &known {
        let told = |what: &str| lab.told(&format!("{name}-{what}"));
        let (python, library) = (told("python"), told("library"));
        let said = run(
            python,
            &["-B", OLD, "get", port, library, &format!("/{name}"), "20"],
        );
        assert_eq!(said.trim(), "20", "{name}");
        let process = if library == "pyopenssl" {
            "python"
        } else {
            "python3"
        };
        let wanted = [(kind("http", "GET", &format!("/{name}"), "200"), 20)];
        asked.push(Asked::new(port, process, process, &wanted));
    }
    let records = watcher.end().records;
    assert_eq!(assert_all_seen(&records, &asked), records.len());
    for record in &records {
        let old = !record["target"]
            .as_str()
            .unwrap_or("")
            .starts_with("/old-1.1.1");
        let version = if old { "1.2" } else { "1.3" };
        super::assert_handshake(record, version, None);
    }
}
