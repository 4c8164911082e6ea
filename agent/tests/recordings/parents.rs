//! Tasks in a recording: a replay infers the parents that the program did which recorded.

use std::fs;
use std::process::Command;

use serde_json::Value;
use wirespan::api::Direction::{ToClient, ToServer};
use wirespan_engine::{Close, Layer, Nanos, Opening, Process, Roles, Side, Start, Task};
use wirespan_replay::{StreamId, StreamWriter};

use crate::story::BEGIN;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// One end of a connection to 127.0.0.1:80.
fn open(writer: &mut StreamWriter<Vec<u8>>, side: Side, port: u16, task: u32) -> StreamId {
    let opening = Opening {
        number: 0,
        client: ([127, 0, 0, 1], port).into(),
        server: ([127, 0, 0, 1], 80).into(),
        roles: Roles::Known,
        start: Start::Beginning,
        side,
        layer: Layer::Transport,
        process: Some(Process::new(7, b"app")),
    };
    let id = writer.open(&opening, BEGIN);
    writer.set_task(id, Task::new(task), BEGIN);
    id
}

/// A recording of a request, and of one that a task sends while another, or it, handles it.
fn recording(asks: u32) -> Vec<u8> {
    let mut now = BEGIN.0;
    let mut next = || {
        now += 1_000;
        Nanos(now)
    };
    let mut writer = StreamWriter::new(Vec::new());
    let handled = open(&mut writer, Side::Server, 40_000, 70);
    // A port that would be in another shard, if it were no recording.
    let asked = open(&mut writer, Side::Client, 40_001, asks);
    writer.chunk(handled, ToServer, 0, REQUEST, next());
    writer.chunk(asked, ToServer, 0, REQUEST, next());
    writer.chunk(asked, ToClient, 0, RESPONSE, next());
    writer.chunk(handled, ToClient, 0, RESPONSE, next());
    for id in [handled, asked] {
        writer.close(id, Close::Finished, next());
    }
    writer.finish().expect("memory takes all")
}

/// The spans of a recording, by kind: server, client.
fn spans(name: &str, recording: &[u8], jobs: &str) -> [Value; 2] {
    let process = std::process::id();
    let path = std::env::temp_dir().join(format!("wirespan-parents-{process}-{name}.pcapng"));
    fs::write(&path, recording).expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_wirespan"))
        .args(["replay", "-o", "otlp-json", "--jobs", jobs])
        .arg(&path)
        .output()
        .expect("wirespan");
    fs::remove_file(&path).expect("the file");
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let spans = lines
        .iter()
        .filter_map(|line| line["resourceSpans"].as_array());
    let spans: Vec<&Value> = spans
        .flatten()
        .flat_map(|of| of["scopeSpans"].as_array().expect("scopes"))
        .flat_map(|of| of["spans"].as_array().expect("spans"))
        .collect();
    [2, 3].map(|kind| {
        let mut found = spans.iter().filter(|span| span["kind"] == kind);
        let span = found.next().unwrap_or_else(|| panic!("{lines:?}"));
        assert!(found.next().is_none(), "one of each");
        (*span).clone()
    })
}

#[test]
fn a_replay_infers_parents_from_the_tasks_that_were_recorded() {
    let [server, client] = spans("same", &recording(70), "1");
    assert_eq!(client["traceId"], server["traceId"]);
    assert_eq!(client["parentSpanId"], server["spanId"]);
    assert_eq!(spans("jobs", &recording(70), "4"), [server, client]);
    let [server, client] = spans("other", &recording(71), "1");
    assert_ne!(client["traceId"], server["traceId"]);
}
