//! Events of the kernel side become engine input.
//!
//! Every event says how far the other stream of its connection had come: the engine is told first
//! (`acked`), so that an answer waits for a request whose event is still on its way, and bytes that
//! no hook saw are a gap of known length.
//!
//! A flow is what the engine knows as one connection: a socket, or a TLS session, which takes over
//! from the socket that carries it (`sessions.rs`).

mod ending;
mod forgetting;
mod joining;
mod sessions;

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashMap;
use wirespan_capture_abi::{
    Connection, Header, Layer as Seen, Role, Session, SessionKey, Tuple, Wish, flag,
};
use wirespan_engine::api::Direction;
use wirespan_engine::{
    Address, Close, ConnectionId, Engine, Layer, Nanos, Opening, Process, Roles, Side, Sink, Start,
    Task, UnixName,
};

use crate::clock::Clock;
use crate::event::{Event, What};
use crate::kernel::FIRST_WINDOW;
use crate::ledger::Ledger;
use crate::listeners::listening_ports;
use crate::processes::{Processes, Tasks};
use crate::tap::{Tap, Tapped};
use sessions::Sessions;
pub(crate) use sessions::{MOST_HELD, WAIT, session_key};

/// Bytes of a stream that may be copied ahead of what was read of it, once its protocol wants them.
const WINDOW: u64 = 4 << 20;

/// `AF_UNIX`.
const UNIX: u16 = 1;

/// Who is told what is found out of processes and of the libraries that they use, and what is wanted of
/// their sessions.
pub(crate) trait Learns {
    /// It is known what a process is made of.
    fn understand(&mut self, tgid: u32, tasks: Tasks);
    /// Another library is probed.
    fn probed(&mut self, since: u64);
    /// Since then, no session of a process has begun unseen.
    fn cover(&mut self, tgid: u32, since: u64);
    /// Whether to leave out sessions whose socket is not found: nobody knows whether filters by
    /// address mean them.
    fn require_sockets(&mut self, required: bool);
}

impl Learns for Feed {
    fn understand(&mut self, tgid: u32, tasks: Tasks) {
        self.processes.understand(tgid, Some(tasks));
    }

    fn probed(&mut self, since: u64) {
        self.sessions.probed(since);
    }

    fn cover(&mut self, tgid: u32, since: u64) {
        self.sessions.cover(tgid, since);
    }

    fn require_sockets(&mut self, required: bool) {
        self.sessions.require_sockets(required);
    }
}

/// What the kernel side knows, asked when an event that said it was lost.
pub(crate) trait Known {
    /// The connection of a socket.
    fn connection(&self, sock: u64) -> Option<Connection>;
    /// A TLS session.
    fn session(&self, key: SessionKey) -> Option<Session>;
}

/// What is told to the kernel side of connections.
pub(crate) trait Maps: Known {
    /// What is wanted of a flow.
    ///
    /// A wish that cannot be stored costs copies, or known gaps, and is not an error.
    fn set_wish(&mut self, flow: Key, wish: Wish);
    /// A connection of which the kernel side does not see the end is over.
    fn forget(&mut self, sock: u64);
    /// So is a TLS session, unless another one has its place.
    fn forget_session(&mut self, key: SessionKey, born: u64);
}

/// Names a flow.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Key {
    /// By the address of the kernel's socket.
    Socket(u64),
    /// By the object of the TLS library.
    Session(SessionKey),
}

impl Key {
    fn of(header: &Header) -> Self {
        if header.layer == Seen::Tls as u8 {
            Self::Session(session_key(header))
        } else {
            Self::Socket(header.sock)
        }
    }
}

/// Connections, and what the engine knows them by.
pub(crate) struct Feed {
    flows: HashMap<Key, Flow>,
    /// Flows that had events since wishes were last looked at; some of them may be gone.
    touched: Vec<Key>,
    sessions: Sessions,
    /// Listening ports by network namespace.
    listeners: HashMap<u32, HashSet<u16>>,
    processes: Processes,
    /// The latest connection's.
    number: u64,
    step: u64,
    pub(crate) ledger: Ledger,
}

