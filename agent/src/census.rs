//! Who is at the ends of the connections of this machine.
//!
//! A process is looked up when the first bytes of a connection of its are seen, because it may be gone
//! when its exchange is reported; what was found is kept. Both sockets of a connection within this
//! machine have the same two addresses: so each end knows the service at the other one.

mod describe;
mod found;
mod taps;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hashbrown::HashMap;
use wirespan_capture::Tap;
use wirespan_engine::api::Direction;
use wirespan_engine::{
    Address, Both, Close, ConnectionId, Exchange, Nanos, Opening, Process, Side, Start, Task,
};
use wirespan_export::owner::{Ends, Owner};
use wirespan_identity::{Hosts, Root};

use crate::pods::{Pods, Service};
use found::{Found, Use};
pub(crate) use taps::Taps;

/// Processes that are remembered at most.
const MOST: usize = 16 * 1024;
/// A process that makes a new connection is looked at again after this time: it may have become
/// another program under the same name.
const FRESH: Duration = Duration::from_secs(10);
/// How long the ends of a connection are remembered after it was closed: the other end may have
/// something to report.
const LINGER: Duration = Duration::from_secs(5);
/// How many processes are remembered before it is looked whether they are still there.
const FEW: usize = 64;
/// How often it is looked whether `/etc/hosts` has changed.
const LOOK: Duration = Duration::from_secs(10);

/// The census, shared by those that hear of connections and those that report exchanges.
#[derive(Clone, Debug)]
pub(crate) struct Census(Arc<Mutex<Records>>);

/// What is known of the ends of an exchange.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    owner: Option<Arc<Owner>>,
    peer: Option<Peer>,
}

/// What is known of the other end.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Peer {
    /// The service that it belongs to.
    Owner(Arc<Owner>),
    /// The service of the pod with its address.
    Pod(Service),
    /// The name that the machine has for its address.
    Name(Box<str>),
}

impl Known {
    pub(crate) fn ends(&self) -> Ends<'_> {
        Ends {
            owner: self.owner.as_deref(),
            peer: self.peer.as_ref().map(Peer::name),
            peer_namespace: self.peer.as_ref().and_then(Peer::namespace),
        }
    }
}

impl Peer {
    fn name(&self) -> &str {
        match self {
            Self::Owner(owner) => &owner.service.name,
            Self::Pod(service) => &service.name,
            Self::Name(name) => name,
        }
    }

    fn namespace(&self) -> Option<&str> {
        match self {
            Self::Owner(owner) => owner.service.attribute("service.namespace"),
            Self::Pod(service) => Some(&service.namespace),
            Self::Name(_) => None,
        }
    }
}

impl Census {
    /// Of the processes under `root`, of which Kubernetes may know more.
    pub(crate) fn new(root: Root, pods: Pods) -> Self {
        let hosts = root.path().join("etc/hosts");
        Self(Arc::new(Mutex::new(Records {
            host: describe::host(&root),
            root,
            pods,
            owners: HashMap::new(),
            review: FEW,
            connections: HashMap::new(),
            pairs: HashMap::new(),
            closed: VecDeque::new(),
            names: Names::new(hosts),
        })))
    }

    /// What is known of the ends of an exchange.
    pub(crate) fn known(&self, exchange: &Exchange<'_>) -> Known {
        let mut records = self.records();
        let owner = exchange
            .process
            .map(|process| records.owner(&process, None));
        let (remote, side) = match exchange.side {
            Side::Client => (exchange.server, Side::Server),
            _ => (exchange.client, Side::Client),
        };
        let pair = Pair::of(exchange.client, exchange.server);
        let peer = records.peer(pair, remote, side);
        Known { owner, peer }
    }

