//! Connections whose protocol nobody wants.

mod common;

use common::Rig;
use wirespan_engine::api::Direction;
use wirespan_engine::{FILTERED, Start};

fn only(rig: &mut Rig, names: &[&str]) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    rig.engine.read_only(&names, &mut rig.seen);
}

/// Whether anything of the connection is wanted.
fn is_wanted(rig: &Rig) -> bool {
    rig.engine.wanted_from(rig.id, Direction::ToServer) < u64::MAX
}

#[test]
fn a_connection_is_left_out_once_its_protocol_is_known() {
    let mut rig = Rig::new();
    only(&mut rig, &["another"]);
    rig.ask("Q");
    assert!(is_wanted(&rig), "it may be the other one");
    rig.ask(" one 0\n").answer("A 7 0\n");
    assert!(!is_wanted(&rig));
    assert!(rig.finish().is_empty());
    let stats = rig.engine.stats();
    assert_eq!(stats.opaque[FILTERED], 1);
    let line = &stats.protocols["line"];
    assert_eq!(line.connections, 1);
    assert_eq!(line.bytes.to_server.unparsed[FILTERED], 8);
    assert_eq!(line.bytes.to_client.unparsed[FILTERED], 6);
}

#[test]
fn a_protocol_that_is_wanted_is_read() {
    let mut rig = Rig::new();
    only(&mut rig, &["another", "line"]);
    rig.ask("Q one 0\n").answer("A 7 0\n");
    assert_eq!(rig.finish(), ["one=7"]);
}

#[test]
fn what_is_open_is_left_out_from_the_change_on_and_missed_after_the_next() {
    let mut rig = Rig::new();
    rig.ask("Q one 0\n").answer("A 7 0\n").ask("Q two 0\n");
    only(&mut rig, &["another"]);
    assert!(!is_wanted(&rig) && !rig.engine.is_missed(rig.id));
    rig.answer("A 7 0\n").ask("Q three 0\n").answer("A 7 0\n");
    only(&mut rig, &[]);
    assert!(rig.engine.is_missed(rig.id));
    assert_eq!(rig.finish(), ["one=7", "two="]);
}

#[test]
fn what_goes_on_inside_of_tls_is_left_out_as_well() {
    let mut rig = Rig::new();
    rig.ask("U up 0\n").answer("A 102 0\n");
    only(&mut rig, &["another"]);
    rig.cleartext(100, Start::Beginning);
    rig.ask("Q inner 0\n").answer("A 7 0\n");
    assert!(!is_wanted(&rig));
    assert_eq!(rig.finish(), ["up=102"]);
}
