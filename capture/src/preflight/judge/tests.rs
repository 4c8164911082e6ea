//! Machines that nobody has.

use std::path::PathBuf;

use super::*;
use crate::hooks::Target;

/// A machine where everything works, by root.
fn healthy() -> Facts {
    let attempt = |set| Attempt {
        set,
        hooks: Vec::new(),
        outcome: Outcome::Works {
            without: Vec::new(),
        },
    };
    Facts {
        release: "6.12.43-amd64".to_owned(),
        machine: "x86_64",
        types: Types::Usable,
        rights: Rights {
            user: 0,
            capabilities: u64::MAX,
            initial_user_namespace: true,
        },
        lockdown: Some("none".to_owned()),
        perf_event_paranoid: Some(3),
        jit: Some(1),
        memlock: Some(8 << 20),
        tracefs: Tracefs::Readable(PathBuf::from("/sys/kernel/tracing")),
        initial_pid_namespace: true,
        features: Vec::new(),
        object: Ok(()),
        hook_sets: HookSet::preferred().map(attempt).to_vec(),
    }
}

fn refuse(facts: &mut Facts, sets: &[HookSet]) {
    for attempt in &mut facts.hook_sets {
        if sets.contains(&attempt.set) {
            attempt.outcome = Outcome::Refused {
                reason: "the kernel refused it".to_owned(),
                permission: false,
            };
        }
    }
}

fn found(facts: &Facts, id: &str) -> (Grade, Option<&'static str>) {
    let checks = judge(facts);
    let check = checks.iter().find(|check| check.id == id);
    let check = check.unwrap_or_else(|| panic!("no check {id}"));
    (check.grade, check.remedy)
}

#[test]
fn machine_where_everything_works_has_nothing_but_ok() {
    let facts = healthy();
    assert_eq!(usable(&facts), Some(HookSet::Fentry));
    for check in judge(&facts) {
        assert_eq!((check.grade, check.remedy), (Grade::Ok, None), "{check:?}");
    }
}

#[test]
fn object_that_nothing_else_explains_is_to_be_reported() {
    let mut facts = not_loaded(healthy());
    assert_eq!(found(&facts, "object"), (Grade::Fail, Some(OBJECT)));
    facts.tracefs = Tracefs::Missing;
    assert_eq!(found(&facts, "object"), (Grade::Fail, None));
    assert_eq!(found(&facts, "hooks.fentry"), (Grade::Fail, None));
}

#[test]
fn hook_set_that_is_refused_is_a_warning_where_another_works() {
    let mut facts = healthy();
    refuse(&mut facts, &[HookSet::Fentry, HookSet::Kprobe]);
    assert_eq!(usable(&facts), Some(HookSet::Tracepoint));
    assert_eq!(
        found(&facts, "hooks.fentry"),
        (Grade::Warn, Some(TRAMPOLINES))
    );
    assert_eq!(found(&facts, "hooks.kprobe"), (Grade::Warn, Some(KPROBES)));
    assert_eq!(found(&facts, "hooks.tracepoint"), (Grade::Ok, None));
}

#[test]
fn hook_set_that_is_forbidden_to_root_has_no_rights_as_its_remedy() {
    let mut facts = healthy();
    if let Some(attempt) = facts.hook_sets.first_mut() {
        attempt.outcome = Outcome::Refused {
            reason: "Operation not permitted".to_owned(),
            permission: true,
        };
    }
    assert_eq!(
        found(&facts, "hooks.fentry"),
        (Grade::Warn, Some(FORBIDDEN))
    );
    facts.rights.capabilities = 0;
    assert_eq!(found(&facts, "hooks.fentry"), (Grade::Warn, Some(RIGHTS)));
}

