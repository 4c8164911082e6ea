//! Integers with a prefix (RFC 7541 §5.1).

use super::HpackError;

/// Most bytes behind the prefix: enough for 2^28, which is above every length and size in use.
const MAX_BYTES: u32 = 4;

/// Takes an integer whose first byte shares `prefix` low bits; the others are the caller's.
pub(super) fn integer(input: &mut &[u8], prefix: u32) -> Result<usize, HpackError> {
    let (first, mut rest) = input.split_first().ok_or(HpackError::Truncated)?;
    let mask = 0xff_u8
        .checked_shr(8u32.saturating_sub(prefix))
        .unwrap_or(0xff);
    let mut value = usize::from(first & mask);
    if value < usize::from(mask) {
        *input = rest;
        return Ok(value);
    }
    for number in 0..MAX_BYTES {
        let (byte, behind) = rest.split_first().ok_or(HpackError::Truncated)?;
        rest = behind;
        let bits = usize::from(byte & 0x7f).wrapping_shl(number.saturating_mul(7));
        value = value.saturating_add(bits);
        if byte & 0x80 == 0 {
            *input = rest;
            return Ok(value);
        }
    }
    Err(HpackError::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], prefix: u32) -> Result<(usize, usize), HpackError> {
        let mut rest = bytes;
        integer(&mut rest, prefix).map(|value| (value, bytes.len() - rest.len()))
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        assert_eq!(read(&[0b1110_1010], 5), Ok((10, 1)), "C.1.1");
        assert_eq!(read(&[0x1f, 0x9a, 0x0a], 5), Ok((1337, 3)), "C.1.2");
        assert_eq!(read(&[0x2a], 8), Ok((42, 1)), "C.1.3");
    }

    #[test]
    fn trailing_zeros_are_legal_and_endless_ones_are_not() {
        assert_eq!(read(&[0x7f, 0x80, 0x80, 0x00], 7), Ok((127, 4)));
        assert_eq!(
            read(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0x01], 7),
            Err(HpackError::Integer)
        );
        assert_eq!(read(&[0x7f, 0x80], 7), Err(HpackError::Truncated));
        assert_eq!(read(&[], 7), Err(HpackError::Truncated));
    }
}
