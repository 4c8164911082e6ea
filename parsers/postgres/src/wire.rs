//! The grammar of PostgreSQL's messages: bytes to items. Pure functions over `&[u8]`; the only
//! user of nom.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use nom::Parser as _;
use nom::bytes::complete::{tag, take, take_till};
use nom::combinator::{rest, verify};
use nom::error::Error;
use nom::number::complete::{be_i16, be_i32, be_u8, be_u32};
use nom::sequence::{pair, terminated};
use wirespan_parser_api::{Direction, ParseError};

/// Bytes before a message's body: its type, and its length.
pub(crate) const HEADER: usize = 5;
/// Longest packet that opens a connection, in bytes (`MAX_STARTUP_PACKET_LENGTH`).
pub(crate) const MAX_STARTUP: usize = 10_000;
/// Most bytes of a body of a type that is never long; what libpq believes.
const SHORT: u32 = 30_000;
/// Most bytes of any body (`PQ_LARGE_MESSAGE_LIMIT`).
const LONG: u32 = 0x3fff_ffff;

type Result<'a, T> = nom::IResult<&'a [u8], T, Error<&'a [u8]>>;

/// Type and length of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// The type.
    pub(crate) kind: u8,
    /// Bytes of the message, with the header.
    pub(crate) len: u64,
}

/// Reads a message's header; `None` where it is not whole.
pub(crate) fn header(
    dir: Direction,
    bytes: &[u8],
) -> core::result::Result<Option<Header>, ParseError> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    let Some((least, most)) = body_len(dir, kind) else {
        return Err(ParseError::malformed("message type"));
    };
    let read: Result<'_, _> = pair(be_u8, be_u32).parse(bytes);
    let Ok((_, (_, len))) = read else {
        return Ok(None);
    };
    match len.checked_sub(4) {
        Some(body) if (least..=most).contains(&body) => Ok(Some(Header {
            kind,
            len: u64::from(len).saturating_add(1),
        })),
        _ => Err(ParseError::malformed("message length")),
    }
}

/// The least and the most bytes of a body; `None` where the type is none.
fn body_len(dir: Direction, kind: u8) -> Option<(u32, u32)> {
    Some(match (dir, kind) {
        (Direction::ToServer, b'Q') => (1, LONG),
        (Direction::ToServer, b'P') => (4, LONG),
        (Direction::ToServer, b'B') => (8, LONG),
        (Direction::ToServer, b'F') => (10, LONG),
        (_, b'd') => (0, LONG),
        (Direction::ToServer, b'E') => (5, SHORT),
        (Direction::ToServer, b'D' | b'C') => (2, SHORT),
        (Direction::ToServer, b'f') => (1, SHORT),
        (Direction::ToServer, b'p') => (0, 65_535),
        (Direction::ToServer, b'S' | b'H' | b'X') | (_, b'c') => (0, 0),
        (Direction::ToClient, b'D' | b'T') => (2, LONG),
        (Direction::ToClient, b'E' | b'N') => (1, LONG),
        (Direction::ToClient, b'V') => (4, LONG),
        (Direction::ToClient, b'A') => (6, LONG),
        (Direction::ToClient, b'Z') => (1, 1),
        (Direction::ToClient, b'C') => (1, SHORT),
        (Direction::ToClient, b'S' | b't') => (2, SHORT),
        (Direction::ToClient, b'G' | b'H' | b'W') => (3, SHORT),
        (Direction::ToClient, b'1' | b'2' | b'3' | b'n' | b's' | b'I') => (0, 0),
        (Direction::ToClient, b'R') => (4, 65_535),
        // Cancellation keys are of any length since protocol 3.2.
        (Direction::ToClient, b'K') => (8, 260),
        (Direction::ToClient, b'v') => (8, SHORT),
        _ => return None,
    })
}

/// What opens a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Opening<'a> {
    /// `SSLRequest`.
    Tls,
    /// `GSSENCRequest`.
    Gss,
    /// `CancelRequest`, whose key is none of our business.
    Cancel,
    /// `StartupMessage`, with its parameters.
    Startup(&'a [u8]),
}

/// Reads the beginning of a packet that opens a connection: its length, and a code.
pub(crate) fn opening_code(bytes: &[u8]) -> Option<(u32, u32)> {
    let read: Result<'_, _> = pair(be_u32, be_u32).parse(bytes);
    read.ok().map(|(_, code)| code)
}

/// Reads a packet that opens a connection, and the bytes it takes; `None` where it is not whole.
pub(crate) fn opening(
    bytes: &[u8],
) -> core::result::Result<Option<(Opening<'_>, usize)>, ParseError> {
    let Some((len, code)) = opening_code(bytes) else {
        return Ok(None);
    };
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let fits = match code {
        80_877_103 | 80_877_104 => len == 8,
        80_877_102 => (16..=268).contains(&len),
        // Major version 3; minor ones are negotiated.
        0x0003_0000..=0x0003_ffff => (9..=MAX_STARTUP).contains(&len),
        _ => false,
    };
    if !fits {
        return Err(ParseError::malformed("start-up packet"));
    }
    let Some(packet) = bytes.get(..len) else {
        return Ok(None);
    };
    let opening = match code {
        80_877_103 => Opening::Tls,
        80_877_104 => Opening::Gss,
        80_877_102 => Opening::Cancel,
        _ => Opening::Startup(packet.get(8..).unwrap_or_default()),
    };
    Ok(Some((opening, len)))
}

