//! The Huffman code of HPACK (RFC 7541 §5.2 and appendix B).
//!
//! The code is canonical: among the codes of one length, symbols rise with the codes. So the lengths
//! alone define it, and both tables are made of them at compile time.

use super::HpackError;

/// Number of symbols: 256 bytes and EOS.
const SYMBOLS: usize = 257;
/// The last symbol, which must not appear.
const EOS: u16 = 256;
/// Bits that one look into [`SHORT`] decides.
const SHORT_BITS: usize = 9;

/// Length of each symbol's code in bits (RFC 7541 appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// A symbol and the length of its code.
#[derive(Clone, Copy)]
struct Code {
    symbol: u16,
    /// Zero: the code is longer than [`SHORT_BITS`].
    len: u8,
}

/// The codes of one length.
#[derive(Clone, Copy)]
struct Group {
    len: u8,
    /// The first code, at the top of 32 bits.
    first: u32,
    /// Position of its symbol in [`CANONICAL`]`.0`.
    at: u16,
}

const GROUPS: usize = 31;
/// Symbols in the order of their codes, and the groups by length.
const CANONICAL: ([u16; SYMBOLS], [Group; GROUPS]) = canonical();
/// By the next nine bits: the symbol that they begin with, if its code is no longer.
static SHORT: [Code; 1 << SHORT_BITS] = short();
static SYMBOLS_BY_CODE: [u16; SYMBOLS] = CANONICAL.0;
static GROUPS_BY_LENGTH: [Group; GROUPS] = CANONICAL.1;

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated at compile time, where both are compile errors"
)]
const fn canonical() -> ([u16; SYMBOLS], [Group; GROUPS]) {
    let mut symbols = [0u16; SYMBOLS];
    let mut groups = [Group {
        len: 0,
        first: 0,
        at: 0,
    }; GROUPS];
    let (mut at, mut code, mut len) = (0usize, 0u32, 1u32);
    while len < GROUPS as u32 {
        groups[len as usize] = Group {
            len: len as u8,
            first: code << (32 - len),
            at: at as u16,
        };
        let mut symbol = 0usize;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as u32 == len {
                symbols[at] = symbol as u16;
                at += 1;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        len += 1;
    }
    assert!(at == SYMBOLS, "every symbol has a code");
    (symbols, groups)
}

#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "evaluated at compile time, where both are compile errors"
)]
const fn short() -> [Code; 1 << SHORT_BITS] {
    let mut table = [Code { symbol: 0, len: 0 }; 1 << SHORT_BITS];
    let (symbols, groups) = CANONICAL;
    let mut len = 1;
    while len <= SHORT_BITS {
        let mut at = groups[len].at as usize;
        let mut bits = (groups[len].first >> (32 - SHORT_BITS)) as usize;
        while at < groups[len + 1].at as usize {
            let mut n = 0;
            while n < 1 << (SHORT_BITS - len) {
                table[bits] = Code {
                    symbol: symbols[at],
                    len: len as u8,
                };
                bits += 1;
                n += 1;
            }
            at += 1;
        }
        len += 1;
    }
    table
}

/// Appends what `code` stands for to `out`.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    // The shortest code has five bits.
    out.reserve(code.len().saturating_mul(8) / 5);
    // The bits not decoded yet, at the top; below the first `left` of them, zeros.
    let (mut bits, mut left) = (0u64, 0u32);
    let mut rest = code;
    loop {
        if left < 32 {
            if let Some((four, behind)) = rest.split_first_chunk::<4>() {
                let four = u64::from(u32::from_be_bytes(*four));
                bits |= four.wrapping_shl(32u32.saturating_sub(left));
                left = left.saturating_add(32);
                rest = behind;
            } else {
                while let [byte, behind @ ..] = rest {
                    bits |= u64::from(*byte).wrapping_shl(56u32.saturating_sub(left));
                    left = left.saturating_add(8);
                    rest = behind;
                }
            }
        }
        let Code { symbol, len } = next(bits)?;
        if u32::from(len) > left {
            break;
        }
        out.push(symbol as u8);
        bits = bits.wrapping_shl(len.into());
        left = left.saturating_sub(len.into());
    }
    // What is left is the beginning of EOS (all ones), and shorter than a byte.
    let ones = u64::MAX
        .checked_shl(64u32.saturating_sub(left))
        .unwrap_or(0);
    if left < 8 && bits == ones {
        Ok(())
    } else {
        Err(HpackError::Huffman)
    }
}

