//! Where the running kernel keeps what the kernel programs read, from its BTF.
//!
//! Fields are looked up by name and their sizes checked: a kernel that moved a field is followed,
//! one that changed its meaning is refused rather than misread.

use wirespan_capture_abi::Offsets;

use crate::btf::{Btf, BtfError};

/// Size of a pointer, of `long` and of `size_t`, in the kernel as here.
const WORD: u32 = size_of::<usize>() as u32;

/// All offsets that the kernel programs need, for Linux 5.8 and later.
///
/// # Errors
///
/// When the kernel lacks one of the fields, or has it in a size that the programs do not read. The
/// error names it.
pub fn offsets(btf: &Btf<'_>) -> Result<Offsets, BtfError> {
    let mut offsets = Offsets::default();
    files(btf, &mut offsets)?;
    sockets(btf, &mut offsets)?;
    tcp(btf, &mut offsets)?;
    iterator(btf, &mut offsets)?;
    Ok(offsets)
}

/// From a thread to its process, its files and their sockets.
fn files(btf: &Btf<'_>, offsets: &mut Offsets) -> Result<(), BtfError> {
    offsets.task_files = field(btf, "task_struct", "files", WORD)?;
    offsets.task_group_leader = field(btf, "task_struct", "group_leader", WORD)?;
    offsets.task_comm = field(btf, "task_struct", "comm", 16)?;
    offsets.task_mm = field(btf, "task_struct", "mm", WORD)?;
    offsets.mm_exe_file = field(btf, "mm_struct", "exe_file", WORD)?;
    // The name of a processor's own field.
    offsets.task_fsbase = optional(btf, "task_struct", "thread.fsbase", WORD)?.unwrap_or_default();
    offsets.files_fdt = field(btf, "files_struct", "fdt", WORD)?;
    offsets.fdtable_max_fds = field(btf, "fdtable", "max_fds", 4)?;
    offsets.fdtable_fd = field(btf, "fdtable", "fd", WORD)?;
    offsets.file_inode = field(btf, "file", "f_inode", WORD)?;
    offsets.file_private_data = field(btf, "file", "private_data", WORD)?;
    offsets.inode_mode = field(btf, "inode", "i_mode", 2)?;
    offsets.inode_number = field(btf, "inode", "i_ino", WORD)?;
    offsets.inode_super_block = field(btf, "inode", "i_sb", WORD)?;
    offsets.super_block_device = field(btf, "super_block", "s_dev", 4)?;
    offsets.socket_sk = field(btf, "socket", "sk", WORD)?;
    offsets.socket_inode = btf.offset("socket_alloc", "vfs_inode")?;
    Ok(())
}

/// What a socket is, and its addresses.
fn sockets(btf: &Btf<'_>, offsets: &mut Offsets) -> Result<(), BtfError> {
    const COMMON: &str = "sock_common";
    offsets.sock_family = field(btf, COMMON, "skc_family", 2)?;
    offsets.sock_flags = field(btf, COMMON, "skc_flags", WORD)?;
    offsets.sock_daddr = field(btf, COMMON, "skc_daddr", 4)?;
    offsets.sock_saddr = field(btf, COMMON, "skc_rcv_saddr", 4)?;
    offsets.sock_dport = field(btf, COMMON, "skc_dport", 2)?;
    offsets.sock_num = field(btf, COMMON, "skc_num", 2)?;
    if let Some(daddr) = optional(btf, COMMON, "skc_v6_daddr", 16)? {
        offsets.sock_v6_daddr = daddr;
        offsets.sock_v6_saddr = field(btf, COMMON, "skc_v6_rcv_saddr", 16)?;
    }
    // Without network namespaces its type, `possible_net_t`, is empty.
    if btf.size(COMMON, "skc_net")? != 0 {
        offsets.sock_net = field(btf, COMMON, "skc_net", WORD)?;
    }
    offsets.sock_protocol = field(btf, "sock", "sk_protocol", 2)?;
    offsets.sock_type = field(btf, "sock", "sk_type", 2)?;
    offsets.sock_socket = field(btf, "sock", "sk_socket", WORD)?;
    offsets.net_inum = field(btf, "net", "ns.inum", 4)?;
    offsets.unix_peer = field(btf, "unix_sock", "peer", WORD)?;
    offsets.unix_addr = field(btf, "unix_sock", "addr", WORD)?;
    offsets.unix_address_len = field(btf, "unix_address", "len", 4)?;
    offsets.unix_address_name = btf.offset("unix_address", "name")?;
    Ok(())
}

