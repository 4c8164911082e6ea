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

use crate::calls::{self, Memory};
use crate::copy::Shape;
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

/// Memory given as an address and a length in arguments 1 and 2.
#[inline(always)]
fn memory(ctx: &TracePointContext) -> Memory {
    Memory {
        address: argument(ctx, 1),
        count: argument(ctx, 2),
        offset: 0,
    }
}

/// read(fd, buf, count)
#[tracepoint]
pub fn enter_read(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Received, memory(&ctx));
    0
}

/// write(fd, buf, count)
#[tracepoint]
pub fn enter_write(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Sent, memory(&ctx));
    0
}

/// recvfrom(fd, buf, len, flags, …)
#[tracepoint]
pub fn enter_recvfrom(ctx: TracePointContext) -> u32 {
    receive(&ctx, argument(&ctx, 3), memory(&ctx));
    0
}

/// sendto(fd, buf, len, flags, …)
#[tracepoint]
pub fn enter_sendto(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Sent, memory(&ctx));
    0
}

/// recvmsg(fd, msg, flags)
#[tracepoint]
pub fn enter_recvmsg(ctx: TracePointContext) -> u32 {
    if let Some(memory) = message(argument(&ctx, 1)) {
        receive(&ctx, argument(&ctx, 2), memory);
    }
    0
}

/// sendmsg(fd, msg, flags)
#[tracepoint]
pub fn enter_sendmsg(ctx: TracePointContext) -> u32 {
    if let Some(memory) = message(argument(&ctx, 1)) {
        calls::begin(argument(&ctx, 0) as u32, Sent, memory);
    }
    0
}

/// recvmmsg(fd, messages, count, flags, …)
#[tracepoint]
pub fn enter_recvmmsg(ctx: TracePointContext) -> u32 {
    receive(&ctx, argument(&ctx, 3), memory(&ctx));
    0
}

/// splice(fd_in, off_in, fd_out, off_out, len, flags): one end is a pipe.
#[tracepoint]
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
pub fn enter_sendfile(ctx: TracePointContext) -> u32 {
    calls::begin(argument(&ctx, 0) as u32, Sent, Memory::NONE);
    0
}

/// connect(fd, …)
#[tracepoint]
pub fn enter_connect(ctx: TracePointContext) -> u32 {
    if let Some(sock) = socket_of(argument(&ctx, 0) as u32) {
        calls::connect(sock);
    }
    0
}

/// Return of connect
#[tracepoint]
pub fn exit_connect(ctx: TracePointContext) -> u32 {
    calls::connected(returned(&ctx));
    0
}

/// Return of a call with a buffer.
#[tracepoint]
pub fn exit_buffer(ctx: TracePointContext) -> u32 {
    calls::finish(Shape::Buffer, returned(&ctx));
    0
}

/// Return of a call with vectors.
#[tracepoint]
pub fn exit_vectors(ctx: TracePointContext) -> u32 {
    calls::finish(Shape::Vectors, returned(&ctx));
    0
}

/// Return of a call with messages.
#[tracepoint]
pub fn exit_messages(ctx: TracePointContext) -> u32 {
    calls::finish(Shape::Messages, returned(&ctx));
    0
}

/// Return of a call without memory of the process.
#[tracepoint]
pub fn exit_nothing(ctx: TracePointContext) -> u32 {
    calls::finish(Shape::Nothing, returned(&ctx));
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
        address: vectors[0],
        count: vectors[1],
        offset: 0,
    })
}
