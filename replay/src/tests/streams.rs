//! The rules of [`connection`](crate::connection), one by one.

use wirespan_engine::{Close, Nanos, Roles, Start};

use super::recorder::*;
use crate::segment::{Endpoint, Key};
use crate::tcp::{Flows, Moment};

fn with_handshake(more: &[Sent]) -> Vec<Sent> {
    [handshake(), more.to_vec()].concat()
}

#[test]
fn a_syn_names_the_client_and_both_beginnings() {
    let (recorder, _) = play(&with_handshake(&[
        sent(Client, ACK, 101, 501, b"ask"),
        sent(Server, ACK, 501, 104, b"answer"),
    ]));
    let told = only(&recorder);
    assert_eq!(told.opening.number, 1);
    assert_eq!(told.opening.client.to_string(), "10.0.0.1:40000");
    assert_eq!(
        (told.opening.roles, told.opening.start),
        (Roles::Known, Start::Beginning)
    );
    assert_eq!(
        (told.to_server().text(), told.to_client().text()),
        ("ask".into(), "answer".into())
    );
    assert_eq!(told.to_server().acked, 3);
}

#[test]
fn an_acknowledgement_is_told_before_the_payload_it_came_with() {
    let (recorder, _) = play(&with_handshake(&[
        sent(Client, ACK, 101, 501, b"ask"),
        sent(Server, ACK, 501, 104, b"answer"),
    ]));
    assert_eq!(recorder.calls, ["open", "chunk", "acked", "chunk"]);
}

#[test]
fn data_in_a_syn_are_the_first_bytes() {
    let (recorder, _) = play(&[
        sent(Client, SYN, 100, 0, b"fast "),
        sent(Server, SYN | ACK, 500, 106, b""),
        sent(Client, ACK, 106, 501, b"open"),
    ]);
    assert_eq!(only(&recorder).to_server().text(), "fast open");
}

#[test]
fn data_refused_with_the_syn_are_taken_once_when_sent_again() {
    let (recorder, stats) = play(&[
        sent(Client, SYN, 100, 0, b"fast"),
        sent(Server, SYN | ACK, 500, 101, b""),
        sent(Client, ACK, 101, 501, b"fast open"),
    ]);
    assert_eq!(only(&recorder).to_server().text(), "fast open");
    assert_eq!(stats.duplicate_bytes, 4);
}

#[test]
fn a_syn_ack_alone_names_the_server_and_both_beginnings() {
    let (recorder, _) = play(&[
        sent(Server, SYN | ACK, 500, 101, b""),
        sent(Server, ACK, 501, 104, b"answer"),
        sent(Client, ACK, 101, 501, b"ask"),
    ]);
    let told = only(&recorder);
    assert_eq!(told.opening.client.to_string(), "10.0.0.1:40000");
    assert_eq!(told.opening.start, Start::Beginning);
    assert_eq!(
        (told.to_server().text(), told.to_client().text()),
        ("ask".into(), "answer".into())
    );
}

#[test]
fn a_handshake_in_any_order_is_one_connection_with_the_same_streams() {
    let segments = with_handshake(&[
        sent(Client, ACK, 101, 501, b"ask"),
        sent(Server, ACK, 501, 104, b"answer"),
    ]);
    for rotation in 0..segments.len() {
        for reversed in [false, true] {
            let mut order = segments.clone();
            order.rotate_left(rotation);
            if reversed {
                order.reverse();
            }
            let (recorder, _) = play(&order);
            let told = only(&recorder);
            assert_eq!(told.opening.client.to_string(), "10.0.0.1:40000");
            let texts = (told.to_server().text(), told.to_client().text());
            assert_eq!(texts, ("ask".into(), "answer".into()), "{order:#?}");
        }
    }
}

#[test]
fn simultaneous_open_and_split_handshake_keep_the_first_senders_role() {
    let simultaneous = [
        sent(Client, SYN, 100, 0, b""),
        sent(Server, SYN, 500, 0, b""),
    ];
    let split = [
        sent(Client, SYN, 100, 0, b""),
        sent(Server, ACK, 7_777, 101, b""),
        sent(Server, SYN, 500, 0, b""),
    ];
    for opening in [&simultaneous[..], &split[..]] {
        let rest = [
            sent(Client, SYN | ACK, 100, 501, b""),
            sent(Server, ACK, 501, 101, b"hello"),
            sent(Client, ACK, 101, 506, b"hi"),
        ];
        let (recorder, _) = play(&[opening, &rest].concat());
        let told = only(&recorder);
        assert_eq!(told.opening.client.to_string(), "10.0.0.1:40000");
        assert_eq!(
            (told.to_server().text(), told.to_client().text()),
            ("hi".into(), "hello".into())
        );
    }
}

