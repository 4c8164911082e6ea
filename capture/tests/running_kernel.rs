//! The reader on the BTF of the kernel that the tests run on, where it has one.

use std::fs;

use wirespan_capture::btf::Btf;
use wirespan_capture::offsets::offsets;

fn running_kernel() -> Option<Vec<u8>> {
    const FILE: &str = "/sys/kernel/btf/vmlinux";
    let bytes = fs::read(FILE).ok();
    if bytes.is_none() {
        eprintln!("skipped: no {FILE}");
    }
    bytes
}

#[test]
fn its_offsets_are_found() {
    let Some(bytes) = running_kernel() else {
        return;
    };
    let btf = Btf::parse(&bytes).unwrap();
    let offsets = offsets(&btf).unwrap();
    // What holds in every kernel: include/net/sock.h, include/net/inet_sock.h.
    assert_eq!((offsets.sock_daddr, offsets.sock_saddr), (0, 4));
    assert_eq!((offsets.sock_dport, offsets.sock_num), (12, 14));
    assert_eq!(offsets.sock_family, 16);
    assert_eq!(btf.offset("tcp_sock", "inet_conn.icsk_inet.sk"), Ok(0));
    assert_eq!(
        btf.offset("msghdr", "msg_iter.count"),
        Ok(offsets.msghdr_iter + offsets.iter_count)
    );
}

#[test]
fn its_functions_have_their_parameters() {
    let Some(bytes) = running_kernel() else {
        return;
    };
    let btf = Btf::parse(&bytes).unwrap();
    assert!(!btf.has_function("no_kernel_has_this"));
    assert_eq!(
        btf.parameters("tcp_sendmsg"),
        Some(vec!["sk", "msg", "size"])
    );
    let received = btf.parameters("tcp_recvmsg").unwrap();
    assert_eq!(received[..3], ["sk", "msg", "len"]);
}
