//! What the engine makes of one connection.
#![allow(missing_docs)]

mod common;

use common::{Rig, client, server};
use wirespan_engine::api::Direction::{ToClient, ToServer};
use wirespan_engine::{Close, Config, Nanos, Roles, Side, Start};

#[test]
fn times_are_those_of_the_four_ends_of_the_messages() {
    let mut rig = Rig::new();
    rig.ask("Q a").ask(" 4\nbo").ask("dy"); // 10, 20, 30
    rig.answer("A 2").answer("00 2\n").answer("xy"); // 40, 50, 60
    assert_eq!(rig.finish(), ["a=200"]);
    let seen = &rig.seen.0[0];
    assert_eq!(seen.duration, Some(60 - 10));
    assert_eq!(seen.ttfb, Some(40 - 30));
    assert_eq!(seen.bytes, (10, 10));
    assert_eq!(seen.flags, "");
}

#[test]
fn an_answer_that_comes_before_the_end_of_the_request_waits_for_it() {
    let mut rig = Rig::new();
    rig.ask("Q up 10\n12345").answer("A 413 0\n");
    assert!(rig.pairs().is_empty());
    rig.ask("67890");
    assert_eq!(rig.pairs(), ["up=413"]);
    assert_eq!(rig.seen.0[0].duration, Some(10));
    assert_eq!(rig.seen.0[0].ttfb, Some(0), "not negative");
}

#[test]
fn chunks_out_of_order_and_twice_change_nothing_but_times() {
    let mut rig = Rig::new();
    rig.at(ToServer, 6, "Q b 0\n").at(ToServer, 0, "Q a 0\nQ ");
    rig.at(ToServer, 0, "Q a 0\n").at(ToServer, 3, "0\nQ");
    rig.answer("A 1 0\nA 2 0\n");
    assert_eq!(rig.finish(), ["a=1", "b=2"]);
    assert!(rig.engine.stats().duplicate_bytes > 0);
}

#[test]
fn where_copies_differ_the_first_wins_and_the_difference_is_counted() {
    let mut rig = Rig::new();
    rig.at(ToServer, 2, "first 0\n")
        .at(ToServer, 0, "Q other 0\n");
    rig.answer("A 1 0\n");
    assert_eq!(rig.finish(), ["first=1"]);
    assert!(rig.engine.stats().conflicting_bytes >= 4);
}

#[test]
fn a_lost_body_costs_nothing() {
    let mut rig = Rig::new();
    rig.ask("Q big 1000\n")
        .miss(ToServer, 990)
        .ask("0123456789");
    rig.engine.tick(Nanos(3_000_000_000), &mut rig.seen);
    rig.now = 3_000_000_000;
    rig.answer("A 200 0\n");
    assert_eq!(rig.finish(), ["big=200"]);
    assert_eq!(rig.seen.0[0].flags, "");
    assert!(rig.seen.0[0].duration.is_some());
    let stats = &rig.engine.stats().protocols["line"];
    assert_eq!((stats.gaps, stats.gaps_skipped), (0, 1));
    assert_eq!(stats.bytes.to_server.lost, 990);
}

#[test]
fn a_body_that_passed_is_not_lost_and_its_last_byte_has_a_time() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n").answer("A 200 1000\n"); // 10, 20
    assert_eq!(rig.engine.wanted_from(rig.id, ToClient), 11 + 1000);
    assert_eq!(rig.engine.wanted_from(rig.id, ToServer), 6);
    rig.pass(ToClient, 600).pass(ToClient, 400); // 30, 40
    rig.ask("Q b 0\n").answer("A 201 0\n");
    assert_eq!(rig.finish(), ["a=200", "b=201"]);
    assert_eq!(rig.seen.0[0].duration, Some(40 - 10));
    assert_eq!(rig.seen.0[0].flags, "");
    let bytes = &rig.engine.stats().protocols["line"].bytes.to_client;
    assert_eq!((bytes.skipped, bytes.lost), (1000, 0));
}

