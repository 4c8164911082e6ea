//! The hook set of syscall tracepoints, for kernels without kprobes: which bytes a system call
//! moves is known from its arguments and what it returns.
//!
//! What does not go through these calls (io_uring) is not seen; the positions tell that it was
//! there.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_ebpf::macros::tracepoint;
use aya_ebpf::programs::TracePointContext;
use wirespan_capture_abi::Direction::{self, Received, Sent};

use crate::calls::{self, Memory, Shape};
use crate::copy::Source;
use crate::kernel::socket_of;

/// Flags of recv with which no bytes leave the stream, or none of it: MSG_OOB, MSG_PEEK,
/// MSG_ERRQUEUE.
const NOT_THE_STREAM: u64 = 0x1 | 0x2 | 0x2000;
/// Bytes leave the stream but are not stored: MSG_TRUNC.
const DISCARD: u64 = 0x20;

/// Argument `n` of the system call.
#[inline(always)]
pub fn argument(ctx: &TracePointContext, n: usize) -> u64 {
    // SAFETY: the record of `sys_enter_*` holds the arguments from byte 16 on, 8 bytes each; the
    // verifier and the kernel check that there are as many.
    unsafe { *ctx.as_ptr().cast::<u64>().add(2 + n) }
}

/// What the system call returned.
#[inline(always)]
fn returned(ctx: &TracePointContext) -> i64 {
    // SAFETY: the record of `sys_exit_*` holds it at byte 16.
    unsafe { *ctx.as_ptr().cast::<i64>().add(2) }
}

/// Memory given as an address and a length, or a number, in arguments 1 and 2.
#[inline(always)]
fn memory(ctx: &TracePointContext, shape: Shape) -> Memory {
    Memory {
        shape,
        address: argument(ctx, 1),
        count: argument(ctx, 2),
        offset: 0,
    }
}

/// read(fd, buf, count)
#[tracepoint]
#[inline(always)]
pub fn enter_read(ctx: TracePointContext) -> u32 {
    calls::begin(
        argument(&ctx, 0) as u32,
        Received,
        memory(&ctx, Shape::BUFFER),
    );
    0
}

/// write(fd, buf, count)
#[tracepoint]
#[inline(always)]
pub fn enter_write(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Sent, memory(&ctx, Shape::BUFFER));
    0
}

/// readv(fd, vectors, count), and preadv2
#[tracepoint]
pub fn enter_readv(ctx: TracePointContext) -> u32 {
    calls::begin(
        argument(&ctx, 0) as u32,
        Received,
        memory(&ctx, Shape::VECTORS),
    );
    0
}

/// writev(fd, vectors, count), and pwritev2
#[tracepoint]
pub fn enter_writev(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Sent, memory(&ctx, Shape::VECTORS));
    0
}

/// recvfrom(fd, buf, len, flags, …)
#[tracepoint]
#[inline(always)]
pub fn enter_recvfrom(ctx: TracePointContext) -> u32 {
    receive(&ctx, argument(&ctx, 3), memory(&ctx, Shape::BUFFER));
    0
}

/// sendto(fd, buf, len, flags, …)
#[tracepoint]
#[inline(always)]
pub fn enter_sendto(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Sent, memory(&ctx, Shape::BUFFER));
    0
}

/// recvmsg(fd, msg, flags)
#[tracepoint]
#[inline(always)]
pub fn enter_recvmsg(ctx: TracePointContext) -> u32 {
    if let Some(memory) = message(argument(&ctx, 1)) {
        receive(&ctx, argument(&ctx, 2), memory);
    }
    0
}

/// sendmsg(fd, msg, flags)
#[tracepoint]
#[inline(always)]
pub fn enter_sendmsg(ctx: TracePointContext) -> u32 {
    if let Some(memory) = message(argument(&ctx, 1)) {
        calls::begin(argument(&ctx, 0) as u32, Sent, memory);
    }
    0
}

/// recvmmsg(fd, messages, count, flags, …)
#[tracepoint]
#[inline(always)]
pub fn enter_recvmmsg(ctx: TracePointContext) -> u32 {
    receive(&ctx, argument(&ctx, 3), memory(&ctx, Shape::VECTORS));
    0
}

/// sendmmsg(fd, messages, count, flags)
#[tracepoint]
pub fn enter_sendmmsg(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Sent, memory(&ctx, Shape::VECTORS));
    0
}

/// splice(fd_in, off_in, fd_out, off_out, len, flags): one end is a pipe.
#[tracepoint]
#[inline(always)]
pub fn enter_splice(ctx: TracePointContext) -> u32 {
    let (from, to) = (argument(&ctx, 0) as u32, argument(&ctx, 2) as u32);
    calls::begin(from, Received, Memory::NONE);
    if calls::current().is_none() {
        calls::begin(to, Sent, Memory::NONE);
    }
    0
}

/// sendfile(out_fd, in_fd, offset, count)
#[tracepoint]
#[inline(always)]
pub fn enter_sendfile(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Sent, Memory::NONE);
    0
}

/// connect(fd, …)
#[tracepoint]
#[inline(always)]
pub fn enter_connect(ctx: TracePointContext) -> u32 {
    if let Some(sock) = socket_of(argument(&ctx, 0) as u32) {
        calls::connect(sock);
    }
    0
}

/// Return of connect
#[tracepoint]
#[inline(always)]
pub fn exit_connect(ctx: TracePointContext) -> u32 {
    calls::connected(returned(&ctx));
    0
}

/// Return of a call that moves bytes.
#[tracepoint]
#[inline(always)]
pub fn exit_call(ctx: TracePointContext) -> u32 {
    calls::finish(Source::Vectors, returned(&ctx));
    0
}

/// Return of a call with messages.
#[tracepoint]
#[inline(always)]
pub fn exit_messages(ctx: TracePointContext) -> u32 {
    calls::finish(Source::Messages, returned(&ctx));
    0
}

#[inline(always)]
fn receive(ctx: &TracePointContext, flags: u64, memory: Memory) {
    if flags & NOT_THE_STREAM != 0 {
        return;
    }
    let memory = if flags & DISCARD != 0 {
        Memory::NONE
    } else {
        memory
    };
    calls::begin(argument(ctx, 0) as u32, Direction::Received, memory);
}

/// The vectors of a `struct user_msghdr`.
#[inline(always)]
fn message(address: u64) -> Option<Memory> {
    let mut vectors = [0_u64; 2];
    // SAFETY: the helper writes 16 bytes or fails: `msg_iov` and `msg_iovlen` follow the name and
    // its length.
    let failed =
        unsafe { bpf_probe_read_user(vectors.as_mut_ptr().cast(), 16, (address + 16) as *const _) };
    (failed == 0).then_some(Memory {
        shape: Shape::VECTORS,
        address: vectors[0],
        count: vectors[1],
        offset: 0,
    })
}