/// How far the streams of a TCP socket have come.
fn tcp(btf: &Btf<'_>, offsets: &mut Offsets) -> Result<(), BtfError> {
    offsets.tcp_write_seq = field(btf, "tcp_sock", "write_seq", 4)?;
    offsets.tcp_copied_seq = field(btf, "tcp_sock", "copied_seq", 4)?;
    offsets.tcp_rcv_nxt = field(btf, "tcp_sock", "rcv_nxt", 4)?;
    let parameters = btf.parameters("tcp_recvmsg").unwrap_or_default();
    offsets.tcp_recvmsg_parameters = parameters.len() as u32;
    Ok(())
}

/// Where the memory is that a message is sent from or received into.
fn iterator(btf: &Btf<'_>, offsets: &mut Offsets) -> Result<(), BtfError> {
    const ITER: &str = "iov_iter";
    offsets.msghdr_iter = btf.offset("msghdr", "msg_iter")?;
    (offsets.iter_type, offsets.iter_type_size) = match optional(btf, ITER, "iter_type", 1)? {
        Some(offset) => (offset, 1),
        None => (field(btf, ITER, "type", 4)?, 4), // Before Linux 5.14.
    };
    offsets.iter_offset = field(btf, ITER, "iov_offset", WORD)?;
    offsets.iter_count = field(btf, ITER, "count", WORD)?;
    offsets.iter_iov = match optional(btf, ITER, "__iov", WORD)? {
        Some(offset) => offset,
        None => field(btf, ITER, "iov", WORD)?, // Before Linux 6.4.
    };
    offsets.iter_nr_segs = field(btf, ITER, "nr_segs", WORD)?;
    let value = |name| btf.enumerator("iter_type", name);
    offsets.iter_iovec_value = value("ITER_IOVEC").ok_or_else(|| BtfError::NoField {
        type_name: "iter_type".into(),
        field: "ITER_IOVEC".into(),
    })?;
    offsets.iter_ubuf_value = u32::MAX;
    if let Some(ubuf) = value("ITER_UBUF") {
        offsets.iter_ubuf_value = ubuf;
        offsets.iter_ubuf = field(btf, ITER, "ubuf", WORD)?;
    }
    Ok(())
}

/// Offset of a field that must have `expected` bytes.
fn field(
    btf: &Btf<'_>,
    type_name: &'static str,
    field: &'static str,
    expected: u32,
) -> Result<u32, BtfError> {
    let found = btf.field(type_name, field)?;
    if found.size != expected {
        return Err(BtfError::Size {
            type_name,
            field,
            size: found.size,
            expected,
        });
    }
    Ok(found.offset)
}

