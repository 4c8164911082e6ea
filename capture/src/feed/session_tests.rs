//! What the engine is told of TLS sessions.

use wirespan_capture_abi::Direction::{self as Kernel, Received, Sent};

use super::tests::{Rig, SOCKET, tuple};
use super::*;

/// None, so that nobody looks for its name.
const PID: u32 = 0;

/// An event of the session that `SOCKET` carries.
const SESSION: Header = Header {
    layer: Seen::Tls as u8,
    sock: 0x5555_0000,
    born: 9,
    tgid: PID,
    time: 2_000,
    ..SOCKET
};

fn binding(beginning: bool) -> What<'static> {
    What::Bind(wirespan_capture_abi::Binding {
        sock: SOCKET.sock,
        sock_born: SOCKET.born,
        beginning: beginning.into(),
    })
}

impl Rig {
    fn clear(&mut self, direction: Kernel, at: (u64, u64), text: &str) -> &mut Self {
        let header = Header {
            position: at.0,
            other: at.1,
            moved: text.len() as u32,
            ..SESSION
        };
        let bytes = text.as_bytes();
        self.event(header, What::Data { direction, bytes })
    }

    fn late(&mut self, now: u64) {
        self.with(|feed, out| feed.release_late(now, out));
    }
}

#[test]
fn a_session_has_the_addresses_of_its_socket_and_its_ciphertext_is_not_told() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0)
        .event(SESSION, binding(true))
        .data(Received, (0, 0), "\x16\x03\x01", 3)
        .clear(Received, (0, 0), "ask")
        .clear(Sent, (0, 3), "answer");
    assert_eq!(
        rig.heard(),
        [
            "open 10.0.0.2:50000 10.0.0.1:80 server",
            "acked ToClient 0",
            "chunk ToServer 0 ask",
            "acked ToServer 3",
            "chunk ToClient 0 answer",
        ]
    );
    rig.event(
        Header {
            position: 99,
            other: 99,
            ..SOCKET
        },
        What::Close,
    );
    assert_eq!(rig.heard(), ["close Finished"], "no ciphertext is lost");
    assert!(rig.feed.flows.is_empty());
}

#[test]
fn a_session_whose_news_is_lost_is_looked_up_and_one_whose_news_is_to_come_is_not() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0).clear(Received, (0, 0), "ask");
    // The end of the handshake, between cleartext and news of the session.
    rig.data(Received, (0, 0), "\x17\x03\x03", 3);
    assert_eq!(rig.heard().len(), 3, "open, acked, chunk");
    let told_before = Header {
        flags: flag::BOUND,
        position: 3,
        moved: 3,
        ..SESSION
    };
    let what = What::Data {
        direction: Received,
        bytes: b"ing",
    };
    rig.event(told_before, what);
    let heard = rig.heard();
    assert_eq!(heard[0], "cleartext 3 0 Beginning");
    assert!(
        heard.contains(&"chunk ToServer 3 ask".to_owned()),
        "{heard:?}"
    );
    assert!(
        heard.contains(&"chunk ToServer 6 ing".to_owned()),
        "{heard:?}"
    );
}

#[test]
fn what_went_before_in_the_clear_goes_on_inside() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0)
        .data(Received, (0, 0), "SSLRequest", 10)
        .data(Sent, (0, 10), "S", 1);
    rig.heard();
    rig.event(SESSION, binding(true))
        .clear(Received, (0, 0), "startup");
    assert_eq!(
        rig.heard(),
        [
            "cleartext 10 1 Beginning",
            "acked ToClient 1",
            "chunk ToServer 10 startup",
        ]
    );
    let end = Header {
        position: 7,
        other: 0,
        ..SESSION
    };
    rig.event(
        Header {
            position: 0,
            other: 9,
            ..end
        },
        What::Unbind,
    );
    assert_eq!(rig.heard(), ["lost ToServer 17 2", "close Finished"]);
}

#[test]
fn cleartext_waits_for_its_socket_to_be_found() {
    let mut rig = Rig::new();
    rig.open(Role::Client, 0).clear(Sent, (0, 0), "ask");
    assert_eq!(rig.heard(), Vec::<String>::new());
    rig.event(SESSION, binding(true));
    let heard = rig.heard();
    assert_eq!(heard[0], "open 10.0.0.1:80 10.0.0.2:50000 client");
    assert_eq!(heard[2], "chunk ToServer 0 ask");
}

