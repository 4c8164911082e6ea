//! Hook sets: which programs are attached where.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use aya::Ebpf;
use aya::programs::fentry::FEntryLink;
use aya::programs::fexit::FExitLink;
use aya::programs::kprobe::KProbeLink;
use aya::programs::raw_trace_point::RawTracePointLink;
use aya::programs::trace_point::TracePointLink;
use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{
    FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint, UProbe,
};

use crate::Error;
use crate::btf::Btf;

/// Where socket bytes are observed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HookSet {
    /// Kernel functions, by fentry and fexit.
    Fentry,
    /// Kernel functions, by kprobe and kretprobe.
    Kprobe,
    /// System calls, by tracepoints.
    Tracepoint,
}

impl HookSet {
    /// In the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Tracepoint];

    /// As it is written on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
            Self::Tracepoint => "tracepoint",
        }
    }
}

impl fmt::Display for HookSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HookSet {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|set| set.name() == name)
            .ok_or_else(|| "expected fentry, kprobe or tracepoint".to_owned())
    }
}

/// A place in the kernel where a program can run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// `category`, `name` of a tracepoint.
    Tracepoint(&'static str, &'static str),
    /// Name of a raw tracepoint.
    RawTracepoint(&'static str),
    /// Name of a kernel function, by kprobe or kretprobe.
    Function(&'static str),
    /// Name of a kernel function, by fentry or fexit.
    Trampoline(&'static str),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint(category, name) => write!(f, "{category}:{name}"),
            Self::RawTracepoint(name) | Self::Function(name) | Self::Trampoline(name) => {
                f.write_str(name)
            }
        }
    }
}

/// A target that a hook set does without.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Omitted {
    /// The target.
    pub target: Target,
    /// Whether the kernel has it, and named rights as the reason to refuse it.
    pub permission: bool,
}

