//! Is this HTTP/2?

use wirespan_parser_api::{Confidence, Direction, Probe, ProbeInput, Speaker};

use crate::resync::is_plausible;
use crate::wire::{self, HEAD, Head, Kind, PREFACE, flag};

/// Frames behind each other that are proof in the middle of a stream; one less at its beginning.
const CHAIN: usize = 3;

/// Decides whether `head` is HTTP/2.
pub(crate) fn probe(head: &ProbeInput<'_>) -> Probe {
    let bytes = head.bytes;
    let more = Probe::NeedMore(bytes.len().saturating_add(1));
    if head.speaker != Some(Speaker::Server) {
        if bytes.starts_with(PREFACE) {
            return Probe::Accept(Confidence::Certain, Speaker::Client);
        }
        if PREFACE.starts_with(bytes) {
            return Probe::NeedMore(PREFACE.len());
        }
    }
    if !head.at_start {
        return match chain(bytes, head.speaker) {
            Some(speaker) => Probe::Accept(Confidence::Strong, speaker),
            None => more,
        };
    }
    if head.speaker == Some(Speaker::Client) {
        return Probe::Reject;
    }
    match first_settings(bytes) {
        Verdict::Yes => Probe::Accept(Confidence::Strong, Speaker::Server),
        Verdict::No => Probe::Reject,
        Verdict::Open(n) => Probe::NeedMore(n),
    }
}

enum Verdict {
    Yes,
    No,
    /// So many bytes are needed.
    Open(usize),
}

/// A server begins with SETTINGS that are no acknowledgement (RFC 9113 §3.4).
fn first_settings(bytes: &[u8]) -> Verdict {
    // Byte by byte where less than a header is there, so that others need not wait for us.
    let template = [
        Some(0),
        Some(0),
        None,
        Some(4),
        Some(0),
        Some(0),
        Some(0),
        Some(0),
        Some(0),
    ];
    let mut pairs = bytes.iter().zip(template);
    if pairs.any(|(byte, expected)| expected.is_some_and(|expected| expected != *byte)) {
        return Verdict::No;
    }
    let Some(head) = wire::head(bytes) else {
        return Verdict::Open(HEAD);
    };
    if !is_plausible(Direction::ToClient, &head, 0) {
        return Verdict::No;
    }
    let end = HEAD.saturating_add(head.payload());
    let Some(payload) = bytes.get(HEAD..end) else {
        return Verdict::Open(end);
    };
    let right = wire::settings(payload).all(|(id, value)| match id {
        // RFC 9113 §6.5.2.
        2 => value <= 1,
        4 => value <= 0x7fff_ffff,
        5 => (0x4000..=0xff_ffff).contains(&value),
        1 | 3 | 6 => true,
        // Extended CONNECT, no priorities, and reserved values as they are made (RFC 9113 has none).
        8 | 9 => value <= 1,
        id => id >= 0x10,
    });
    if right { Verdict::Yes } else { Verdict::No }
}

/// Who speaks, where frames are found behind each other.
///
/// Of several places the one that needs the fewest bytes counts, so that more bytes change nothing.
fn chain(bytes: &[u8], speaker: Option<Speaker>) -> Option<Speaker> {
    let mut best: Option<(usize, Speaker)> = None;
    for at in 0..bytes.len().saturating_sub(HEAD) {
        let found = chain_at(bytes, at, speaker);
        best = match (best, found) {
            (Some(best), Some(found)) if found.0 < best.0 => Some(found),
            (None, found) => found,
            (best, _) => best,
        };
    }
    best.map(|(_, speaker)| speaker)
}

/// How many bytes show that frames begin at `start`, and who sent them.
fn chain_at(bytes: &[u8], start: usize, speaker: Option<Speaker>) -> Option<(usize, Speaker)> {
    let dir = match speaker {
        Some(Speaker::Client) => Direction::ToServer,
        _ => Direction::ToClient,
    };
    let wanted = CHAIN.saturating_sub(usize::from(start == 0));
    let (mut at, mut frames, mut who, mut needed) = (start, 0usize, speaker, 0usize);
    loop {
        let head = bytes.get(at..).and_then(wire::head)?;
        if !is_plausible(dir, &head, 0) {
            return None;
        }
        let payload = at.saturating_add(HEAD);
        needed = needed.max(payload);
        frames = frames.saturating_add(1);
        if who.is_none()
            && head.kind == Kind::HEADERS
            && let Some((used, said)) = bytes
                .get(payload..)
                .and_then(|rest| speaker_of(&head, rest))
        {
            who = Some(said);
            needed = needed.max(payload.saturating_add(used));
        }
        if let (true, Some(who)) = (frames >= wanted, who) {
            return Some((needed, who));
        }
        at = payload.saturating_add(head.payload());
    }
}

