//! What the engine is told of events.

use std::sync::Arc;

use wirespan_capture_abi::Direction::{self as Kernel, Received, Sent};
use wirespan_engine::{Both, Config, Exchange, Registry, Sink};

use super::*;
use crate::tap::Tap;

/// Calls as text.
#[derive(Default)]
struct Heard(Vec<String>);

impl Heard {
    fn note(&mut self, text: String) {
        self.0.push(text);
    }
}

impl Tap for Heard {
    fn open(&mut self, _: ConnectionId, opening: &Opening, _: Nanos) {
        let Opening {
            client,
            server,
            side,
            start,
            ..
        } = opening;
        let start = if *start == Start::Middle {
            " midstream"
        } else {
            ""
        };
        self.note(format!("open {client} {server} {}{start}", side.name()));
    }
    fn set_process(&mut self, _: ConnectionId, process: Process, _: Nanos) {
        self.note(format!("process {}", process.name()));
    }
    fn set_task(&mut self, _: ConnectionId, task: Option<Task>, _: Nanos) {
        self.note(format!("task {}", task.map_or(0, Task::number)));
    }
    fn anchor(&mut self, _: ConnectionId, dir: Direction, offset: u64, _: Nanos) {
        self.note(format!("anchor {dir:?} {offset}"));
    }
    fn cleartext(&mut self, _: ConnectionId, at: Both<u64>, start: Start, _: Nanos) {
        let (there, back) = (at.to_server, at.to_client);
        self.note(format!("cleartext {there} {back} {start:?}"));
    }
    fn acked(&mut self, _: ConnectionId, dir: Direction, upto: u64, _: Nanos) {
        self.note(format!("acked {dir:?} {upto}"));
    }
    fn chunk(&mut self, _: ConnectionId, dir: Direction, offset: u64, bytes: &[u8], _: Nanos) {
        let text = String::from_utf8_lossy(bytes);
        self.note(format!("chunk {dir:?} {offset} {text}"));
    }
    fn passed(&mut self, _: ConnectionId, dir: Direction, offset: u64, len: u64, _: Nanos) {
        self.note(format!("passed {dir:?} {offset} {len}"));
    }
    fn lost(&mut self, _: ConnectionId, dir: Direction, offset: u64, len: u64, _: Nanos) {
        self.note(format!("lost {dir:?} {offset} {len}"));
    }
    fn end(&mut self, _: ConnectionId, dir: Direction, offset: u64, _: Nanos) {
        self.note(format!("end {dir:?} {offset}"));
    }
    fn close(&mut self, _: ConnectionId, how: Close, _: Nanos) {
        self.note(format!("close {how:?}"));
    }
}

struct Nothing;

impl Known for Nothing {
    fn connection(&self, _: u64) -> Option<Connection> {
        None
    }

    /// Whatever session it is, the kernel side has found its socket by now.
    fn session(&self, _: SessionKey) -> Option<Session> {
        Some(Session {
            born: 9,
            sock: SOCKET.sock,
            sock_born: SOCKET.born,
            ..Session::default()
        })
    }
}

impl Sink for Nothing {
    fn exchange(&mut self, _: &Exchange<'_>) {}
}

pub(super) struct Rig {
    pub(super) feed: Feed,
    engine: Engine,
    clock: Clock,
    heard: Heard,
}

pub(super) const SOCKET: Header = Header {
    kind: 0,
    direction: 0,
    layer: 0,
    flags: 0,
    len: 0,
    time: 1_000,
    sock: 0xffff_8000,
    born: 7,
    position: 0,
    other: 0,
    moved: 0,
    tgid: 0,
    task: 0,
    reserved: 0,
};

pub(super) fn tuple(role: Role, midstream: u8) -> Tuple {
    let mut tuple = Tuple {
        local_port: 80,
        remote_port: 50_000,
        family: 2,
        role: role as u8,
        midstream,
        ..Tuple::default()
    };
    tuple.local = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
    tuple.remote = Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped().octets();
    tuple
}

impl Rig {
    pub(super) fn new() -> Self {
        let registry = Registry::builder().build().unwrap();
        Self {
            feed: Feed::new(0, 1),
            engine: Engine::new(Arc::new(registry), Config::default()),
            clock: Clock::new(),
            heard: Heard::default(),
        }
    }

    pub(super) fn event(&mut self, header: Header, what: What<'_>) -> &mut Self {
        self.with(|feed, out| feed.event(&Event { header, what }, &Nothing, out));
        self
    }

