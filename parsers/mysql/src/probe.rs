//! Telling MySQL from other protocols, and finding message boundaries.

use wirespan_parser_api::{Confidence, Direction, Probe, ProbeInput, Speaker};

use crate::command::Command;
use crate::wire::{self, FRAME, HEADER, MAX_PAYLOAD};
use crate::zstd::Zstd;

/// Bytes within which a late attach must show a statement or a result.
const WINDOW: usize = 4_096;
/// Longest greeting, in bytes.
const MAX_GREETING: u32 = 512;

/// Words with which a statement begins. Sorted.
const VERBS: [&str; 53] = [
    "ALTER",
    "ANALYZE",
    "BEGIN",
    "BINLOG",
    "CALL",
    "CHANGE",
    "CHECK",
    "CHECKSUM",
    "COMMIT",
    "CREATE",
    "DEALLOCATE",
    "DELETE",
    "DESC",
    "DESCRIBE",
    "DO",
    "DROP",
    "EXECUTE",
    "EXPLAIN",
    "FLUSH",
    "GET",
    "GRANT",
    "HANDLER",
    "HELP",
    "INSERT",
    "INSTALL",
    "KILL",
    "LOAD",
    "LOCK",
    "OPTIMIZE",
    "PREPARE",
    "PURGE",
    "RELEASE",
    "RENAME",
    "REPAIR",
    "REPLACE",
    "RESET",
    "RESIGNAL",
    "REVOKE",
    "ROLLBACK",
    "SAVEPOINT",
    "SELECT",
    "SET",
    "SHOW",
    "SHUTDOWN",
    "SIGNAL",
    "START",
    "STOP",
    "TABLE",
    "TRUNCATE",
    "UNLOCK",
    "UPDATE",
    "USE",
    "WITH",
];
/// Length of the longest of [`VERBS`].
const LONGEST_VERB: usize = 10;

/// What some bytes may be the beginning of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// A packet, this surely.
    Is(Confidence),
    /// No such packet.
    IsNot,
    /// More bytes are needed.
    Short,
}

/// Decides what the beginning of a stream is.
pub(crate) fn probe(head: &ProbeInput<'_>) -> Probe {
    let bytes = head.bytes.get(..WINDOW).unwrap_or(head.bytes);
    // A packet begins at a connection's first byte; joined late, perhaps with a later one.
    let places = if head.at_start { 1 } else { bytes.len() };
    for at in 0..places {
        let rest = bytes.get(at..).unwrap_or_default();
        for speaker in [Speaker::Server, Speaker::Client] {
            if head.speaker.is_some_and(|known| known != speaker) {
                continue;
            }
            let verdict = match speaker {
                Speaker::Server => opening(rest, head.at_start).or(|| reply(rest, 1)),
                Speaker::Client => login(rest).or(|| command(rest)),
            };
            // Compressed, which no connection is at its beginning.
            let verdict = match head.at_start {
                true => verdict,
                false => zstd(rest, first_seq(speaker)).or(|| verdict),
            };
            match verdict {
                Verdict::Is(surely) if at == 0 || surely > Confidence::Weak => {
                    return Probe::Accept(surely, speaker);
                }
                Verdict::Short if bytes.len() < WINDOW => {
                    return Probe::NeedMore(head.bytes.len().saturating_add(1));
                }
                _ => {}
            }
        }
    }
    if head.at_start || bytes.len() >= WINDOW {
        Probe::Reject
    } else {
        Probe::NeedMore(head.bytes.len().saturating_add(1))
    }
}

impl Verdict {
    fn or(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::IsNot => other(),
            verdict => verdict,
        }
    }

    /// `Short` where a packet may begin that ends behind what is visible.
    const fn when(condition: bool, surely: Confidence) -> Self {
        if condition {
            Self::Is(surely)
        } else {
            Self::IsNot
        }
    }
}

/// Where a command could begin in `window`, or a login if one is awaited.
pub(crate) fn find_command(window: &[u8], awaits_login: bool) -> Option<usize> {
    find(window, |rest| {
        if awaits_login {
            login(rest).or(|| command(rest))
        } else {
            command(rest)
        }
    })
}

/// Where a response that begins with sequence id `seq` could begin in `window`, or a connection.
pub(crate) fn find_reply(window: &[u8], seq: u8) -> Option<usize> {
    find(window, |rest| opening(rest, false).or(|| reply(rest, seq)))
}

