//! Reading the kernel's structures at the offsets that the loader found.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
use wirespan_capture_abi::{Direction, Executable, Role, Tuple};

use crate::maps::offset;

/// `AF_UNIX`, `AF_INET`, `AF_INET6`, `IPPROTO_TCP`, `SOCK_STREAM`.
pub const UNIX: u16 = 1;
pub const INET: u16 = 2;
pub const INET6: u16 = 10;
const TCP: u16 = 6;
const STREAM: u16 = 1;

/// What every bit pattern is a value of.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl Plain for i32 {}
impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Reads a `T` at `address + offset`; zeros where there is nothing to read.
///
/// So there is no failure to look at, and no fork in the way of the verifier: a chain of reads that
/// fails in its middle goes on from address zero, where nothing is, and ends in zero.
#[inline(always)]
pub fn read<T: Plain>(address: u64, offset: u32) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes, zeros if it fails; it checks the source
    // itself.
    unsafe {
        let from = (address + u64::from(offset)) as *const _;
        bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from);
        value.assume_init()
    }
}

/// The kernel's socket behind a descriptor of the current process.
#[inline(always)]
pub fn socket_of(fd: u32) -> Option<u64> {
    // SAFETY: has no requirements.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read(task, offset!(task_files));
    let table: u64 = read(files, offset!(files_fdt));
    let end: u32 = read(table, offset!(fdtable_max_fds));
    if fd >= end {
        return None;
    }
    let array: u64 = read(table, offset!(fdtable_fd));
    let file: u64 = read(array + u64::from(fd) * 8, 0);
    let inode: u64 = read(file, offset!(file_inode));
    let mode: u16 = read(inode, offset!(inode_mode));
    // S_ISSOCK
    if mode & 0xf000 != 0xc000 {
        return None;
    }
    socket_behind(read(file, offset!(file_private_data)))
}

/// The `struct sock` of a `struct socket`.
#[inline(always)]
pub fn socket_behind(socket: u64) -> Option<u64> {
    Some(read(socket, offset!(socket_sk))).filter(|sock| *sock != 0)
}

/// Address family of a socket.
#[inline(always)]
pub fn family(sock: u64) -> u16 {
    read(sock, offset!(sock_family))
}

/// Whether a socket is one whose streams are observed.
#[inline(always)]
pub fn is_stream(sock: u64, family: u16) -> bool {
    match family {
        INET | INET6 => is_tcp(sock),
        UNIX => read::<u16>(sock, offset!(sock_type)) == STREAM,
        _ => false,
    }
}

/// Whether a socket of an internet family speaks TCP.
#[inline(always)]
pub fn is_tcp(sock: u64) -> bool {
    // An eighth of a word in old kernels, a whole one since 5.6: the low byte is the number in both.
    read::<u16>(sock, offset!(sock_protocol)) == TCP
}

/// Sequence number of a TCP stream: of the next byte that the process will send, or of the next
/// that it will receive.
#[inline(always)]
pub fn sequence(sock: u64, direction: Direction) -> u32 {
    let field = match direction {
        Direction::Sent => offset!(tcp_write_seq),
        Direction::Received => offset!(tcp_copied_seq),
    };
    read(sock, field)
}

/// Whether the peer's FIN has arrived (`SOCK_DONE`).
#[inline(always)]
pub fn is_done(sock: u64) -> bool {
    read::<u64>(sock, offset!(sock_flags)) & 2 != 0
}

/// Sequence number of the next byte that the kernel expects from the peer.
#[inline(always)]
pub fn expected(sock: u64) -> u32 {
    read(sock, offset!(tcp_rcv_nxt))
}

/// Inode number of a socket.
#[inline(always)]
pub fn inode_number(sock: u64) -> u64 {
    let socket: u64 = read(sock, offset!(sock_socket));
    if socket == 0 {
        return 0;
    }
    read(
        socket + u64::from(offset!(socket_inode)),
        offset!(inode_number),
    )
}

/// The socket at the other end of a Unix socket.
#[inline(always)]
pub fn unix_peer(sock: u64) -> Option<u64> {
    Some(read(sock, offset!(unix_peer))).filter(|peer| *peer != 0)
}

/// Who opened the connection of a Unix socket: an accepted socket has the address of the one that
/// listened.
#[inline(always)]
pub fn unix_role(sock: u64) -> Role {
    if read::<u64>(sock, offset!(unix_addr)) != 0 {
        return Role::Server;
    }
    match unix_peer(sock) {
        Some(peer) if read::<u64>(peer, offset!(unix_addr)) != 0 => Role::Client,
        _ => Role::Unknown,
    }
}

/// Where the name of a Unix socket is (`sun_path`), and how many bytes it has; none if it has no
/// name.
#[inline(always)]
pub fn unix_name(sock: u64) -> (u64, u32) {
    let address: u64 = read(sock, offset!(unix_addr));
    let len: u32 = read(address, offset!(unix_address_len));
    // Before the name stands the family.
    let family = size_of::<u16>() as u32;
    let name = address + u64::from(offset!(unix_address_name)) + u64::from(family);
    (name, len.saturating_sub(family))
}

/// Addresses of a connection.
#[inline(always)]
pub fn tuple(sock: u64, family: u16, role: Role) -> Tuple {
    let mut tuple = Tuple {
        family,
        role: role as u8,
        ..Tuple::default()
    };
    tuple.netns = read(read(sock, offset!(sock_net)), offset!(net_inum));
    if family == UNIX {
        return tuple;
    }
    tuple.local_port = read(sock, offset!(sock_num));
    tuple.remote_port = u16::from_be(read(sock, offset!(sock_dport)));
    if family == INET6 {
        tuple.local = read(sock, offset!(sock_v6_saddr));
        tuple.remote = read(sock, offset!(sock_v6_daddr));
    } else {
        tuple.local = mapped(read(sock, offset!(sock_saddr)));
        tuple.remote = mapped(read(sock, offset!(sock_daddr)));
    }
    tuple
}

/// IPv4, in network order, as an address of IPv6.
#[inline(always)]
fn mapped(address: u32) -> [u8; 16] {
    // SAFETY: both are 16 bytes.
    unsafe { core::mem::transmute([0, 0, 0xffff_u32.to_be(), address]) }
}

/// Where the current thread's own memory is (`fs`); 0 where that is not known.
#[inline(always)]
pub fn thread_base() -> u64 {
    let field = offset!(task_fsbase);
    if field == 0 {
        return 0;
    }
    // SAFETY: has no requirements.
    read(unsafe { bpf_get_current_task() }, field)
}

/// Name of the current process: of its first thread.
#[inline(always)]
pub fn process_name() -> [u8; 16] {
    // SAFETY: has no requirements.
    let task = unsafe { bpf_get_current_task() };
    let leader: u64 = read(task, offset!(task_group_leader));
    read(leader, offset!(task_comm))
}

/// The file that the current process runs; zeros in a kernel thread. It changes with an exec alone,
/// after which the process is asked anew.
#[inline(always)]
pub fn executable() -> Executable {
    // SAFETY: has no requirements.
    let task = unsafe { bpf_get_current_task() };
    let memory: u64 = read(task, offset!(task_mm));
    let file: u64 = read(memory, offset!(mm_exe_file));
    let inode: u64 = read(file, offset!(file_inode));
    let super_block: u64 = read(inode, offset!(inode_super_block));
    Executable {
        inode: read(inode, offset!(inode_number)),
        device: read(super_block, offset!(super_block_device)),
        reserved: 0,
    }
}
