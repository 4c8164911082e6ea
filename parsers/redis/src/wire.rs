//! The grammar of RESP: bytes to items. Pure functions over `&[u8]`; the only user of nom.
//!
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use memchr::memchr;
use nom::branch::alt;
use nom::bytes::streaming::{tag, take_while_m_n};
use nom::character::streaming::{i64 as signed, u32 as length};
use nom::combinator::{map, value};
use nom::sequence::{delimited, terminated};
use nom::{Err, IResult, Parser as _};
use wirespan_parser_api::{ErrorKind, ParseError};

/// Longest line that is believed, in bytes: Redis's own bound on inline commands
/// (`PROTO_INLINE_MAX_SIZE`).
pub(crate) const MAX_LINE: usize = 64 * 1024;
/// Longest first word of an error that is believed, in bytes.
const MAX_STATUS: usize = 64;

/// What a value begins with. Its payload, if any, follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Item {
    /// Text up to a line end follows: simple string, error, double, big number.
    Line,
    /// A complete integer.
    Integer(i64),
    /// A complete null or boolean.
    Scalar,
    /// A payload of this many bytes and a line end follow: bulk string, blob error, verbatim string.
    Bulk(u64),
    /// This many values follow: array, map, set, push.
    Aggregate(u64),
    /// This many values follow, and then the value that they describe.
    Attribute(u64),
}

/// Why there is no item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// More bytes must be visible.
    Short,
    /// The bytes are not RESP.
    Bad(ParseError),
}

impl Stop {
    pub(crate) const fn malformed(what: &'static str) -> Self {
        Self::Bad(ParseError::malformed(what))
    }
}

/// Reads the beginning of a value: the item, and the bytes it took.
#[inline]
pub(crate) fn item(bytes: &[u8]) -> Result<(Item, usize), Stop> {
    let &[kind, ref rest @ ..] = bytes else {
        return Err(Stop::Short);
    };
    let (item, len) = match (kind, number(rest)) {
        (b'+', _) => (Item::Line, 0),
        (b'$', Some((n, len))) => (Item::Bulk(n), len),
        (b'*', Some((n, len))) => (Item::Aggregate(n), len),
        (b':', Some((n, len))) => (Item::Integer(n.cast_signed()), len),
        _ => any_item(kind, rest)?,
    };
    Ok((item, len.saturating_add(1)))
}

/// Reads any item behind its `kind`.
fn any_item(kind: u8, rest: &[u8]) -> Result<(Item, usize), Stop> {
    Ok(match kind {
        b'-' | b',' | b'(' => (Item::Line, 0),
        b'$' => finish(
            rest,
            alt((null, map(size, Item::Bulk))).parse(rest),
            "bulk length",
        )?,
        b'*' => finish(
            rest,
            alt((null, map(size, Item::Aggregate))).parse(rest),
            "array length",
        )?,
        b':' => finish(rest, map(integer, Item::Integer).parse(rest), "integer")?,
        b'!' | b'=' => finish(rest, map(size, Item::Bulk).parse(rest), "blob length")?,
        b'~' | b'>' => finish(
            rest,
            map(size, Item::Aggregate).parse(rest),
            "aggregate length",
        )?,
        b'%' => finish(rest, map(pairs, Item::Aggregate).parse(rest), "map length")?,
        b'|' => finish(
            rest,
            map(pairs, Item::Attribute).parse(rest),
            "attribute length",
        )?,
        b'_' => finish(rest, value(Item::Scalar, tag("\r\n")).parse(rest), "null")?,
        b'#' => finish(rest, boolean(rest), "boolean")?,
        // Of the parts of a streamed value: specified, but sent by no server.
        b';' | b'.' => return Err(STREAMED),
        _ => return Err(Stop::malformed("type")),
    })
}

/// Reads [`number`] behind a `kind`.
#[inline]
fn counted(kind: u8, bytes: &[u8]) -> Option<(u64, usize)> {
    let (first, rest) = bytes.split_first()?;
    let (n, len) = number(rest).filter(|_| *first == kind)?;
    Some((n, len.saturating_add(1)))
}

