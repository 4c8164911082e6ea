//! TLS sessions: which socket carries them, and what they say until that is known.

use hashbrown::HashMap;
use wirespan_capture_abi::{Binding, Header, Session, SessionKey, Tuple, flag, session_flag};
use wirespan_engine::{Both, Close, Start};

use super::{Feed, Flow, Key, Known, Output};

/// How long the cleartext of a session waits for its socket to be found, in nanoseconds.
pub(crate) const WAIT: u64 = 300_000_000;

/// Bytes of cleartext that wait, of all sessions.
pub(crate) const MOST_HELD: usize = 8 << 20;

/// What is remembered of sessions beside their flows.
#[derive(Default)]
pub(super) struct Sessions {
    /// Cleartext of sessions whose socket is not known yet, in order.
    held: HashMap<SessionKey, Vec<Held>>,
    held_bytes: usize,
    /// Whether sessions are left out whose socket is not found.
    sockets_required: bool,
    /// Sessions whose socket is gone: the kernel side is to forget them.
    pub(super) gone: Vec<(SessionKey, u64)>,
    /// When a library was probed last.
    probed: u64,
    /// Processes whose libraries are probed: since when.
    covered: HashMap<u32, u64>,
}

/// An event that waits.
struct Held {
    header: Header,
    moving: usize,
    bytes: Vec<u8>,
}

impl Sessions {
    pub(super) fn require_sockets(&mut self, required: bool) {
        self.sockets_required = required;
    }

    pub(super) fn probed(&mut self, since: u64) {
        self.probed = since;
    }

    pub(super) fn cover(&mut self, tgid: u32, since: u64) {
        self.covered.insert(tgid, since);
    }
}

impl Feed {
    /// A process is gone, or runs another program.
    pub(crate) fn uncover(&mut self, tgid: u32) {
        self.sessions.covered.remove(&tgid);
    }

    /// Takes cleartext.
    pub(super) fn cleartext(
        &mut self,
        header: &Header,
        moving: usize,
        bytes: &[u8],
        known: &dyn Known,
        out: &mut Output<'_>,
    ) {
        let key = session_key(header);
        // Where it was not, the event that tells of it comes behind what its socket moves until then.
        if header.flags & flag::BOUND != 0
            && !self.knows(header)
            && let Some(session) = known.session(key)
            && session.born == header.born
            && session.sock != 0
        {
            // The event that told it was lost.
            let binding = binding(&session);
            self.bind(header, &binding, known, out);
        }
        if self.knows(header) {
            return self.data(header, moving, bytes, out);
        }
        self.hold(key, header, moving, bytes);
        if self.sessions.held_bytes > MOST_HELD {
            self.release_all(out);
        }
    }

    fn drop_held(&mut self, key: SessionKey) {
        let held = self.sessions.held.remove(&key).unwrap_or_default();
        self.sessions.held_bytes -= held.iter().map(|held| held.bytes.len()).sum::<usize>();
    }

    fn hold(&mut self, key: SessionKey, header: &Header, moving: usize, bytes: &[u8]) {
        let first = self.sessions.held.get(&key).and_then(|held| held.first());
        if first.is_some_and(|first| first.header.born != header.born) {
            // Another session at the same address, which ended unnoticed.
            self.drop_held(key);
        }
        self.sessions.held_bytes += bytes.len();
        self.sessions.held.entry(key).or_default().push(Held {
            header: *header,
            moving,
            bytes: bytes.to_vec(),
        });
    }