    fn records(&self) -> MutexGuard<'_, Records> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was found out.
#[derive(Debug)]
struct Records {
    root: Root,
    pods: Pods,
    /// The machine's name.
    host: Box<str>,
    owners: HashMap<u32, Found>,
    /// With how many of them it is looked which of them are gone.
    review: usize,
    /// Open connections, and those that were closed a moment ago: where they are in `pairs`.
    connections: HashMap<ConnectionId, (Pair, Address)>,
    pairs: HashMap<Pair, Vec<End>>,
    closed: VecDeque<(Instant, ConnectionId)>,
    names: Names,
}

/// The addresses of a connection, the same from both ends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Pair(Address, Address);

/// One end of a connection.
#[derive(Debug)]
struct End {
    id: ConnectionId,
    address: Address,
    process: Process,
    owner: Arc<Owner>,
    /// So that the process is remembered while it has the connection.
    _use: Option<Use>,
}

impl Pair {
    fn of(a: Address, b: Address) -> Self {
        let (a, b) = (canonical(a), canonical(b));
        Self(a.min(b), a.max(b))
    }
}

/// An address as both versions of IP have it.
fn canonical(address: Address) -> Address {
    match address {
        Address::Inet(socket) => SocketAddr::new(socket.ip().to_canonical(), socket.port()).into(),
        Address::Unix(_) => address,
    }
}

/// Whether the address of an end tells it from others: all clients of a Unix socket have its name, or
/// none.
fn is_telling(address: &Address, side: Side) -> bool {
    match address {
        Address::Inet(_) => true,
        Address::Unix(name) => side == Side::Server && !name.is_none(),
    }
}

impl Records {
    /// The owner of a process's sockets: as it was found before, unless that was longer ago than
    /// `fresh`, or the process has another name now.
    fn owner(&mut self, process: &Process, fresh: Option<Duration>) -> Arc<Owner> {
        if let Some(found) = self.owners.get_mut(&process.pid)
            && found.process == *process
        {
            let mut read = None;
            if fresh.is_some_and(|fresh| found.when.elapsed() > fresh) {
                found.when = Instant::now();
                read = self.root.process(process.pid);
            }
            found.look(read, &self.pods, &self.host);
            return Arc::clone(&found.owner);
        }
        if self.owners.len() >= self.review {
            self.forget();
        }
        let read = self.root.process(process.pid);
        let found = Found::new(process, read, &self.pods, &self.host);
        let owner = Arc::clone(&found.owner);
        self.owners.insert(process.pid, found);
        owner
    }

    /// Forgets the processes that are gone and have no connection left. As many as stay may come
    /// before it is looked again, so that each new one costs a look or two.
    fn forget(&mut self) {
        let root = &self.root;
        self.owners.retain(|pid, found| {
            found.when.elapsed() < LINGER || found.is_used() || root.has(*pid)
        });
        if self.owners.len() >= MOST {
            self.forget_half();
        }
        self.review = (2 * self.owners.len()).clamp(FEW, MOST);
    }

    /// Forgets the half of the processes that was looked up longest ago.
    fn forget_half(&mut self) {
        let mut times: Vec<Instant> = self.owners.values().map(|found| found.when).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.owners.retain(|_, found| found.when > median);
    }

    /// The service at the address `remote` of a connection, whose other `side` it is: a process of this
    /// machine, a pod of it, else the name that the machine has for the address.
    fn peer(&mut self, pair: Pair, remote: Address, side: Side) -> Option<Peer> {
        let remote = canonical(remote);
        let ends = self.pairs.get(&pair).filter(|_| is_telling(&remote, side));
        let end = ends.and_then(|ends| ends.iter().find(|end| end.address == remote));
        if let Some(end) = end {
            // More may be known of it since.
            if let Some(found) = self.owners.get_mut(&end.process.pid)
                && found.process == end.process
            {
                found.look(None, &self.pods, &self.host);
                return Some(Peer::Owner(Arc::clone(&found.owner)));
            }
            return Some(Peer::Owner(Arc::clone(&end.owner)));
        }
        let address = remote.ip()?;
        let pod = self.pods.at(address).map(Peer::Pod);
        pod.or_else(|| Some(Peer::Name(self.names.of(address)?.into())))
    }

