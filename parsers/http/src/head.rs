//! Message heads: start line and headers, read once by httparse.
//!
//! What httparse refuses goes to [`lax`], which reads what servers and clients in the
//! field accept all the same, and says that it did.

use std::mem::MaybeUninit;

use httparse::{Header, Status};
use wirespan_parser_api::{Direction, Flags, TraceHeaders};

use crate::framing::Framing;
use crate::read::Read;
use crate::{lax, probe};

/// Headers that httparse stores; a head with more is read by [`lax`]. Uninitialised stack, so that a
/// large number costs nothing.
const MAX_HEADERS: usize = 256;

/// A request line (RFC 9112 §3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct RequestLine<'a> {
    /// A token, in the case in which it was sent.
    pub(crate) method: &'a str,
    /// The request target as sent; not empty.
    pub(crate) target: &'a [u8],
    /// The digit after `HTTP/1.`; `None` where no version was sent.
    pub(crate) minor: Option<u8>,
    /// [`Flags::AMBIGUOUS`] where the head is not well-formed.
    pub(crate) flags: Flags,
}

/// A status line (RFC 9112 §4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StatusLine<'a> {
    /// The status code: one to four digits.
    pub(crate) status: &'a str,
    /// Its value.
    pub(crate) code: u16,
    /// The digit after `HTTP/1.`; 1 where the version is another.
    pub(crate) minor: u8,
    /// [`Flags::AMBIGUOUS`] where the head is not well-formed.
    pub(crate) flags: Flags,
}

/// Takes the headers of a message one by one.
pub(crate) trait Fields<'a> {
    /// Takes one header; `value` has no white space around it.
    fn header(&mut self, name: &[u8], value: &'a [u8]);
}

/// The headers of a request that matter.
#[derive(Debug, Default)]
pub(crate) struct RequestFields<'a> {
    pub(crate) framing: Framing<'a>,
    pub(crate) trace: TraceHeaders<'a>,
    pub(crate) host: Option<&'a [u8]>,
    pub(crate) user_agent: Option<&'a [u8]>,
    /// The first `Forwarded`.
    pub(crate) forwarded: Option<&'a [u8]>,
    /// The first `X-Forwarded-For`.
    pub(crate) x_forwarded_for: Option<&'a [u8]>,
}

impl<'a> Fields<'a> for RequestFields<'a> {
    #[inline]
    fn header(&mut self, name: &[u8], value: &'a [u8]) {
        match (name.len(), name) {
            (4, _) if name.eq_ignore_ascii_case(b"host") => self.host = Some(value),
            (9, _) if name.eq_ignore_ascii_case(b"forwarded") => {
                self.forwarded.get_or_insert(value);
            }
            (10, [b'u' | b'U', ..]) if name.eq_ignore_ascii_case(b"user-agent") => {
                self.user_agent = Some(value);
            }
            (15, [b'x' | b'X', ..]) if name.eq_ignore_ascii_case(b"x-forwarded-for") => {
                self.x_forwarded_for.get_or_insert(value);
            }
            (_, [b'b' | b'B' | b'x' | b'X', ..]) => self.trace.header(name, value),
            (_, [b't' | b'T', b'r' | b'R', b'a' | b'A', b'c' | b'C', ..]) => {
                self.trace.header(name, value);
            }
            _ => self.framing.header(name, value),
        }
    }
}

impl<'a> Fields<'a> for Framing<'a> {
    #[inline]
    fn header(&mut self, name: &[u8], value: &'a [u8]) {
        Framing::header(self, name, value);
    }
}

/// Reads the head of a request, which begins at the first of `bytes`.
pub(crate) fn request<'a>(
    bytes: &'a [u8],
    fields: &mut RequestFields<'a>,
) -> Read<RequestLine<'a>> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(bytes, &mut headers) {
        Ok(Status::Partial) => Read::Short(bytes.len().saturating_add(1)),
        Ok(Status::Complete(len)) => {
            let flags = walk(bytes, len, head.headers, fields);
            let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version)
            else {
                return Read::Bad("request line");
            };
            fields.framing.old = minor == 0;
            let line = RequestLine {
                method,
                target: target.as_bytes(),
                minor: Some(minor),
                flags,
            };
            Read::Done(line, len)
        }
        Err(_) => lax::request(bytes, fields),
    }
}

/// Reads the head of a response, which begins at the first of `bytes`.
pub(crate) fn response<'a>(bytes: &'a [u8], framing: &mut Framing<'a>) -> Read<StatusLine<'a>> {
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut head, bytes, &mut headers) {
        Ok(Status::Partial) => Read::Short(bytes.len().saturating_add(1)),
        Ok(Status::Complete(len)) => {
            let flags = walk(bytes, len, head.headers, framing);
            // `HTTP/1.x SP`, then the code: httparse accepts no other spacing.
            let digits = bytes.get(9..12).unwrap_or_default();
            let (Some(code), Some(minor), Ok(status)) =
                (head.code, head.version, str::from_utf8(digits))
            else {
                return Read::Bad("status line");
            };
            framing.old = minor == 0;
            let line = StatusLine {
                status,
                code,
                minor,
                flags,
            };
            Read::Done(line, len)
        }
        Err(_) => lax::response(bytes, framing),
    }
}

