//! Connections: where their streams have come to, and their introduction to the reader.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use wirespan_capture_abi::{
    Connection, Counter, Direction, EventKind, Header, Role, Settings, Tuple, Wish,
    connection_flag, filter_flag, flag,
};

use crate::copy;
use crate::filters;
use crate::kernel::{self, UNIX};
use crate::maps::{CONNECTIONS, WISHES, count, settings};

/// The connection of a socket on which the current process has just moved `moved` bytes in
/// `direction`; met in its middle if it is not known. `None` if it is not to be observed.
#[inline(always)]
pub fn of(sock: u64, direction: Direction, moved: u64) -> Option<&'static mut Connection> {
    let known = match CONNECTIONS.get_ptr_mut(sock) {
        Some(known) if is_same(sock, known) => known,
        stale => {
            if stale.is_some() {
                let _ = CONNECTIONS.remove(sock);
            }
            adopt(sock, direction, moved)?
        }
    };
    introduced(sock, known)
}

/// A connection, if it is to be observed; the reader knows of it.
#[inline(always)]
fn introduced(sock: u64, known: *mut Connection) -> Option<&'static mut Connection> {
    // SAFETY: a value of a map; other processors may write to it at the same time, each field by
    // itself.
    let connection = unsafe { &mut *known };
    ask(connection, settings()?);
    if connection.flags & connection_flag::IGNORED != 0 {
        return None;
    }
    if connection.flags & connection_flag::ANNOUNCED == 0 {
        announce(sock, connection);
    }
    Some(connection)
}

/// Asks the filters about a connection, unless they have been asked.
#[inline(always)]
pub fn ask(connection: &mut Connection, settings: &Settings) {
    if connection.epoch != settings.epoch {
        judge(connection, settings.epoch, settings.filters);
    }
}

/// Whether a socket is still the one that was met at its address. The end of a TCP socket is seen,
/// that of a Unix socket is not.
#[inline(always)]
pub fn is_same(sock: u64, known: *mut Connection) -> bool {
    // SAFETY: a value of a map.
    let known = unsafe { &mut *known };
    if known.tuple.family != UNIX {
        return true;
    }
    let inode = split(kernel::inode_number(sock));
    if known.base == [0; 2] {
        // It had none before it was accepted.
        known.base = inode;
    }
    known.base == inode
}