#[test]
fn a_connection_joined_in_the_middle_takes_the_lower_port_for_the_server() {
    for first in [
        sent(Client, ACK, 7_000, 9_000, b"ask"),
        sent(Server, ACK, 9_000, 7_003, b"answer"),
    ] {
        let (recorder, _) = play(&[first]);
        let told = only(&recorder);
        assert_eq!(told.opening.server.to_string(), "10.0.0.2:80");
        assert_eq!(
            (told.opening.roles, told.opening.start),
            (Roles::Assumed, Start::Middle)
        );
    }
}

#[test]
fn a_stream_joined_in_the_middle_is_held_until_its_beginning_is_settled() {
    let first = sent(Client, ACK, 7_000, 9_000, b"a");
    let (recorder, _) = play(&[first.clone(), sent(Client, ACK, 7_001, 9_000, b"b").at(199)]);
    assert_eq!(
        recorder.calls,
        ["open", "chunk", "chunk", "anchor"],
        "by the end of the capture"
    );
    let (recorder, _) = play(&[
        first.clone(),
        sent(Client, ACK, 7_001, 9_000, b"b").at(200),
        sent(Client, ACK, 7_002, 9_000, b"c").at(200),
    ]);
    assert_eq!(
        recorder.calls,
        ["open", "chunk", "chunk", "anchor", "chunk"],
        "by time"
    );
    let (recorder, _) = play(&[first, sent(Client, ACK, 7_001, 9_000, &[0; 65_535])]);
    assert_eq!(recorder.calls.last(), Some(&"anchor"), "by bytes");
}

#[test]
fn a_tick_settles_streams_that_fell_silent() {
    let mut flows = Flows::new();
    let mut recorder = Recorder::default();
    let segment = sent(Client, ACK, 7_000, 9_000, b"ask");
    let at = |ms: u64| Moment {
        packet: 1,
        time: Nanos(ms * 1_000_000),
        now: Nanos(ms * 1_000_000),
    };
    flows.segment(&segment.segment(), &segment.data, at(0), &mut recorder);
    flows.tick(at(100), &mut recorder);
    assert_eq!(recorder.calls.last(), Some(&"chunk"));
    flows.tick(at(250), &mut recorder);
    assert_eq!(recorder.calls.last(), Some(&"anchor"));
}

#[test]
fn what_the_receiver_acknowledged_at_first_sight_is_before_the_beginning() {
    let (recorder, stats) = play(&[
        sent(Client, ACK, 7_000, 9_000, b"ask"),
        sent(Server, ACK, 8_000, 7_000, b"an old retransmission"),
        sent(Server, ACK, 9_000, 7_003, b"answer"),
        sent(Server, ACK, 9_006, 7_003, b".").at(300),
        sent(Server, ACK, 8_000, 7_003, b"an old retransmission").at(300),
    ]);
    assert_eq!(only(&recorder).to_client().text(), "answer.");
    assert_eq!(stats.before_start, 1);
}

#[test]
fn retransmissions_and_overlaps_keep_the_first_copy() {
    let (recorder, stats) = play(&with_handshake(&[
        sent(Client, ACK, 101, 501, b"first"),
        sent(Client, ACK, 101, 501, b"OTHER copy"),
        sent(Client, ACK, 101, 501, b"first copy"),
    ]));
    assert_eq!(only(&recorder).to_server().text(), "first copy");
    assert_eq!(stats.duplicate_bytes, 15);
}

#[test]
fn keep_alives_are_counted_and_not_passed_on() {
    let (recorder, stats) = play(&with_handshake(&[
        sent(Client, ACK, 101, 501, b"ask"),
        sent(Client, ACK, 103, 501, b"\0"),
        sent(Client, ACK, 103, 501, b""),
        sent(Client, ACK, 104, 501, b"!"),
    ]));
    assert_eq!(only(&recorder).to_server().text(), "ask!");
    assert_eq!((stats.keepalives, stats.duplicate_bytes), (2, 0));
}

#[test]
fn bytes_cut_off_by_the_snap_length_pass_at_their_place() {
    let cut = Sent {
        missing: 100,
        ..sent(Client, ACK, 101, 501, b"head")
    };
    let (recorder, stats) = play(&with_handshake(&[
        cut,
        sent(Client, ACK, 205, 501, b"next"),
    ]));
    assert_eq!(only(&recorder).to_server().passed, [(4, 100)]);
    assert_eq!(stats.cut_bytes, 100);
}

