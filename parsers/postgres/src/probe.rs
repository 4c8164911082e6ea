//! What PostgreSQL looks like: at a connection's beginning, and anywhere else.

use wirespan_parser_api::{Confidence, Direction, Probe, ProbeInput, Speaker};

use crate::PORT;
use crate::wire::{self, HEADER};

/// Points that make a chain of messages believable: three fields that fit, or more.
const ENOUGH: u32 = 3;
/// Messages of a chain that are looked at.
const MAX_CHAIN: usize = 4;
/// Bytes of a long text that are looked at.
const MAX_TEXT: usize = 1_024;
/// Longest message of another kind that is looked at, in bytes.
const MAX_MESSAGE: u64 = 4_096;

/// What bytes look like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Look {
    /// PostgreSQL.
    Right(Confidence),
    /// Perhaps, once so many are visible.
    Short(usize),
    /// Something else.
    Wrong,
}

/// Decides whether bytes are PostgreSQL.
pub(crate) fn probe(head: &ProbeInput<'_>) -> Probe {
    let client = match head.speaker {
        Some(Speaker::Server) => Look::Wrong,
        _ if head.at_start => opening(head.bytes),
        _ => chain(Direction::ToServer, head.bytes),
    };
    let server = match head.speaker {
        Some(Speaker::Client) => Look::Wrong,
        _ => chain(Direction::ToClient, head.bytes),
    };
    match (client, server) {
        (Look::Right(confidence), _) => Probe::Accept(confidence, Speaker::Client),
        // Not before the client's case is closed: a verdict is final.
        (Look::Short(n), _) => Probe::NeedMore(n),
        (_, Look::Right(confidence)) => Probe::Accept(confidence, Speaker::Server),
        (_, Look::Short(n)) => Probe::NeedMore(n),
        // Joined in the middle of a message, on our port: worth a search.
        _ if !head.at_start && head.server_port == Some(PORT) => search(head),
        _ => Probe::Reject,
    }
}

/// Looks for a message behind the beginning of bytes.
fn search(head: &ProbeInput<'_>) -> Probe {
    for speaker in [Speaker::Server, Speaker::Client] {
        let dir = match speaker {
            Speaker::Client => Direction::ToServer,
            Speaker::Server => Direction::ToClient,
        };
        if head.speaker.is_none_or(|known| known == speaker) && boundary(dir, head.bytes).is_some()
        {
            return Probe::Accept(Confidence::Strong, speaker);
        }
    }
    Probe::NeedMore(head.bytes.len().saturating_add(1))
}

/// Finds where a message could begin.
pub(crate) fn boundary(dir: Direction, window: &[u8]) -> Option<usize> {
    (0..window.len()).find(|at| {
        let rest = window.get(*at..).unwrap_or_default();
        matches!(chain(dir, rest), Look::Right(_)) || is_whole(dir, rest)
    })
}

/// Whether messages end where the bytes do. A `Sync` alone must not wait for what follows it: its
/// answer does not either.
fn is_whole(dir: Direction, bytes: &[u8]) -> bool {
    matches!(message(dir, bytes), Message::Fits { points: 2.., len } if len == bytes.len())
}

/// Looks at the packet that opens a connection.
fn opening(bytes: &[u8]) -> Look {
    let Some((len, code)) = wire::opening_code(bytes) else {
        // All lengths that are allowed begin with two zeros.
        let zeros = bytes.iter().take(2).all(|byte| *byte == 0);
        return if zeros { Look::Short(8) } else { Look::Wrong };
    };
    match (code, len) {
        (80_877_103 | 80_877_104, 8) | (80_877_102, 16..=268) => Look::Right(Confidence::Certain),
        (0x0003_0000..=0x0003_ffff, 9..=10_000) => parameters(bytes),
        _ => Look::Wrong,
    }
}