    /// The socket of a session is known: the session takes over from it.
    pub(super) fn bind(
        &mut self,
        header: &Header,
        binding: &Binding,
        known: &dyn Known,
        out: &mut Output<'_>,
    ) {
        if self.knows(header) {
            return;
        }
        let (key, socket) = (Key::of(header), Key::Socket(binding.sock));
        let is_known = self
            .flows
            .get(&socket)
            .is_some_and(|flow| flow.born == binding.sock_born);
        if !is_known && !self.look_up(binding.sock, binding.sock_born, known, out) {
            // Closed in the meantime; what the session said is reported without a peer.
            return;
        }
        // Whichever library it is, it was probed before the connection was there.
        let all = self.sessions.probed < binding.sock_born;
        let covered = self.sessions.covered.get(&header.tgid);
        let is_covered = all || covered.is_some_and(|since| *since < binding.sock_born);
        let Some(flow) = self.flows.get_mut(&socket) else {
            return;
        };
        let is_whole = flow.tuple.midstream == 0 && is_covered;
        let start = if binding.beginning != 0 || is_whole {
            Start::Beginning
        } else {
            Start::Middle
        };
        let mut session = Flow::new(header.born, flow.tuple, start, header.time);
        session.names = flow.names.clone();
        session.partner = Some((socket, binding.sock_born));
        session.process = flow.process;
        session.task = flow.task;
        let before = flow.partner.replace((key, header.born));
        if let Some(open) = flow.open.take() {
            // What was told of the socket so far goes on inside.
            let mut at = Both::default();
            for kernel in [0, 1] {
                at[open.direction(kernel)] = flow.seen[kernel];
            }
            session.base = flow.seen;
            session.open = Some(open);
            let time = out.clock.wall(header.time);
            out.to.cleartext(open.id, at, start, time);
        }
        self.ledger.sessions += 1;
        let time = out.clock.wall(header.time);
        if let Some((before, born)) = before
            && self.flows.get(&before).is_some_and(|old| old.born == born)
            && let Some(old) = self.flows.remove(&before)
            && let Some(open) = old.open
        {
            out.to.close(open.id, Close::Replaced, time);
        }
        self.replace(key, session, out);
        self.release(session_key(header), header.born, out);
    }

    /// A session is gone.
    pub(super) fn unbind(&mut self, header: &Header, out: &mut Output<'_>) {
        self.release_unbound(session_key(header), out);
        self.close(header, out);
    }

    /// Gives up waiting for the sockets of sessions that have waited long enough.
    pub(crate) fn release_late(&mut self, now: u64, out: &mut Output<'_>) {
        let late = |held: &Vec<Held>| {
            let first = held.first().map_or(0, |held| held.header.time);
            now.saturating_sub(first) > WAIT
        };
        let held = &self.sessions.held;
        let late = held.iter().filter(|(_, held)| late(held));
        let keys: Vec<_> = late.map(|(key, _)| *key).collect();
        for key in keys {
            self.release_unbound(key, out);
        }
    }

    /// Gives up waiting for all of them.
    pub(crate) fn release_all(&mut self, out: &mut Output<'_>) {
        let keys: Vec<_> = self.sessions.held.keys().copied().collect();
        for key in keys {
            self.release_unbound(key, out);
        }
    }

    /// Reports what a session has said without a peer, unless the filters ask for it.
    fn release_unbound(&mut self, key: SessionKey, out: &mut Output<'_>) {
        if self.sessions.sockets_required {
            return self.drop_held(key);
        }
        let Some(first) = self.sessions.held.get(&key).and_then(|held| held.first()) else {
            return;
        };
        let (born, time) = (first.header.born, first.header.time);
        self.ledger.sessions += 1;
        self.ledger.unbound_sessions += 1;
        let flow = Flow::new(born, Tuple::default(), Start::Middle, time);
        self.replace(Key::Session(key), flow, out);
        self.release(key, born, out);
    }

    /// A session takes the place of another one at its address, whose end was not seen.
    fn replace(&mut self, key: Key, session: Flow, out: &mut Output<'_>) {
        let time = out.clock.wall(session.last);
        if let Some(old) = self.flows.insert(key, session)
            && let Some(open) = old.open
        {
            out.to.close(open.id, Close::Replaced, time);
        }
    }

    /// Goes on with what was held of a session.
    fn release(&mut self, key: SessionKey, born: u64, out: &mut Output<'_>) {
        for held in self.sessions.held.remove(&key).unwrap_or_default() {
            self.sessions.held_bytes -= held.bytes.len();
            if held.header.born == born {
                self.data(&held.header, held.moving, &held.bytes, out);
            }
        }
    }
}

/// The session that an event is of.
pub(crate) fn session_key(header: &Header) -> SessionKey {
    SessionKey {
        object: header.sock,
        tgid: header.tgid,
        reserved: 0,
    }
}

fn binding(session: &Session) -> Binding {
    Binding {
        sock: session.sock,
        sock_born: session.sock_born,
        beginning: u64::from(session.flags & session_flag::BEGINNING != 0),
    }
}
