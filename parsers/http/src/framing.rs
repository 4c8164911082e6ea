//! How long a message's body is, by its headers (RFC 9112 §6).

use wirespan_parser_api::{Flags, ProtocolName, Upgrade};

use crate::WEBSOCKET;

/// The extent of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Body {
    /// None.
    Empty,
    /// This many bytes.
    Length(u64),
    /// Chunks, until the last one.
    Chunked,
    /// All that follows in this direction.
    ToEnd,
}

/// What the headers of one message say about its framing. Each decision here is a row of the table
/// in the crate's documentation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Framing<'a> {
    length: Length,
    coding: Coding,
    ambiguous: bool,
    /// Whether the message is HTTP/1.0, which knows no transfer codings.
    pub(crate) old: bool,
    /// Value of the last `Upgrade` header.
    pub(crate) upgrade: Option<&'a [u8]>,
    /// Whether `Connection` lists `upgrade`.
    pub(crate) connection_upgrade: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Length {
    #[default]
    Absent,
    Known(u64),
    Invalid,
}

/// The last transfer coding.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Coding {
    #[default]
    Absent,
    Chunked,
    Other,
}

impl<'a> Framing<'a> {
    /// Takes one header.
    #[inline]
    pub(crate) fn header(&mut self, name: &[u8], value: &'a [u8]) {
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = Some(value),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                self.connection_upgrade |= items(value).any(|v| v.eq_ignore_ascii_case(b"upgrade"));
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => {}
        }
    }

    /// The `Content-Length`, where it is what frames the body.
    pub(crate) fn content_length_known(&self) -> Option<u64> {
        match (self.coding, self.length) {
            (Coding::Absent, Length::Known(n)) => Some(n),
            _ => None,
        }
    }

    /// The body of a request.
    pub(crate) fn request_body(&self) -> (Body, Flags) {
        match (self.coding, self.length) {
            (Coding::Chunked, _) => (Body::Chunked, self.flags(false)),
            // No server can tell where it ends: it answers 400 and closes (RFC 9112 §6.3).
            (Coding::Other, _) | (_, Length::Invalid) => (Body::ToEnd, self.flags(true)),
            (Coding::Absent, Length::Absent) => (Body::Empty, self.flags(false)),
            (Coding::Absent, Length::Known(n)) => (Body::Length(n), self.flags(false)),
        }
    }

    /// The body of a response that may have one.
    pub(crate) fn response_body(&self) -> (Body, Flags) {
        match (self.coding, self.length) {
            (Coding::Chunked, _) => (Body::Chunked, self.flags(false)),
            (Coding::Other, _) => (Body::ToEnd, self.flags(false)),
            (_, Length::Invalid) => (Body::ToEnd, self.flags(true)),
            (Coding::Absent, Length::Absent) => (Body::ToEnd, self.flags(false)),
            (Coding::Absent, Length::Known(n)) => (Body::Length(n), self.flags(false)),
        }
    }

    fn flags(&self, ambiguous: bool) -> Flags {
        let both = self.coding != Coding::Absent && self.length != Length::Absent;
        let coded_too_early = self.old && self.coding != Coding::Absent;
        if ambiguous || both || coded_too_early || self.ambiguous {
            Flags::AMBIGUOUS
        } else {
            Flags::NONE
        }
    }

    fn content_length(&mut self, value: &[u8]) {
        for item in items(value) {
            let (digits, signed) = match item {
                [b'+', digits @ ..] => (digits, true),
                digits => (digits, false),
            };
            let padded = digits.len() > 1 && digits.starts_with(b"0");
            let repeated = self.length != Length::Absent;
            self.ambiguous |= signed || padded || repeated;
            self.length = match (self.length, decimal(digits)) {
                (Length::Invalid, _) | (_, None) => Length::Invalid,
                (Length::Absent, Some(n)) => Length::Known(n),
                // The longest, so that a body is never read as a message.
                (Length::Known(before), Some(n)) => Length::Known(n.max(before)),
            };
        }
        if self.length == Length::Absent {
            self.length = Length::Invalid;
        }
    }

    fn transfer_encoding(&mut self, value: &[u8]) {
        self.ambiguous |= items(value).next().is_none();
        for item in items(value) {
            let name = item.split(|b| *b == b';').next().unwrap_or_default();
            let name = name.trim_ascii();
            // A coding of RFC 2616 that changes nothing.
            if name.eq_ignore_ascii_case(b"identity") {
                self.ambiguous = true;
                continue;
            }
            // Chunks are the last coding, and stand once (RFC 9112 §6.1).
            self.ambiguous |= self.coding == Coding::Chunked || name.len() != item.len();
            self.coding = if name.eq_ignore_ascii_case(b"chunked") {
                Coding::Chunked
            } else {
                Coding::Other
            };
        }
    }
}

