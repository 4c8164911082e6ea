//! Telling RESP from other protocols, and finding message boundaries.

use memchr::{memchr, memchr_iter};
use wirespan_parser_api::{Confidence, Probe, ProbeInput, Speaker};

use crate::command::Name;
use crate::wire::{self, Item, Stop};

/// Bytes within which a late attach must show a command.
const WINDOW: usize = 4096;
/// Longest inline command that is taken for a connection's first, in bytes.
const MAX_INLINE: usize = 512;

/// Longest simple string or error code that is taken for a boundary, in bytes.
const MAX_SHORT: usize = 32;

/// Error codes with which Redis refuses or redirects, and which nobody else uses.
const CODES: [&str; 10] = [
    "-WRONGTYPE ",
    "-NOAUTH ",
    "-WRONGPASS ",
    "-NOPERM ",
    "-DENIED Redis",
    "-LOADING Redis",
    "-MOVED ",
    "-CLUSTERDOWN ",
    "-READONLY You",
    "-ERR unknown command",
];

/// Simple strings that only Redis sends.
const STRINGS: [&str; 3] = ["+PONG\r\n", "+QUEUED\r\n", "+FULLRESYNC "];

/// Names by which a command is known where the direction or an inline command has to be judged.
/// Sorted.
const COMMANDS: [&str; 96] = [
    "APPEND",
    "AUTH",
    "BLPOP",
    "BRPOP",
    "CLIENT",
    "CLUSTER",
    "COMMAND",
    "CONFIG",
    "DBSIZE",
    "DECR",
    "DECRBY",
    "DEL",
    "DISCARD",
    "ECHO",
    "EVAL",
    "EVALSHA",
    "EXEC",
    "EXISTS",
    "EXPIRE",
    "FCALL",
    "FLUSHALL",
    "FLUSHDB",
    "GET",
    "GETDEL",
    "GETSET",
    "HDEL",
    "HELLO",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HINCRBY",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HMSET",
    "HSET",
    "HVALS",
    "INCR",
    "INCRBY",
    "INFO",
    "KEYS",
    "LINDEX",
    "LLEN",
    "LPOP",
    "LPUSH",
    "LRANGE",
    "LREM",
    "LTRIM",
    "MGET",
    "MONITOR",
    "MSET",
    "MULTI",
    "OBJECT",
    "PERSIST",
    "PEXPIRE",
    "PFADD",
    "PING",
    "PSETEX",
    "PSUBSCRIBE",
    "PSYNC",
    "PTTL",
    "PUBLISH",
    "RENAME",
    "REPLCONF",
    "RESET",
    "ROLE",
    "RPOP",
    "RPUSH",
    "SADD",
    "SCAN",
    "SCARD",
    "SCRIPT",
    "SELECT",
    "SET",
    "SETEX",
    "SETNX",
    "SISMEMBER",
    "SMEMBERS",
    "SREM",
    "SSCAN",
    "STRLEN",
    "SUBSCRIBE",
    "SYNC",
    "TTL",
    "TYPE",
    "UNLINK",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WATCH",
    "XADD",
    "XREAD",
    "ZADD",
    "ZCARD",
    "ZRANGE",
    "ZREM",
    "ZSCORE",
];

fn is_known(name: &[u8]) -> bool {
    COMMANDS.binary_search(&Name::new(name).as_str()).is_ok()
}

/// See [`wirespan_parser_api::Protocol::probe`].
pub(crate) fn probe(head: &ProbeInput<'_>) -> Probe {
    let first = match head.speaker {
        Some(Speaker::Client) => client(head),
        Some(Speaker::Server) => server(head.bytes),
        None => match client(head) {
            Probe::Reject => server(head.bytes),
            verdict => verdict,
        },
    };
    if first != Probe::Reject || head.at_start || head.speaker == Some(Speaker::Server) {
        return first;
    }
    // In the middle of something: a command may begin further on.
    let window = head.bytes.get(..WINDOW).unwrap_or(head.bytes);
    let known = commands(window).any(|(_, name)| is_known(name));
    match known {
        true => Probe::Accept(Confidence::Strong, Speaker::Client),
        false if window.len() < WINDOW => Probe::NeedMore(window.len().saturating_add(1)),
        false => Probe::Reject,
    }
}

