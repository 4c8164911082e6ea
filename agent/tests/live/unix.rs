//! Unix sockets: both ends are shown by their names, whatever they are.

use std::process::Command;

use serde_json::Value;

use crate::lab::{Ends, Lab, Session, assert_counts, kind, run};
use crate::watch::{Folder, WIRESPAN, Watcher, capture, read};

/// A server at an abstract name, one connection after the other, and its client: the socket has no
/// name, or one that it was given.
const PAIR: &str = r#"
import os, socket, sys
name, count = sys.argv[1], int(sys.argv[2])
server = socket.socket(socket.AF_UNIX)
server.bind("\0" + name)
server.listen()
if os.fork() == 0:
    for number in range(count):
        with socket.socket(socket.AF_UNIX) as client:
            if number % 2:
                client.bind("\0" + f"{name}-client")
            client.connect("\0" + name)
            client.sendall(b"GET /abstract HTTP/1.1\r\nHost: x\r\n\r\n")
            while client.recv(100):
                pass
    os._exit(0)
for _ in range(count):
    connection, _ = server.accept()
    with connection:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
os.wait()
"#;

fn assert_ends(records: &[&Value], client: &str, server: &str) {
    for record in records {
        assert_eq!(record["client"], client, "{record}");
        assert_eq!(record["server"], server, "{record}");
    }
}

/// What a replay of a recording gives is what was printed.
fn assert_replayed(recording: &str, printed: &[Value]) {
    let folder = Folder::new("replayed");
    let mut replay = Command::new(WIRESPAN);
    let protocols = ["--proto", "redis,postgresql"];
    replay
        .args(["replay", "-q", "-o", "jsonl", recording])
        .args(protocols);
    let replay = replay.stdout(std::fs::File::create(folder.file("records")).expect("a file"));
    assert!(replay.status().expect("a replay").success());
    // Whose they are is known live only.
    let anonymous = |record: &Value| {
        let mut record = record.clone();
        if let Some(attributes) = record["attributes"].as_object_mut() {
            attributes.retain(|key, _| !key.starts_with("service."));
        }
        record.to_string()
    };
    let sorted = |records: &[Value]| {
        let mut lines: Vec<_> = records.iter().map(anonymous).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&read(&folder.file("records"))), sorted(printed));
}

#[test]
fn connections_of_unix_sockets_are_shown_by_the_path_of_the_server() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["redis", "postgres"]) else {
        return;
    };
    let (socket, folder) = (lab.told("redis-socket"), lab.told("postgres-folder"));
    let psql = format!("{}/psql", lab.told("postgres-programs"));
    let place = ["-h", folder, "-p", lab.told("postgres"), "-U", "admin"];
    let options = [&place[..], &["-X", "-A", "-t", "-q", "shop"]].concat();
    let mut before = Session::start("redis-cli", &["-s", socket]);
    assert_eq!(before.ask("PING"), "PONG");
    let recording = Folder::new("unix");
    let recording = recording.file("x.pcapng");
    let recording = recording.to_str().expect("a path");
    let watcher = Watcher::tail(&["--proto", "redis,postgresql", "--record", recording]);
    for number in 0..20 {
        assert_eq!(before.ask(&format!("SET key {number}")), "OK");
        run("redis-cli", &["-s", socket, "GET", "key"]);
    }
    before.end();
    let mut session = Session::start(&psql, &options);
    for number in 0..20 {
        let answer = session.ask(&format!("SELECT {number};"));
        assert_eq!(answer, number.to_string());
    }
    session.end();
    let records = watcher.end().records;
    let ends = Ends {
        client: "redis-cli",
        server: "redis-server",
    };
    let wanted = [
        (kind("redis", "SET", "key", "OK"), 20),
        (kind("redis", "GET", "key", "OK"), 20),
    ];
    let redis = assert_counts(&records, &ends, &wanted);
    assert_ends(&redis, "unix:", &format!("unix:{socket}"));
    let ends = Ends {
        client: "psql",
        server: "postgres",
    };
    let wanted = [(kind("postgresql", "SELECT", "SELECT ?", "OK"), 20)];
    let postgres = assert_counts(&records, &ends, &wanted);
    let path = format!("unix:{folder}/.s.PGSQL.{}", lab.told("postgres"));
    assert_ends(&postgres, "unix:", &path);
    assert_replayed(recording, &records);
}

#[test]
fn abstract_names_and_names_of_clients_are_shown() {
    let Some(_alone) = capture() else { return };
    let name = format!("wirespan-live-{}", std::process::id());
    let watcher = Watcher::tail(&["--process", "python3"]);
    run("python3", &["-c", PAIR, &name, "40"]);
    let records = watcher.end().records;
    let ends = Ends {
        client: "python3",
        server: "python3",
    };
    let wanted = [(kind("http", "GET", "/abstract", "200"), 40)];
    let all = assert_counts(&records, &ends, &wanted);
    let (named, unnamed) = all
        .into_iter()
        .partition::<Vec<_>, _>(|record| record["client"] != "unix:");
    assert_eq!((named.len(), unnamed.len()), (40, 40));
    assert_ends(
        &named,
        &format!("unix:@{name}-client"),
        &format!("unix:@{name}"),
    );
    assert_ends(&unnamed, "unix:", &format!("unix:@{name}"));
}
