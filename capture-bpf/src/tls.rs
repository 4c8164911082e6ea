//! TLS libraries: cleartext as processes hand it over and get it, and which socket carries it.
//!
//! A session is found at a socket in one of these ways:
//!
//! - within a call of the library, its thread moves TLS records over a socket; this is told with the
//!   first cleartext, so that the handshake before it can be read;
//! - where ciphertext goes through memory (`BIO_s_mem` and the like), a thread receives a record
//!   and reads that much cleartext next, or writes cleartext and sends a record of that length next;
//! - Go's connections lead to their descriptor (`go.rs`).

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use wirespan_capture_abi::Direction::{self, Received, Sent};
use wirespan_capture_abi::{
    Binding, Connection, Counter, EventKind, Header, Layer, RECORD_OVERHEAD, Session, SessionKey,
    Thread, TlsCall, Wish, connection_flag, flag, session_flag,
};

use crate::calls::{self, Memory, Shape};
use crate::connections;
use crate::copy::{self, Moved, Source};
use crate::maps::{CONNECTIONS, SESSION_WISHES, SESSIONS, THREADS, UNSEEN, count, settings};

/// Most records that are looked at of what a socket moved.
const RECORDS: usize = 4;
/// RFC 8446 §5.1: types of records, and most bytes of cleartext in one.
const FIRST_TYPE: u8 = 20;
const DATA: u8 = 23;
const LAST_TYPE: u8 = 24;
const LARGEST_RECORD: u32 = 1 << 14;

/// The key of a session of the current process.
#[inline(always)]
pub fn key(object: u64) -> SessionKey {
    SessionKey {
        object,
        tgid: (bpf_get_current_pid_tgid() >> 32) as u32,
        reserved: 0,
    }
}

/// The session of that key, met now if it is not known.
#[inline(always)]
pub fn session(key: &SessionKey, flags: u32) -> Option<&'static mut Session> {
    let known = match SESSIONS.get_ptr_mut(key) {
        Some(known) => known,
        None => {
            let fresh = Session {
                // SAFETY: has no requirements.
                born: unsafe { bpf_ktime_get_ns() },
                flags,
                ..Session::default()
            };
            // Two goroutines may meet it at once: then the first one's is kept.
            let _ = SESSIONS.insert(key, &fresh, u64::from(BPF_NOEXIST));
            let Some(met) = SESSIONS.get_ptr_mut(key) else {
                count(Counter::MapFull, 1);
                return None;
            };
            met
        }
    };
    // SAFETY: a value of a map; libraries forbid that two threads use a session at once, and Go's
    // read and write touch different fields.
    Some(unsafe { &mut *known })
}

/// A call on a session begins.
#[inline(always)]
pub fn begin(object: u64, buffer: u64, result: u64, direction: u32) {
    let Some(thread) = calls::thread() else {
        return;
    };
    let key = key(object);
    let known = SESSIONS.get_ptr_mut(key).map(|known| {
        // SAFETY: as in `session`.
        unsafe { &mut *known }
    });
    let call = &thread.tls;
    let nested = (call.object == object && call.direction == direction) as u32;
    let mut bound = 0;
    if let Some(session) = known {
        bound = (session.sock != 0) as u32;
        if direction == Received as u32 {
            begin_read(&key, session);
        }
    }
    thread.tls = TlsCall {
        object,
        buffer,
        result,
        // SAFETY: has no requirements.
        time: unsafe { bpf_ktime_get_ns() },
        direction,
        bound,
        nested,
        reserved: 0,
    };
}

/// A call that reads begins. Before the first one that is seen, another may have taken bytes: one
/// that was waiting when its library was probed. No sequence number tells, as one does at a socket,
/// so that a hole is left where they were.
#[inline(always)]
pub fn begin_read(key: &SessionKey, session: &mut Session) {
    if session.flags & (session_flag::READ | session_flag::BEGINNING) != 0 {
        return;
    }
    session.flags |= session_flag::READ;
    // SAFETY: a value of a map, replaced as a whole.
    let unseen = unsafe { UNSEEN.get(key.tgid) };
    if session.position[0] > 0 && unseen.is_some_and(|at| *at > session.born) {
        session.position[1] += 1;
    }
}

