//! Which task of a process moved what, as a source tells it.

mod common;

use std::sync::Arc;

use common::{Line, client, server};
use wirespan_engine::api::Direction::{self, ToClient, ToServer};
use wirespan_engine::{
    Both, Config, ConnectionId, Engine, Exchange, Layer, Nanos, Opening, Registry, Roles, Side,
    Sink, Start, Task,
};

/// Beginnings and ends of requests, with the tasks that moved them.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn note(&mut self, what: &str, exchange: &Exchange<'_>) {
        let number = |task: Option<Task>| task.map_or(0, Task::number);
        let (asked, answered) = (number(exchange.task), number(exchange.answered_by));
        let text = format!("{what} {} {asked} {answered}", exchange.operation);
        self.0.push(text);
    }
}

impl Sink for Told {
    fn begun(&mut self, request: &Exchange<'_>) {
        assert_eq!(request.status, "");
        self.note("begun", request);
    }

    fn exchange(&mut self, exchange: &Exchange<'_>) {
        self.note("ended", exchange);
    }
}

struct Rig {
    engine: Engine,
    id: ConnectionId,
    told: Told,
    sent: [u64; 2],
}

impl Rig {
    fn new() -> Self {
        let registry = Registry::builder().with(Line).build().unwrap();
        let mut engine = Engine::new(Arc::new(registry), Config::default());
        let mut told = Told::default();
        let opening = Opening {
            number: 1,
            client: client(),
            server: server(),
            roles: Roles::Known,
            start: Start::Beginning,
            side: Side::Server,
            layer: Layer::Transport,
            process: None,
        };
        let id = engine.open(&opening, Nanos(0), &mut told);
        Self {
            engine,
            id,
            told,
            sent: [0; 2],
        }
    }

    fn at(&mut self, task: u32, dir: Direction, offset: u64, text: &str) {
        self.engine.set_task(self.id, Task::new(task));
        let (bytes, sink) = (text.as_bytes(), &mut self.told);
        self.engine
            .chunk(self.id, dir, offset, bytes, Nanos(1), sink);
        self.sent[dir as usize] = offset + text.len() as u64;
    }

    fn next(&mut self, task: u32, dir: Direction, text: &str) {
        self.at(task, dir, self.sent[dir as usize], text);
    }

    fn finish(mut self) -> Vec<String> {
        self.engine.finish(Nanos(2), &mut self.told);
        self.told.0
    }
}

#[test]
fn a_request_is_told_when_it_begins_with_who_moved_it() {
    let mut rig = Rig::new();
    rig.next(7, ToServer, "Q a 0\n");
    rig.next(8, ToClient, "A 1 0\n");
    assert_eq!(rig.finish(), ["begun a 7 0", "ended a 7 8"]);
}

#[test]
fn a_request_in_parts_is_his_who_moved_what_it_could_be_read_with() {
    let mut rig = Rig::new();
    rig.next(6, ToServer, "Q");
    rig.next(7, ToServer, " a 0\n");
    rig.next(7, ToClient, "A 1 3\n");
    rig.next(9, ToClient, "xyz");
    assert_eq!(rig.finish(), ["begun a 7 0", "ended a 7 7"]);
}

#[test]
fn without_a_task_nothing_is_told_but_the_end() {
    let mut rig = Rig::new();
    rig.next(0, ToServer, "Q a 0\n");
    rig.next(0, ToClient, "A 1 0\n");
    assert_eq!(rig.finish(), ["ended a 0 0"]);
}

#[test]
fn what_had_to_wait_for_other_bytes_is_nobodys() {
    let mut rig = Rig::new();
    rig.at(7, ToServer, 6, "Q b 0\n");
    rig.at(8, ToServer, 0, "Q a 0\n");
    rig.sent[0] = 12;
    rig.next(8, ToServer, "Q c 0\n");
    rig.next(8, ToClient, "A 1 0\nA 2 0\nA 3 0\n");
    let expected = ["begun c 8 0", "ended a 0 8", "ended b 0 8", "ended c 8 8"];
    assert_eq!(rig.finish(), expected);
}

#[test]
fn both_ends_count_a_request_alike_however_much_ciphertext_was_seen_of_it() {
    struct Offsets(Vec<(u64, u64)>);
    impl Sink for Offsets {
        fn exchange(&mut self, exchange: &Exchange<'_>) {
            self.0.push((exchange.offset, exchange.flow_offset));
        }
    }
    let Rig { mut engine, id, .. } = Rig::new();
    let mut told = Offsets(Vec::new());
    engine.chunk(id, ToServer, 0, b"\x16\x03\x01\x02", Nanos(1), &mut told);
    let at = Both {
        to_server: 700,
        to_client: 900,
    };
    engine.cleartext(id, at, Start::Beginning, Nanos(1), &mut told);
    let asked = b"Q a 0\nQ b 0\n";
    engine.chunk(id, ToServer, 700, asked, Nanos(2), &mut told);
    engine.finish(Nanos(3), &mut told);
    assert_eq!(told.0, [(700, 0), (706, 6)]);
}
