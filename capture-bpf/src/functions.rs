//! The hook set of kernel functions: `tcp_sendmsg` and its kin see all that moves bytes over a
//! socket, whichever system call or worker asked for it.
//!
//! By kprobe and kretprobe, or by fentry and fexit, which cost less, where the kernel has them.

use core::ffi::c_void;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use wirespan_capture_abi::Direction::{Received, Sent};

use crate::calls::{self, Memory, Shape};
use crate::copy::Source;
use crate::kernel::{read, socket_behind};
use crate::maps::offset;

/// `MSG_PEEK`.
const PEEK: u64 = 2;

/// The two programs at the beginning of a function of the kernel, and the one at its end.
macro_rules! function {
    ($name:literal, $begin:path, $kprobe:ident, $fentry:ident, $fexit:ident, $returned:path, $end:path) => {
        #[doc = concat!("By kprobe: ", $name)]
        #[kprobe]
        #[inline(always)]
        pub fn $kprobe(ctx: ProbeContext) -> u32 {
            $begin(|n| ctx.arg(n).unwrap_or(0));
            0
        }

        #[doc = concat!("By fentry: ", $name)]
        #[fentry(function = $name)]
        #[inline(always)]
        pub fn $fentry(ctx: FEntryContext) -> i32 {
            $begin(|n| argument(ctx.as_ptr(), n));
            0
        }

        #[doc = concat!("By fexit: return of ", $name)]
        #[fexit(function = $name)]
        #[inline(always)]
        pub fn $fexit(ctx: FExitContext) -> i32 {
            $end($returned(ctx.as_ptr()));
            0
        }
    };
}

function!(
    "tcp_sendmsg",
    tcp_sendmsg,
    kprobe_tcp_sendmsg,
    fentry_tcp_sendmsg,
    fexit_tcp_sendmsg,
    returned::<3>,
    finish
);
function!(
    "tcp_recvmsg",
    tcp_recvmsg,
    kprobe_tcp_recvmsg,
    fentry_tcp_recvmsg,
    fexit_tcp_recvmsg,
    tcp_recvmsg_returned,
    finish
);
function!(
    "tcp_sendpage",
    tcp_sendpage,
    kprobe_tcp_sendpage,
    fentry_tcp_sendpage,
    fexit_tcp_sendpage,
    returned::<5>,
    finish
);
function!(
    "tcp_splice_read",
    tcp_splice_read,
    kprobe_tcp_splice_read,
    fentry_tcp_splice_read,
    fexit_tcp_splice_read,
    returned::<5>,
    finish
);
function!(
    "unix_stream_sendmsg",
    unix_stream_sendmsg,
    kprobe_unix_stream_sendmsg,
    fentry_unix_stream_sendmsg,
    fexit_unix_stream_sendmsg,
    returned::<3>,
    finish
);
function!(
    "unix_stream_recvmsg",
    unix_stream_recvmsg,
    kprobe_unix_stream_recvmsg,
    fentry_unix_stream_recvmsg,
    fexit_unix_stream_recvmsg,
    returned::<4>,
    finish
);
function!(
    "unix_stream_connect",
    unix_stream_connect,
    kprobe_unix_stream_connect,
    fentry_unix_stream_connect,
    fexit_unix_stream_connect,
    returned::<4>,
    connected
);

/// Argument `n` of a function hooked by fentry or fexit; what it returned follows the last.
#[inline(always)]
fn argument(ctx: *mut c_void, n: usize) -> u64 {
    // SAFETY: the verifier checks that there are as many.
    unsafe { *ctx.cast::<u64>().add(n) }
}

/// What a function of so many parameters returned.
#[inline(always)]
fn returned<const PARAMETERS: usize>(ctx: *mut c_void) -> i32 {
    argument(ctx, PARAMETERS) as i32
}

/// What tcp_recvmsg returned, which lost two parameters over the years. Read as any memory of the
/// kernel, because a context may only be addressed by constants of the program.
#[inline(always)]
fn tcp_recvmsg_returned(ctx: *mut c_void) -> i32 {
    read(ctx as u64, offset!(tcp_recvmsg_parameters) * 8)
}