#[test]
fn what_passed_and_was_wanted_is_lost() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\nQ b 0\n").answer("A 200 5\n");
    // The body, and the first of the next response.
    rig.pass(ToClient, 8).answer("1 0\n");
    assert_eq!(rig.finish(), ["a=200", "b="]);
    let stats = &rig.engine.stats().protocols["line"];
    assert_eq!(stats.bytes.to_client.lost, 3);
    assert_eq!(stats.gaps, 1);
}

#[test]
fn whose_socket_it_is_changes_with_roles_that_were_assumed() {
    let mut rig = Rig::at_side(
        Config::default(),
        Start::Beginning,
        Roles::Assumed,
        Side::Client,
    );
    rig.at(ToClient, 0, "Q a 0\n").at(ToServer, 0, "A 200 0\n");
    assert_eq!(rig.finish(), ["a=200"]);
    assert_eq!(rig.seen.0[0].side, Side::Server);
    assert_eq!(rig.seen.0[0].server, client());
}

#[test]
fn nothing_is_wanted_of_a_connection_that_nobody_can_read_or_that_is_closed() {
    let mut rig = Rig::new();
    rig.ask("# no protocol\n").answer("# none\n");
    assert_eq!(rig.engine.wanted_from(rig.id, ToServer), u64::MAX);
    let mut rig = Rig::new();
    rig.ask("Q a 0\n");
    rig.engine
        .close(rig.id, Close::Finished, Nanos(20), &mut rig.seen);
    assert_eq!(rig.engine.wanted_from(rig.id, ToServer), u64::MAX);
}

#[test]
fn a_body_whose_last_byte_is_lost_has_no_duration() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n").answer("A 200 100\n").miss(ToClient, 100);
    rig.answer("P\n");
    rig.now = 3_000_000_000;
    rig.ask("Q b 0\n");
    rig.engine.tick(Nanos(rig.now), &mut rig.seen);
    rig.answer("A 200 0\n");
    assert_eq!(rig.finish(), ["a=200", "b=200"]);
    assert_eq!(
        (rig.seen.0[0].duration, rig.seen.0[0].flags.as_str()),
        (None, "gap")
    );
    assert_eq!(rig.seen.0[0].bytes.1, 110, "lost bytes are counted");
}

#[test]
fn a_lost_answer_costs_its_own_exchange_and_the_latency_of_the_next() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n")
        .answer("A 1 0\n")
        .ask("Q b 0\n")
        .answer("A 2 0\n");
    rig.ask("Q c 0\n").miss(ToClient, 6);
    // The client has received what we have not: its next request says so.
    rig.acked(ToClient, 18).ask("Q d 0\n");
    rig.answer("A 4 0\n").ask("Q e 0\n").answer("A 5 0\n");
    assert_eq!(rig.finish(), ["a=1", "b=2", "c=", "d=4", "e=5"]);
    let flags: Vec<_> = rig.seen.0.iter().map(|s| s.flags.as_str()).collect();
    assert_eq!(flags, ["", "", "gap,no_response", "gap", ""]);
    assert_eq!(rig.seen.0[3].duration, None);
    assert!(rig.seen.0[4].duration.is_some());
}

#[test]
fn bytes_that_were_acknowledged_first_and_come_late_are_not_lost() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n");
    rig.acked(ToClient, 6).ask("Q b 0\n"); // the capture gives the answer late
    rig.at(ToClient, 0, "A 1 0\n").at(ToClient, 6, "A 2 0\n");
    assert_eq!(rig.finish(), ["a=1", "b=2"]);
    assert_eq!(rig.engine.stats().protocols["line"].gaps, 0);
}

#[test]
fn an_answer_that_acknowledges_what_is_missing_of_the_first_request_waits_for_it() {
    let mut rig = Rig::new();
    // The end of the first request is missing, and no protocol is known yet.
    rig.ask("Q").miss(ToServer, 5);
    rig.acked(ToServer, 6).answer("A 1 0\n");
    rig.acked(ToClient, 6).ask("Q b 0\n");
    rig.acked(ToServer, 12).answer("A 2 0\n");
    rig.tick(3_000_000_000).ask("Q c 0\n");
    rig.acked(ToServer, 18).answer("A 3 0\n");
    assert_eq!(rig.finish(), ["b=2", "c=3"]);
}

