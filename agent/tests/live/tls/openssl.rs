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