/// tcp_sendmsg(sk, msg, size)
#[inline(always)]
fn tcp_sendmsg(argument: impl Fn(usize) -> u64) {
    calls::begin_on(argument(0), Sent, memory_of(argument(1)));
}

/// tcp_recvmsg(sk, msg, …)
#[inline(always)]
fn tcp_recvmsg(argument: impl Fn(usize) -> u64) {
    calls::begin_on(argument(0), Received, memory_of(argument(1)));
}

/// tcp_sendpage(sk, page, offset, size, flags), before Linux 6.5
#[inline(always)]
fn tcp_sendpage(argument: impl Fn(usize) -> u64) {
    calls::begin_on(argument(0), Sent, Memory::NONE);
}

/// tcp_splice_read(sock, ppos, pipe, len, flags)
#[inline(always)]
fn tcp_splice_read(argument: impl Fn(usize) -> u64) {
    if let Some(sock) = socket_behind(argument(0)) {
        calls::begin_on(sock, Received, Memory::NONE);
    }
}

/// unix_stream_sendmsg(sock, msg, len)
#[inline(always)]
fn unix_stream_sendmsg(argument: impl Fn(usize) -> u64) {
    if let Some(sock) = socket_behind(argument(0)) {
        calls::begin_on(sock, Sent, memory_of(argument(1)));
    }
}

/// unix_stream_recvmsg(sock, msg, size, flags)
#[inline(always)]
fn unix_stream_recvmsg(argument: impl Fn(usize) -> u64) {
    if argument(3) & PEEK != 0 {
        return;
    }
    if let Some(sock) = socket_behind(argument(0)) {
        calls::begin_on(sock, Received, memory_of(argument(1)));
    }
}

/// unix_stream_connect(sock, address, len, flags)
#[inline(always)]
fn unix_stream_connect(argument: impl Fn(usize) -> u64) {
    if let Some(sock) = socket_behind(argument(0)) {
        calls::connect(sock);
    }
}

/// Where an `iov_iter` has its bytes, if that is user memory.
#[inline(always)]
fn memory_of(message: u64) -> Memory {
    let iter = message + u64::from(offset!(msghdr_iter));
    let kind = if offset!(iter_type_size) == 1 {
        u32::from(read::<u8>(iter, offset!(iter_type)))
    } else {
        // The lowest bit is the direction.
        read::<u32>(iter, offset!(iter_type)) & !1
    };
    let offset: u64 = read(iter, offset!(iter_offset));
    if kind == offset!(iter_ubuf_value) {
        Memory {
            shape: Shape::BUFFER,
            address: read(iter, offset!(iter_ubuf)),
            // What is left of it, from `offset` on.
            count: offset + read::<u64>(iter, offset!(iter_count)),
            offset,
        }
    } else if kind == offset!(iter_iovec_value) {
        Memory {
            shape: Shape::VECTORS,
            address: read(iter, offset!(iter_iov)),
            count: read(iter, offset!(iter_nr_segs)),
            offset,
        }
    } else {
        Memory::NONE
    }
}

/// tcp_cleanup_rbuf(sk, copied): what tcp_recvmsg calls when it has taken bytes, perhaps several
/// times.
///
/// A kretprobe on tcp_recvmsg would miss returns: the kernel keeps few return addresses, and each
/// process that waits for bytes holds one.
#[kprobe]
#[inline(always)]
pub fn kprobe_tcp_cleanup_rbuf(ctx: ProbeContext) -> u32 {
    let copied: i32 = ctx.arg(1).unwrap_or(0);
    calls::took(ctx.arg(0).unwrap_or(0), i64::from(copied));
    0
}

/// By kretprobe: return of any function that moves bytes.
#[kretprobe]
#[inline(always)]
pub fn kretprobe_finish(ctx: RetProbeContext) -> u32 {
    finish(ctx.ret());
    0
}

/// By kretprobe: return of unix_stream_connect
#[kretprobe]
#[inline(always)]
pub fn kretprobe_unix_stream_connect(ctx: RetProbeContext) -> u32 {
    connected(ctx.ret());
    0
}

#[inline(always)]
fn finish(returned: i32) {
    calls::finish(Source::KernelVectors, i64::from(returned));
}

#[inline(always)]
fn connected(returned: i32) {
    calls::connected(i64::from(returned));
}