fn client(head: &ProbeInput<'_>) -> Probe {
    let bytes = head.bytes;
    if bytes.first() != Some(&b'*') {
        return inline(bytes);
    }
    match wire::command_name(bytes) {
        // An array of bulk strings may be a reply as well, if it can be either.
        Ok(name) if head.speaker.is_some() || head.at_start || is_known(name) => {
            Probe::Accept(Confidence::Strong, Speaker::Client)
        }
        Ok(_) => Probe::Accept(Confidence::Weak, Speaker::Server),
        Err(Stop::Short) => Probe::NeedMore(bytes.len().saturating_add(1)),
        Err(Stop::Bad(_)) => Probe::Reject,
    }
}

/// A line that begins with a known command, in printable ASCII. SMTP, POP3 and FTP share `AUTH`
/// with Redis, HTTP and memcached `GET`: hence the exceptions.
fn inline(bytes: &[u8]) -> Probe {
    const WEAK: Probe = Probe::Accept(Confidence::Weak, Speaker::Client);
    let seen = bytes.get(..MAX_INLINE).unwrap_or(bytes);
    let (line, ended) = match memchr(b'\n', seen) {
        Some(end) => (seen.get(..end).unwrap_or_default(), true),
        None => (seen, false),
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|b| *b == b' ');
    let (name, first) = (words.next().unwrap_or_default(), words.next());
    let possible = match first {
        None if !ended => {
            let name = Name::new(name);
            let name = name.as_str();
            !name.is_empty() && COMMANDS.iter().any(|known| known.starts_with(name))
        }
        _ => is_known(name),
    };
    let mechanism = |word: &&[u8]| {
        [
            "PLAIN", "LOGIN", "TLS", "SSL", "CRAM-MD5", "NTLM", "GSSAPI", "XOAUTH2",
        ]
        .iter()
        .any(|known| word.eq_ignore_ascii_case(known.as_bytes()))
    };
    let printable = line.iter().all(|b| matches!(b, b' '..=b'~'));
    let foreign = ended
        && (memchr::memmem::find(line, b" HTTP/").is_some()
            || name.eq_ignore_ascii_case(b"AUTH") && first.is_some_and(|word| mechanism(&word))
            || name.eq_ignore_ascii_case(b"SET")
                && words.clone().count() == 3
                && words.all(|word| word.iter().all(u8::is_ascii_digit))
            || name == b"INFO" && first.is_some_and(|word| word.starts_with(b"{")));
    // In memcached three numbers follow `set <key>`.
    match (possible && printable && !foreign, ended) {
        (false, _) => Probe::Reject,
        (true, true) => WEAK,
        (true, false) if bytes.len() < MAX_INLINE => Probe::NeedMore(bytes.len().saturating_add(1)),
        (true, false) => Probe::Reject,
    }
}

fn server(bytes: &[u8]) -> Probe {
    const WEAK: Probe = Probe::Accept(Confidence::Weak, Speaker::Server);
    const STRONG: Probe = Probe::Accept(Confidence::Strong, Speaker::Server);
    let more = Probe::NeedMore(bytes.len().saturating_add(1));
    let magic = || CODES.iter().chain(&STRINGS).map(|magic| magic.as_bytes());
    if magic().any(|magic| bytes.starts_with(magic)) {
        return STRONG;
    }
    if magic().any(|magic| magic.starts_with(bytes)) {
        return more;
    }
    match is_reply(bytes) {
        Ok(true) => WEAK,
        Ok(false) => Probe::Reject,
        Err(_) => more,
    }
}

/// Finds where a command begins.
pub(crate) fn find_command(window: &[u8]) -> Option<usize> {
    commands(window).next().map(|(at, _)| at)
}

/// The places where a command begins, and their names.
fn commands(window: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    memchr_iter(b'*', window)
        .filter(|at| follows_line_end(window, *at))
        .filter_map(|at| Some((at, wire::command_name(window.get(at..)?).ok()?)))
}

/// Finds where a reply, or an element of one, begins.
pub(crate) fn find_reply(window: &[u8]) -> Option<usize> {
    let starts = memchr_iter(b'\n', window).map(|end| end.saturating_add(1));
    core::iter::once(0)
        .chain(starts)
        .filter(|at| follows_line_end(window, *at))
        .find(|at| {
            let rest = window.get(*at..).unwrap_or_default();
            is_reply(rest) == Ok(true) && !breaks_off(rest)
        })
}