#[test]
fn a_hole_does_not_inherit_the_age_of_one_that_was_filled() {
    let mut rig = Rig::new();
    rig.at(ToServer, 6, "Q b 0\n").at(ToServer, 0, "Q a 0\n");
    rig.now = 1_900_000_000;
    rig.at(ToServer, 18, "Q d 0\n");
    rig.engine.tick(Nanos(2_100_000_000), &mut rig.seen);
    rig.at(ToServer, 12, "Q c 0\n");
    rig.answer(&"A 1 0\n".repeat(4));
    assert_eq!(rig.finish(), ["a=1", "b=1", "c=1", "d=1"]);
    assert_eq!(rig.engine.stats().protocols["line"].gaps, 0);
}

#[test]
fn a_connection_joined_in_the_middle_is_read_from_its_next_message() {
    let mut rig = Rig::with(Config::default(), Start::Middle, Roles::Assumed);
    rig.at(ToServer, 100, "dy of a\nQ b 0\n");
    rig.engine
        .anchor(rig.id, ToServer, 100, Nanos(20), &mut rig.seen);
    rig.at(ToClient, 500, "A 2 0\n");
    rig.engine
        .anchor(rig.id, ToClient, 500, Nanos(30), &mut rig.seen);
    rig.ask("Q c 0\n").answer("A 3 0\n");
    assert_eq!(rig.finish(), ["b=2", "c=3"]);
    assert_eq!(rig.seen.0[0].flags, "midstream,guessed");
    assert_eq!(rig.seen.0[1].flags, "midstream");
}

#[test]
fn roles_that_were_assumed_give_way_to_what_the_bytes_say() {
    let mut rig = Rig::with(Config::default(), Start::Beginning, Roles::Assumed);
    rig.answer("Q a 0\n").ask("A 1 0\n");
    assert_eq!(rig.finish(), ["a=1"]);
    assert_eq!(
        rig.seen.0[0].server,
        client(),
        "who was taken for the client answers"
    );
    assert_ne!(rig.seen.0[0].server, server());
}

#[test]
fn weak_evidence_needs_the_port_or_the_peer() {
    let mut rig = Rig::new();
    rig.ask("? what\nQ a 0\n").answer("A 1 0\n");
    // Nobody knows what the line before it was: the answer may be to that.
    assert_eq!(rig.finish(), ["a="], "port 7777 is the protocol's own");
}

#[test]
fn an_unknown_protocol_is_counted_and_not_held() {
    let mut rig = Rig::new();
    for _ in 0..100 {
        rig.ask(&"x".repeat(1000)).answer(&"y".repeat(1000));
    }
    assert!(rig.engine.heap_bytes() < 20_000);
    assert!(rig.finish().is_empty());
    let stats = rig.engine.stats();
    assert_eq!(
        stats.protocols["opaque"].bytes.to_server.unparsed_total(),
        100_000
    );
    assert_eq!(stats.opaque["unknown protocol"], 1);
}

#[test]
fn a_direction_that_tells_nothing_does_not_hide_the_other() {
    let mut rig = Rig::with(Config::default(), Start::Middle, Roles::Assumed);
    for dir in [ToServer, ToClient] {
        rig.engine.anchor(rig.id, dir, 0, Nanos(0), &mut rig.seen);
    }
    rig.ask(&"x".repeat(5000)).ask(&"x".repeat(5000));
    rig.answer("A 1 0\n").ask("\nQ b 0\n").answer("A 2 0\n");
    assert_eq!(rig.finish(), ["b=2"]);
}

#[test]
fn after_an_upgrade_the_rest_is_detected_afresh() {
    let mut rig = Rig::new();
    rig.ask("U up 0\nQ inner 0\n");
    assert!(rig.pairs().is_empty(), "waits for the answer");
    rig.answer("A 101 0\nA 7 0\n");
    assert_eq!(rig.finish(), ["up=101", "inner=7"]);
    assert_eq!(rig.engine.stats().protocols["line"].connections, 2);
}

#[test]
fn an_upgrade_that_is_refused_goes_on_as_before() {
    let mut rig = Rig::new();
    rig.ask("U up 0\nQ next 0\n")
        .answer("A 400 0\n")
        .answer("A 8 0\n");
    assert_eq!(rig.finish(), ["up=400", "next=8"]);
}