/// A number of 64 bits in two halves.
#[inline(always)]
fn split(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

/// Whether the connection of a socket is known.
#[inline(always)]
pub fn is_known(sock: u64) -> bool {
    CONNECTIONS.get_ptr(sock).is_some()
}

/// Takes up a connection that was just established.
#[inline(always)]
pub fn establish(sock: u64, family: u16, role: Role) {
    let tuple = kernel::tuple(sock, family, role);
    let Some(known) = insert(sock, tuple, here(sock, family), BPF_ANY) else {
        return;
    };
    // Whose it is shows when it is used. Of Unix sockets the reader must know: it alone forgets them.
    let all = settings().is_some_and(|settings| settings.filters & filter_flag::PROCESSES == 0);
    if all || family == UNIX {
        introduced(sock, known);
    }
}

/// Takes up a connection that was open before.
#[inline(always)]
fn adopt(sock: u64, direction: Direction, moved: u64) -> Option<*mut Connection> {
    let family = kernel::family(sock);
    if !kernel::is_stream(sock, family) {
        return None;
    }
    let role = if family == UNIX {
        kernel::unix_role(sock)
    } else {
        Role::Unknown
    };
    let mut tuple = kernel::tuple(sock, family, role);
    tuple.midstream = 1;
    let mut base = here(sock, family);
    if family != UNIX {
        match direction {
            Direction::Sent => base[0] = base[0].wrapping_sub(moved as u32),
            Direction::Received => base[1] = base[1].wrapping_sub(moved as u32),
        }
    }
    // Two threads may meet it at once, one of which sends and one of which receives: then the first
    // one's is kept.
    insert(sock, tuple, base, BPF_NOEXIST)
}

/// [`Connection::base`] of a connection that is met where it is now.
#[inline(always)]
fn here(sock: u64, family: u16) -> [u32; 2] {
    if family == UNIX {
        split(kernel::inode_number(sock))
    } else {
        [
            kernel::sequence(sock, Direction::Sent),
            kernel::sequence(sock, Direction::Received),
        ]
    }
}

#[inline(always)]
fn insert(sock: u64, tuple: Tuple, base: [u32; 2], flags: u32) -> Option<*mut Connection> {
    // The filters, whose epochs begin with one, have not been asked.
    let connection = Connection {
        // SAFETY: has no requirements.
        born: unsafe { bpf_ktime_get_ns() },
        end: [u64::MAX; 2],
        base,
        tuple,
        ..Connection::default()
    };
    let _ = CONNECTIONS.insert(sock, &connection, u64::from(flags));
    let inserted = CONNECTIONS.get_ptr_mut(sock);
    if inserted.is_none() {
        count(Counter::MapFull, 1);
    }
    inserted
}

#[inline(always)]
fn judge(connection: &mut Connection, epoch: u32, filters: u32) {
    connection.epoch = epoch;
    if filters::leaves_out(&connection.tuple, filters) {
        count(Counter::Filtered, 1);
        connection.flags |= connection_flag::IGNORED;
    } else {
        connection.flags &= !connection_flag::IGNORED;
    }
}

#[inline(always)]
fn announce(sock: u64, connection: &mut Connection) {
    let header = Header {
        kind: EventKind::Open as u8,
        time: connection.born,
        sock,
        born: connection.born,
        ..Header::default()
    };
    let submitted = if connection.tuple.family == UNIX {
        copy::submit_unix(&header, &connection.tuple, sock)
    } else {
        copy::submit_value(&header, &connection.tuple)
    };
    if submitted {
        connection.flags |= connection_flag::ANNOUNCED;
    }
}

/// Where a stream of a TCP connection is, given its sequence number there.
#[inline(always)]
pub fn position(connection: &Connection, direction: Direction, sequence: u32) -> u64 {
    let (base, last, end) = match direction {
        Direction::Sent => (
            connection.base[0],
            connection.position[0],
            connection.end[0],
        ),
        Direction::Received => (
            connection.base[1],
            connection.position[1],
            connection.end[1],
        ),
    };
    let ahead = sequence.wrapping_sub(base).wrapping_sub(last as u32) as i32;
    let now = last.wrapping_add(ahead as i64 as u64);
    if now > end { end } else { now }
}

/// Notes that `moved` bytes of a stream have just been moved; the position of the first.
#[inline(always)]
pub fn advance(sock: u64, connection: &mut Connection, direction: Direction, moved: u64) -> u64 {
    let end = if connection.tuple.family == UNIX {
        match direction {
            Direction::Sent => connection.position[0] + moved,
            Direction::Received => connection.position[1] + moved,
        }
    } else {
        if matches!(direction, Direction::Received)
            && connection.end[1] == u64::MAX
            && kernel::is_done(sock)
        {
            // A FIN that came after the process' own changes no state that is told of.
            connection.end[1] = position(connection, direction, last_expected(sock));
        }
        position(connection, direction, kernel::sequence(sock, direction))
    };
    match direction {
        Direction::Sent => connection.position[0] = end,
        Direction::Received => connection.position[1] = end,
    }
    end.wrapping_sub(moved)
}

/// What is wanted of a stream: from where on, and up to where it may be copied.
///
/// A turn may always be copied to some length: so requests and answers never wait for a grant,
/// however fast they follow each other.
#[inline(always)]
pub fn wanted(
    sock: u64,
    connection: &mut Connection,
    direction: Direction,
    start: u64,
    other: u64,
) -> (u64, u64) {
    let (turn, turn_other) = match direction {
        Direction::Sent => (&mut connection.turn[0], &mut connection.turn_other[0]),
        Direction::Received => (&mut connection.turn[1], &mut connection.turn_other[1]),
    };
    // SAFETY: a value of a map that the loader replaces as a whole; a torn read costs some bytes'
    // copy and no more.
    let wish: Option<&Wish> = unsafe { WISHES.get(sock) };
    let wish = wish.filter(|wish| wish.born == connection.born);
    let wish = wish.map(|wish| match direction {
        Direction::Sent => (wish.from[0], wish.until[0]),
        Direction::Received => (wish.from[1], wish.until[1]),
    });
    window(turn, turn_other, wish, start, other)
}

/// Of a stream that goes on at `start`: from where on it is wanted, and up to where it may be
/// copied. A `wish` has both.
#[inline(always)]
pub fn window(
    turn: &mut u64,
    turn_other: &mut u64,
    wish: Option<(u64, u64)>,
    start: u64,
    other: u64,
) -> (u64, u64) {
    if *turn_other != other {
        *turn_other = other;
        *turn = start;
    }
    let free = *turn + settings().map_or(0, |settings| u64::from(settings.first_window));
    match wish {
        Some((from, until)) => (from, if until > free { until } else { free }),
        None => (0, free),
    }
}

/// Sequence number of the FIN that the peer has sent.
#[inline(always)]
fn last_expected(sock: u64) -> u32 {
    kernel::expected(sock).wrapping_sub(1)
}

/// Notes where a stream ends, and tells the reader.
#[inline(always)]
pub fn end(sock: u64, direction: Direction) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(sock) else {
        return;
    };
    // SAFETY: as above.
    let connection = unsafe { &mut *connection };
    let end = match direction {
        // The state changes before the FIN takes a sequence number of its own,
        Direction::Sent => position(connection, direction, kernel::sequence(sock, direction)),
        // and after the peer's has.
        Direction::Received => position(connection, direction, last_expected(sock)),
    };
    let known = match direction {
        Direction::Sent => &mut connection.end[0],
        Direction::Received => &mut connection.end[1],
    };
    if *known != u64::MAX {
        return;
    }
    *known = end;
    if connection.flags & connection_flag::ANNOUNCED == 0 {
        return;
    }
    let header = Header {
        kind: EventKind::End as u8,
        direction: direction as u8,
        // SAFETY: has no requirements.
        time: unsafe { bpf_ktime_get_ns() },
        sock,
        born: connection.born,
        position: end,
        ..Header::default()
    };
    copy::submit(&header);
}

/// Forgets a connection whose socket is gone, and tells the reader.
#[inline(always)]
pub fn close(sock: u64) {
    let Some(connection) = CONNECTIONS.get_ptr_mut(sock) else {
        return;
    };
    // SAFETY: as above.
    let connection = unsafe { &*connection };
    if connection.flags & connection_flag::ANNOUNCED != 0 {
        let open = connection.end[0] == u64::MAX && connection.end[1] == u64::MAX;
        let header = Header {
            kind: EventKind::Close as u8,
            flags: if open { flag::RESET } else { 0 },
            // SAFETY: has no requirements.
            time: unsafe { bpf_ktime_get_ns() },
            sock,
            born: connection.born,
            position: connection.position[0],
            other: connection.position[1],
            ..Header::default()
        };
        copy::submit(&header);
    }
    let _ = CONNECTIONS.remove(sock);
    let _ = WISHES.remove(sock);
}
