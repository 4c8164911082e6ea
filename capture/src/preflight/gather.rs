//! Gathers the facts: reads what the kernel tells of itself, and tries everything out.

use std::env::consts::ARCH;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use aya::sys::{is_helper_supported, is_map_supported, is_program_supported};

use super::facts::{
    Attempt, Capability, Facts, Feature, FeatureKind, Outcome, Rights, Tracefs, Types,
};
use super::programs::{self, Contents};
use crate::btf::Btf;
use crate::hooks::{self, HookSet};
use crate::kernel::{Filters, Kernel, TYPES};
use crate::offsets;

/// Inode numbers of the namespaces that a machine starts with: `include/linux/proc_ns.h`.
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Where tracefs is looked for when programs are attached.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Looks at everything, and attaches each hook set for a moment. Nothing stays attached.
///
/// `ring_bytes` is the size of the ring buffer to try: a power of two, at least a page.
#[must_use]
pub fn gather(ring_bytes: u32) -> Facts {
    let rights = rights();
    let (object, hook_sets) = attempts(ring_bytes);
    Facts {
        release: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        machine: ARCH,
        types: types(),
        rights,
        lockdown: line("/sys/kernel/security/lockdown").and_then(|modes| chosen(&modes)),
        perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        memlock: memlock(&rights),
        tracefs: tracefs(),
        initial_pid_namespace: is_namespace("/proc/self/ns/pid", INITIAL_PID_NAMESPACE),
        features: features(&rights),
        object,
        hook_sets,
    }
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(str::to_owned)
}

fn number(path: &str) -> Option<i64> {
    line(path)?.trim().parse().ok()
}

/// The mode in brackets: `none [integrity] confidentiality`.
fn chosen(modes: &str) -> Option<String> {
    let (_, rest) = modes.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.to_owned())
}

fn types() -> Types {
    let bytes = match fs::read(TYPES) {
        Ok(bytes) => bytes,
        Err(error) => return Types::Unreadable(error.to_string()),
    };
    match Btf::parse(&bytes).and_then(|btf| offsets::offsets(&btf)) {
        Ok(_) => Types::Usable,
        Err(error) => Types::Unknown(error.to_string()),
    }
}

fn rights() -> Rights {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)).unwrap_or("")
    };
    // Real, effective, saved, file system.
    let user = field("Uid:").split_ascii_whitespace().nth(1);
    let capabilities = field("CapEff:").trim();
    Rights {
        user: user.and_then(|user| user.parse().ok()).unwrap_or(u32::MAX),
        capabilities: u64::from_str_radix(capabilities, 16).unwrap_or(0),
        initial_user_namespace: is_namespace("/proc/self/ns/user", INITIAL_USER_NAMESPACE),
    }
}

/// Whether a namespace of this process is the given one. One that cannot be told is taken for it.
fn is_namespace(link: &str, initial: &str) -> bool {
    fs::read_link(link).map_or(true, |found| found == Path::new(initial))
}

/// The limit to which loading raises that of locked memory.
fn memlock(rights: &Rights) -> Option<u64> {
    if rights.has(Capability::SysResource) {
        return None;
    }
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    hard_memlock(&limits)
}

/// The hard limit of `Max locked memory`; `None` for `unlimited`.
fn hard_memlock(limits: &str) -> Option<u64> {
    let mut lines = limits.lines();
    let limit = lines.find_map(|line| line.strip_prefix("Max locked memory"))?;
    limit.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn tracefs() -> Tracefs {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let is_mounted = |place: &str| {
        mounts.lines().any(|mount| {
            let mut fields = mount.split(' ').skip(1);
            fields.next() == Some(place) && fields.next() == Some("tracefs")
        })
    };
    for place in TRACEFS {
        // Looking into debugfs mounts it there.
        let id = Path::new(place).join("events/syscalls/sys_enter_read/id");
        match fs::read(id) {
            Ok(_) => return Tracefs::Readable(PathBuf::from(place)),
            Err(_) if !is_mounted(place) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Tracefs::WithoutSyscalls(PathBuf::from(place));
            }
            Err(_) => return Tracefs::Forbidden(PathBuf::from(place)),
        }
    }
    Tracefs::Missing
}