/// The value of a parameter of a `StartupMessage`.
pub(crate) fn parameter<'a>(mut parameters: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    while let Ok((after, (key, value))) = pair(text, text).parse(parameters) {
        if key == name {
            return Some(value);
        }
        parameters = after;
    }
    None
}

/// Text up to a NUL.
pub(crate) fn text(bytes: &[u8]) -> Result<'_, &[u8]> {
    terminated(take_till(|byte| byte == 0), tag(&[0][..])).parse(bytes)
}

/// A name and the text behind it, as in `Parse`: the text may be cut by the end of what is visible.
pub(crate) fn named_text(body: &[u8]) -> Option<(&[u8], &[u8])> {
    pair(text, rest).parse(body).ok().map(|(_, both)| both)
}

/// Two names, as in `Bind`: portal and statement.
pub(crate) fn names(body: &[u8]) -> Option<(&[u8], &[u8])> {
    pair(text, text).parse(body).ok().map(|(_, both)| both)
}

/// The name at a body's beginning, as in `Execute`.
pub(crate) fn name(body: &[u8]) -> Option<&[u8]> {
    text(body).ok().map(|(_, name)| name)
}

/// What `Describe` and `Close` are about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Object<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

/// The object of `Describe` and `Close`.
pub(crate) fn object(body: &[u8]) -> Option<Object<'_>> {
    match pair(be_u8, text).parse(body).ok()?.1 {
        (b'S', name) => Some(Object::Statement(name)),
        (b'P', name) => Some(Object::Portal(name)),
        _ => None,
    }
}

/// The SQLSTATE of an `ErrorResponse`, whose end need not be visible.
pub(crate) fn sqlstate(mut body: &[u8]) -> Option<&str> {
    while let Ok((after, (field, value))) = pair(be_u8, text).parse(body) {
        if field == b'C' {
            let five = value.len() == 5 && value.iter().all(u8::is_ascii_alphanumeric);
            return core::str::from_utf8(value).ok().filter(|_| five);
        }
        body = after;
    }
    None
}

/// Whether a body is a list of fields, as in `ErrorResponse`: letters with a text each, and a NUL.
pub(crate) fn is_fields(mut body: &[u8]) -> bool {
    let field = |bytes| -> Result<'_, _> {
        pair(verify(be_u8, u8::is_ascii_alphabetic), text).parse(bytes)
    };
    let mut seen = false;
    while let Ok((after, _)) = field(body) {
        seen = true;
        body = after;
    }
    seen && body == [0]
}

/// Whether a body is two names to its end, as in `ParameterStatus`.
pub(crate) fn is_names(body: &[u8]) -> bool {
    matches!(pair(text, text).parse(body), Ok((rest, (name, _))) if rest.is_empty() && !name.is_empty())
}

/// Whether the end of a `Parse` is a list of types.
pub(crate) fn is_types(body: &[u8]) -> bool {
    is_list(body, |kind| {
        take(4usize).parse(kind).map(|(after, _): (_, &[u8])| after)
    })
}

/// Whether a body is a `RowDescription`: as many columns as it says.
pub(crate) fn is_row_description(body: &[u8]) -> bool {
    is_list(body, |column| {
        pair(text, take(18usize))
            .parse(column)
            .map(|(after, _)| after)
    })
}

/// Whether a body is a `DataRow`: as many values as it says.
pub(crate) fn is_data_row(body: &[u8]) -> bool {
    is_list(body, value)
}

/// A value with its length in front; of length -1 it is NULL.
fn value(bytes: &[u8]) -> core::result::Result<&[u8], nom::Err<Error<&[u8]>>> {
    let (after, len) = verify(be_i32::<_, Error<&[u8]>>, |len| *len >= -1).parse(bytes)?;
    let len = usize::try_from(len).unwrap_or(0);
    take(len).parse(after).map(|(after, _): (_, &[u8])| after)
}

/// A count, and that many items to the end.
fn is_list<'a>(
    body: &'a [u8],
    item: impl Fn(&'a [u8]) -> core::result::Result<&'a [u8], nom::Err<Error<&'a [u8]>>>,
) -> bool {
    list(body, item).is_ok_and(<[u8]>::is_empty)
}

fn list<'a>(
    body: &'a [u8],
    item: impl Fn(&'a [u8]) -> core::result::Result<&'a [u8], nom::Err<Error<&'a [u8]>>>,
) -> core::result::Result<&'a [u8], nom::Err<Error<&'a [u8]>>> {
    let (mut body, count) = verify(be_i16, |count| *count >= 0).parse(body)?;
    for _ in 0..count {
        body = item(body)?;
    }
    Ok(body)
}

