//! Keys and values of the maps.

use crate::event::Tuple;
use crate::tls::{Adjacent, TlsCall};

/// A connection, by the address of its kernel socket.
///
/// Positions count the bytes of a stream from where the connection was first met. The low 32 bits
/// of a TCP position are the kernel's sequence number less `base`, so that bytes which no hook saw
/// are counted all the same.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Connection {
    /// When it was first met, in nanoseconds of `CLOCK_MONOTONIC`: tells it from others that had
    /// the same address.
    pub born: u64,
    /// How far each stream has come, by [`Direction`](crate::Direction).
    pub position: [u64; 2],
    /// Where each stream ends; `u64::MAX` while that is not known. The kernel counts a FIN as if it
    /// were a byte, streams do not.
    pub end: [u64; 2],
    /// Where the turn at hand of each stream began: what its sender has said since the other spoke.
    pub turn: [u64; 2],
    /// How far the other stream had come then.
    pub turn_other: [u64; 2],
    /// Sequence number at position 0 of each stream. Of a Unix socket, its inode number, which tells
    /// it from others at the same address.
    pub base: [u32; 2],
    /// Bits of [`connection_flag`].
    pub flags: u32,
    /// [`Settings::epoch`] at which the filters were asked.
    pub epoch: u32,
    /// The addresses.
    pub tuple: Tuple,
}

/// Bits of [`Connection::flags`].
pub mod connection_flag {
    /// The filters left it out.
    pub const IGNORED: u32 = 1;
    /// The event that introduces it was sent.
    pub const ANNOUNCED: u32 = 2;
    /// A TLS session that it carries is seen in the clear: its ciphertext is counted, not copied.
    pub const SECURED: u32 = 4;
}

/// What is wanted of a connection's streams, by the address of its kernel socket and
/// [`Direction`](crate::Direction). Written by the loader only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Wish {
    /// [`Connection::born`] of the connection that is meant.
    pub born: u64,
    /// Nothing before this position is wanted.
    pub from: [u64; 2],
    /// Nothing from this position on is to be copied until more is granted.
    pub until: [u64; 2],
}

/// What is known of a thread, by thread id and process id, and the call it is in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    /// The socket that the call works on; 0 outside of calls.
    pub sock: u64,
    /// Where the bytes are: a buffer, vectors, or messages.
    pub memory: u64,
    /// Length of the buffer, or number of vectors or messages.
    pub count: u64,
    /// Bytes of the first vector that are passed over.
    pub offset: u64,
    /// When the call began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// How far the other stream had come when the call began: a sequence number of TCP, a position
    /// of a Unix socket.
    pub other: u64,
    /// Direction, shape of memory: for the kernel side alone.
    pub call: u32,
    /// [`Settings::epoch`] at which the filters were asked.
    pub epoch: u32,
    /// A [`Verdict`].
    pub verdict: u32,
    /// How far the stream that the call moves had come when the call began: a sequence number.
    pub before: u32,
    /// The walk over the memory of a call that has returned.
    pub walk: Walk,
    /// The call of a TLS library that the thread is in.
    pub tls: TlsCall,
    /// What it has done with sessions whose socket is not known.
    pub adjacent: Adjacent,
}

/// A walk over the memory of a call: where it is, and what is left to do.
///
/// It lives in a map rather than in registers so that the kernel's verifier, which follows the
/// contents of registers but not of maps, sees the same state at each turn of the loop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    /// Where the piece at hand goes on.
    pub address: u64,
    /// Bytes left of it.
    pub len: u64,
    /// Vectors after it: address, and number.
    pub vector: u64,
    /// See `vector`.
    pub vectors: u64,
    /// Messages after them: address, and number.
    pub message: u64,
    /// See `message`.
    pub messages: u64,
    /// Bytes left of the message at hand.
    pub message_left: u64,
    /// Bytes to pass over.
    pub skip: u64,
    /// Bytes to copy.
    pub copy: u64,
    /// Bytes that the call moved and no event stands for yet.
    pub left: u64,
    /// Position of the next of them.
    pub position: u64,
    /// Bytes gathered so far.
    pub gathered: u64,
    /// Flags with which events are submitted: whether the reader is woken.
    pub wake: u64,
    /// A number on its way through the map, so that the verifier does not remember the ways that led
    /// to it, and looks at what follows once.
    pub passing: u64,
    /// The session that is seen in the clear behind the bytes at hand; 0 for none.
    pub surfaces: u64,
}

/// Whether a process is observed.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Not asked yet.
    Unknown = 0,
    /// Observed.
    Observe = 1,
    /// Left out.
    Ignore = 2,
}

/// An executable file, as the kernel names it: `s_dev` of its file system and its inode's number.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Executable {
    /// `i_ino`.
    pub inode: u64,
    /// `s_dev`: the major number above the 20 bits of the minor one.
    pub device: u32,
    /// Zero.
    pub reserved: u32,
}

/// What a process has added to the ring buffer while it was more than half full.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Share {
    /// How far the reader had come, in eighths of the buffer.
    pub window: u64,
    /// Bytes added since.
    pub bytes: u64,
}

/// What the loader tells the programs, changeable while they run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// Goes up by one with every change of the filters: verdicts of another epoch are asked anew.
    pub epoch: u32,
    /// Bits of [`filter_flag`].
    pub filters: u32,
    /// The loader's own process, never observed.
    pub own_tgid: u32,
    /// Bytes of one call that are copied at most.
    pub call_share: u32,
    /// Bytes of each turn of a stream that are copied whatever was granted.
    pub first_window: u32,
    /// Bytes waiting in the ring buffer above which the reader is woken.
    pub wake_above: u32,
    /// Size of the ring buffer in bytes.
    pub ring_bytes: u32,
}

/// Bits of [`Settings::filters`]: which maps of filters are asked. What a map does not hold is
/// left out.
pub mod filter_flag {
    /// Processes by number.
    pub const TGID: u32 = 1;
    /// Processes by name.
    pub const NAME: u32 = 2;
    /// Processes by cgroup (version 2), by id.
    pub const CGROUP: u32 = 4;
    /// Connections by network namespace.
    pub const NETNS: u32 = 8;
    /// Connections by port, of either peer.
    pub const PORT: u32 = 16;
    /// Connections by address of either peer.
    pub const CIDR: u32 = 32;
    /// Connections whose peer is on the loopback interface are left out.
    pub const EXTERNAL_ONLY: u32 = 64;
    /// Everything is left out: the loader is about to detach.
    pub const EVERYTHING: u32 = 128;
    /// Processes by the file that they run.
    pub const EXECUTABLE: u32 = 256;
    /// Those that choose processes.
    pub const PROCESSES: u32 = TGID | NAME | CGROUP | EXECUTABLE;
}

/// Counters of the kernel side, one array per processor.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Counter {
    /// Events that found no room in the ring buffer.
    RingFullEvents = 0,
    /// Bytes of them.
    RingFullBytes = 1,
    /// Bytes above the share of a call.
    CallShareBytes = 2,
    /// Bytes beyond the window.
    WindowBytes = 3,
    /// Bytes before the position from which a stream is wanted.
    UnwantedBytes = 4,
    /// Bytes that were not in user memory.
    NotUserMemoryBytes = 5,
    /// Calls and connections for which a map had no room.
    MapFull = 6,
    /// Connections that the filters left out.
    Filtered = 7,
    /// Events of processes that had their share of a ring buffer that was more than half full.
    ShareEvents = 8,
    /// Bytes of them.
    ShareBytes = 9,
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = 10;
}
