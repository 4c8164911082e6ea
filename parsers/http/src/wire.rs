//! Bytes to items: chunk-size lines, trailer lines and WebSocket frame headers. The only user of nom.

use nom::bytes::streaming::{tag, take_till, take_while_m_n};
use nom::combinator::{cond, map_opt, verify};
use nom::number::streaming::{be_u16, be_u64, u8};
use nom::{Err, IResult, Needed, Parser};

use crate::read::Read;

/// Longest chunk-size line, extensions included. Servers stop at 4 kB to 16 kB.
const MAX_CHUNK_LINE: usize = 16 * 1024;
/// Digits of the longest chunk size; leading zeros count, since some senders pad to eight.
const MAX_CHUNK_DIGITS: usize = 32;
/// Longest masking key, extended length and first two bytes of a frame (RFC 6455 §5.2).
const MAX_FRAME_HEADER: usize = 14;

/// A chunk-size line (RFC 9112 §7.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ChunkLine {
    /// Bytes of data that follow; zero in the last chunk. At most `i64::MAX`.
    pub(crate) size: u64,
    /// Whether the line ended with LF alone.
    pub(crate) bare_lf: bool,
}

/// A trailer line (RFC 9112 §7.1.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TrailerLine {
    /// A field, of no interest.
    Field,
    /// The blank line that ends the message.
    Blank,
}

/// The header of a WebSocket frame (RFC 6455 §5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FrameHeader {
    /// Whether it is the last frame of its message.
    pub(crate) fin: bool,
    /// The three reserved bits; the highest says that a message is compressed (RFC 7692 §6).
    pub(crate) reserved: u8,
    /// The opcode.
    pub(crate) opcode: u8,
    /// Whether the payload is masked.
    pub(crate) masked: bool,
    /// Length of the payload. At most `i64::MAX`.
    pub(crate) payload: u64,
}

/// Reads a chunk-size line.
pub(crate) fn chunk_line(bytes: &[u8]) -> Read<ChunkLine> {
    bounded(bytes, MAX_CHUNK_LINE, "chunk size", parse_chunk_line)
}

/// Reads a trailer line of at most `limit` bytes.
pub(crate) fn trailer_line(bytes: &[u8], limit: usize) -> Read<TrailerLine> {
    bounded(bytes, limit, "trailer", parse_trailer_line)
}

/// Reads the header of a WebSocket frame.
pub(crate) fn frame_header(bytes: &[u8]) -> Read<FrameHeader> {
    bounded(bytes, MAX_FRAME_HEADER, "frame length", parse_frame_header)
}

/// Runs a parser over at most `limit` bytes; nom's verdicts end here.
fn bounded<'a, T>(
    bytes: &'a [u8],
    limit: usize,
    what: &'static str,
    parse: fn(&'a [u8]) -> IResult<&'a [u8], T>,
) -> Read<T> {
    match parse(bytes) {
        Ok((rest, item)) => match bytes.len().saturating_sub(rest.len()) {
            len if len > limit => Read::Bad(what),
            len => Read::Done(item, len),
        },
        Err(Err::Incomplete(_)) if bytes.len() >= limit => Read::Bad(what),
        Err(Err::Incomplete(Needed::Size(more))) => {
            Read::Short(bytes.len().saturating_add(more.get()))
        }
        Err(Err::Incomplete(Needed::Unknown)) => Read::Short(bytes.len().saturating_add(1)),
        Err(Err::Error(_) | Err::Failure(_)) => Read::Bad(what),
    }
}

/// `chunk-size [ BWS *( ";" chunk-ext ) ] CRLF`; what an extension says is of no interest.
fn parse_chunk_line(input: &[u8]) -> IResult<&[u8], ChunkLine> {
    let digits = take_while_m_n(1, MAX_CHUNK_DIGITS, |b: u8| b.is_ascii_hexdigit());
    let (input, size) = map_opt(digits, hex_size).parse(input)?;
    let (input, extensions) = parse_line(input)?;
    // No other CR: one reader's line end is another one's white space.
    let (extensions, bare_lf) = match extensions.strip_suffix(b"\r") {
        Some(extensions) => (extensions, false),
        None => (extensions, true),
    };
    let blank = extensions
        .iter()
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    let well_formed =
        !extensions.contains(&b'\r') && matches!(extensions.get(blank), None | Some(b';'));
    let (input, ()) = verify(nom::combinator::success(()), |()| well_formed).parse(input)?;
    Ok((input, ChunkLine { size, bare_lf }))
}

fn parse_trailer_line(input: &[u8]) -> IResult<&[u8], TrailerLine> {
    let (input, line) = parse_line(input)?;
    let kind = match line {
        b"" | b"\r" => TrailerLine::Blank,
        _ => TrailerLine::Field,
    };
    Ok((input, kind))
}

/// Up to LF, which is consumed; a CR before it is kept.
fn parse_line(input: &[u8]) -> IResult<&[u8], &[u8]> {
    let (input, line) = take_till(|b| b == b'\n').parse(input)?;
    let (input, _) = tag("\n").parse(input)?;
    Ok((input, line))
}

/// Lengths must be written in the fewest bytes, and the highest bit of 64 is zero (RFC 6455 §5.2).
fn parse_frame_header(input: &[u8]) -> IResult<&[u8], FrameHeader> {
    let (input, (first, second)) = (u8, u8).parse(input)?;
    let masked = second & 0x80 != 0;
    let (input, payload) = match second & 0x7f {
        126 => verify(be_u16.map(u64::from), |n| *n > 125).parse(input)?,
        127 => verify(be_u64, |n| *n > 0xffff && i64::try_from(*n).is_ok()).parse(input)?,
        short => (input, u64::from(short)),
    };
    let (input, _) = cond(masked, nom::bytes::streaming::take(4usize)).parse(input)?;
    let header = FrameHeader {
        fin: first & 0x80 != 0,
        reserved: first >> 4 & 0x07,
        opcode: first & 0x0f,
        masked,
        payload,
    };
    Ok((input, header))
}

