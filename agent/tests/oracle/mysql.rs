//! MySQL: commands with their texts, and the error that follows them.

use std::collections::{BTreeMap, BTreeSet};

use crate::item::{Item, Reading};
use crate::records::Record;
use crate::tshark::Frame;

/// Commands by their numbers, but for the two that carry statements.
const COMMANDS: [(&str, &str); 18] = [
    ("2", "INIT_DB"),
    ("4", "FIELD_LIST"),
    ("5", "CREATE_DB"),
    ("6", "DROP_DB"),
    ("7", "REFRESH"),
    ("9", "STATISTICS"),
    ("10", "PROCESS_INFO"),
    ("12", "PROCESS_KILL"),
    ("13", "DEBUG"),
    ("14", "PING"),
    ("17", "CHANGE_USER"),
    ("18", "BINLOG_DUMP"),
    ("21", "REGISTER_SLAVE"),
    ("26", "RESET"),
    ("27", "SET_OPTION"),
    ("28", "FETCH"),
    ("30", "BINLOG_DUMP_GTID"),
    ("31", "RESET_CONNECTION"),
];
/// QUIT, SEND_LONG_DATA, CLOSE: nobody answers them, so they are no exchanges.
const UNANSWERED: [&str; 3] = ["1", "24", "25"];

pub(crate) fn theirs(frames: &[Frame]) -> Reading {
    let mut reading = Reading::default();
    for frame in frames {
        let connection = reading.connection(frame.ports);
        let commands = frame.values("mysql.command");
        let mut texts = frame.values("mysql.query");
        let mut schemas = frame.values("mysql.schema");
        if !frame.values("mysql.user").is_empty() && !commands.contains(&"17".to_owned()) {
            connection.push(Item::new("HANDSHAKE", ""));
        }
        for command in commands {
            let text = texts.pop_front().unwrap_or_default();
            let known = COMMANDS.iter().find(|(number, _)| *number == command);
            match (&*command, known) {
                ("3", _) => connection.push(Item::new("", &text)),
                ("22", _) => connection.push(Item::new("PREPARE", &text)),
                ("23", _) => connection.push(Item::new("EXECUTE", "")),
                (number, _) if UNANSWERED.contains(&number) => texts.push_front(text),
                ("2", _) => {
                    let schema = schemas.pop_front().unwrap_or_default();
                    connection.push(Item::new("INIT_DB", &schema));
                    texts.push_front(text);
                }
                (_, known) => {
                    let name = known.map_or("unknown_command", |(_, name)| name);
                    connection.push(Item::new(name, ""));
                    texts.push_front(text);
                }
            }
        }
        for error in frame.values("mysql.error_code") {
            match connection.last_mut().filter(|item| item.error.is_empty()) {
                Some(item) => item.error = error,
                None => connection.push(Item {
                    error,
                    ..Item::new("HANDSHAKE", "")
                }),
            }
        }
    }
    reading
}

pub(crate) fn ours(records: &[Record]) -> Reading {
    let mut reading = Reading::default();
    let mut prepared: BTreeMap<(u16, u16), BTreeSet<&str>> = BTreeMap::new();
    let mut last: BTreeMap<(u16, u16), &Record> = BTreeMap::new();
    for record in records {
        let connection = reading.connection(record.ports);
        let texts = prepared.entry(record.ports).or_default();
        let name = &*record.operation;
        let (name, text) = match name {
            "PREPARE" if !record.target.to_uppercase().starts_with("PREPARE") => {
                texts.insert(&record.target);
                (name, &*record.target)
            }
            "FETCH" => (name, ""),
            "" if record.target.is_empty() => ("EXECUTE", ""),
            _ if texts.contains(&*record.target) => ("EXECUTE", ""),
            "INIT_DB" => (name, &*record.target),
            _ if record.target.is_empty() => (name, ""),
            _ => ("", &*record.target),
        };
        let mut item = Item::new(name, text);
        if record.status != "OK" {
            item.error.clone_from(&record.status);
        }
        // Statements of one query.
        let before = last.insert(record.ports, record);
        if let (Some(before), Some(joined)) = (before, connection.last_mut())
            && before.start == record.start
            && before.target.ends_with(';')
            && name.is_empty()
        {
            joined.text = format!("{} {}", joined.text, item.text);
            if joined.error.is_empty() {
                joined.error = item.error;
            }
        } else {
            connection.push(item);
        }
    }
    reading
}
