//! Real servers and real clients, each with the client's own count.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use crate::lab::{Ends, Kind, Lab, Session, TRACE, assert_counts, kind, run, strangers};
use crate::watch::{Watcher, capture};

#[test]
fn nginx_and_curl() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let watcher = Watcher::tail(&["--port", port]);
    let url = format!("http://127.0.0.1:{port}");
    let silent = ["-sS", "-o", "/dev/null"];
    let header = format!("traceparent: 00-{TRACE}-00f067aa0ba902b7-01");
    let get = |path: &str, more: &[&str]| {
        let url = format!("{url}{path}");
        run("curl", &[&silent, more, &[url.as_str()]].concat());
    };
    get("/api/x?[1-50]", &[]);
    get("/fail?[1-7]", &["-H", &header]);
    get("/large.bin", &[]);
    let records = watcher.end().records;
    let ends = Ends {
        client: "curl",
        server: "nginx",
    };
    let wanted = [
        (kind("http", "GET", "/api/x", "200"), 50),
        (kind("http", "GET", "/fail", "500"), 7),
        (kind("http", "GET", "/large.bin", "200"), 1),
    ];
    assert_counts(&records, &ends, &wanted);
    assert_eq!(records.len(), 58 * 2);
    let traced = records.iter().filter(|record| record["trace_id"] == TRACE);
    assert_eq!(traced.count(), 7 * 2);
    let large = records
        .iter()
        .filter(|record| record["target"] == "/large.bin");
    for record in large {
        assert!(
            record["response_bytes"].as_u64() > Some(50_000_000),
            "{record}"
        );
    }
}

#[test]
fn nginx_at_full_speed() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let watcher = Watcher::tail(&["--port", port]);
    let url = format!("http://127.0.0.1:{port}/api/x");
    let said = run("ab", &["-q", "-k", "-n", "40000", "-c", "16", &url]);
    assert!(said.contains("Complete requests:      40000"), "{said}");
    assert!(said.contains("Failed requests:        0"), "{said}");
    let records = watcher.end().records;
    let ends = Ends {
        client: "ab",
        server: "nginx",
    };
    assert_counts(
        &records,
        &ends,
        &[(kind("http", "GET", "/api/x", "200"), 40_000)],
    );
}

#[test]
fn redis_and_its_clients() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["redis"]) else {
        return;
    };
    let port = lab.told("redis");
    let mut before = Session::start("redis-cli", &["-p", port]);
    assert_eq!(before.ask("PING"), "PONG");
    let watcher = Watcher::tail(&["--port", port]);
    for number in 0..20 {
        assert_eq!(before.ask(&format!("SET key {number}")), "OK");
    }
    before.end();
    let watched = watcher.end();
    let ends = Ends {
        client: "redis-cli",
        server: "redis-server",
    };
    assert_counts(
        &watched.records,
        &ends,
        &[(kind("redis", "SET", "key", "OK"), 20)],
    );
    assert_eq!(watched.records.len(), 40);
    let midstream = |record: &&Value| record["flags"].to_string().contains("midstream");
    assert_eq!(watched.records.iter().filter(midstream).count(), 40);

    let watcher = Watcher::tail(&["--port", port]);
    run(
        "redis-benchmark",
        &[
            "-p", port, "-q", "-c", "10", "-P", "16", "-n", "100000", "-t", "set,get",
        ],
    );
    let records = watcher.end().records;
    let ends = Ends {
        client: "redis-benchmark",
        server: "redis-server",
    };
    let wanted = ["SET", "GET"].map(|command| (kind("redis", command, "", "OK"), 100_000));
    assert_counts(&records, &ends, &wanted);
    assert_eq!(
        strangers(&records, "redis", &["SET", "GET", "CONFIG"]),
        [""; 0]
    );
}

#[test]
fn postgres_and_its_clients() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["postgres"]) else {
        return;
    };
    let (port, programs) = (lab.told("postgres"), lab.told("postgres-programs"));
    let psql = format!("{programs}/psql");
    let place = ["-h", "127.0.0.1", "-p", port, "-U", "admin"];
    let mut before = Session::start(
        &psql,
        &[&place[..], &["-X", "-A", "-t", "-q", "shop"]].concat(),
    );
    assert_eq!(before.ask("SELECT 1;"), "1");
    let watcher = Watcher::tail(&["--port", port]);
    for number in 0..20 {
        assert_eq!(before.ask(&format!("SELECT {number};")), number.to_string());
    }
    before.end();
    let records = watcher.end().records;
    let ends = Ends {
        client: "psql",
        server: "postgres",
    };
    assert_counts(
        &records,
        &ends,
        &[(kind("postgresql", "SELECT", "SELECT ?", "OK"), 20)],
    );
    assert_eq!(strangers(&records, "postgresql", &["SELECT"]), [""; 0]);

    let pgbench = format!("{programs}/pgbench");
    run(&pgbench, &[&place[..], &["-i", "-q", "shop"]].concat());
    let watcher = Watcher::tail(&["--port", port]);
    let said = run(
        &pgbench,
        &[&place[..], &["-n", "-S", "-c", "4", "-t", "2000", "shop"]].concat(),
    );
    assert!(said.contains("8000/8000"), "{said}");
    let records = watcher.end().records;
    let ends = Ends {
        client: "pgbench",
        server: "postgres",
    };
    let target = "SELECT abalance FROM pgbench_accounts WHERE aid = ?";
    let select = |record: &&Value| {
        let found = record["target"].as_str().unwrap_or_default();
        found.trim_end_matches(';') == target
    };
    let selects: Vec<Value> = records.iter().filter(select).cloned().collect();
    assert_counts(
        &selects,
        &ends,
        &[(kind("postgresql", "SELECT", "", "OK"), 8_000)],
    );
}

