//! Connections joined in the middle, lost bytes, and bytes that do harm.

mod packets;

use packets::*;
use wirespan_mysql::MySql;
use wirespan_parser_api::{
    AfterGap, Direction, Emit, Event, Gap, Init, Input, Limits, Next, Parser, Protocol as _,
};
use wirespan_testkit::{Fixture, Run, fuzz_parser};

#[test]
fn either_style_of_result_sets_is_read_without_the_login() {
    for style in Style::BOTH {
        let fixture = Fixture::new()
            .client(&query("SELECT c FROM t"))
            .server(&result_set(1, &["a"], style, 0))
            .client(&query("SELECT nothing"))
            .server(&err(1, 1054, "42S22"))
            .client(&prepare("SELECT c FROM t"))
            .server(&prepared(1, 1, 1, style))
            .client(&execute(1))
            .server(&result_set(1, &[], style, 0));
        let run = Run::of_late(MySql, &fixture);
        let flags: Vec<_> = run.seen.iter().map(|seen| seen.flags.to_string()).collect();
        assert_eq!(
            flags,
            ["midstream,guessed", "midstream", "midstream", "midstream"]
        );
        let statuses: Vec<_> = run.seen.iter().map(|seen| &*seen.status).collect();
        assert_eq!(statuses, ["OK", "1054", "OK", "OK"]);
    }
}

#[test]
fn the_end_of_a_prepare_is_guessed_where_nothing_tells_it() {
    for style in Style::BOTH {
        let fixture = Fixture::new()
            .client(&query("SELECT nothing"))
            .server(&err(1, 1054, "42S22"))
            .client(&prepare("SELECT c FROM t"))
            .server(&prepared(1, 1, 0, style))
            .client(&execute(1))
            .server(&result_set(1, &["a"], style, 0));
        let run = Run::of_late(MySql, &fixture);
        let flags: Vec<_> = run.seen.iter().map(|seen| seen.flags.to_string()).collect();
        assert_eq!(
            flags,
            ["midstream,guessed", "midstream,guessed", "midstream"]
        );
        assert_eq!(run.seen[2].target, "SELECT c FROM t");
        assert_eq!(run.stats.protocols["mysql"].orphans, 0);
    }
}

#[test]
fn a_statement_prepared_before_is_not_known() {
    let fixture =
        Fixture::new()
            .client(&execute(5))
            .server(&result_set(1, &["\0a"], Style::Eof, 0));
    let run = Run::of_late(MySql, &fixture);
    assert_eq!(
        (
            &*run.seen[0].operation,
            &*run.seen[0].target,
            &*run.seen[0].status
        ),
        ("", "", "OK")
    );
    assert_eq!(run.seen[0].flags.to_string(), "midstream,guessed");
}

#[test]
fn a_login_behind_the_beginning_is_read() {
    let fixture = connected(Style::Deprecated)
        .client(&query("DELETE FROM t"))
        .server(&ok(1));
    let run = Run::of_late(MySql, &fixture);
    let operations: Vec<_> = run.seen.iter().map(|seen| &*seen.operation).collect();
    assert_eq!(operations, ["HANDSHAKE", "DELETE"]);
}

/// Takes nothing.
struct Nobody;

