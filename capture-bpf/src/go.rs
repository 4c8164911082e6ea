//! Go's `crypto/tls`: calls are keyed by goroutine, because one may go on in another thread, and
//! connections lead to their descriptor.
//!
//! Go passes arguments in registers (rax, rbx, rcx, …), keeps the running goroutine in r14, and
//! moves stacks: no return address may be replaced, so probes are on the return instructions.

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use wirespan_capture_abi::Direction::{Received, Sent};
use wirespan_capture_abi::{Session, SessionKey, TlsCall, session_flag};

use crate::calls;
use crate::copy::read_user;
use crate::kernel;
use crate::maps::{CONNECTIONS, GO_CALLS};
use crate::tls;

/// Places of fields, the same in Go 1.18 to 1.27 (`wirespan-probe-sites` refuses others): the data
/// word of `tls.Conn.conn`; in `net.netFD`, the descriptor, the family and the type of the socket.
const CONN_DATA: u64 = 8;
const DESCRIPTOR: u64 = 16;
const FAMILY: u64 = 56;
const KIND: u64 = 64;
/// `SOCK_STREAM`.
const STREAM: u64 = 1;

#[inline(always)]
fn registers(ctx: &ProbeContext) -> &pt_regs {
    // SAFETY: the context of the program.
    unsafe { &*ctx.regs }
}

/// The key of the call that a goroutine is in.
#[inline(always)]
fn call_key(regs: &pt_regs) -> SessionKey {
    tls::key(regs.r14)
}

/// The session of a connection, with its socket if that can be found.
#[inline(always)]
fn session(key: &SessionKey) -> Option<&'static mut Session> {
    let session = tls::session(key, 0)?;
    if session.sock == 0 {
        bind(key, session);
    }
    Some(session)
}

/// Finds the socket of a connection: `tls.Conn` holds a `net.Conn`, which mostly is a
/// `*net.TCPConn`, which leads to a `netFD`. Whatever else it is does not look like one.
#[inline(always)]
fn bind(key: &SessionKey, session: &mut Session) -> Option<()> {
    let tcp: u64 = read_user(key.object + CONN_DATA);
    let net: u64 = read_user(tcp);
    let descriptor: u64 = read_user(net + DESCRIPTOR);
    let (family, kind): (u64, u64) = (read_user(net + FAMILY), read_user(net + KIND));
    if descriptor > u64::from(u32::MAX) || kind != STREAM {
        return None;
    }
    let sock = kernel::socket_of(descriptor as u32)?;
    if u64::from(kernel::family(sock)) != family {
        return None;
    }
    // One that was open before is met when it moves bytes, and found by the next call.
    let connection = CONNECTIONS.get_ptr_mut(sock)?;
    // SAFETY: as in `connections::of`.
    let connection = unsafe { &mut *connection };
    if connection.tuple.midstream == 0 && connection.position == [0; 2] {
        session.flags |= session_flag::BEGINNING;
    }
    tls::bind(key, session, sock, connection);
    Some(())
}

/// crypto/tls.(*Conn).writeRecordLocked(type, data []byte), at the jump that is taken when the stack
/// has to grow first.
///
/// Under the connection's lock, and before a byte leaves: whoever reads the peer's answer knows how
/// much was sent, also if this goroutine has not gone on by then.
#[uprobe]
pub fn go_write_record(ctx: ProbeContext) -> u32 {
    /// Jump if below or equal: carry, or zero.
    const GROWS: u64 = 1 | 1 << 6;
    /// Type of records that carry data, RFC 8446 §5.1.
    const DATA: u8 = 23;
    let regs = registers(&ctx);
    let len = regs.rdi as i64;
    if regs.eflags & GROWS != 0 || regs.rbx as u8 != DATA || len <= 0 {
        return 0;
    }
    let Some(thread) = calls::thread() else {
        return 0;
    };
    let key = tls::key(regs.rax);
    let Some(session) = session(&key) else {
        return 0;
    };
    let call = TlsCall {
        object: key.object,
        buffer: regs.rcx,
        // SAFETY: has no requirements.
        time: unsafe { bpf_ktime_get_ns() },
        direction: Sent as u32,
        ..TlsCall::default()
    };
    tls::tell(thread, &key, session, &call, len as u64);
    0
}

/// crypto/tls.(*Conn).Read(b []byte)
#[uprobe]
pub fn go_read(ctx: ProbeContext) -> u32 {
    if calls::thread().is_none() {
        return 0;
    }
    let regs = registers(&ctx);
    let key = tls::key(regs.rax);
    if let Some(session) = session(&key) {
        tls::begin_read(&key, session);
        let call = TlsCall {
            object: key.object,
            buffer: regs.rbx,
            direction: Received as u32,
            ..TlsCall::default()
        };
        let _ = GO_CALLS.insert(call_key(regs), &call, 0);
    }
    0
}

/// Before a return of it: the number of bytes is in rax.
#[uprobe]
pub fn go_return(ctx: ProbeContext) -> u32 {
    let regs = registers(&ctx);
    let call_key = call_key(regs);
    // SAFETY: a value of a map, which only its goroutine touches.
    let call = unsafe { GO_CALLS.get(call_key) };
    let len = regs.rax as i64;
    let Some(call) = call else {
        if len > 0 {
            tls::end_unseen();
        }
        return 0;
    };
    let call = *call;
    let _ = GO_CALLS.remove(call_key);
    if len <= 0 {
        return 0;
    }
    let Some(thread) = calls::thread() else {
        return 0;
    };
    let key = tls::key(call.object);
    if let Some(session) = tls::session(&key, 0) {
        tls::tell(thread, &key, session, &call, len as u64);
    }
    0
}

/// crypto/tls.(*Conn).Close()
#[uprobe]
pub fn go_close(ctx: ProbeContext) -> u32 {
    tls::forget(registers(&ctx).rax);
    0
}