/// Reads `<n>\r\n` where it is whole and of at most nine digits, as nearly every number is. All
/// others, the wrong ones among them, are left to nom.
#[inline]
fn number(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut n = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        match byte {
            b'0'..=b'9' if at < 9 => {
                n = n.wrapping_mul(10).wrapping_add(u64::from(byte & 0xf));
            }
            b'\r' if at > 0 => {
                let end = at.saturating_add(1);
                return (bytes.get(end) == Some(&b'\n')).then_some((n, end.saturating_add(1)));
            }
            _ => break,
        }
    }
    None
}

/// A streamed string or aggregate (`$?`, `*?`, `;`, `.`).
const STREAMED: Stop = Stop::Bad(ParseError {
    kind: ErrorKind::Unsupported,
    what: "streamed value",
});

/// Measures a value that lies wholly in `bytes`, has no elements, and begins with `item`, whose own
/// bytes are the first `used`; `None` for any other.
#[inline]
pub(crate) fn whole(bytes: &[u8], item: Item, used: usize) -> Option<usize> {
    let rest = bytes.get(used..)?;
    let payload = match item {
        Item::Integer(_) | Item::Scalar => 0,
        Item::Bulk(n) => usize::try_from(n).ok()?.checked_add(2)?,
        Item::Line => line(rest).ok()?.filter(|len| *len <= MAX_LINE)?,
        Item::Aggregate(_) | Item::Attribute(_) => return None,
    };
    (payload <= rest.len()).then(|| used.saturating_add(payload))
}

/// Reads `*<n>\r\n` in front of a command: the number of its words, zero where Redis ignores it.
#[inline]
pub(crate) fn words(bytes: &[u8]) -> Result<(u64, usize), Stop> {
    if let Some((n, len)) = counted(b'*', bytes) {
        return Ok((n, len));
    }
    let head = delimited(tag("*"), signed, tag("\r\n")).parse(bytes);
    let (n, len) = finish(bytes, head, "command length")?;
    match u32::try_from(n.max(0)) {
        Ok(n) if i32::try_from(n).is_ok() => Ok((n.into(), len)),
        _ => Err(Stop::malformed("command length")),
    }
}

/// Reads `$<n>\r\n` in front of a word of a command: the word's length.
#[inline]
pub(crate) fn word(bytes: &[u8]) -> Result<(u64, usize), Stop> {
    if let Some((n, len)) = counted(b'$', bytes) {
        return Ok((n, len));
    }
    let head = delimited(tag("$"), length, tag("\r\n")).parse(bytes);
    finish(bytes, head, "argument length").map(|(n, len)| (n.into(), len))
}

/// Measures the rest of a line, its end included. `None` when the end is not visible; then all
/// bytes but a last `\r` belong to the line.
pub(crate) fn line(bytes: &[u8]) -> Result<Option<usize>, Stop> {
    let Some(at) = memchr(b'\n', bytes) else {
        return Ok(None);
    };
    match at.checked_sub(1).and_then(|before| bytes.get(before)) {
        Some(b'\r') => Ok(Some(at.saturating_add(1))),
        _ => Err(Stop::malformed("line end")),
    }
}

/// Reads an inline command up to its `\n`: the text without the line end, and the bytes it took.
pub(crate) fn inline(bytes: &[u8]) -> Result<(&[u8], usize), Stop> {
    let Some(at) = memchr(b'\n', bytes) else {
        return Err(if bytes.len() < MAX_LINE {
            Stop::Short
        } else {
            Stop::Bad(ParseError::too_large("inline command"))
        });
    };
    let text = bytes.get(..at).unwrap_or_default();
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    Ok((text, at.saturating_add(1)))
}

/// Reads the first word of an error's text, which lies behind the type byte or the header.
///
/// `len` is the length of the text where it is known. The word is `ERR` where what is sent is not
/// of the form that Redis uses for error codes.
pub(crate) fn error_code(text: &[u8], len: Option<u64>) -> Result<&str, Stop> {
    let len = len.and_then(|len| usize::try_from(len).ok());
    let bound = len.unwrap_or(usize::MAX).min(MAX_STATUS);
    let seen = text.get(..bound).unwrap_or(text);
    let word = match seen.iter().position(|b| matches!(b, b' ' | b'\r' | b'\n')) {
        Some(end) => seen.get(..end).unwrap_or_default(),
        None if seen.len() < bound => return Err(Stop::Short),
        None if len == Some(bound) => seen,
        None => b"",
    };
    let code = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    Ok(match core::str::from_utf8(word) {
        Ok(word) if !word.is_empty() && word.bytes().all(|b| code(&b)) => word,
        _ => "ERR",
    })
}

