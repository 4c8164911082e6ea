//! Where the running kernel keeps the few fields that the programs read: found in its BTF by the
//! loader, written into the programs as a constant.

/// Byte offsets of fields, values of enumerators and numbers of parameters in the running kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Offsets {
    /// `task_struct.files`.
    pub task_files: u32,
    /// `task_struct.group_leader`.
    pub task_group_leader: u32,
    /// `task_struct.comm`.
    pub task_comm: u32,
    /// `task_struct.mm`.
    pub task_mm: u32,
    /// `mm_struct.exe_file`.
    pub mm_exe_file: u32,
    /// `task_struct.thread.fsbase`; 0 in a kernel for another processor.
    pub task_fsbase: u32,
    /// `files_struct.fdt`.
    pub files_fdt: u32,
    /// `fdtable.max_fds`.
    pub fdtable_max_fds: u32,
    /// `fdtable.fd`.
    pub fdtable_fd: u32,
    /// `file.f_inode`.
    pub file_inode: u32,
    /// `file.private_data`.
    pub file_private_data: u32,
    /// `inode.i_mode`.
    pub inode_mode: u32,
    /// `inode.i_ino`.
    pub inode_number: u32,
    /// `inode.i_sb`.
    pub inode_super_block: u32,
    /// `super_block.s_dev`.
    pub super_block_device: u32,
    /// `socket.sk`.
    pub socket_sk: u32,
    /// `socket_alloc.vfs_inode`: where the inode of a socket is, behind the socket.
    pub socket_inode: u32,
    /// `sock_common.skc_family`.
    pub sock_family: u32,
    /// `sock_common.skc_flags`.
    pub sock_flags: u32,
    /// `sock_common.skc_daddr`.
    pub sock_daddr: u32,
    /// `sock_common.skc_rcv_saddr`.
    pub sock_saddr: u32,
    /// `sock_common.skc_dport`.
    pub sock_dport: u32,
    /// `sock_common.skc_num`.
    pub sock_num: u32,
    /// `sock_common.skc_v6_daddr`; 0 in a kernel without IPv6.
    pub sock_v6_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`; 0 in a kernel without IPv6.
    pub sock_v6_saddr: u32,
    /// `sock_common.skc_net`; 0 in a kernel without network namespaces.
    pub sock_net: u32,
    /// `sock.sk_protocol`.
    pub sock_protocol: u32,
    /// `sock.sk_type`.
    pub sock_type: u32,
    /// `sock.sk_socket`.
    pub sock_socket: u32,
    /// `net.ns.inum`.
    pub net_inum: u32,
    /// `tcp_sock.write_seq`.
    pub tcp_write_seq: u32,
    /// `tcp_sock.copied_seq`.
    pub tcp_copied_seq: u32,
    /// `tcp_sock.rcv_nxt`.
    pub tcp_rcv_nxt: u32,
    /// `msghdr.msg_iter`.
    pub msghdr_iter: u32,
    /// `iov_iter.iter_type`, or `iov_iter.type` before Linux 5.14.
    pub iter_type: u32,
    /// Size of that field in bytes: 1 or 4. With 4, its lowest bit is the direction.
    pub iter_type_size: u32,
    /// `iov_iter.iov_offset`.
    pub iter_offset: u32,
    /// `iov_iter.count`.
    pub iter_count: u32,
    /// `iov_iter.__iov`, or `iov_iter.iov` before Linux 6.4.
    pub iter_iov: u32,
    /// `iov_iter.ubuf`; unused where `iter_ubuf_value` is not.
    pub iter_ubuf: u32,
    /// `iov_iter.nr_segs`.
    pub iter_nr_segs: u32,
    /// `ITER_IOVEC`.
    pub iter_iovec_value: u32,
    /// `ITER_UBUF`; `u32::MAX` before Linux 6.0.
    pub iter_ubuf_value: u32,
    /// How many parameters `tcp_recvmsg` has; 0 where that is not known.
    pub tcp_recvmsg_parameters: u32,
    /// `unix_sock.peer`.
    pub unix_peer: u32,
    /// `unix_sock.addr`.
    pub unix_addr: u32,
    /// `unix_address.len`.
    pub unix_address_len: u32,
    /// `unix_address.name`.
    pub unix_address_name: u32,
}