/// Where the frame begins whose content is the command at `at`: uncompressed, as short ones are.
pub(crate) fn frame_around(window: &[u8], at: usize) -> Option<usize> {
    let begin = at.checked_sub(FRAME)?;
    let frame = wire::frame(window.get(begin..)?)?;
    let command = wire::header(window.get(at..)?)?;
    let fits = frame.seq == 0 && frame.inflated == 0 && u64::from(frame.len) == command.total();
    fits.then_some(begin)
}

/// Where a compressed packet could begin in `window` that is the first of a command, or of a
/// response.
pub(crate) fn find_frame(dir: Direction, window: &[u8]) -> Option<usize> {
    (0..window.len()).find(|at| {
        let rest = window.get(*at..).unwrap_or_default();
        let Some(frame) = wire::frame(rest) else {
            return false;
        };
        let content = rest.get(FRAME..).unwrap_or_default();
        match dir {
            Direction::ToServer if frame.seq != 0 => false,
            Direction::ToClient if frame.seq != 1 => false,
            // zlib's own header, and something gained.
            _ if frame.inflated > 0 => {
                frame.len < frame.inflated
                    && matches!(content, [0x78, 0x01 | 0x5E | 0x9C | 0xDA, ..])
                    || matches!(zstd(rest, frame.seq), Verdict::Is(_))
            }
            Direction::ToServer => matches!(command(content), Verdict::Is(_)),
            Direction::ToClient => wire::header(content)
                .is_some_and(|header| matches!(reply(content, header.seq), Verdict::Is(_))),
        }
    })
}

/// Where a compressed packet begins in `window` that can be nothing else, by Zstandard's header.
pub(crate) fn find_zstd(dir: Direction, window: &[u8]) -> Option<usize> {
    let seq = match dir {
        Direction::ToServer => first_seq(Speaker::Client),
        Direction::ToClient => first_seq(Speaker::Server),
    };
    (0..window.len()).find(|at| {
        let rest = window.get(*at..).unwrap_or_default();
        matches!(zstd(rest, seq), Verdict::Is(_))
    })
}

/// Sequence id of a command's compressed packet, and of a response's.
const fn first_seq(speaker: Speaker) -> u8 {
    match speaker {
        Speaker::Client => 0,
        Speaker::Server => 1,
    }
}

/// A packet compressed by Zstandard: both headers say what it becomes, and something is gained.
fn zstd(bytes: &[u8], seq: u8) -> Verdict {
    if let [_, _, _, other, ..] = bytes
        && *other != seq
    {
        return Verdict::IsNot;
    }
    let (Some(frame), Some(content)) = (wire::frame(bytes), bytes.get(FRAME..)) else {
        return Verdict::Short;
    };
    if !content.iter().zip(Zstd::MAGIC).all(|(a, b)| *a == b) || frame.len >= frame.inflated {
        return Verdict::IsNot;
    }
    match wire::zstd_header(content) {
        Some(header) => Verdict::when(
            header.content == Some(u64::from(frame.inflated)),
            Confidence::Strong,
        ),
        None if content.len() < wire::MAX_ZSTD_HEADER => Verdict::Short,
        None => Verdict::IsNot,
    }
}

/// What is only plausible must end where the bytes end, as what a peer says at once does.
fn find(window: &[u8], verdict: impl Fn(&[u8]) -> Verdict) -> Option<usize> {
    (0..window.len()).find(|at| {
        let rest = window.get(*at..).unwrap_or_default();
        match verdict(rest) {
            Verdict::Is(Confidence::Weak) => {
                wire::header(rest).is_some_and(|header| header.total() == rest.len() as u64)
            }
            Verdict::Is(_) => true,
            Verdict::IsNot | Verdict::Short => false,
        }
    })
}

