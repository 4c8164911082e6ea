//! Heads that break the grammar, read as leniently as peers in the field read them.
//!
//! The start line must still say what it is: nothing is made up. Lines end with LF, CRs before it
//! are dropped, a line that begins with white space continues the one before (obs-fold, RFC 9112
//! §5.2), white space around names is dropped, and a line without a colon is passed over.

use wirespan_parser_api::Flags;

use crate::framing::Framing;
use crate::head::{Fields, RequestFields, RequestLine, StatusLine};
use crate::read::Read;

/// Longest method that is believed.
pub(crate) const MAX_METHOD: usize = 32;
/// Longest status code that is believed; the grammar has three digits.
const MAX_CODE: usize = 4;
/// Longest version, with what stands around it, that is searched for a status code.
const MAX_VERSION: usize = 32;

/// Reads the head of a request: `method SP target SP HTTP/1.x`, where the target may hold spaces; or
/// what [`versionless`] accepts.
pub(crate) fn request<'a>(
    bytes: &'a [u8],
    fields: &mut RequestFields<'a>,
) -> Read<RequestLine<'a>> {
    const BAD: Read<RequestLine<'_>> = Read::Bad("request line");
    let front = bytes.iter().take(MAX_METHOD.saturating_add(1));
    let method_len = front.take_while(|b| is_token(**b)).count();
    match bytes.get(method_len) {
        _ if method_len > MAX_METHOD => return BAD,
        None => return short(bytes),
        Some(b' ' | b'\t') if method_len > 0 => {}
        Some(_) => return BAD,
    }
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        return short(bytes);
    };
    let line = bytes.get(..end).unwrap_or_default().trim_ascii_end();
    let Some((method, rest)) = line.split_at_checked(method_len) else {
        return BAD;
    };
    let (target, minor) = match version(rest) {
        Some((target, minor)) => (target, Some(minor)),
        None => match versionless(bytes) {
            Read::Done(target, _) => (target, None),
            Read::Short(n) => return Read::Short(n),
            Read::Bad(_) => return BAD,
        },
    };
    let Ok(method) = str::from_utf8(method) else {
        return BAD;
    };
    match headers(bytes, end.saturating_add(1), SpaceLine::Folds, fields) {
        None => short(bytes),
        Some((len, flags)) => {
            fields.framing.old = !matches!(minor, Some(1..));
            let plain = is_plain(bytes, end) && !target.contains(&b' ') && minor.is_some();
            let line = RequestLine {
                method,
                target,
                minor,
                flags: if plain { flags } else { Flags::AMBIGUOUS },
            };
            Read::Done(line, len)
        }
    }
}

/// Splits ` target HTTP/1.x` into the target and the last digit.
fn version(rest: &[u8]) -> Option<(&[u8], u8)> {
    let (
        target,
        [
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            minor @ b'0'..=b'9',
        ],
    ) = rest.split_last_chunk::<8>()?
    else {
        return None;
    };
    let separated = target.ends_with(b" ") || target.ends_with(b"\t");
    let target = target.trim_ascii();
    (separated && !target.is_empty()).then_some((target, minor.wrapping_sub(b'0')))
}