#[test]
fn mariadb_and_its_client() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["mariadb"]) else {
        return;
    };
    let port = lab.told("mariadb");
    let place = [
        "--no-defaults",
        "-h",
        "127.0.0.1",
        "-P",
        port,
        "-u",
        "joe",
        "-pCANARY-joe",
    ];
    let mut before = Session::start(
        "mariadb",
        &[&place[..], &["-N", "-B", "-n", "shop"]].concat(),
    );
    assert_eq!(before.ask("SELECT 1;"), "1");
    let watcher = Watcher::tail(&["--port", port]);
    for number in 0..20 {
        assert_eq!(before.ask(&format!("SELECT {number};")), number.to_string());
    }
    run(
        "mariadb",
        &[&place[..], &["-N", "-e", "SELECT 'one'", "shop"]].concat(),
    );
    let failing = [
        "--force",
        "-N",
        "-e",
        "SELECT nonsense FROM nowhere",
        "shop",
    ];
    let failed = Command::new("mariadb")
        .args([&place[..], &failing].concat())
        .output();
    assert!(!failed.expect("mariadb").status.success());
    before.end();
    let records = watcher.end().records;
    let ends = Ends {
        client: "mariadb",
        server: "mariadbd",
    };
    let wanted = [
        (kind("mysql", "SELECT", "SELECT ?", "OK"), 21),
        (
            kind("mysql", "SELECT", "SELECT nonsense FROM nowhere", "1146"),
            1,
        ),
    ];
    assert_counts(&records, &ends, &wanted);
}

#[test]
fn grpc_in_python() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["grpc"]) else {
        return;
    };
    let (port, python) = (lab.told("grpc"), lab.told("grpc-python"));
    let watcher = Watcher::tail(&["--port", port]);
    let client = lab.told("grpc-client");
    let said = ["unary", "errors", "streaming", "traceparent"]
        .map(|name| run(python, &["-B", client, port, name]))
        .concat();
    let records = watcher.end().records;
    let mut wanted: BTreeMap<Kind, usize> = BTreeMap::new();
    for line in said.lines() {
        let truth: Value = serde_json::from_str(line).expect("a truth");
        let text = |key: &str| truth[key].as_str().unwrap_or_default().to_owned();
        *wanted
            .entry(kind("grpc", &text("operation"), "", &text("status")))
            .or_default() += 1;
    }
    let total: usize = wanted.values().sum();
    assert!(total > 50, "{said}");
    let name = lab.told("grpc-name").to_owned();
    let ends = Ends {
        client: name.clone().leak(),
        server: name.leak(),
    };
    assert_counts(&records, &ends, &wanted.into_iter().collect::<Vec<_>>());
    assert_eq!(records.len(), total * 2);
}

#[test]
fn http_in_python() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["python"]) else {
        return;
    };
    let port = lab.told("python");
    let watcher = Watcher::tail(&["--port", port]);
    let url = format!("http://127.0.0.1:{port}");
    run(
        "curl",
        &["-sS", "-o", "/dev/null", &format!("{url}/?[1-20]")],
    );
    run(
        "curl",
        &["-sS", "-o", "/dev/null", &format!("{url}/nowhere?[1-5]")],
    );
    let records = watcher.end().records;
    let ends = Ends {
        client: "curl",
        server: "python3",
    };
    let wanted = [
        (kind("http", "GET", "/", "200"), 20),
        (kind("http", "GET", "/nowhere", "404"), 5),
    ];
    assert_counts(&records, &ends, &wanted);
    assert_eq!(records.len(), 25 * 2);
}

/// Whoever reads late has the end of the stream in its socket before the last bytes are read.
#[test]
fn clients_that_wait_for_a_processor_lose_nothing() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let watcher = Watcher::tail(&["--port", port]);
    let count = "i=0; while [ $i -lt 100000000 ]; do i=$((i+1)); done";
    let busy = || Command::new("sh").args(["-c", count]).spawn();
    let mut others = [busy(), busy(), busy()].map(|child| child.expect("a shell"));
    let url = format!("http://127.0.0.1:{port}/api/x");
    run("ab", &["-q", "-n", "2000", "-c", "8", &url]);
    for other in &mut others {
        other.kill().expect("a process");
        other.wait().expect("its end");
    }
    let records = watcher.end().records;
    let ends = Ends {
        client: "ab",
        server: "nginx",
    };
    let wanted = [(kind("http", "GET", "/api/x", "200"), 2_000)];
    assert_counts(&records, &ends, &wanted);
}
