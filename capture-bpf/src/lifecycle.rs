//! Birth and death of connections and processes.
//!
//! Raw tracepoints, because they also run when an interrupt hits another program on the same
//! processor, where programs of the perf kind would be left out. Not the same program, though: what
//! a connection cannot do without runs as two programs, of which the second does nothing where the
//! first has run.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use wirespan_capture_abi::{Direction, EventKind, Header, Role, Verdict, flag};

use crate::connections;
use crate::copy;
use crate::kernel;
use crate::maps::{GO_PROGRAMS, THREADS};
use crate::tls;

/// States of TCP, `include/net/tcp_states.h`.
const ESTABLISHED: u32 = 1;
const SYN_SENT: u32 = 2;
const FIN_WAIT1: u32 = 4;
const CLOSE_WAIT: u32 = 8;
const LAST_ACK: u32 = 9;
const CLOSING: u32 = 11;

/// `sock:inet_sock_set_state` (sk, oldstate, newstate)
#[raw_tracepoint]
#[inline(always)]
pub fn socket_state(ctx: RawTracePointContext) -> i32 {
    state(&ctx, false)
}

/// The same, where [`socket_state`] was passed over.
#[raw_tracepoint]
#[inline(always)]
pub fn socket_state_again(ctx: RawTracePointContext) -> i32 {
    state(&ctx, true)
}

#[inline(always)]
fn state(ctx: &RawTracePointContext, again: bool) -> i32 {
    let sock: u64 = ctx.arg(0);
    let old: u32 = ctx.arg(1);
    match ctx.arg::<u32>(2) {
        ESTABLISHED => {
            if kernel::is_tcp(sock) && !(again && connections::is_known(sock)) {
                let role = if old == SYN_SENT {
                    Role::Client
                } else {
                    Role::Server
                };
                connections::establish(sock, kernel::family(sock), role);
            }
        }
        FIN_WAIT1 | LAST_ACK => connections::end(sock, Direction::Sent),
        CLOSE_WAIT | CLOSING => connections::end(sock, Direction::Received),
        _ => {}
    }
    0
}

/// `tcp:tcp_destroy_sock` (sk)
#[raw_tracepoint]
pub fn socket_gone(ctx: RawTracePointContext) -> i32 {
    connections::close(ctx.arg(0));
    0
}

/// The same, where [`socket_gone`] was passed over.
#[raw_tracepoint]
pub fn socket_gone_again(ctx: RawTracePointContext) -> i32 {
    connections::close(ctx.arg(0));
    0
}

/// `sched:sched_process_exec`
#[raw_tracepoint]
pub fn process_exec(_: RawTracePointContext) -> i32 {
    leave(EventKind::Exec, 0);
    tls::mapped();
    0
}

/// `task:task_rename`: its name is another from now on.
#[raw_tracepoint]
pub fn process_renamed(_: RawTracePointContext) -> i32 {
    leave(EventKind::Exec, flag::RENAMED)
}

/// `sched:sched_process_exit`
#[raw_tracepoint]
pub fn process_exit(_: RawTracePointContext) -> i32 {
    leave(EventKind::Exit, 0)
}

/// Forgets the current thread; if it is the first of an observed process, tells the reader.
#[inline(always)]
fn leave(kind: EventKind, flags: u8) -> i32 {
    let id = bpf_get_current_pid_tgid();
    let is_first = id >> 32 == id & 0xffff_ffff;
    if is_first && flags == 0 {
        let _ = GO_PROGRAMS.remove((id >> 32) as u32);
    }
    // SAFETY: only the thread itself touches its value.
    let Some(thread) = (unsafe { THREADS.get(id) }) else {
        return 0;
    };
    let observed = thread.verdict == Verdict::Observe as u32;
    let _ = THREADS.remove(id);
    if observed && is_first {
        let header = Header {
            kind: kind as u8,
            flags,
            tgid: (id >> 32) as u32,
            task: id as u32,
            // SAFETY: has no requirements.
            time: unsafe { bpf_ktime_get_ns() },
            ..Header::default()
        };
        copy::submit(&header);
    }
    0
}