struct Flow {
    born: u64,
    tuple: Tuple,
    /// Of Unix sockets: the observed one's name, and its peer's.
    names: Option<Box<[UnixName; 2]>>,
    start: Start,
    /// Known from the first bytes on.
    open: Option<Open>,
    /// The process that used the socket last.
    process: Option<Process>,
    /// What of it did so, where that is known.
    task: Option<Task>,
    /// When it was last heard of, on the monotonic clock.
    last: u64,
    /// Behind the last byte that an event told of, by the kernel's direction.
    seen: [u64; 2],
    /// Offsets at which the engine has the positions 0.
    base: [u64; 2],
    wish: Wish,
    /// Whether it is among the touched.
    is_touched: bool,
    /// The peer has ended its stream at this position, when this was, and the process has not read so far.
    unread_end: Option<(u64, Nanos)>,
    /// Of a socket, the TLS session that it carries and that is seen instead; of a session, the
    /// socket that carries it. With when it was born, since keys are used again.
    partner: Option<(Key, u64)>,
}

impl Flow {
    fn new(born: u64, tuple: Tuple, start: Start, last: u64) -> Self {
        Self {
            born,
            tuple,
            names: None,
            start,
            open: None,
            process: None,
            task: None,
            last,
            seen: [0; 2],
            base: [0; 2],
            wish: Wish {
                born,
                from: [0; 2],
                until: [u64::from(FIRST_WINDOW); 2],
            },
            is_touched: false,
            unread_end: None,
            partner: None,
        }
    }

    /// The engine is to know it as another connection, which it joins where the streams are then.
    fn begin_anew(&mut self) {
        *self = Self {
            names: self.names.take(),
            seen: self.seen,
            unread_end: self.unread_end,
            partner: self.partner,
            ..Self::new(self.born, self.tuple, Start::Middle, self.last)
        };
    }

    /// Where the engine has a position.
    fn offset(&self, kernel: usize, position: u64) -> u64 {
        self.base[kernel].saturating_add(position)
    }

    fn touch(&mut self, key: Key, touched: &mut Vec<Key>) {
        if !self.is_touched {
            self.is_touched = true;
            touched.push(key);
        }
    }

    /// Tells that what nobody wanted of a stream before a position has passed: it went by without a
    /// word.
    fn pass_unwanted(
        &mut self,
        open: Open,
        kernel: usize,
        position: u64,
        time: Nanos,
        out: &mut Output<'_>,
    ) {
        let seen = self.seen[kernel];
        let unwanted = position.min(self.wish.from[kernel]);
        if seen < unwanted {
            self.seen[kernel] = unwanted;
            let at = self.offset(kernel, seen);
            let dir = open.direction(kernel);
            out.to.passed(open.id, dir, at, unwanted - seen, time);
        }
    }
}

#[derive(Clone, Copy)]
struct Open {
    id: ConnectionId,
    /// Whether the observed socket is the one that asks, as far as the engine was told.
    client: bool,
}

impl Open {
    fn direction(self, kernel: usize) -> Direction {
        if self.client == (kernel == 0) {
            Direction::ToServer
        } else {
            Direction::ToClient
        }
    }
}

/// What events go to.
pub(crate) struct Output<'a> {
    pub(crate) to: Tapped<'a>,
    pub(crate) clock: &'a Clock,
}

impl<'a> Output<'a> {
    pub(crate) fn new(
        engine: &'a mut Engine,
        sink: &'a mut dyn Sink,
        tap: &'a mut dyn Tap,
        clock: &'a Clock,
    ) -> Self {
        let to = Tapped { engine, sink, tap };
        Self { to, clock }
    }
}

impl Feed {
    /// One of `of` that work side by side, counted from 0: connections are numbered in turn, so that
    /// no two of them have the same number.
    pub(crate) fn new(number: u64, of: u64) -> Self {
        Self {
            flows: HashMap::new(),
            touched: Vec::new(),
            sessions: Sessions::default(),
            listeners: HashMap::new(),
            processes: Processes::default(),
            number,
            step: of,
            ledger: Ledger::default(),
        }
    }

    /// A process has a name, and is made of `tasks` where its parent's are known.
    pub(crate) fn introduce_process(&mut self, tgid: u32, name: [u8; 16], tasks: Option<Tasks>) {
        if tasks.is_some() {
            self.processes.understand(tgid, tasks);
        }
        self.processes.name(tgid, name);
    }

    /// Takes an event.
    pub(crate) fn event(&mut self, event: &Event<'_>, known: &dyn Known, out: &mut Output<'_>) {
        let header = &event.header;
        match &event.what {
            What::Open(tuple, names) => self.introduce(header, *tuple, names.clone(), out),
            What::Data { direction, bytes } => {
                let moving = *direction as usize;
                if header.layer == Seen::Tls as u8 {
                    self.cleartext(header, moving, bytes, known, out);
                } else if self.knows(header) || self.look_up(header.sock, header.born, known, out) {
                    self.data(header, moving, bytes, out);
                }
            }
            What::End(direction) => self.end(header, *direction as usize, out),
            What::Close => self.close(header, out),
            What::Bind(binding) => self.bind(header, binding, known, out),
            What::Unbind => self.unbind(header, out),
            What::Process(name) => self.processes.introduce(header.tgid, *name),
            What::Exec => {
                self.processes.forget(header.tgid);
                if header.flags & flag::RENAMED == 0 {
                    self.processes.understand(header.tgid, None);
                }
            }
            What::Exit => {
                self.processes.forget(header.tgid);
                self.processes.understand(header.tgid, None);
                self.uncover(header.tgid);
            }
            What::Mapped => {}
        }
    }