fn hex_size(digits: &[u8]) -> Option<u64> {
    let mut size = 0u64;
    for digit in digits {
        let value = char::from(*digit).to_digit(16)?;
        size = size.checked_mul(16)?.checked_add(u64::from(value))?;
    }
    i64::try_from(size).is_ok().then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(size: u64, len: usize) -> Read<ChunkLine> {
        let bare_lf = false;
        Read::Done(ChunkLine { size, bare_lf }, len)
    }

    #[test]
    fn a_chunk_size_is_hex_of_either_case() {
        assert_eq!(chunk_line(b"0\r\n"), chunk(0, 3));
        assert_eq!(chunk_line(b"1aF\r\nxx"), chunk(0x1af, 5));
        assert_eq!(chunk_line(b"00002000\r\n"), chunk(0x2000, 10));
        assert_eq!(
            chunk_line(b"7fffffffffffffff\r\n"),
            chunk(i64::MAX as u64, 18)
        );
    }

    #[test]
    fn a_chunk_extension_is_passed_over() {
        assert_eq!(chunk_line(b"5;a=b\r\n"), chunk(5, 7));
        assert_eq!(chunk_line(b"5 ;a=\"b;c\";d\r\n"), chunk(5, 14));
        assert_eq!(chunk_line(b"5 \t\r\n"), chunk(5, 5));
    }

    #[test]
    fn a_chunk_line_may_end_with_a_bare_lf() {
        let line = ChunkLine {
            size: 5,
            bare_lf: true,
        };
        assert_eq!(chunk_line(b"5\n"), Read::Done(line, 2));
    }

    #[test]
    fn a_short_chunk_line_asks_for_one_more_byte() {
        for line in [&b""[..], b"5", b"5;a", b"5\r"] {
            assert_eq!(chunk_line(line), Read::Short(line.len() + 1), "{line:?}");
        }
    }

    #[test]
    fn a_chunk_size_that_is_none_is_refused() {
        for line in [
            &b"\r\n"[..],
            b"x\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b" 1\r\n",
            b"0x1\r\n",
            b"1 2\r\n",
            b"1\r\r\n",
            b"1\r;a\r\n",
            b"1g\r\n",
            b"10000000000000000\r\n",
            b"8000000000000000\r\n",
            b"000000000000000000000000000000000\r\n",
        ] {
            assert_eq!(chunk_line(line), Read::Bad("chunk size"), "{line:?}");
        }
    }

    #[test]
    fn a_chunk_line_without_end_is_refused_at_its_limit() {
        let mut line = vec![b'x'; MAX_CHUNK_LINE];
        line[..2].copy_from_slice(b"1;");
        assert_eq!(chunk_line(&line[..100]), Read::Short(101));
        assert_eq!(chunk_line(&line), Read::Bad("chunk size"));
        line.push(b'\n');
        assert_eq!(chunk_line(&line), Read::Bad("chunk size"));
    }

    #[test]
    fn a_trailer_line_is_a_field_or_blank() {
        assert_eq!(
            trailer_line(b"a: b\r\nc", 99),
            Read::Done(TrailerLine::Field, 6)
        );
        assert_eq!(trailer_line(b"\r\n", 99), Read::Done(TrailerLine::Blank, 2));
        assert_eq!(trailer_line(b"\n", 99), Read::Done(TrailerLine::Blank, 1));
        assert_eq!(trailer_line(b"\r", 99), Read::Short(2));
        assert_eq!(trailer_line(b"a: b", 4), Read::Bad("trailer"));
    }

    #[test]
    fn a_frame_header_has_three_forms_of_length() {
        let header = |masked, payload| FrameHeader {
            fin: true,
            reserved: 0,
            opcode: 2,
            masked,
            payload,
        };
        assert_eq!(
            frame_header(&[0x82, 0x7d]),
            Read::Done(header(false, 125), 2)
        );
        assert_eq!(
            frame_header(&[0x82, 0x7e, 1, 0]),
            Read::Done(header(false, 256), 4)
        );
        let long = [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(frame_header(&long), Read::Done(header(false, 65_536), 10));
        assert_eq!(
            frame_header(&[0x82, 0x81, 1, 2, 3, 4]),
            Read::Done(header(true, 1), 6)
        );
    }

    #[test]
    fn a_frame_header_keeps_its_bits() {
        let Read::Done(header, 2) = frame_header(&[0x41, 0x00]) else {
            panic!("not read");
        };
        assert_eq!((header.fin, header.reserved, header.opcode), (false, 4, 1));
    }

    #[test]
    fn a_short_frame_header_asks_for_what_it_lacks() {
        assert_eq!(frame_header(&[0x82]), Read::Short(2));
        assert_eq!(frame_header(&[0x82, 0x7e, 1]), Read::Short(4));
        assert_eq!(frame_header(&[0x82, 0x7f]), Read::Short(10));
        assert_eq!(frame_header(&[0x82, 0x81, 1]), Read::Short(6));
    }

    #[test]
    fn a_length_in_too_many_bytes_is_refused() {
        assert_eq!(
            frame_header(&[0x82, 0x7e, 0, 125]),
            Read::Bad("frame length")
        );
        let small = [0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        assert_eq!(frame_header(&small), Read::Bad("frame length"));
        let negative = [0x82, 0x7f, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(frame_header(&negative), Read::Bad("frame length"));
    }
}