/// By a header block that begins with `:status` or with a header of requests: who sent it, and how
/// many bytes that took.
fn speaker_of(head: &Head, payload: &[u8]) -> Option<(usize, Speaker)> {
    let padding = usize::from(head.has(flag::PADDED));
    let at = padding.saturating_add(if head.has(flag::PRIORITY) { 5 } else { 0 });
    let speaker = match payload.get(at)? {
        // The static table's `:method`, `:path`, `:scheme`; `:authority` and `:path` with a value.
        0x82..=0x87 | 0x41..=0x47 | 0x01..=0x07 => Speaker::Client,
        0x88..=0x8e | 0x48..=0x4e | 0x08..=0x0e => Speaker::Server,
        _ => return None,
    };
    Some((at.saturating_add(1), speaker))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Confidence::{Certain, Strong};
    use Speaker::{Client, Server};

    fn ask(bytes: &[u8], speaker: Option<Speaker>, at_start: bool) -> Probe {
        let mut head = ProbeInput::new(bytes);
        (head.speaker, head.at_start) = (speaker, at_start);
        probe(&head)
    }

    #[test]
    fn the_preface_is_certain() {
        for at_start in [true, false] {
            assert_eq!(ask(PREFACE, None, at_start), Probe::Accept(Certain, Client));
            assert_eq!(ask(&PREFACE[..10], None, at_start), Probe::NeedMore(24));
        }
        assert_eq!(ask(PREFACE, Some(Server), true), Probe::Reject);
        assert_eq!(ask(b"PRI * HTTP/2.0\r\n\r\nXX", None, true), Probe::Reject);
    }

    #[test]
    fn first_settings_are_the_servers() {
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64";
        assert_eq!(ask(settings, None, true), Probe::Accept(Strong, Server));
        assert_eq!(ask(&settings[..9], Some(Server), true), Probe::NeedMore(15));
        assert_eq!(ask(&settings[..3], Some(Server), true), Probe::NeedMore(9));
        assert_eq!(ask(settings, Some(Client), true), Probe::Reject);
        let wrong = b"\0\0\x06\x04\0\0\0\0\0\0\x02\0\0\0\x64";
        assert_eq!(ask(wrong, None, true), Probe::Reject, "ENABLE_PUSH of 100");
        let ack = b"\0\0\0\x04\x01\0\0\0\0";
        assert_eq!(ask(ack, None, true), Probe::Reject);
    }

    #[test]
    fn frames_in_the_middle_are_known_by_their_chain() {
        let request = b"\0\0\x01\x01\x05\0\0\0\x07\x82";
        let update = b"\0\0\x04\x08\0\0\0\0\x01\0\0\x10\0";
        let both = [request.as_slice(), update].concat();
        assert_eq!(ask(&both, None, false), Probe::Accept(Strong, Client));
        assert_eq!(
            ask(&both, Some(Client), false),
            Probe::Accept(Strong, Client)
        );
        assert_eq!(ask(request, None, false), Probe::NeedMore(11));
        let later = [
            b"body",
            update.as_slice(),
            update,
            b"\0\0\x01\x01\x04\0\0\0\x07\x88",
        ]
        .concat();
        assert_eq!(ask(&later, None, false), Probe::Accept(Strong, Server));
    }

    #[test]
    fn other_protocols_are_none_of_ours() {
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n".as_slice(),
            b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
            b"\x4a\x00\x00\x00\x0a8.0.36\x00",
            b"*1\r\n$4\r\nPING\r\n",
        ] {
            assert_eq!(ask(bytes, None, true), Probe::Reject);
            assert!(matches!(ask(bytes, None, false), Probe::NeedMore(_)));
        }
    }
}
