//! Lost bytes, late attaches and bytes that are not RESP.

mod driver;

use driver::{Conn, command};
use wirespan_parser_api::{Direction, Redaction};

/// A client that waits for its answers.
fn waiting(round_trips: usize) -> Conn {
    let mut conn = Conn::new();
    for _ in 0..round_trips {
        conn.up(command(&["PING"])).down("+PONG\r\n");
    }
    conn
}

#[test]
fn a_large_value_is_never_held_and_its_loss_is_free() {
    let mut conn = Conn::new();
    conn.up("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n");
    for _ in 0..1024 {
        conn.up([b'x'; 1000])
            .lose(Direction::ToServer, 512 * 1024 - 1000);
        assert!(conn.heap_bytes() < 4096);
    }
    conn.up("\r\n")
        .up(command(&["PING"]))
        .down("+OK\r\n+PONG\r\n");
    assert_eq!(conn.exchanges(), [("SET", "k", "OK"), ("PING", "", "OK")]);
    assert_eq!(conn.seen(0).flags, "");
    let head = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870912\r\n".len() as u64;
    assert_eq!(conn.seen(0).request.1, head + 536_870_912 + 2);
}

#[test]
fn a_large_reply_is_never_held() {
    let mut conn = Conn::new();
    conn.up(command(&["GET", "k"])).down("$536870912\r\n");
    conn.lose(Direction::ToClient, 536_870_912).down("\r\n");
    conn.up(command(&["PING"])).down("+PONG\r\n");
    assert_eq!(conn.exchanges(), [("GET", "k", "OK"), ("PING", "", "OK")]);
}

#[test]
fn a_lost_request_does_not_shift_the_pairing() {
    let mut conn = waiting(2);
    conn.up(command(&["GET", "before"]))
        .lose(Direction::ToServer, 20);
    conn.down("$1\r\na\r\n").down("+lost\r\n");
    conn.up(command(&["SET", "after", "x"])).down("-OOM x\r\n");
    assert_eq!(
        conn.exchanges()[2..],
        [("GET", "before", "OK"), ("SET", "after", "OOM")]
    );
    assert_eq!(conn.log.orphans, 1);
}

#[test]
fn a_lost_reply_costs_only_its_own_exchange() {
    let mut conn = waiting(2);
    conn.up(command(&["GET", "hit"]))
        .lose(Direction::ToClient, 7);
    conn.up(command(&["SET", "after", "x"])).down("-OOM x\r\n");
    assert_eq!(
        conn.exchanges()[2..],
        [("GET", "hit", ""), ("SET", "after", "OOM")]
    );
    assert_eq!(conn.seen(2).abandon, Some("lost"));
}

#[test]
fn a_reply_hit_in_its_middle_keeps_its_status_and_is_flagged() {
    let mut conn = waiting(2);
    conn.up(command(&["LRANGE", "l", "0", "9"]))
        .down("*9\r\n$1\r\na\r\n");
    conn.lose(Direction::ToClient, 10)
        .down("\r\n$1\r\ny\r\n$1\r\nz\r\n");
    conn.up(command(&["GET", "after"])).down("$-1\r\n");
    assert_eq!(
        conn.exchanges()[2..],
        [("LRANGE", "l", "OK"), ("GET", "after", "OK")]
    );
    assert_eq!(
        (&*conn.seen(2).flags, conn.seen(2).abandon),
        ("gap", Some("lost"))
    );
    assert_eq!(conn.log.orphans, 2, "elements of the array that was hit");
}

#[test]
fn the_rest_of_a_hit_array_is_not_counted_as_replies() {
    let mut conn = Conn::new();
    conn.up("LRANGE l 0 9\r\nGET a\r\n")
        .down("*9\r\n$1\r\na\r\n");
    conn.lose(Direction::ToClient, 10).down("\r\n$1\r\ny\r\n");
    // The client does not wait for the answer to GET a.
    conn.up("SET b b\r\n").down("$1\r\nz\r\n-ERR a\r\n+OK\r\n");
    assert_eq!(
        conn.exchanges(),
        [("LRANGE", "l", "OK"), ("GET", "a", ""), ("SET", "b", "")]
    );
}

#[test]
fn a_request_hit_in_its_middle_is_still_paired() {
    let mut conn = waiting(2);
    conn.up("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1")
        .lose(Direction::ToServer, 6);
    conn.down("+OK\r\n")
        .up(command(&["GET", "k"]))
        .down("$-1\r\n");
    assert_eq!(
        conn.exchanges()[2..],
        [("SET", "k", "OK"), ("GET", "k", "OK")]
    );
    assert_eq!(conn.seen(2).flags, "gap");
}

#[test]
fn a_loss_of_requests_makes_the_database_unknown() {
    let mut conn = waiting(2);
    conn.lose(Direction::ToServer, 20).down("+OK\r\n");
    conn.up(command(&["GET", "a"])).down("$-1\r\n");
    assert_eq!(conn.seen(2).attrs.get("db.namespace"), None);
    conn.up(command(&["SELECT", "7"])).down("+OK\r\n");
    assert_eq!(conn.seen(3).attrs["db.namespace"], "7");
}

