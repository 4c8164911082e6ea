//! However bytes are cut, the exchanges are the same; and no bytes do harm.

mod driver;

use driver::{Conn, Log, command};
use proptest::prelude::*;
use wirespan_parser_api::{Direction, Redaction};

fn requests() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(command(&["SET", "k", "0123456789"]));
    bytes.extend(b"get \"k k\"\r\n\r\n");
    bytes.extend(command(&["CLIENT", "REPLY", "SKIP"]));
    bytes.extend(command(&["ECHO", "value"]));
    bytes.extend(command(&["GET", &"k".repeat(5000)]));
    bytes.extend(command(&["HELLO", "2", "AUTH", "me", "secret"]));
    bytes.extend(command(&["SUBSCRIBE", "a", "b"]));
    bytes.extend(command(&["UNSUBSCRIBE"]));
    bytes.extend(command(&["SELECT", "3"]));
    bytes.extend(command(&["EVALSHA", "abc", "0"]));
    bytes.extend(command(&["MONITOR"]));
    bytes.extend(command(&["PING"]));
    bytes
}

fn replies() -> Vec<u8> {
    let confirm =
        |verb: &str, n: u32| format!("*3\r\n${}\r\n{verb}\r\n$1\r\na\r\n:{n}\r\n", verb.len());
    [
        "+OK\r\n|1\r\n+ttl\r\n:3\r\n$10\r\n0123456789\r\n",
        "-WRONGTYPE no\r\n*2\r\n*2\r\n:1\r\n$-1\r\n%1\r\n+a\r\n#t\r\n",
        &confirm("subscribe", 1),
        &confirm("subscribe", 2),
        "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n",
        &confirm("unsubscribe", 1),
        &confirm("unsubscribe", 0),
        "+OK\r\n!10\r\nNOSCRIPT x\r\n+OK\r\n",
        "+1795259329.571193 [0 127.0.0.1:39732] \"PING\"\r\n+PONG\r\n",
    ]
    .concat()
    .into_bytes()
}

fn cut(conn: &mut Conn, dir: Direction, bytes: &[u8], cuts: &[prop::sample::Index]) {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(bytes.len());
    let mut from = 0;
    for to in cuts {
        conn.feed(dir, &bytes[from..to]);
        from = to;
    }
}

fn whole() -> Log {
    let mut conn = Conn::new();
    conn.up(requests()).down(replies());
    conn.log
}

#[test]
fn the_dialogue_that_is_cut_is_understood() {
    let log = whole();
    let ends: Vec<_> = log
        .seen
        .values()
        .map(|s| (&*s.operation, &*s.status))
        .collect();
    assert_eq!(
        ends,
        [
            ("SET", "OK"),
            ("GET", "OK"),
            ("CLIENT", ""),
            ("ECHO", ""),
            ("GET", "WRONGTYPE"),
            ("HELLO", "OK"),
            ("SUBSCRIBE", "OK"),
            ("UNSUBSCRIBE", "OK"),
            ("SELECT", "OK"),
            ("EVALSHA", "NOSCRIPT"),
            ("MONITOR", "OK"),
            ("PING", "OK"),
        ]
    );
    assert_eq!(
        (log.pushes.as_slice(), log.orphans),
        (&["message", "monitor"][..], 0)
    );
}

#[test]
fn single_bytes_make_no_difference() {
    let mut conn = Conn::new();
    for byte in requests() {
        conn.up([byte]);
    }
    for byte in replies() {
        conn.down([byte]);
    }
    assert_eq!(conn.log, whole());
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..40)
}

/// Bytes that resemble RESP more than chance would have it.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "*2\r\n",
        "$3\r\n",
        "GET\r\n",
        "\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "+OK\r\n",
        "-ERR x\r\n",
        "|1\r\n",
        ">3\r\n$7\r\nmessage\r\n",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
        "\n",
        "SUBSCRIBE a b\r\n",
        "UNSUBSCRIBE\r\n",
        "CLIENT REPLY OFF\r\n",
        "RESET\r\n",
        "MULTI\r\n",
        "CLIENT REPLY SKIP\r\n",
        "EXEC\r\n",
        "SELECT 1\r\n",
        "MONITOR\r\n",
        "HELLO 3\r\n",
        "$-1\r\n",
        "+1.123456 [0",
        "!4\r\nFAIL\r\n",
        "%1\r\n",
        "*4294967295\r\n",
        "*0\r\n",
        "\"",
        "$?\r\n",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn chunking_makes_no_difference(up in cuts(), down in cuts()) {
        let mut conn = Conn::new();
        cut(&mut conn, Direction::ToServer, &requests(), &up);
        cut(&mut conn, Direction::ToClient, &replies(), &down);
        prop_assert_eq!(conn.log, whole());
    }

    #[test]
    fn chunking_makes_no_difference_to_noise_either(up in noise(), down in noise(), cuts in cuts()) {
        let mut at_once = Conn::new();
        at_once.up(&up).down(&down);
        let mut conn = Conn::new();
        cut(&mut conn, Direction::ToServer, &up, &cuts);
        // Behind an error, it depends on what is visible where the next message is found.
        if !at_once.stopped && at_once.errors.is_empty() {
            cut(&mut conn, Direction::ToClient, &down, &cuts);
            prop_assert_eq!(conn.log.seen, at_once.log.seen);
        }
    }

    #[test]
    fn noise_and_losses_do_no_harm(
        late in any::<bool>(),
        chunks in prop::collection::vec((any::<bool>(), noise(), prop::option::of(1u64..40)), 0..40),
    ) {
        let mut conn = Conn::with(late, Redaction::On);
        for (up, bytes, lost) in chunks {
            let dir = if up { Direction::ToServer } else { Direction::ToClient };
            conn.feed(dir, &bytes);
            if let Some(lost) = lost {
                conn.lose(dir, lost);
            }
        }
        prop_assert!(conn.heap_bytes() < 100_000);
    }
}
