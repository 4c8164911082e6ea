//! Numbers, times and addresses as text, without allocation and without `core::fmt` where it is hot.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use wirespan_engine::{Address, Nanos};

const PAIRS: &[u8; 200] = b"00010203040506070809101112131415161718192021222324252627282930313233\
34353637383940414243444546474849505152535455565758596061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Appends `value` in decimal.
pub(crate) fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while value >= 10 {
        at -= 2;
        let pair = (value % 100) as usize * 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
        value /= 100;
    }
    // A last pair below ten left a leading zero; a value of one digit (or zero) is still to write.
    if value > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + value as u8;
    } else if digits[at] == b'0' {
        at += 1;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `value` in decimal.
pub(crate) fn signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    unsigned(out, value.unsigned_abs());
}

/// Appends the last `width` (at most nine) decimal digits of `value`, zeros included.
pub(crate) fn padded(out: &mut Vec<u8>, mut value: u32, width: usize) {
    let mut digits = [b'0'; 9];
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[..width]);
}

/// Appends `bytes` in lower-case hexadecimal.
pub(crate) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Appends an address without port, IPv6 without brackets.
pub(crate) fn ip(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                unsigned(out, u64::from(octet));
            }
        }
        // Writing into a Vec cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

/// Appends an address as it is shown to people.
pub(crate) fn address(out: &mut Vec<u8>, address: &Address) {
    match address {
        Address::Inet(socket) => self::socket(out, *socket),
        // Writing into a Vec cannot fail.
        Address::Unix(_) => drop(write!(out, "{address}")),
    }
}

/// Appends `ip:port`, IPv6 in brackets.
pub(crate) fn socket(out: &mut Vec<u8>, address: SocketAddr) {
    let brackets = address.is_ipv6();
    if brackets {
        out.push(b'[');
    }
    ip(out, address.ip());
    if brackets {
        out.push(b']');
    }
    out.push(b':');
    unsigned(out, u64::from(address.port()));
}

/// Moments as text. Keeps the text of the last second seen: exchanges come in order of time.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Seconds since 1970 that `text` shows.
    second: u64,
    /// `YYYY-MM-DDTHH:MM:SS`
    text: Vec<u8>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            second: 0,
            text: b"1970-01-01T00:00:00".to_vec(),
        }
    }

    /// Appends `time` as RFC 3339 in UTC with nanoseconds: `2026-11-21T14:06:14.182000931Z`.
    pub(crate) fn rfc3339(&mut self, out: &mut Vec<u8>, time: Nanos) {
        self.turn_to(time);
        out.extend_from_slice(&self.text);
        out.push(b'.');
        padded(out, (time.0 % 1_000_000_000) as u32, 9);
        out.push(b'Z');
    }

    /// Appends the time of day of `time` in UTC with milliseconds: `14:06:14.182`.
    pub(crate) fn time_of_day(&mut self, out: &mut Vec<u8>, time: Nanos) {
        self.turn_to(time);
        out.extend_from_slice(&self.text[11..]);
        out.push(b'.');
        padded(out, (time.0 % 1_000_000_000 / 1_000_000) as u32, 3);
    }

    fn turn_to(&mut self, time: Nanos) {
        let second = time.0 / 1_000_000_000;
        if second == self.second {
            return;
        }
        self.second = second;
        let (year, month, day) = civil(second / 86_400);
        let of_day = (second % 86_400) as u32;
        self.text.clear();
        for (value, width, after) in [
            (year, 4, b'-'),
            (month, 2, b'-'),
            (day, 2, b'T'),
            (of_day / 3600, 2, b':'),
            (of_day / 60 % 60, 2, b':'),
        ] {
            padded(&mut self.text, value, width);
            self.text.push(after);
        }
        padded(&mut self.text, of_day % 60, 2);
    }
}

/// Year, month and day of the given day since 1970-01-01, in the Gregorian calendar. Counts years
/// from March, so that a leap day is the last of its year; 400 years are always 146,097 days.
fn civil(day: u64) -> (u32, u32, u32) {
    let from_0000_03_01 = day + 719_468;
    let era = from_0000_03_01 / 146_097;
    let of_era = from_0000_03_01 % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year as u32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn integers_of_every_length_read_as_the_standard_library_writes_them() {
        let mut value = 0_u64;
        for digit in 1..=20 {
            for near in [value.wrapping_sub(1), value, value.wrapping_add(1)] {
                assert_eq!(text(|out| unsigned(out, near)), near.to_string());
            }
            value = value.wrapping_mul(10).wrapping_add(digit % 10);
        }
        for value in [i64::MIN, -10, -1, 0, 7, 10, 99, 100, 101, i64::MAX] {
            assert_eq!(text(|out| signed(out, value)), value.to_string());
        }
    }

    #[test]
    fn moments_are_rfc_3339_with_nanoseconds() {
        let mut clock = Clock::new();
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
            (1_709_251_199, 5_000, "2024-02-29T23:59:59.000005000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000000Z"),
            (1_798_761_599, 0, "2026-12-31T23:59:59.000000000Z"),
            (1_798_761_600, 0, "2027-01-01T00:00:00.000000000Z"),
            (
                18_446_744_073,
                709_551_615,
                "2554-07-21T23:34:33.709551615Z",
            ),
        ] {
            let time = Nanos(seconds * 1_000_000_000 + nanos);
            assert_eq!(text(|out| clock.rfc3339(out, time)), expected);
        }
    }

    #[test]
    fn the_time_of_day_is_cut_to_milliseconds_not_rounded() {
        let time = Nanos(1_798_761_599_999_999_999);
        assert_eq!(
            text(|out| Clock::new().time_of_day(out, time)),
            "23:59:59.999"
        );
    }

    #[test]
    fn addresses_of_ipv6_stand_in_brackets() {
        for written in [
            "127.0.0.1:80",
            "10.20.0.255:65535",
            "[::1]:0",
            "[2001:db8::7]:443",
        ] {
            let parsed = written.parse().expect("an address");
            assert_eq!(text(|out| socket(out, parsed)), written);
        }
    }
}