/// The symbol that the top of `bits` begins with.
fn next(bits: u64) -> Result<Code, HpackError> {
    let top = usize::try_from(bits >> (64 - SHORT_BITS)).unwrap_or_default();
    match SHORT.get(top) {
        Some(code) if code.len > 0 => Ok(*code),
        _ => long(bits),
    }
}

#[cold]
fn long(bits: u64) -> Result<Code, HpackError> {
    let top = u32::try_from(bits >> 32).unwrap_or_default();
    // Lengths without codes begin where the next longer one does; that one is met first.
    let group = GROUPS_BY_LENGTH
        .iter()
        .rev()
        .find(|group| group.first <= top);
    let group = group.ok_or(HpackError::Huffman)?;
    let nth = top
        .wrapping_sub(group.first)
        .checked_shr(32u32.saturating_sub(group.len.into()));
    let at = usize::from(group.at).saturating_add(nth.unwrap_or_default() as usize);
    match SYMBOLS_BY_CODE.get(at) {
        // Ones to the end are padding; EOS itself is an error, found by its length.
        Some(&EOS) | None => Ok(Code {
            symbol: EOS,
            len: u8::MAX,
        }),
        Some(&symbol) => Ok(Code {
            symbol,
            len: group.len,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: &[u8]) -> Result<String, HpackError> {
        let mut out = Vec::new();
        decode(code, &mut out).map(|()| out.iter().map(|b| char::from(*b)).collect())
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let www = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(read(&www).unwrap(), "www.example.com", "C.4.1");
        assert_eq!(
            read(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(),
            "no-cache",
            "C.4.2"
        );
        assert_eq!(read(&[]).unwrap(), "");
    }

    #[test]
    fn every_symbol_is_read() {
        // Encodes by the same canonical order, but bit by bit.
        for (at, symbol) in CANONICAL.0.iter().enumerate().filter(|(_, s)| **s != EOS) {
            let len = LENGTHS[usize::from(*symbol)];
            let group = CANONICAL.1[usize::from(len)];
            let code = (group.first >> (32 - len)) + (at as u32 - u32::from(group.at));
            let padded = (u64::from(code) << (64 - len)) | (u64::MAX >> len);
            let bytes = usize::from(len).div_ceil(8);
            let byte = char::from(u8::try_from(*symbol).unwrap());
            assert_eq!(
                read(&padded.to_be_bytes()[..bytes]),
                Ok(byte.to_string()),
                "{symbol}"
            );
        }
    }

    #[test]
    fn the_known_codes_are_those_of_the_rfc() {
        let code = |symbol: u16| {
            let at = CANONICAL.0.iter().position(|s| *s == symbol).unwrap() as u32;
            let len = LENGTHS[usize::from(symbol)];
            let group = CANONICAL.1[usize::from(len)];
            ((group.first >> (32 - len)) + at - u32::from(group.at), len)
        };
        assert_eq!(code(0), (0x1ff8, 13));
        assert_eq!(code(b'0'.into()), (0x0, 5));
        assert_eq!(code(b'a'.into()), (0x3, 5));
        assert_eq!(code(b'~'.into()), (0x1ffd, 13));
        assert_eq!(code(255), (0x3ff_ffee, 26));
        assert_eq!(code(EOS), (0x3fff_ffff, 30));
    }

    #[test]
    fn wrong_padding_and_eos_are_errors() {
        assert_eq!(
            read(&[0b0001_1000]),
            Err(HpackError::Huffman),
            "a and zeros"
        );
        assert_eq!(
            read(&[0b0001_1111, 0xff]),
            Err(HpackError::Huffman),
            "padding of a byte"
        );
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff]),
            Err(HpackError::Huffman),
            "EOS"
        );
        assert_eq!(read(&[0b0001_1111]).unwrap(), "a");
    }
}