/// Looks at the first parameter of a `StartupMessage`: length and version alone are Kafka's too.
fn parameters(bytes: &[u8]) -> Look {
    const MAX_NAME: usize = 64;
    let after = bytes.get(8..).unwrap_or_default();
    let len = after
        .iter()
        .position(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.')));
    match len {
        Some(len @ 3..=MAX_NAME) if after.get(len) == Some(&0) => match after.get(..len) {
            Some(b"user" | b"database") => Look::Right(Confidence::Certain),
            _ => Look::Right(Confidence::Strong),
        },
        None if after.len() <= MAX_NAME => Look::Short(bytes.len().saturating_add(1)),
        _ => Look::Wrong,
    }
}

/// Looks at messages, one behind the other.
fn chain(dir: Direction, bytes: &[u8]) -> Look {
    let mut points = 0u32;
    let mut at = 0usize;
    for _ in 0..MAX_CHAIN {
        let rest = bytes.get(at..).unwrap_or_default();
        match message(dir, rest) {
            Message::Fits { points: more, len } => {
                points = points.saturating_add(more);
                if points >= ENOUGH {
                    return Look::Right(Confidence::Strong);
                }
                at = at.saturating_add(len);
            }
            Message::Short(n) => return Look::Short(at.saturating_add(n)),
            Message::Wrong => return Look::Wrong,
        }
    }
    Look::Wrong
}

/// What a message looks like.
enum Message {
    /// As it should, to this many bits of doubt.
    Fits {
        points: u32,
        len: usize,
    },
    /// Perhaps, once so many bytes are visible.
    Short(usize),
    Wrong,
}

fn message(dir: Direction, bytes: &[u8]) -> Message {
    let header = match wire::header(dir, bytes) {
        Ok(Some(header)) => header,
        Ok(None) => return Message::Short(bytes.len().saturating_add(1).max(HEADER)),
        Err(_) => return Message::Wrong,
    };
    let is_text = dir == Direction::ToServer && matches!(header.kind, b'Q' | b'P');
    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
    if is_text && len > MAX_TEXT {
        return match bytes.get(HEADER..MAX_TEXT) {
            None => Message::Short(MAX_TEXT),
            Some(text) if is_long_text(header.kind, text) => Message::Fits {
                points: ENOUGH,
                len,
            },
            Some(_) => Message::Wrong,
        };
    }
    if header.len > MAX_MESSAGE {
        return Message::Wrong;
    }
    let Some(message) = bytes.get(..len) else {
        return Message::Short(len);
    };
    let body = message.get(HEADER..).unwrap_or_default();
    let points = match dir {
        Direction::ToServer => client_points(header.kind, body),
        Direction::ToClient => server_points(header.kind, body),
    };
    match points {
        Some(points) => Message::Fits { points, len },
        None => Message::Wrong,
    }
}

fn is_long_text(kind: u8, text: &[u8]) -> bool {
    let text = match (kind, wire::named_text(text)) {
        (b'P', Some((name, text))) if is_printable(name) => text,
        (b'P', _) => return false,
        _ => text,
    };
    is_printable(text)
}

/// What a message of the client's is worth; `None` where it is none.
fn client_points(kind: u8, body: &[u8]) -> Option<u32> {
    let whole = |name: &[u8], extra: usize| {
        let len = name.len().saturating_add(1).saturating_add(extra);
        is_printable(name) && len == body.len()
    };
    let (fits, points) = match kind {
        b'Q' => (wire::name(body).is_some_and(|text| whole(text, 0)), ENOUGH),
        b'P' => (is_parse(body), ENOUGH),
        b'B' => (wire::is_bind(body), ENOUGH),
        b'E' => (wire::name(body).is_some_and(|name| whole(name, 4)), 2),
        b'D' | b'C' => {
            let name = match wire::object(body) {
                Some(wire::Object::Statement(name) | wire::Object::Portal(name)) => Some(name),
                None => None,
            };
            (name.is_some_and(|name| whole(name, 1)), 2)
        }
        // Nothing but a length.
        b'S' | b'H' | b'X' | b'c' => (true, 2),
        _ => (true, 0),
    };
    fits.then_some(points)
}

/// Whether a body is a `Parse`: name, text, and as many parameter types as it says.
fn is_parse(body: &[u8]) -> bool {
    let Some((name, rest)) = wire::named_text(body) else {
        return false;
    };
    let Some(text) = wire::name(rest) else {
        return false;
    };
    let types = rest.get(text.len().saturating_add(1)..);
    is_printable(name) && is_printable(text) && types.is_some_and(wire::is_types)
}

/// What a message of the server's is worth; `None` where it is none.
fn server_points(kind: u8, body: &[u8]) -> Option<u32> {
    let (fits, points) = match kind {
        b'Z' => (matches!(body, b"I" | b"T" | b"E"), ENOUGH),
        b'C' => (is_tag(body), ENOUGH),
        b'T' => (wire::is_row_description(body), ENOUGH),
        b'D' => (wire::is_data_row(body), ENOUGH),
        b'E' | b'N' => (wire::is_fields(body), ENOUGH),
        b'S' => (wire::is_names(body), 2),
        b'A' => (body.get(4..).is_some_and(wire::is_names), 2),
        b'R' => (matches!(body, [0, 0, 0, 0..=12, ..]), 2),
        b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' => (true, 2),
        b'G' | b'H' | b'W' => (matches!(body, [0 | 1, ..]), 1),
        _ => (true, 0),
    };
    fits.then_some(points)
}

/// Whether a body is a command's tag: `INSERT 0 1`.
fn is_tag(body: &[u8]) -> bool {
    let Some((0, tag)) = body.split_last() else {
        return false;
    };
    let fits = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b' ';
    tag.first().is_some_and(u8::is_ascii_uppercase) && tag.iter().all(fits)
}

/// Whether text has no control characters but white space.
fn is_printable(text: &[u8]) -> bool {
    let fits = |byte: &u8| *byte >= b' ' && *byte != 0x7f || byte.is_ascii_whitespace();
    text.iter().all(fits)
}
