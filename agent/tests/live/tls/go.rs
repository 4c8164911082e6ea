//! Go's own TLS: three versions, one of the programs stripped, one position-independent.

use super::{Asked, TRACEPARENT, assert_all_seen, assert_handshake, flagged, ports};
use crate::lab::{Lab, TRACE, kind, run};
use crate::watch::{Watcher, capture};

const NAMES: [&str; 3] = ["go-1.21", "go-1.24", "go-1.27"];
const PROCESSES: [&str; 3] = ["go1.21", "go1.24", "go1.27"];

const COUNT: usize = 20;

fn wanted() -> Vec<(crate::lab::Kind, usize)> {
    let get = |target: &str, status, count| (kind("http", "GET", target, status), count);
    vec![
        get("/one/in-turn", "200", COUNT),
        get("/one/at-once", "200", COUNT),
        get("/two/in-turn", "200", COUNT),
        get("/two/at-once", "200", COUNT),
        get("/fail", "500", 2),
    ]
}

#[test]
fn go_servers_and_clients() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&NAMES.map(|name| format!("tls/{name}"))) else {
        return;
    };
    let mut servers = Vec::new();
    for (name, process) in NAMES.into_iter().zip(PROCESSES) {
        let Some(port) = lab.tls(name) else { continue };
        let program = lab.told(&format!("{name}-program"));
        let address = format!("127.0.0.1:{port}");
        servers.push((port, process, program, address));
    }
    let of: Vec<&str> = servers.iter().map(|(port, ..)| *port).collect();
    if of.is_empty() {
        return;
    }
    let watcher = Watcher::with_tls(&ports(&of));
    let mut asked = Vec::new();
    for (port, process, program, address) in servers {
        let said = run(program, &["get", &address, TRACEPARENT, &COUNT.to_string()]);
        assert_eq!(said.trim(), (COUNT * 4).to_string(), "{process}");
        asked.push(Asked::new(port, process, process, &wanted()));
    }
    let records = watcher.end().records;
    assert_eq!(assert_all_seen(&records, &asked), records.len());
    for record in &records {
        assert!(!flagged(record, "midstream"), "{record}");
        assert_eq!(record["trace_id"], TRACE, "{record}");
        assert_handshake(record, "1.3", Some("go.example"));
    }
}
