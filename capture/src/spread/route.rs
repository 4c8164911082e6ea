//! Which worker an event is for.
//!
//! A socket's events go by its address in the kernel, so that nothing need be remembered of sockets,
//! and a process with one listening socket and many connections is the work of all. A TLS session's
//! events go where its socket's do. Until that is known they are kept back, as
//! [`Feed`](crate::feed::Feed) would.

use std::collections::HashMap;

use wirespan_capture_abi::{HEADER_LEN, Header, Layer, SessionKey, flag};

use super::batch::{Batch, Job};
use crate::event::{Event, What};
use crate::feed::{Known, Learns, MOST_HELD, WAIT, session_key};
use crate::processes::{Processes, Tasks};

/// Sessions whose workers are remembered. Beyond, all are forgotten and looked up again.
const MOST_SESSIONS: usize = 64 * 1024;

/// Bytes for one turn, of all workers. What of the streams is on its way is bounded by it.
const TURN_BYTES: usize = 1 << 20;

/// Puts events into the batches of workers.
pub(super) struct Router {
    batches: Vec<Batch>,
    /// Of the latest event, in its turn.
    place: u32,
    bytes: usize,
    sessions: HashMap<SessionKey, Home>,
    /// Records of sessions whose sockets are not known yet, in order.
    parked: HashMap<SessionKey, Parked>,
    parked_bytes: usize,
    /// To know what those are made of that are forked.
    processes: Processes,
}

#[derive(Clone, Copy)]
struct Home {
    born: u64,
    worker: usize,
}

struct Parked {
    born: u64,
    since: u64,
    records: Vec<Box<[u8]>>,
}

