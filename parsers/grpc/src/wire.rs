//! HTTP/2 frames (RFC 9113 §4 and §6): bytes to items.

use std::iter;

use nom::bytes::complete::take;
use nom::number::complete::{be_u8, be_u16, be_u24, be_u32};
use nom::sequence::pair;
use nom::{IResult, Parser as _};

/// Bytes of a frame's header.
pub(crate) const HEAD: usize = 9;
/// What a client says first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest payload unless the receiver allows more (RFC 9113 §6.5.2).
pub(crate) const DEFAULT_MAX_FRAME: u32 = 16_384;

/// Type of a frame. Unknown ones are kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Kind(pub(crate) u8);

impl Kind {
    pub(crate) const DATA: Self = Self(0);
    pub(crate) const HEADERS: Self = Self(1);
    pub(crate) const PRIORITY: Self = Self(2);
    pub(crate) const RST_STREAM: Self = Self(3);
    pub(crate) const SETTINGS: Self = Self(4);
    pub(crate) const PUSH_PROMISE: Self = Self(5);
    pub(crate) const PING: Self = Self(6);
    pub(crate) const GOAWAY: Self = Self(7);
    pub(crate) const WINDOW_UPDATE: Self = Self(8);
    pub(crate) const CONTINUATION: Self = Self(9);
}

/// The flags that mean something to us.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Header of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Head {
    /// Bytes of the payload; below 2^24.
    pub(crate) len: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// Zero: the connection. Below 2^31.
    pub(crate) stream: u32,
    /// The bit before the stream, which senders leave at zero.
    pub(crate) reserved: bool,
}

/// Reads a frame's header; `None` when `bytes` holds less than one.
pub(crate) fn head(bytes: &[u8]) -> Option<Head> {
    let mut read = (be_u24::<_, nom::error::Error<&[u8]>>, be_u8, be_u8, be_u32);
    let (_, (len, kind, flags, stream)) = read.parse(bytes).ok()?;
    Some(Head {
        len,
        kind: Kind(kind),
        flags,
        stream: stream & 0x7fff_ffff,
        reserved: stream >> 31 == 1,
    })
}

impl Head {
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Bytes of the payload.
    pub(crate) const fn payload(&self) -> usize {
        self.len as usize
    }

    /// Bytes of header and payload.
    pub(crate) const fn size(&self) -> u64 {
        (self.len as u64).saturating_add(HEAD as u64)
    }

    /// What RFC 9113 §6 forbids about a frame's length or stream, which ends the connection.
    pub(crate) const fn fault(&self) -> Option<&'static str> {
        let connection = self.stream == 0;
        match (self.kind, self.len) {
            (Kind::DATA, _) if connection => Some("stream of DATA"),
            (Kind::HEADERS | Kind::CONTINUATION, _) if connection => Some("stream of HEADERS"),
            (Kind::PRIORITY, 5) | (Kind::RST_STREAM, 4) if connection => Some("stream of frame"),
            (Kind::PRIORITY, 5) | (Kind::RST_STREAM, 4) | (Kind::WINDOW_UPDATE, 4) => None,
            (Kind::PRIORITY | Kind::RST_STREAM | Kind::WINDOW_UPDATE, _) => Some("length of frame"),
            (Kind::SETTINGS | Kind::PING | Kind::GOAWAY, _) if !connection => {
                Some("stream of frame")
            }
            (Kind::SETTINGS, len) if self.has(flag::ACK) && len > 0 => Some("length of frame"),
            (Kind::SETTINGS, len) if !len.is_multiple_of(6) => Some("length of frame"),
            (Kind::PING, len) if len != 8 => Some("length of frame"),
            (Kind::GOAWAY, 0..8) => Some("length of frame"),
            (Kind::PUSH_PROMISE, _) if connection => Some("stream of PUSH_PROMISE"),
            _ => None,
        }
    }
}

