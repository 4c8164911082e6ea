//! Events: what the kernel programs write into the ring buffer.

/// Length of a [`Header`] in bytes.
pub const HEADER_LEN: usize = size_of::<Header>();

/// Room for payload in the records of the ring buffer: a record takes the smallest class that
/// holds its payload, so that a short request does not cost a long record.
pub const PAYLOAD_CLASSES: [usize; 5] = [0, 192, 960, 4_032, 16_320];

/// Bytes of payload that one event carries at most.
pub const LARGEST_PAYLOAD: usize = PAYLOAD_CLASSES[4];

/// Begins every event; `len` bytes of payload follow, and then what is left of its size class.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Header {
    /// An [`EventKind`].
    pub kind: u8,
    /// A [`Direction`]: of the bytes, or of the stream that ended.
    pub direction: u8,
    /// A [`Layer`].
    pub layer: u8,
    /// Bits of [`flag`].
    pub flags: u8,
    /// Bytes of payload that follow.
    pub len: u32,
    /// When, in nanoseconds of `CLOCK_MONOTONIC`: bytes sent are as old as the call that sent them,
    /// bytes received as young as the return of the call that received them.
    pub time: u64,
    /// Address of the kernel's socket: the key of its [`Connection`](crate::Connection). With
    /// [`Layer::Tls`], address of the TLS library's object: with `tgid`, the key of its
    /// [`Session`](crate::Session).
    pub sock: u64,
    /// [`Connection::born`](crate::Connection::born): with `sock` names the connection, since
    /// addresses are used again.
    pub born: u64,
    /// Position of the first byte in its stream; of its end, for [`EventKind::End`]. For
    /// [`EventKind::Close`] and [`EventKind::Open`], position of the stream that is sent.
    pub position: u64,
    /// How far the stream of the other direction had come when this was seen.
    pub other: u64,
    /// Bytes from `position` on that this event stands for. Those after the first `len` were not
    /// copied.
    pub moved: u32,
    /// The process, as the initial pid namespace numbers it; 0 where it is not known.
    pub tgid: u32,
    /// Who did it: the thread, or, in a program of Go whose layout is known ([`GOROUTINE`]), the
    /// goroutine. 0 where that is not known.
    pub task: u32,
    /// Zero.
    pub reserved: u32,
}

/// Bit of [`Header::task`] by which goroutines are told from threads; the others are the low bits of
/// the goroutine's number.
pub const GOROUTINE: u32 = 1 << 31;

/// What happened.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// Bytes moved between a socket and a process. Payload: the bytes.
    Data = 1,
    /// A connection was established, or met for the first time. Payload: a [`Tuple`]; of a Unix
    /// socket, [`UnixEnds`].
    Open = 2,
    /// The stream of `direction` ends at `position`.
    End = 3,
    /// The connection is gone.
    Close = 4,
    /// A thread was met for the first time. Payload: the process' name, 16 bytes, padded with
    /// zeros.
    Process = 5,
    /// A process runs another program from now on.
    Exec = 6,
    /// A process ended.
    Exit = 7,
    /// The socket of a TLS session is known. `sock` and `born` are the session's object and its
    /// [`Session::born`](crate::Session::born). Payload: a [`Binding`](crate::Binding).
    Bind = 8,
    /// A TLS session is gone. `sock` and `born` as above.
    Unbind = 9,
    /// A process has mapped code of a file.
    Mapped = 10,
}

/// Direction of bytes, seen from the process whose socket is observed.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the process to its peer.
    Sent = 0,
    /// From the peer to the process.
    Received = 1,
}

/// Where bytes were seen.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layer {
    /// At the socket.
    Socket = 0,
    /// At a TLS library, in the clear.
    Tls = 1,
}

/// Bits of [`Header::flags`].
pub mod flag {
    /// The bytes were not in user memory (sendfile, splice, registered buffers).
    pub const NOT_USER_MEMORY: u8 = 1;
    /// The bytes were in user memory that could not be read.
    pub const UNREADABLE: u8 = 2;
    /// The bytes beyond those copied were above the share of a call, or beyond the window.
    pub const CUT: u8 = 4;
    /// Of [`EventKind::Close`](super::EventKind::Close): neither peer had ended its stream.
    pub const RESET: u8 = 8;
    /// Of [`EventKind::Exec`](super::EventKind::Exec): the program is the same, by another name.
    pub const RENAMED: u8 = 16;
    /// Of cleartext: its session's socket was known, and told of before.
    pub const BOUND: u8 = 32;
}

/// Who opened a connection.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Not known: the connection was open before.
    Unknown = 0,
    /// The observed socket's owner.
    Client = 1,
    /// The peer.
    Server = 2,
}

/// Addresses of a connection. Of Unix sockets, which have names, the family and what follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tuple {
    /// Address of the observed socket, in network order; IPv4 as a mapped address of IPv6.
    pub local: [u8; 16],
    /// Address of the peer.
    pub remote: [u8; 16],
    /// Port of the observed socket, a number.
    pub local_port: u16,
    /// Port of the peer, a number.
    pub remote_port: u16,
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    pub family: u16,
    /// A [`Role`].
    pub role: u8,
    /// Whether the connection was met in its middle.
    pub midstream: u8,
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Zero.
    pub reserved: u32,
}

/// A connection of Unix sockets.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UnixEnds {
    /// What any connection has.
    pub tuple: Tuple,
    /// Name of the observed socket.
    pub local: UnixName,
    /// Name of its peer.
    pub remote: UnixName,
}

/// Name of a Unix socket: a path, or a zero and an abstract name.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UnixName {
    /// Bytes of `path`, at most as many as it has; 0 if the socket has no name.
    pub len: u32,
    /// `sun_path`.
    pub path: [u8; UnixName::LONGEST],
}

impl UnixName {
    /// Bytes that a name has at most.
    pub const LONGEST: usize = 108;
}
