//! What a machine and a process bring along for live capture: findings, without a judgement.

use std::path::PathBuf;

use crate::hooks::{HookSet, Omitted, Target};

/// What a machine and a process bring along for live capture.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Release of the kernel, such as `6.12.43-amd64`.
    pub release: String,
    /// Architecture that this program was built for.
    pub machine: &'static str,
    /// The kernel's types.
    pub types: Types,
    /// What the process may do.
    pub rights: Rights,
    /// Mode of `/sys/kernel/security/lockdown`, if that can be read.
    pub lockdown: Option<String>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i64>,
    /// `net.core.bpf_jit_enable`, which only root may read.
    pub jit: Option<i64>,
    /// Most bytes that the process can allow itself to lock in memory; `None` if there is no bound.
    pub memlock: Option<u64>,
    /// Where tracepoints are listed.
    pub tracefs: Tracefs,
    /// Whether processes have the numbers here that the kernel knows them by.
    pub initial_pid_namespace: bool,
    /// What the kernel was asked for one by one. Empty where it could not be asked.
    pub features: Vec<Feature>,
    /// What became of loading maps and constants: the reason if the kernel refused.
    pub object: Result<(), String>,
    /// What became of attaching each hook set.
    pub hook_sets: Vec<Attempt>,
}

/// The kernel's types: `/sys/kernel/btf/vmlinux`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Types {
    /// All fields were found.
    Usable,
    /// They cannot be read.
    Unreadable(String),
    /// They lack something, which is named.
    Unknown(String),
}

/// What the process may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rights {
    /// Effective user id.
    pub user: u32,
    /// Effective capabilities, one bit each.
    pub capabilities: u64,
    /// Whether these count for the machine, and not only for a user namespace.
    pub initial_user_namespace: bool,
}

/// A right, as numbered in `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Capability {
    /// Read files whatever their permissions.
    DacReadSearch = 2,
    /// Look into any process.
    SysPtrace = 19,
    /// Nearly everything; stands for [`Bpf`](Self::Bpf) and [`Perfmon`](Self::Perfmon).
    SysAdmin = 21,
    /// Raise limits, such as that of locked memory.
    SysResource = 24,
    /// Attach programs that read memory, since Linux 5.8.
    Perfmon = 38,
    /// Create maps and load programs, since Linux 5.8.
    Bpf = 39,
}

impl Capability {
    /// As it is written in documentation.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DacReadSearch => "CAP_DAC_READ_SEARCH",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::SysResource => "CAP_SYS_RESOURCE",
            Self::Perfmon => "CAP_PERFMON",
            Self::Bpf => "CAP_BPF",
        }
    }
}

impl Rights {
    /// Whether the process has this capability, or one that stands for it.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        let bit = |capability: Capability| self.capabilities & (1 << capability as u8) != 0;
        match capability {
            Capability::Bpf | Capability::Perfmon => bit(capability) || bit(Capability::SysAdmin),
            _ => bit(capability),
        }
    }
}

/// Where tracepoints are listed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tracefs {
    /// It can be read here.
    Readable(PathBuf),
    /// It is here, and must not be read.
    Forbidden(PathBuf),
    /// It is here, and does not list system calls.
    WithoutSyscalls(PathBuf),
    /// It is not mounted.
    Missing,
}

/// Something that the programs need of the kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Feature {
    /// What sort of thing.
    pub kind: FeatureKind,
    /// Its name; of a helper, with the kind of program that calls it.
    pub name: String,
    /// Whether the kernel has it; `None` if it would not tell.
    pub supported: Option<bool>,
}

/// What sort of thing is needed of the kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FeatureKind {
    /// A kind of map.
    Map,
    /// A kind of program.
    Program,
    /// A function that programs call.
    Helper,
}

/// What became of attaching a hook set.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The set.
    pub set: HookSet,
    /// Its programs and where they run. Empty if the kernel's types are not known.
    pub hooks: Vec<(String, Target)>,
    /// How it ended.
    pub outcome: Outcome,
}

/// How an attempt to attach ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// All was attached, and detached again.
    Works {
        /// What the set does without.
        without: Vec<Omitted>,
    },
    /// The kernel refused.
    Refused {
        /// What it said.
        reason: String,
        /// Whether it named rights as the reason.
        permission: bool,
    },
    /// There was nothing to attach: the object was not loaded.
    NotTried,
}