#[test]
fn numbers_far_away_are_dropped_and_counted() {
    let (recorder, stats) = play(&with_handshake(&[
        sent(Client, ACK, 101_u32.wrapping_add(1 << 31), 501, b"garbage"),
        sent(Client, ACK, 101, 501, b"ask"),
    ]));
    assert_eq!(only(&recorder).to_server().text(), "ask");
    assert_eq!(stats.out_of_window, 1);
}

#[test]
fn offsets_go_on_when_sequence_numbers_wrap() {
    let isn = u32::MAX - 2;
    let (recorder, _) = play(&[
        sent(Client, SYN, isn, 0, b""),
        sent(Client, ACK, isn + 1, 1, b"ab"),
        sent(Client, ACK, 0, 1, b"cd"),
    ]);
    assert_eq!(only(&recorder).to_server().text(), "abcd");
}

#[test]
fn a_reset_closes_and_its_payload_is_no_data() {
    let (recorder, _) = play(&with_handshake(&[
        sent(Client, ACK, 101, 501, b"ask"),
        sent(Server, RST | ACK, 501, 104, b"go away"),
        sent(Client, ACK, 104, 501, b"late"),
    ]));
    let told = only(&recorder);
    assert_eq!(told.closed, Some(Close::Reset));
    assert_eq!(
        (told.to_server().text(), told.to_client().text()),
        ("ask".into(), String::new())
    );
}

#[test]
fn a_reset_out_of_window_is_ignored() {
    let (recorder, stats) = play(&with_handshake(&[
        sent(Server, RST, 900_000_000, 0, b""),
        sent(Client, ACK, 101, 501, b"ask"),
    ]));
    assert_eq!((only(&recorder).closed, stats.out_of_window), (None, 1));
    assert_eq!(only(&recorder).to_server().text(), "ask");
}

#[test]
fn a_refused_connection_is_closed() {
    let (recorder, _) = play(&[
        sent(Client, SYN, 100, 0, b""),
        sent(Server, RST | ACK, 0, 101, b""),
    ]);
    assert_eq!(only(&recorder).closed, Some(Close::Reset));
}

fn goodbye() -> Vec<Sent> {
    vec![
        sent(Client, FIN | ACK, 101, 501, b"bye"),
        sent(Server, FIN | ACK, 501, 105, b"bye"),
        sent(Client, ACK, 105, 505, b""),
    ]
}

#[test]
fn both_fins_acknowledged_finish_the_connection() {
    let (recorder, _) = play(&with_handshake(&goodbye()));
    let told = only(&recorder);
    assert_eq!(told.closed, Some(Close::Finished));
    assert_eq!(
        (told.to_server().end, told.to_client().end),
        (Some(3), Some(3))
    );
    // The FIN's own number is no byte.
    assert_eq!(told.to_server().acked, 3);
}

#[test]
fn a_connection_with_a_hole_is_not_finished_by_its_fins() {
    let mut segments = with_handshake(&goodbye());
    segments[3].data.clear();
    segments[3].seq += 3;
    let (recorder, _) = play(&segments);
    assert_eq!(only(&recorder).closed, None);
    segments.push(sent(Client, ACK, 101, 501, b"bye"));
    let (recorder, _) = play(&segments);
    assert_eq!(only(&recorder).closed, Some(Close::Finished));
}

#[test]
fn late_segments_after_the_end_open_nothing() {
    let late = [goodbye(), goodbye(), handshake()].concat();
    let (recorder, stats) = play(&with_handshake(&late));
    assert_eq!(only(&recorder).closed, Some(Close::Finished));
    assert_eq!(stats.after_close, 2);
}

#[test]
fn new_bytes_long_after_a_forged_end_are_a_connection_again() {
    let (recorder, _) = play(&with_handshake(&[
        sent(Server, RST, 501, 0, b""),
        sent(Client, ACK, 101, 501, b"in flight").at(10),
        sent(Client, ACK, 110, 501, b"still here").at(2_000),
    ]));
    assert_eq!(recorder.connections.len(), 2);
    assert_eq!(recorder.connections[1].to_server().text(), "still here");
    assert_eq!(recorder.connections[1].opening.start, Start::Middle);
}