    fn knows(&self, header: &Header) -> bool {
        self.flows
            .get(&Key::of(header))
            .is_some_and(|flow| flow.born == header.born)
    }

    fn flow(&mut self, header: &Header) -> Option<&mut Flow> {
        self.flows
            .get_mut(&Key::of(header))
            .filter(|flow| flow.born == header.born)
    }

    /// Introduces a socket whose introduction was lost, if the kernel side still knows it.
    fn look_up(&mut self, sock: u64, born: u64, known: &dyn Known, out: &mut Output<'_>) -> bool {
        let Some(found) = known.connection(sock).filter(|at| at.born == born) else {
            return false;
        };
        let header = Header {
            sock,
            born,
            time: born,
            ..Header::default()
        };
        // A Unix socket stays without its name, which the event had.
        self.introduce(&header, found.tuple, None, out);
        true
    }

    fn introduce(
        &mut self,
        header: &Header,
        tuple: Tuple,
        names: Option<Box<[UnixName; 2]>>,
        out: &mut Output<'_>,
    ) {
        if self.knows(header) {
            return;
        }
        self.ledger.connections += 1;
        self.ledger.midstream += u64::from(tuple.midstream);
        let start = if tuple.midstream == 0 {
            Start::Beginning
        } else {
            Start::Middle
        };
        let mut flow = Flow::new(header.born, tuple, start, header.time);
        flow.names = names;
        if let Some(mut old) = self.flows.insert(Key::of(header), flow) {
            // Its end was lost.
            let time = out.clock.wall(header.time);
            self.end_flow(&mut old, None, Close::Replaced, time, out);
        }
    }

    fn data(&mut self, header: &Header, moving: usize, bytes: &[u8], out: &mut Output<'_>) {
        let key = Key::of(header);
        let Some(flow) = self.flow(header) else {
            return;
        };
        if let (Key::Socket(_), Some(_)) = (key, flow.partner) {
            // Ciphertext that was on its way when its session was found.
            return;
        }
        let known = flow.open;
        let time = out.clock.wall(header.time);
        self.ledger.copied_bytes += bytes.len() as u64;
        self.ledger.moved_bytes += u64::from(header.moved);
        self.ledger.unreadable_memory += u64::from(header.flags & flag::UNREADABLE != 0);
        let open = known.unwrap_or_else(|| self.open(header, moving, time, out));
        let process = self.processes.get(header.tgid);
        let task = self.processes.task(header.tgid, header.task);
        let Some(flow) = self.flows.get_mut(&key) else {
            return;
        };
        if let Some(process) = process
            && flow.process != Some(process)
        {
            flow.process = Some(process);
            out.to.set_process(open.id, process, time);
        }
        if flow.task != task {
            flow.task = task;
            out.to.set_task(open.id, task, time);
        }
        flow.last = header.time;
        let dir = open.direction(moving);
        flow.pass_unwanted(open, moving, header.position, time, out);
        let heard = flow.offset(1 - moving, header.other);
        out.to.acked(open.id, dir.reverse(), heard, time);
        let at = flow.offset(moving, header.position);
        if !bytes.is_empty() {
            out.to.chunk(open.id, dir, at, bytes, time);
        }
        let copied = bytes.len() as u64;
        let rest = u64::from(header.moved).saturating_sub(copied);
        if rest > 0 {
            let at = at.saturating_add(copied);
            out.to.passed(open.id, dir, at, rest, time);
        }
        let end = header.position.saturating_add(u64::from(header.moved));
        flow.seen[moving] = flow.seen[moving].max(end);
        flow.read_to_its_end(time, out);
        flow.touch(key, &mut self.touched);
    }