/// Reads the target of a request line without a version: a usual method and a path, before a
/// well-formed header. HTTP/0.9, which has such lines, has no headers.
pub(crate) fn versionless(bytes: &[u8]) -> Read<&[u8]> {
    const BAD: Read<&[u8]> = Read::Bad("request line");
    let Some(rest) = known_method(bytes) else {
        return BAD;
    };
    let visible = |b: &&u8| matches!(b, b'!'..=b'~' | 0x80..);
    let len = rest.iter().take_while(visible).count();
    let Some((target, rest)) = rest.split_at_checked(len) else {
        return BAD;
    };
    let header = match rest {
        _ if !b"/".starts_with(target.get(..1).unwrap_or_default()) => return BAD,
        [] | [b'\r'] | [b'\r', b'\n'] | [b'\n'] => return short(bytes),
        [b'\r', b'\n', header @ ..] | [b'\n', header @ ..] if len > 0 => header,
        _ => return BAD,
    };
    let name = header.iter().take_while(|b| is_token(**b)).count();
    let value = header.get(name..).unwrap_or_default();
    let text = |b: &&u8| matches!(b, b'\t' | b' '..=b'~' | 0x80..);
    let value_len = value.iter().take_while(text).count();
    match (value, value.get(value_len..).unwrap_or_default()) {
        ([], _) => short(bytes),
        ([b':', ..], [] | [b'\r']) if name > 0 => short(bytes),
        ([b':', ..], [b'\n', ..] | [b'\r', b'\n', ..]) if name > 0 => {
            Read::Done(target, bytes.len().saturating_sub(rest.len()))
        }
        _ => BAD,
    }
}

/// What follows a usual method and its space.
pub(crate) fn known_method(bytes: &[u8]) -> Option<&[u8]> {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"HEAD ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"TRACE ",
        b"PROPFIND ",
    ];
    METHODS
        .iter()
        .find_map(|method| bytes.strip_prefix(*method))
}

/// Reads the head of a response: `HTTP/`, a version, something that parts, digits.
pub(crate) fn response<'a>(bytes: &'a [u8], framing: &mut Framing<'a>) -> Read<StatusLine<'a>> {
    const BAD: Read<StatusLine<'_>> = Read::Bad("status line");
    const NAME: &[u8] = b"HTTP/";
    let visible = bytes.get(..NAME.len()).unwrap_or(bytes);
    if !NAME
        .get(..visible.len())
        .unwrap_or_default()
        .eq_ignore_ascii_case(visible)
    {
        return BAD;
    }
    let after = bytes.get(NAME.len()..).unwrap_or_default();
    let version = version_len(after);
    let parted = after.get(version..).unwrap_or_default();
    let gap = separator_len(parted);
    let digits = parted.get(gap..).unwrap_or_default();
    let digits_len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    if version == 0 || version.saturating_add(gap) > MAX_VERSION || digits_len > MAX_CODE {
        return if after.is_empty() { short(bytes) } else { BAD };
    }
    // A fold may follow the LF.
    if digits == b"\n" {
        return short(bytes);
    }
    let Some(code) = digits
        .get(..digits_len)
        .filter(|_| digits_len < digits.len())
    else {
        return short(bytes);
    };
    if gap == 0 || code.is_empty() {
        return BAD;
    }
    let Some((status, code)) = status(code) else {
        return BAD;
    };
    let start = NAME.len().saturating_add(version).saturating_add(gap);
    let line_end = digits.iter().position(|b| *b == b'\n');
    let Some(end) = line_end.map(|at| at.saturating_add(start)) else {
        return short(bytes);
    };
    let three = matches!(digits, [_, _, b'0'..=b'9', b' ' | b'\r', ..]) && digits_len == 3;
    let spaced = version == 3 && parted.starts_with(b" ") && gap == 1;
    let plain = is_plain(bytes, end) && bytes.starts_with(b"HTTP/1.") && spaced && three;
    match headers(bytes, end.saturating_add(1), SpaceLine::MayEnd, framing) {
        None => short(bytes),
        Some((len, flags)) => {
            let minor = u8::from(!after.starts_with(b"1.0"));
            framing.old = minor == 0;
            let line = StatusLine {
                status,
                code,
                minor,
                flags: if plain { flags } else { Flags::AMBIGUOUS },
            };
            Read::Done(line, len)
        }
    }
}

const fn short<T>(bytes: &[u8]) -> Read<T> {
    Read::Short(bytes.len().saturating_add(1))
}

