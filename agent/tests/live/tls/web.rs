//! HTTPS of C, Python and Node, and gRPC.

use serde_json::Value;

use super::{Asked, TRACEPARENT, assert_all_seen, assert_handshake, count_flagged, flagged, ports};
use crate::lab::{Lab, Session, TRACE, kind, run};
use crate::scenarios::essence;
use crate::watch::{Folder, WIRESPAN, Watcher, capture, ended, read};

const HTTPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/tls/https.py");
const NODE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/tls/https.js");
const AIOHTTP: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/live/tls/asynchronous.py"
);

/// What is asked first, and not counted, on a connection that was open before.
const FIRST: &str = "/first-again";

/// The name by which one client calls its server.
const SNI: &str = "shop.example";

/// Requests of each kind.
const COUNT: usize = 20;

fn get(target: &str, status: &str, count: usize) -> (crate::lab::Kind, usize) {
    (kind("http", "GET", target, status), count)
}

/// curl with both versions of HTTP, and wget, which has GnuTLS inside.
fn nginx<'a>(port: &'a str) -> Vec<Asked<'a>> {
    let url = format!("https://127.0.0.1:{port}");
    let header = format!("traceparent: {TRACEPARENT}");
    let curl = |version: &str, path: &str| {
        let url = format!("{url}{path}");
        let silent = ["-ksS", "-o", "/dev/null", "-H", &header];
        run("curl", &[&silent[..], &[version, &url]].concat());
    };
    curl("--http1.1", "/ok/curl-1?[1-20]");
    curl("--http1.1", "/fail?[1-5]");
    curl("--http2", "/ok/curl-2?[1-20]");
    curl("--http1.1", "/large.bin");
    // An address is no name: those above have none in the handshake.
    for version in ["1.2", "1.3"] {
        let resolve = format!("{SNI}:{port}:127.0.0.1");
        let (tls, url) = (
            format!("--tlsv{version}"),
            format!("https://{SNI}:{port}/ok/tls-{version}"),
        );
        let options = [
            "-ksS",
            "-o",
            "/dev/null",
            "-H",
            &header,
            "--resolve",
            &resolve,
        ];
        run(
            "curl",
            &[&options[..], &[&tls, "--tls-max", version, &url]].concat(),
        );
    }
    let urls: Vec<String> = (0..COUNT).map(|n| format!("{url}/ok/wget?{n}")).collect();
    let options = ["-q", "-O", "/dev/null", "--no-check-certificate"];
    let mut wget = [&options[..], &["--header", &header]].concat();
    wget.extend(urls.iter().map(String::as_str));
    run("wget", &wget);
    let of_curl = [
        get("/ok/curl-1", "200", COUNT),
        get("/fail", "500", 5),
        get("/ok/curl-2", "200", COUNT),
        get("/large.bin", "200", 1),
        get("/ok/tls-1.2", "200", 1),
        get("/ok/tls-1.3", "200", 1),
    ];
    let of_wget = [get("/ok/wget", "200", COUNT)];
    vec![
        Asked::new(port, "curl", "nginx", &of_curl),
        Asked::new(port, "wget", "nginx", &of_wget),
    ]
}

/// Python's blocking client, by turns with one that was connected before.
fn python<'a>(port: &'a str, before: Session) -> Vec<Asked<'a>> {
    let paths: Vec<String> = (0..COUNT).map(|n| format!("/blocking?{n}")).collect();
    let mut command = vec!["-B", HTTPS, "get", port, TRACEPARENT];
    command.extend(paths.iter().map(String::as_str));
    command.push("/fail");
    let said = run("python3", &command);
    assert_eq!(said.matches("200\n").count(), COUNT, "{said}");
    ask_again(before);
    let wanted = [
        get("/blocking", "200", COUNT),
        get("/fail", "500", 1),
        get("/open-before", "200", COUNT),
    ];
    vec![Asked::new(port, "python3", "python3", &wanted)]
}