#[test]
fn cleartext_whose_socket_is_not_found_is_told_without_a_peer() {
    let mut rig = Rig::new();
    rig.clear(Sent, (0, 0), "ask");
    rig.late(SESSION.time + 1_000);
    assert_eq!(rig.heard(), Vec::<String>::new(), "not yet");
    rig.late(SESSION.time + 400_000_000);
    let heard = rig.heard();
    assert_eq!(heard[0], "open 0.0.0.0:0 0.0.0.0:0 client midstream");
    assert!(
        heard.contains(&"chunk ToServer 0 ask".to_owned()),
        "{heard:?}"
    );
    assert_eq!(rig.feed.ledger.unbound_sessions, 1);
}

#[test]
fn filters_by_address_leave_out_cleartext_whose_socket_is_not_found() {
    let mut rig = Rig::new();
    rig.feed.require_sockets(true);
    rig.clear(Sent, (0, 0), "ask");
    rig.late(SESSION.time + 400_000_000);
    rig.clear(Sent, (3, 0), "ing");
    assert_eq!(rig.heard(), Vec::<String>::new());
    assert_eq!(rig.feed.ledger.sessions, 0);
    rig.open(Role::Client, 0).event(SESSION, binding(true));
    let heard = rig.heard();
    assert!(
        heard.contains(&"chunk ToServer 3 ing".to_owned()),
        "what waits still: {heard:?}"
    );
}

#[test]
fn a_session_is_whole_if_its_library_was_probed_before_its_socket_was_there() {
    for (probed, start) in [(SOCKET.born - 1, ""), (SOCKET.born + 1, " midstream")] {
        let mut rig = Rig::new();
        rig.feed.probed(probed);
        rig.open(Role::Server, 0)
            .event(SESSION, binding(false))
            .clear(Received, (0, 0), "ask");
        let wanted = format!("open 10.0.0.2:50000 10.0.0.1:80 server{start}");
        assert_eq!(rig.heard()[0], wanted);
    }
    let mut rig = Rig::new();
    rig.feed.probed(SOCKET.born + 5);
    rig.feed.cover(PID, SOCKET.born - 1);
    rig.event(SOCKET, What::Open(tuple(Role::Server, 0), None))
        .event(SESSION, binding(false))
        .clear(Received, (0, 0), "ask");
    assert_eq!(rig.heard()[0], "open 10.0.0.2:50000 10.0.0.1:80 server");
}

#[test]
fn the_late_end_of_a_socket_does_not_end_the_next_session_at_the_same_address() {
    let mut rig = Rig::new();
    rig.open(Role::Client, 0)
        .event(SESSION, binding(true))
        .clear(Sent, (0, 0), "ask")
        .event(SESSION, What::Unbind);
    let (next, born) = (SOCKET.sock + 64, 20);
    let socket = Header {
        sock: next,
        born,
        ..SOCKET
    };
    let session = Header {
        born: 21,
        ..SESSION
    };
    let binding = What::Bind(wirespan_capture_abi::Binding {
        sock: next,
        sock_born: born,
        beginning: 1,
    });
    rig.event(socket, What::Open(tuple(Role::Client, 0), None))
        .event(session, binding)
        .event(SOCKET, What::Close);
    rig.heard();
    let header = Header {
        moved: 4,
        ..session
    };
    let data = What::Data {
        direction: Sent,
        bytes: b"more",
    };
    rig.event(header, data);
    let heard = rig.heard();
    assert!(
        heard.contains(&"chunk ToServer 0 more".to_owned()),
        "{heard:?}"
    );
}

#[test]
fn another_session_at_the_same_address_is_another_one() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0)
        .event(SESSION, binding(true))
        .clear(Received, (0, 0), "ask");
    rig.heard();
    let next = Header {
        born: 10,
        ..SESSION
    };
    rig.event(next, binding(true));
    assert_eq!(rig.heard(), ["close Replaced"]);
    rig.clear(Received, (3, 0), "late");
    assert_eq!(rig.heard(), Vec::<String>::new(), "of the old one");
}