/// Length of the version after `HTTP/`: digits and dots, between which NULs are passed over.
fn version_len(bytes: &[u8]) -> usize {
    let mut len = 0usize;
    while len <= MAX_VERSION {
        match bytes.get(len..).unwrap_or_default() {
            [b'0'..=b'9' | b'.', ..] => len = len.saturating_add(1),
            [0, b'.', ..] => len = len.saturating_add(2),
            _ => break,
        }
    }
    len
}

/// Length of what parts version and status code: white space, control characters that some readers
/// take for it, and a fold.
fn separator_len(bytes: &[u8]) -> usize {
    let mut len = 0usize;
    while len <= MAX_VERSION {
        match bytes.get(len..).unwrap_or_default() {
            [b' ' | b'\t' | b'\r' | 0x0b | 0x0c | 0, ..] => len = len.saturating_add(1),
            [b'\n', b' ' | b'\t', ..] => len = len.saturating_add(2),
            _ => break,
        }
    }
    len
}

/// A status code as text and number, without zeros that pad it to more than three digits.
fn status(mut digits: &[u8]) -> Option<(&str, u16)> {
    while let [b'0', rest @ ..] = digits
        && rest.len() >= 3
    {
        digits = rest;
    }
    let text = str::from_utf8(digits).ok()?;
    Some((text, text.parse().ok()?))
}

/// What a line of nothing but white space is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum SpaceLine {
    /// A fold, whatever follows: no part of a request's head may become a request.
    Folds,
    /// A fold if a header or another such line follows, else the end of the head.
    MayEnd,
}

/// Gives each header from `at` on to `fields`. The offset behind the blank line that ends the head,
/// and whether all was well-formed; `None` where that line is not visible.
fn headers<'a>(
    bytes: &'a [u8],
    mut at: usize,
    space_line: SpaceLine,
    fields: &mut impl Fields<'a>,
) -> Option<(usize, Flags)> {
    let mut flags = Flags::NONE;
    // Where the header that is not yet complete begins and ends.
    let mut held: Option<(usize, usize)> = None;
    loop {
        let end = bytes.get(at..)?.iter().position(|b| *b == b'\n')?;
        let end = end.saturating_add(at);
        let next = end.saturating_add(1);
        let line = bytes.get(at..end)?;
        let spaced = matches!(line, [b' ' | b'\t', ..]);
        let ends = match spaced && line.trim_ascii().is_empty() {
            true if space_line == SpaceLine::MayEnd => !is_header_ahead(bytes.get(next..)?)?,
            true => false,
            false => line.iter().all(|b| *b == b'\r'),
        };
        let folded = spaced && !ends;
        if spaced || !is_plain(bytes, end) {
            flags = Flags::AMBIGUOUS;
        }
        match held {
            Some((start, _)) if folded => held = Some((start, end)),
            _ => {
                if let Some((start, end)) = held {
                    flags = flags.with(header(bytes.get(start..end)?, fields));
                }
                if ends {
                    return Some((next, flags));
                }
                held = Some((at, end));
            }
        }
        at = next;
    }
}

/// Whether a header, a fold or a blank line comes next; `None` where too little is visible.
fn is_header_ahead(bytes: &[u8]) -> Option<bool> {
    let token = bytes.iter().take_while(|b| is_token(**b)).count();
    let first = bytes.get(token)?;
    Some(match token {
        0 => matches!(first, b' ' | b'\t' | b'\r' | b'\n'),
        _ => *first == b':',
    })
}

/// Gives one header with its folds to `fields`.
fn header<'a>(line: &'a [u8], fields: &mut impl Fields<'a>) -> Flags {
    let Some(colon) = line.iter().position(|b| *b == b':') else {
        return Flags::AMBIGUOUS;
    };
    let (name, value) = line.split_at(colon);
    let value = value.get(1..).unwrap_or_default();
    fields.header(name.trim_ascii(), value.trim_ascii());
    let odd = |b: &u8| !matches!(b, b'\t' | b' '..=b'~' | 0x80..);
    let value = value.strip_suffix(b"\r").unwrap_or(value);
    if name.is_empty() || !name.iter().all(|b| is_token(*b)) || value.iter().any(odd) {
        Flags::AMBIGUOUS
    } else {
        Flags::NONE
    }
}

