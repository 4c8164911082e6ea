//! What is recorded and replayed gives the records that the engine gave when it was observed.

mod parents;
mod story;
mod tshark;

use std::io;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use wirespan::api::Direction::{ToClient, ToServer};
use wirespan::{Found, Input, Pipeline, Registry};
use wirespan_engine::{
    Address, Both, Close, Config, Engine, Exchange, Layer, Nanos, Process, Side, Sink, Start,
    UnixName,
};
use wirespan_export::record::RecordWriter;
use wirespan_replay::{Error, StreamWriter};

use story::{BEGIN, Call, Due, Story, story, whole};

fn registry() -> Arc<Registry> {
    static REGISTRY: OnceLock<Arc<Registry>> = OnceLock::new();
    let build = || Arc::new(wirespan::protocols().build().expect("different names"));
    Arc::clone(REGISTRY.get_or_init(build))
}

/// Records with their place in the output: time of completion, connection, offset.
#[derive(Default)]
struct Live {
    writer: RecordWriter,
    now: Nanos,
    records: Vec<((Nanos, u64, u64), String)>,
}

impl Sink for Live {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        let mut line = Vec::new();
        self.writer.write(&mut line, exchange);
        let line = String::from_utf8(line).expect("UTF-8");
        let place = (self.now, exchange.connection, exchange.offset);
        self.records.push((place, line));
    }
}

/// The records that an engine gives, which is ticked as a replay does.
fn observed(story: &Story) -> String {
    const TICK: u64 = 250_000_000;
    let mut engine = Engine::new(registry(), Config::default());
    let mut out = Live::default();
    let mut ids = vec![None; story.connections.len()];
    let (mut count, mut tick) = (0, BEGIN.0 / TICK);
    story.tell(|index, now, due| {
        out.now = now;
        if now.0 / TICK > tick {
            tick = now.0 / TICK;
            engine.tick(now, &mut out);
        }
        let call = match due {
            Due::Open(opening) => {
                count += 1;
                let mut opening = *opening;
                opening.number = count;
                ids[index] = Some(engine.open(&opening, now, &mut out));
                return;
            }
            Due::Call(call) => call,
        };
        let id = ids[index].expect("opened first");
        match call {
            Call::Chunk(dir, at, bytes) => engine.chunk(id, *dir, *at, bytes, now, &mut out),
            Call::Process(process) => engine.set_process(id, *process),
            Call::Task(task) => engine.set_task(id, *task),
            Call::Passed(dir, at, len) => engine.passed(id, *dir, *at, *len, now, &mut out),
            Call::Lost(dir, at, len) => engine.lost(id, *dir, *at, *len, now, &mut out),
            Call::Anchor(dir, at) => engine.anchor(id, *dir, *at, now, &mut out),
            Call::Cleartext(at, start) => engine.cleartext(id, *at, *start, now, &mut out),
            Call::Acked(dir, upto) => engine.acked(id, *dir, *upto, now, &mut out),
            Call::End(dir, at) => engine.end(id, *dir, *at, now, &mut out),
            Call::Close(how) => engine.close(id, *how, now, &mut out),
        }
    });
    let now = out.now;
    out.now = Nanos(now.0 + 1);
    engine.finish(now, &mut out);
    out.records.sort();
    out.records.into_iter().map(|(_, line)| line).collect()
}

/// The recording of a story.
fn recorded(story: &Story) -> Vec<u8> {
    let mut writer = StreamWriter::new(Vec::new());
    let mut ids = vec![None; story.connections.len()];
    story.tell(|index, now, due| {
        let call = match due {
            Due::Open(opening) => {
                ids[index] = Some(writer.open(opening, now));
                return;
            }
            Due::Call(call) => call,
        };
        let id = ids[index].expect("opened first");
        match call {
            Call::Chunk(dir, at, bytes) => writer.chunk(id, *dir, *at, bytes, now),
            Call::Process(process) => writer.set_process(id, *process, now),
            Call::Task(task) => writer.set_task(id, *task, now),
            Call::Passed(dir, at, len) => writer.passed(id, *dir, *at, *len, now),
            Call::Lost(dir, at, len) => writer.lost(id, *dir, *at, *len, now),
            Call::Anchor(dir, at) => writer.anchor(id, *dir, *at, now),
            Call::Cleartext(at, start) => writer.cleartext(id, *at, *start, now),
            Call::Acked(dir, upto) => writer.acked(id, *dir, *upto, now),
            Call::End(dir, at) => writer.end(id, *dir, *at, now),
            Call::Close(how) => writer.close(id, *how, now),
        }
    });
    assert_eq!(writer.left_out(), 0);
    writer.finish().expect("memory takes all")
}