    /// Introduces a connection to the engine, with its first bytes.
    fn open(&mut self, header: &Header, moving: usize, time: Nanos, out: &mut Output<'_>) -> Open {
        self.number += self.step;
        let number = self.number;
        let flow = self.flow(header);
        let flow = flow.map(|flow| (flow.tuple, flow.names.clone(), flow.start));
        let (tuple, names, start) = flow.unwrap_or((Tuple::default(), None, Start::Middle));
        let (roles, client) = self.roles(header, moving, &tuple);
        let [local, remote] = addresses(&tuple, names);
        let opening = Opening {
            number,
            client: if client { local } else { remote },
            server: if client { remote } else { local },
            roles,
            start,
            side: if client { Side::Client } else { Side::Server },
            layer: match Key::of(header) {
                Key::Socket(_) => Layer::Transport,
                Key::Session(_) => Layer::Tls,
            },
            process: None,
        };
        let id = out.to.open(&opening, time);
        let open = Open { id, client };
        if start == Start::Middle {
            // Both streams are met where they are now.
            for kernel in [0, 1] {
                let at = if kernel == moving {
                    header.position
                } else {
                    header.other
                };
                let dir = open.direction(kernel);
                out.to.anchor(id, dir, at, time);
            }
        }
        if let Some(flow) = self.flow(header) {
            flow.open = Some(open);
        }
        open
    }

    /// Whether the roles are known, and whether the observed socket is the client.
    fn roles(&mut self, header: &Header, moving: usize, tuple: &Tuple) -> (Roles, bool) {
        if tuple.role == Role::Client as u8 {
            return (Roles::Known, true);
        }
        if tuple.role == Role::Server as u8 {
            return (Roles::Known, false);
        }
        if tuple.family == 0 {
            // A session whose socket is not known: who speaks first asks.
            return (Roles::Assumed, moving == 0);
        }
        let ports = self
            .listeners
            .entry(tuple.netns)
            .or_insert_with(|| listening_ports(header.tgid));
        match (
            ports.contains(&tuple.local_port),
            ports.contains(&tuple.remote_port),
        ) {
            (true, false) => (Roles::Known, false),
            (false, true) if same_host(tuple) => (Roles::Known, true),
            // Ports that systems hand out are above those that services choose.
            _ => (Roles::Assumed, tuple.local_port > tuple.remote_port),
        }
    }

    /// Tells the kernel side what is wanted from now on.
    pub(crate) fn wish(&mut self, kernel: &mut dyn Maps, engine: &Engine) {
        for key in self.touched.drain(..) {
            let Some(flow) = self.flows.get_mut(&key) else {
                continue;
            };
            flow.is_touched = false;
            let Some(open) = flow.open else { continue };
            let mut wish = flow.wish;
            for n in [0, 1] {
                let wanted = match engine.wanted_from(open.id, open.direction(n)) {
                    u64::MAX => u64::MAX,
                    wanted => wanted.saturating_sub(flow.base[n]),
                };
                // What has passed needs no wish: only a lead is worth telling.
                if wanted > flow.seen[n].saturating_add(u64::from(FIRST_WINDOW) / 4) {
                    wish.from[n] = wanted;
                }
                let ahead = flow.seen[n].max(wish.from[n]);
                if ahead.saturating_add(u64::from(FIRST_WINDOW) / 2) > wish.until[n] {
                    wish.until[n] = ahead.saturating_add(WINDOW);
                }
            }
            if wish != flow.wish {
                flow.wish = wish;
                kernel.set_wish(key, wish);
            }
        }
        for (key, born) in self.sessions.gone.drain(..) {
            kernel.forget_session(key, born);
        }
    }

    /// Ends everything: the source stops.
    pub(crate) fn finish(&mut self, time: Nanos, out: &mut Output<'_>) {
        self.release_all(out);
        for (_, flow) in self.flows.drain() {
            if let Some(open) = flow.open {
                out.to.close(open.id, Close::SourceEnded, time);
            }
        }
    }
}

/// Both ends on the same host, as far as the addresses tell.
fn same_host(tuple: &Tuple) -> bool {
    let [local, remote] = ips(tuple);
    local == remote || remote.is_loopback()
}

fn ips(tuple: &Tuple) -> [IpAddr; 2] {
    [tuple.local, tuple.remote].map(|octets| Ipv6Addr::from(octets).to_canonical())
}

/// The observed socket's address, and its peer's.
fn addresses(tuple: &Tuple, names: Option<Box<[UnixName; 2]>>) -> [Address; 2] {
    match tuple.family {
        UNIX => names
            .map_or([UnixName::NONE; 2], |names| *names)
            .map(Address::Unix),
        // A session whose socket is not known.
        0 => [(Ipv4Addr::UNSPECIFIED, 0).into(); 2],
        _ => {
            let [local, remote] = ips(tuple);
            [
                (local, tuple.local_port).into(),
                (remote, tuple.remote_port).into(),
            ]
        }
    }
}

#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;