/// The elements of a comma-separated list, without the empty ones.
pub(crate) fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// A number of at most `i64::MAX`.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for digit in digits {
        let value = char::from(*digit).to_digit(10)?;
        number = number.checked_mul(10)?.checked_add(u64::from(value))?;
    }
    i64::try_from(number).is_ok().then_some(number)
}

/// Where a 101 response leads, by its `Upgrade` header.
pub(crate) fn upgrade(value: Option<&[u8]>) -> Upgrade {
    match value.and_then(|value| items(value).next()) {
        Some(name) if name.eq_ignore_ascii_case(b"websocket") => Upgrade::To(WEBSOCKET),
        Some(name) if name.eq_ignore_ascii_case(b"h2c") => Upgrade::To(ProtocolName("h2")),
        _ => Upgrade::Detect,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SURE: Flags = Flags::NONE;
    const DOUBTFUL: Flags = Flags::AMBIGUOUS;

    fn framing<'a>(headers: &[(&str, &'a str)]) -> Framing<'a> {
        let mut framing = Framing::default();
        for (name, value) in headers {
            framing.header(name.as_bytes(), value.as_bytes());
        }
        framing
    }

    fn request(headers: &[(&str, &str)]) -> (Body, Flags) {
        framing(headers).request_body()
    }

    fn response(headers: &[(&str, &str)]) -> (Body, Flags) {
        framing(headers).response_body()
    }

    #[test]
    fn without_headers_a_request_has_no_body_and_a_response_lasts_to_the_end() {
        assert_eq!(request(&[]), (Body::Empty, SURE));
        assert_eq!(response(&[]), (Body::ToEnd, SURE));
    }

    #[test]
    fn content_length_counts() {
        assert_eq!(
            request(&[("content-length", "12")]),
            (Body::Length(12), SURE)
        );
        assert_eq!(
            response(&[("Content-Length", "0")]),
            (Body::Length(0), SURE)
        );
    }

    #[test]
    fn chunked_wins_over_content_length() {
        let both = [("content-length", "12"), ("transfer-encoding", "chunked")];
        assert_eq!(request(&both), (Body::Chunked, DOUBTFUL));
        assert_eq!(response(&both), (Body::Chunked, DOUBTFUL));
        assert_eq!(framing(&both).content_length_known(), None);
    }

    #[test]
    fn of_several_content_lengths_the_longest_counts() {
        for (value, length) in [("5, 5", 5), ("5,9", 9), ("9,5", 9), ("+5", 5), ("007", 7)] {
            let body = request(&[("content-length", value)]);
            assert_eq!(body, (Body::Length(length), DOUBTFUL), "{value}");
        }
        let twice = [("content-length", "5"), ("content-length", "6")];
        assert_eq!(response(&twice), (Body::Length(6), DOUBTFUL));
    }

    #[test]
    fn an_unreadable_content_length_lasts_to_the_end() {
        for value in [
            "",
            ",",
            "-1",
            "5 5",
            "0x5",
            "5a",
            "9223372036854775808",
            "5,x",
            "x,5",
        ] {
            let headers = [("content-length", value)];
            assert_eq!(request(&headers), (Body::ToEnd, DOUBTFUL), "{value}");
            assert_eq!(response(&headers), (Body::ToEnd, DOUBTFUL), "{value}");
        }
    }

    #[test]
    fn the_last_transfer_coding_decides() {
        for (value, coding, flags) in [
            ("chunked", Body::Chunked, SURE),
            ("Chunked", Body::Chunked, SURE),
            ("gzip, chunked", Body::Chunked, SURE),
            ("gzip", Body::ToEnd, SURE),
            ("chunked, gzip", Body::ToEnd, DOUBTFUL),
            ("chunked, chunked", Body::Chunked, DOUBTFUL),
            ("chunked;q=1", Body::Chunked, DOUBTFUL),
            ("identity, chunked", Body::Chunked, DOUBTFUL),
            ("xchunked", Body::ToEnd, SURE),
            ("", Body::ToEnd, DOUBTFUL),
            ("\r\n chunked", Body::Chunked, SURE),
        ] {
            assert_eq!(
                response(&[("transfer-encoding", value)]),
                (coding, flags),
                "{value}"
            );
        }
    }

    #[test]
    fn a_request_with_an_unknown_last_coding_lasts_to_the_end() {
        let headers = [("transfer-encoding", "gzip")];
        assert_eq!(request(&headers), (Body::ToEnd, DOUBTFUL));
    }

    #[test]
    fn repeated_transfer_encodings_are_one_list() {
        let headers = [
            ("transfer-encoding", "gzip"),
            ("transfer-encoding", "chunked"),
        ];
        assert_eq!(request(&headers), (Body::Chunked, SURE));
    }

    #[test]
    fn connection_is_a_list() {
        assert!(framing(&[("connection", "keep-alive, Upgrade")]).connection_upgrade);
        assert!(!framing(&[("connection", "keep-alive")]).connection_upgrade);
    }
}
