//! Bytes to lines. The only user of nom.
//!
//! Every function gives the line and its length, `None` when bytes are missing, or what is wrong.
//! The grammar bounds every part of a line, so that "missing" cannot go on for ever.

use nom::bytes::streaming::{tag, take_while_m_n};
use nom::character::streaming::char;
use nom::combinator::{map, map_res, opt};
use nom::error::Error;
use nom::sequence::{preceded, terminated};
use nom::{IResult, Parser};
use wirespan_parser_api::ParseError;

/// A line of the client's.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Request<'a> {
    /// 1 to 16 capital letters.
    pub(crate) verb: &'a str,
    /// 1 to 256 printable characters.
    pub(crate) key: &'a str,
    /// Bytes behind the line; below 10^15.
    pub(crate) body: u64,
}

/// A line of the server's.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Reply<'a> {
    /// `OK [length]`.
    Done {
        /// Bytes behind the line; below 10^15.
        body: u64,
    },
    /// `ERR code`.
    Failed {
        /// 1 to 32 printable characters.
        code: &'a str,
    },
}

type Read<T> = Result<Option<(T, usize)>, ParseError>;

/// The client's greeting: its length.
pub(crate) fn hello(bytes: &[u8]) -> Result<Option<usize>, ParseError> {
    let read = whole(bytes, tag(&b"EXAMPLE/1"[..]), "greeting")?;
    Ok(read.map(|(_, len)| len))
}

/// `VERB key [length]`.
pub(crate) fn request(bytes: &[u8]) -> Read<Request<'_>> {
    let line = (verb, preceded(char(' '), printable::<256>), length);
    let request = map(line, |(verb, key, body)| Request { verb, key, body });
    whole(bytes, request, "request line")
}

/// `OK [length]` or `ERR code`.
pub(crate) fn reply(bytes: &[u8]) -> Read<Reply<'_>> {
    if matches!(bytes, [b'E', ..]) {
        let code = preceded(tag(&b"ERR "[..]), printable::<32>);
        return whole(
            bytes,
            map(code, |code| Reply::Failed { code }),
            "reply line",
        );
    }
    let body = preceded(tag(&b"OK"[..]), length);
    whole(bytes, map(body, |body| Reply::Done { body }), "reply line")
}

/// Runs a grammar up to and with the line's end.
fn whole<'a, T>(
    bytes: &'a [u8],
    grammar: impl Parser<&'a [u8], Output = T, Error = Error<&'a [u8]>>,
    what: &'static str,
) -> Read<T> {
    match terminated(grammar, tag(&b"\r\n"[..])).parse(bytes) {
        Ok((rest, item)) => Ok(Some((item, bytes.len().saturating_sub(rest.len())))),
        Err(nom::Err::Incomplete(_)) => Ok(None),
        Err(_) => Err(ParseError::malformed(what)),
    }
}

fn verb(bytes: &[u8]) -> IResult<&[u8], &str> {
    let letters = take_while_m_n(1, 16, |byte: u8| byte.is_ascii_uppercase());
    map_res(letters, core::str::from_utf8).parse(bytes)
}

fn printable<const MAX: usize>(bytes: &[u8]) -> IResult<&[u8], &str> {
    let letters = take_while_m_n(1, MAX, |byte: u8| byte.is_ascii_graphic());
    map_res(letters, core::str::from_utf8).parse(bytes)
}

/// ` length`, or nothing for no body.
fn length(bytes: &[u8]) -> IResult<&[u8], u64> {
    let digits = take_while_m_n(1, 15, |byte: u8| byte.is_ascii_digit());
    let number = map_res(map_res(digits, core::str::from_utf8), str::parse);
    map(opt(preceded(char(' '), number)), Option::unwrap_or_default).parse(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_greeting_is_a_line_of_its_own() {
        let line = b"EXAMPLE/1\r\n";
        assert_eq!(hello(&[line, &b"GET"[..]].concat()), Ok(Some(line.len())));
        assert_eq!(hello(b"EXAMPLE"), Ok(None));
        assert!(hello(b"EXAMPLE/2\r\n").is_err());
    }

    #[test]
    fn a_request_has_verb_and_key() {
        let (request, len) = request(b"GET item:7\r\nmore").unwrap().unwrap();
        assert_eq!(
            (request.verb, request.key, request.body),
            ("GET", "item:7", 0)
        );
        assert_eq!(len, 12);
    }

    #[test]
    fn a_request_may_announce_a_body() {
        let (request, _) = request(b"PUT k 5\r\nhello").unwrap().unwrap();
        assert_eq!(request.body, 5);
    }

    #[test]
    fn a_partial_line_is_no_error_at_any_length() {
        let line = b"PUT k 5\r\n";
        for n in 0..line.len() {
            assert_eq!(request(&line[..n]), Ok(None), "{n} bytes");
        }
    }

    #[test]
    fn a_key_that_never_ends_is_an_error() {
        let mut line = b"GET ".to_vec();
        line.resize(300, b'x');
        assert!(request(&line).is_err());
    }

    #[test]
    fn lower_case_is_no_verb() {
        assert!(request(b"get k\r\n").is_err());
    }

    #[test]
    fn replies_succeed_or_fail() {
        assert_eq!(reply(b"OK\r\n"), Ok(Some((Reply::Done { body: 0 }, 4))));
        assert_eq!(reply(b"OK 12\r\n"), Ok(Some((Reply::Done { body: 12 }, 7))));
        let failed = Reply::Failed { code: "NOTFOUND" };
        assert_eq!(reply(b"ERR NOTFOUND\r\n"), Ok(Some((failed, 14))));
        assert!(reply(b"PERHAPS\r\n").is_err());
    }
}
