//! Recognising HTTP/1 in bytes of unknown origin, and finding a head after a loss.

use wirespan_parser_api::{Confidence, Probe, ProbeInput, Speaker};

use crate::lax::{MAX_METHOD, is_token, known_method, versionless};
use crate::read::Read;

/// Bytes that decide. A verdict never depends on what follows them, so that it stays the same.
const WINDOW: usize = 4096;
/// Bytes of a request line after which it is believed without its end.
const LONG_LINE: usize = 2048;
/// Bytes of a status line that decide: `HTTP/1.x SP ddd` and what follows the code.
const STATUS: usize = 13;

/// Bytes within which a response must begin for what precedes it to be passed over.
const JUNK: usize = 64;

/// What a line is the beginning of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Line {
    /// A request, this surely.
    Request(Confidence),
    Response,
    Neither,
    /// Undecided.
    Short,
}

/// See [`Protocol::probe`](wirespan_parser_api::Protocol::probe).
pub(crate) fn probe(head: &ProbeInput<'_>) -> Probe {
    let bytes = head.bytes.get(..WINDOW).unwrap_or(head.bytes);
    let verdict = if head.at_start {
        at_start(bytes)
    } else {
        in_the_middle(bytes)
    };
    match (verdict, head.speaker) {
        (Probe::Accept(_, speaker), Some(known)) if speaker != known => Probe::Reject,
        (Probe::NeedMore(n), _) if n > WINDOW => Probe::Reject,
        _ => verdict,
    }
}

/// The offset at which a request seems to begin.
pub(crate) fn next_request(window: &[u8]) -> Option<usize> {
    candidates(window).find(|at| {
        let bytes = window.get(*at..).unwrap_or_default();
        let target = known_method(bytes);
        if target.is_none() && !line_start(window, *at) {
            return false;
        }
        match request_line(bytes) {
            Line::Request(_) => true,
            // Its end may be far, and the engine keeps little: parsing will tell.
            Line::Short => target.is_some_and(|target| target.starts_with(b"/")),
            Line::Response | Line::Neither => false,
        }
    })
}

/// The offset at which a response seems to begin.
pub(crate) fn next_response(window: &[u8]) -> Option<usize> {
    window.windows(STATUS).position(is_response)
}

/// Whether `bytes` begin with a request line.
pub(crate) fn is_request(bytes: &[u8]) -> bool {
    matches!(request_line(bytes), Line::Request(_))
}

/// Whether `bytes` begin with a status line, up to its code.
pub(crate) fn is_response(bytes: &[u8]) -> bool {
    status_line(bytes) == Line::Response
}

/// Bytes that are no response, before one that begins among the first [`JUNK`] bytes.
pub(crate) fn junk(bytes: &[u8]) -> Read<()> {
    let window = bytes.get(..JUNK).unwrap_or(bytes);
    match next_response(window) {
        Some(at) if at > 0 => Read::Done((), at),
        None if bytes.len() < JUNK => Read::Short(bytes.len().saturating_add(1)),
        _ => Read::Bad("status line"),
    }
}

fn at_start(bytes: &[u8]) -> Probe {
    let blank = bytes
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    let line = bytes.get(blank..).unwrap_or_default();
    if blank > 4 {
        return Probe::Reject;
    }
    let request = match (request_line(line), versionless(line)) {
        (Line::Neither, Read::Done(..)) => Line::Request(Confidence::Strong),
        (Line::Neither, Read::Short(_)) => Line::Short,
        (request, _) => request,
    };
    match (status_line(line), request) {
        (Line::Response, _) => Probe::Accept(Confidence::Certain, Speaker::Server),
        (_, Line::Request(confidence)) => Probe::Accept(confidence, Speaker::Client),
        (Line::Short, _) | (_, Line::Short) => Probe::NeedMore(bytes.len().saturating_add(1)),
        _ => Probe::Reject,
    }
}

/// Judges whole lines in order, so that the first one that is a start line decides for good.
fn in_the_middle(bytes: &[u8]) -> Probe {
    let mut at = 0usize;
    while let Some(rest) = bytes.get(at..)
        && let Some(len) = rest.iter().position(|b| *b == b'\n')
    {
        let end = at.saturating_add(len).saturating_add(1);
        let line = bytes.get(at..end).unwrap_or_default();
        if line.ends_with(b"\r\n") {
            if next_response(line).is_some() {
                return Probe::Accept(Confidence::Strong, Speaker::Server);
            }
            if next_request(line).is_some() {
                return Probe::Accept(Confidence::Strong, Speaker::Client);
            }
        }
        at = end;
    }
    Probe::NeedMore(bytes.len().saturating_add(1))
}

