//! Judges the facts: what is as it should be, what is not, and what to do.

use std::collections::BTreeSet;

use super::facts::{
    Attempt, Capability, Facts, Feature, FeatureKind, Outcome, Rights, Tracefs, Types,
};
use crate::hooks::{HookSet, Omitted};

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Something is amiss, and live capture works all the same.
    Warn,
    /// Live capture does not work, and this is a reason.
    Fail,
}

impl Grade {
    /// As it is written in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Something that live capture needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Its name, which does not change between versions.
    pub id: &'static str,
    /// How it ended.
    pub grade: Grade,
    /// What was found, in a sentence without capital or full stop.
    pub found: String,
    /// What to do. `None` where there is nothing to do, or where another check tells.
    pub remedy: Option<&'static str>,
}

const KERNEL: &str = "use Linux 5.8 or newer, which has the ring buffer";
const MACHINE: &str = "use a machine of x86_64: the programs were compiled for it";
const BTF: &str = "use a kernel with CONFIG_DEBUG_INFO_BTF=y, which those of the distributions have; \
                   in a container, mount the machine's /sys";
const LAYOUT: &str = "report the kernel's release and this line: nothing is observed rather than \
                      misread";
const NAMESPACE: &str = "run it outside of the user namespace: rights inside of one (rootless \
                         containers, unshare --user) do not count for the kernel";
const RIGHTS: &str = "run it as root, or give it the rights: sudo setcap \
                      cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep on the program, \
                      AmbientCapabilities= in a systemd unit, capabilities.add in a container";
const LOCKDOWN: &str = "boot with lockdown=integrity or without: confidentiality forbids reading \
                        memory of the kernel";
const PERF: &str = "sysctl kernel.perf_event_paranoid=2, or run it as root: above 2 the kernels of \
                    some distributions let only CAP_SYS_ADMIN attach kprobes and tracepoints";
const MEMLOCK: &str = "before Linux 5.11 maps count as locked memory: ulimit -l unlimited, \
                       LimitMEMLOCK=infinity in a systemd unit, or add CAP_SYS_RESOURCE";
const TRACEFS_MISSING: &str = "mount -t tracefs nodev /sys/kernel/tracing, as root; in a container, \
                               mount the machine's /sys/kernel/tracing";
const TRACEFS_FORBIDDEN: &str = "add CAP_DAC_READ_SEARCH, or run it as root";
const SYSCALLS: &str = "use a kernel with CONFIG_FTRACE_SYSCALLS=y";
const KPROBES: &str = "use a kernel with CONFIG_KPROBES=y and CONFIG_KPROBE_EVENTS=y";
const TRAMPOLINES: &str = "use a kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y and the BPF \
                           JIT";
const FORBIDDEN: &str = "use another hook set or another kernel: this one forbids it to every user, by \
                         a security module or by how it was built";
const JIT: &str =
    "sysctl net.core.bpf_jit_enable=1: interpreted programs cost several times as much";
const PID_NAMESPACE: &str = "share the machine's processes (hostPID: true, --pid=host): the kernel \
                             knows them by other numbers than this container, so --pid, names and \
                             roles of what ran before may be wrong, and wirespan may observe itself";
const FEATURES: &str = "use a newer kernel, or one with CONFIG_BPF_SYSCALL=y, CONFIG_BPF_EVENTS=y";
const OBJECT: &str = "report this line: nothing above explains it";

/// What maps, with a ring buffer of 16 MiB, lock in memory before Linux 5.11, in bytes. Tried on
/// 5.10: 48 MiB are enough, 40 are not.
const LOCKED: u64 = 48 << 20;

/// Judges the facts. Live capture works if some hook set does; then nothing fails, and what is amiss
/// is a warning.
#[must_use]
pub fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![kernel(facts), btf(&facts.types), rights(&facts.rights)];
    checks.extend(settings(facts));
    checks.push(tracefs(&facts.tracefs));
    for kind in [FeatureKind::Map, FeatureKind::Program, FeatureKind::Helper] {
        checks.extend(features(&facts.features, kind));
    }
    if let Err(reason) = &facts.object {
        let is_explained = checks.iter().any(|check| check.grade == Grade::Fail);
        let remedy = (!is_explained).then_some(OBJECT);
        checks.push(check("object", Grade::Fail, reason.clone(), remedy));
    }
    checks.extend(facts.hook_sets.iter().map(|attempt| hooks(attempt, facts)));
    if usable(facts).is_some() {
        for check in &mut checks {
            if check.grade == Grade::Fail {
                check.grade = Grade::Warn;
            }
        }
    }
    checks
}

