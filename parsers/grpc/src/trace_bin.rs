//! `grpc-trace-bin`: the binary trace context of OpenCensus, in base64, or behind a zero as it is
//! (gRPC's true binary metadata).
//!
//! ```text
//! 00 | 00 <trace id, 16 bytes> | 01 <span id, 8 bytes> | 02 <options, 1 byte>
//! ```

use wirespan_parser_api::{Propagation, TraceContext};

/// Bytes of version, three field numbers, ids and options.
const LEN: usize = 29;

/// Reads the header's value; `None` where it is invalid.
pub(crate) fn read(value: &[u8]) -> Option<TraceContext<'static>> {
    let bytes = match value {
        [0, bytes @ ..] => bytes.try_into().ok()?,
        text => base64(text)?,
    };
    let [0, 0, rest @ ..] = bytes else {
        return None;
    };
    let (trace_id, rest) = rest.split_first_chunk::<16>()?;
    let ([1], rest) = rest.split_first_chunk::<1>()? else {
        return None;
    };
    let (span_id, rest) = rest.split_first_chunk::<8>()?;
    let [2, options] = rest else { return None };
    if *trace_id == [0; 16] || *span_id == [0; 8] {
        return None;
    }
    Some(TraceContext {
        trace_id: *trace_id,
        span_id: *span_id,
        parent_span_id: None,
        sampled: Some(options & 1 == 1),
        flags: options & 1,
        propagation: Propagation::W3c,
        tracestate: "",
    })
}

/// Reads as many bytes as a trace context has, with or without padding.
fn base64(text: &[u8]) -> Option<[u8; LEN]> {
    let text = text.strip_suffix(b"=").unwrap_or(text);
    if text.len() != LEN.saturating_mul(8).div_ceil(6) {
        return None;
    }
    let mut bytes = [0; LEN];
    let mut digits = text.iter().map(|digit| sextet(*digit));
    for chunk in bytes.chunks_mut(3) {
        let mut bits = 0u32;
        for _ in 0..=chunk.len() {
            bits = bits << 6 | u32::from(digits.next()??);
        }
        // Of the last, shorter group two bits stand for nothing.
        let [_, a, b, c] = match chunk.len() {
            3 => bits.to_be_bytes(),
            _ => (bits << 6).to_be_bytes(),
        };
        for (byte, value) in chunk.iter_mut().zip([a, b, c]) {
            *byte = value;
        }
    }
    Some(bytes)
}

const fn sextet(digit: u8) -> Option<u8> {
    Some(match digit {
        b'A'..=b'Z' => digit.wrapping_sub(b'A'),
        b'a'..=b'z' => digit.wrapping_sub(b'a').wrapping_add(26),
        b'0'..=b'9' => digit.wrapping_sub(b'0').wrapping_add(52),
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 00 00 40..4f 01 61..68 02 01
    const VALUE: &[u8] = b"AABAQUJDREVGR0hJSktMTU5PAWFiY2RlZmdoAgE";

    #[test]
    fn ids_and_options_are_read() {
        let context = read(VALUE).unwrap();
        assert_eq!(context.trace_id, *b"@ABCDEFGHIJKLMNO");
        assert_eq!(context.span_id, *b"abcdefgh");
        assert_eq!((context.sampled, context.flags), (Some(true), 1));
        assert_eq!(read(&[VALUE, b"="].concat()), Some(context));
    }

    #[test]
    fn a_value_behind_a_zero_is_no_base64() {
        let binary = b"\0\0\0@ABCDEFGHIJKLMNO\x01abcdefgh\x02\x01";
        assert_eq!(read(binary), read(VALUE));
        assert_eq!(read(&binary[..LEN]), None);
    }

    #[test]
    fn what_is_no_trace_context_is_none() {
        for value in [
            "",
            "AA",
            "AABAQUJDREVGR0hJSktMTU5PAWFiY2RlZmdoAg",
            "AAAAAAAAAAAAAAAAAAAAAAAAAWFiY2RlZmdoAgE",
            "AQBAQUJDREVGR0hJSktMTU5PAWFiY2RlZmdoAgE",
            "AABAQUJDREVGR0hJSktMTU5PAWFiY2RlZmdoAg!",
        ] {
            assert_eq!(read(value.as_bytes()), None, "{value}");
        }
    }
}
