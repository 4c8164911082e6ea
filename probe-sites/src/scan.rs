//! What a scan yields: libraries, their functions, the places for probes.

use std::borrow::Cow;

use crate::go::GoOffsets;
use crate::reason::Reason;

/// What [`crate::scan()`] found in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// What the file was compiled for; `None` if it is no ELF file.
    pub machine: Option<Machine>,
    /// The linker's build id, if it left one.
    pub build_id: Option<BuildId>,
    /// TLS libraries in this file with functions that can be probed.
    pub found: Vec<Library>,
    /// For a program of Go, with or without TLS: what is known of its goroutines.
    pub goroutines: Option<Goroutines>,
    /// Why nothing, or not everything, can be probed.
    pub reasons: Vec<Reason>,
}

/// Goroutines of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goroutines {
    /// Where `runtime.g` has `goid`, of 8 bytes; `None` where the layout of this version is not
    /// known.
    pub goid: Option<u16>,
}

/// What a file was compiled for. Sites are found for [`Machine::X86_64`] only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Machine {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// Anything else: ELF's `e_machine`; also a known machine's 32-bit kind.
    Other(u16),
}

/// The linker's build id: what the code is, whatever the file is called.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BuildId {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl BuildId {
    /// Longest that is kept; SHA-1 has 20 bytes.
    const MAX: usize = 32;

    /// `None` if empty or longer than any that linkers make.
    pub(crate) fn new(id: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..id.len())?.copy_from_slice(id);
        let len = u8::try_from(id.len()).ok().filter(|len| *len > 0)?;
        Some(Self { bytes, len })
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// One TLS implementation in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Library {
    /// Whose it is.
    pub family: Family,
    /// Its version as it says itself (`3.0.19`, `go1.24.3`), or what its symbols' versions imply (`≥ 3.0.3`).
    pub version: Option<String>,
    /// Its functions that were found and can be probed; each at most once for each address.
    pub functions: Vec<Function>,
    /// For Go, where structures hold what leads from a connection to its descriptor.
    pub go: Option<GoOffsets>,
}

/// A TLS implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// OpenSSL 1.0.2 and later.
    OpenSsl,
    /// BoringSSL.
    BoringSsl,
    /// LibreSSL.
    LibreSsl,
    /// GnuTLS 3.
    GnuTls,
    /// Go's `crypto/tls`.
    Go,
}

/// A function of a library, and where probes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// What it does, hence what its arguments are.
    pub role: Role,
    /// Its symbol. Several names of one address are one function.
    pub name: Cow<'static, str>,
    /// Its first instruction: where a uretprobe goes.
    pub start: Site,
    /// Where a uprobe finds the arguments in the registers of the calling convention.
    ///
    /// It fires once for each call, on whatever way the call takes. Where the exit is a uretprobe, it
    /// is at [`Function::start`], so that one trap serves both. In Go it fires again when the
    /// stack had to grow, with the same arguments and no exit in between.
    pub entry: Site,
    /// Where the call's result is seen.
    pub exits: Exits,
    /// Every return instruction, where the result is in `rax`: an exact substitute for a uretprobe.
    /// Empty if it is not certain that these are all, or if the call may end with a jump to another
    /// function.
    pub returns: Vec<Site>,
}