#[test]
fn a_lost_confirmation_leaves_messages_pushes() {
    let mut conn = waiting(2);
    conn.up(command(&["SUBSCRIBE", "a"]))
        .lose(Direction::ToClient, 30);
    conn.up(command(&["PING"]))
        .down("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n");
    conn.down("*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    assert_eq!(conn.log.pushes, ["message"]);
    assert_eq!(
        conn.exchanges()[2..],
        [("SUBSCRIBE", "a", ""), ("PING", "", "OK")]
    );
    assert!(conn.seen(3).complete);
}

#[test]
fn a_late_attach_begins_at_the_next_command() {
    let mut conn = Conn::with(true, Redaction::On);
    conn.up(b"rest of a value\r\n")
        .up(command(&["GET", "k"]))
        .down("alue\r\n$1\r\nv\r\n");
    conn.up("PING\r\n")
        .up(command(&["GET", "l"]))
        .down("$1\r\nv\r\n");
    assert_eq!(conn.exchanges()[0], ("GET", "k", "OK"));
    assert_eq!(conn.seen(0).flags, "guessed");
    assert!(conn.errors.is_empty());
}

#[test]
fn what_is_no_command_is_an_error_and_the_next_is_found() {
    let mut conn = waiting(2);
    conn.up("*1\r\n:5\r\n").down("-ERR Protocol error\r\n");
    conn.up(command(&["PING"])).down("+PONG\r\n");
    assert_eq!(conn.errors, ["argument length"]);
    assert_eq!(conn.exchanges()[2..], [("PING", "", "OK")]);
}

#[test]
fn hostile_lengths_are_refused() {
    for bytes in [
        "*2147483648\r\n",
        "*99999999999999999999\r\n",
        "*1\r\n$-2\r\n",
        "*2\r\n$3\r\nGET\r\n$99999999999\r\n",
    ] {
        let mut conn = Conn::new();
        conn.up(bytes);
        assert_eq!((conn.errors.len(), conn.log.seen.len()), (1, 0), "{bytes}");
    }
    for bytes in [
        "*-5\r\n",
        "$-2\r\n",
        ":99999999999999999999\r\n",
        "*?\r\n",
        "+a\nb\r\n",
        "@\r\n",
    ] {
        let mut conn = Conn::new();
        conn.up("PING\r\n").down(bytes);
        assert_eq!(conn.errors.len(), 1, "{bytes}");
    }
}

#[test]
fn a_million_levels_take_no_memory() {
    let mut conn = Conn::new();
    conn.up("GET a\r\nGET b\r\n");
    for _ in 0..1000 {
        conn.down("*1\r\n".repeat(1000));
    }
    conn.down(":1\r\n")
        .down("|1\r\n".repeat(10_000))
        .down("_\r\n".repeat(20_001));
    assert!(conn.heap_bytes() < 4096);
    assert_eq!(conn.exchanges()[0], ("GET", "a", "OK"));
    assert_eq!(conn.seen(0).response.1, 4_000_004);
}

#[test]
fn announced_elements_take_no_memory() {
    let mut conn = Conn::new();
    conn.up("GET a\r\n");
    // Each announces more elements than ever come.
    conn.down("*4294967295\r\n".repeat(100)).down(":1\r\n");
    assert!(conn.errors.is_empty() && !conn.seen(0).complete);
    assert!(conn.heap_bytes() < 4096);
}

#[test]
fn an_endless_line_is_an_error() {
    for start in ["+", "-ERR ", ","] {
        let mut conn = Conn::new();
        conn.up("GET a\r\n").down(start);
        for _ in 0..70 {
            conn.down([b'1'; 1000]);
        }
        assert_eq!(conn.errors, ["line"], "{start}");
        assert!(conn.heap_bytes() < 4096);
    }
}

#[test]
fn an_endless_inline_command_is_an_error() {
    let mut conn = Conn::new();
    for _ in 0..70 {
        conn.up([b'x'; 1000]);
    }
    assert_eq!(conn.errors, ["inline command"]);
}

#[test]
fn requests_that_change_the_connection_are_remembered_in_bounded_memory() {
    let mut conn = Conn::new();
    for _ in 0..1000 {
        conn.up("SUBSCRIBE a\r\n".repeat(100));
        conn.up("CLIENT REPLY SKIP\r\nPING\r\nPING\r\n".repeat(10));
    }
    assert!(conn.heap_bytes() < 1 << 20, "{}", conn.heap_bytes());
}

#[test]
fn replies_that_no_boundary_was_found_for_do_not_shift_the_pairing() {
    let mut conn = waiting(2);
    conn.lose(Direction::ToClient, 5);
    conn.up(command(&["INCR", "a"])).down("not a reply\r\n");
    conn.up(command(&["FOO", "b"])).down("-ERR answers FOO\r\n");
    let ends: Vec<_> = conn
        .log
        .seen
        .values()
        .map(|s| (&*s.status, s.abandon))
        .collect();
    assert_eq!(ends[2..], [("", Some("lost")), ("", Some("lost"))]);
    assert_eq!(conn.log.orphans, 1);
}