/// The complete lines of a head whose rest was lost, ended as if there were no more; `None` without
/// a whole and well-formed start line.
pub(crate) fn front(dir: Direction, unread: &[u8]) -> Option<Vec<u8>> {
    let starts = match dir {
        Direction::ToServer => probe::is_request(unread),
        Direction::ToClient => probe::is_response(unread),
    };
    let end = unread
        .iter()
        .rposition(|b| *b == b'\n')
        .filter(|_| starts)?;
    Some([unread.get(..=end)?, b"\r\n"].concat())
}

/// Gives the headers to `fields`; notices line ends that are LF alone, which httparse accepts.
fn walk<'a>(
    bytes: &'a [u8],
    len: usize,
    headers: &[Header<'a>],
    fields: &mut impl Fields<'a>,
) -> Flags {
    let end = bytes.get(len.saturating_sub(4)..len);
    let mut well_formed = end == Some(b"\r\n\r\n");
    let start = bytes.as_ptr().addr();
    for header in headers {
        let at = header.name.as_ptr().addr().wrapping_sub(start);
        well_formed &= bytes.get(at.wrapping_sub(2)..at) == Some(b"\r\n");
        fields.header(header.name.as_bytes(), header.value);
    }
    if well_formed {
        Flags::NONE
    } else {
        Flags::AMBIGUOUS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_request(bytes: &[u8]) -> Read<RequestLine<'_>> {
        request(bytes, &mut RequestFields::default())
    }

    fn read_response(bytes: &[u8]) -> Read<StatusLine<'_>> {
        response(bytes, &mut Framing::default())
    }

    #[test]
    fn a_request_head_is_read() {
        let bytes = b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\nrest";
        let line = RequestLine {
            method: "GET",
            target: b"/a?b",
            minor: Some(1),
            flags: Flags::NONE,
        };
        assert_eq!(read_request(bytes), Read::Done(line, 30));
        for n in 0..30 {
            assert_eq!(read_request(&bytes[..n]), Read::Short(n + 1), "{n}");
        }
    }

    #[test]
    fn a_response_head_is_read() {
        let bytes = b"HTTP/1.0 404 Not Found\r\nA: b\r\n\r\nrest";
        let line = StatusLine {
            status: "404",
            code: 404,
            minor: 0,
            flags: Flags::NONE,
        };
        assert_eq!(read_response(bytes), Read::Done(line, 32));
        for n in 0..32 {
            assert_eq!(read_response(&bytes[..n]), Read::Short(n + 1), "{n}");
        }
    }

    #[test]
    fn a_line_that_ends_with_lf_alone_is_ambiguous() {
        for head in [
            "GET / HTTP/1.1\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\n\n",
            "GET / HTTP/1.1\r\nA: b\r\n\n",
            "GET / HTTP/1.1\n\n",
        ] {
            let Read::Done(line, len) = read_request(head.as_bytes()) else {
                panic!("{head:?}");
            };
            assert_eq!(
                (line.flags, len),
                (Flags::AMBIGUOUS, head.len()),
                "{head:?}"
            );
        }
    }

    #[test]
    fn the_headers_that_matter_are_kept() {
        let mut fields = RequestFields::default();
        let head = b"GET / HTTP/1.0\r\nHOST: h\r\nUser-Agent: u\r\nX-Forwarded-For: 1\r\n\
            x-forwarded-for: 2\r\nForwarded: for=3\r\nUpgrade: w\r\nConnection: upgrade\r\n\r\n";
        assert!(matches!(request(head, &mut fields), Read::Done(..)));
        assert_eq!(
            (fields.host, fields.user_agent),
            (Some(&b"h"[..]), Some(&b"u"[..]))
        );
        assert_eq!(fields.x_forwarded_for, Some(&b"1"[..]));
        assert_eq!(fields.forwarded, Some(&b"for=3"[..]));
        assert_eq!(fields.framing.upgrade, Some(&b"w"[..]));
        assert!(fields.framing.connection_upgrade && fields.framing.old);
    }

    #[test]
    fn a_head_with_very_many_headers_is_read() {
        let head = format!(
            "GET / HTTP/1.1\r\n{}host: h\r\n\r\n",
            "a: b\r\n".repeat(1_000)
        );
        let mut fields = RequestFields::default();
        let Read::Done(_, len) = request(head.as_bytes(), &mut fields) else {
            panic!("not read");
        };
        assert_eq!((len, fields.host), (head.len(), Some(&b"h"[..])));
    }
}