#[test]
fn a_parser_that_panics_costs_its_connection_only() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n!\nQ b 0\n").answer("A 1 0\n");
    assert_eq!(rig.finish(), ["a="]);
    let stats = rig.engine.stats();
    assert_eq!((stats.parser_faults, stats.opaque["parser fault"]), (1, 1));
}

#[test]
fn eight_errors_without_a_good_message_are_enough() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n").answer("A 1 0\n");
    for _ in 0..7 {
        rig.ask("junk\n").ask("Q x 0\n");
    }
    assert!(rig.engine.stats().opaque.is_empty());
    rig.ask("junk\n");
    assert_eq!(rig.engine.stats().opaque["parse errors"], 1);
    rig.finish();
}

#[test]
fn a_message_above_the_limit_is_an_error_and_not_a_stall() {
    let mut rig = Rig::new();
    rig.ask("Q ");
    for _ in 0..200 {
        rig.ask(&"x".repeat(1000));
    }
    assert!(rig.engine.heap_bytes() < 200_000);
    rig.ask("\n");
    for _ in 0..4 {
        rig.ask("Q b 0\n").answer("A 1 0\n");
    }
    assert_eq!(rig.finish(), ["b=", "b=", "b=", "b=1"]);
}

#[test]
fn requests_that_wait_too_long_are_reported() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n");
    rig.engine.tick(Nanos(601_000_000_000), &mut rig.seen);
    assert_eq!(rig.pairs(), ["a="]);
    assert_eq!(rig.seen.0[0].flags, "no_response");
}

#[test]
fn open_exchanges_are_bounded() {
    let mut config = Config::default();
    config.max_open = 100;
    let mut rig = Rig::with(config, Start::Beginning, Roles::Known);
    for _ in 0..1000 {
        rig.ask("Q a 0\n");
    }
    assert_eq!(rig.pairs().len(), 900);
    assert_eq!(rig.engine.stats().evicted_exchanges, 900);
    rig.finish();
}

#[test]
fn a_hundred_thousand_open_exchanges_stay_within_the_budget() {
    let mut config = Config::default();
    (config.connection_bytes, config.max_open) = (1 << 20, usize::MAX);
    let mut rig = Rig::with(config, Start::Beginning, Roles::Known);
    for _ in 0..100_000 {
        rig.ask("Q a 0\n");
        assert!(rig.engine.heap_bytes() <= 1 << 20);
    }
    assert!(rig.engine.stats().opaque.is_empty(), "the connection lives");
    let open = 100_000 - rig.engine.stats().evicted_exchanges;
    assert!(open > 500, "{open}");
    // The answers to those given up are nobody's; the last ones find their requests.
    rig.answer(&"A 1 0\n".repeat(100_000));
    let answered = rig.pairs().iter().filter(|pair| *pair == "a=1").count();
    assert_eq!(answered as u64, open);
    rig.finish();
}

#[test]
fn the_end_of_both_streams_closes_the_connection() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n").answer("A 1 0\n");
    rig.engine
        .end(rig.id, ToServer, 6, Nanos(30), &mut rig.seen);
    assert!(rig.engine.is_open(rig.id));
    rig.engine
        .end(rig.id, ToClient, 6, Nanos(40), &mut rig.seen);
    assert!(!rig.engine.is_open(rig.id));
    assert_eq!(rig.engine.stats().closed[&Close::Finished], 1);
}

#[test]
fn a_lost_tail_is_a_gap() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n").answer("A 200 10\n123");
    rig.engine
        .end(rig.id, ToClient, 19, Nanos(30), &mut rig.seen);
    assert_eq!(rig.finish(), ["a=200"]);
    assert_eq!(rig.seen.0[0].duration, None);
    assert_eq!(rig.engine.stats().protocols["line"].bytes.to_client.lost, 7);
}

#[test]
fn pushes_and_orphans_are_counted_and_no_exchanges() {
    let mut rig = Rig::new();
    rig.ask("Q a 0\n").answer("P\nA 1 0\nA 2 0\n");
    assert_eq!(rig.finish(), ["a=1"]);
    let stats = &rig.engine.stats().protocols["line"];
    assert_eq!((stats.pushes["push"], stats.orphans), (1, 1));
}
