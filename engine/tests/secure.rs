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