/// Whether a body is a `Bind`: names, formats, values, formats.
pub(crate) fn is_bind(body: &[u8]) -> bool {
    let format = |bytes| {
        verify(be_i16::<_, Error<&[u8]>>, |format| matches!(format, 0 | 1))
            .parse(bytes)
            .map(|(after, _)| after)
    };
    let Ok((after, _)) = pair(text, text).parse(body) else {
        return false;
    };
    list(after, format)
        .and_then(|after| list(after, value))
        .is_ok_and(|after| is_list(after, format))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{ToClient, ToServer};

    #[test]
    fn a_header_is_a_type_and_a_length_that_counts_itself() {
        let read = |bytes| header(ToServer, bytes).unwrap();
        assert_eq!(read(b"Q\0\0\0\x05\0"), Some(Header { kind: b'Q', len: 6 }));
        assert_eq!(read(b"Q\0\0\0"), None);
        assert_eq!(read(b""), None);
    }

    #[test]
    fn a_header_of_no_type_or_of_an_impossible_length_is_an_error() {
        for (dir, bytes) in [
            (ToServer, b"Z\0\0\0\x05"),
            (ToClient, b"Q\0\0\0\x05"),
            (ToServer, b"Q\0\0\0\x03"),
            (ToServer, b"S\0\0\0\x05"),
            (ToClient, b"Z\0\0\0\x04"),
            (ToClient, b"C\0\x01\0\0"),
            (ToClient, b"D\x7f\xff\xff\xff"),
        ] {
            assert!(header(dir, bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn messages_of_a_gigabyte_have_a_length() {
        let header = header(ToClient, b"D\x3f\xff\xff\xff").unwrap().unwrap();
        assert_eq!(header.len, 0x4000_0000);
    }

    #[test]
    fn a_connection_opens_with_one_of_four_packets() {
        let cases: [(&[u8], Opening<'_>); 4] = [
            (b"\0\0\0\x08\x04\xd2\x16\x2f", Opening::Tls),
            (b"\0\0\0\x08\x04\xd2\x16\x30", Opening::Gss),
            (
                b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02",
                Opening::Cancel,
            ),
            (
                b"\0\0\0\x10\0\x03\0\0user\0a\0\0",
                Opening::Startup(b"user\0a\0\0"),
            ),
        ];
        for (bytes, expected) in cases {
            assert_eq!(opening(bytes), Ok(Some((expected, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(opening(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
        }
        assert!(opening(b"\0\0\0\x09\x04\xd2\x16\x2f").is_err());
        assert!(opening(b"\0\0\0\x10\0\x02\0\0").is_err(), "protocol 2");
    }

    #[test]
    fn parameters_are_pairs_of_texts() {
        let all = b"user\0joe\0database\0shop\0\0";
        assert_eq!(parameter(all, b"database"), Some(&b"shop"[..]));
        assert_eq!(parameter(all, b"shop"), None, "a value is no name");
        assert_eq!(parameter(b"user\0no end", b"user"), None);
    }

    #[test]
    fn the_sqlstate_is_a_field_of_five() {
        assert_eq!(sqlstate(b"SERROR\0C42P01\0Mwhat"), Some("42P01"));
        for without in [
            &b"SERROR\0\0"[..],
            b"C42\0\0",
            b"C42P0-\0\0",
            b"C42P01",
            b"",
        ] {
            assert_eq!(sqlstate(without), None);
        }
    }

    #[test]
    fn names_end_in_nul() {
        assert_eq!(names(b"p\0s\0..."), Some((&b"p"[..], &b"s"[..])));
        assert_eq!(names(b"p\0s"), None);
        assert_eq!(named_text(b"s\0SELECT"), Some((&b"s"[..], &b"SELECT"[..])));
        assert_eq!(name(b"p\0\0\0\0\0"), Some(&b"p"[..]));
        assert_eq!(object(b"Ss\0"), Some(Object::Statement(b"s")));
        assert_eq!(object(b"P\0"), Some(Object::Portal(b"")));
        assert_eq!(object(b"Xs\0"), None);
    }

    #[test]
    fn bodies_that_count_their_items_are_recognised() {
        let columns = [b"\0\x01a\0".as_slice(), &[0; 18]].concat();
        assert!(is_row_description(&columns) && !is_row_description(&columns[..21]));
        assert!(is_data_row(b"\0\x02\0\0\0\x01x\xff\xff\xff\xff"));
        assert!(!is_data_row(b"\0\x02\0\0\0\x01x"));
        assert!(!is_data_row(b"\0\x01\xff\xff\xff\xfe"));
        assert!(is_bind(b"p\0s\0\0\x01\0\x01\0\x01\0\0\0\x01x\0\0"));
        assert!(!is_bind(b"p\0s\0\0\x01\0\x02\0\0\0\0"), "no such format");
        assert!(is_fields(b"SERROR\0C42P01\0\0") && !is_fields(b"\0") && !is_fields(b"SERROR\0"));
    }
}
