//! Running tshark, and the fields that it prints.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::{Command, Stdio};

/// Separates fields, and values of one field: bytes that tshark escapes within values.
const SEPARATOR: char = '\u{1f}';
const AGGREGATOR: char = '\u{1e}';

/// What is asked of each frame, behind the ports.
const FIELDS: [&str; 15] = [
    "mysql.command",
    "mysql.query",
    "mysql.schema",
    "mysql.user",
    "mysql.error_code",
    "pgsql.type",
    "pgsql.query",
    "pgsql.statement",
    "pgsql.portal",
    "pgsql.code",
    "resp.array.length",
    "resp.bulk_string.value",
    "resp.error",
    "http2.headers.method",
    "http2.headers.path",
];

/// What tshark says of one frame.
pub(crate) struct Frame {
    /// Source and destination.
    pub(crate) ports: (u16, u16),
    /// Whether it is one of the client's.
    pub(crate) is_request: bool,
    values: Vec<VecDeque<String>>,
}

impl Frame {
    /// The values of a field, in order.
    pub(crate) fn values(&self, field: &str) -> VecDeque<String> {
        let index = FIELDS.iter().position(|known| *known == field);
        self.values[index.expect("a field that is asked for")].clone()
    }
}

/// Versions whose answers the document describes.
pub(crate) const VERSION: &str = "4.0.";

/// Whether such a tshark is installed.
pub(crate) fn is_there() -> bool {
    let mut command = Command::new("tshark");
    let output = command.arg("--version").stderr(Stdio::null()).output();
    let text = output.map_or(Vec::new(), |output| output.stdout);
    String::from_utf8_lossy(&text).contains(&format!("(Wireshark) {VERSION}"))
}

/// The frames of `capture` in which tshark finds `dissector`'s protocol, which it is told to look
/// for at `ports`.
pub(crate) fn frames(capture: &Path, dissector: &str, ports: &BTreeSet<u16>) -> Vec<Frame> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(capture);
    command.args(["-Y", dissector, "-T", "fields"]);
    command.arg("-E").arg(format!("separator={SEPARATOR}"));
    command.arg("-E").arg(format!("aggregator={AGGREGATOR}"));
    for port in ports {
        command
            .arg("-d")
            .arg(format!("tcp.port=={port},{dissector}"));
    }
    for field in ["tcp.srcport", "tcp.dstport"].iter().chain(&FIELDS) {
        command.arg("-e").arg(field);
    }
    let output = command.output().expect("tshark runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    // A damaged capture is read up to its damage, and the status tells no more of it.
    assert!(!complaint.contains("aren't valid"), "{complaint}");
    let lines = String::from_utf8_lossy(&output.stdout);
    lines
        .lines()
        .filter_map(|line| frame(line, ports))
        .collect()
}

fn frame(line: &str, servers: &BTreeSet<u16>) -> Option<Frame> {
    let mut fields = line.split(SEPARATOR);
    // Inside a tunnel there are several.
    let mut port = || fields.next()?.rsplit(AGGREGATOR).next()?.parse().ok();
    let ports = (port()?, port()?);
    let values = fields.map(|field| match field {
        "" => VecDeque::new(),
        field => field.split(AGGREGATOR).map(String::from).collect(),
    });
    Some(Frame {
        ports,
        is_request: servers.contains(&ports.1),
        values: values.collect(),
    })
}