impl Emit for Nobody {
    fn emit(&mut self, _: Event<'_>) {}
}

/// A parser on a connection where the client has logged in.
fn parser() -> Box<dyn Parser> {
    let limits = Limits::default();
    let mut parser = MySql.parser(&Init::new(&limits));
    for chunk in connected(Style::Eof).chunks() {
        feed(&mut *parser, chunk.dir, &chunk.bytes);
    }
    parser
}

/// Gives bytes to a parser; returns how many it does not need behind them.
fn feed(parser: &mut dyn Parser, dir: Direction, bytes: &[u8]) -> u64 {
    feed_to(parser, dir, bytes, &mut Nobody)
}

fn feed_to(parser: &mut dyn Parser, dir: Direction, bytes: &[u8], out: &mut dyn Emit) -> u64 {
    let mut at = 0;
    while at < bytes.len() {
        let input = Input {
            bytes: &bytes[at..],
            offset: at as u64,
        };
        let step = parser.parse(dir, input, out).expect("packets");
        at += step.consumed;
        match step.next {
            Next::More => {}
            Next::Skip(n) if at as u64 + n <= bytes.len() as u64 => at += n as usize,
            Next::Skip(n) => return at as u64 + n - bytes.len() as u64,
            other => panic!("not expected: {other:?}"),
        }
    }
    0
}

/// Header of a packet as long as can be, and some of its payload.
fn longest(seq: u8, payload: &[u8]) -> Vec<u8> {
    [&[0xFF, 0xFF, 0xFF, seq], payload].concat()
}

/// Operation, target and flags of requests, and the statuses of responses.
#[derive(Default)]
struct Told(Vec<String>);

impl Emit for Told {
    fn emit(&mut self, event: Event<'_>) {
        self.0.extend(match event {
            Event::Request { request, .. } => Some(format!(
                "{} {:?} {}",
                request.operation, request.target, request.flags
            )),
            Event::Response { response, .. } => Some(response.status.to_owned()),
            Event::Abandon { .. } => Some("abandoned".to_owned()),
            _ => None,
        });
    }
}

#[test]
fn a_statement_that_a_loss_cuts_is_paired_and_the_next_one_found() {
    let mut parser = parser();
    let mut told = Told::default();
    let statement = query("INSERT INTO t VALUES ('CANARY')");
    let gap = Gap::new(20, 10, &statement[..20]);
    let after = parser.gap(Direction::ToServer, gap, &mut told);
    assert_eq!(after, AfterGap::Continue);
    let rest = [&statement[30..], &command(0x0E, b"")].concat();
    assert_eq!(
        feed_to(&mut *parser, Direction::ToServer, &rest, &mut told),
        0
    );
    let responses = [err(1, 1062, "23000"), ok(1)].concat();
    feed_to(&mut *parser, Direction::ToClient, &responses, &mut told);
    assert_eq!(
        told.0,
        ["INSERT \"\" truncated", "PING \"\" ", "1062", "OK"]
    );
}

#[test]
fn half_a_word_is_no_operation() {
    for (text, operation) in [
        ("SEL", ""),
        ("SELECT", ""),
        ("SELECT 1", "SELECT"),
        ("/*x", ""),
    ] {
        let mut told = Told::default();
        let mut bytes = query(text);
        bytes[0] = 100;
        let gap = Gap::new(100, 200, &bytes);
        let after = parser().gap(Direction::ToServer, gap, &mut told);
        assert_eq!(
            after,
            AfterGap::Resync,
            "the next statement may be lost too"
        );
        assert_eq!(told.0, [format!("{operation} \"\" truncated")]);
    }
}

#[test]
fn a_row_of_64_megabytes_is_never_held() {
    let mut parser = parser();
    feed(&mut *parser, Direction::ToServer, &query("SELECT c FROM t"));
    let head = [packet(1, &[1]), column(2), eof(3)].concat();
    assert_eq!(feed(&mut *parser, Direction::ToClient, &head), 0);
    for seq in 4..8 {
        let row = longest(seq, b"\xFD\0\0\x04");
        assert_eq!(feed(&mut *parser, Direction::ToClient, &row), 0xFF_FFFF - 4);
    }
    // What follows looks like the end of rows, and is the end of a row.
    let end = [packet(8, &[0xFE, 0, 0, 2, 0]), eof(9)].concat();
    assert_eq!(feed(&mut *parser, Direction::ToClient, &end), 0);
    assert!(parser.heap_bytes() < 16 * 1024);
    feed(&mut *parser, Direction::ToServer, &command(0x0E, b""));
    feed(&mut *parser, Direction::ToClient, &ok(1));
}

#[test]
fn a_statement_of_32_megabytes_is_never_held() {
    let mut parser = parser();
    let text = [b"\x03INSERT INTO t VALUES ('", &[b'x'; 16 * 1024][..]].concat();
    let skipped = feed(&mut *parser, Direction::ToServer, &longest(0, &text));
    assert_eq!(skipped, 0xFF_FFFF - text.len() as u64);
    assert_eq!(
        feed(&mut *parser, Direction::ToServer, &longest(1, b"x")),
        0xFF_FFFE
    );
    feed(&mut *parser, Direction::ToServer, &packet(2, b"')"));
    feed(&mut *parser, Direction::ToClient, &ok(3));
    assert!(parser.heap_bytes() < 64 * 1024);
}

#[test]
fn statements_and_requests_without_answers_are_remembered_in_bounded_memory() {
    let mut parser = parser();
    let text = format!("SELECT {} FROM t", "column_name, ".repeat(300));
    for id in 0..3_000u32 {
        feed(&mut *parser, Direction::ToServer, &prepare(&text));
        feed(
            &mut *parser,
            Direction::ToClient,
            &prepared(id, 0, 0, Style::Eof),
        );
    }
    for _ in 0..100_000 {
        feed(
            &mut *parser,
            Direction::ToServer,
            &query("SELECT 1; SELECT 2"),
        );
    }
    assert!(parser.heap_bytes() < 6 << 20, "{}", parser.heap_bytes());
}

/// Conversations with bytes changed, dropped and repeated.
#[test]
fn damaged_conversations_do_no_harm() {
    let mut fixtures = Vec::new();
    for style in Style::BOTH {
        fixtures.push(
            connected(style)
                .client(&query("SELECT c FROM t; CALL p(); USE x"))
                .server(&result_set(1, &["a", "b"], style, MORE))
                .client(&prepare("SELECT ?"))
                .server(&prepared(1, 1, 1, style))
                .client(&execute(1))
                .server(&result_set(1, &["\0a"], style, 0)),
        );
        fixtures.push(
            connected_with(COMPRESS, None)
                .client(&[&[15, 0, 0, 0, 0, 0, 0][..], &query("SELECT c\0\0")[..]].concat())
                .server(&[&[11, 0, 0, 1, 0, 0, 0][..], &ok(1)[..]].concat()),
        );
    }
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for round in 0..4_000 {
        let fixture = &fixtures[round % fixtures.len()];
        let mut story = vec![next(256) as u8];
        for chunk in fixture.chunks() {
            let mut bytes = chunk.bytes.clone();
            if next(3) == 0 {
                let at = next(bytes.len());
                bytes[at] = [0, 1, 0xFE, 0xFF, next(256) as u8][next(5)];
            }
            if next(6) == 0 {
                bytes.truncate(next(bytes.len()));
            }
            let loss = [
                2 + u8::from(chunk.dir == Direction::ToClient),
                next(40) as u8,
                0,
            ];
            if next(10) == 0 {
                story.extend(loss);
            }
            story.push(u8::from(chunk.dir == Direction::ToClient));
            story.extend((bytes.len() as u16).to_le_bytes());
            story.extend(bytes);
        }
        fuzz_parser(MySql, &story);
    }
}
