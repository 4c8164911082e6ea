//! Commands and their replies, one behaviour per test.

mod driver;

use driver::{Conn, command};
use wirespan_parser_api::Redaction;

#[test]
fn pipelined_commands_are_answered_in_order() {
    let mut conn = Conn::new();
    conn.up(command(&["SET", "k", "0123456789"]))
        .up(command(&["get", "k"]))
        .up(command(&["PING"]))
        .up(command(&["KEYS", "*"]))
        .up(command(&["FOO", ""]))
        .down("+OK\r\n$10\r\n0123456789\r\n+PONG\r\n*3\r\n$1\r\na\r\n*2\r\n:1\r\n:2\r\n$-1\r\n")
        .down("-ERR unknown command\r\n");
    assert_eq!(
        conn.exchanges(),
        [
            ("SET", "k", "OK"),
            ("GET", "k", "OK"),
            ("PING", "", "OK"),
            ("KEYS", "*", "OK"),
            ("FOO", "", "ERR"),
        ]
    );
    assert!(conn.seen(4).error && !conn.seen(0).error);
    assert!(conn.log.seen.values().all(|seen| seen.complete));
}

#[test]
fn sizes_count_the_framing() {
    let mut conn = Conn::new();
    conn.up("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
        .down("$3\r\nabc\r\n");
    assert_eq!(
        (conn.seen(0).request, conn.seen(0).response),
        ((0, 20), (0, 9))
    );
}

#[test]
fn attributes_name_command_key_and_database() {
    let mut conn = Conn::new();
    conn.up(command(&[
        "HMSET", "h", "field", "secret", "field", "secret",
    ]))
    .down("-WRONGTYPE Operation against secret\r\n");
    let attrs: Vec<_> = conn.seen(0).attrs.iter().map(|(k, v)| (*k, &**v)).collect();
    assert_eq!(
        attrs,
        [
            ("db.namespace", "0"),
            ("db.operation.name", "HMSET"),
            ("db.query.text", "HMSET h ? ? ? ?"),
            ("db.response.status_code", "WRONGTYPE"),
            ("db.system.name", "redis"),
        ]
    );
}

#[test]
fn a_script_is_named_and_its_text_is_not_shown() {
    let mut conn = Conn::new();
    conn.up(command(&["EVALSHA", "abc", "0"]))
        .up(command(&["EVAL", "return 'secret'", "0"]))
        .down(":1\r\n:1\r\n");
    assert_eq!(conn.seen(0).attrs["db.stored_procedure.name"], "abc");
    assert_eq!(
        conn.exchanges(),
        [("EVALSHA", "abc", "OK"), ("EVAL", "?", "OK")]
    );
    assert_eq!(conn.seen(1).attrs["db.query.text"], "EVAL ? ?");
}

#[test]
fn containers_keep_their_first_word() {
    let mut conn = Conn::new();
    conn.up(command(&["CONFIG", "SET", "requirepass", "secret"]))
        .up(command(&["ACL", "SETUSER", "me", "on", ">secret"]))
        .down("+OK\r\n+OK\r\n");
    assert_eq!(
        conn.exchanges(),
        [("CONFIG", "SET", "OK"), ("ACL", "SETUSER", "OK")]
    );
}

#[test]
fn no_value_and_no_credential_leaves_by_default() {
    let mut conn = Conn::new();
    for line in [
        "AUTH s3cret",
        "AUTH user s3cret",
        "HELLO 3 AUTH user s3cret",
        "HELLO AUTH s3cret s3cret",
        "ECHO s3cret",
        "PING s3cret",
        "SET key s3cret",
        "EVAL s3cret 0",
        "CONFIG SET masterauth s3cret",
        "MIGRATE host 6379 key 0 10 AUTH s3cret",
        "GET \"s3cret",
    ] {
        conn.up(format!("{line}\r\n"));
        let words: Vec<_> = line.split(' ').collect();
        conn.up(command(&words));
        conn.down("-ERR s3cret\r\n-s3cret wrong\r\n");
    }
    assert_eq!(conn.log.seen.len(), 22);
    // GET with a key that looks like one, as sent in an array: a key is shown.
    conn.log.seen.remove(&21);
    let text = format!("{:?}", conn.log.seen);
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn no_key_is_shown_where_everything_is_redacted() {
    let mut conn = Conn::with(false, Redaction::Full);
    conn.up(command(&["HMSET", "h", "a", "b"]))
        .up(command(&["SELECT", "3"]))
        .up(command(&["EVALSHA", "abc", "0"]))
        .up("GET k\r\n")
        .down("+OK\r\n+OK\r\n:1\r\n$-1\r\n");
    assert_eq!(
        conn.exchanges(),
        [
            ("HMSET", "", "OK"),
            ("SELECT", "", "OK"),
            ("EVALSHA", "", "OK"),
            ("GET", "", "OK")
        ]
    );
    assert_eq!(conn.seen(0).attrs["db.query.text"], "HMSET ? ? ?");
    assert_eq!(conn.seen(3).attrs["db.namespace"], "3");
}

#[test]
fn credentials_do_not_leave_without_redaction_either() {
    let mut conn = Conn::with(false, Redaction::Off);
    conn.up(command(&["AUTH", "s3cret"]))
        .up("AUTH user s3cret\r\n")
        .up(command(&["HELLO", "3", "AUTH", "user", "s3cret"]))
        .up(command(&["ECHO", "hello"]));
    assert_eq!(
        conn.exchanges(),
        [
            ("AUTH", "", ""),
            ("AUTH", "", ""),
            ("HELLO", "3", ""),
            ("ECHO", "hello", "")
        ]
    );
    assert!(!format!("{:?}", conn.log).contains("s3cret"));
}

#[test]
fn inline_commands_are_words_on_a_line() {
    let mut conn = Conn::new();
    conn.up("PING\r\nset \"a b\" 'c d'\r\n\r\n  \r\nget k\nget \"a\r\n")
        .down("+PONG\r\n+OK\r\n$-1\r\n-ERR Protocol error: unbalanced quotes in request\r\n");
    assert_eq!(
        conn.exchanges(),
        [
            ("PING", "", "OK"),
            ("SET", "a b", "OK"),
            ("GET", "k", "OK"),
            ("GET", "", "ERR")
        ]
    );
}

#[test]
fn a_line_that_is_no_command_is_still_answered() {
    let mut conn = Conn::new();
    conn.up("$0\r\n\r\n+\r\n")
        .down("-ERR unknown command '$0'\r\n-ERR unknown command '+'\r\n");
    assert_eq!(conn.exchanges(), [("$0", "", "ERR"), ("+", "", "ERR")]);
}

#[test]
fn empty_commands_are_ignored_as_redis_does() {
    let mut conn = Conn::new();
    conn.up("*0\r\n*-5\r\n*-1\r\n\r\n")
        .up(command(&["PING"]))
        .down("+PONG\r\n");
    assert_eq!(conn.exchanges(), [("PING", "", "OK")]);
}

#[test]
fn a_name_that_cannot_be_one_is_not_passed_on() {
    let mut conn = Conn::new();
    conn.up(command(&["\u{fc}ber", "x"]))
        .up(command(&[&"A".repeat(65), "x"]));
    conn.up(command(&["", "x"]))
        .down("-ERR a\r\n-ERR b\r\n-ERR c\r\n");
    assert_eq!(conn.exchanges(), [("", "", "ERR"); 3]);
    assert_eq!(conn.seen(0).attrs.get("db.operation.name"), None);
}

#[test]
fn a_long_key_is_cut_on_a_character_boundary() {
    let key = format!("{}\u{fc}{}", "k".repeat(4095), "k".repeat(100_000));
    let mut conn = Conn::new();
    for chunk in command(&["GET", &key]).chunks(1000) {
        conn.up(chunk);
    }
    conn.up(command(&["GET", "k"])).down("$-1\r\n$-1\r\n");
    assert_eq!(conn.seen(0).target, "k".repeat(4095));
    assert_eq!(conn.seen(0).flags, "truncated");
    assert_eq!(conn.seen(1).target, "k");
}

#[test]
fn a_key_that_is_no_text_is_shown_as_far_as_it_is() {
    let mut conn = Conn::new();
    conn.up(b"*2\r\n$3\r\nGET\r\n$3\r\na\xffb\r\n");
    assert_eq!(conn.seen(0).target, "a\u{fffd}b");
}

#[test]
fn resp3_values_are_replies_of_their_own() {
    let mut conn = Conn::new();
    let replies = [
        "_\r\n",
        "#t\r\n",
        ",3.14\r\n",
        "(349289032840923850943850943850\r\n",
        "=7\r\ntxt:abc\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n_\r\n",
        "~2\r\n+a\r\n+b\r\n",
        "!21\r\nSYNTAX invalid syntax\r\n",
    ];
    for reply in replies {
        conn.up(command(&["GET", "k"])).down(reply);
    }
    let status: Vec<_> = conn.exchanges().iter().map(|e| e.2).collect();
    assert_eq!(status, ["OK", "OK", "OK", "OK", "OK", "OK", "OK", "SYNTAX"]);
    assert!(conn.log.seen.values().all(|seen| seen.complete));
}

#[test]
fn an_attribute_belongs_to_the_reply_behind_it() {
    let mut conn = Conn::new();
    conn.up(command(&["GET", "a"])).up(command(&["GET", "b"]));
    conn.down("|1\r\n+ttl\r\n%1\r\n+a\r\n,0.1\r\n|0\r\n*2\r\n|1\r\n+x\r\n+y\r\n:1\r\n:2\r\n:3\r\n");
    assert_eq!(conn.exchanges(), [("GET", "a", "OK"), ("GET", "b", "OK")]);
    assert_eq!(conn.seen(0).response, (0, 52));
    assert_eq!(conn.seen(1).response, (52, 4));
}

#[test]
fn an_aborted_transaction_is_one_exchange_for_each_command() {
    let mut conn = Conn::new();
    for line in ["MULTI", "SET a b", "SELECT 4", "EXEC", "GET a"] {
        conn.up(format!("{line}\r\n"));
    }
    conn.down("+OK\r\n+QUEUED\r\n+QUEUED\r\n*-1\r\n$1\r\nb\r\n");
    assert!(conn.exchanges().iter().all(|e| e.2 == "OK"));
    assert_eq!(conn.seen(4).attrs["db.namespace"], "0", "nothing was done");
}

#[test]
fn the_database_is_the_one_selected_last() {
    let mut conn = Conn::new();
    for line in [
        "GET a",
        "SELECT 3",
        "GET a",
        "SELECT 99",
        "GET a",
        "MULTI",
        "SELECT 5",
        "EXEC",
        "GET a",
        "RESET",
    ] {
        conn.up(format!("{line}\r\n"));
    }
    conn.down("$-1\r\n+OK\r\n$-1\r\n-ERR DB index is out of range\r\n$-1\r\n");
    conn.down("+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n$-1\r\n+RESET\r\n");
    let databases = conn
        .log
        .seen
        .values()
        .map(|seen| &*seen.attrs["db.namespace"]);
    assert_eq!(
        databases.collect::<Vec<_>>(),
        ["0", "3", "3", "3", "3", "3", "3", "5", "5", "0"]
    );
}

#[test]
fn a_subscription_ends_with_its_last_confirmation() {
    let mut conn = Conn::new();
    conn.up(command(&["SUBSCRIBE", "a", "b"]));
    conn.down("*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    assert!(!conn.seen(0).complete);
    conn.down("*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n");
    assert!(conn.seen(0).complete);
    assert_eq!(conn.seen(0).response, (0, 2 * (4 + 4 + 11 + 4 + 3 + 4)));
    conn.down("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n");
    conn.down("*4\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\na\r\n$5\r\nhello\r\n");
    conn.up("PING\r\n").down("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_eq!(conn.log.pushes, ["message", "pmessage"]);
    assert_eq!(
        conn.exchanges(),
        [("SUBSCRIBE", "a", "OK"), ("PING", "", "OK")]
    );
}

#[test]
fn unsubscribing_from_all_takes_as_many_confirmations_as_there_are() {
    let mut conn = Conn::new();
    conn.up("SUBSCRIBE a b\r\nPSUBSCRIBE c*\r\nUNSUBSCRIBE\r\nPUNSUBSCRIBE\r\nUNSUBSCRIBE\r\nLRANGE l 0 9\r\n");
    for (verb, total) in [
        ("subscribe", 1),
        ("subscribe", 2),
        ("psubscribe", 3),
        ("unsubscribe", 2),
        ("unsubscribe", 1),
        ("punsubscribe", 0),
        ("unsubscribe", 0),
    ] {
        conn.down(format!(
            "*3\r\n${}\r\n{verb}\r\n$1\r\nx\r\n:{total}\r\n",
            verb.len()
        ));
    }
    // No longer subscribed: an array is a reply, whatever it holds.
    conn.down("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert!(
        conn.log
            .seen
            .values()
            .all(|seen| seen.complete && seen.status == "OK")
    );
    assert_eq!(
        (conn.log.seen.len(), conn.log.pushes.len(), conn.log.orphans),
        (6, 0, 0)
    );
    assert_eq!(conn.seen(2).response.1, 2 * (4 + 5 + 13 + 4 + 3 + 4));
}

#[test]
fn a_refused_subscription_ends_with_the_error() {
    let mut conn = Conn::new();
    conn.up("SUBSCRIBE a b\r\nPING\r\n")
        .down("-NOPERM no\r\n+PONG\r\n");
    assert_eq!(
        conn.exchanges(),
        [("SUBSCRIBE", "a", "NOPERM"), ("PING", "", "OK")]
    );
}

#[test]
fn resp3_pushes_come_between_replies() {
    let mut conn = Conn::new();
    conn.up("HELLO 3\r\nCLIENT TRACKING ON\r\nSUBSCRIBE a\r\nLRANGE l 0 9\r\nGET k\r\n");
    conn.down("%1\r\n$5\r\nproto\r\n:3\r\n+OK\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    conn.down(
        ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n",
    );
    conn.down(">3\r\n+message\r\n+a\r\n+b\r\n>1\r\n+novelty\r\n$-1\r\n");
    assert_eq!(conn.log.pushes, ["invalidate", "message", "push"]);
    assert!(conn.log.seen.values().all(|seen| seen.complete));
    assert_eq!(conn.log.seen.len(), 5);
}

#[test]
fn messages_to_a_client_whose_subscription_was_not_seen_are_pushes() {
    let mut conn = Conn::with(true, Redaction::On);
    conn.down("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n")
        .up(command(&["PING"]));
    conn.down("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_eq!(conn.log.pushes, ["message"]);
    assert_eq!(conn.seen(0).flags, "guessed");
    assert!(conn.seen(0).complete);
}

#[test]
fn a_subscription_within_a_transaction_turns_messages_into_pushes() {
    let mut conn = Conn::new();
    conn.up("MULTI\r\nSUBSCRIBE a b\r\nEXEC\r\nPING\r\n");
    conn.down("+OK\r\n+QUEUED\r\n*1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n");
    conn.down("*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_eq!(conn.log.pushes, ["subscribe"]);
    assert!(conn.log.seen.values().all(|seen| seen.complete));
}

#[test]
fn commands_without_replies_are_one_way() {
    let mut conn = Conn::new();
    conn.up("GET a\r\nCLIENT REPLY OFF\r\nSET a b\r\nSELECT 3\r\nCLIENT REPLY ON\r\nGET b\r\n");
    conn.down("$-1\r\n+OK\r\n-ERR b\r\n");
    let ends: Vec<_> = conn
        .log
        .seen
        .values()
        .map(|s| (&*s.status, s.abandon))
        .collect();
    let one_way = ("", Some("one way"));
    assert_eq!(
        ends,
        [
            ("OK", None),
            one_way,
            one_way,
            one_way,
            ("OK", None),
            ("ERR", None)
        ]
    );
    assert_eq!(
        conn.seen(5).attrs.get("db.namespace"),
        None,
        "not known any more"
    );
}

#[test]
fn client_reply_skip_concerns_one_command() {
    let mut conn = Conn::new();
    conn.up("CLIENT REPLY SKIP\r\nCLIENT REPLY SKIP\r\nGET a\r\nGET b\r\nCLIENT REPLY WHAT\r\n");
    conn.down("$-1\r\n-ERR syntax error\r\n");
    let status: Vec<_> = conn.exchanges().iter().map(|e| e.2).collect();
    assert_eq!(status, ["", "", "", "OK", "ERR"]);
}

#[test]
fn reset_turns_replies_on() {
    let mut conn = Conn::new();
    conn.up("CLIENT REPLY OFF\r\nGET a\r\nRESET\r\nGET b\r\n")
        .down("+RESET\r\n$-1\r\n");
    let status: Vec<_> = conn.exchanges().iter().map(|e| e.2).collect();
    assert_eq!(status, ["", "", "OK", "OK"]);
}

#[test]
fn lines_of_monitor_are_pushes() {
    let line = |n: usize| {
        format!(
            "+1795259329.571193 [0 127.0.0.1:39732] \"SET\" \"{}\"\r\n",
            "x".repeat(n)
        )
    };
    let mut conn = Conn::new();
    conn.up("MONITOR\r\n")
        .down("+OK\r\n")
        .down(line(1))
        .down(line(200_000));
    conn.up("PING\r\n")
        .down("+PONG\r\n")
        .down(line(1))
        .up("QUIT\r\n")
        .down("+OK\r\n");
    assert_eq!(conn.log.pushes, ["monitor"; 3]);
    assert_eq!(
        conn.exchanges(),
        [
            ("MONITOR", "", "OK"),
            ("PING", "", "OK"),
            ("QUIT", "", "OK")
        ]
    );
}

#[test]
fn a_replica_ends_the_dialogue() {
    let mut conn = Conn::new();
    conn.up(command(&["PSYNC", "?", "-1"]))
        .down("\n\n+FULLRESYNC cb89 0\r\n$184\r\nREDIS");
    assert!(conn.stopped && conn.seen(0).complete);
    assert_eq!(conn.exchanges(), [("PSYNC", "?", "OK")]);
}

#[test]
fn a_refused_replica_goes_on() {
    let mut conn = Conn::new();
    conn.up("SYNC\r\nPING\r\n").down("-NOAUTH x\r\n+PONG\r\n");
    assert!(!conn.stopped);
    assert_eq!(
        conn.exchanges(),
        [("SYNC", "", "NOAUTH"), ("PING", "", "OK")]
    );
}
