//! Servers that tests start, the clients that they run, and what is counted of the records.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::watch::{WIRESPAN, ended};

pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Servers that run until this is dropped.
pub(crate) struct Lab {
    child: Child,
    /// Words about the servers, such as their ports.
    told: BTreeMap<String, String>,
}

impl Lab {
    /// Starts servers by the names that `lab.py` has for them; `None`, said aloud, where they cannot
    /// be had.
    pub(crate) fn start<S: AsRef<OsStr> + Debug>(servers: &[S]) -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/lab.py");
        let child = Command::new("python3")
            .arg("-B")
            .arg(script)
            .args(servers)
            .env("WIRESPAN_LAB_CACHE", cache())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.expect("python3");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut told = BTreeMap::new();
        for line in output.lines().map_while(Result::ok) {
            if line == "ready" {
                return Some(Self { child, told });
            }
            let (key, value) = line.split_once(' ').expect("a key and a value");
            told.insert(key.to_owned(), value.to_owned());
        }
        let why = told
            .get("missing")
            .unwrap_or_else(|| panic!("{servers:?} did not start"));
        ended(&mut child);
        assert!(
            std::env::var_os("WIRESPAN_LIVE").is_none(),
            "missing: {why}"
        );
        let _ = writeln!(std::io::stderr(), "SKIPPED live {servers:?}: missing {why}");
        None
    }

    /// The port of a server that speaks TLS; `None`, said aloud, where it cannot be had.
    pub(crate) fn tls(&self, name: &str) -> Option<&str> {
        let port = self.told.get(&format!("tls/{name}")).map(String::as_str);
        if port.is_none() {
            let why = self.told(&format!("absent-{name}"));
            assert!(
                std::env::var_os("WIRESPAN_LIVE").is_none(),
                "missing for {name}: {why}"
            );
            let _ = writeln!(std::io::stderr(), "SKIPPED live {name}: missing {why}");
        }
        port
    }

    pub(crate) fn told(&self, key: &str) -> &str {
        &self.told[key]
    }
}

/// Where the laboratory keeps what takes long to get: the folder that Cargo builds into.
fn cache() -> &'static Path {
    let profile = Path::new(WIRESPAN).parent().expect("a folder");
    profile.parent().expect("a folder")
}

impl Drop for Lab {
    fn drop(&mut self) {
        // The end of its input is its sign to stop the servers.
        drop(self.child.stdin.take());
        ended(&mut self.child);
    }
}

/// Runs a client to its end and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {complaint}"
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A client that is told what to ask, line by line, on one connection.
pub(crate) struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let command = &mut Command::new(program);
        let command = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            input,
            output,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks, and gives the answer's only line.
    pub(crate) fn ask(&mut self, question: &str) -> String {
        writeln!(self.input, "{question}").expect("a reader");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("an answer");
        answer.trim_end().to_owned()
    }

    pub(crate) fn end(self) {
        let Self {
            mut child, input, ..
        } = self;
        drop(input);
        assert!(ended(&mut child).success());
    }
}

/// What is counted of a record: protocol, operation, target without its query, status.
pub(crate) type Kind = (String, String, String, String);

pub(crate) fn kind(protocol: &str, operation: &str, target: &str, status: &str) -> Kind {
    let target = target.split('?').next().unwrap_or_default();
    (
        protocol.into(),
        operation.into(),
        target.into(),
        status.into(),
    )
}

/// Who is expected at the two ends.
pub(crate) struct Ends {
    pub(crate) client: &'static str,
    pub(crate) server: &'static str,
}

/// Each of `wanted` so often at each end, in the right process, and of these kinds no other.
/// Targets are compared where `wanted` has one. Gives those that were wanted.
pub(crate) fn assert_counts<'a>(
    records: &'a [Value],
    ends: &Ends,
    wanted: &[(Kind, usize)],
) -> Vec<&'a Value> {
    let mut counted = Vec::new();
    for (side, name) in [("client", ends.client), ("server", ends.server)] {
        for ((protocol, operation, target, status), count) in wanted {
            let matching = records.iter().filter(|record| {
                let found = |key: &str| record[key].as_str().unwrap_or_default();
                let found_target = found("target").split('?').next().unwrap_or_default();
                found("side") == side
                    && (found("protocol"), found("operation")) == (protocol, operation)
                    && found("status") == status
                    && (target.is_empty() || found_target == target)
            });
            let matching: Vec<&Value> = matching.collect();
            let what = format!("{side}: {protocol} {operation} {target} {status}");
            assert_eq!(matching.len(), *count, "{what}");
            for record in &matching {
                assert_eq!(record["process"]["name"], name, "{record}");
                assert!(
                    record["process"]["pid"].as_u64().is_some_and(|pid| pid > 0),
                    "{record}"
                );
                assert!(record["duration_ns"].as_u64().is_some(), "{record}");
            }
            counted.extend(matching);
        }
    }
    counted
}

/// How many of `protocol` have an operation that is none of `wanted` and none of `allowed`.
pub(crate) fn strangers(records: &[Value], protocol: &str, allowed: &[&str]) -> Vec<String> {
    let records = records
        .iter()
        .filter(|record| record["protocol"] == protocol);
    let operations = records.map(|record| record["operation"].as_str().unwrap_or_default());
    let strange = operations.filter(|operation| !allowed.contains(operation));
    strange.map(str::to_owned).collect()
}
