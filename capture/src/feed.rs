//! Events of the kernel side become engine input.
//!
//! Every event says how far the other stream of its connection had come: the engine is told first
//! (`acked`), so that an answer waits for a request whose event is still on its way, and bytes that
//! no hook saw are a gap of known length.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use wirespan_capture_abi::{Connection, Header, Role, Tuple, Wish, flag};
use wirespan_engine::api::Direction;
use wirespan_engine::{
    Close, ConnectionId, Engine, Layer, Nanos, Opening, Process, Roles, Side, Start,
};

use crate::clock::Clock;
use crate::event::{Event, What};
use crate::kernel::{FIRST_WINDOW, Tables};
use crate::listeners::listening_ports;
use crate::processes::Processes;
use crate::tap::Tapped;

/// Bytes of a stream that may be copied ahead of what was read of it, once its protocol wants them.
const WINDOW: u64 = 4 << 20;

/// How long a Unix socket may be silent before it is forgotten, in nanoseconds.
const UNIX_IDLE: u64 = 300_000_000_000;

/// `AF_INET6`, `AF_UNIX`.
const INET6: u16 = 10;
const UNIX: u16 = 1;

/// What was made of the events.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Ledger {
    /// Events read.
    pub events: u64,
    /// Events that could not be understood.
    pub unreadable_events: u64,
    /// Bytes copied out of the kernel.
    pub copied_bytes: u64,
    /// Bytes that events stand for.
    pub moved_bytes: u64,
    /// Events whose bytes were in user memory and could not be read.
    pub unreadable_memory: u64,
    /// Connections met.
    pub connections: u64,
    /// Of them, open before.
    pub midstream: u64,
}

/// Connections, and what the engine knows them by.
pub(crate) struct Feed {
    flows: HashMap<u64, Flow>,
    /// Flows that had events since wishes were last looked at.
    touched: HashSet<u64>,
    /// Listening ports by network namespace.
    listeners: HashMap<u32, HashSet<u16>>,
    processes: Processes,
    next_number: u64,
    pub(crate) ledger: Ledger,
}

struct Flow {
    born: u64,
    tuple: Tuple,
    /// Known from the first bytes on.
    open: Option<Open>,
    /// The process that used the socket last.
    process: Option<Process>,
    /// When it was last heard of, on the monotonic clock.
    last: u64,
    /// Behind the last byte that an event told of, by the kernel's direction.
    seen: [u64; 2],
    wish: Wish,
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

impl Feed {
    pub(crate) fn new() -> Self {
        Self {
            flows: HashMap::new(),
            touched: HashSet::new(),
            listeners: HashMap::new(),
            processes: Processes::default(),
            next_number: 0,
            ledger: Ledger::default(),
        }
    }

    /// Takes an event. `lookup` asks the kernel side for a connection whose introduction was lost.
    pub(crate) fn event(
        &mut self,
        event: &Event<'_>,
        lookup: impl FnOnce(u64) -> Option<Connection>,
        out: &mut Output<'_>,
    ) {
        let header = &event.header;
        match &event.what {
            What::Open(tuple) => self.introduce(header, *tuple, out),
            What::Data { direction, bytes } => {
                if !self.knows(header) {
                    let Some(found) = lookup(header.sock).filter(|at| at.born == header.born)
                    else {
                        return;
                    };
                    self.introduce(header, found.tuple, out);
                }
                self.data(header, *direction as usize, bytes, out);
            }
            What::End(direction) => {
                if let Some(flow) = self.flow(header)
                    && let Some(open) = flow.open
                {
                    let time = out.clock.wall(header.time);
                    let dir = open.direction(*direction as usize);
                    out.to.end(open.id, dir, header.position, time);
                }
            }
            What::Close => self.close(header, out),
            What::Process(name) => self.processes.introduce(header.tgid, *name),
            What::Exec | What::Exit => self.processes.forget(header.tgid),
        }
    }

    fn knows(&self, header: &Header) -> bool {
        self.flows
            .get(&header.sock)
            .is_some_and(|flow| flow.born == header.born)
    }

    fn flow(&mut self, header: &Header) -> Option<&mut Flow> {
        self.flows
            .get_mut(&header.sock)
            .filter(|flow| flow.born == header.born)
    }

    fn introduce(&mut self, header: &Header, tuple: Tuple, out: &mut Output<'_>) {
        if self.knows(header) {
            return;
        }
        self.ledger.connections += 1;
        self.ledger.midstream += u64::from(tuple.midstream);
        let flow = Flow {
            born: header.born,
            tuple,
            open: None,
            process: None,
            last: header.time,
            seen: [0; 2],
            wish: Wish {
                born: header.born,
                from: [0; 2],
                until: [u64::from(FIRST_WINDOW); 2],
            },
        };
        if let Some(old) = self.flows.insert(header.sock, flow)
            && let Some(open) = old.open
        {
            // Its end was lost.
            let time = out.clock.wall(header.time);
            out.to.close(open.id, Close::Replaced, time);
        }
    }

