//! Several workers are heard as one is.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use wirespan_capture_abi::{
    Binding, Connection, Header, Layer, Role, Session, SessionKey, Tuple, Wish, flag, session_flag,
};
use wirespan_engine::api::Direction;
use wirespan_engine::{
    Both, Close, Closed, Config, ConnectionId, Exchange, Opening, Process, Registry, Start, Task,
};

use super::*;
use crate::event::{self, tests::record};
use crate::feed::{Key, Maps};
use crate::shard::Listeners;

/// What the kernel side knows of sessions: those that it would be asked for.
#[derive(Clone, Default)]
struct Kernel(HashMap<SessionKey, Session>);

impl Known for Kernel {
    fn connection(&self, _: u64) -> Option<Connection> {
        None
    }
    fn session(&self, key: SessionKey) -> Option<Session> {
        self.0.get(&key).copied()
    }
}

impl Maps for Kernel {
    fn set_wish(&mut self, _: Key, _: Wish) {}
    fn forget(&mut self, _: u64) {}
    fn forget_session(&mut self, _: SessionKey, _: u64) {}
}

/// Calls as text, each with its connection, by the time at which that was opened.
#[derive(Default)]
struct Ear {
    calls: Vec<Call>,
    ids: HashMap<ConnectionId, Nanos>,
}

type Call = (Nanos, String);

impl Ear {
    fn note(&mut self, id: ConnectionId, what: String) {
        self.calls.push((self.ids[&id], what));
    }
}

/// Closed connections go to the list that tap calls are in, to see the order of both.
struct Ears<'a>(&'a RefCell<Ear>);

impl Sink for Ears<'_> {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        panic!("there are no protocols: {exchange:?}");
    }
    fn closed(&mut self, closed: &Closed<'_>) {
        let text = format!("closed {} {:?}", closed.client, closed.bytes);
        self.0.borrow_mut().calls.push((Nanos(0), text));
    }
}