/// The hook set that would be used: the first that works.
#[must_use]
pub fn usable(facts: &Facts) -> Option<HookSet> {
    let works = |attempt: &&Attempt| matches!(attempt.outcome, Outcome::Works { .. });
    facts
        .hook_sets
        .iter()
        .find(works)
        .map(|attempt| attempt.set)
}

/// Name of the check of a hook set.
#[must_use]
pub const fn hooks_check(set: HookSet) -> &'static str {
    match set {
        HookSet::Fentry => "hooks.fentry",
        HookSet::Kprobe => "hooks.kprobe",
        HookSet::Tracepoint => "hooks.tracepoint",
    }
}

const fn check(
    id: &'static str,
    grade: Grade,
    found: String,
    remedy: Option<&'static str>,
) -> Check {
    Check {
        id,
        grade,
        found,
        remedy,
    }
}

fn kernel(facts: &Facts) -> Check {
    let found = format!("Linux {} on {}", facts.release, facts.machine);
    let (grade, remedy) = match version(&facts.release) {
        Some(version) if version < (5, 8) => (Grade::Fail, Some(KERNEL)),
        _ if facts.machine != "x86_64" => (Grade::Fail, Some(MACHINE)),
        _ => (Grade::Ok, None),
    };
    check("kernel", grade, found, remedy)
}

/// Major and minor number of a release such as `6.12.43-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn btf(types: &Types) -> Check {
    let (grade, found, remedy) = match types {
        Types::Usable => (
            Grade::Ok,
            "the kernel's types are known, and all fields found".to_owned(),
            None,
        ),
        Types::Unreadable(reason) => (
            Grade::Fail,
            format!("cannot read {}: {reason}", crate::kernel::TYPES),
            Some(BTF),
        ),
        Types::Unknown(reason) => (Grade::Fail, reason.clone(), Some(LAYOUT)),
    };
    check("btf", grade, found, remedy)
}

fn rights(rights: &Rights) -> Check {
    let user = format!("user {}", rights.user);
    let lacks = |wanted: &[Capability]| -> Vec<_> {
        let missing = wanted.iter().filter(|one| !rights.has(**one));
        missing.map(|one| one.name()).collect()
    };
    let needed = lacks(&[Capability::Bpf, Capability::Perfmon]);
    let useful = lacks(&[Capability::SysPtrace, Capability::DacReadSearch]);
    let all = [needed.as_slice(), useful.as_slice()].concat().join(", ");
    if !rights.initial_user_namespace {
        let found = format!("{user} of a user namespace");
        return check("rights", Grade::Fail, found, Some(NAMESPACE));
    }
    let (grade, found, remedy) = if !needed.is_empty() {
        (Grade::Fail, format!("{user} without {all}"), Some(RIGHTS))
    } else if !useful.is_empty() && rights.user != 0 {
        (Grade::Warn, format!("{user} without {all}"), Some(RIGHTS))
    } else {
        (Grade::Ok, format!("{user} with all that is needed"), None)
    };
    check("rights", grade, found, remedy)
}

/// What the machine is set to. Where a setting cannot be read, trying shows what it is.
fn settings(facts: &Facts) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(mode) = &facts.lockdown {
        let forbids = mode == "confidentiality";
        let grade = if forbids { Grade::Fail } else { Grade::Ok };
        let remedy = forbids.then_some(LOCKDOWN);
        checks.push(check("lockdown", grade, mode.clone(), remedy));
    }
    if let Some(value) = facts.perf_event_paranoid {
        let forbids = is_paranoid(facts);
        let grade = if forbids { Grade::Fail } else { Grade::Ok };
        let found = format!("kernel.perf_event_paranoid = {value}");
        checks.push(check("perf-events", grade, found, forbids.then_some(PERF)));
    }
    if version(&facts.release).is_some_and(|version| version < (5, 11)) {
        let (grade, found) = match facts.memlock {
            Some(bytes) if bytes < LOCKED => (Grade::Fail, format!("at most {} KiB", bytes >> 10)),
            Some(bytes) => (Grade::Ok, format!("up to {} MiB", bytes >> 20)),
            None => (Grade::Ok, "without limit".to_owned()),
        };
        let remedy = (grade != Grade::Ok).then_some(MEMLOCK);
        let found = format!("memory can be locked {found}");
        checks.push(check("locked-memory", grade, found, remedy));
    }
    if let Some(value) = facts.jit {
        let found = format!("net.core.bpf_jit_enable = {value}");
        let (grade, remedy) = match value {
            0 => (Grade::Warn, Some(JIT)),
            _ => (Grade::Ok, None),
        };
        checks.push(check("jit", grade, found, remedy));
    }
    let (grade, found, remedy) = if facts.initial_pid_namespace {
        (Grade::Ok, "the machine's own", None)
    } else {
        (Grade::Warn, "a container's", Some(PID_NAMESPACE))
    };
    checks.push(check("pid-namespace", grade, found.to_owned(), remedy));
    checks
}

