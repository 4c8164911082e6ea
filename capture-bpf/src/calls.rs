//! Calls that move bytes: what is noted when one begins, and what is made of it when it returns.
//!
//! Bytes are copied at the return, when it is known how many were moved. Bytes sent are dated to
//! the beginning of the call, because the peer may have answered before it returns.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use wirespan_capture_abi::{
    Connection, Counter, Direction, EventKind, Header, Role, Thread, Verdict,
};

use crate::connections;
use crate::copy::{self, Moved, Source};
use crate::filters;
use crate::kernel::{self, INET, INET6, UNIX};
use crate::maps::{CONNECTIONS, THREADS, count, settings};
use crate::tls::{self, Seen};

/// Bit of [`Thread::call`]: bytes are received. Above it, a [`Shape`].
const RECEIVED: u32 = 1;

/// How a call describes its memory.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Shape(u32);

impl Shape {
    /// Not in user memory.
    pub const NOTHING: Self = Self(0);
    /// A buffer.
    pub const BUFFER: Self = Self(2);
    /// Vectors, or messages with vectors each.
    pub const VECTORS: Self = Self(4);
}

/// Where a call has its bytes.
#[derive(Clone, Copy)]
pub struct Memory {
    pub shape: Shape,
    /// Address of a buffer, of vectors, or of messages.
    pub address: u64,
    /// Bytes of a buffer; number of vectors or messages.
    pub count: u64,
    /// Bytes to pass over.
    pub offset: u64,
}

impl Memory {
    /// Bytes that never are in user memory.
    pub const NONE: Self = Self {
        shape: Shape::NOTHING,
        address: 0,
        count: 0,
        offset: 0,
    };
}

/// The current thread, if its process is observed.
#[inline(always)]
pub fn thread() -> Option<&'static mut Thread> {
    let id = bpf_get_current_pid_tgid();
    let settings = settings()?;
    let thread = match THREADS.get_ptr_mut(id) {
        Some(known) => known,
        None => {
            let fresh = Thread::default();
            if THREADS.insert(id, &fresh, 0).is_err() {
                count(Counter::MapFull, 1);
                return None;
            }
            THREADS.get_ptr_mut(id)?
        }
    };
    // SAFETY: only the thread itself touches its value.
    let thread = unsafe { &mut *thread };
    if thread.epoch != settings.epoch || thread.verdict == Verdict::Unknown as u32 {
        let tgid = (id >> 32) as u32;
        let verdict = filters::judge_process(tgid, settings);
        if matches!(verdict, Verdict::Observe) && thread.verdict != Verdict::Observe as u32 {
            introduce(id);
        }
        thread.verdict = verdict as u32;
        thread.epoch = settings.epoch;
    }
    (thread.verdict == Verdict::Observe as u32).then_some(thread)
}

/// Tells the reader the name of the current process.
#[inline(always)]
fn introduce(id: u64) {
    let header = Header {
        kind: EventKind::Process as u8,
        tgid: (id >> 32) as u32,
        task: id as u32,
        // SAFETY: has no requirements.
        time: unsafe { bpf_ktime_get_ns() },
        ..Header::default()
    };
    copy::submit_value(&header, &kernel::process_name());
}

/// A call on a descriptor begins.
#[inline(always)]
pub fn begin(fd: u32, direction: Direction, memory: Memory) {
    let Some(thread) = thread() else { return };
    thread.sock = 0;
    let Some(sock) = kernel::socket_of(fd) else {
        return;
    };
    note(thread, sock, direction, memory);
}

/// A call on a socket begins.
#[inline(always)]
pub fn begin_on(sock: u64, direction: Direction, memory: Memory) {
    let Some(thread) = thread() else { return };
    note(thread, sock, direction, memory);
}

#[inline(always)]
fn note(thread: &mut Thread, sock: u64, direction: Direction, memory: Memory) {
    let family = kernel::family(sock);
    let (moved, other) = match family {
        INET | INET6 => {
            let sent = kernel::sequence(sock, Direction::Sent);
            let received = kernel::sequence(sock, Direction::Received);
            match direction {
                Direction::Sent => (sent, u64::from(received)),
                Direction::Received => (received, u64::from(sent)),
            }
        }
        UNIX => (0, unix_other(sock, direction)),
        _ => return,
    };
    thread.memory = memory.address;
    thread.count = memory.count;
    thread.offset = memory.offset;
    thread.before = moved;
    thread.other = other;
    thread.call = memory.shape.0
        | match direction {
            Direction::Sent => 0,
            Direction::Received => RECEIVED,
        };
    // SAFETY: has no requirements.
    thread.time = unsafe { bpf_ktime_get_ns() };
    thread.sock = sock;
}

/// How far the stream of a Unix socket that is not in `direction` has come.
#[inline(always)]
fn unix_other(sock: u64, direction: Direction) -> u64 {
    // SAFETY: a value of a map; a torn read does no harm.
    let connection: Option<&Connection> = unsafe { CONNECTIONS.get(sock) };
    connection.map_or(0, |connection| match direction {
        Direction::Sent => connection.position[1],
        Direction::Received => connection.position[0],
    })
}