/// asyncio with aiohttp at both ends.
fn aiohttp<'a>(python: &str, port: &'a str) -> Vec<Asked<'a>> {
    let count = COUNT.to_string();
    let said = run(python, &["-B", AIOHTTP, "get", port, TRACEPARENT, &count]);
    assert_eq!(said.trim(), (COUNT * 2).to_string());
    let wanted = [
        get("/in-turn", "200", COUNT),
        get("/at-once", "200", COUNT),
        get("/fail", "500", 1),
    ];
    vec![Asked::new(port, "python", "python", &wanted)]
}

/// Node at both ends, by turns with a client that was connected before.
fn node<'a>(port: &'a str, before: Session) -> Vec<Asked<'a>> {
    let count = COUNT.to_string();
    let said = run("node", &[NODE, "get", port, TRACEPARENT, &count]);
    assert_eq!(said.trim(), (COUNT * 3).to_string());
    ask_again(before);
    let wanted = [
        get("/in-turn", "200", COUNT),
        get("/at-once", "200", COUNT),
        get("/fail", "500", 1),
        get("/two", "200", COUNT),
        get("/open-before", "200", COUNT),
    ];
    vec![Asked::new(port, "node", "node", &wanted)]
}

/// Asks on a connection that was open before: once, for whoever waited for that in a call that began
/// before the capture is not seen, and then for what is counted.
fn ask_again(mut before: Session) {
    assert_eq!(before.ask(FIRST), "200");
    for _ in 0..COUNT {
        assert_eq!(before.ask("/open-before"), "200");
    }
    before.end();
}

/// A client that has asked once before the capture begins, and goes on in it.
fn connected(program: &str, script: &[&str], port: &str) -> Session {
    let mut session = Session::start(program, &[script, &["talk", port]].concat());
    assert_eq!(session.ask("/before"), "200");
    session
}

#[test]
fn https_of_nginx_python_and_node() {
    let Some(_alone) = capture() else { return };
    let names = ["nginx", "python", "aiohttp", "node"];
    let Some(lab) = Lab::start(&names.map(|name| format!("tls/{name}"))) else {
        return;
    };
    let of = names.map(|name| lab.tls(name));
    let of_python = of[1].map(|port| connected("python3", &["-B", HTTPS], port));
    let of_node = of[3].map(|port| connected("node", &[NODE], port));
    let known: Vec<&str> = of.into_iter().flatten().collect();
    let watcher = Watcher::with_tls(&ports(&known));
    let mut asked = Vec::new();
    asked.extend(of[0].map(nginx));
    asked.extend(of[1].zip(of_python).map(|(port, held)| python(port, held)));
    asked.extend(of[2].map(|port| aiohttp(lab.told("aiohttp-python"), port)));
    asked.extend(of[3].zip(of_node).map(|(port, held)| node(port, held)));
    let asked: Vec<Asked<'_>> = asked.into_iter().flatten().collect();
    let records = counted(watcher.end().records);
    let seen = assert_all_seen(&records, &asked);
    assert_eq!(seen, records.len(), "{:#?}", strange(&records, &asked));
    for record in &records {
        let target = record["target"].as_str().unwrap_or_default();
        if target == "/open-before" {
            assert!(flagged(record, "midstream"), "{record}");
            let told = record["attributes"].as_object().expect("attributes");
            assert!(!told.keys().any(|key| key.contains("tls")), "{record}");
        } else {
            assert!(!flagged(record, "midstream"), "{record}");
            assert_eq!(record["trace_id"], TRACE, "{record}");
            let version = if target == "/ok/tls-1.2" {
                "1.2"
            } else {
                "1.3"
            };
            let name = target.starts_with("/ok/tls-").then_some(SNI);
            assert_handshake(record, version, name);
        }
        if target == "/large.bin" {
            let bytes = record["response_bytes"].as_u64();
            assert!(bytes > Some(20_000_000), "{record}");
        }
    }
}

/// Without what two captures may see differently: one of them joins a connection before the other.
fn counted(mut records: Vec<Value>) -> Vec<Value> {
    records.retain(|record| record["target"] != FIRST);
    records
}