#[test]
fn missing_tracefs_fails_where_only_tracepoints_would_work() {
    let mut facts = healthy();
    facts.tracefs = Tracefs::Missing;
    refuse(&mut facts, &[HookSet::Tracepoint]);
    let tracefs = |facts: &Facts| found(facts, "tracefs");
    assert_eq!(tracefs(&facts), (Grade::Warn, Some(TRACEFS_MISSING)));
    refuse(&mut facts, &HookSet::preferred());
    assert_eq!(usable(&facts), None);
    assert_eq!(tracefs(&facts), (Grade::Fail, Some(TRACEFS_MISSING)));
    assert_eq!(
        found(&facts, "hooks.tracepoint"),
        (Grade::Fail, Some(TRACEFS_MISSING))
    );
    facts.tracefs = Tracefs::Forbidden(PathBuf::from("/sys/kernel/tracing"));
    assert_eq!(tracefs(&facts), (Grade::Fail, Some(TRACEFS_FORBIDDEN)));
    facts.tracefs = Tracefs::WithoutSyscalls(PathBuf::from("/sys/kernel/tracing"));
    assert_eq!(tracefs(&facts), (Grade::Fail, Some(SYSCALLS)));
}

/// Without the object nothing is tried.
fn not_loaded(mut facts: Facts) -> Facts {
    facts.object = Err("the kernel refused the eBPF object".to_owned());
    for attempt in &mut facts.hook_sets {
        attempt.outcome = Outcome::NotTried;
    }
    facts
}

#[test]
fn ordinary_user_is_told_which_rights_are_missing() {
    let mut facts = not_loaded(healthy());
    facts.rights.user = 1000;
    facts.rights.capabilities = 0;
    assert_eq!(found(&facts, "rights"), (Grade::Fail, Some(RIGHTS)));
    let checks = judge(&facts);
    let rights = checks.iter().find(|check| check.id == "rights");
    assert_eq!(
        rights.map(|check| check.found.as_str()),
        Some("user 1000 without CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH")
    );
}

fn bits(capabilities: &[Capability]) -> u64 {
    capabilities.iter().map(|one| 1 << *one as u8).sum()
}

#[test]
fn four_capabilities_are_enough_and_two_of_them_are_a_warning() {
    use Capability::{Bpf, DacReadSearch, Perfmon, SysAdmin, SysPtrace};
    let grade = |capabilities: &[Capability]| {
        rights(&Rights {
            user: 1000,
            capabilities: bits(capabilities),
            initial_user_namespace: true,
        })
        .grade
    };
    assert_eq!(grade(&[Bpf, Perfmon, SysPtrace, DacReadSearch]), Grade::Ok);
    assert_eq!(grade(&[SysAdmin, SysPtrace, DacReadSearch]), Grade::Ok);
    assert_eq!(grade(&[Bpf, Perfmon]), Grade::Warn);
    assert_eq!(grade(&[Bpf, SysPtrace, DacReadSearch]), Grade::Fail);
}

#[test]
fn rights_inside_of_a_user_namespace_do_not_count() {
    let mut facts = not_loaded(healthy());
    facts.rights.initial_user_namespace = false;
    assert_eq!(found(&facts, "rights"), (Grade::Fail, Some(NAMESPACE)));
}

#[test]
fn kernel_without_types_is_refused_and_a_missing_field_named() {
    let mut facts = not_loaded(healthy());
    facts.types = Types::Unreadable("No such file or directory".to_owned());
    assert_eq!(found(&facts, "btf"), (Grade::Fail, Some(BTF)));
    let reason = "the kernel's tcp_sock has no field write_seq";
    facts.types = Types::Unknown(reason.to_owned());
    assert_eq!(found(&facts, "btf"), (Grade::Fail, Some(LAYOUT)));
    assert!(judge(&facts).iter().any(|check| check.found == reason));
}

#[test]
fn old_or_foreign_kernel_is_refused() {
    let mut facts = not_loaded(healthy());
    for (release, grade) in [
        ("5.7.19", Grade::Fail),
        ("4.19.0-27-amd64", Grade::Fail),
        ("5.8", Grade::Ok),
        ("5.10.0-35-cloud-amd64", Grade::Ok),
        ("10.0-rc1", Grade::Ok),
    ] {
        facts.release = release.to_owned();
        assert_eq!(found(&facts, "kernel").0, grade, "{release}");
    }
    facts.machine = "aarch64";
    assert_eq!(found(&facts, "kernel"), (Grade::Fail, Some(MACHINE)));
}