/// Whether a message can begin here. What was before the window is not known.
fn follows_line_end(window: &[u8], at: usize) -> bool {
    match window.get(..at) {
        Some([] | [b'\n']) => true,
        before => before.is_some_and(|before| before.ends_with(b"\r\n")),
    }
}

/// Whether a string begins here whose end is visible and is none.
fn breaks_off(bytes: &[u8]) -> bool {
    let Ok((Item::Bulk(len), used)) = wire::item(bytes) else {
        return false;
    };
    let end = usize::try_from(len)
        .ok()
        .and_then(|len| used.checked_add(len));
    end.and_then(|end| bytes.get(end..end.checked_add(2)?))
        .is_some_and(|end| end != b"\r\n")
}

/// Whether a well-formed reply begins here: enough of it to be told from text.
fn is_reply(bytes: &[u8]) -> Result<bool, Stop> {
    let (item, used) = match wire::item(bytes) {
        Err(Stop::Bad(_)) => return Ok(false),
        begun => begun?,
    };
    let text = bytes.get(used..).unwrap_or_default();
    match (bytes.first(), item) {
        (Some(b'-'), _) => is_error(text),
        (Some(b'+'), _) => is_line(text, |b| matches!(b, b' '..=b'~')),
        (_, Item::Line) => is_line(text, |b| {
            b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'i' | b'n' | b'f' | b'a')
        }),
        _ => Ok(true),
    }
}

/// Whether this is an error code and a blank.
fn is_error(text: &[u8]) -> Result<bool, Stop> {
    let code = |b: &u8| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_';
    match text.iter().position(|b| !code(b)) {
        Some(end) => Ok((3..=MAX_SHORT).contains(&end) && text.get(end) == Some(&b' ')),
        None if text.len() <= MAX_SHORT => Err(Stop::Short),
        None => Ok(false),
    }
}