/// Records that nobody asked for.
fn strange<'a>(records: &'a [Value], asked: &[Asked<'_>]) -> Vec<&'a Value> {
    let known = |record: &&Value| {
        let target = record["target"].as_str().unwrap_or_default();
        let target = target.split('?').next().unwrap_or_default();
        let mut wanted = asked.iter().flat_map(|asked| &asked.wanted);
        wanted.any(|(kind, _)| kind.2 == target)
    };
    records.iter().filter(|record| !known(record)).collect()
}

/// grpcio at both ends, which carries a BoringSSL of its own, and with Node.
#[test]
fn grpc_over_tls() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["tls/node", "tls/grpc"]) else {
        return;
    };
    let (Some(node), Some(grpc)) = (lab.tls("node"), lab.tls("grpc")) else {
        return;
    };
    let (python, client) = (lab.told("grpc-python"), lab.told("grpc-client"));
    let cert = lab.told("grpc-cert");
    let watcher = Watcher::with_tls(&ports(&[node, grpc]));
    let ask = |port, server| {
        let said = run(python, &["-B", client, port, "unary", cert]);
        let count = said.lines().count();
        let good = said.matches("\"status\": \"0\"").count();
        assert!(count > 20 && good == count, "{said}");
        let wanted = [(kind("grpc", "shop.v1.Orders/Echo", "", "0"), count)];
        Asked::new(port, "python", server, &wanted)
    };
    let asked = [ask(node, "node"), ask(grpc, "python")];
    let records = watcher.end().records;
    assert_eq!(assert_all_seen(&records, &asked), records.len());
}

#[test]
fn https_at_full_speed() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["tls/nginx"]) else {
        return;
    };
    let Some(port) = lab.tls("nginx") else { return };
    let watcher = Watcher::with_tls(&["--port", port]);
    let url = format!("https://127.0.0.1:{port}/ok/x");
    let said = run("ab", &["-q", "-k", "-n", "30000", "-c", "16", &url]);
    assert!(said.contains("Complete requests:      30000"), "{said}");
    assert!(said.contains("Failed requests:        0"), "{said}");
    let watched = watcher.end();
    let refused = |line: &&String| line.contains("could not be probed");
    assert_eq!(watched.said.iter().find(refused), None);
    let records = watched.records;
    let asked = Asked::new(port, "ab", "nginx", &[get("/ok/x", "200", 30_000)]);
    asked.assert_seen(&records);
    assert_eq!(records.len(), 60_000);
}

#[test]
fn a_recording_of_tls_replays_as_what_was_seen() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["tls/nginx", "tls/python"]) else {
        return;
    };
    let (Some(nginx_port), Some(python_port)) = (lab.tls("nginx"), lab.tls("python")) else {
        return;
    };
    let before = connected("python3", &["-B", HTTPS], python_port);
    let folder = Folder::new("record-tls");
    let recording = folder.file("x.pcapng");
    let path = recording.to_str().expect("UTF-8");
    let filters = ports(&[nginx_port, python_port]);
    let recorder =
        Watcher::start(&[&["record", "-o", path, "--buffer", "256"], &filters[..]].concat());
    let tail = Watcher::with_tls(&filters);
    let mut asked = nginx(nginx_port);
    asked.extend(python(python_port, before));
    let tailed = tail.end().records;
    recorder.end();
    assert_all_seen(&tailed, &asked);
    let replayed = folder.file("replayed.jsonl");
    let replay = std::process::Command::new(WIRESPAN)
        .args(["replay", "-o", "jsonl", path])
        .stdout(std::fs::File::create(&replayed).expect("a file"))
        .stderr(std::process::Stdio::null())
        .spawn();
    assert!(ended(&mut replay.expect("wirespan")).success());
    let replayed = counted(read(&replayed));
    assert_eq!(essence(&replayed), essence(&counted(tailed)));
    let midstream = count_flagged(&replayed, "/open-before", "midstream");
    assert_eq!(midstream, COUNT * 2);
}
