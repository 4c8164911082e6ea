//! PostgreSQL: what is asked of the server, then its errors, each in order.

use std::collections::{BTreeMap, VecDeque};

use crate::item::{Item, Reading};
use crate::records::Record;
use crate::tshark::Frame;

/// What a client has prepared and bound.
#[derive(Default)]
struct Connection {
    asked: Vec<Item>,
    errors: Vec<Item>,
    /// Texts by statement, and where they were parsed if they have not been executed since.
    statements: BTreeMap<String, (String, Option<usize>)>,
    /// Statements by portal.
    portals: BTreeMap<String, String>,
}

/// Names of one kind in a frame. Empty ones are not told from none where they are alone.
struct Names(VecDeque<String>);

impl Names {
    fn next(&mut self) -> String {
        self.0.pop_front().unwrap_or_default()
    }
}

pub(crate) fn theirs(frames: &[Frame]) -> Reading {
    let mut connections: BTreeMap<(u16, u16), Connection> = BTreeMap::new();
    for frame in frames {
        let (a, b) = frame.ports;
        let connection = connections.entry((a.min(b), a.max(b))).or_default();
        connection.frame(frame);
    }
    reading(
        connections
            .into_iter()
            .map(|(ports, it)| (ports, it.asked, it.errors)),
    )
}

fn reading(connections: impl Iterator<Item = ((u16, u16), Vec<Item>, Vec<Item>)>) -> Reading {
    let mut reading = Reading::default();
    for (ports, asked, errors) in connections {
        let items = reading.connection(ports);
        items.extend(asked);
        items.extend(errors);
    }
    reading
}

impl Connection {
    fn frame(&mut self, frame: &Frame) {
        let kinds = frame.values("pgsql.type");
        let mut texts = Names(frame.values("pgsql.query"));
        let mut statements = Names(frame.values("pgsql.statement"));
        let mut portals = Names(frame.values("pgsql.portal"));
        let mut codes = Names(frame.values("pgsql.code"));
        let named = kinds
            .iter()
            .filter(|kind| matches!(&***kind, "Parse" | "Bind"));
        // Describe and Close name either.
        let mut spare = statements.0.len().saturating_sub(named.count());
        for kind in kinds {
            match &*kind {
                "Startup message" => self.asked.push(Item::new("HANDSHAKE", "")),
                "Simple query" => self.asked.extend(statements_of(&texts.next())),
                "Function call" => self.asked.push(Item::new("FUNCTION_CALL", "")),
                "Parse" => {
                    let text = texts.next();
                    self.asked.push(Item::new("PREPARE", &text));
                    let place = Some(self.asked.len() - 1);
                    self.statements.insert(statements.next(), (text, place));
                }
                "Bind" => {
                    self.portals.insert(portals.next(), statements.next());
                }
                "Execute" => self.execute(&portals.next()),
                "Describe" | "Close" => {
                    let names_statement = spare > 0;
                    spare = spare.saturating_sub(1);
                    let name = match names_statement {
                        true => statements.next(),
                        false => portals.next(),
                    };
                    if kind == "Close" {
                        self.asked.push(Item::new("CLOSE", ""));
                        match names_statement {
                            true => drop(self.statements.remove(&name)),
                            false => drop(self.portals.remove(&name)),
                        }
                    }
                }
                "Sync" | "Flush" => {
                    for (_, parsed) in self.statements.values_mut() {
                        *parsed = None;
                    }
                }
                "Error" => self.errors.push(Item::error(&codes.next())),
                "Notice" => drop(codes.next()),
                _ => {}
            }
        }
    }

    /// A statement that is executed as soon as it is parsed is one exchange.
    fn execute(&mut self, portal: &str) {
        let statement = self.portals.get(portal).cloned().unwrap_or_default();
        let Some((text, parsed)) = self.statements.get_mut(&statement) else {
            return self.asked.push(Item::new("", ""));
        };
        let item = Item::new("", text.trim_end_matches(';'));
        match parsed.take() {
            Some(place) => self.asked[place] = item,
            None => self.asked.push(item),
        }
    }
}

pub(crate) fn ours(records: &[Record]) -> Reading {
    let mut connections: BTreeMap<(u16, u16), Vec<&Record>> = BTreeMap::new();
    for record in records {
        connections.entry(record.ports).or_default().push(record);
    }
    reading(connections.into_iter().map(|(ports, records)| {
        let mut asked: Vec<Item> = Vec::new();
        let mut errors = Vec::new();
        for record in records {
            match item(record) {
                Some(item) => asked.push(item),
                None => asked.extend(statements_of(&record.target)),
            }
            if !matches!(&*record.status, "OK" | "") {
                errors.push(Item::error(&record.status));
            }
        }
        (ports, asked, errors)
    }))
}

/// The request that a record is of, unless it is a statement.
fn item(record: &Record) -> Option<Item> {
    match &*record.operation {
        name @ ("HANDSHAKE" | "FUNCTION_CALL") => Some(Item::new(name, "")),
        "CLOSE" if record.target.is_empty() => Some(Item::new("CLOSE", "")),
        "PREPARE" if !record.target.to_uppercase().starts_with("PREPARE") => {
            Some(Item::new("PREPARE", &record.target))
        }
        _ => None,
    }
}

/// The statements of a query, parted at every semicolon: those inside literals part both sides.
fn statements_of(text: &str) -> Vec<Item> {
    let parts = text.split(';').map(|part| Item::new("", part));
    let mut parts: Vec<Item> = parts.filter(|part| !part.text.is_empty()).collect();
    if parts.is_empty() {
        parts.push(Item::new("", ""));
    }
    parts
}