impl Router {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            batches: (0..workers).map(|_| Batch::default()).collect(),
            place: 0,
            bytes: 0,
            sessions: HashMap::new(),
            parked: HashMap::new(),
            parked_bytes: 0,
            processes: Processes::default(),
        }
    }

    /// Whether the turn is as large as it may become.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= TURN_BYTES
    }

    /// Events of the turn, those that are for all counted for each.
    pub(super) fn events(&self) -> u64 {
        self.batches.iter().map(|batch| batch.events).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.iter().all(Batch::is_empty)
    }

    /// Takes what there is to do in this turn, by worker, and gives `empty` batches for the next.
    pub(super) fn turn(&mut self, mut empty: impl FnMut() -> Batch) -> Vec<Batch> {
        (self.place, self.bytes) = (0, 0);
        let batches = self.batches.iter_mut();
        batches
            .map(|batch| match batch.is_empty() {
                true => Batch::default(),
                false => std::mem::replace(batch, empty()),
            })
            .collect()
    }

    /// Takes an event, and the record that it was read from.
    pub(super) fn event(&mut self, event: &Event<'_>, record: &[u8], known: &dyn Known) {
        self.place += 1;
        let header = &event.header;
        // What is behind was there before.
        let Some(record) = record.get(..HEADER_LEN + header.len as usize) else {
            return;
        };
        match &event.what {
            What::Process(name) => {
                let tasks = self.processes.inherited(header.tgid);
                if tasks.is_some() {
                    self.processes.understand(header.tgid, tasks);
                }
                self.all(&Job::Process(header.tgid, *name, tasks));
            }
            What::Exec | What::Exit => {
                let is_renamed = header.flags & flag::RENAMED != 0;
                if matches!(event.what, What::Exit) || !is_renamed {
                    self.processes.understand(header.tgid, None);
                }
                for worker in 0..self.batches.len() {
                    self.push(worker, record);
                }
            }
            What::Mapped => {}
            _ if header.layer == Layer::Tls as u8 => self.session(event, record, known),
            _ => self.push(self.of_socket(header.sock), record),
        }
    }

    /// Gives everybody the same to do.
    pub(super) fn all(&mut self, job: &Job) {
        for batch in &mut self.batches {
            batch.push(self.place, job.clone());
        }
    }

    /// Time has passed: sessions whose sockets were not found until now will not be.
    pub(super) fn tick(&mut self, now: u64) {
        let late = |parked: &Parked| now.saturating_sub(parked.since) > WAIT;
        let late = self.parked.iter().filter(|(_, parked)| late(parked));
        let keys: Vec<_> = late.map(|(key, _)| *key).collect();
        for key in keys {
            self.give_up(key);
        }
        self.all(&Job::Tick(now));
    }

    /// No more events come.
    pub(super) fn finish(&mut self) {
        let keys: Vec<_> = self.parked.keys().copied().collect();
        for key in keys {
            self.give_up(key);
        }
    }

    /// An event of a TLS session.
    fn session(&mut self, event: &Event<'_>, record: &[u8], known: &dyn Known) {
        let header = &event.header;
        let key = session_key(header);
        let home = self.sessions.get(&key);
        let home = home.filter(|home| home.born == header.born);
        let worker = match (home, &event.what) {
            (Some(home), _) => Some(home.worker),
            (None, What::Bind(binding)) => Some(self.of_socket(binding.sock)),
            // Nobody knows it, or what is kept back of it is all.
            (None, What::Unbind) => Some(self.of_session(key)),
            // The event that told it was lost.
            (None, _) if header.flags & flag::BOUND != 0 => self.found(header, known),
            (None, _) => None,
        };
        let Some(worker) = worker else {
            return self.park(header, record);
        };
        if home.is_none() {
            self.settle(key, header.born, worker);
        }
        self.push(worker, record);
        if matches!(event.what, What::Unbind) {
            let is_it = |home: &Home| home.born == header.born;
            if self.sessions.get(&key).is_some_and(is_it) {
                self.sessions.remove(&key);
            }
        }
    }

    /// Where the socket is of which the kernel side knows that it carries a session.
    fn found(&self, header: &Header, known: &dyn Known) -> Option<usize> {
        let session = known.session(session_key(header))?;
        let is_it = session.born == header.born && session.sock != 0;
        is_it.then(|| self.of_socket(session.sock))
    }

    /// It is known who works on a session: that is who gets what was kept back.
    fn settle(&mut self, key: SessionKey, born: u64, worker: usize) {
        if self.sessions.len() >= MOST_SESSIONS {
            self.sessions.clear();
        }
        self.sessions.insert(key, Home { born, worker });
        for record in self.unpark(key) {
            self.push(worker, &record);
        }
    }

    /// Nobody knows where the socket of a session is: anyone may work on it, always the same.
    fn give_up(&mut self, key: SessionKey) {
        if let Some(born) = self.parked.get(&key).map(|parked| parked.born) {
            self.settle(key, born, self.of_session(key));
        }
    }

    fn park(&mut self, header: &Header, record: &[u8]) {
        let key = session_key(header);
        if self
            .parked
            .get(&key)
            .is_some_and(|at| at.born != header.born)
        {
            // Another session at the same address, which ended unnoticed.
            self.unpark(key);
        }
        self.parked_bytes += record.len();
        let parked = self.parked.entry(key).or_insert_with(|| Parked {
            born: header.born,
            since: header.time,
            records: Vec::new(),
        });
        parked.records.push(record.into());
        if self.parked_bytes > MOST_HELD {
            self.finish();
            self.all(&Job::Release);
        }
    }

    fn unpark(&mut self, key: SessionKey) -> Vec<Box<[u8]>> {
        let parked = self.parked.remove(&key);
        let records = parked.map(|parked| parked.records).unwrap_or_default();
        self.parked_bytes -= records.iter().map(|record| record.len()).sum::<usize>();
        records
    }

    /// Whether nothing waits here, and no session is remembered that is gone.
    #[cfg(test)]
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_empty() && self.parked.is_empty() && self.parked_bytes == 0
    }

    fn push(&mut self, worker: usize, record: &[u8]) {
        self.bytes += record.len();
        self.batches[worker].push_event(self.place, record);
    }

    fn of_socket(&self, sock: u64) -> usize {
        self.one(sock)
    }

    fn of_session(&self, key: SessionKey) -> usize {
        self.one(key.object ^ u64::from(key.tgid).rotate_left(32))
    }

    /// The worker of a number: the high half of a product has something of all its bits, and the rest
    /// of the way is a division without one.
    fn one(&self, number: u64) -> usize {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((mixed * self.batches.len() as u64) >> 32) as usize
    }
}

impl Learns for Router {
    fn understand(&mut self, tgid: u32, tasks: Tasks) {
        self.processes.understand(tgid, Some(tasks));
        self.all(&Job::Understand(tgid, tasks));
    }

    fn probed(&mut self, since: u64) {
        self.all(&Job::Probed(since));
    }

    fn cover(&mut self, tgid: u32, since: u64) {
        self.all(&Job::Cover(tgid, since));
    }

    fn require_sockets(&mut self, required: bool) {
        self.all(&Job::RequireSockets(required));
    }
}
