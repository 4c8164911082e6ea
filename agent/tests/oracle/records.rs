//! What we report, statements as they were sent.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use wirespan::api::{Policy, Redaction};
use wirespan::{Input, Pipeline};

use crate::support::registry;

/// A record, as far as it is compared.
pub(crate) struct Record {
    pub(crate) protocol: String,
    pub(crate) operation: String,
    pub(crate) target: String,
    pub(crate) status: String,
    pub(crate) start: String,
    /// The client's, and the server's.
    pub(crate) ports: (u16, u16),
    pub(crate) version: String,
}

impl Record {
    /// The server's port.
    pub(crate) fn server(&self) -> u16 {
        self.ports.1
    }
}

/// The records of `capture`, in the order in which their requests began.
pub(crate) fn of(capture: &Path) -> Vec<Record> {
    let mut pipeline = Pipeline::new(Arc::clone(&registry()));
    pipeline.policy = Policy::of(Redaction::Off);
    let mut lines = Vec::new();
    let input = Input::open(capture).expect("a capture");
    let write = |bytes: &[u8]| {
        lines.extend_from_slice(bytes);
        Ok(())
    };
    pipeline
        .run(input, write, |_, _| {})
        .expect("nothing fails");
    let lines = String::from_utf8(lines).expect("UTF-8");
    let mut records: Vec<Record> = lines.lines().map(record).collect();
    records.sort_by(|a, b| a.start.cmp(&b.start));
    records
}

fn record(line: &str) -> Record {
    let record: Value = serde_json::from_str(line).expect("JSON");
    let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
    let port = |key: &str| {
        let address = text(key);
        let (_, port) = address.rsplit_once(':').expect("a port");
        port.parse().expect("a port")
    };
    let version = &record["attributes"]["network.protocol.version"];
    Record {
        protocol: text("protocol"),
        operation: text("operation"),
        target: text("target"),
        status: text("status"),
        start: text("start"),
        ports: (port("client"), port("server")),
        version: version.as_str().unwrap_or_default().to_owned(),
    }
}
