//! Connections that turn to TLS, and what a source tells of their inside.

mod common;

use common::Rig;
use wirespan_engine::Start;

/// The first bytes of a ClientHello and of a ServerHello.
const HELLO: &str = "\u{16}\u{3}\u{1}\u{0}\u{5}\u{1}\u{0}\u{0}\u{1}\u{3}";

#[test]
fn a_protocol_that_asked_for_tls_goes_on_inside() {
    let mut rig = Rig::new();
    rig.ask("U up 0\n").answer("A 102 0\n");
    rig.ask(HELLO).answer(HELLO);
    assert_eq!(rig.engine.stats().opaque["tls"], 1);
    rig.cleartext(100, Start::Beginning);
    rig.ask("Q inner 0\n").answer("A 7 0\n");
    assert_eq!(rig.finish(), ["up=102", "inner=7"]);
    assert_eq!(rig.seen.0[0].flags, "");
    assert_eq!(rig.seen.0[1].flags, "tls");
    let stats = rig.engine.stats();
    assert!(stats.opaque.is_empty(), "it was read after all");
    let line = &stats.protocols["line"];
    assert_eq!(line.connections, 1);
    let bytes = &line.bytes.to_server;
    assert_eq!(bytes.seen, 7 + 10 + 100 + 10);
    assert_eq!(bytes.unparsed["tls"], 10 + 100);
}

#[test]
fn what_is_inside_is_detected_when_only_the_handshake_was_seen() {
    let mut rig = Rig::new();
    rig.ask(HELLO).answer(HELLO);
    rig.cleartext(0, Start::Beginning);
    rig.ask("Q inner 0\n").answer("A 7 0\n");
    assert_eq!(rig.finish(), ["inner=7"]);
    assert_eq!(rig.seen.0[0].flags, "tls");
    let stats = rig.engine.stats();
    assert!(stats.opaque.is_empty());
    assert_eq!(stats.protocols["line"].connections, 1);
}

#[test]
fn an_inside_that_is_joined_in_its_middle_says_so() {
    let mut rig = Rig::new();
    rig.ask("U up 0\n").answer("A 102 0\n");
    rig.cleartext(0, Start::Middle);
    rig.ask("Q inner 0\n").answer("A 7 0\n");
    assert_eq!(rig.finish(), ["up=102", "inner=7"]);
    assert_eq!(rig.seen.0[1].flags, "midstream,guessed,tls");
}

#[test]
fn holes_in_the_ciphertext_are_nobodys_loss() {
    let mut rig = Rig::new();
    rig.ask("U up 0\n").answer("A 102 0\n");
    let behind = rig.sent[1] + 500;
    rig.at(wirespan_engine::api::Direction::ToClient, behind, HELLO);
    rig.cleartext(3, Start::Beginning);
    rig.ask("Q inner 0\n").answer("A 7 0\n");
    assert_eq!(rig.finish(), ["up=102", "inner=7"]);
    assert_eq!(rig.seen.0[1].flags, "tls");
}

/// A ClientHello without extensions that names no host, and a ServerHello that chose TLS 1.2.
fn hellos() -> [String; 2] {
    let hello = |kind: char, rest: &str| {
        let body = format!("\u{3}\u{3}{}\0{rest}", "r".repeat(32));
        let head = |len: usize| format!("\0{}", char::from(u8::try_from(len).unwrap()));
        let message = format!("{kind}\0{}{body}", head(body.len()));
        format!("\u{16}\u{3}\u{3}{}{message}", head(message.len()))
    };
    [
        hello('\u{1}', "\0\u{2}\u{13}\u{1}\u{1}\0"),
        hello('\u{2}', "\u{13}\u{1}\0"),
    ]
}

/// ChangeCipherSpec and Finished.
const FINISHED: &str = "\u{14}\u{3}\u{3}\0\u{1}\u{1}\u{16}\u{3}\u{3}\0\u{4}done";

#[test]
fn what_the_handshake_tells_is_said_of_each_exchange() {
    for asked_first in [true, false] {
        let mut rig = Rig::new();
        if asked_first {
            rig.ask("U up 0\n").answer("A 102 0\n");
        }
        let [client, server] = hellos();
        rig.ask(&client).answer(&server);
        rig.ask(FINISHED).answer(FINISHED);
        rig.cleartext(0, Start::Beginning);
        rig.ask("Q inner 0\n").answer("A 7 0\n");
        rig.finish();
        let attrs = &rig.seen.0.last().unwrap().attrs;
        assert!(
            attrs.starts_with(&["tls.protocol.version=1.2".into()]),
            "{attrs:?}"
        );
        let took = attrs[1].strip_prefix("wirespan.tls.handshake_ns=");
        assert!(
            took.is_some_and(|ns| ns.parse::<u64>().unwrap() > 0),
            "{attrs:?}"
        );
    }
}

#[test]
fn of_a_connection_that_is_joined_later_nothing_is_told_of_its_handshake() {
    let mut rig = Rig::new();
    rig.ask("U up 0\n").answer("A 102 0\n");
    rig.ask(FINISHED).answer(FINISHED);
    rig.cleartext(0, Start::Middle);
    rig.ask("Q inner 0\n").answer("A 7 0\n");
    rig.finish();
    let attrs = &rig.seen.0.last().unwrap().attrs;
    assert!(!attrs.iter().any(|attr| attr.contains("tls")), "{attrs:?}");
}
