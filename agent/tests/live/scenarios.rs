//! The workload: every way of moving bytes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use wirespan_workload::{Difference, Hooks, Truth, compare};

use crate::watch::{Folder, WIRESPAN, Watcher, capture, ended, play, read, truth, workload};

const HOOKS: [Hooks; 3] = [Hooks::Kprobe, Hooks::Fentry, Hooks::Tracepoint];

/// Differences that are shown.
const SHOWN: usize = 40;

pub(crate) fn assert_none(differences: &[Difference], truth: &[Truth], said: &[String]) {
    let shown: Vec<String> = differences
        .iter()
        .take(SHOWN)
        .map(Difference::to_string)
        .collect();
    assert!(
        differences.is_empty(),
        "{} exchanges, {} differences:\n{}\n\nwirespan said:\n{}",
        truth.len(),
        differences.len(),
        shown.join("\n"),
        said.join("\n")
    );
}

/// Runs `act` under every set of hooks that this kernel offers.
fn with_each(act: impl Fn(Hooks, Watcher)) {
    let mut offered = 0;
    for hooks in HOOKS {
        if let Some(watcher) = Watcher::with_hooks(hooks) {
            offered += 1;
            act(hooks, watcher);
        }
    }
    assert!(
        offered > 0,
        "doctor finds nothing wrong, and no set of hooks can be had"
    );
}

#[test]
fn every_way_of_moving_bytes_is_seen_at_both_ends() {
    let Some(_alone) = capture() else { return };
    with_each(|hooks, watcher| {
        let truth = play(&["all"]);
        let watched = watcher.end();
        let differences = compare(&truth, &watched.records, hooks);
        assert_none(&differences, &truth, &watched.said);
    });
}

#[test]
fn large_bodies_have_their_size_and_time() {
    let Some(_alone) = capture() else { return };
    with_each(|hooks, watcher| {
        let truth = play(&["--full", "download", "upload"]);
        let watched = watcher.end();
        let differences = compare(&truth, &watched.records, hooks);
        assert_none(&differences, &truth, &watched.said);
    });
}

/// Bytes that may be copied out of the kernel of a large exchange, at one end.
const COPIED: u64 = 64 << 10;

#[test]
fn large_bodies_are_not_copied_out_of_the_kernel() {
    let Some(_alone) = capture() else { return };
    for (scenario, process) in [
        ("download", "wl-client"),
        ("download", "wl-server"),
        ("upload", "wl-client"),
        ("upload", "wl-server"),
    ] {
        let watcher = Watcher::tail(&["--process", process]);
        let truth = play(&["--full", scenario]);
        let watched = watcher.end();
        let copied = watched.count("copied out of the kernel");
        assert!(
            (1..=COPIED).contains(&copied),
            "{scenario} at {process}: {copied} bytes copied"
        );
        // Each byte has its place in the kernel's own count.
        let left_there = [
            "bytes above the share of a call",
            "bytes beyond the window",
            "bytes not wanted",
        ];
        let left_there: u64 = left_there.map(|what| watched.count(what)).iter().sum();
        let moved = truth.iter().map(|t| t.request_bytes + t.response_bytes);
        assert_eq!(
            copied + left_there,
            moved.sum::<u64>(),
            "{scenario} at {process}"
        );
        let sizes = |target: &str| {
            let record = watched
                .records
                .iter()
                .find(|record| record["target"] == target);
            record.map(|record| {
                let bytes = |key: &str| record[key].as_u64();
                (bytes("request_bytes"), bytes("response_bytes"))
            })
        };
        for truth in truth {
            let expected = (Some(truth.request_bytes), Some(truth.response_bytes));
            assert_eq!(
                sizes(&truth.target),
                Some(expected),
                "{} at {process}",
                truth.target
            );
        }
    }
}

/// A scenario that waits in its middle.
struct Held {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Held {
    fn start(scenario: &str) -> Self {
        let command = &mut workload(&[scenario]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("a workload");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        output.read_line(&mut ready).expect("a line");
        assert_eq!(ready, "ready\n");
        Self { child, output }
    }

    fn go_on(mut self) -> Vec<Truth> {
        let mut input = self.child.stdin.take().expect("a pipe");
        input.write_all(b"go\n").expect("a reader");
        let mut text = String::new();
        self.output.read_to_string(&mut text).expect("UTF-8");
        assert!(ended(&mut self.child).success());
        truth(&text)
    }
}

#[test]
fn connections_that_were_open_before_are_joined_in_the_middle() {
    let Some(_alone) = capture() else { return };
    for hooks in HOOKS {
        for scenario in ["held", "held-reading"] {
            let held = Held::start(scenario);
            let watcher = Watcher::with_hooks(hooks);
            let truth = held.go_on();
            let Some(watcher) = watcher else { continue };
            let watched = watcher.end();
            let differences = compare(&truth, &watched.records, hooks);
            assert_none(&differences, &truth, &watched.said);
        }
    }
}

/// What two captures of the same traffic must agree in, and how often each was seen. Times are not
/// among it: each capture takes its own.
pub(crate) fn essence(records: &[Value]) -> BTreeMap<String, usize> {
    let keys = [
        "protocol",
        "operation",
        "target",
        "status",
        "client",
        "server",
        "trace_id",
        "request_bytes",
        "response_bytes",
        "flags",
    ];
    let mut essence = BTreeMap::new();
    for record in records {
        let values = keys.map(|key| record[key].to_string());
        *essence.entry(values.join(" ")).or_default() += 1;
    }
    essence
}

#[test]
fn a_recording_replays_as_what_was_seen() {
    let Some(_alone) = capture() else { return };
    assert_replays_as_seen("1");
}

/// What so many workers record replays as what so many see.
pub(crate) fn assert_replays_as_seen(workers: &str) {
    let folder = Folder::new("record");
    let recording = folder.file("x.pcapng");
    let path = recording.to_str().expect("UTF-8");
    let arguments = ["record", "--no-tls", "--workers", workers, "-o", path];
    let recorder = Watcher::start(&arguments);
    let tail = Watcher::tail(&["--workers", workers]);
    // Without the scenarios that fill ports with connections: two captures run at once.
    let truth = play(&[
        "read-write",
        "vectors",
        "sendfile",
        "pipelined",
        "resp",
        "mapped",
        "ipv6",
    ]);
    let tailed = tail.end();
    let recorded = recorder.end();
    assert_eq!(recorded.records.len(), 0, "record prints no records");

    let replayed = folder.file("replayed");
    let output = std::fs::File::create(&replayed).expect("a file");
    let arguments = ["replay", "--quiet", "-o", "jsonl", path];
    let replay = Command::new(WIRESPAN)
        .args(arguments)
        .stdout(output)
        .status();
    assert!(replay.expect("wirespan").success());
    let servers: Vec<&str> = truth.iter().map(|t| t.server.address.as_str()).collect();
    let ours = |record: &Value| servers.contains(&record["server"].as_str().unwrap_or_default());
    let ours = |records: Vec<Value>| records.into_iter().filter(ours).collect::<Vec<_>>();
    let (replayed, tailed) = (ours(read(&replayed)), ours(tailed.records));
    assert_eq!(tailed.len(), truth.len() * 2, "each exchange at both ends");
    assert_eq!(essence(&replayed), essence(&tailed));
}