impl Tap for Ears<'_> {
    fn open(&mut self, id: ConnectionId, opening: &Opening, time: Nanos) {
        let mut ear = self.0.borrow_mut();
        assert!(ear.ids.insert(id, time).is_none(), "an id of two");
        let Opening {
            client,
            server,
            start,
            layer,
            ..
        } = opening;
        let text = format!("open {client} {server} {start:?} {layer:?} {time:?}");
        ear.note(id, text);
    }
    fn set_process(&mut self, id: ConnectionId, process: Process, time: Nanos) {
        let text = format!("process {process:?} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn set_task(&mut self, id: ConnectionId, task: Option<Task>, time: Nanos) {
        let text = format!("task {task:?} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn anchor(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        let text = format!("anchor {dir:?} {offset} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn cleartext(&mut self, id: ConnectionId, at: Both<u64>, start: Start, time: Nanos) {
        let text = format!("cleartext {at:?} {start:?} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn acked(&mut self, id: ConnectionId, dir: Direction, upto: u64, time: Nanos) {
        let text = format!("acked {dir:?} {upto} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn chunk(&mut self, id: ConnectionId, dir: Direction, offset: u64, bytes: &[u8], time: Nanos) {
        let text = format!("chunk {dir:?} {offset} {bytes:?} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn passed(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        let text = format!("passed {dir:?} {offset} {len} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn lost(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        let text = format!("lost {dir:?} {offset} {len} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn end(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        let text = format!("end {dir:?} {offset} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
    fn close(&mut self, id: ConnectionId, how: Close, time: Nanos) {
        let text = format!("close {how:?} {time:?}");
        self.0.borrow_mut().note(id, text);
    }
}

/// What happens: records of the ring buffer, and time that passes.
enum Happens {
    Event(Vec<u8>),
    Tick(u64),
}

/// A story of many connections at once.
#[derive(Default)]
struct Story {
    happens: Vec<Happens>,
    kernel: Kernel,
    now: u64,
}

/// Born before it says anything.
const BORN: u64 = 7;
const PID: u32 = 4_000_001;

#[allow(unsafe_code, reason = "plain data")]
fn bytes_of<T: Copy>(value: T) -> Vec<u8> {
    // SAFETY: types of capture-abi are integers without padding.
    unsafe { std::slice::from_raw_parts((&raw const value).cast(), size_of::<T>()) }.to_vec()
}

impl Story {
    fn event(&mut self, kind: u8, header: Header, payload: &[u8]) {
        self.now += 1_000;
        let header = Header {
            kind,
            len: payload.len() as u32,
            time: self.now,
            ..header
        };
        self.happens.push(Happens::Event(record(header, payload)));
    }

    fn tick(&mut self, later: u64) {
        self.now += later;
        self.happens.push(Happens::Tick(self.now));
    }

    fn socket(n: u64) -> Header {
        Header {
            sock: 0xffff_8880_0000_0000 + n * 2_304,
            born: BORN,
            tgid: PID + n as u32 % 3,
            ..Header::default()
        }
    }

    fn session(n: u64) -> Header {
        Header {
            layer: Layer::Tls as u8,
            sock: 0x5555_0000_0000 + n * 128,
            born: BORN + 1,
            ..Self::socket(n)
        }
    }

    fn open(&mut self, n: u64) {
        let mut tuple = Tuple {
            local_port: 80,
            remote_port: 1_000 + n as u16,
            family: 2,
            role: Role::Server as u8,
            ..Tuple::default()
        };
        tuple.local = Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().octets();
        tuple.remote = Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped().octets();
        self.event(2, Self::socket(n), &bytes_of(tuple));
    }

    /// `text` was moved, of a socket or a session, from a position on.
    fn data(&mut self, of: Header, direction: u8, position: u64, text: &str) {
        let header = Header {
            direction,
            position,
            moved: text.len() as u32,
            ..of
        };
        self.event(1, header, text.as_bytes());
    }

    fn bind(&mut self, n: u64) {
        let socket = Self::socket(n);
        let binding = Binding {
            sock: socket.sock,
            sock_born: socket.born,
            beginning: 1,
        };
        self.event(8, Self::session(n), &bytes_of(binding));
    }

    /// Connections of which each says something in its turn; of each four, one carries a session whose
    /// socket is told before, one whose socket is told late, and one whose socket nobody tells.
    fn of(connections: u64) -> Self {
        let mut story = Self::default();
        for n in 0..3 {
            let process = Self::socket(n);
            story.event(5, process, b"app\0\0\0\0\0\0\0\0\0\0\0\0\0");
        }
        let all = 0..connections;
        all.clone().for_each(|n| story.open(n));
        for n in all.clone() {
            match n % 4 {
                0 => story.data(Self::socket(n), 1, 0, "in the clear"),
                1 => {
                    story.bind(n);
                    story.data(Self::session(n), 1, 0, "bound");
                }
                _ => story.data(Self::session(n), 1, 0, "not bound yet"),
            }
        }
        story.event(6, Self::socket(1), b"");
        for n in all.clone() {
            match n % 8 {
                0 | 4 => story.data(Self::socket(n), 0, 0, "answer"),
                2 => {
                    story.data(Self::socket(n), 1, 0, "ciphertext");
                    story.bind(n);
                }
                6 => story.lose_bind(n),
                _ => story.data(Self::session(n), 0, 0, "answer"),
            }
        }
        story.tick(100_000_000);
        story.tick(400_000_000);
        for n in all.clone().filter(|n| n % 4 == 3) {
            story.data(Self::session(n), 1, 13, "nobody found the socket");
            story.bind(n);
            story.event(9, Self::session(n), b"");
        }
        for n in all.filter(|n| n % 5 != 0) {
            let end = Header {
                position: 6,
                other: 12,
                ..Self::socket(n)
            };
            story.event(4, end, b"");
        }
        story.event(7, Self::socket(2), b"");
        story
    }

    /// The event that tells of a socket is lost; the next one of the session says that there was one.
    fn lose_bind(&mut self, n: u64) {
        let (socket, session) = (Self::socket(n), Self::session(n));
        let key = SessionKey {
            object: session.sock,
            tgid: session.tgid,
            reserved: 0,
        };
        let known = Session {
            born: session.born,
            sock: socket.sock,
            sock_born: socket.born,
            flags: session_flag::BEGINNING,
            ..Session::default()
        };
        self.kernel.0.insert(key, known);
        let told = Header {
            flags: flag::BOUND,
            ..session
        };
        self.data(told, 1, 13, "bound by now");
    }

    fn shard(&self, number: u16, of: u16) -> Shard {
        let registry = Arc::new(Registry::builder().build().expect("no protocols"));
        let maps = Box::new(self.kernel.clone());
        Shard::new(&registry, Config::default(), maps, (number, of))
    }

    /// What is heard where no thread is between.
    fn heard_here(&self, clock: &Clock) -> Vec<Call> {
        let ear = RefCell::default();
        let mut shard = self.shard(0, 1);
        for happens in &self.happens {
            let (sink, tap) = (&mut Ears(&ear), &mut Ears(&ear));
            let to = Listeners { sink, tap, clock };
            match happens {
                Happens::Event(record) => {
                    let (feed, tables, mut out) = shard.parts(to);
                    let event = event::read(record).expect("an event");
                    feed.event(&event, tables, &mut out);
                }
                Happens::Tick(now) => shard.tick(*now, to),
            }
        }
        let (sink, tap) = (&mut Ears(&ear), &mut Ears(&ear));
        shard.finish(clock.wall(self.now), Listeners { sink, tap, clock });
        ear.into_inner().calls
    }

    /// What is heard of workers that are given `turn` events at a time, and are not woken for `few`.
    fn heard_there(&self, clock: &Clock, workers: u16, turn: usize, few: u64) -> Vec<Call> {
        let ear = RefCell::default();
        let shards = (0..workers).map(|number| self.shard(number, workers));
        let mut spread = Spread::start(shards.collect()).expect("threads");
        spread.few = few;
        for happens in self.happens.chunks(turn) {
            spread.make_room(&mut Ears(&ear), &mut Ears(&ear));
            for happens in happens {
                match happens {
                    Happens::Event(record) => {
                        let event = event::read(record).expect("an event");
                        spread.event(&event, record, &self.kernel);
                    }
                    Happens::Tick(now) => spread.tick(*now),
                }
            }
            spread.give(clock, &mut Ears(&ear), &mut Ears(&ear));
            assert!(spread.turns.len() <= MOST_TURNS);
        }
        spread.settle(&mut Ears(&ear), &mut Ears(&ear));
        assert!(spread.under_way().is_none());
        let loads = spread.loads();
        assert!(loads.iter().all(|load| load.events > 0), "{loads:?}");
        assert!(loads.iter().all(|load| load.waiting == 0), "{loads:?}");
        assert!(spread.router.is_at_rest(), "nothing is remembered in vain");
        spread.finish(clock.wall(self.now));
        spread.give(clock, &mut Ears(&ear), &mut Ears(&ear));
        spread.settle(&mut Ears(&ear), &mut Ears(&ear));
        ear.into_inner().calls
    }
}

/// What is heard of each connection, in order; and the order of all but those whose sockets nobody
/// found, and of what is told at the end: which of these comes first is left open.
fn essence(calls: &[Call]) -> (BTreeMap<Nanos, Vec<&str>>, Vec<&Call>) {
    let mut each: BTreeMap<Nanos, Vec<&str>> = BTreeMap::new();
    for (connection, what) in calls {
        each.entry(*connection).or_default().push(what);
    }
    let is_unbound = |what: &str| what.starts_with("open 0.0.0.0:0");
    let unbound = each.iter().filter(|(_, calls)| is_unbound(calls[0]));
    let unbound: Vec<Nanos> = unbound.map(|(connection, _)| *connection).collect();
    each.entry(Nanos(0)).or_default().sort_unstable();
    let is_ordered = |(connection, what): &&Call| {
        *connection != Nanos(0) && !unbound.contains(connection) && !what.contains("SourceEnded")
    };
    (each, calls.iter().filter(is_ordered).collect())
}

fn assert_same(heard: &[Call], wanted: &[Call], what: &str) {
    let ((each, ordered), (wanted_each, wanted)) = (essence(heard), essence(wanted));
    for (connection, calls) in &wanted_each {
        assert_eq!(each.get(connection), Some(calls), "{what}");
    }
    assert_eq!(each.len(), wanted_each.len(), "{what}");
    let differs = ordered.iter().zip(&wanted).find(|(a, b)| a != b);
    assert_eq!(differs, None, "{what}");
    assert_eq!(ordered.len(), wanted.len(), "{what}");
}

#[test]
fn several_workers_are_heard_as_one_is() {
    let clock = Clock::new();
    let story = Story::of(64);
    let wanted = story.heard_here(&clock);
    let unbound = wanted
        .iter()
        .filter(|(_, what)| what.starts_with("open 0.0.0.0:0"));
    assert_eq!(unbound.count(), 16, "one of four");
    let taken_over = wanted
        .iter()
        .filter(|(_, what)| what.starts_with("cleartext"));
    assert_eq!(taken_over.count(), 8, "one of eight");
    for (workers, turn) in [(1, 1_000), (2, 1), (2, 50), (3, 7), (4, 1_000)] {
        // None is done here; whatever is little, among what is not; all.
        for few in [0, 30, 10_000] {
            let heard = story.heard_there(&clock, workers, turn, few);
            let what = format!("{workers} workers, turns of {turn}, {few} are few");
            assert_same(&heard, &wanted, &what);
        }
    }
}