/// Reads the word that an array or push begins with: `message` of
/// `*3\r\n$7\r\nmessage\r\n…`. `None` when its first value is not a short string.
pub(crate) fn announcement(bytes: &[u8]) -> Result<Option<&[u8]>, Stop> {
    /// Longest word that is of interest: `tracking-redir-broken`.
    const MAX_WORD: usize = 24;
    let (head, at) = item(bytes)?;
    if !matches!(head, Item::Aggregate(1..)) {
        return Ok(None);
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let (first, at) = item(rest)?;
    let text = rest.get(at..).unwrap_or_default();
    match (first, rest.first()) {
        (Item::Bulk(n), _) => match usize::try_from(n) {
            Ok(n) if n <= MAX_WORD => text.get(..n).map(Some).ok_or(Stop::Short),
            _ => Ok(None),
        },
        (Item::Line, Some(b'+')) => match text.iter().position(|b| *b == b'\r') {
            Some(end) => Ok(text.get(..end)),
            None if text.len() < MAX_WORD => Err(Stop::Short),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// Whether a simple string is a line of MONITOR: `+1339518083.107412 [0 127.0.0.1:60866] "keys"`.
pub(crate) fn is_monitor_line(bytes: &[u8]) -> Result<bool, Stop> {
    let digit = |b: u8| b.is_ascii_digit();
    let head: IResult<_, _, ()> = (
        tag("+"),
        take_while_m_n(1, 20, digit),
        tag("."),
        take_while_m_n(6, 6, digit),
        tag(" ["),
    )
        .parse(bytes);
    match head {
        Ok(_) => Ok(true),
        Err(Err::Incomplete(_)) => Err(Stop::Short),
        Err(_) => Ok(false),
    }
}

/// Reads `*<n>\r\n$<len>\r\n<name>\r\n`, with which every command begins: its name. Only names of
/// up to 32 bytes that begin with a letter are taken.
pub(crate) fn command_name(bytes: &[u8]) -> Result<&[u8], Stop> {
    const WHAT: Stop = Stop::malformed("command");
    if bytes.first().is_some_and(|b| *b != b'*') {
        return Err(WHAT);
    }
    let (n, at) = words(bytes)?;
    let rest = bytes.get(at..).unwrap_or_default();
    let (len, at) = word(rest)?;
    if n == 0 || len == 0 || len > 32 {
        return Err(WHAT);
    }
    let rest = rest.get(at..).unwrap_or_default();
    let end = usize::try_from(len).unwrap_or(usize::MAX);
    let seen = rest.get(..end).unwrap_or(rest);
    if !seen.iter().all(u8::is_ascii_graphic)
        || seen.first().is_some_and(|b| !b.is_ascii_alphabetic())
    {
        return Err(WHAT);
    }
    let tail = rest.get(end..).unwrap_or_default();
    match tail {
        [b'\r', b'\n', ..] => Ok(seen),
        [] | [b'\r'] => Err(Stop::Short),
        _ => Err(WHAT),
    }
}

fn finish<'a, T>(
    all: &'a [u8],
    result: IResult<&'a [u8], T, ()>,
    what: &'static str,
) -> Result<(T, usize), Stop> {
    match result {
        Ok((rest, item)) => Ok((item, all.len().saturating_sub(rest.len()))),
        Err(Err::Incomplete(_)) => Err(Stop::Short),
        Err(_) if all.first() == Some(&b'?') => Err(STREAMED),
        Err(_) => Err(Stop::malformed(what)),
    }
}

/// `-1\r\n`: the nulls of RESP2.
fn null(i: &[u8]) -> IResult<&[u8], Item, ()> {
    value(Item::Scalar, tag("-1\r\n")).parse(i)
}

/// A length. Redis's own bounds are lower: 512 MB for a string by default.
fn size(i: &[u8]) -> IResult<&[u8], u64, ()> {
    map(terminated(length, tag("\r\n")), u64::from).parse(i)
}

/// A number of pairs, as a number of values.
fn pairs(i: &[u8]) -> IResult<&[u8], u64, ()> {
    map(size, |n| n.saturating_mul(2)).parse(i)
}

fn integer(i: &[u8]) -> IResult<&[u8], i64, ()> {
    terminated(signed, tag("\r\n")).parse(i)
}

fn boolean(i: &[u8]) -> IResult<&[u8], Item, ()> {
    value(Item::Scalar, alt((tag("t\r\n"), tag("f\r\n")))).parse(i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(bytes: &[u8], want: Item, len: usize) {
        assert_eq!(item(bytes), Ok((want, len)));
        for cut in 0..len {
            assert_eq!(item(&bytes[..cut]), Err(Stop::Short), "{cut}");
        }
    }

    #[track_caller]
    fn refuses(bytes: &[u8], what: &'static str) {
        assert_eq!(item(bytes), Err(Stop::malformed(what)));
    }

    #[test]
    fn simple_strings_errors_doubles_and_big_numbers_are_lines() {
        for text in [
            "+OK\r\n",
            "-ERR no\r\n",
            ",1.5e3\r\n",
            "(3492890328409238509324850943850\r\n",
        ] {
            reads(text.as_bytes(), Item::Line, 1);
        }
    }

    #[test]
    fn integers_are_signed() {
        reads(b":0\r\n", Item::Integer(0), 4);
        reads(b":-12\r\n", Item::Integer(-12), 6);
        reads(b":+7\r\n", Item::Integer(7), 5);
        refuses(b":\r\n", "integer");
        refuses(b":9223372036854775808\r\n", "integer");
        refuses(b":1x\r\n", "integer");
    }

    #[test]
    fn bulk_strings_blob_errors_and_verbatim_strings_announce_their_length() {
        reads(b"$5\r\nhello\r\n", Item::Bulk(5), 4);
        reads(b"$0\r\n\r\n", Item::Bulk(0), 4);
        reads(b"!21\r\nSYNTAX invalid syntax\r\n", Item::Bulk(21), 5);
        reads(b"=7\r\ntxt:abc\r\n", Item::Bulk(7), 4);
        refuses(b"$-2\r\n", "bulk length");
        refuses(b"$4294967296\r\n", "bulk length");
        refuses(b"!-1\r\n", "blob length");
    }

    #[test]
    fn arrays_sets_and_pushes_announce_their_elements() {
        reads(b"*2\r\n:1\r\n:2\r\n", Item::Aggregate(2), 4);
        reads(b"*0\r\n", Item::Aggregate(0), 4);
        reads(b"~3\r\n", Item::Aggregate(3), 4);
        reads(b">3\r\n", Item::Aggregate(3), 4);
        refuses(b"*-5\r\n", "array length");
        refuses(b">x\r\n", "aggregate length");
    }

    #[test]
    fn maps_and_attributes_announce_pairs() {
        reads(b"%2\r\n", Item::Aggregate(4), 4);
        reads(b"|1\r\n", Item::Attribute(2), 4);
    }

    #[test]
    fn nulls_and_booleans_are_complete() {
        reads(b"$-1\r\n", Item::Scalar, 5);
        reads(b"*-1\r\n", Item::Scalar, 5);
        reads(b"_\r\n", Item::Scalar, 3);
        reads(b"#t\r\n", Item::Scalar, 4);
        reads(b"#f\r\n", Item::Scalar, 4);
        refuses(b"#x\r\n", "boolean");
    }

    #[test]
    fn streamed_values_are_unsupported() {
        for bytes in [
            &b"$?\r\n"[..],
            b"*?\r\n",
            b"%?\r\n",
            b"~?\r\n",
            b";4\r\n",
            b".\r\n",
        ] {
            assert_eq!(item(bytes), Err(STREAMED));
        }
    }

    #[test]
    fn a_command_announces_its_words() {
        assert_eq!(words(b"*3\r\n"), Ok((3, 4)));
        assert_eq!(words(b"*-5324501783\r\n"), Ok((0, 14)), "ignored by Redis");
        assert_eq!(
            words(b"*2147483648\r\n"),
            Err(Stop::malformed("command length"))
        );
        assert_eq!(
            words(b"*10000000000000000000000\r\n"),
            Err(Stop::malformed("command length"))
        );
        assert_eq!(words(b"*3\r"), Err(Stop::Short));
        assert_eq!(word(b"$3\r\nGET"), Ok((3, 4)));
        assert_eq!(word(b":3\r\n"), Err(Stop::malformed("argument length")));
        assert_eq!(word(b"$-2\r\n"), Err(Stop::malformed("argument length")));
    }

    #[test]
    fn a_line_ends_with_cr_lf() {
        assert_eq!(line(b"OK\r\n+"), Ok(Some(4)));
        assert_eq!(line(b"OK\r"), Ok(None));
        assert_eq!(line(b"OK\n"), Err(Stop::malformed("line end")));
    }

    #[test]
    fn an_inline_command_ends_with_lf() {
        assert_eq!(inline(b"PING\r\nx"), Ok((&b"PING"[..], 6)));
        assert_eq!(inline(b"PING\n"), Ok((&b"PING"[..], 5)));
        assert_eq!(inline(b"\n"), Ok((&b""[..], 1)));
        assert_eq!(inline(b"PING\r"), Err(Stop::Short));
        let endless = [b'x'; MAX_LINE];
        assert_eq!(inline(&endless[1..]), Err(Stop::Short));
        assert!(matches!(inline(&endless), Err(Stop::Bad(_))));
    }

    #[test]
    fn the_code_of_an_error_is_its_first_word() {
        assert_eq!(error_code(b"WRONGTYPE Operation", None), Ok("WRONGTYPE"));
        assert_eq!(error_code(b"OOM\r\n", None), Ok("OOM"));
        assert_eq!(error_code(b"SYNTAX", Some(6)), Ok("SYNTAX"));
        assert_eq!(error_code(b"", Some(0)), Ok("ERR"));
        assert_eq!(error_code(b"WRONG", None), Err(Stop::Short));
        assert_eq!(error_code(b"SYN", Some(6)), Err(Stop::Short));
    }

    #[test]
    fn a_code_of_another_form_is_not_passed_on() {
        assert_eq!(error_code(b"secret token\r\n", None), Ok("ERR"));
        assert_eq!(error_code(b" x\r\n", None), Ok("ERR"));
        assert_eq!(error_code(&[b'A'; 65], None), Ok("ERR"));
        assert_eq!(error_code(&[b'A'; 64], Some(100)), Ok("ERR"));
    }

    #[test]
    fn an_announcement_is_a_short_string_at_the_head_of_an_array() {
        let message = b"*3\r\n$7\r\nmessage\r\n";
        assert_eq!(announcement(message), Ok(Some(&b"message"[..])));
        assert_eq!(
            announcement(b">2\r\n+invalidate\r\n"),
            Ok(Some(&b"invalidate"[..]))
        );
        assert_eq!(announcement(&message[..12]), Err(Stop::Short));
        assert_eq!(announcement(b"*3\r\n$70\r\n"), Ok(None));
        assert_eq!(announcement(b"*3\r\n:7\r\n"), Ok(None));
        assert_eq!(announcement(b"*0\r\n"), Ok(None));
    }

    #[test]
    fn a_monitor_line_begins_with_a_time_and_a_client() {
        let line = b"+1339518083.107412 [0 127.0.0.1:60866] \"keys\" \"*\"\r\n";
        assert_eq!(is_monitor_line(line), Ok(true));
        assert_eq!(is_monitor_line(&line[..15]), Err(Stop::Short));
        assert_eq!(is_monitor_line(b"+OK\r\n"), Ok(false));
        assert_eq!(is_monitor_line(b"+1\r\n"), Ok(false));
    }

    #[test]
    fn a_command_is_known_by_its_frame() {
        assert_eq!(command_name(b"*1\r\n$4\r\nPING\r\n"), Ok(&b"PING"[..]));
        for short in 0..b"*1\r\n$4\r\nPING\r\n".len() {
            let bytes = &b"*1\r\n$4\r\nPING\r\n"[..short];
            assert_eq!(command_name(bytes), Err(Stop::Short), "{short}");
        }
        for bytes in [
            &b"*0\r\n$4\r\nPING\r\n"[..],
            b"*1\r\n$5\r\nPING\r\n$",
            b"*1\r\n$3\r\n123\r\n",
            b"*1\r\n:4\r\n",
            b"+OK\r\n",
        ] {
            assert!(
                matches!(command_name(bytes), Err(Stop::Bad(_))),
                "{bytes:?}"
            );
        }
    }
}