#[test]
fn settings_that_forbid_it_fail() {
    let mut facts = not_loaded(healthy());
    facts.release = "5.10.0".to_owned();
    assert_eq!(found(&facts, "locked-memory"), (Grade::Fail, Some(MEMLOCK)));
    facts.memlock = None;
    assert_eq!(found(&facts, "locked-memory"), (Grade::Ok, None));
    facts.lockdown = Some("confidentiality".to_owned());
    assert_eq!(found(&facts, "lockdown"), (Grade::Fail, Some(LOCKDOWN)));
    facts.jit = Some(0);
    assert_eq!(found(&facts, "jit"), (Grade::Warn, Some(JIT)));
    facts.initial_pid_namespace = false;
    let expected = (Grade::Warn, Some(PID_NAMESPACE));
    assert_eq!(found(&facts, "pid-namespace"), expected);
    assert_eq!(found(&facts, "perf-events"), (Grade::Ok, None));
    facts.rights.capabilities = bits(&[Capability::Bpf, Capability::Perfmon]);
    assert_eq!(found(&facts, "perf-events"), (Grade::Fail, Some(PERF)));
}

#[test]
fn feature_that_is_missing_is_named() {
    let mut facts = healthy();
    let feature = |name: &str, supported| Feature {
        kind: FeatureKind::Map,
        name: name.to_owned(),
        supported,
    };
    facts.features = vec![feature("Hash", Some(true)), feature("RingBuf", None)];
    assert_eq!(found(&facts, "maps"), (Grade::Ok, None));
    facts.features = vec![feature("Hash", Some(true)), feature("RingBuf", Some(false))];
    assert_eq!(found(&facts, "maps"), (Grade::Warn, Some(FEATURES)));
    let checks = judge(&facts);
    assert!(checks.iter().any(|check| check.found == "missing: RingBuf"));
    assert!(checks.iter().all(|check| check.id != "helpers"));
}

/// The facts of a machine where fentry works without some of the rest.
fn without(targets: &[&'static str], permission: bool) -> Facts {
    let mut facts = healthy();
    let without = targets.iter().map(|name| Omitted {
        target: Target::Function(name),
        permission,
    });
    if let Some(attempt) = facts.hook_sets.first_mut() {
        attempt.outcome = Outcome::Works {
            without: without.collect(),
        };
    }
    facts
}

#[test]
fn what_a_set_does_without_is_told_once() {
    // The return of each function is hooked before the entry of any.
    let twice = ["tcp_sendpage", "tcp_splice_read"].repeat(2);
    let facts = without(&twice, false);
    let checks = judge(&facts);
    let fentry = checks.iter().find(|check| check.id == "hooks.fentry");
    assert_eq!(
        fentry.map(|check| (check.grade, check.found.as_str())),
        Some((
            Grade::Ok,
            "attached and detached again; this kernel has no tcp_sendpage, tcp_splice_read"
        ))
    );
}

#[test]
fn kprobes_that_paranoia_forbids_are_a_warning() {
    use Capability::{Bpf, DacReadSearch, Perfmon, SysPtrace};
    let mut facts = without(&["unix_stream_sendmsg"], true);
    facts.rights.capabilities = bits(&[Bpf, Perfmon, SysPtrace, DacReadSearch]);
    refuse(&mut facts, &[HookSet::Kprobe, HookSet::Tracepoint]);
    for id in [
        "perf-events",
        "hooks.fentry",
        "hooks.kprobe",
        "hooks.tracepoint",
    ] {
        assert_eq!(found(&facts, id), (Grade::Warn, Some(PERF)), "{id}");
    }
}