/// Like [`field`], for one that not every kernel has.
fn optional(
    btf: &Btf<'_>,
    type_name: &'static str,
    name: &'static str,
    expected: u32,
) -> Result<Option<u32>, BtfError> {
    match field(btf, type_name, name, expected) {
        Err(BtfError::NoField { .. }) => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::sample::{Sample, Ty};

    /// The structs around `iov_iter`, all fields in the order in which they are listed.
    fn kernel(sample: &mut Sample, without: &str) {
        let [short, int] = [2, 4].map(|size| sample.int("number", size));
        let char = sample.int("char", 1);
        let pointer = sample.pointer(int);
        let comm = sample.array(char, 16);
        let in6_addr = sample.structure("in6_addr", 16, &[]);
        let possible_net = sample.structure("", 8, &[("net", pointer, 0)]);
        let possible_net = sample.typedef("possible_net_t", possible_net);
        let no_net = sample.structure("no_net", 0, &[]);
        let ns = sample.structure("ns_common", 16, &[("ops", pointer, 0), ("inum", int, 8)]);
        let thread = sample.structure("thread_struct", 64, &[("fsbase", pointer, 40)]);
        let net = if without == "namespaces" {
            no_net
        } else {
            possible_net
        };
        let mut structure = |name, fields: &[(&str, Ty, u32)]| {
            let fields: Vec<_> = fields
                .iter()
                .filter(|(field, ..)| !without.split(' ').any(|without| without == *field))
                .copied()
                .collect();
            sample.structure(name, 256, &fields)
        };
        structure(
            "task_struct",
            &[
                ("thread", thread, 64),
                ("files", pointer, 8),
                ("group_leader", pointer, 16),
                ("comm", comm, 24),
                ("mm", pointer, 48),
            ],
        );
        structure("mm_struct", &[("exe_file", pointer, 56)]);
        structure("super_block", &[("s_dev", int, 16)]);
        structure("files_struct", &[("fdt", pointer, 32)]);
        structure("fdtable", &[("max_fds", int, 0), ("fd", pointer, 8)]);
        structure(
            "file",
            &[("f_inode", pointer, 40), ("private_data", pointer, 48)],
        );
        let inode = structure(
            "inode",
            &[
                ("i_mode", short, 2),
                ("i_sb", pointer, 40),
                ("i_ino", pointer, 64),
            ],
        );
        structure("socket", &[("sk", pointer, 24)]);
        structure("socket_alloc", &[("vfs_inode", inode, 128)]);
        structure(
            "sock_common",
            &[
                ("skc_daddr", int, 4),
                ("skc_rcv_saddr", int, 8),
                ("skc_dport", short, 12),
                ("skc_num", short, 14),
                ("skc_family", short, 16),
                ("skc_flags", pointer, 32),
                ("skc_net", net, 48),
                ("skc_v6_daddr", in6_addr, 56),
                ("skc_v6_rcv_saddr", in6_addr, 72),
            ],
        );
        structure(
            "sock",
            &[
                ("sk_protocol", short, 100),
                ("sk_type", short, 102),
                ("sk_socket", pointer, 104),
            ],
        );
        structure("net", &[("ns", ns, 112)]);
        structure(
            "unix_sock",
            &[("addr", pointer, 120), ("peer", pointer, 128)],
        );
        let name = structure("sockaddr_un", &[("sun_family", short, 0)]);
        structure("unix_address", &[("len", int, 4), ("name", name, 12)]);
        structure(
            "tcp_sock",
            &[
                ("write_seq", int, 136),
                ("copied_seq", int, 140),
                ("rcv_nxt", int, 144),
            ],
        );
    }

    /// `msghdr` around the `iov_iter` that was added last.
    fn message(sample: &mut Sample, iter: Ty) {
        sample.structure("msghdr", 96, &[("msg_iter", iter, 16)]);
    }

    /// Linux 5.10: direction and shape in one word, and no `ITER_UBUF`.
    fn linux_5_10(without: &str) -> Vec<u8> {
        let mut sample = Sample::default();
        kernel(&mut sample, without);
        let int = sample.int("unsigned int", 4);
        let long = sample.int("unsigned long", 8);
        let pointer = sample.pointer(long);
        let memory = sample.union("", 8, &[("iov", pointer, 0), ("bvec", pointer, 0)]);
        let count = sample.union("", 8, &[("nr_segs", long, 0)]);
        let iter = sample.structure(
            "iov_iter",
            40,
            &[
                ("type", int, 0),
                ("iov_offset", long, 8),
                ("count", long, 16),
                ("", memory, 24),
                ("", count, 32),
            ],
        );
        sample.enumeration("iter_type", &[("ITER_IOVEC", 4), ("ITER_KVEC", 8)]);
        message(&mut sample, iter);
        sample.finish()
    }

    /// Linux 6.12: shape in a byte, and one buffer without a vector.
    fn linux_6_12(enum_name: &str, shape_len: u32) -> Vec<u8> {
        let mut sample = Sample::default();
        kernel(&mut sample, "");
        let shape = sample.int("u8", shape_len);
        let long = sample.int("unsigned long", 8);
        let pointer = sample.pointer(long);
        let memory = sample.union("", 8, &[("__iov", pointer, 0), ("ubuf", pointer, 0)]);
        let vector = sample.structure("", 16, &[("", memory, 0), ("count", long, 8)]);
        let iovec = sample.structure("iovec", 16, &[("iov_base", pointer, 0)]);
        let either = sample.union("", 16, &[("__ubuf_iovec", iovec, 0), ("", vector, 0)]);
        let count = sample.union("", 8, &[("nr_segs", long, 0)]);
        let iter = sample.structure(
            "iov_iter",
            40,
            &[
                ("iter_type", shape, 0),
                ("iov_offset", long, 8),
                ("", either, 16),
                ("", count, 32),
            ],
        );
        sample.enumeration(enum_name, &[("ITER_UBUF", 0), ("ITER_IOVEC", 1)]);
        message(&mut sample, iter);
        sample.finish()
    }

    fn read(bytes: &[u8]) -> Result<Offsets, BtfError> {
        offsets(&Btf::parse(bytes).unwrap())
    }

    fn expected_5_10() -> Offsets {
        Offsets {
            task_files: 8,
            task_group_leader: 16,
            task_comm: 24,
            task_mm: 48,
            mm_exe_file: 56,
            task_fsbase: 104,
            files_fdt: 32,
            fdtable_max_fds: 0,
            fdtable_fd: 8,
            file_inode: 40,
            file_private_data: 48,
            inode_mode: 2,
            inode_number: 64,
            inode_super_block: 40,
            super_block_device: 16,
            socket_inode: 128,
            socket_sk: 24,
            sock_family: 16,
            sock_flags: 32,
            sock_daddr: 4,
            sock_saddr: 8,
            sock_dport: 12,
            sock_num: 14,
            sock_v6_daddr: 56,
            sock_v6_saddr: 72,
            sock_net: 48,
            sock_protocol: 100,
            sock_type: 102,
            sock_socket: 104,
            net_inum: 120,
            tcp_write_seq: 136,
            tcp_copied_seq: 140,
            tcp_rcv_nxt: 144,
            msghdr_iter: 16,
            iter_type: 0,
            iter_type_size: 4,
            iter_offset: 8,
            iter_count: 16,
            iter_iov: 24,
            iter_ubuf: 0,
            iter_nr_segs: 32,
            iter_iovec_value: 4,
            iter_ubuf_value: u32::MAX,
            tcp_recvmsg_parameters: 0,
            unix_peer: 128,
            unix_addr: 120,
            unix_address_len: 4,
            unix_address_name: 12,
        }
    }

    #[test]
    fn every_field_is_found_in_the_shape_of_linux_5_10() {
        assert_eq!(read(&linux_5_10("")), Ok(expected_5_10()));
    }

    #[test]
    fn every_field_is_found_in_the_shape_of_linux_6_12() {
        let expected = Offsets {
            iter_type_size: 1,
            iter_count: 24,
            iter_iov: 16,
            iter_ubuf: 16,
            iter_iovec_value: 1,
            iter_ubuf_value: 0,
            ..expected_5_10()
        };
        assert_eq!(read(&linux_6_12("iter_type", 1)), Ok(expected));
        assert_eq!(read(&linux_6_12("", 1)), Ok(expected), "enum without name");
    }

    #[test]
    fn kernel_without_ipv6_has_no_offsets_for_it() {
        let expected = Offsets {
            sock_v6_daddr: 0,
            sock_v6_saddr: 0,
            ..expected_5_10()
        };
        let bytes = linux_5_10("skc_v6_daddr skc_v6_rcv_saddr");
        assert_eq!(read(&bytes), Ok(expected));
    }

    #[test]
    fn kernel_for_another_processor_has_no_offset_of_what_this_one_has() {
        let expected = Offsets {
            task_fsbase: 0,
            ..expected_5_10()
        };
        assert_eq!(read(&linux_5_10("thread")), Ok(expected));
    }

    #[test]
    fn kernel_without_namespaces_has_no_offset_for_them() {
        let expected = Offsets {
            sock_net: 0,
            ..expected_5_10()
        };
        assert_eq!(read(&linux_5_10("namespaces")), Ok(expected));
    }

    #[test]
    fn missing_field_is_refused_by_name() {
        for (type_name, name) in [
            ("tcp_sock", "write_seq"),
            ("sock_common", "skc_net"),
            ("sock_common", "skc_v6_rcv_saddr"),
            ("task_struct", "comm"),
        ] {
            let expected = BtfError::NoField {
                type_name: type_name.into(),
                field: name.into(),
            };
            assert_eq!(read(&linux_5_10(name)), Err(expected));
        }
    }

    #[test]
    fn field_of_another_size_is_refused_by_name() {
        let error = read(&linux_6_12("iter_type", 2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kernel's iov_iter.iter_type has 2 bytes instead of 1"
        );
    }

    #[test]
    fn enumerator_that_is_missing_is_refused_by_name() {
        let error = read(&linux_6_12("another_type", 1)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the kernel's iter_type has no field ITER_IOVEC"
        );
    }
}
