//! The hook set of kernel functions: `tcp_sendmsg` and its kin see all that moves bytes over a
//! socket, whichever system call or worker asked for it.
//!
//! By kprobe and kretprobe, or by fentry and fexit, which cost less, where the kernel has them.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use wirespan_capture_abi::Direction::{self, Received, Sent};

use crate::calls::{self, Memory};
use crate::copy::Shape;
use crate::kernel::{read, socket_behind};
use crate::maps::offset;

/// `MSG_PEEK`.
const PEEK: u64 = 2;

/// Where an `iov_iter` has its bytes, if that is user memory.
#[inline(always)]
fn memory_of(message: u64) -> Memory {
    vectors(message + u64::from(offset!(msghdr_iter))).unwrap_or(Memory::NONE)
}

#[inline(always)]
fn vectors(iter: u64) -> Option<Memory> {
    let kind = if offset!(iter_type_size) == 1 {
        u32::from(read::<u8>(iter, offset!(iter_type))?)
    } else {
        // The lowest bit is the direction.
        read::<u32>(iter, offset!(iter_type))? & !1
    };
    let offset: u64 = read(iter, offset!(iter_offset))?;
    if kind == offset!(iter_ubuf_value) {
        return Some(Memory {
            address: read::<u64>(iter, offset!(iter_ubuf))?,
            count: BUFFER | read::<u64>(iter, offset!(iter_count))?,
            offset,
        });
    }
    (kind == offset!(iter_iovec_value)).then_some(())?;
    Some(Memory {
        address: read(iter, offset!(iter_iov))?,
        count: read(iter, offset!(iter_nr_segs))?,
        offset,
    })
}

/// Bit of [`Memory::count`]: a buffer, not vectors.
pub const BUFFER: u64 = 1 << 63;

#[inline(always)]
fn on_socket(sock: u64, direction: Direction, message: u64) {
    calls::begin_on(sock, direction, memory_of(message));
}

#[inline(always)]
fn on_unix(socket: u64, direction: Direction, message: u64, flags: u64) {
    if matches!(direction, Received) && flags & PEEK != 0 {
        return;
    }
    if let Some(sock) = socket_behind(socket) {
        calls::begin_on(sock, direction, memory_of(message));
    }
}

/// tcp_sendmsg(sk, msg, size)
#[kprobe]
pub fn kprobe_tcp_sendmsg(ctx: ProbeContext) -> u32 {
    on_socket(ctx.arg(0).unwrap_or(0), Sent, ctx.arg(1).unwrap_or(0));
    0
}

/// tcp_recvmsg(sk, msg, …)
#[kprobe]
pub fn kprobe_tcp_recvmsg(ctx: ProbeContext) -> u32 {
    on_socket(ctx.arg(0).unwrap_or(0), Received, ctx.arg(1).unwrap_or(0));
    0
}

/// tcp_cleanup_rbuf(sk, copied): what tcp_recvmsg calls when it has taken bytes, perhaps several
/// times.
///
/// A kretprobe on tcp_recvmsg would miss returns: the kernel keeps few return addresses, and each
/// process that waits for bytes holds one.
#[kprobe]
pub fn kprobe_tcp_cleanup_rbuf(ctx: ProbeContext) -> u32 {
    let copied: i32 = ctx.arg(1).unwrap_or(0);
    calls::took(ctx.arg(0).unwrap_or(0), i64::from(copied));
    0
}

/// tcp_sendpage(sk, page, offset, size, flags), before Linux 6.5
#[kprobe]
pub fn kprobe_tcp_sendpage(ctx: ProbeContext) -> u32 {
    calls::begin_on(ctx.arg(0).unwrap_or(0), Sent, Memory::NONE);
    0
}

/// tcp_splice_read(sock, …)
#[kprobe]
pub fn kprobe_tcp_splice_read(ctx: ProbeContext) -> u32 {
    if let Some(sock) = socket_behind(ctx.arg(0).unwrap_or(0)) {
        calls::begin_on(sock, Received, Memory::NONE);
    }
    0
}

/// unix_stream_sendmsg(sock, msg, len)
#[kprobe]
pub fn kprobe_unix_sendmsg(ctx: ProbeContext) -> u32 {
    on_unix(ctx.arg(0).unwrap_or(0), Sent, ctx.arg(1).unwrap_or(0), 0);
    0
}

/// unix_stream_recvmsg(sock, msg, size, flags)
#[kprobe]
pub fn kprobe_unix_recvmsg(ctx: ProbeContext) -> u32 {
    on_unix(
        ctx.arg(0).unwrap_or(0),
        Received,
        ctx.arg(1).unwrap_or(0),
        ctx.arg(3).unwrap_or(0),
    );
    0
}

/// unix_stream_connect(sock, …)
#[kprobe]
pub fn kprobe_unix_connect(ctx: ProbeContext) -> u32 {
    if let Some(sock) = socket_behind(ctx.arg(0).unwrap_or(0)) {
        calls::connect(sock);
    }
    0
}

/// Return of unix_stream_connect
#[kretprobe]
pub fn kretprobe_unix_connect(ctx: RetProbeContext) -> u32 {
    calls::connected(i64::from(ctx.ret::<i32>()));
    0
}

/// Return of a function with a message.
#[kretprobe]
pub fn kretprobe_message(ctx: RetProbeContext) -> u32 {
    calls::finish(Shape::KernelVectors, i64::from(ctx.ret::<i32>()));
    0
}

/// Return of a function without one.
#[kretprobe]
pub fn kretprobe_nothing(ctx: RetProbeContext) -> u32 {
    calls::finish(Shape::Nothing, ctx.ret::<i64>());
    0
}

