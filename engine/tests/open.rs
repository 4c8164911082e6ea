//! Exchanges that are open for long: reports while they are, sizes so far, and when to give up.

mod common;

use common::{Rig, Seen, server};
use wirespan_engine::{Config, Roles, Start, TICK};

const SECOND: u64 = 1_000_000_000;

fn rig(report_open: Option<u64>) -> Rig {
    let mut config = Config::default();
    config.report_open = report_open;
    Rig::with(config, Start::Beginning, Roles::Known)
}

/// The reports so far: open for how many milliseconds, operation, status, bytes, flags.
fn reports(rig: &Rig) -> Vec<String> {
    let line = |(open, seen): &(u64, Seen)| {
        let Seen {
            operation,
            status,
            bytes: (up, down),
            flags,
            ..
        } = seen;
        let open = open / 1_000_000;
        format!("{open}ms {operation}={status} {up}/{down} {flags}")
    };
    rig.seen.1.iter().map(line).collect()
}

#[test]
fn an_exchange_is_reported_at_each_period_while_it_is_open_with_what_is_known() {
    let mut rig = rig(Some(SECOND));
    rig.tick(SECOND - 10).ask("Q slow 0\n");
    rig.tick(2 * SECOND).answer("A 200 100\n0123456789");
    rig.tick(3 * SECOND).answer("0123456789");
    rig.tick(4 * SECOND).answer(&"x".repeat(80));
    rig.tick(5 * SECOND);
    assert_eq!(
        reports(&rig),
        [
            "1000ms slow= 9/0 ",
            "2000ms slow=200 9/20 streaming",
            "3000ms slow=200 9/30 streaming",
        ]
    );
    assert_eq!(rig.finish(), ["slow=200"], "one exchange");
    let seen = &rig.seen.0[0];
    assert_eq!((seen.bytes, seen.flags.as_str()), ((9, 110), ""));
    assert_eq!(
        (seen.server, seen.duration),
        (server(), Some(3 * SECOND + 10))
    );
    let stats = rig.engine.stats();
    assert_eq!((stats.open_reports, stats.exchanges()), (3, 1));
}

#[test]
fn a_report_says_what_was_known_at_the_tick_behind_its_period_however_late_it_comes() {
    // The request begins between two ticks: its first second is over between two others.
    let begin = |rig: &mut Rig| {
        rig.tick(SECOND + 100).ask("Q a 50\n0123456789");
    };
    let mut punctual = rig(Some(SECOND));
    begin(&mut punctual);
    for tick in 5..=13 {
        punctual.tick(tick * TICK);
    }
    let mut late = rig(Some(SECOND));
    begin(&mut late);
    late.tick(13 * TICK);
    assert_eq!(reports(&punctual), reports(&late));
    let expected = ["1249ms a= 17/0 streaming", "2249ms a= 17/0 streaming"];
    assert_eq!(reports(&late), expected);
}

#[test]
fn nothing_is_reported_while_open_unless_asked_for() {
    let mut rig = rig(None);
    rig.ask("Q a 0\n").tick(500 * SECOND);
    assert_eq!(reports(&rig), [""; 0]);
    assert_eq!(rig.engine.stats().open_reports, 0);
}

#[test]
fn reports_change_nothing_of_the_exchange() {
    let play = |report_open| {
        let mut rig = rig(report_open);
        rig.ask("Q a 40\n0123").tick(3 * SECOND);
        rig.ask(&"x".repeat(36))
            .answer("A 200 9\n01")
            .tick(9 * SECOND);
        rig.answer("2345678").ask("Q b 9\n01");
        rig.finish();
        rig.seen.0
    };
    assert_eq!(play(Some(TICK)), play(None));
}

#[test]
fn an_exchange_that_its_connection_outlives_not_has_the_bytes_that_were_seen() {
    let mut rig = rig(None);
    rig.ask("Q a 0\n")
        .answer("A 200 100\n0123")
        .ask("Q b 100\n01");
    rig.finish();
    let bytes: Vec<_> = rig.seen.0.iter().map(|seen| seen.bytes).collect();
    assert_eq!(bytes, [(6, 14), (10, 0)]);
}

#[test]
fn a_message_that_moves_may_take_longer_than_a_request_may_wait() {
    let mut config = Config::default();
    config.request_wait = SECOND;
    let mut rig = Rig::with(config, Start::Beginning, Roles::Known);
    rig.ask("Q stream 0\nQ unanswered 0\n")
        .answer("A 200 100\n");
    for second in 2..6 {
        rig.answer("0123456789").tick(second * SECOND);
        assert_eq!(rig.pairs(), ["unanswered="], "after {second} s");
    }
    rig.tick(8 * SECOND).tick(10 * SECOND);
    assert_eq!(
        rig.pairs(),
        ["unanswered=", "stream=200"],
        "it stands still"
    );
    assert_eq!(rig.seen.0[1].bytes, (11, 50));
    assert_eq!(rig.seen.0[1].flags, "truncated");
    assert_eq!(rig.engine.stats().expired_exchanges, 2);
}