/// A call returned bytes, and its beginning was not seen.
#[inline(always)]
pub fn end_unseen() {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: has no requirements.
    let now = unsafe { bpf_ktime_get_ns() };
    let _ = UNSEEN.insert(tgid, now, 0);
}

/// A handshake begins, or goes on.
#[inline(always)]
pub fn begin_handshake(object: u64) {
    let Some(thread) = calls::thread() else {
        return;
    };
    session(&key(object), session_flag::BEGINNING);
    // A call that moves bytes may do the handshake first.
    if thread.tls.object != object {
        begin(object, 0, 0, TlsCall::NO_BYTES);
    }
}

#[inline(always)]
pub fn end_handshake() {
    if let Some(thread) = THREADS.get_ptr_mut(bpf_get_current_pid_tgid()) {
        // SAFETY: only the thread itself touches its value.
        let call = unsafe { &mut (*thread).tls };
        if call.direction == TlsCall::NO_BYTES {
            call.object = 0;
        }
    }
}

/// The call of the current thread returns; `moved` tells how many bytes it has moved, given where
/// the call says so.
#[inline(always)]
pub fn finish(moved: impl Fn(u64) -> i64) {
    let Some(thread) = THREADS.get_ptr_mut(bpf_get_current_pid_tgid()) else {
        return;
    };
    // SAFETY: only the thread itself touches its value.
    let thread = unsafe { &mut *thread };
    let call = thread.tls;
    if call.object == 0 {
        // The call around one that was told of has moved the same bytes.
        thread.tls.nested = 0;
        if call.nested == 0 && moved(0) > 0 {
            end_unseen();
        }
        return;
    }
    thread.tls.object = 0;
    if call.direction == TlsCall::NO_BYTES {
        return;
    }
    let len = moved(call.result);
    let key = key(call.object);
    if len > 0 {
        if let Some(session) = session(&key, 0) {
            tell(thread, &key, session, &call, len as u64);
        }
    } else if call.direction == Sent as u32 {
        made_in_vain(&key, call.time);
    }
}

/// A call that sends was made and is to be made again: what it sends then was handed over now.
#[inline(always)]
fn made_in_vain(key: &SessionKey, time: u64) {
    if let Some(known) = SESSIONS.get_ptr_mut(key) {
        // SAFETY: as in `session`.
        let session = unsafe { &mut *known };
        if session.since == 0 {
            session.since = time;
        }
    }
}

/// Cleartext was moved.
#[inline(always)]
pub fn tell(
    thread: &mut Thread,
    key: &SessionKey,
    session: &mut Session,
    call: &TlsCall,
    len: u64,
) {
    if session.sock == 0 {
        adjoin(thread, key, session, call.direction, len as u32);
    }
    let is_sent = call.direction == Sent as u32;
    let (position, other) = if is_sent {
        (session.position[0], session.position[1])
    } else {
        (session.position[1], session.position[0])
    };
    let mut time = call.time;
    if is_sent {
        if session.since != 0 {
            time = session.since;
            session.since = 0;
        }
        session.position[0] = position + len;
    } else {
        session.position[1] = position + len;
    }
    if session.sock != 0 && !is_observed(key, session) {
        return;
    }
    let (turn, turn_other) = if is_sent {
        (&mut session.turn[0], &mut session.turn_other[0])
    } else {
        (&mut session.turn[1], &mut session.turn_other[1])
    };
    // SAFETY: a value of a map that the loader replaces as a whole; a torn read costs some bytes'
    // copy and no more.
    let wish: Option<&Wish> = unsafe { SESSION_WISHES.get(key) };
    let wish = wish.filter(|wish| wish.born == session.born);
    let wish = wish.map(|wish| {
        if is_sent {
            (wish.from[0], wish.until[0])
        } else {
            (wish.from[1], wish.until[1])
        }
    });
    let (from, until) = connections::window(turn, turn_other, wish, position, other);
    if position + len < from {
        count(Counter::UnwantedBytes, len);
        return;
    }
    let header = Header {
        kind: EventKind::Data as u8,
        direction: call.direction as u8,
        layer: Layer::Tls as u8,
        flags: if session.sock == 0 { 0 } else { flag::BOUND },
        time,
        sock: key.object,
        born: session.born,
        position,
        other,
        ..Header::default()
    };
    let memory = if call.buffer == 0 {
        Memory::NONE
    } else {
        Memory {
            shape: Shape::BUFFER,
            address: call.buffer,
            count: len,
            offset: 0,
        }
    };
    let moved = Moved {
        header,
        total: len,
        from,
        until,
    };
    copy::data(&raw mut thread.walk, Source::Vectors, memory, moved);
}