/// A server's greeting, or its refusal where a connection begins.
fn opening(bytes: &[u8], at_start: bool) -> Verdict {
    let header = match bytes {
        [_, high, higher, seq, ..] if *seq != 0 || *higher != 0 || *high > 1 => {
            return Verdict::IsNot;
        }
        _ => wire::header(bytes),
    };
    let (Some(header), Some(first)) = (header, bytes.get(HEADER)) else {
        return Verdict::Short;
    };
    match first {
        10 if (40..MAX_GREETING).contains(&header.len) => greeting(bytes),
        // Number and text: too many connections, host blocked, and the like.
        &wire::ERR if at_start && (9..MAX_GREETING).contains(&header.len) => {
            let Some(text) = bytes.get(HEADER..HEADER.saturating_add(9)) else {
                return Verdict::Short;
            };
            let number = wire::failure(text.get(1..).unwrap_or_default()).map(|e| e.number);
            let is_text = text.iter().skip(3).all(|byte| matches!(byte, b' '..=b'~'));
            let is_known = number.is_some_and(|number| (1000..5000).contains(&number));
            Verdict::when(is_text && is_known, Confidence::Strong)
        }
        _ => Verdict::IsNot,
    }
}

/// A greeting of protocol 10: a version with a digit and a point, and reserved bytes in their
/// places.
fn greeting(bytes: &[u8]) -> Verdict {
    let payload = bytes.get(HEADER.saturating_add(1)..).unwrap_or_default();
    let version = payload.iter().take_while(|byte| **byte != 0).count();
    let text = payload.get(..version).unwrap_or_default();
    let is_version = text.first().is_none_or(u8::is_ascii_digit)
        && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && version <= 100;
    if !is_version {
        return Verdict::IsNot;
    }
    // Thread, scramble, filler; low capabilities, charset, status, high capabilities, length.
    let filler = version.saturating_add(1 + 4 + 8);
    let reserved = filler.saturating_add(1 + 2 + 1 + 2 + 2 + 1);
    let Some(zeros) = payload.get(reserved..reserved.saturating_add(6)) else {
        return Verdict::Short;
    };
    let is_greeting = text.contains(&b'.')
        && payload.get(filler) == Some(&0)
        && zeros.iter().all(|byte| *byte == 0);
    Verdict::when(is_greeting, Confidence::Certain)
}

/// A client's login: 19 reserved bytes are zero.
fn login(bytes: &[u8]) -> Verdict {
    match bytes {
        [_, _, higher, seq, ..] if *higher != 0 || !matches!(seq, 1 | 2) => Verdict::IsNot,
        [low, high, _, _, _, capabilities, ..]
            if (*high == 0 && *low < 32) || capabilities & 2 == 0 =>
        {
            Verdict::IsNot
        }
        _ => match bytes.get(HEADER..HEADER.saturating_add(32)) {
            None => {
                let zeros = bytes.get(HEADER.saturating_add(9)..).unwrap_or_default();
                if zeros.iter().take(19).all(|byte| *byte == 0) {
                    Verdict::Short
                } else {
                    Verdict::IsNot
                }
            }
            Some(fixed) => Verdict::when(wire::login(fixed).is_some(), Confidence::Strong),
        },
    }
}

/// A command: its length fits, and statements begin with a word of SQL.
fn command(bytes: &[u8]) -> Verdict {
    if let [_, _, _, seq, ..] = bytes
        && *seq != 0
    {
        return Verdict::IsNot;
    }
    let (Some(header), Some(&first)) = (wire::header(bytes), bytes.get(HEADER)) else {
        return Verdict::Short;
    };
    let command = Command(first);
    if command.name().is_none() || !command.fits(header.len) {
        return Verdict::IsNot;
    }
    let rest = bytes.get(HEADER.saturating_add(1)..).unwrap_or_default();
    let len = header.len.saturating_sub(1) as usize;
    match command {
        Command::QUERY => match rest {
            // No attributes, but the client could send them.
            [0, 1, text @ ..] => statement(text, len.saturating_sub(2)),
            [0] => Verdict::Short,
            // Attributes.
            [1..=9, 1, ..] => Verdict::Is(Confidence::Weak),
            text => statement(text, len),
        },
        Command::PREPARE => statement(rest, len),
        Command::EXECUTE => match rest {
            // One iteration.
            [_, _, _, _, flags, 1, 0, 0, 0, ..] if *flags < 0x10 => Verdict::Is(Confidence::Strong),
            [_, _, _, _, flags, ..] if *flags >= 0x10 => Verdict::IsNot,
            _ if rest.len() < 9 => Verdict::Short,
            _ => Verdict::IsNot,
        },
        Command::INIT_DB | Command::CREATE_DB | Command::DROP_DB => {
            let name = rest.get(..len.min(rest.len())).unwrap_or_default();
            let is_name = name.iter().all(|byte| *byte > b' ' && *byte != 0x7F);
            match is_name {
                true if name.len() < len => Verdict::Short,
                is_name => Verdict::when(is_name && len > 0, Confidence::Weak),
            }
        }
        // The length says it all; those of other lengths have nothing to know them by.
        _ => Verdict::when(header.len <= 9, Confidence::Weak),
    }
}

