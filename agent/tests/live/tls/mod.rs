//! TLS cleartext: what programs say inside of TLS is held against what they know themselves.

mod changes;
mod databases;
mod go;
mod openssl;
mod web;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::lab::{Ends, Kind, assert_counts};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a client has asked of a server.
struct Asked<'a> {
    /// Of the server.
    port: &'a str,
    ends: Ends,
    wanted: Vec<(Kind, usize)>,
}

impl<'a> Asked<'a> {
    fn new(
        port: &'a str,
        client: &'static str,
        server: &'static str,
        wanted: &[(Kind, usize)],
    ) -> Self {
        Self {
            port,
            ends: Ends { client, server },
            wanted: wanted.to_vec(),
        }
    }

    /// Each is recorded once at each end, as cleartext of TLS, with the same addresses at both.
    fn assert_seen(&self, records: &[Value]) -> usize {
        let ours = at(records, self.port);
        let seen = assert_counts(&ours, &self.ends, &self.wanted);
        for record in &seen {
            assert!(flagged(record, "tls"), "{record}");
        }
        let clients = |side: &str| {
            let mut clients: BTreeMap<&str, usize> = BTreeMap::new();
            for record in seen.iter().filter(|record| record["side"] == side) {
                let client = record["client"].as_str().expect("an address");
                *clients.entry(client).or_default() += 1;
            }
            clients
        };
        assert_eq!(clients("client"), clients("server"), "{}", self.port);
        seen.len()
    }
}

fn assert_all_seen(records: &[Value], asked: &[Asked<'_>]) -> usize {
    asked.iter().map(|asked| asked.assert_seen(records)).sum()
}

/// The records of the server with that port.
fn at(records: &[Value], port: &str) -> Vec<Value> {
    let server = format!("127.0.0.1:{port}");
    let ours = records.iter().filter(|record| record["server"] == server);
    ours.cloned().collect()
}

fn flagged(record: &Value, flag: &str) -> bool {
    let flags = record["flags"].as_array().expect("flags");
    flags.iter().any(|found| found == flag)
}

/// A record tells of its connection's handshake what the client asked for, and how long it took.
fn assert_handshake(record: &Value, version: &str, server_name: Option<&str>) {
    let told = &record["attributes"];
    assert_eq!(told["tls.protocol.version"], version, "{record}");
    assert_eq!(
        told["wirespan.tls.server_name"].as_str(),
        server_name,
        "{record}"
    );
    // Both ends are on this machine: more than a signature takes, less than a person would wait.
    let took = told["wirespan.tls.handshake_ns"].as_u64();
    let plausible = 100_000..10_000_000_000;
    assert!(took.is_some_and(|ns| plausible.contains(&ns)), "{record}");
}

/// How many of the records with such a target have a flag.
fn count_flagged(records: &[Value], target: &str, flag: &str) -> usize {
    let ours = records.iter().filter(|record| record["target"] == target);
    ours.filter(|record| flagged(record, flag)).count()
}

/// Options that make a capture observe these ports.
fn ports<'a>(ports: &[&'a str]) -> Vec<&'a str> {
    ports.iter().flat_map(|port| ["--port", port]).collect()
}
