//! gRPC over HTTP/2: messages, statuses, deadlines.

use wirespan_parser_api::Outcome;

use crate::wire::DEFAULT_MAX_FRAME;

/// Bytes before each message: a compression flag, and the length.
const PREFIX: usize = 5;
/// Messages are rarely larger; by default, receivers take 4 MB.
const MAX_BELIEVED: u32 = 64 << 20;

/// Counts the messages of one direction of a call, without looking at more than their prefixes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Messages {
    pub(crate) count: u32,
    /// Those that are flagged as compressed.
    pub(crate) compressed: u32,
    /// The part of a prefix that was seen; its first `have` bytes.
    prefix: [u8; PREFIX],
    have: u8,
    /// Bytes of the message that are still to come.
    left: u32,
    /// Bytes were lost, or make no sense: where messages begin is unknown.
    lost: bool,
}

impl Messages {
    /// Bytes that hold nothing of interest: those of the current message; after a loss, all.
    pub(crate) fn skippable(&self) -> u64 {
        if self.lost {
            u64::MAX
        } else {
            self.left.into()
        }
    }

    /// Passes over `n` of the [`Messages::skippable`] bytes.
    pub(crate) fn skip(&mut self, n: u64) {
        self.left = self
            .left
            .saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
    }

    /// Takes what it can of a prefix, when nothing is skippable; returns how many bytes that was.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> usize {
        let Some(room) = self.prefix.get_mut(self.have.into()..) else {
            return 0;
        };
        let taken = room.len().min(bytes.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.have = self
            .have
            .saturating_add(u8::try_from(taken).unwrap_or(u8::MAX));
        if usize::from(self.have) == PREFIX {
            self.begin();
        }
        taken
    }

    fn begin(&mut self) {
        let [flag, len @ ..] = self.prefix;
        self.have = 0;
        if flag > 1 {
            self.lost = true;
            return;
        }
        self.left = u32::from_be_bytes(len);
        self.count = self.count.saturating_add(1);
        self.compressed = self.compressed.saturating_add(flag.into());
    }

    /// Notes that bytes were lost outside of what is skippable.
    pub(crate) fn lose(&mut self) {
        self.lost = true;
    }

    /// The number of messages: `None` after a loss.
    pub(crate) fn known(&self) -> Option<i64> {
        (!self.lost).then_some(self.count.into())
    }
}

/// Whether the first DATA frame of a stream, of `len` bytes, looks like gRPC: one whole message, or
/// the beginning of one in a frame that is full.
pub(crate) fn looks_like_a_message(payload: &[u8], len: u32) -> bool {
    let Some(([flag, size @ ..], _)) = payload.split_first_chunk::<PREFIX>() else {
        return false;
    };
    let whole = u32::from_be_bytes(*size).saturating_add(PREFIX as u32);
    let begins = len >= DEFAULT_MAX_FRAME && (len..MAX_BELIEVED).contains(&whole);
    *flag <= 1 && (whole == len || begins)
}

/// Name of a status; `None` for a number that is none.
pub(crate) fn status_name(status: u32) -> Option<&'static str> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    NAMES.get(usize::try_from(status).ok()?).copied()
}

/// Outcome of a status, by the rules for servers.
pub(crate) const fn outcome(status: u32) -> Outcome {
    match status {
        0 => Outcome::Ok,
        // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
        2 | 4 | 12..=15 => Outcome::Error,
        1..=16 => Outcome::ClientFault,
        // Clients take a number that is none for UNKNOWN.
        _ => Outcome::Error,
    }
}

/// The status that a client makes of a response without `grpc-status`, by the HTTP status.
pub(crate) const fn status_of_http(status: u16) -> u32 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Reads a `grpc-timeout`: at most eight digits and a unit. In microseconds, rounded up.
pub(crate) fn timeout(value: &str) -> Option<i64> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: i64 = digits.parse().ok()?;
    match unit {
        "H" => amount.checked_mul(3_600_000_000),
        "M" => amount.checked_mul(60_000_000),
        "S" => amount.checked_mul(1_000_000),
        "m" => amount.checked_mul(1_000),
        "u" => Some(amount),
        "n" => amount.checked_add(999).map(|nanos| nanos / 1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives the bytes in pieces of `size`, skipping as a parser does.
    fn count(bytes: &[u8], size: usize) -> (u32, u32, bool) {
        let mut messages = Messages::default();
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let skip = usize::try_from(messages.skippable()).unwrap_or(usize::MAX);
                let n = skip.min(piece.len());
                messages.skip(n as u64);
                piece = &piece[n..];
                piece = &piece[if n == 0 { messages.take(piece) } else { 0 }..];
            }
        }
        (
            messages.count,
            messages.compressed,
            messages.known().is_some(),
        )
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let bytes = b"\0\0\0\0\x03abc\x01\0\0\0\x01z\0\0\0\0\0\0\0\0\0\x02de";
        for size in 1..bytes.len() {
            assert_eq!(count(bytes, size), (4, 1, true), "in pieces of {size}");
        }
    }

    #[test]
    fn a_flag_that_is_none_ends_the_count() {
        assert_eq!(count(b"\0\0\0\0\0\x02\0\0\0\0xyz", 4), (1, 0, false));
    }

    #[test]
    fn a_message_fills_its_frame() {
        assert!(looks_like_a_message(b"\0\0\0\0\x03abc", 8));
        assert!(looks_like_a_message(b"\x01\0\0\x01\0", 261));
        assert!(looks_like_a_message(b"\0\0\x10\0\0abc", 16_384));
        assert!(!looks_like_a_message(b"\0\0\x10\0\0abc", 16_383));
        assert!(!looks_like_a_message(b"\x02\0\0\0\x03abc", 8));
        assert!(!looks_like_a_message(b"{\"a\":1}", 7));
        assert!(!looks_like_a_message(b"\0\0\0", 3));
    }

    #[test]
    fn outcomes_follow_the_rules_for_servers() {
        let errors = (0..20).filter(|status| outcome(*status) == Outcome::Error);
        assert_eq!(
            errors.collect::<Vec<_>>(),
            [2, 4, 12, 13, 14, 15, 17, 18, 19]
        );
        assert_eq!(status_name(4), Some("DEADLINE_EXCEEDED"));
        assert_eq!(status_name(17), None);
    }

    #[test]
    fn timeouts_are_read() {
        for (value, micros) in [
            ("1H", Some(3_600_000_000)),
            ("100m", Some(100_000)),
            ("5S", Some(5_000_000)),
            ("2M", Some(120_000_000)),
            ("7u", Some(7)),
            ("1n", Some(1)),
            ("99999999n", Some(100_000)),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("+1S", None),
            ("1s", None),
        ] {
            assert_eq!(timeout(value), micros, "{value}");
        }
    }
}