/// What a function does. Arguments are numbered from 0 (`rdi`, `rsi`, `rdx`, `rcx`, `r8`; in Go
/// `rax`, `rbx`, `rcx`, `rdi`); the first is always the connection.
///
/// Calls nest: BoringSSL's `SSL_read` calls `SSL_peek`, early data goes through `SSL_write_ex`.
/// What the outermost call of a thread moves is what was moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// `(connection, bytes, count)`: encrypts and sends; `SSL_write`, `gnutls_record_send`.
    Write,
    /// `(connection, buffer, room)`: receives and decrypts; `SSL_read`, `gnutls_record_recv`.
    Read,
    /// `(connection, bytes, count, &written)`: `SSL_write_ex`.
    WriteEx,
    /// `(connection, bytes, count, flags, &written)`: `SSL_write_ex2` of OpenSSL 3.3.
    WriteEx2,
    /// `(connection, buffer, room, &read)`: `SSL_read_ex`.
    ReadEx,
    /// As [`Role::Read`], and the bytes are read again later.
    Peek,
    /// As [`Role::ReadEx`], and the bytes are read again later.
    PeekEx,
    /// As [`Role::WriteEx`], before the handshake is finished: `SSL_write_early_data`.
    WriteEarly,
    /// As [`Role::ReadEx`], and returns 0 for an error, 1 for data, 2 for their end: `SSL_read_early_data`.
    ReadEarly,
    /// `(connection, descriptor, offset, count, flags)`: `SSL_sendfile`, with TLS in the kernel.
    Sendfile,
    /// `(connection, descriptor)`: `SSL_set_fd`.
    SetFd,
    /// `(connection, descriptor)`, for reading only: `SSL_set_rfd`.
    SetReadFd,
    /// `(connection, descriptor)`, for writing only: `SSL_set_wfd`.
    SetWriteFd,
    /// `(connection, descriptor to read, descriptor to write)`: `gnutls_transport_set_int2`.
    SetFds,
    /// `(connection)`: `SSL_do_handshake`, `gnutls_handshake`.
    Handshake,
    /// `(connection)`: a client's handshake; `SSL_connect`.
    Connect,
    /// `(connection)`: a server's handshake; `SSL_accept`.
    Accept,
    /// `(connection)`: says goodbye; `SSL_shutdown`, `gnutls_bye`, Go's `Close`.
    Shutdown,
    /// `(connection)`: the connection is gone after this; `SSL_free`, `gnutls_deinit`.
    Free,
    /// Go: `(connection, type of record, bytes, count)`, called under the lock of the connection, so in
    /// the order of the stream: `writeRecordLocked`. Data have type 23. Its entry is a conditional
    /// jump that is taken when the stack has to grow; then it fires again.
    GoWriteRecord,
    /// Go: `runtime.newproc1(function, parent, …)` returns the new goroutine.
    GoSpawn,
    /// Go: the goroutine that runs this ends: `runtime.goexit1`, called by every goroutine at its end.
    GoExit,
}

/// What a call's result says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Returns {
    /// Nothing that matters: no exit is sought.
    Nothing,
    /// A count of bytes if positive; 32 bits, signed.
    Count32,
    /// A count of bytes if positive; 64 bits, signed.
    Count64,
    /// Success if positive (32 bits, signed), and then the count, 64 bits, is where that argument points to.
    CountAt(u8),
    /// Success if positive; 32 bits, signed.
    Positive,
    /// Success if zero; 32 bits, signed.
    Zero,
    /// A pointer.
    Pointer,
}

/// Where to put a uprobe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// Place in the file, in bytes from its beginning.
    pub file_offset: u64,
    /// Address as the file says; a position-independent one is moved when it is loaded.
    pub address: u64,
    /// What stands there, hence what a probe costs.
    pub instruction: Instruction,
    /// How many bytes `rsp` is below its value at the function's first instruction, where it
    /// points to the return address; `None` if that is not known.
    pub stack_shift: Option<u32>,
}

/// An instruction under a probe, by how Linux runs it (`arch/x86/kernel/uprobes.c`): all but
/// [`Instruction::Stepped`] are emulated, the others are run out of line with a debug exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instruction {
    /// `nop` of one byte.
    Nop,
    /// `push` of a register.
    Push,
    /// `call` of a fixed place. The probe fires before the call.
    Call,
    /// `jmp` to a fixed place.
    Jump,
    /// A conditional jump. The probe fires before it is decided.
    Branch(Condition),
    /// Any other.
    Stepped,
}

impl Instruction {
    /// Whether the kernel emulates it, which is some ten times cheaper than to step over it.
    #[must_use]
    pub fn emulated(self) -> bool {
        self != Self::Stepped
    }
}