/// Whether this is a short line of `allowed` characters that begins with no blank; `OK` stands
/// alone, as it does not in POP3.
fn is_line(text: &[u8], allowed: fn(u8) -> bool) -> Result<bool, Stop> {
    let end = text.iter().position(|b| *b == b'\r').unwrap_or(text.len());
    let line = text.get(..end).unwrap_or(text);
    if end > MAX_SHORT
        || line.starts_with(b" ")
        || line.starts_with(b"OK ")
        || !line.iter().all(|b| allowed(*b))
    {
        return Ok(false);
    }
    match text.get(end..).unwrap_or_default() {
        [] | [_] => Err(Stop::Short),
        [_, b'\n', ..] => Ok(end > 0),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRONG_CLIENT: Probe = Probe::Accept(Confidence::Strong, Speaker::Client);
    const WEAK_CLIENT: Probe = Probe::Accept(Confidence::Weak, Speaker::Client);
    const STRONG_SERVER: Probe = Probe::Accept(Confidence::Strong, Speaker::Server);
    const WEAK_SERVER: Probe = Probe::Accept(Confidence::Weak, Speaker::Server);

    fn head(bytes: &[u8]) -> ProbeInput<'_> {
        ProbeInput::new(bytes)
    }

    fn late(bytes: &[u8]) -> ProbeInput<'_> {
        let mut head = head(bytes);
        head.at_start = false;
        head
    }

    const FOREIGN: [&[u8]; 20] = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"220 mail ESMTP\r\n",
        b"EHLO x\r\n",
        b"AUTH PLAIN dGVzdA==\r\n",
        b"AUTH TLS\r\n",
        b"+OK Dovecot ready.\r\n",
        b"+OK POP3 server ready\r\n",
        b"* OK IMAP4rev1 ready\r\n",
        b"USER me\r\n",
        b":irc.example 001 me :Welcome\r\n",
        b"set key 0 60 5\r\nhello\r\n",
        b"stats\r\n",
        b"STORED\r\n",
        b"VALUE key 0 5\r\n",
        b"INFO {\"server_id\":\"x\"}\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x3f\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xd4\x07\x00\x00",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ];

    #[test]
    fn commands_tell_the_client() {
        assert_eq!(
            probe(&head(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")),
            STRONG_CLIENT
        );
        assert_eq!(probe(&head(b"*1\r\n$9\r\nJSON.FOOX\r\n")), STRONG_CLIENT);
        assert_eq!(probe(&head(b"ping\r\n")), WEAK_CLIENT);
        assert_eq!(probe(&head(b"SET a \"b c\"\r\n")), WEAK_CLIENT);
    }

    #[test]
    fn replies_tell_the_server() {
        for bytes in [&b"+PONG\r\n"[..], b"-NOAUTH Authentication required.\r\n"] {
            assert_eq!(probe(&head(bytes)), STRONG_SERVER);
        }
        for bytes in [
            &b"+OK\r\n"[..],
            b"-ERR no\r\n",
            b"$3\r\nabc\r\n",
            b":1\r\n",
            b"%1\r\n",
        ] {
            assert_eq!(probe(&head(bytes)), WEAK_SERVER);
        }
    }

    #[test]
    fn other_protocols_are_rejected() {
        for bytes in FOREIGN {
            assert_eq!(probe(&head(bytes)), Probe::Reject, "{bytes:?}");
        }
    }

    #[test]
    fn an_array_of_strings_joined_in_the_middle_may_be_a_reply() {
        assert_eq!(
            probe(&late(b"*2\r\n$3\r\nfoo\r\n$3\r\nbar\r\n")),
            WEAK_SERVER
        );
        assert_eq!(
            probe(&late(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")),
            STRONG_CLIENT
        );
    }

    #[test]
    fn a_late_attach_finds_a_command_further_on() {
        let bytes = b"of a value\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";
        assert_eq!(probe(&late(bytes)), STRONG_CLIENT);
        assert_eq!(probe(&late(&bytes[..20])), Probe::NeedMore(21));
        assert_eq!(probe(&head(bytes)), Probe::Reject);
        assert_eq!(probe(&late(&[b'x'; WINDOW])), Probe::Reject);
    }

    #[test]
    fn verdicts_are_monotonic() {
        let ours: [&[u8]; 9] = [
            b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n",
            b"junk\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*1\r\n$4\r\nPING\r\n",
            b"SET a b\r\nGET a\r\n",
            b"+OK\r\n+PONG\r\n",
            b"-ERR unknown command 'x'\r\n",
            b"-WRONGTYPE Operation against a key\r\n",
            b"$5\r\nhello\r\n",
            b"*3\r\n:1\r\n:2\r\n:3\r\n",
            b",1.25\r\n",
        ];
        let speakers = [None, Some(Speaker::Client), Some(Speaker::Server)];
        for (whole, speaker) in ours
            .iter()
            .chain(&FOREIGN)
            .flat_map(|whole| speakers.map(|speaker| (whole, speaker)))
        {
            for at_start in [true, false] {
                let mut verdict = None;
                for n in 1..=whole.len() {
                    let mut head = head(&whole[..n]);
                    (head.speaker, head.at_start) = (speaker, at_start);
                    let now = probe(&head);
                    assert!(verdict.is_none_or(|before| before == now), "{whole:?} {n}");
                    match now {
                        Probe::NeedMore(more) => assert!(more > n),
                        _ => verdict = Some(now),
                    }
                }
            }
        }
    }

    #[test]
    fn known_commands_are_sorted() {
        assert!(COMMANDS.is_sorted());
    }

    #[test]
    fn boundaries_are_found_behind_line_ends() {
        assert_eq!(find_command(b"*1\r\n$4\r\nPING\r\n"), Some(0));
        assert_eq!(
            find_command(b"a*1\r\n$4\r\nb\r\n*1\r\n$4\r\nPING\r\n"),
            Some(12)
        );
        assert_eq!(find_command(b"*1\r\n$4\r\nPIN"), None);
        assert_eq!(find_reply(b"+OK\r\n"), Some(0));
        assert_eq!(find_reply(b"some value\r\n$3\r\nabc\r\n"), Some(12));
        assert_eq!(
            find_reply(b"$5\r\nabcdefgh\r\n:1\r\n"),
            Some(14),
            "breaks off"
        );
        assert_eq!(find_reply(b"plain text only"), None);
    }
}