/// Payload of a frame that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Payload<'a> {
    /// HEADERS or CONTINUATION: a fragment of a header block.
    Headers(&'a [u8]),
    /// The promised stream, and a fragment of its request's header block.
    PushPromise(u32, &'a [u8]),
    /// Settings, for [`settings`].
    Settings(&'a [u8]),
    /// The error code.
    Reset(u32),
    /// The last stream that was or will be processed.
    GoAway(u32),
    /// WINDOW_UPDATE, whatever it adds.
    Window,
}

/// Reads the payload of a frame of these types; `Err` tells what is wrong with it.
pub(crate) fn payload<'a>(head: &Head, bytes: &'a [u8]) -> Result<Payload<'a>, &'static str> {
    match head.kind {
        Kind::HEADERS => {
            let bytes = unpad(head, bytes)?;
            let skip = if head.has(flag::PRIORITY) { 5 } else { 0 };
            bytes
                .get(skip..)
                .map(Payload::Headers)
                .ok_or("priority of HEADERS")
        }
        Kind::CONTINUATION => Ok(Payload::Headers(bytes)),
        Kind::PUSH_PROMISE => {
            let (block, stream) = stream_id(unpad(head, bytes)?).map_err(|_| "promised stream")?;
            if stream == 0 || stream % 2 == 1 {
                return Err("promised stream");
            }
            Ok(Payload::PushPromise(stream, block))
        }
        Kind::SETTINGS => Ok(Payload::Settings(bytes)),
        Kind::WINDOW_UPDATE => match stream_id(bytes) {
            Ok((_, 1..)) => Ok(Payload::Window),
            _ => Err("window increment"),
        },
        Kind::RST_STREAM => {
            let code: IResult<&[u8], u32> = be_u32(bytes);
            code.map(|(_, code)| Payload::Reset(code))
                .map_err(|_| "error code")
        }
        _ => {
            let (_, last) = stream_id(bytes).map_err(|_| "last stream")?;
            Ok(Payload::GoAway(last))
        }
    }
}

/// The identifiers and values of a SETTINGS frame.
pub(crate) fn settings(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    iter::from_fn(move || {
        let read: IResult<&[u8], (u16, u32)> = pair(be_u16, be_u32).parse(bytes);
        let (rest, setting) = read.ok()?;
        bytes = rest;
        Some(setting)
    })
}

fn stream_id(bytes: &[u8]) -> IResult<&[u8], u32> {
    be_u32.map(|id: u32| id & 0x7fff_ffff).parse(bytes)
}

/// Without the padding of a PADDED frame (RFC 9113 §6.1).
fn unpad<'a>(head: &Head, bytes: &'a [u8]) -> Result<&'a [u8], &'static str> {
    if !head.has(flag::PADDED) {
        return Ok(bytes);
    }
    let padded: IResult<&[u8], u8> = be_u8(bytes);
    let (rest, padding) = padded.map_err(|_| "padding")?;
    let len = rest.len().checked_sub(padding.into()).ok_or("padding")?;
    let kept: IResult<&[u8], &[u8]> = take(len)(rest);
    kept.map(|(_, kept)| kept).map_err(|_| "padding")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, flags: u8, bytes: &[u8]) -> Result<Payload<'_>, &'static str> {
        let head = Head {
            len: bytes.len() as u32,
            kind,
            flags,
            stream: 1,
            reserved: false,
        };
        payload(&head, bytes)
    }

    #[test]
    fn a_header_has_nine_bytes() {
        let bytes = [0x01, 0x00, 0x02, 0x01, 0x05, 0x80, 0x00, 0x00, 0x03];
        let expected = Head {
            len: 0x1_0002,
            kind: Kind::HEADERS,
            flags: flag::END_STREAM | flag::END_HEADERS,
            stream: 3,
            reserved: true,
        };
        assert_eq!(head(&bytes), Some(expected));
        assert_eq!(head(&bytes[..8]), None);
    }

    #[test]
    fn padding_and_priority_are_left_out_of_a_fragment() {
        let headers = |flags, bytes| read(Kind::HEADERS, flags, bytes);
        assert_eq!(headers(0, b"abc"), Ok(Payload::Headers(b"abc")));
        assert_eq!(headers(0x08, b"\x02abcPP"), Ok(Payload::Headers(b"abc")));
        assert_eq!(
            headers(0x20, b"\x80\0\0\x14\x09abc"),
            Ok(Payload::Headers(b"abc"))
        );
        assert_eq!(
            headers(0x28, b"\x01\0\0\0\x01\x09abcP"),
            Ok(Payload::Headers(b"abc"))
        );
        assert_eq!(headers(0x08, b"\x03P"), Err("padding"));
        assert_eq!(headers(0x08, b""), Err("padding"));
        assert_eq!(headers(0x20, b"abcd"), Err("priority of HEADERS"));
    }

    #[test]
    fn a_promise_names_an_even_stream() {
        let promise = |bytes| read(Kind::PUSH_PROMISE, 0, bytes);
        assert_eq!(
            promise(b"\0\0\0\x0cabc"),
            Ok(Payload::PushPromise(12, b"abc"))
        );
        assert_eq!(promise(b"\0\0\0\x01"), Err("promised stream"));
        assert_eq!(promise(b"\0\0\0\0"), Err("promised stream"));
        assert_eq!(promise(b"\0\0"), Err("promised stream"));
    }

    #[test]
    fn settings_are_pairs() {
        let bytes = [0, 1, 0, 0, 0x20, 0, 0, 3, 0, 0, 0x13, 0x88];
        assert_eq!(
            read(Kind::SETTINGS, 0, &bytes),
            Ok(Payload::Settings(&bytes))
        );
        assert_eq!(settings(&bytes).collect::<Vec<_>>(), [(1, 8192), (3, 5000)]);
    }

    #[test]
    fn a_window_grows() {
        assert_eq!(
            read(Kind::WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
            Ok(Payload::Window)
        );
        assert_eq!(
            read(Kind::WINDOW_UPDATE, 0, &[0x80, 0, 0, 0]),
            Err("window increment")
        );
    }

    #[test]
    fn a_code_and_a_last_stream_are_numbers() {
        assert_eq!(
            read(Kind::RST_STREAM, 0, &[0, 0, 0, 8]),
            Ok(Payload::Reset(8))
        );
        assert_eq!(
            read(Kind::GOAWAY, 0, &[0x80, 0, 0, 5, 0, 0, 0, 0]),
            Ok(Payload::GoAway(5))
        );
    }
}