/// The condition of a jump: the low four bits of its opcode (Intel SDM volume 2, appendix B.1.4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Condition(pub u8);

/// Where a call's result is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exits {
    /// The result does not matter.
    Unneeded,
    /// Every call ends with a jump into that other function of the library, whose probes see its
    /// arguments and its result: this one needs no probe.
    Forwards(Cow<'static, str>),
    /// Probes on all of these see it: every call whose result matters (see [`Returns`]) passes
    /// exactly one that has a value for the way it takes. Calls that fail may pass none.
    Sites(Vec<ExitSite>),
    /// Only a uretprobe at [`Function::start`] is known to see it, or it is the cheaper.
    Uretprobe(Why),
}

/// Why a uretprobe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// The call may end with a jump into another function, whose result it then returns.
    TailCall,
    /// The code was not understood as a whole: a jump through a table, an unknown instruction, no size.
    NotUnderstood,
    /// The first instruction is emulated, every return must be stepped over.
    Cheaper,
}

/// A place where a call's result is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitSite {
    /// The place.
    pub site: Site,
    /// The result there; if `site` is a [`Instruction::Branch`] with another result on either way,
    /// that of the way on which the jump is not taken.
    pub value: Value,
    /// The result if the jump is taken (its condition holds), where that is another.
    pub if_taken: Option<Value>,
}

/// Where the result of a call is. The low 32 bits of it count where [`Returns`] says 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// In a register.
    Register(Register),
    /// In memory, so many bytes above `rsp`.
    Stack(i32),
    /// It is this.
    Constant(i32),
    /// Not to be told here: the call failed, or will pass another site.
    Nothing,
}

/// A general register, numbered as in instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "their names are all there is to say")]
pub enum Register {
    Rax,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl Register {
    /// All, in order.
    pub(crate) const ALL: [Self; 16] = [
        Self::Rax,
        Self::Rcx,
        Self::Rdx,
        Self::Rbx,
        Self::Rsp,
        Self::Rbp,
        Self::Rsi,
        Self::Rdi,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
    ];
}

impl Role {
    /// How many arguments must still be in place where the entry probe fires.
    #[must_use]
    pub fn arguments(self) -> u8 {
        match self {
            Self::Write | Self::Read | Self::Peek | Self::SetFds => 3,
            Self::WriteEx
            | Self::ReadEx
            | Self::PeekEx
            | Self::WriteEarly
            | Self::ReadEarly
            | Self::GoWriteRecord => 4,
            Self::WriteEx2 | Self::Sendfile => 5,
            Self::SetFd | Self::SetReadFd | Self::SetWriteFd | Self::GoSpawn => 2,
            Self::Handshake | Self::Connect | Self::Accept | Self::Shutdown | Self::Free => 1,
            Self::GoExit => 0,
        }
    }

    /// What its result says, in a library of that family.
    #[must_use]
    pub fn returns(self, family: Family) -> Returns {
        let c_int = matches!(
            family,
            Family::OpenSsl | Family::BoringSsl | Family::LibreSsl
        );
        match self {
            Self::Write | Self::Read | Self::Peek if c_int => Returns::Count32,
            Self::Write | Self::Read | Self::Peek | Self::Sendfile => Returns::Count64,
            Self::WriteEx | Self::ReadEx | Self::PeekEx | Self::WriteEarly | Self::ReadEarly => {
                Returns::CountAt(3)
            }
            Self::WriteEx2 => Returns::CountAt(4),
            Self::Handshake | Self::Connect | Self::Accept if c_int => Returns::Positive,
            Self::Handshake | Self::Connect | Self::Accept => Returns::Zero,
            Self::GoSpawn => Returns::Pointer,
            Self::SetFd
            | Self::SetReadFd
            | Self::SetWriteFd
            | Self::SetFds
            | Self::Shutdown
            | Self::Free
            | Self::GoWriteRecord
            | Self::GoExit => Returns::Nothing,
        }
    }
}