/// The records of a recording, and what was in it.
fn replay(recording: Vec<u8>, jobs: usize) -> (String, Found) {
    let mut records = Vec::new();
    let mut pipeline = Pipeline::new(registry());
    pipeline.jobs = jobs;
    let write = |lines: &[u8]| {
        records.extend_from_slice(lines);
        Ok(())
    };
    let found = pipeline
        .run(Input::bytes(recording), write, |_, _| {})
        .expect("nothing to fail");
    (String::from_utf8(records).expect("UTF-8"), found)
}

/// The records of a recording of which everything is used.
fn replayed(recording: Vec<u8>, jobs: usize) -> String {
    let (records, found) = replay(recording, jobs);
    assert!(found.error.is_none(), "{:?}", found.error);
    let unused = &found.capture;
    assert!(unused.not_understood.is_empty(), "{unused:?}");
    assert_eq!(unused.tcp.out_of_window + unused.tcp.stray, 0, "{unused:?}");
    records
}

fn objects(records: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).expect("JSON");
    records.lines().map(parse).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]
    #[test]
    fn a_replay_of_the_recording_gives_the_records_that_were_observed(story in story()) {
        let observed = observed(&story);
        prop_assert_eq!(replayed(recorded(&story), 1), observed);
    }
}

/// The property says something: stories have exchanges of every kind.
#[test]
fn stories_are_rich() {
    let mut runner = TestRunner::deterministic();
    let mut all = String::new();
    for _ in 0..200 {
        let story = story().new_tree(&mut runner).expect("a story").current();
        all.push_str(&observed(&story));
    }
    let records = objects(&all);
    let count = |holds: &dyn Fn(&Value) -> bool| records.iter().filter(|r| holds(r)).count();
    let flagged = |flag: &'static str| {
        count(&|record| {
            let flags = record["flags"].as_array().expect("an array");
            flags.iter().any(|given| given == flag)
        })
    };
    for flag in ["midstream", "gap", "no_response", "tls"] {
        assert!(flagged(flag) > 50, "{flag}: {}", flagged(flag));
    }
    assert!(count(&|record| record["duration_ns"].as_u64() > Some(0)) > 500);
    assert!(count(&|record| record["process"]["pid"].is_u64()) > 500);
    assert!(count(&|record| record["span_id"].is_string()) > 500);
    for side in ["client", "server", "wire"] {
        assert!(count(&|record| record["side"] == side) > 200, "{side}");
    }
}

/// Both ends of a connection over the loopback interface, and the cleartext of one of them.
#[test]
fn connections_on_the_same_addresses_are_kept_apart() {
    let client = whole(false, 0, true, &[(0, 5), (1, 7)]);
    let mut server = client.clone();
    server.opening.side = Side::Server;
    server.opening.process = Some(Process::new(17, b"a server: 1"));
    let mut clear = server.clone();
    clear.opening.layer = Layer::Tls;
    // The same again in another network namespace.
    let twin = client.clone();
    let story = Story {
        connections: vec![client, server, clear, twin],
        steps: (0..100).map(|n| (1_000, n)).collect(),
    };
    let recording = recorded(&story);
    let records = replayed(recording.clone(), 1);
    assert_eq!(records, observed(&story));
    assert_eq!(records, replayed(recording, 3));
    let records = objects(&records);
    assert_eq!(records.len(), 4 * 3);
    let process = json!({"pid": 17, "name": "a server: 1"});
    let seen = |side: &str, flags: Value| {
        let same = |record: &&Value| record["side"] == side && record["flags"] == flags;
        records.iter().filter(same).collect::<Vec<_>>()
    };
    assert_eq!(seen("client", json!([])).len(), 2 * 3);
    for found in [seen("server", json!([])), seen("server", json!(["tls"]))] {
        assert_eq!(found.len(), 3);
        assert!(found.iter().all(|record| record["process"] == process));
    }
}