/// A program that runs somewhere. Dropping it detaches.
#[derive(Debug)]
pub(crate) enum Link {
    Tracepoint(#[expect(dead_code, reason = "dropped")] TracePointLink),
    RawTracepoint(#[expect(dead_code, reason = "dropped")] RawTracePointLink),
    Kprobe(#[expect(dead_code, reason = "dropped")] KProbeLink),
    Fentry(#[expect(dead_code, reason = "dropped")] FEntryLink),
    Fexit(#[expect(dead_code, reason = "dropped")] FExitLink),
    Uprobe(#[expect(dead_code, reason = "dropped")] UProbeLink),
}

/// A program and where it runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) program: &'static str,
    pub(crate) target: Target,
    /// Whether to do without it where the kernel does not have the target.
    pub(crate) optional: bool,
}

const fn hook(program: &'static str, target: Target) -> Hook {
    Hook {
        program,
        target,
        optional: false,
    }
}

const fn optional(program: &'static str, target: Target) -> Hook {
    Hook {
        program,
        target,
        optional: true,
    }
}

const fn syscall(program: &'static str, name: &'static str) -> Hook {
    hook(program, Target::Tracepoint("syscalls", name))
}

/// Who has code that he had not: for TLS libraries. Without it, processes are looked at when they
/// run a program, and what they load later is not seen.
const MAPPED: Hook = optional(
    "enter_mmap",
    Target::Tracepoint("syscalls", "sys_enter_mmap"),
);

/// Birth and death of connections and processes, for every set.
const LIFECYCLE: [Hook; 5] = [
    hook("socket_state", Target::RawTracepoint("inet_sock_set_state")),
    hook("socket_gone", Target::RawTracepoint("tcp_destroy_sock")),
    hook("process_exec", Target::RawTracepoint("sched_process_exec")),
    optional("process_renamed", Target::RawTracepoint("task_rename")),
    hook("process_exit", Target::RawTracepoint("sched_process_exit")),
];

/// Returns before entries: a call whose entry was seen must not be left open.
const SYSCALLS: [Hook; 26] = [
    syscall("exit_buffer", "sys_exit_read"),
    syscall("exit_buffer", "sys_exit_write"),
    syscall("exit_buffer", "sys_exit_recvfrom"),
    syscall("exit_buffer", "sys_exit_sendto"),
    syscall("exit_vectors", "sys_exit_readv"),
    syscall("exit_vectors", "sys_exit_writev"),
    syscall("exit_vectors", "sys_exit_preadv2"),
    syscall("exit_vectors", "sys_exit_pwritev2"),
    syscall("exit_vectors", "sys_exit_recvmsg"),
    syscall("exit_vectors", "sys_exit_sendmsg"),
    syscall("exit_messages", "sys_exit_recvmmsg"),
    syscall("exit_messages", "sys_exit_sendmmsg"),
    syscall("exit_nothing", "sys_exit_splice"),
    syscall("exit_nothing", "sys_exit_sendfile64"),
    syscall("enter_read", "sys_enter_read"),
    syscall("enter_write", "sys_enter_write"),
    syscall("enter_recvfrom", "sys_enter_recvfrom"),
    syscall("enter_sendto", "sys_enter_sendto"),
    syscall("enter_read", "sys_enter_readv"),
    syscall("enter_write", "sys_enter_writev"),
    syscall("enter_read", "sys_enter_preadv2"),
    syscall("enter_write", "sys_enter_pwritev2"),
    syscall("enter_recvmsg", "sys_enter_recvmsg"),
    syscall("enter_sendmsg", "sys_enter_sendmsg"),
    syscall("enter_recvmmsg", "sys_enter_recvmmsg"),
    syscall("enter_sendto", "sys_enter_sendmmsg"),
];

const SYSCALLS_WITHOUT_MEMORY: [Hook; 4] = [
    syscall("exit_connect", "sys_exit_connect"),
    syscall("enter_connect", "sys_enter_connect"),
    syscall("enter_splice", "sys_enter_splice"),
    syscall("enter_sendfile", "sys_enter_sendfile64"),
];

/// A kretprobe keeps few return addresses, so none is on a function in which processes wait for
/// bytes over TCP. Unix sockets have no other place.
const KPROBES: [Hook; 14] = [
    hook("kretprobe_message", Target::Function("tcp_sendmsg")),
    hook(
        "kprobe_tcp_cleanup_rbuf",
        Target::Function("tcp_cleanup_rbuf"),
    ),
    hook("kprobe_tcp_sendmsg", Target::Function("tcp_sendmsg")),
    hook("kprobe_tcp_recvmsg", Target::Function("tcp_recvmsg")),
    optional("kretprobe_nothing", Target::Function("tcp_sendpage")),
    optional("kretprobe_nothing", Target::Function("tcp_splice_read")),
    optional("kretprobe_message", Target::Function("unix_stream_sendmsg")),
    optional("kretprobe_message", Target::Function("unix_stream_recvmsg")),
    optional("kprobe_tcp_sendpage", Target::Function("tcp_sendpage")),
    optional(
        "kprobe_tcp_splice_read",
        Target::Function("tcp_splice_read"),
    ),
    optional(
        "kretprobe_unix_connect",
        Target::Function("unix_stream_connect"),
    ),
    optional(
        "kprobe_unix_connect",
        Target::Function("unix_stream_connect"),
    ),
    optional(
        "kprobe_unix_sendmsg",
        Target::Function("unix_stream_sendmsg"),
    ),
    optional(
        "kprobe_unix_recvmsg",
        Target::Function("unix_stream_recvmsg"),
    ),
];

const TRAMPOLINES: [Hook; 13] = [
    hook("fexit_tcp_sendmsg", Target::Trampoline("tcp_sendmsg")),
    hook("fentry_tcp_sendmsg", Target::Trampoline("tcp_sendmsg")),
    hook("fentry_tcp_recvmsg", Target::Trampoline("tcp_recvmsg")),
    optional("fexit_tcp_sendpage", Target::Trampoline("tcp_sendpage")),
    optional(
        "fexit_tcp_splice_read",
        Target::Trampoline("tcp_splice_read"),
    ),
    optional(
        "fexit_unix_sendmsg",
        Target::Trampoline("unix_stream_sendmsg"),
    ),
    optional(
        "fexit_unix_recvmsg",
        Target::Trampoline("unix_stream_recvmsg"),
    ),
    optional("fentry_tcp_sendpage", Target::Trampoline("tcp_sendpage")),
    optional(
        "fentry_tcp_splice_read",
        Target::Trampoline("tcp_splice_read"),
    ),
    optional(
        "fexit_unix_connect",
        Target::Trampoline("unix_stream_connect"),
    ),
    optional(
        "fentry_unix_connect",
        Target::Trampoline("unix_stream_connect"),
    ),
    optional(
        "fentry_unix_sendmsg",
        Target::Trampoline("unix_stream_sendmsg"),
    ),
    optional(
        "fentry_unix_recvmsg",
        Target::Trampoline("unix_stream_recvmsg"),
    ),
];

/// What a set attaches, in this order. Births and deaths come first: a socket of which only bytes
/// were seen would be taken for the next one at its address.
pub(crate) fn hooks(set: HookSet, btf: &Btf<'_>) -> Vec<Hook> {
    let mut hooks = LIFECYCLE.to_vec();
    hooks.push(MAPPED);
    match set {
        HookSet::Tracepoint => {
            hooks.extend(SYSCALLS);
            hooks.extend(SYSCALLS_WITHOUT_MEMORY);
        }
        HookSet::Kprobe => {
            hooks.extend(KPROBES);
        }
        HookSet::Fentry => {
            // What it returned follows its arguments, of which it lost two over the years.
            let returned = match btf.parameters("tcp_recvmsg").map_or(0, |names| names.len()) {
                6 => "fexit_tcp_recvmsg_6",
                5 => "fexit_tcp_recvmsg_5",
                _ => "fexit_tcp_recvmsg_4",
            };
            hooks.push(hook(returned, Target::Trampoline("tcp_recvmsg")));
            hooks.extend(TRAMPOLINES);
        }
    }
    hooks
}

/// Loads a program unless it is, and lets it run at a target.
pub(crate) fn attach(
    ebpf: &mut Ebpf,
    types: Option<&aya::Btf>,
    name: &str,
    target: Target,
) -> Result<Link, Error> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| Error::Missing(format!("program {name}")))?;
    link(program, types, target).map_err(|cause| Error::Program {
        program: name.to_owned(),
        cause,
    })
}

fn link(
    program: &mut Program,
    types: Option<&aya::Btf>,
    target: Target,
) -> Result<Link, ProgramError> {
    let is_loaded = program.fd().is_ok();
    match target {
        Target::Tracepoint(category, name) => {
            let program: &mut TracePoint = program.try_into()?;
            if !is_loaded {
                program.load()?;
            }
            let id = program.attach(category, name)?;
            program.take_link(id).map(Link::Tracepoint)
        }
        Target::RawTracepoint(name) => {
            let program: &mut RawTracePoint = program.try_into()?;
            if !is_loaded {
                program.load()?;
            }
            let id = program.attach(name)?;
            program.take_link(id).map(Link::RawTracepoint)
        }
        Target::Function(name) => {
            let program: &mut KProbe = program.try_into()?;
            if !is_loaded {
                program.load()?;
            }
            let id = program.attach(name, 0)?;
            program.take_link(id).map(Link::Kprobe)
        }
        Target::Trampoline(name) => trampoline(program, types, name, is_loaded),
    }
}

/// Loads a program unless it is, and lets it run at a place of a file.
pub(crate) fn attach_to_file(
    ebpf: &mut Ebpf,
    name: &str,
    file: &Path,
    offset: u64,
    cookie: Option<u64>,
) -> Result<Link, Error> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| Error::Missing(format!("program {name}")))?;
    uprobe(program, file, offset, cookie).map_err(|cause| Error::Program {
        program: name.to_owned(),
        cause,
    })
}

fn uprobe(
    program: &mut Program,
    file: &Path,
    offset: u64,
    cookie: Option<u64>,
) -> Result<Link, ProgramError> {
    let program: &mut UProbe = program.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(offset),
        cookie,
    };
    let id = program.attach(point, file, UProbeScope::AllProcesses)?;
    program.take_link(id).map(Link::Uprobe)
}

/// Loads a program of probes on files; whether the kernel takes it.
pub(crate) fn takes(ebpf: &mut Ebpf, name: &str) -> bool {
    let Some(Program::UProbe(program)) = ebpf.program_mut(name) else {
        return false;
    };
    program.fd().is_ok() || program.load().is_ok()
}

fn trampoline(
    program: &mut Program,
    types: Option<&aya::Btf>,
    name: &str,
    is_loaded: bool,
) -> Result<Link, ProgramError> {
    let types = types.ok_or(ProgramError::NotLoaded)?;
    if let Program::FEntry(_) = program {
        let program: &mut FEntry = program.try_into()?;
        if !is_loaded {
            program.load(name, types)?;
        }
        let id = program.attach()?;
        return program.take_link(id).map(Link::Fentry);
    }
    let program: &mut FExit = program.try_into()?;
    if !is_loaded {
        program.load(name, types)?;
    }
    let id = program.attach()?;
    program.take_link(id).map(Link::Fexit)
}