    fn open(&mut self, id: ConnectionId, opening: &Opening) {
        self.expire();
        let address = match opening.side {
            Side::Client => opening.client,
            Side::Server => opening.server,
            Side::Wire => return,
        };
        let pair = Pair::of(opening.client, opening.server);
        if is_telling(&address, opening.side) {
            self.connections.insert(id, (pair, canonical(address)));
        }
        if let Some(process) = &opening.process {
            self.is_used_by(id, process);
        }
    }

    fn is_used_by(&mut self, id: ConnectionId, process: &Process) {
        let owner = self.owner(process, Some(FRESH));
        let Some((pair, address)) = self.connections.get(&id).copied() else {
            return;
        };
        let ends = self.pairs.entry(pair).or_default();
        // The latest connection of these addresses is the one that exchanges are reported of.
        ends.retain(|end| end.address != address);
        ends.push(End {
            id,
            address,
            process: *process,
            owner,
            _use: self.owners.get(&process.pid).map(Found::used),
        });
    }

    fn expire(&mut self) {
        while let Some((when, id)) = self.closed.front().copied()
            && when.elapsed() > LINGER
        {
            self.closed.pop_front();
            let Some((pair, _)) = self.connections.remove(&id) else {
                continue;
            };
            if let Some(ends) = self.pairs.get_mut(&pair) {
                ends.retain(|end| end.id != id);
                if ends.is_empty() {
                    self.pairs.remove(&pair);
                }
            }
        }
    }
}

/// Names of addresses, by a file that may change.
#[derive(Debug)]
struct Names {
    path: PathBuf,
    hosts: Hosts,
    changed: Option<SystemTime>,
    looked: Option<Instant>,
}

impl Names {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            hosts: Hosts::default(),
            changed: None,
            looked: None,
        }
    }

    fn of(&mut self, address: IpAddr) -> Option<&str> {
        if self.looked.is_none_or(|looked| looked.elapsed() > LOOK) {
            self.looked = Some(Instant::now());
            let changed = std::fs::metadata(&self.path).and_then(|file| file.modified());
            let changed = changed.ok();
            if changed != self.changed {
                self.changed = changed;
                let text = std::fs::read(&self.path).unwrap_or_default();
                self.hosts = Hosts::read(&text);
            }
        }
        self.hosts.name(address)
    }
}

/// Hears of connections.
impl Tap for Census {
    fn hears_streams(&self) -> bool {
        false
    }

    fn open(&mut self, id: ConnectionId, opening: &Opening, _: Nanos) {
        self.records().open(id, opening);
    }

    fn set_process(&mut self, id: ConnectionId, process: Process, _: Nanos) {
        self.records().is_used_by(id, &process);
    }

    fn close(&mut self, id: ConnectionId, _: Close, _: Nanos) {
        self.records().closed.push_back((Instant::now(), id));
    }

    fn set_task(&mut self, _: ConnectionId, _: Option<Task>, _: Nanos) {}
    fn anchor(&mut self, _: ConnectionId, _: Direction, _: u64, _: Nanos) {}
    fn cleartext(&mut self, _: ConnectionId, _: Both<u64>, _: Start, _: Nanos) {}
    fn acked(&mut self, _: ConnectionId, _: Direction, _: u64, _: Nanos) {}
    fn chunk(&mut self, _: ConnectionId, _: Direction, _: u64, _: &[u8], _: Nanos) {}
    fn passed(&mut self, _: ConnectionId, _: Direction, _: u64, _: u64, _: Nanos) {}
    fn lost(&mut self, _: ConnectionId, _: Direction, _: u64, _: u64, _: Nanos) {}
    fn end(&mut self, _: ConnectionId, _: Direction, _: u64, _: Nanos) {}
}

#[cfg(test)]
mod tests;