/// Asks the kernel for each map, program and helper, if it answers such questions.
fn features(rights: &Rights) -> Vec<Feature> {
    if !rights.has(Capability::Bpf) || !rights.has(Capability::Perfmon) {
        return Vec::new();
    }
    programs::contents().map_or_else(|_| Vec::new(), |contents| ask(&contents))
}

fn ask(contents: &Contents) -> Vec<Feature> {
    let mut features = Vec::new();
    let mut feature = |kind, name: String, supported| {
        features.push(Feature {
            kind,
            name,
            supported,
        });
    };
    for (name, map) in &contents.map_types {
        let supported = map.and_then(|map| is_map_supported(map).ok());
        feature(FeatureKind::Map, name.clone(), supported);
    }
    for (name, program_type) in &contents.program_types {
        let supported = is_program_supported(*program_type).ok();
        feature(FeatureKind::Program, (*name).to_owned(), supported);
    }
    for (program, id) in &contents.calls {
        let Some(program_type) = contents.program_types.get(program) else {
            continue;
        };
        let helper = programs::helper(*id);
        let supported = helper.and_then(|helper| is_helper_supported(*program_type, helper).ok());
        let name = format!("{} ({program})", programs::helper_name(*id));
        feature(FeatureKind::Helper, name, supported);
    }
    features
}

/// Loads the object and attaches each hook set in turn.
fn attempts(ring_bytes: u32) -> (Result<(), String>, Vec<Attempt>) {
    let nothing = |set| Attempt {
        set,
        hooks: Vec::new(),
        outcome: Outcome::NotTried,
    };
    let loaded = Kernel::load(&Filters::default(), ring_bytes);
    let mut kernel = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            return (
                Err(error.reason()),
                HookSet::preferred().map(nothing).to_vec(),
            );
        }
    };
    let attempts = HookSet::preferred().map(|set| Attempt {
        set,
        hooks: hooks::hooks(set)
            .into_iter()
            .map(|hook| (hook.program, hook.target))
            .collect(),
        outcome: match kernel.try_set(set) {
            Ok(without) => Outcome::Works { without },
            Err(error) => Outcome::Refused {
                reason: error.reason(),
                permission: error.is_permission(),
            },
        },
    });
    (Ok(()), attempts.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_in_brackets_is_the_chosen_one() {
        assert_eq!(
            chosen("none [integrity] confidentiality"),
            Some("integrity".to_owned())
        );
        assert_eq!(chosen("none"), None);
    }

    #[test]
    fn hard_limit_of_locked_memory_is_the_second_number() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\n\
                      Max locked memory         8388608              16777216             bytes\n";
        assert_eq!(hard_memlock(limits), Some(16_777_216));
        let unlimited = limits.replace("16777216 ", "unlimited");
        assert_eq!(hard_memlock(&unlimited), None);
        assert_eq!(hard_memlock(""), None);
    }

    #[test]
    fn facts_of_this_machine_agree_with_each_other() {
        let facts = gather(1 << 16);
        assert!(!facts.release.is_empty());
        assert_eq!(facts.hook_sets.len(), HookSet::preferred().len());
        let tried = |attempt: &Attempt| attempt.outcome != Outcome::NotTried;
        let all_tried = facts.hook_sets.iter().all(tried);
        assert_eq!(facts.object.is_ok(), all_tried);
        if facts.object.is_ok() {
            assert_eq!(facts.types, Types::Usable);
            let ring = |one: &&Feature| one.name == "RingBuf";
            let ring = facts.features.iter().find(ring);
            assert_eq!(ring.and_then(|ring| ring.supported), Some(true));
        }
    }
}