/// Whether the filters let the connection of a session through; its socket is told if it was not.
#[inline(always)]
fn is_observed(key: &SessionKey, session: &mut Session) -> bool {
    let Some(settings) = settings() else {
        return false;
    };
    if session.epoch != settings.epoch {
        session.epoch = settings.epoch;
        session.flags &= !session_flag::IGNORED;
        if let Some(connection) = CONNECTIONS.get_ptr_mut(session.sock) {
            // SAFETY: as in `connections::of`.
            let connection = unsafe { &mut *connection };
            connections::ask(connection, settings);
            if connection.flags & connection_flag::IGNORED != 0 {
                session.flags |= session_flag::IGNORED;
            }
        }
    }
    if session.flags & session_flag::IGNORED != 0 {
        return false;
    }
    if session.flags & session_flag::ANNOUNCED == 0 {
        let header = Header {
            kind: EventKind::Bind as u8,
            layer: Layer::Tls as u8,
            tgid: key.tgid,
            task: bpf_get_current_pid_tgid() as u32,
            // SAFETY: has no requirements.
            time: unsafe { bpf_ktime_get_ns() },
            sock: key.object,
            born: session.born,
            ..Header::default()
        };
        let binding = Binding {
            sock: session.sock,
            sock_born: session.sock_born,
            beginning: u64::from(session.flags & session_flag::BEGINNING != 0),
        };
        if copy::submit_value(&header, &binding) {
            session.flags |= session_flag::ANNOUNCED;
        }
        secure(session);
    }
    true
}

/// From now on nobody wants the ciphertext of the connection that carries a session.
#[inline(always)]
fn secure(session: &Session) {
    if let Some(connection) = CONNECTIONS.get_ptr_mut(session.sock) {
        // SAFETY: as in `connections::of`.
        let connection = unsafe { &mut *connection };
        if connection.born == session.sock_born {
            connection.flags |= connection_flag::SECURED;
        }
    }
}

/// The session is carried by that connection.
#[inline(always)]
pub fn bind(key: &SessionKey, session: &mut Session, sock: u64, connection: &mut Connection) {
    (session.sock, session.sock_born) = (sock, connection.born);
    is_observed(key, session);
}

/// What a socket has moved.
#[derive(Clone, Copy)]
pub enum Seen {
    /// Ciphertext of a session that is seen in the clear: nobody wants it.
    Inside,
    /// Something else, or the handshake of a session.
    Outside,
    /// The last bytes that are wanted: behind them the session of this object is seen in the clear.
    Last(u64),
}

/// A socket has moved bytes: whether they are seen in the clear.
#[inline(always)]
pub fn seen(
    thread: &mut Thread,
    sock: u64,
    connection: &mut Connection,
    direction: Direction,
    source: Source,
    memory: Memory,
    is_first: bool,
) -> Seen {
    if connection.flags & connection_flag::SECURED != 0 {
        return Seen::Inside;
    }
    let is_inside = thread.tls.object != 0 && thread.tls.bound == 0;
    if !is_inside && thread.adjacent.watch == 0 {
        return Seen::Outside;
    }
    let start = copy::first_byte(source, memory);
    if start == 0 {
        return Seen::Outside;
    }
    if is_inside {
        if !record(start).is_some_and(|(kind, _)| kind <= LAST_TYPE) {
            return Seen::Outside;
        }
        let key = key(thread.tls.object);
        let flags = if is_first { session_flag::BEGINNING } else { 0 };
        let Some(session) = session(&key, flags) else {
            return Seen::Outside;
        };
        thread.tls.bound = 1;
        if session.sock == 0 {
            // Not told before cleartext is: until then the handshake is read.
            (session.sock, session.sock_born) = (sock, connection.born);
        }
        return Seen::Outside;
    }
    match direction {
        Received => {
            thread.adjacent.records = records(start);
            thread.adjacent.sock = sock;
            Seen::Outside
        }
        Sent => {
            let object = thread.adjacent.object;
            thread.adjacent.object = 0;
            if object == 0 || !fits(&records(start), thread.adjacent.written) {
                return Seen::Outside;
            }
            let key = key(object);
            let Some(session) = session(&key, 0) else {
                return Seen::Outside;
            };
            if session.sock != 0 {
                return Seen::Inside;
            }
            // Told behind these bytes: the end of the handshake may go with the first cleartext.
            (session.sock, session.sock_born) = (sock, connection.born);
            Seen::Last(object)
        }
    }
}