/// Postgres asks for TLS in the clear, and goes on inside, as MySQL does.
#[test]
fn a_connection_that_turns_to_tls_goes_on_inside() {
    const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
    const STARTUP: &[u8] = b"\0\0\0\x12\0\x03\0\0user\0joe\0\0";
    const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";
    const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
    const DONE: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
    for (start, handshakes) in [(Start::Beginning, 900), (Start::Middle, 900)] {
        let mut story = Story {
            connections: vec![whole(false, 0, false, &[(0, 3)])],
            steps: Vec::new(),
        };
        let clear = Both {
            to_server: SSL_REQUEST.len() as u64 + handshakes,
            to_client: 1 + handshakes,
        };
        let mut at = clear;
        let mut say = |dir, bytes: &[u8]| {
            let offset = at[dir];
            at[dir] += bytes.len() as u64;
            Call::Chunk(dir, offset, bytes.to_vec())
        };
        story.connections[0].calls = vec![
            Call::Chunk(ToServer, 0, SSL_REQUEST.to_vec()),
            Call::Chunk(ToClient, 0, b"S".to_vec()),
            Call::Cleartext(clear, start),
            say(ToServer, STARTUP),
            say(ToClient, READY),
            say(ToServer, QUERY),
            say(ToClient, DONE),
            Call::Close(Close::Finished),
        ];
        let records = replayed(recorded(&story), 1);
        assert_eq!(records, observed(&story));
        let records = objects(&records);
        let last = records.last().expect("the query");
        assert_eq!(last["protocol"], "postgresql", "{last}");
        assert_eq!(
            (&last["operation"], &last["status"]),
            (&json!("SELECT"), &json!("OK")),
            "{last}"
        );
        let flags = last["flags"].as_array().expect("flags");
        assert!(flags.contains(&json!("tls")), "{last}");
        let joined = flags.contains(&json!("midstream"));
        assert_eq!(joined, start == Start::Middle, "{last}");
    }
}

/// A response of five gibibytes that nobody copied: numbers wrap, the place in the stream stays.
#[test]
fn a_body_that_was_not_copied_costs_little_and_loses_nothing_else() {
    const BODY: u64 = 5 << 30;
    let mut story = Story {
        connections: vec![whole(false, 0, true, &[(0, 3)])],
        steps: Vec::new(),
    };
    let ask = b"GET /large HTTP/1.1\r\n\r\n".to_vec();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {BODY}\r\n\r\n").into_bytes();
    let again = b"HTTP/1.1 204 No Content\r\n\r\n".to_vec();
    let (asked, answered) = (ask.len() as u64, answer.len() as u64);
    story.connections[0].calls = vec![
        Call::Chunk(ToServer, 0, ask.clone()),
        Call::Chunk(ToClient, 0, answer),
        Call::Passed(ToClient, answered, BODY),
        Call::Chunk(ToServer, asked, ask),
        Call::Chunk(ToClient, answered + BODY, again),
        Call::Close(Close::Finished),
    ];
    let recording = recorded(&story);
    assert!(recording.len() < 4_000, "{} bytes", recording.len());
    let (records, found) = replay(recording, 1);
    assert_eq!(records, observed(&story));
    let statuses: Vec<_> = objects(&records)
        .iter()
        .map(|r| r["status"].clone())
        .collect();
    assert_eq!(statuses, ["200", "204"]);
    let bytes = &found.stats.protocols["http"].bytes[ToClient];
    assert_eq!((bytes.skipped, bytes.lost), (BODY, 0));
}

/// Lost bytes beyond what an IP packet can hold are one hole, not many: a parser counts holes.
#[test]
fn a_large_hole_is_one_hole() {
    for (ipv6, len) in [
        (false, 65_496),
        (true, 65_496),
        (false, 1 << 29),
        (true, 300_000),
    ] {
        let mut story = Story {
            connections: vec![whole(ipv6, 0, true, &[(0, 3)])],
            steps: Vec::new(),
        };
        let calls = &mut story.connections[0].calls;
        calls.insert(2, Call::Lost(ToClient, 1_000, len));
        let (records, found) = replay(recorded(&story), 1);
        assert_eq!(records, observed(&story));
        assert_eq!(found.capture.tcp.cut_bytes, len);
    }
}