/// The text of a statement of `len` bytes.
fn statement(text: &[u8], len: usize) -> Verdict {
    let visible = text.get(..len.min(text.len())).unwrap_or_default();
    let blanks = visible
        .iter()
        .take(16)
        .take_while(|byte| byte.is_ascii_whitespace() || **byte == b'(');
    let start = blanks.count();
    let word = visible.get(start..).unwrap_or_default();
    let is_whole = visible.len() == len;
    match word {
        [b'/', b'*', ..] | [b'-', b'-', b' ', ..] | [b'#', b' ', ..] => {
            return Verdict::Is(Confidence::Strong);
        }
        [] | [b'/'] | [b'-'] | [b'-', b'-'] | [b'#'] if !is_whole => return Verdict::Short,
        _ => {}
    }
    let letters = word
        .iter()
        .take(LONGEST_VERB.saturating_add(1))
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    match word.get(letters) {
        None if is_whole => {}
        None if letters <= LONGEST_VERB => return Verdict::Short,
        Some(byte) if byte.is_ascii_whitespace() || b"(;*/#`'\"@-+.".contains(byte) => {}
        _ => return Verdict::IsNot,
    }
    let verb = word.get(..letters).unwrap_or_default();
    let is_verb = |known: &&str| known.as_bytes().eq_ignore_ascii_case(verb);
    Verdict::when(VERBS.iter().any(is_verb), Confidence::Strong)
}

/// The first packet of a response.
fn reply(bytes: &[u8], seq: u8) -> Verdict {
    if let [_, _, _, other, ..] = bytes
        && *other != seq
    {
        return Verdict::IsNot;
    }
    let (Some(header), Some(&first)) = (wire::header(bytes), bytes.get(HEADER)) else {
        return Verdict::Short;
    };
    let payload = bytes.get(HEADER..).unwrap_or_default();
    match (first, header.len) {
        (wire::ERR, 9..1024) => match payload.get(..9) {
            None => Verdict::Short,
            Some(head) => {
                let failure = wire::failure(head.get(1..).unwrap_or_default());
                let is_failure = failure.is_some_and(|e| e.number >= 1000 && e.sqlstate.is_some());
                Verdict::when(is_failure, Confidence::Strong)
            }
        },
        (wire::OK, 12..=13) if prepares(payload) => {
            column_definition(payload, header.len as usize, seq)
        }
        (wire::OK, 7..MAX_PAYLOAD) => match payload.get(1..12.min(header.len as usize)) {
            None => Verdict::Short,
            Some(rest) => {
                let is_ok = wire::ok(rest).is_some_and(|done| done.status & 0x8000 == 0);
                Verdict::when(is_ok && header.len < 512, Confidence::Weak)
            }
        },
        (wire::EOF, 5) => Verdict::Is(Confidence::Weak),
        (1..=wire::INFILE, 1..=2) => column_definition(payload, header.len as usize, seq),
        (b'U', 9..1024) => match payload.get(..8) {
            None => Verdict::Short,
            Some(text) => Verdict::when(text == b"Uptime: ", Confidence::Strong),
        },
        _ => Verdict::IsNot,
    }
}

/// Whether a payload is the answer to a prepare, with definitions to follow; if visible.
fn prepares(payload: &[u8]) -> bool {
    let prepared = payload.get(1..12).and_then(wire::prepared);
    prepared.is_some_and(|it| it.columns > 0 || it.parameters > 0) && payload.get(9) == Some(&0)
}

/// Behind the number of columns: a definition, whose catalogue is always `def`.
fn column_definition(payload: &[u8], len: usize, seq: u8) -> Verdict {
    let Some(next) = payload.get(len..).filter(|next| next.len() >= 8) else {
        return Verdict::Short;
    };
    let is_definition = matches!(next, [_, _, 0, number, 3, b'd', b'e', b'f', ..]
        if *number == seq.wrapping_add(1));
    Verdict::when(is_definition, Confidence::Strong)
}
