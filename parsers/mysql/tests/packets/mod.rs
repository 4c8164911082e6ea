//! Packets as servers and clients send them.
#![allow(dead_code, missing_docs, reason = "each test binary uses a part")]

use wirespan_testkit::Fixture;

/// `CLIENT_PROTOCOL_41`, `CLIENT_SECURE_CONNECTION`, `CLIENT_MULTI_STATEMENTS`, `CLIENT_PLUGIN_AUTH`.
pub(crate) const CAPABILITIES: u32 = 1 << 9 | 1 << 15 | 1 << 16 | 1 << 19;
/// `CLIENT_CONNECT_WITH_DB`.
pub(crate) const WITH_SCHEMA: u32 = 1 << 3;
/// `CLIENT_COMPRESS`.
pub(crate) const COMPRESS: u32 = 1 << 5;
/// `CLIENT_SSL`.
pub(crate) const SSL: u32 = 1 << 11;
/// `CLIENT_DEPRECATE_EOF`.
pub(crate) const DEPRECATE_EOF: u32 = 1 << 24;

/// `SERVER_MORE_RESULTS_EXISTS`.
pub(crate) const MORE: u8 = 0x08;

pub(crate) fn packet(seq: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes[3] = seq;
    bytes.extend(payload);
    bytes
}

/// A command and what follows it.
pub(crate) fn command(number: u8, rest: &[u8]) -> Vec<u8> {
    packet(0, &[&[number], rest].concat())
}

pub(crate) fn query(text: &str) -> Vec<u8> {
    command(0x03, text.as_bytes())
}

pub(crate) fn prepare(text: &str) -> Vec<u8> {
    command(0x16, text.as_bytes())
}

pub(crate) fn execute(id: u32) -> Vec<u8> {
    command(0x17, &[&id.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat())
}

pub(crate) fn greeting(version: &str) -> Vec<u8> {
    let mut payload = vec![10];
    payload.extend(version.as_bytes());
    payload.extend([0, 7, 0, 0, 0]);
    payload.extend(b"saltsalt\0");
    payload.extend([0xFF, 0xFF, 8, 2, 0, 0xFF, 0xFF, 21]);
    payload.extend([0; 10]);
    payload.extend(b"saltsaltsalt\0caching_sha2_password\0");
    packet(0, &payload)
}

fn login_head(capabilities: u32) -> Vec<u8> {
    let mut payload = capabilities.to_le_bytes().to_vec();
    payload.extend([0, 0, 0, 1, 8]);
    payload.extend([0; 23]);
    payload
}

pub(crate) fn tls_request() -> Vec<u8> {
    packet(1, &login_head(CAPABILITIES | SSL))
}

/// A login of `app`.
pub(crate) fn login(seq: u8, capabilities: u32, schema: Option<&str>) -> Vec<u8> {
    let with = if schema.is_some() { WITH_SCHEMA } else { 0 };
    let mut payload = login_head(CAPABILITIES | capabilities | with);
    payload.extend(b"app\0\x04CANA");
    if let Some(schema) = schema {
        payload.extend(schema.as_bytes());
        payload.push(0);
    }
    payload.extend(b"caching_sha2_password\0");
    packet(seq, &payload)
}

pub(crate) fn ok_with(seq: u8, status: u8) -> Vec<u8> {
    packet(seq, &[0, 0, 0, status | 2, 0, 0, 0])
}

pub(crate) fn ok(seq: u8) -> Vec<u8> {
    ok_with(seq, 0)
}

pub(crate) fn err(seq: u8, number: u16, state: &str) -> Vec<u8> {
    let mut payload = vec![0xFF];
    payload.extend(number.to_le_bytes());
    payload.push(b'#');
    payload.extend(state.as_bytes());
    payload.extend(b"CANARY was not found");
    packet(seq, &payload)
}

pub(crate) fn eof_with(seq: u8, status: u8) -> Vec<u8> {
    packet(seq, &[0xFE, 0, 0, status | 2, 0])
}

pub(crate) fn eof(seq: u8) -> Vec<u8> {
    eof_with(seq, 0)
}

/// The OK packet in place of an EOF packet.
pub(crate) fn ok_eof(seq: u8, status: u8) -> Vec<u8> {
    packet(seq, &[0xFE, 0, 0, status | 2, 0, 0, 0])
}

pub(crate) fn column(seq: u8) -> Vec<u8> {
    let mut payload = b"\x03def\x04shop\x01t\x01t\x01c\x01c\x0C".to_vec();
    payload.extend([0x21, 0, 10, 0, 0, 0, 0xFD, 0, 0, 0, 0, 0]);
    packet(seq, &payload)
}

/// A result set of one column, from `seq` on; `status` is that of its end.
pub(crate) fn result_set(seq: u8, rows: &[&str], style: Style, status: u8) -> Vec<u8> {
    let mut bytes = packet(seq, &[1]);
    let mut seq = seq + 1;
    bytes.extend(column(seq));
    if style == Style::Eof {
        seq += 1;
        bytes.extend(eof(seq));
    }
    for row in rows {
        seq += 1;
        let len = row.len() as u8;
        bytes.extend(packet(seq, &[&[len], row.as_bytes()].concat()));
    }
    seq += 1;
    bytes.extend(match style {
        Style::Eof => eof_with(seq, status),
        Style::Deprecated => ok_eof(seq, status),
    });
    bytes
}

/// Packets in a result set of `rows` rows.
pub(crate) fn packets(rows: u8, style: Style) -> u8 {
    rows + if style == Style::Eof { 4 } else { 3 }
}

/// Whether there are EOF packets behind definitions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Style {
    Eof,
    Deprecated,
}

impl Style {
    pub(crate) const BOTH: [Self; 2] = [Self::Eof, Self::Deprecated];

    pub(crate) fn capability(self) -> u32 {
        match self {
            Self::Eof => 0,
            Self::Deprecated => DEPRECATE_EOF,
        }
    }
}

/// The answer to a prepare.
pub(crate) fn prepared(id: u32, columns: u8, parameters: u8, style: Style) -> Vec<u8> {
    let mut payload = vec![0];
    payload.extend(id.to_le_bytes());
    payload.extend([columns, 0, parameters, 0, 0, 0, 0]);
    let mut bytes = packet(1, &payload);
    let mut seq = 1;
    for count in [parameters, columns] {
        for _ in 0..count {
            seq += 1;
            bytes.extend(column(seq));
        }
        if count > 0 && style == Style::Eof {
            seq += 1;
            bytes.extend(eof(seq));
        }
    }
    bytes
}

/// A connection on which the client has logged in.
pub(crate) fn connected(style: Style) -> Fixture {
    connected_with(style.capability(), Some("shop"))
}

pub(crate) fn connected_with(capabilities: u32, schema: Option<&str>) -> Fixture {
    Fixture::new()
        .server(&greeting("8.0.36"))
        .client(&login(1, capabilities, schema))
        .server(&ok(2))
}