/// Offsets at which a method can begin: the first of a run of letters.
fn candidates(window: &[u8]) -> impl Iterator<Item = usize> {
    let mut before = b'\n';
    window.iter().enumerate().filter_map(move |(at, byte)| {
        let first = byte.is_ascii_uppercase() && !is_token(before);
        // A body that ends with a letter or digit may touch the method that follows.
        let touching = matches!(byte, b'C' | b'D' | b'G' | b'H' | b'O' | b'P' | b'T');
        before = *byte;
        (first || touching).then_some(at)
    })
}

/// Whether a line begins at `at`. Not known of the window's start: what was lost may have been
/// the first letters of a method.
fn line_start(window: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| window.get(before));
    before == Some(&b'\n')
}

/// Judges `HTTP/1.x SP ddd` and the byte behind it.
fn status_line(bytes: &[u8]) -> Line {
    let head = bytes.get(..STATUS).unwrap_or(bytes);
    let fits = head.iter().zip(0usize..).all(|(byte, at)| match at {
        0..=6 => b"HTTP/1.".get(at) == Some(byte),
        7 => matches!(byte, b'0' | b'1'),
        8 => *byte == b' ',
        9 => matches!(byte, b'1'..=b'9'),
        10 | 11 => byte.is_ascii_digit(),
        _ => matches!(byte, b' ' | b'\r' | b'\n'),
    });
    match head.len() {
        _ if !fits => Line::Neither,
        STATUS => Line::Response,
        _ => Line::Short,
    }
}