#[test]
fn a_new_initial_sequence_number_is_a_new_connection() {
    for end in [vec![], goodbye(), vec![sent(Client, RST, 101, 0, b"")]] {
        let again = [
            sent(Client, SYN, 7_000, 0, b""),
            sent(Client, SYN, 7_000, 0, b""),
            sent(Server, SYN | ACK, 9_000, 7_001, b""),
            sent(Client, ACK, 7_001, 9_001, b"second"),
        ];
        let (recorder, _) = play(&with_handshake(&[end.clone(), again.to_vec()].concat()));
        assert_eq!(recorder.connections.len(), 2);
        let expected = match end.len() {
            0 => Close::Replaced,
            1 => Close::Reset,
            _ => Close::Finished,
        };
        assert_eq!(recorder.connections[0].closed, Some(expected));
        assert_eq!(recorder.connections[1].to_server().text(), "second");
    }
}

#[test]
fn of_two_answers_to_a_syn_the_one_counts_that_the_client_acknowledges() {
    let answers = [
        sent(Client, SYN, 100, 0, b""),
        sent(Server, SYN | ACK, 500, 101, b""),
        sent(Server, SYN | ACK, 90_000_000, 101, b""),
    ];
    for isn in [500, 90_000_000] {
        let rest = [
            sent(Client, ACK, 101, isn + 1, b"ask"),
            sent(Server, ACK, isn + 1, 104, b"answer"),
        ];
        let (recorder, _) = play(&[&answers[..], &rest].concat());
        let told = only(&recorder);
        assert_eq!(
            (told.to_server().text(), told.to_client().text()),
            ("ask".into(), "answer".into())
        );
    }
}

#[test]
fn an_answer_that_comes_after_the_acknowledgement_changes_nothing() {
    let (recorder, stats) = play(&with_handshake(&[
        sent(Server, SYN | ACK, 66_666, 101, b""),
        sent(Server, ACK, 501, 101, b"hello"),
    ]));
    assert_eq!(only(&recorder).to_client().text(), "hello");
    assert_eq!(stats.out_of_window, 1);
}

#[test]
fn nothing_is_opened_by_a_stray_reset() {
    let (recorder, stats) = play(&[sent(Client, RST, 1, 0, b"why")]);
    assert!(recorder.connections.is_empty());
    assert_eq!(stats.stray, 1);
}

#[test]
fn one_direction_alone_is_read() {
    let (recorder, _) = play(&[
        sent(Server, SYN | ACK, 500, 101, b""),
        sent(Server, ACK, 501, 104, b"answer"),
        sent(Server, FIN | ACK, 507, 104, b""),
    ]);
    let told = only(&recorder);
    assert_eq!(
        (told.to_client().text(), told.to_client().end),
        ("answer".into(), Some(6))
    );
    assert_eq!(told.to_server().acked, 3);
}

#[test]
fn a_flood_of_connections_is_bounded_and_the_idle_ones_give_way() {
    let mut flows = Flows::new();
    let mut recorder = Recorder::default();
    for n in 0..100_000_u32 {
        let mut syn = sent(Client, SYN, n, 0, b"").segment();
        let (source, server) = (Endpoint::v4(n.to_be_bytes(), 1), syn.peers().1);
        (syn.key, syn.sender) = Key::of(source, server, None);
        let at = Moment {
            packet: n.into(),
            time: Nanos(0),
            now: Nanos(0),
        };
        flows.segment(&syn, b"", at, &mut recorder);
    }
    let open = recorder
        .connections
        .iter()
        .filter(|told| told.closed.is_none())
        .count() as u64;
    assert_eq!(open + flows.stats.evicted, 100_000);
    assert!(open <= 64 << 10);
    assert_eq!(recorder.connections[0].closed, Some(Close::Evicted));
    assert_eq!(recorder.connections[99_999].closed, None);
}

#[test]
fn silence_ends_a_connection() {
    let mut flows = Flows::new();
    let mut recorder = Recorder::default();
    let syn = sent(Client, SYN, 1, 0, b"").segment();
    let at = |secs: u64| Moment {
        packet: 1,
        time: Nanos(secs * 1_000_000_000),
        now: Nanos(secs * 1_000_000_000),
    };
    flows.segment(&syn, b"", at(1), &mut recorder);
    flows.tick(at(3_600), &mut recorder);
    assert_eq!(recorder.connections[0].closed, None);
    flows.tick(at(3_601), &mut recorder);
    assert_eq!(recorder.connections[0].closed, Some(Close::Idle));
}

#[test]
fn a_clock_that_jumps_back_does_no_harm() {
    let (recorder, _) = play(&[
        sent(Client, ACK, 7_000, 9_000, b"ask").at(1_000_000),
        sent(Client, ACK, 7_003, 9_000, b"ing").at(0),
        sent(Client, FIN | ACK, 7_006, 9_000, b"").at(3),
    ]);
    assert_eq!(only(&recorder).to_server().text(), "asking");
}
