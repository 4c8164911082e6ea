//! HTTP/2: methods and paths. Requests overlap, so their order says nothing.

use crate::item::{Item, Reading};
use crate::records::Record;
use crate::tshark::Frame;

pub(crate) fn theirs(frames: &[Frame]) -> Reading {
    let mut reading = Reading::default();
    for frame in frames {
        let connection = reading.connection(frame.ports);
        let mut paths = frame.values("http2.headers.path");
        let methods = frame.values("http2.headers.method");
        if methods.is_empty() {
            // Joined in the middle: the table that holds the method was missed.
            connection.extend(paths.iter().map(|path| Item::new("", path)));
        }
        for method in methods {
            // CONNECT has an authority instead, and a path only where it is extended (RFC 8441).
            let path = match &*method {
                "CONNECT" => String::new(),
                _ => paths.pop_front().unwrap_or_default(),
            };
            connection.push(Item::new(&method, &path));
        }
    }
    reading.sort();
    reading
}

pub(crate) fn ours(records: &[Record]) -> Reading {
    let mut reading = Reading::default();
    for record in records {
        let connection = reading.connection(record.ports);
        match &*record.protocol {
            "grpc" if record.operation.is_empty() => connection.push(Item::new("POST", "")),
            "grpc" => {
                let path = format!("/{}", record.operation);
                connection.push(Item::new("POST", &path));
            }
            _ if record.version == "2" => {
                let is_connect = record.operation == "CONNECT";
                let path = if is_connect { "" } else { &record.target };
                connection.push(Item::new(&record.operation, path));
            }
            _ => {}
        }
    }
    reading.sort();
    reading
}