/// Judges `method SP target SP HTTP/1.x` and its line end.
fn request_line(bytes: &[u8]) -> Line {
    let head = bytes.iter().take(MAX_METHOD.saturating_add(1));
    let method = head.take_while(|b| is_token(**b)).count();
    match bytes.get(method) {
        _ if method > MAX_METHOD => return Line::Neither,
        None => return Line::Short,
        Some(b' ') if method > 0 => {}
        Some(_) => return Line::Neither,
    }
    let line = bytes.get(..LONG_LINE).unwrap_or(bytes);
    let target = line.get(method.saturating_add(1)..).unwrap_or_default();
    let len = target
        .iter()
        .take_while(|b| matches!(b, b'!'..=b'~' | 0x80..))
        .count();
    let rest = target.get(len..).unwrap_or_default();
    let usual = known_method(bytes).is_some();
    let end = rest.iter().position(|b| *b == b'\n');
    let rest = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
    if target.starts_with(b" ")
        || !rest
            .iter()
            .all(|b| matches!(b, b' '..=b'~' | b'\r' | 0x80..))
    {
        return Line::Neither;
    }
    if end.is_none() {
        return match line.len() {
            LONG_LINE if usual && rest.is_empty() => Line::Request(Confidence::Strong),
            LONG_LINE => Line::Neither,
            _ => Line::Short,
        };
    }
    match rest.strip_suffix(b"\r").unwrap_or(rest) {
        _ if len == 0 => Line::Neither,
        b" HTTP/1.1" | b" HTTP/1.0" if usual => Line::Request(Confidence::Certain),
        // A target with spaces in it, which servers accept.
        [
            ..,
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            b'0'..=b'9',
        ] => Line::Request(Confidence::Strong),
        _ => Line::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Confidence::{Certain, Strong};
    use Speaker::{Client, Server};

    fn probe_of(bytes: &[u8], at_start: bool) -> Probe {
        let mut head = ProbeInput::new(bytes);
        head.at_start = at_start;
        probe(&head)
    }

    /// Probes prefixes, of long texts not all: once decided, the verdict must stay.
    fn verdict(bytes: &[u8], at_start: bool) -> Probe {
        let last = probe_of(bytes, at_start);
        for n in (1..bytes.len()).filter(|n| *n < 100 || n % 101 == 0) {
            match probe_of(&bytes[..n], at_start) {
                Probe::NeedMore(more) => assert!(more > n),
                decided => assert_eq!(
                    decided,
                    last,
                    "{n} of {:?}",
                    bytes.escape_ascii().to_string()
                ),
            }
        }
        last
    }

    #[test]
    fn a_request_is_recognised_at_its_line_end() {
        for (text, confidence) in [
            ("GET / HTTP/1.1\r\n", Certain),
            ("POST /x?y HTTP/1.0\r\nHost: h", Certain),
            ("OPTIONS * HTTP/1.1\n", Certain),
            ("CONNECT h:443 HTTP/1.1\r\n", Certain),
            ("\r\nGET http://h/ HTTP/1.1\r\n", Certain),
            ("REPORT /x HTTP/1.1\r\n", Strong),
            ("M-SEARCH * HTTP/1.1\r\n", Strong),
            ("GET /a b HTTP/1.1\r\n", Strong),
            ("GET /a\r\nHost: h\r\n", Strong),
        ] {
            assert_eq!(
                verdict(text.as_bytes(), true),
                Probe::Accept(confidence, Client),
                "{text:?}"
            );
        }
        assert!(matches!(
            probe_of(b"GET / HTTP/1.1", true),
            Probe::NeedMore(15)
        ));
    }

    #[test]
    fn a_response_is_recognised_by_its_status() {
        let verdict = verdict(b"HTTP/1.1 200 OK\r\n", true);
        assert_eq!(verdict, Probe::Accept(Certain, Server));
    }

    #[test]
    fn other_protocols_are_rejected() {
        for text in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "OPTIONS sip:a@b SIP/2.0\r\n",
            "SIP/2.0 200 OK\r\n",
            "DESCRIBE rtsp://h/ RTSP/1.0\r\n",
            "RTSP/1.0 200 OK\r\n",
            "REQMOD icap://h/ ICAP/1.0\r\n",
            "ICAP/1.0 200 OK\r\n",
            "HTTP/2.0 200 OK\r\n",
            "GET /\r\n\r\n",
            "GET /a\r\nGET /b\r\n",
            "GET a\r\n",
            "GET / HTTP/0.9\r\n",
            "*1\r\n$4\r\nPING\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "220 mail ESMTP\r\n",
            "EHLO there\r\n",
            "\x16\x03\x01\x02\0\x01",
            "\r\n\r\n\r\n\r\n",
            "x y z\r\x0fGET / HTTP/1.1\r\n",
        ] {
            assert_eq!(verdict(text.as_bytes(), true), Probe::Reject, "{text:?}");
        }
    }

    #[test]
    fn a_very_long_request_line_is_believed_without_its_end() {
        let line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(9_000));
        assert_eq!(
            verdict(line.as_bytes(), true),
            Probe::Accept(Strong, Client)
        );
        let line = format!("FETCH /{} HTTP/1.1\r\n", "x".repeat(9_000));
        assert_eq!(verdict(line.as_bytes(), true), Probe::Reject);
    }

    #[test]
    fn the_other_side_is_rejected_when_the_speaker_is_known() {
        let mut head = ProbeInput::new(b"HTTP/1.1 200 OK\r\n");
        head.speaker = Some(Client);
        assert_eq!(probe(&head), Probe::Reject);
    }

    #[test]
    fn a_head_is_recognised_in_the_middle_of_a_stream() {
        for (text, speaker) in [
            ("rest of a body\r\nGET /x HTTP/1.1\r\nHost: h\r\n", Client),
            ("{\"a\":1}POST /x HTTP/1.1\r\n", Client),
            ("x9GET /x HTTP/1.1\r\nHTTP/1.1 200 OK\r\n", Client),
            ("\0\x01\x02HTTP/1.1 304 Not Modified\r\n", Server),
            (
                "Content-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nGET / HTTP/1.1\r\n",
                Server,
            ),
        ] {
            let verdict = verdict(text.as_bytes(), false);
            assert_eq!(verdict, Probe::Accept(Strong, speaker), "{text:?}");
        }
    }

    #[test]
    fn a_stream_without_a_head_is_rejected_at_the_end_of_the_window() {
        assert!(matches!(
            probe_of(&[b'x'; 4095], false),
            Probe::NeedMore(4096)
        ));
        assert_eq!(verdict(&[b'x'; 5000], false), Probe::Reject);
        let log = "\"GET / HTTP/1.1\" 200 -\r\n".repeat(300);
        assert_eq!(verdict(log.as_bytes(), false), Probe::Reject);
    }

    #[test]
    fn junk_ends_where_a_response_begins_nearby() {
        assert_eq!(junk(b" \t\r\nHTTP/1.1 200 OK"), Read::Done((), 4));
        assert_eq!(junk(b"foobar\r\nHTTP/1.1 20"), Read::Short(20));
        assert_eq!(junk(&[b'x'; 64]), Read::Bad("status line"));
        assert_eq!(
            junk(b"HTTP/1.1 200 OK"),
            Read::Bad("status line"),
            "it is one itself"
        );
    }

    #[test]
    fn resync_finds_the_next_head() {
        assert_eq!(next_request(b"GET / HTTP/1.1\r\n"), Some(0));
        assert_eq!(next_request(b"body\r\nGET / HTTP/1.1\r\n"), Some(6));
        assert_eq!(next_request(b"bodyPUT / HTTP/1.1\r\n"), Some(4));
        assert_eq!(next_request(b"a REPORT / HTTP/1.1\r\n"), None);
        assert_eq!(next_request(b"ET / HTTP/1.1\r\n"), None);
        assert_eq!(next_request(b"a\nREPORT / HTTP/1.1\r\n"), Some(2));
        assert_eq!(next_request(b"\0\0GET /a/very/long/tar"), Some(2));
        assert_eq!(next_request(b"\0\0GET"), None);
        assert_eq!(next_response(b"foobar\r\nHTTP/1.1 200 OK\r\n"), Some(8));
        assert_eq!(next_response(b"HTTP/1.1 200 "), Some(0));
        assert_eq!(next_response(b"HTTP/1.1 2xx "), None);
    }
}