/// Whether kprobes and tracepoints are for `CAP_SYS_ADMIN` alone, if the kernel is a distribution's
/// that knows values above 2.
fn is_paranoid(facts: &Facts) -> bool {
    let value = facts.perf_event_paranoid;
    value.is_some_and(|value| value > 2) && !facts.rights.has(Capability::SysAdmin)
}

fn tracefs(tracefs: &Tracefs) -> Check {
    let (grade, found, remedy) = match tracefs {
        Tracefs::Readable(at) => (Grade::Ok, format!("mounted at {}", at.display()), None),
        Tracefs::Forbidden(at) => (
            Grade::Fail,
            format!("mounted at {}, which must not be read", at.display()),
            Some(TRACEFS_FORBIDDEN),
        ),
        Tracefs::WithoutSyscalls(at) => (
            Grade::Fail,
            format!("mounted at {}, without system calls", at.display()),
            Some(SYSCALLS),
        ),
        Tracefs::Missing => (
            Grade::Fail,
            "not mounted, at /sys/kernel/tracing or /sys/kernel/debug/tracing".to_owned(),
            Some(TRACEFS_MISSING),
        ),
    };
    check("tracefs", grade, found, remedy)
}

/// The features of a kind, together. Nothing is said where the kernel was not asked.
fn features(features: &[Feature], kind: FeatureKind) -> Option<Check> {
    let id = match kind {
        FeatureKind::Map => "maps",
        FeatureKind::Program => "program-types",
        FeatureKind::Helper => "helpers",
    };
    let of_kind = || features.iter().filter(|feature| feature.kind == kind);
    let names = |supported: Option<bool>| -> Vec<&str> {
        let found = of_kind().filter(|feature| feature.supported == supported);
        found.map(|feature| feature.name.as_str()).collect()
    };
    let (there, missing, untold) = (names(Some(true)), names(Some(false)), names(None));
    if there.is_empty() && missing.is_empty() {
        return None;
    }
    if !missing.is_empty() {
        let found = format!("missing: {}", missing.join(", "));
        return Some(check(id, Grade::Fail, found, Some(FEATURES)));
    }
    let mut found = format!("all {} there", there.len());
    if !untold.is_empty() {
        found = format!(
            "{} there; {} can only be tried, see below",
            there.len(),
            untold.len()
        );
    }
    Some(check(id, Grade::Ok, found, None))
}

fn hooks(attempt: &Attempt, facts: &Facts) -> Check {
    let id = hooks_check(attempt.set);
    match &attempt.outcome {
        Outcome::Works { without } => {
            let mut found = "attached and detached again".to_owned();
            if let Some(names) = names(without, false) {
                found.push_str(&format!("; this kernel has no {names}"));
            }
            let Some(names) = names(without, true) else {
                return check(id, Grade::Ok, found, None);
            };
            found.push_str(&format!("; without {names}, which the kernel refused"));
            // They are kprobes, whatever the set.
            let remedy = refused(HookSet::Kprobe, true, facts);
            check(id, Grade::Warn, found, Some(remedy))
        }
        Outcome::Refused { reason, permission } => {
            let remedy = refused(attempt.set, *permission, facts);
            check(id, Grade::Fail, reason.clone(), Some(remedy))
        }
        Outcome::NotTried => {
            let found = "not tried: the object could not be loaded".to_owned();
            check(id, Grade::Fail, found, None)
        }
    }
}

/// Names of what was left out for want of rights, or for want of a place; each once.
fn names(omitted: &[Omitted], permission: bool) -> Option<String> {
    let omitted = omitted.iter().filter(|one| one.permission == permission);
    let names: BTreeSet<_> = omitted.map(|one| one.target.to_string()).collect();
    let names: Vec<_> = names.into_iter().collect();
    (!names.is_empty()).then(|| names.join(", "))
}

/// What to do where the kernel refused a hook set.
fn refused(set: HookSet, permission: bool, facts: &Facts) -> &'static str {
    match (set, &facts.tracefs) {
        _ if rights(&facts.rights).grade == Grade::Fail => RIGHTS,
        (HookSet::Tracepoint, Tracefs::Missing) => TRACEFS_MISSING,
        (HookSet::Tracepoint, Tracefs::Forbidden(_)) => TRACEFS_FORBIDDEN,
        (HookSet::Kprobe | HookSet::Tracepoint, _) if is_paranoid(facts) => PERF,
        _ if permission => FORBIDDEN,
        (HookSet::Fentry, _) => TRAMPOLINES,
        (HookSet::Kprobe, _) => KPROBES,
        (HookSet::Tracepoint, _) => SYSCALLS,
    }
}

#[cfg(test)]
mod tests;