/// The call that the current thread is in.
#[inline(always)]
pub fn current() -> Option<&'static mut Thread> {
    let thread = THREADS.get_ptr_mut(bpf_get_current_pid_tgid())?;
    // SAFETY: only the thread itself touches its value.
    let thread = unsafe { &mut *thread };
    (thread.sock != 0).then_some(thread)
}

/// The current thread connects a socket. Only Unix sockets are noted: the birth of a TCP connection
/// is seen elsewhere.
#[inline(always)]
pub fn connect(sock: u64) {
    let Some(thread) = thread() else { return };
    let family = kernel::family(sock);
    if family == UNIX && kernel::is_stream(sock, family) {
        thread.call = 0;
        thread.sock = sock;
    }
}

/// The call of [`connect`] returns: both ends are established, the other one before anyone has
/// accepted it.
#[inline(always)]
pub fn connected(returned: i64) {
    let Some(thread) = current() else { return };
    let sock = thread.sock;
    thread.sock = 0;
    if returned != 0 || kernel::family(sock) != UNIX {
        return;
    }
    connections::establish(sock, UNIX, Role::Client);
    if let Some(peer) = kernel::unix_peer(sock)
        && CONNECTIONS
            .get_ptr_mut(peer)
            .is_none_or(|known| !connections::is_same(peer, known))
    {
        connections::establish(peer, UNIX, Role::Server);
    }
}

/// The call of the current thread has taken bytes from its socket, and may go on: `copied` of them
/// since it began.
#[inline(always)]
pub fn took(sock: u64, copied: i64) {
    let Some(thread) = current() else { return };
    if thread.sock != sock || copied <= 0 || thread.call & RECEIVED == 0 {
        return;
    }
    let copied = copied as u64;
    let now = kernel::sequence(sock, Direction::Received);
    let mut fresh = u64::from(now.wrapping_sub(thread.before));
    if kernel::is_done(sock) && kernel::expected(sock) == now {
        // It has taken the FIN as well.
        fresh = fresh.saturating_sub(1);
    }
    // Another thread may have taken some meanwhile. A look leaves the stream where it is.
    fresh = fresh.min(copied);
    if fresh == 0 {
        return;
    }
    let offset = thread.offset;
    thread.offset = offset + (copied - fresh);
    moved(thread, sock, Source::KernelVectors, fresh);
    thread.offset = offset;
    thread.before = now;
}

/// The call of the current thread returns, having moved `returned` bytes or messages: or an error
/// if it is negative.
#[inline(always)]
pub fn finish(source: Source, returned: i64) {
    let Some(thread) = current() else { return };
    let sock = thread.sock;
    thread.sock = 0;
    if returned <= 0 {
        return;
    }
    let total = match source {
        Source::Messages => copy::message_bytes(thread.memory, returned as u64),
        _ => returned as u64,
    };
    moved(thread, sock, source, total);
}

#[inline(always)]
fn moved(thread: &mut Thread, sock: u64, source: Source, total: u64) {
    let direction = if thread.call & RECEIVED == 0 {
        Direction::Sent
    } else {
        Direction::Received
    };
    if matches!(direction, Direction::Received)
        && kernel::family(sock) != UNIX
        && kernel::sequence(sock, direction) == thread.before
    {
        // A look that took nothing, or what was told of already.
        return;
    }
    let Some(connection) = connections::of(sock, direction, total) else {
        return;
    };
    let position = connections::advance(sock, connection, direction, total);
    let is_first = position == 0 && connection.tuple.midstream == 0;
    let memory = Memory {
        shape: Shape(thread.call & !RECEIVED),
        address: thread.memory,
        count: thread.count,
        offset: thread.offset,
    };
    let seen = tls::seen(
        thread, sock, connection, direction, source, memory, is_first,
    );
    let surfaces = match seen {
        Seen::Inside => return,
        Seen::Outside => 0,
        Seen::Last(object) => object,
    };
    let surfacing = &raw mut thread.walk.surfaces;
    // SAFETY: a value of a map, which only the thread itself touches; see `Walk`.
    unsafe { surfacing.write_volatile(surfaces) };
    let other = other(thread, sock, connection, direction);
    let (from, until) = connections::wanted(sock, connection, direction, position, other);
    if position + total < from {
        count(Counter::UnwantedBytes, total);
    } else {
        let header = Header {
            kind: EventKind::Data as u8,
            direction: direction as u8,
            time: thread.time,
            sock,
            born: connection.born,
            position,
            other,
            ..Header::default()
        };
        let moved = Moved {
            header,
            total,
            from,
            until,
        };
        copy::data(&raw mut thread.walk, source, memory, moved);
    }
    // SAFETY: as above.
    let surfaces = unsafe { surfacing.read_volatile() };
    if surfaces != 0 {
        tls::surface(surfaces);
    }
}

/// How far the other stream had come: for bytes sent when the call began, for bytes received now.
#[inline(always)]
fn other(thread: &Thread, sock: u64, connection: &Connection, direction: Direction) -> u64 {
    if connection.tuple.family == UNIX {
        return match direction {
            Direction::Sent => thread.other,
            Direction::Received => connection.position[0],
        };
    }
    match direction {
        Direction::Sent => {
            connections::position(connection, Direction::Received, thread.other as u32)
        }
        Direction::Received => connections::position(
            connection,
            Direction::Sent,
            kernel::sequence(sock, Direction::Sent),
        ),
    }
}
