//! Redis: commands with their first argument, then the errors, each in order.

use std::collections::BTreeMap;

use crate::item::{Item, Reading};
use crate::records::Record;
use crate::tshark::Frame;

/// Commands and errors of a connection.
type Sides = (Vec<Item>, Vec<Item>);

pub(crate) fn theirs(frames: &[Frame]) -> Reading {
    let mut connections: BTreeMap<(u16, u16), Sides> = BTreeMap::new();
    for frame in frames {
        let (a, b) = frame.ports;
        let (commands, errors) = connections.entry((a.min(b), a.max(b))).or_default();
        if !frame.is_request {
            let found = frame.values("resp.error");
            errors.extend(found.iter().map(|error| Item::error(word(error))));
            continue;
        }
        let mut words = frame.values("resp.bulk_string.value").into_iter();
        for len in frame.values("resp.array.length") {
            let len = len.parse().unwrap_or(0);
            let command: Vec<String> = words.by_ref().take(len).map(|hex| text(&hex)).collect();
            let name = command.first().map(|name| name.to_uppercase());
            let target = command.get(1).map_or("", |target| target);
            commands.push(Item::new(&name.unwrap_or_default(), target));
        }
    }
    reading(connections)
}

pub(crate) fn ours(records: &[Record]) -> Reading {
    let mut connections: BTreeMap<(u16, u16), Sides> = BTreeMap::new();
    for record in records {
        let (a, b) = record.ports;
        let (commands, errors) = connections.entry((a.min(b), a.max(b))).or_default();
        commands.push(Item::new(&record.operation, &record.target));
        if !matches!(&*record.status, "OK" | "") {
            errors.push(Item::error(&record.status));
        }
    }
    reading(connections)
}

fn reading(connections: BTreeMap<(u16, u16), Sides>) -> Reading {
    let mut reading = Reading::default();
    for (ports, (commands, errors)) in connections {
        let items = reading.connection(ports);
        items.extend(commands);
        items.extend(errors);
    }
    reading
}

/// The first word of an error.
fn word(error: &str) -> &str {
    error.split(' ').next().unwrap_or_default()
}

/// What tshark prints as hexadecimal.
fn text(hex: &str) -> String {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok()?;
        u8::from_str_radix(pair, 16).ok()
    };
    let bytes: Vec<u8> = digits.chunks(2).filter_map(byte).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