    pub(super) fn with(&mut self, call: impl FnOnce(&mut Feed, &mut Output<'_>)) {
        let mut out = Output {
            to: Tapped {
                engine: &mut self.engine,
                sink: &mut Nothing,
                tap: &mut self.heard,
            },
            clock: &self.clock,
        };
        call(&mut self.feed, &mut out);
    }

    pub(super) fn open(&mut self, role: Role, midstream: u8) -> &mut Self {
        self.event(SOCKET, What::Open(tuple(role, midstream), None))
    }

    /// Bytes at a position; `moved` of them, while the other stream had come to `other`.
    pub(super) fn data(
        &mut self,
        direction: Kernel,
        at: (u64, u64),
        text: &str,
        moved: u32,
    ) -> &mut Self {
        let header = Header {
            position: at.0,
            other: at.1,
            moved,
            ..SOCKET
        };
        let bytes = text.as_bytes();
        self.event(header, What::Data { direction, bytes })
    }

    /// The peer has said all, up to a position.
    fn fin(&mut self, position: u64) {
        let end = Header { position, ..SOCKET };
        self.event(end, What::End(Received));
    }

    pub(super) fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.heard.0)
    }
}

#[test]
fn an_answer_says_first_what_was_known_of_the_request() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0)
        .data(Received, (0, 0), "ask", 3)
        .data(Sent, (0, 3), "answer", 6);
    let heard = rig.heard();
    assert_eq!(
        heard,
        [
            "open 10.0.0.2:50000 10.0.0.1:80 server",
            "acked ToClient 0",
            "chunk ToServer 0 ask",
            "acked ToServer 3",
            "chunk ToClient 0 answer",
        ]
    );
}

#[test]
fn a_client_s_socket_sends_to_the_server() {
    let mut rig = Rig::new();
    rig.open(Role::Client, 0).data(Sent, (0, 0), "ask", 3);
    assert_eq!(rig.heard()[0], "open 10.0.0.1:80 10.0.0.2:50000 client");
}

#[test]
fn a_connection_that_was_open_before_is_anchored_where_both_streams_are() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 1).data(Received, (5, 9), "ask", 3);
    let heard = rig.heard();
    assert_eq!(heard[0], "open 10.0.0.2:50000 10.0.0.1:80 server midstream");
    assert!(heard.contains(&"anchor ToServer 5".to_owned()));
    assert!(heard.contains(&"anchor ToClient 9".to_owned()));
}

#[test]
fn bytes_that_were_not_copied_have_passed() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0).data(Sent, (0, 0), "head", 1_000);
    let heard = rig.heard();
    assert_eq!(
        heard[2..],
        ["chunk ToClient 0 head", "passed ToClient 4 996"]
    );
}

#[test]
fn what_no_event_told_of_is_lost_when_the_connection_closes() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0).data(Received, (0, 0), "ask", 3);
    let close = Header {
        position: 0,
        other: 10,
        flags: flag::RESET,
        ..SOCKET
    };
    rig.event(close, What::Close);
    let heard = rig.heard();
    assert_eq!(heard[3..], ["lost ToServer 3 7", "close Reset"]);
    assert!(rig.feed.flows.is_empty());
}

#[test]
fn a_connection_that_was_left_out_is_joined_where_it_is_with_all_that_is_known_of_it() {
    let mut rig = Rig::new();
    let by = Header { tgid: 4, ..SOCKET };
    rig.event(by, What::Process(*b"nginx\0\0\0\0\0\0\0\0\0\0\0"))
        .open(Role::Server, 0);
    let data = |position: u64, other: u64| Header {
        position,
        other,
        moved: 3,
        ..by
    };
    let (direction, bytes) = (Received, &b"ask"[..]);
    rig.event(data(0, 0), What::Data { direction, bytes });
    let flow = rig.feed.flows.get_mut(&Key::Socket(SOCKET.sock)).unwrap();
    flow.wish.from = [u64::MAX; 2];
    flow.begin_anew();
    rig.heard();
    rig.event(data(500, 900), What::Data { direction, bytes });
    let heard = rig.heard();
    assert_eq!(
        heard,
        [
            "open 10.0.0.2:50000 10.0.0.1:80 server midstream",
            "anchor ToClient 900",
            "anchor ToServer 500",
            "process nginx",
            "acked ToClient 900",
            "chunk ToServer 500 ask",
        ]
    );
}

#[test]
fn what_nobody_wanted_is_not_lost() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0).data(Received, (0, 0), "ask", 3);
    let flow = rig.feed.flows.get_mut(&Key::Socket(SOCKET.sock)).unwrap();
    flow.wish.from[Received as usize] = 8;
    rig.heard();
    rig.data(Received, (6, 0), "more", 4);
    assert_eq!(
        rig.heard(),
        [
            "passed ToServer 3 3",
            "acked ToClient 0",
            "chunk ToServer 6 more"
        ]
    );
}

