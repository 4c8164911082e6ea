//! Frames and header blocks written by hand, and exchanges written down a line each.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each test file uses some of it"
)]

use wirespan_testkit::{Fixture, Run, Seen};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
/// END_HEADERS and END_STREAM.
pub const END_BOTH: u8 = 5;

pub const NO_ERROR: u32 = 0;
pub const CANCEL: u32 = 8;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn string(text: &str) -> Vec<u8> {
    // A length with a prefix of seven bits.
    let mut bytes = match text.len() {
        len @ ..127 => vec![len as u8],
        len => {
            let rest = len - 127;
            vec![127, (rest % 128) as u8 | 0x80, (rest / 128) as u8]
        }
    };
    bytes.extend(text.bytes());
    bytes
}

fn literals(pattern: u8, headers: &[(&str, &str)]) -> Vec<u8> {
    let literal =
        |(name, value): &(&str, &str)| [vec![pattern], string(name), string(value)].concat();
    headers.iter().flat_map(literal).collect()
}

/// A header block of literals that do not change the dynamic table.
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    literals(0x00, headers)
}

/// A header block of literals that are inserted into the dynamic table.
pub fn inserted(headers: &[(&str, &str)]) -> Vec<u8> {
    literals(0x40, headers)
}

/// A header block of dynamic entries by their age, 0 the newest.
pub fn ages(ages: &[u8]) -> Vec<u8> {
    ages.iter().map(|age| 0x80 | (62 + age)).collect()
}

pub fn headers(flags: u8, stream: u32, list: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, flags, stream, &block(list))
}

pub fn get(stream: u32, path: &str) -> Vec<u8> {
    headers(END_BOTH, stream, &request("GET", path))
}

pub fn request<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "example.com"),
    ]
}

pub fn answer(stream: u32, status: &str) -> Vec<u8> {
    headers(END_BOTH, stream, &[(":status", status)])
}

pub fn call(stream: u32, path: &str) -> Vec<u8> {
    let mut list = request("POST", path).to_vec();
    list.extend([("te", "trailers"), ("content-type", "application/grpc")]);
    headers(END_HEADERS, stream, &list)
}

pub fn call_headers(stream: u32) -> Vec<u8> {
    headers(
        END_HEADERS,
        stream,
        &[(":status", "200"), ("content-type", "application/grpc")],
    )
}

pub fn trailers(stream: u32, status: &str) -> Vec<u8> {
    headers(
        END_BOTH,
        stream,
        &[("grpc-status", status), ("grpc-message", "")],
    )
}

/// gRPC messages of these lengths.
pub fn messages(lens: &[u32]) -> Vec<u8> {
    let message = |len: &u32| {
        let mut message = vec![0];
        message.extend(len.to_be_bytes());
        message.extend(vec![b'm'; *len as usize]);
        message
    };
    lens.iter().flat_map(message).collect()
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// The start of a connection.
pub fn start() -> Fixture {
    let settings = frame(SETTINGS, 0, 0, &[]);
    Fixture::new()
        .client(&[PREFACE, &settings].concat())
        .server(&settings)
        .client(&frame(SETTINGS, 1, 0, &[]))
}

pub fn play(fixture: &Fixture) -> Run {
    Run::of(wirespan_grpc::Http2, fixture)
}

/// Exchanges as `protocol operation target status [flags]`.
pub fn lines(run: &Run) -> Vec<String> {
    let line = |seen: &Seen| {
        let parts = [seen.protocol, &seen.operation, &seen.target, &seen.status];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{} [{}]", parts.join(" "), seen.flags)
    };
    run.seen.iter().map(line).collect()
}

/// Checks what the exchanges of a connection are, and that there were no errors.
pub fn check(fixture: &Fixture, expected: &[&str]) -> Run {
    let run = play(fixture);
    assert_eq!(lines(&run), expected, "{:#?}", run.stats);
    assert!(run.stats.errors.is_empty(), "{:?}", run.stats.errors);
    run
}

/// Names of the errors and how often they were counted.
pub fn errors(run: &Run) -> Vec<(&'static str, u64)> {
    run.stats
        .errors
        .iter()
        .map(|((_, _, what), n)| (*what, *n))
        .collect()
}

pub fn counted(run: &Run, what: &str) -> u64 {
    run.stats.protocols["h2"]
        .counted
        .get(what)
        .copied()
        .unwrap_or(0)
}

/// Attributes as `key=value`.
pub fn attrs(seen: &Seen) -> Vec<String> {
    let line = |attr: &String| {
        // As `Attr` is printed: Attr { key: Key("k"), value: Str("v") }.
        let (_, rest) = attr.split_once("Key(\"").unwrap();
        let (key, rest) = rest.split_once("\")").unwrap();
        let (_, value) = rest.split_once('(').unwrap();
        format!(
            "{key}={}",
            value
                .trim_end_matches(" }")
                .trim_end_matches(')')
                .trim_matches('"')
        )
    };
    seen.attrs.iter().map(line).collect()
}
