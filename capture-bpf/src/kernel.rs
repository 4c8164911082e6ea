//! Reading the kernel's structures at the offsets that the loader found.

use core::mem::MaybeUninit;

use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_probe_read_kernel};
use wirespan_capture_abi::{Direction, Role, Tuple};

use crate::maps::offset;

/// `AF_UNIX`, `AF_INET`, `AF_INET6`, `IPPROTO_TCP`, `SOCK_STREAM`.
pub const UNIX: u16 = 1;
pub const INET: u16 = 2;
pub const INET6: u16 = 10;
const TCP: u16 = 6;
const STREAM: u16 = 1;

/// Reads a `T` at `address + offset`.
#[inline(always)]
pub fn read<T: Copy>(address: u64, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper writes `size_of::<T>()` bytes or fails; it checks the source itself.
    unsafe {
        let from = (address + u64::from(offset)) as *const _;
        if bpf_probe_read_kernel(value.as_mut_ptr().cast(), size_of::<T>() as u32, from) != 0 {
            return None;
        }
        Some(value.assume_init())
    }
}

/// The kernel's socket behind a descriptor of the current process.
#[inline(always)]
pub fn socket_of(fd: u32) -> Option<u64> {
    // SAFETY: has no requirements.
    let task = unsafe { bpf_get_current_task() };
    let files: u64 = read(task, offset!(task_files))?;
    let table: u64 = read(files, offset!(files_fdt))?;
    let end: u32 = read(table, offset!(fdtable_max_fds))?;
    if fd >= end {
        return None;
    }
    let array: u64 = read(table, offset!(fdtable_fd))?;
    let file: u64 = read(array + u64::from(fd) * 8, 0)?;
    let inode: u64 = read(file, offset!(file_inode))?;
    let mode: u16 = read(inode, offset!(inode_mode))?;
    // S_ISSOCK
    if mode & 0xf000 != 0xc000 {
        return None;
    }
    let socket: u64 = read(file, offset!(file_private_data))?;
    socket_behind(socket)
}

/// The `struct sock` of a `struct socket`.
#[inline(always)]
pub fn socket_behind(socket: u64) -> Option<u64> {
    read(socket, offset!(socket_sk)).filter(|sock| *sock != 0)
}

/// Address family of a socket.
#[inline(always)]
pub fn family(sock: u64) -> u16 {
    read(sock, offset!(sock_family)).unwrap_or(0)
}

/// Whether a socket is one whose streams are observed.
#[inline(always)]
pub fn is_stream(sock: u64, family: u16) -> bool {
    match family {
        INET | INET6 => is_tcp(sock),
        UNIX => read::<u16>(sock, offset!(sock_type)) == Some(STREAM),
        _ => false,
    }
}

/// Whether a socket of an internet family speaks TCP.
#[inline(always)]
pub fn is_tcp(sock: u64) -> bool {
    // An eighth of a word in old kernels, a whole one since 5.6: the low byte is the number in both.
    read::<u16>(sock, offset!(sock_protocol)) == Some(TCP)
}

/// Sequence number of a TCP stream: of the next byte that the process will send, or of the next
/// that it will receive.
#[inline(always)]
pub fn sequence(sock: u64, direction: Direction) -> u32 {
    match direction {
        Direction::Sent => read(sock, offset!(tcp_write_seq)),
        Direction::Received => read(sock, offset!(tcp_copied_seq)),
    }
    .unwrap_or(0)
}

/// Whether the peer's FIN has arrived (`SOCK_DONE`).
#[inline(always)]
pub fn is_done(sock: u64) -> bool {
    read::<u64>(sock, offset!(sock_flags)).unwrap_or(0) & 2 != 0
}

/// Sequence number of the next byte that the kernel expects from the peer.
#[inline(always)]
pub fn expected(sock: u64) -> u32 {
    read(sock, offset!(tcp_rcv_nxt)).unwrap_or(0)
}

/// Inode number of a socket.
#[inline(always)]
pub fn inode_number(sock: u64) -> u64 {
    let socket: u64 = read(sock, offset!(sock_socket)).unwrap_or(0);
    read(
        socket + u64::from(offset!(socket_inode)),
        offset!(inode_number),
    )
    .unwrap_or(0)
}

/// The socket at the other end of a Unix socket.
#[inline(always)]
pub fn unix_peer(sock: u64) -> Option<u64> {
    read(sock, offset!(unix_peer)).filter(|peer| *peer != 0)
}

/// Who opened the connection of a Unix socket: an accepted socket has the address of the one that
/// listened.
#[inline(always)]
pub fn unix_role(sock: u64) -> Role {
    if read::<u64>(sock, offset!(unix_addr)).unwrap_or(0) != 0 {
        return Role::Server;
    }
    let peer: u64 = read(sock, offset!(unix_peer)).unwrap_or(0);
    if peer != 0 && read::<u64>(peer, offset!(unix_addr)).unwrap_or(0) != 0 {
        return Role::Client;
    }
    Role::Unknown
}

/// Addresses of a connection.
#[inline(always)]
pub fn tuple(sock: u64, family: u16, role: Role) -> Tuple {
    let mut tuple = Tuple {
        family,
        role: role as u8,
        ..Tuple::default()
    };
    let net: u64 = read(sock, offset!(sock_net)).unwrap_or(0);
    tuple.netns = read(net, offset!(net_inum)).unwrap_or(0);
    if family == UNIX {
        return tuple;
    }
    tuple.local_port = read(sock, offset!(sock_num)).unwrap_or(0);
    tuple.remote_port = u16::from_be(read(sock, offset!(sock_dport)).unwrap_or(0));
    if family == INET6 {
        tuple.local = read(sock, offset!(sock_v6_saddr)).unwrap_or_default();
        tuple.remote = read(sock, offset!(sock_v6_daddr)).unwrap_or_default();
    } else {
        let local: [u8; 4] = read(sock, offset!(sock_saddr)).unwrap_or_default();
        let remote: [u8; 4] = read(sock, offset!(sock_daddr)).unwrap_or_default();
        tuple.local[..4].copy_from_slice(&local);
        tuple.remote[..4].copy_from_slice(&remote);
    }
    tuple
}

/// Name of the current process: of its first thread.
#[inline(always)]
pub fn process_name() -> [u8; 16] {
    // SAFETY: has no requirements.
    let task = unsafe { bpf_get_current_task() };
    let leader: u64 = read(task, offset!(task_group_leader)).unwrap_or(task);
    read(leader, offset!(task_comm)).unwrap_or_default()
}
