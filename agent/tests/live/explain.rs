//! `wirespan explain`: what it says of connections that can, and cannot, be read.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::watch::{WIRESPAN, capture};

/// Answers each chunk of bytes with `answer`.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut bytes = [0; 8_192];
                while matches!(stream.read(&mut bytes), Ok(1..)) {
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Asks again and again, each time over a connection of its own, until told to stop.
fn client(server: SocketAddr, ask: &'static [u8], stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            let mut stream = TcpStream::connect(server).expect("a connection");
            stream.write_all(ask).expect("asked");
            let mut bytes = [0; 8_192];
            let _ = stream.read(&mut bytes).expect("answered");
            thread::sleep(Duration::from_millis(50));
        }
    })
}

fn explain(subject: &str) -> Value {
    let output = Command::new(WIRESPAN)
        .args(["explain", subject, "--json", "--duration", "2s"])
        .output()
        .expect("wirespan runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What it said of the connections to a server.
fn of(found: &Value, server: SocketAddr) -> Vec<&Value> {
    let connections = found["connections"].as_array().expect("connections");
    let connections = connections.iter();
    connections
        .filter(|connection| connection["server"] == server.to_string())
        .collect()
}

#[test]
fn what_can_be_read_and_what_cannot_is_explained() {
    let Some(_alone) = capture() else { return };
    let http = server(b"HTTP/1.1 204 No Content\r\n\r\n");
    let other = server(b"\x07nobody knows this\x00");
    let tls = server(b"\x16\x03\x03\x00\x04\x02\x00\x00\x00");
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [
        client(http, b"GET / HTTP/1.1\r\n\r\n", &stop),
        client(other, b"\x07nor this\x00", &stop),
        client(tls, b"\x16\x03\x01\x00\x04\x01\x00\x00\x00", &stop),
    ];
    let by_process = explain(&std::process::id().to_string());
    let by_address = explain(&http.to_string());
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client without complaints");
    }
    assert_eq!(by_process["processes"][0]["pid"], std::process::id());
    for found in [&by_process, &by_address] {
        let read = of(found, http);
        assert!(!read.is_empty(), "{found}");
        for connection in read {
            assert_eq!(connection["visible"], true, "{connection}");
            assert_eq!(connection["protocol"], "http", "{connection}");
        }
    }
    let reasons = |server, reason: &str| {
        let connections = of(&by_process, server);
        assert!(!connections.is_empty(), "{by_process}");
        for connection in connections {
            assert_eq!(connection["visible"], false, "{connection}");
            let said = connection["reasons"].to_string();
            assert!(said.contains(reason), "{said}");
        }
    };
    reasons(other, "no parser knows its first bytes");
    reasons(tls, "its process maps no TLS library that is known");
    assert!(of(&by_address, other).is_empty(), "only what was asked for");
}

#[test]
fn what_is_not_there_cannot_be_explained() {
    for subject in ["4194305", "127.0.0.1:1", "nginx"] {
        let output = Command::new(WIRESPAN).args(["explain", subject]).output();
        let output = output.expect("wirespan runs");
        assert_eq!(output.status.code(), Some(2), "{subject}");
        assert!(output.stdout.is_empty(), "{subject}");
    }
}
