//! Hook sets: which programs are attached where.

use std::fmt;
use std::os::fd::OwnedFd;
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
use crate::preemption::is_preemptible;

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
    /// All, the least costly first.
    const ALL: [Self; 3] = [Self::Fentry, Self::Kprobe, Self::Tracepoint];

    /// All, in the order in which they are to be tried on this kernel.
    ///
    /// Where tasks are preempted inside of the kernel, all but kprobes may be: a task that is
    /// preempted within a program keeps it from running for others on that processor.
    #[must_use]
    pub fn preferred() -> [Self; 3] {
        if is_preemptible() {
            [Self::Kprobe, Self::Fentry, Self::Tracepoint]
        } else {
            Self::ALL
        }
    }

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
    /// At all its places of a file.
    Multi(#[expect(dead_code, reason = "dropped")] OwnedFd),
}

/// A place of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// Of its first byte in the file.
    pub(crate) offset: u64,
    /// What a program is told that runs there.
    pub(crate) cookie: Option<u64>,
}

/// Links that are detached at once. For each the kernel waits until no processor is in its program any
/// more, tens of milliseconds; for those that are detached meanwhile, it is the same wait.
const AT_ONCE: usize = 16;

/// Detaches, and returns when it is done.
pub(crate) fn detach(mut links: Vec<Link>) {
    let share = links.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        while !links.is_empty() {
            let part = links.split_off(links.len().saturating_sub(share));
            // Where there can be no more threads, they are dropped here.
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || drop(part));
        }
    });
}

/// A program and where it runs.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    pub(crate) program: String,
    pub(crate) target: Target,
    /// Whether to do without it where the kernel does not have the target.
    pub(crate) optional: bool,
}

/// Birth and death of connections and processes, for every set: program, tracepoint, and whether
/// the kernel must have it.
const LIFECYCLE: [(&str, &str, bool); 7] = [
    ("socket_state", "inet_sock_set_state", true),
    ("socket_state_again", "inet_sock_set_state", true),
    ("socket_gone", "tcp_destroy_sock", true),
    ("socket_gone_again", "tcp_destroy_sock", true),
    ("process_exec", "sched_process_exec", true),
    ("process_renamed", "task_rename", false),
    ("process_exit", "sched_process_exit", true),
];

/// Who has code that he had not: for TLS libraries. Without it, processes are looked at when they
/// run a program, and what they load later is not seen.
const MAPPED: (&str, &str) = ("enter_mmap", "sys_enter_mmap");

/// Programs and the tracepoints of system calls. Returns before entries: a call whose entry was seen
/// must not be left open.
const SYSCALLS: [(&str, &str); 30] = [
    ("exit_connect", "sys_exit_connect"),
    ("exit_call", "sys_exit_read"),
    ("exit_call", "sys_exit_write"),
    ("exit_call", "sys_exit_recvfrom"),
    ("exit_call", "sys_exit_sendto"),
    ("exit_call", "sys_exit_readv"),
    ("exit_call", "sys_exit_writev"),
    ("exit_call", "sys_exit_preadv2"),
    ("exit_call", "sys_exit_pwritev2"),
    ("exit_call", "sys_exit_recvmsg"),
    ("exit_call", "sys_exit_sendmsg"),
    ("exit_call", "sys_exit_splice"),
    ("exit_call", "sys_exit_sendfile64"),
    ("exit_messages", "sys_exit_recvmmsg"),
    ("exit_messages", "sys_exit_sendmmsg"),
    ("enter_connect", "sys_enter_connect"),
    ("enter_read", "sys_enter_read"),
    ("enter_write", "sys_enter_write"),
    ("enter_recvfrom", "sys_enter_recvfrom"),
    ("enter_sendto", "sys_enter_sendto"),
    ("enter_readv", "sys_enter_readv"),
    ("enter_writev", "sys_enter_writev"),
    ("enter_readv", "sys_enter_preadv2"),
    ("enter_writev", "sys_enter_pwritev2"),
    ("enter_recvmsg", "sys_enter_recvmsg"),
    ("enter_sendmsg", "sys_enter_sendmsg"),
    ("enter_recvmmsg", "sys_enter_recvmmsg"),
    ("enter_sendmmsg", "sys_enter_sendmmsg"),
    ("enter_splice", "sys_enter_splice"),
    ("enter_sendfile", "sys_enter_sendfile64"),
];

/// Functions that move bytes of sockets, and whether the kernel must have them. Programs are named
/// after them, behind the way in which they are attached.
const FUNCTIONS: [(&str, bool); 7] = [
    ("tcp_sendmsg", true),
    ("tcp_recvmsg", true),
    ("tcp_sendpage", false),
    ("tcp_splice_read", false),
    ("unix_stream_sendmsg", false),
    ("unix_stream_recvmsg", false),
    ("unix_stream_connect", false),
];

/// What a set attaches, in this order. Births and deaths come first: a socket of which only bytes
/// were seen would be taken for the next one at its address.
pub(crate) fn hooks(set: HookSet) -> Vec<Hook> {
    let hook = |program: String, target, required: bool| Hook {
        program,
        target,
        optional: !required,
    };
    let mut hooks: Vec<_> = LIFECYCLE
        .map(|(program, name, required)| {
            hook(program.to_owned(), Target::RawTracepoint(name), required)
        })
        .into();
    let (program, name) = MAPPED;
    let target = Target::Tracepoint("syscalls", name);
    hooks.push(hook(program.to_owned(), target, false));
    match set {
        HookSet::Tracepoint => hooks.extend(SYSCALLS.map(|(program, name)| {
            let target = Target::Tracepoint("syscalls", name);
            hook(program.to_owned(), target, true)
        })),
        HookSet::Kprobe => {
            hooks.extend(FUNCTIONS.map(|(function, required)| {
                let (program, function) = kprobe_return(function);
                hook(program.to_owned(), Target::Function(function), required)
            }));
            hooks.extend(FUNCTIONS.map(|(function, required)| {
                let program = format!("kprobe_{function}");
                hook(program, Target::Function(function), required)
            }));
        }
        HookSet::Fentry => {
            for way in ["fexit", "fentry"] {
                hooks.extend(FUNCTIONS.map(|(function, required)| {
                    let program = format!("{way}_{function}");
                    hook(program, Target::Trampoline(function), required)
                }));
            }
        }
    }
    hooks
}

/// What tells that a function has done its work. A kretprobe keeps few return addresses, so none is
/// on a function in which processes wait for bytes over TCP. Unix sockets have no other place.
fn kprobe_return(function: &'static str) -> (&'static str, &'static str) {
    match function {
        "tcp_recvmsg" => ("kprobe_tcp_cleanup_rbuf", "tcp_cleanup_rbuf"),
        "unix_stream_connect" => ("kretprobe_unix_stream_connect", function),
        _ => ("kretprobe_finish", function),
    }
}

/// Whether another program does the same where this one is passed over.
pub(crate) fn has_second(program: &str) -> bool {
    let second = |(other, _, _): (&str, _, _)| other.strip_suffix("_again") == Some(program);
    LIFECYCLE.into_iter().any(second)
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
    place: Place,
) -> Result<Link, Error> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| Error::Missing(format!("program {name}")))?;
    uprobe(program, file, place).map_err(|cause| Error::Program {
        program: name.to_owned(),
        cause,
    })
}

fn uprobe(program: &mut Program, file: &Path, place: Place) -> Result<Link, ProgramError> {
    let program: &mut UProbe = program.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    let point = UProbeAttachPoint {
        location: UProbeAttachLocation::AbsoluteOffset(place.offset),
        cookie: place.cookie,
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