/// The ciphertext of a session was told of for the last time.
#[inline(always)]
pub fn surface(object: u64) {
    let key = key(object);
    if let Some(session) = session(&key, 0) {
        is_observed(&key, session);
    }
}

/// A session whose socket is not known has moved `len` bytes of cleartext: was it the socket that
/// the thread received from last?
#[inline(always)]
fn adjoin(
    thread: &mut Thread,
    key: &SessionKey,
    session: &mut Session,
    direction: u32,
    len: u32,
) {
    let adjacent = &mut thread.adjacent;
    adjacent.watch = 1;
    if direction == Sent as u32 {
        if adjacent.object == 0 {
            adjacent.object = key.object;
            adjacent.written = len;
        }
        return;
    }
    let sock = adjacent.sock;
    adjacent.sock = 0;
    if sock == 0 || !fits(&adjacent.records, len) {
        return;
    }
    if let Some(connection) = CONNECTIONS.get_ptr_mut(sock) {
        // SAFETY: as in `connections::of`.
        let connection = unsafe { &mut *connection };
        if connection.flags & connection_flag::SECURED == 0 {
            bind(key, session, sock, connection);
        }
    }
}

/// Whether `len` bytes, or the first of them, are in one of these records.
#[inline(always)]
fn fits(records: &[u16; RECORDS], len: u32) -> bool {
    let len = if len > LARGEST_RECORD {
        LARGEST_RECORD
    } else {
        len
    };
    let fits = |record: u16| u32::from(record).wrapping_sub(len + 16) <= RECORD_OVERHEAD - 16;
    fits(records[0]) || fits(records[1]) || fits(records[2]) || fits(records[3])
}

/// Type and length of the record that begins at an address.
#[inline(always)]
fn record(address: u64) -> Option<(u8, u16)> {
    let head: [u8; 5] = copy::read_user(address);
    let is_one = head[0] >= FIRST_TYPE && head[0] <= LAST_TYPE && head[1] == 3 && head[2] <= 4;
    is_one.then_some((head[0], u16::from_be_bytes([head[3], head[4]])))
}

/// Lengths of the first records from an address on that carry data.
#[inline(always)]
fn records(address: u64) -> [u16; RECORDS] {
    let mut lengths = [0; RECORDS];
    let mut at = address;
    for length in &mut lengths {
        let Some((kind, len)) = record(at) else { break };
        if kind == DATA {
            *length = len;
        }
        at += 5 + u64::from(len);
    }
    lengths
}

/// A session is gone: tells the reader, if it knows it.
#[inline(always)]
pub fn forget(object: u64) {
    let key = key(object);
    let Some(session) = SESSIONS.get_ptr_mut(key) else {
        return;
    };
    // SAFETY: as above.
    let session = unsafe { &*session };
    let header = Header {
        kind: EventKind::Unbind as u8,
        layer: Layer::Tls as u8,
        tgid: key.tgid,
        task: bpf_get_current_pid_tgid() as u32,
        // SAFETY: has no requirements.
        time: unsafe { bpf_ktime_get_ns() },
        sock: object,
        born: session.born,
        position: session.position[0],
        other: session.position[1],
        ..Header::default()
    };
    copy::submit(&header);
    let _ = SESSIONS.remove(key);
    let _ = SESSION_WISHES.remove(key);
}

/// Tells the reader that the current process has code that it had not.
#[inline(always)]
pub fn mapped() {
    if calls::thread().is_none() {
        return;
    }
    let id = bpf_get_current_pid_tgid();
    let header = Header {
        kind: EventKind::Mapped as u8,
        tgid: (id >> 32) as u32,
        task: id as u32,
        // SAFETY: has no requirements.
        time: unsafe { bpf_ktime_get_ns() },
        ..Header::default()
    };
    copy::submit(&header);
}