    fn data(&mut self, header: &Header, moving: usize, bytes: &[u8], out: &mut Output<'_>) {
        let time = out.clock.wall(header.time);
        self.ledger.copied_bytes += bytes.len() as u64;
        self.ledger.moved_bytes += u64::from(header.moved);
        self.ledger.unreadable_memory += u64::from(header.flags & flag::UNREADABLE != 0);
        let open = match self.flow(header).and_then(|flow| flow.open) {
            Some(open) => open,
            None => self.open(header, moving, time, out),
        };
        let process = self.processes.get(header.tgid);
        let Some(flow) = self.flow(header) else {
            return;
        };
        if let Some(process) = process
            && flow.process != Some(process)
        {
            flow.process = Some(process);
            out.to.set_process(open.id, process, time);
        }
        flow.last = header.time;
        let dir = open.direction(moving);
        // Bytes before the wish were left out on purpose.
        let left_out = header.position.min(flow.wish.from[moving]);
        if flow.seen[moving] < left_out {
            let len = left_out - flow.seen[moving];
            out.to.passed(open.id, dir, flow.seen[moving], len, time);
        }
        out.to.acked(open.id, dir.reverse(), header.other, time);
        if !bytes.is_empty() {
            out.to.chunk(open.id, dir, header.position, bytes, time);
        }
        let copied = bytes.len() as u64;
        let rest = u64::from(header.moved).saturating_sub(copied);
        if rest > 0 {
            let at = header.position.saturating_add(copied);
            out.to.passed(open.id, dir, at, rest, time);
        }
        let end = header.position.saturating_add(u64::from(header.moved));
        flow.seen[moving] = flow.seen[moving].max(end);
        self.touched.insert(header.sock);
    }

    /// Introduces a connection to the engine, with its first bytes.
    fn open(&mut self, header: &Header, moving: usize, time: Nanos, out: &mut Output<'_>) -> Open {
        self.next_number += 1;
        let number = self.next_number;
        let tuple = self.flow(header).map(|flow| flow.tuple).unwrap_or_default();
        let (roles, client) = self.roles(header, &tuple);
        let (local, remote) = addresses(&tuple);
        let start = if tuple.midstream == 0 {
            Start::Beginning
        } else {
            Start::Middle
        };
        let opening = Opening {
            number,
            client: if client { local } else { remote },
            server: if client { remote } else { local },
            roles,
            start,
            side: if client { Side::Client } else { Side::Server },
            layer: Layer::Transport,
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
    fn roles(&mut self, header: &Header, tuple: &Tuple) -> (Roles, bool) {
        if tuple.role == Role::Client as u8 {
            return (Roles::Known, true);
        }
        if tuple.role == Role::Server as u8 {
            return (Roles::Known, false);
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

    fn close(&mut self, header: &Header, out: &mut Output<'_>) {
        if !self.knows(header) {
            return;
        }
        let Some(flow) = self.flows.remove(&header.sock) else {
            return;
        };
        self.touched.remove(&header.sock);
        let Some(open) = flow.open else { return };
        let time = out.clock.wall(header.time);
        let positions = [header.position, header.other];
        for (kernel, position) in positions.into_iter().enumerate() {
            // What nobody wanted went by without a word; what else is missing was lost.
            let dir = open.direction(kernel);
            let seen = flow.seen[kernel];
            let left_out = position.min(flow.wish.from[kernel]);
            if seen < left_out {
                out.to.passed(open.id, dir, seen, left_out - seen, time);
            }
            let seen = seen.max(left_out);
            if seen < position {
                out.to.lost(open.id, dir, seen, position - seen, time);
            }
        }
        let how = if header.flags & flag::RESET != 0 {
            Close::Reset
        } else {
            Close::Finished
        };
        out.to.close(open.id, how, time);
    }

    /// Tells the kernel side what is wanted from now on.
    pub(crate) fn wish(&mut self, kernel: &mut Tables, engine: &Engine) {
        for sock in self.touched.drain() {
            let Some(flow) = self.flows.get_mut(&sock) else {
                continue;
            };
            let Some(open) = flow.open else { continue };
            let mut wish = flow.wish;
            for n in [0, 1] {
                let wanted = engine.wanted_from(open.id, open.direction(n));
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
                kernel.wish(sock, wish);
            }
        }
    }

    /// Forgets Unix sockets that were not heard of for long: their end is not seen. One that speaks
    /// again is met in its middle.
    pub(crate) fn sweep(&mut self, kernel: &mut Tables, now: u64, out: &mut Output<'_>) {
        let time = out.clock.wall(now);
        self.flows.retain(|sock, flow| {
            if flow.tuple.family != UNIX || now.saturating_sub(flow.last) < UNIX_IDLE {
                return true;
            }
            kernel.forget(*sock);
            if let Some(open) = flow.open {
                out.to.close(open.id, Close::Idle, time);
            }
            false
        });
    }

    /// Ends everything: the source stops.
    pub(crate) fn finish(&mut self, time: Nanos, out: &mut Output<'_>) {
        for (_, flow) in self.flows.drain() {
            if let Some(open) = flow.open {
                out.to.close(open.id, Close::SourceEnded, time);
            }
        }
    }
}

/// Both ends on the same host, as far as the addresses tell.
fn same_host(tuple: &Tuple) -> bool {
    let (local, remote) = addresses(tuple);
    local.ip() == remote.ip() || remote.ip().is_loopback()
}

/// The observed socket's address, and its peer's.
fn addresses(tuple: &Tuple) -> (SocketAddr, SocketAddr) {
    let address = |octets: &[u8; 16]| match tuple.family {
        UNIX => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        INET6 => {
            let v6 = Ipv6Addr::from(*octets);
            v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
        }
        _ => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
    };
    (
        SocketAddr::new(address(&tuple.local), tuple.local_port),
        SocketAddr::new(address(&tuple.remote), tuple.remote_port),
    )
}

#[cfg(test)]
mod tests;
