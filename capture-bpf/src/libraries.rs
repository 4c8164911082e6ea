//! The programs on C libraries: OpenSSL and its kin, GnuTLS. Which goes where is said in
//! `capture/src/tls/attach.rs`.

use core::mem::offset_of;

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::bpf_get_attach_cookie;
use aya_ebpf::macros::{tracepoint, uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext, TracePointContext};
use wirespan_capture_abi::Direction::{Received, Sent};
use wirespan_capture_abi::{Place, Recipe};

use crate::copy;
use crate::kernel;
use crate::syscalls::argument as argument_of;
use crate::tls::{begin, begin_handshake, end_handshake, finish, forget, mapped};

#[inline(always)]
fn argument(ctx: &ProbeContext, n: usize) -> u64 {
    ctx.arg(n).unwrap_or(0)
}

/// SSL_write(ssl, buf, num), gnutls_record_send(session, data, size)
#[uprobe]
#[inline(always)]
pub fn tls_write(ctx: ProbeContext) -> u32 {
    begin(argument(&ctx, 0), argument(&ctx, 1), 0, Sent as u32);
    0
}

/// SSL_read(ssl, buf, num), gnutls_record_recv(session, data, size)
#[uprobe]
#[inline(always)]
pub fn tls_read(ctx: ProbeContext) -> u32 {
    begin(argument(&ctx, 0), argument(&ctx, 1), 0, Received as u32);
    0
}

/// SSL_write_ex(ssl, buf, num, *written), SSL_write_early_data
#[uprobe]
#[inline(always)]
pub fn tls_write_ex(ctx: ProbeContext) -> u32 {
    begin(
        argument(&ctx, 0),
        argument(&ctx, 1),
        argument(&ctx, 3),
        Sent as u32,
    );
    0
}

/// SSL_read_ex(ssl, buf, num, *readbytes), SSL_read_early_data
#[uprobe]
#[inline(always)]
pub fn tls_read_ex(ctx: ProbeContext) -> u32 {
    begin(
        argument(&ctx, 0),
        argument(&ctx, 1),
        argument(&ctx, 3),
        Received as u32,
    );
    0
}

/// SSL_write_ex2(ssl, buf, num, flags, *written)
#[uprobe]
#[inline(always)]
pub fn tls_write_ex2(ctx: ProbeContext) -> u32 {
    begin(
        argument(&ctx, 0),
        argument(&ctx, 1),
        argument(&ctx, 4),
        Sent as u32,
    );
    0
}

/// SSL_sendfile(ssl, fd, offset, size, flags): bytes that are not in memory.
#[uprobe]
#[inline(always)]
pub fn tls_sendfile(ctx: ProbeContext) -> u32 {
    begin(argument(&ctx, 0), 0, 0, Sent as u32);
    0
}

/// SSL_do_handshake(ssl), SSL_connect, SSL_accept, gnutls_handshake(session)
#[uprobe]
#[inline(always)]
pub fn tls_handshake(ctx: ProbeContext) -> u32 {
    begin_handshake(argument(&ctx, 0));
    0
}

/// SSL_free(ssl), gnutls_deinit(session)
#[uprobe]
#[inline(always)]
pub fn tls_free(ctx: ProbeContext) -> u32 {
    forget(argument(&ctx, 0));
    0
}

/// What a call has moved that returned `value`: an `int`, or one that says whether `result` holds
/// the number.
#[inline(always)]
fn moved(value: i32, result: u64) -> i64 {
    if result == 0 {
        return i64::from(value);
    }
    if value <= 0 {
        return 0;
    }
    copy::read_user::<u64>(result) as i64
}

/// Before an instruction that returns, or where the value is in its register.
#[uprobe]
#[inline(always)]
pub fn tls_return(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of the program.
    let value = unsafe { (*ctx.regs).rax } as i32;
    finish(|result| moved(value, result));
    0
}

/// At the return, where the function's own instructions do not tell.
#[uretprobe]
#[inline(always)]
pub fn tls_returned(ctx: RetProbeContext) -> u32 {
    let value: i32 = ctx.ret();
    finish(|result| moved(value, result));
    0
}

/// A handshake returns.
#[uprobe]
#[inline(always)]
pub fn tls_handshake_return(_: ProbeContext) -> u32 {
    end_handshake();
    0
}

/// A handshake returns.
#[uretprobe]
#[inline(always)]
pub fn tls_handshake_returned(_: RetProbeContext) -> u32 {
    end_handshake();
    0
}

/// Where it is known what the call will return.
#[uprobe]
#[inline(always)]
pub fn tls_branch(ctx: ProbeContext) -> u32 {
    // SAFETY: the context of the program.
    let (recipe, regs) = unsafe { (Recipe(bpf_get_attach_cookie(ctx.regs.cast())), &*ctx.regs) };
    let value = match recipe.place(regs.eflags) {
        Place::Nothing => return 0,
        Place::Constant(value) => value,
        Place::Register(number) => kernel::read::<u64>(ctx.regs as u64, register(number)) as i32,
        Place::Stack(offset) => {
            let at = regs.rsp.wrapping_add(i64::from(offset) as u64);
            copy::read_user::<i32>(at)
        }
    };
    finish(|result| moved(value, result));
    0
}

/// Where a general register is, by its number in instructions. It is read by a helper: of accesses to the
/// context at several places the compiler makes one at a place that is computed, which the verifier
/// refuses.
#[inline(always)]
fn register(number: u8) -> u32 {
    let offset = match number {
        0 => offset_of!(pt_regs, rax),
        1 => offset_of!(pt_regs, rcx),
        2 => offset_of!(pt_regs, rdx),
        3 => offset_of!(pt_regs, rbx),
        4 => offset_of!(pt_regs, rsp),
        5 => offset_of!(pt_regs, rbp),
        6 => offset_of!(pt_regs, rsi),
        7 => offset_of!(pt_regs, rdi),
        8 => offset_of!(pt_regs, r8),
        9 => offset_of!(pt_regs, r9),
        10 => offset_of!(pt_regs, r10),
        11 => offset_of!(pt_regs, r11),
        12 => offset_of!(pt_regs, r12),
        13 => offset_of!(pt_regs, r13),
        14 => offset_of!(pt_regs, r14),
        _ => offset_of!(pt_regs, r15),
    };
    offset as u32
}

/// mmap(addr, len, prot, flags, fd, offset)
#[tracepoint]
#[inline(always)]
pub fn enter_mmap(ctx: TracePointContext) -> u32 {
    const EXECUTABLE: u64 = 4;
    let (protection, fd) = (argument_of(&ctx, 2), argument_of(&ctx, 4) as i32);
    if protection & EXECUTABLE != 0 && fd >= 0 {
        mapped();
    }
    0
}