/// Whether the line whose LF is at `end` ends with CR LF, and holds no other CR before it.
fn is_plain(bytes: &[u8], end: usize) -> bool {
    let line = bytes.get(..end).unwrap_or_default();
    matches!(line, [before @ .., b'\r'] if !before.ends_with(b"\r"))
}

/// Whether a byte may stand in a method or a header name (RFC 9110 §5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Body;

    fn read_request(head: &str) -> Read<RequestLine<'_>> {
        request(head.as_bytes(), &mut RequestFields::default())
    }

    fn status_of(head: &str) -> Option<(&str, Flags)> {
        match response(head.as_bytes(), &mut Framing::default()) {
            Read::Done(line, len) => {
                assert_eq!(len, head.len());
                Some((line.status, line.flags))
            }
            Read::Short(_) | Read::Bad(_) => None,
        }
    }

    fn body_of(headers: &str) -> Body {
        let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n");
        let mut framing = Framing::default();
        match response(head.as_bytes(), &mut framing) {
            Read::Done(line, _) => {
                assert_eq!(line.flags, Flags::AMBIGUOUS, "{headers:?}");
                framing.response_body().0
            }
            other => panic!("{headers:?}: {other:?}"),
        }
    }

    #[test]
    fn a_status_line_is_read_however_it_is_parted() {
        for line in [
            "HTTP/1.1  200 ok",
            "HTTP/1.1\t200 ok",
            "HTTP/1.1 \t200 ok",
            "HTTP/1.1\r 200 ok",
            "HTTP/1.1\n 200 ok",
            "HTTP/1.1\r\n\t200 ok",
            "HTTP/1.1\0 200 ok",
            "HTTP/1.1\x0b200\x0bok",
            "HTTP/1\0.1 200 ok",
            "HTTP/1.1 200ok",
            "HTTP/1.1 0200 ok",
            "http/1.1 200 ok",
            "HTTP/2.0 200 ok",
            "HTTP/1.10 200 ok",
            "HTTP/0.9 200 ok",
            "HTTP/1.1 200 o\0k",
        ] {
            let head = format!("{line}\r\n\r\n");
            let status = status_of(&head);
            assert_eq!(status.map(|s| s.0), Some("200"), "{line:?}");
        }
    }

    #[test]
    fn a_status_is_never_made_up() {
        for line in [
            "HTTP/1.1",
            "HTTP/1.1 ok",
            "HTTP/1.1foobar",
            "HTTP/1.1foobar 200 ok",
            "HTTP/1.1 foo 200",
            "HTTP/1.1 20000 ok",
            "HTTP/ 200 ok",
            "HTTP 200 ok",
            "SIP/2.0 200 ok",
            "foobar",
        ] {
            assert_eq!(status_of(&format!("{line}\r\n\r\n")), None, "{line:?}");
        }
    }

    #[test]
    fn an_odd_status_is_kept_as_sent() {
        for (line, status) in [
            ("HTTP/1.1 2 ok", "2"),
            ("HTTP/1.1 20x ok", "20"),
            ("HTTP/1.1 2040 ok", "2040"),
            ("HTTP/1.1 0204 ok", "204"),
        ] {
            let head = format!("{line}\r\n\r\n");
            assert_eq!(status_of(&head), Some((status, Flags::AMBIGUOUS)));
        }
    }

    #[test]
    fn a_header_may_be_folded_or_badly_spaced() {
        for headers in [
            "Transfer-Encoding: \r\n chunked",
            "Transfer-Encoding: chunked\r\n \r\nA: b",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding\t: chunked",
            "Transfer-Encoding\r: chunked",
            " Transfer-Encoding: chunked",
            "no colon\r\nTransfer-Encoding: chunked",
            "A: \0\r\nTransfer-Encoding: chunked",
            "A: b\r\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(body_of(headers), Body::Chunked, "{headers:?}");
        }
    }

    #[test]
    fn a_line_of_white_space_ends_a_response_head_before_anything_but_a_header() {
        let head = "HTTP/1.1 200 ok\r\nA: b\n \n";
        for body in ["X5O!P%@AP", "\x1f\x08", "{}"] {
            let bytes = format!("{head}{body}");
            let read = response(bytes.as_bytes(), &mut Framing::default());
            assert!(
                matches!(read, Read::Done(_, len) if len == head.len()),
                "{body:?}"
            );
        }
        let read = read_request("GET / HTTP/1.1\r\nA: b\r\n \r\n{}");
        assert!(matches!(read, Read::Short(_)), "a request's head goes on");
    }

    #[test]
    fn a_well_formed_head_is_not_ambiguous_here_either() {
        let head = "HTTP/1.1 200 OK\r\nA: b\r\nC:\td\r\n\r\n";
        assert_eq!(status_of(head), Some(("200", Flags::NONE)));
        let Read::Done(line, _) = read_request("GET / HTTP/1.1\r\nA: b\r\n\r\n") else {
            panic!("not read");
        };
        assert_eq!(line.flags, Flags::NONE);
    }

    #[test]
    fn a_target_may_hold_spaces() {
        let Read::Done(line, _) = read_request("GET  /a b  HTTP/1.1\r\n\r\n") else {
            panic!("not read");
        };
        assert_eq!((line.method, line.target), ("GET", &b"/a b"[..]));
        assert_eq!(line.flags, Flags::AMBIGUOUS);
    }

    #[test]
    fn a_request_line_without_http_1_is_refused() {
        for line in [
            "GET /",
            "GET / HTTP/0.9",
            "PRI * HTTP/2.0",
            "GET / HTTP/1.1x",
            "GET HTTP/1.1",
            "GET /HTTP/1.1",
            "OPTIONS sip:x SIP/2.0",
            "DESCRIBE rtsp://x RTSP/1.0",
            "",
            " GET / HTTP/1.1",
            "G(T / HTTP/1.1",
        ] {
            let head = format!("{line}\r\n\r\n");
            assert_eq!(read_request(&head), Read::Bad("request line"), "{line:?}");
        }
    }

    #[test]
    fn a_version_may_lack_where_a_header_follows() {
        let Read::Done(line, _) = read_request("GET /a?b\r\nHost: h\r\n\r\n") else {
            panic!("not read");
        };
        assert_eq!((line.target, line.minor), (&b"/a?b"[..], None));
        assert_eq!(line.flags, Flags::AMBIGUOUS);
        for head in [
            "GET /a\r\nno header\r\n\r\n",
            "GET /a\r\nname : b\r\n\r\n",
            "GET /a\r\n: b\r\n\r\n",
            "GET /a b\r\nHost: h\r\n\r\n",
            "GET a\r\nHost: h\r\n\r\n",
            "FETCH /a\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(read_request(head), Read::Bad("request line"), "{head:?}");
        }
    }

    #[test]
    fn every_prefix_of_a_lax_head_asks_for_more() {
        let head = "HTTP/1.1\n 200 ok\r\nA : b\r\n\r\n";
        for n in 0..head.len() {
            let read = response(&head.as_bytes()[..n], &mut Framing::default());
            assert_eq!(read, Read::Short(n + 1), "{n}");
        }
        for head in [
            "GET /a b HTTP/1.1\r\nA : b\r\n\r\n",
            "GET /a\r\nA: b\r\n\r\n",
        ] {
            for n in 0..head.len() {
                assert_eq!(read_request(&head[..n]), Read::Short(n + 1), "{n}");
            }
        }
    }
}