/// The end of a response, told to have passed and told to be lost: only the first has a time.
#[test]
fn what_passed_has_a_time_and_what_was_lost_has_none() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n".to_vec();
    let at = answer.len() as u64;
    let ends = [Call::Passed(ToClient, at, 9), Call::Lost(ToClient, at, 9)];
    let durations = ends.map(|end| {
        let mut connection = whole(false, 0, true, &[]);
        connection.calls = vec![
            Call::Chunk(ToServer, 0, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            Call::Chunk(ToClient, 0, answer.clone()),
            end,
            Call::Close(Close::Finished),
        ];
        let story = Story {
            connections: vec![connection],
            steps: Vec::new(),
        };
        let records = replayed(recorded(&story), 1);
        assert_eq!(records, observed(&story));
        objects(&records)[0]["duration_ns"].as_u64()
    });
    assert_eq!(durations, [Some(2_000), None]);
}

/// Unix sockets: clients have no names, and there are many of them.
#[test]
fn connections_of_unix_sockets_are_kept_apart() {
    let name = |name: &[u8]| Address::Unix(UnixName::new(name));
    let unix = |turns: &[(u8, u8)], server: &[u8]| {
        let mut connection = whole(false, 0, true, turns);
        (connection.opening.client, connection.opening.server) = (name(b""), name(server));
        connection
    };
    let servers = [&b"/run/a socket=%1"[..], b"\0name", b""];
    let of = |n: usize| unix(&[(n as u8, 5)], servers[n % 3]);
    let connections = (0..300).map(of).collect();
    let story = Story {
        connections,
        // All are open before the first one ends.
        steps: (0..300).map(|n| (1_000, n)).collect(),
    };
    let records = replayed(recorded(&story), 1);
    assert_eq!(records, observed(&story));
    let records = objects(&records);
    assert!(records.len() >= 300);
    assert!(records.iter().all(|record| record["status"] != ""));
    assert!(records.iter().all(|record| record["client"] == "unix:"));
    let of = |server| {
        let of = records.iter().filter(|record| record["server"] == server);
        of.count()
    };
    let counts = ["unix:/run/a socket=%1", "unix:@name", "unix:"].map(of);
    assert!(counts.iter().all(|count| *count >= 100), "{counts:?}");
    assert_eq!(counts.iter().sum::<usize>(), records.len());
}

/// A connection of a socket with itself.
#[test]
fn peers_with_the_same_address_are_kept_apart() {
    let mut connection = whole(false, 0, true, &[(1, 5)]);
    connection.opening.client = connection.opening.server;
    let story = Story {
        connections: vec![connection],
        steps: Vec::new(),
    };
    assert_eq!(replayed(recorded(&story), 1), observed(&story));
}

#[test]
fn the_recording_of_a_killed_program_can_be_read() {
    /// Remembers what each write left in the file.
    struct Killed(Vec<u8>, Vec<usize>);
    impl io::Write for Killed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            self.1.push(self.0.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = StreamWriter::new(Killed(Vec::new(), Vec::new()));
    let opening = whole(false, 0, true, &[]).opening;
    for n in 0..50 {
        let time = Nanos(BEGIN.0 + n * 300_000_000);
        let id = writer.open(&opening, time);
        writer.chunk(id, ToServer, 0, b"GET /a HTTP/1.1\r\n\r\n", time);
        writer.chunk(id, ToClient, 0, &[b'x'; 3_000], time);
        writer.close(id, Close::Finished, time);
    }
    let Killed(file, ends) = writer.finish().expect("memory takes all");
    assert!(ends.len() > 10, "about every second");
    for end in ends {
        let (_, found) = replay(file[..end].to_vec(), 1);
        assert!(found.error.is_none(), "cut at {end}: {:?}", found.error);
    }
    let (_, found) = replay(file[..file.len() - 5].to_vec(), 1);
    assert!(matches!(found.error, Some(Error::Truncated { .. })));
}

#[test]
fn a_full_disk_is_reported_once() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = StreamWriter::new(Full);
    let opening = whole(true, 0, true, &[]).opening;
    let id = writer.open(&opening, BEGIN);
    writer.chunk(id, ToServer, 0, &[0; 1 << 20], BEGIN);
    let error = writer.flush().expect_err("the disk is full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    writer.chunk(id, ToServer, 1 << 20, &[0; 1 << 20], BEGIN);
    assert!(writer.flush().is_ok(), "it was said");
    assert!(writer.finish().is_ok());
}