#[test]
fn what_nobody_wanted_before_the_end_has_passed_with_it() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0).data(Received, (0, 0), "ask", 3);
    let flow = rig.feed.flows.get_mut(&Key::Socket(SOCKET.sock)).unwrap();
    flow.wish.from[Received as usize] = u64::MAX;
    rig.heard();
    rig.fin(10);
    assert_eq!(rig.heard(), ["passed ToServer 3 7", "end ToServer 10"]);
    let close = Header {
        position: 0,
        other: 10,
        ..SOCKET
    };
    rig.event(close, What::Close);
    assert_eq!(rig.heard(), ["close Finished"]);
}

#[test]
fn an_end_waits_for_the_process_to_read_what_is_before_it() {
    let mut rig = Rig::new();
    rig.open(Role::Client, 0).data(Sent, (0, 0), "ask", 3);
    rig.heard();
    rig.fin(6);
    assert_eq!(rig.heard(), Vec::<String>::new());
    rig.data(Received, (0, 3), "ans", 3);
    rig.data(Received, (3, 3), "wer", 3);
    let heard = rig.heard();
    assert_eq!(heard[3..], ["chunk ToClient 3 wer", "end ToClient 6"]);
}

#[test]
fn what_a_process_did_not_read_before_it_closed_has_no_end() {
    let mut rig = Rig::new();
    rig.open(Role::Client, 0).data(Sent, (0, 0), "ask", 3);
    rig.heard();
    rig.fin(6);
    let close = Header {
        position: 3,
        other: 0,
        ..SOCKET
    };
    rig.event(close, What::Close);
    assert_eq!(rig.heard(), ["close Finished"]);
}

#[test]
fn another_socket_at_the_same_address_is_another_connection() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0).data(Received, (0, 0), "ask", 3);
    rig.heard();
    let next = Header { born: 8, ..SOCKET };
    rig.event(next, What::Open(tuple(Role::Server, 0), None));
    assert_eq!(rig.heard(), ["close Replaced"]);
    // What still comes of the old one belongs to nobody.
    rig.data(Received, (3, 0), "late", 4);
    assert_eq!(rig.heard(), Vec::<String>::new());
}

#[test]
fn events_of_a_connection_that_was_never_introduced_are_left_out() {
    let mut rig = Rig::new();
    rig.data(Received, (0, 0), "ask", 3);
    assert_eq!(rig.heard(), Vec::<String>::new());
}

#[test]
fn unix_sockets_have_the_names_that_they_were_introduced_with() {
    let mut rig = Rig::new();
    let names = [b"/run/x.sock".as_slice(), b"\0client"].map(UnixName::new);
    let mut unix = tuple(Role::Server, 0);
    unix.family = UNIX;
    rig.event(SOCKET, What::Open(unix, Some(Box::new(names))));
    rig.data(Received, (0, 0), "GET", 3);
    assert_eq!(rig.heard()[0], "open unix:@client unix:/run/x.sock server");
}

#[test]
fn a_change_of_task_is_told_before_what_it_moved_and_of_processes_that_are_understood_only() {
    let mut rig = Rig::new();
    rig.open(Role::Server, 0);
    let receive = |rig: &mut Rig, task, position| {
        let header = Header {
            tgid: 42,
            task,
            position,
            moved: 1,
            ..SOCKET
        };
        let direction = Received;
        let bytes = b"x";
        rig.event(header, What::Data { direction, bytes });
        let mut heard = rig.heard();
        heard.retain(|call| call.starts_with("task") || call.starts_with("chunk"));
        heard
    };
    assert_eq!(receive(&mut rig, 43, 0), ["chunk ToServer 0 x"]);
    rig.with(|feed, _| feed.understand(42, Tasks::Threads));
    assert_eq!(receive(&mut rig, 43, 1), ["task 43", "chunk ToServer 1 x"]);
    assert_eq!(receive(&mut rig, 43, 2), ["chunk ToServer 2 x"]);
    assert_eq!(receive(&mut rig, 44, 3), ["task 44", "chunk ToServer 3 x"]);
    let named = |flags| Header {
        tgid: 42,
        flags,
        ..SOCKET
    };
    rig.event(named(flag::RENAMED), What::Exec);
    assert_eq!(receive(&mut rig, 44, 4), ["chunk ToServer 4 x"]);
    rig.event(named(0), What::Exec);
    assert_eq!(receive(&mut rig, 44, 5), ["task 0", "chunk ToServer 5 x"]);
}