/// Argument `n` of a function hooked by fentry or fexit; what it returned follows the last.
#[inline(always)]
fn argument(ctx: *mut core::ffi::c_void, n: usize) -> u64 {
    // SAFETY: the verifier checks that there are as many.
    unsafe { *ctx.cast::<u64>().add(n) }
}

/// tcp_sendmsg(sk, msg, size)
#[fentry(function = "tcp_sendmsg")]
pub fn fentry_tcp_sendmsg(ctx: FEntryContext) -> i32 {
    on_socket(argument(ctx.as_ptr(), 0), Sent, argument(ctx.as_ptr(), 1));
    0
}

/// Return of tcp_sendmsg
#[fexit(function = "tcp_sendmsg")]
pub fn fexit_tcp_sendmsg(ctx: FExitContext) -> i32 {
    calls::finish(
        Shape::KernelVectors,
        argument(ctx.as_ptr(), 3) as i32 as i64,
    );
    0
}

/// tcp_recvmsg(sk, msg, …)
#[fentry(function = "tcp_recvmsg")]
pub fn fentry_tcp_recvmsg(ctx: FEntryContext) -> i32 {
    on_socket(
        argument(ctx.as_ptr(), 0),
        Received,
        argument(ctx.as_ptr(), 1),
    );
    0
}

/// tcp_sendpage(sk, page, offset, size, flags), before Linux 6.5
#[fentry(function = "tcp_sendpage")]
pub fn fentry_tcp_sendpage(ctx: FEntryContext) -> i32 {
    calls::begin_on(argument(ctx.as_ptr(), 0), Sent, Memory::NONE);
    0
}

/// Return of tcp_sendpage
#[fexit(function = "tcp_sendpage")]
pub fn fexit_tcp_sendpage(ctx: FExitContext) -> i32 {
    calls::finish(Shape::Nothing, argument(ctx.as_ptr(), 5) as i32 as i64);
    0
}

/// tcp_splice_read(sock, ppos, pipe, len, flags)
#[fentry(function = "tcp_splice_read")]
pub fn fentry_tcp_splice_read(ctx: FEntryContext) -> i32 {
    if let Some(sock) = socket_behind(argument(ctx.as_ptr(), 0)) {
        calls::begin_on(sock, Received, Memory::NONE);
    }
    0
}

/// Return of tcp_splice_read
#[fexit(function = "tcp_splice_read")]
pub fn fexit_tcp_splice_read(ctx: FExitContext) -> i32 {
    calls::finish(Shape::Nothing, argument(ctx.as_ptr(), 5) as i64);
    0
}

/// unix_stream_connect(sock, address, len, flags)
#[fentry(function = "unix_stream_connect")]
pub fn fentry_unix_connect(ctx: FEntryContext) -> i32 {
    if let Some(sock) = socket_behind(argument(ctx.as_ptr(), 0)) {
        calls::connect(sock);
    }
    0
}

/// Return of unix_stream_connect
#[fexit(function = "unix_stream_connect")]
pub fn fexit_unix_connect(ctx: FExitContext) -> i32 {
    calls::connected(argument(ctx.as_ptr(), 4) as i32 as i64);
    0
}

/// unix_stream_sendmsg(sock, msg, len)
#[fentry(function = "unix_stream_sendmsg")]
pub fn fentry_unix_sendmsg(ctx: FEntryContext) -> i32 {
    on_unix(
        argument(ctx.as_ptr(), 0),
        Sent,
        argument(ctx.as_ptr(), 1),
        0,
    );
    0
}

/// Return of unix_stream_sendmsg
#[fexit(function = "unix_stream_sendmsg")]
pub fn fexit_unix_sendmsg(ctx: FExitContext) -> i32 {
    calls::finish(
        Shape::KernelVectors,
        argument(ctx.as_ptr(), 3) as i32 as i64,
    );
    0
}

/// unix_stream_recvmsg(sock, msg, size, flags)
#[fentry(function = "unix_stream_recvmsg")]
pub fn fentry_unix_recvmsg(ctx: FEntryContext) -> i32 {
    let flags = argument(ctx.as_ptr(), 3) & 0xffff_ffff;
    on_unix(
        argument(ctx.as_ptr(), 0),
        Received,
        argument(ctx.as_ptr(), 1),
        flags,
    );
    0
}

/// Return of unix_stream_recvmsg
#[fexit(function = "unix_stream_recvmsg")]
pub fn fexit_unix_recvmsg(ctx: FExitContext) -> i32 {
    calls::finish(
        Shape::KernelVectors,
        argument(ctx.as_ptr(), 4) as i32 as i64,
    );
    0
}

/// Return of tcp_recvmsg(sk, msg, len, flags), since Linux 6.18
#[fexit(function = "tcp_recvmsg")]
pub fn fexit_tcp_recvmsg_4(ctx: FExitContext) -> i32 {
    calls::finish(
        Shape::KernelVectors,
        argument(ctx.as_ptr(), 4) as i32 as i64,
    );
    0
}

/// Return of tcp_recvmsg(sk, msg, len, flags, addr_len), since Linux 5.19
#[fexit(function = "tcp_recvmsg")]
pub fn fexit_tcp_recvmsg_5(ctx: FExitContext) -> i32 {
    calls::finish(
        Shape::KernelVectors,
        argument(ctx.as_ptr(), 5) as i32 as i64,
    );
    0
}

/// Return of tcp_recvmsg(sk, msg, len, nonblock, flags, addr_len), before Linux 5.19
#[fexit(function = "tcp_recvmsg")]
pub fn fexit_tcp_recvmsg_6(ctx: FExitContext) -> i32 {
    calls::finish(
        Shape::KernelVectors,
        argument(ctx.as_ptr(), 6) as i32 as i64,
    );
    0
}
