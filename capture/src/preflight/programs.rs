//! What the embedded object consists of: its programs, the helpers that they call, its maps.
//!
//! Read from the instructions themselves, so that it cannot differ from what is loaded.

use std::collections::{BTreeMap, BTreeSet};

use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::BpfHelper;
use aya_obj::generated::bpf_insn;
use aya_obj::{Object, ProgramSection};

use crate::kernel::OBJECT;

/// A program of the embedded object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// How it is run: `fentry`, `fexit`, `kprobe`, `kretprobe`, `uprobe`, `uretprobe`, `tracepoint`
    /// or `raw_tracepoint`.
    pub kind: &'static str,
    /// The kernel's functions that it calls, such as `bpf_probe_read_user`.
    pub helpers: BTreeSet<String>,
}

/// What the kernel must offer for the embedded object.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) programs: Vec<Program>,
    pub(super) program_types: BTreeMap<&'static str, ProgramType>,
    /// Each pair of a type of program and a helper that programs of this type call.
    pub(super) calls: BTreeSet<(&'static str, u32)>,
    pub(super) map_types: BTreeMap<String, Option<MapType>>,
}

/// Instruction that calls: `BPF_JMP | BPF_CALL` of `include/uapi/linux/bpf.h`.
const CALL: u8 = 0x85;

/// What the source register of a call says of it: a helper, or (1) a function of the program.
const HELPER: u8 = 0;
const OWN_FUNCTION: u8 = 1;

/// All helpers that the programs may call: they look things up, read memory, and write to our own
/// maps and ring buffer only. None writes to memory, packets, sockets, signals or return values of
/// what is observed.
const HARMLESS: [BpfHelper; 13] = {
    use BpfHelper as H;
    [
        H::BPF_FUNC_map_lookup_elem,
        H::BPF_FUNC_map_update_elem,
        H::BPF_FUNC_map_delete_elem,
        H::BPF_FUNC_ktime_get_ns,
        H::BPF_FUNC_get_current_pid_tgid,
        H::BPF_FUNC_get_current_task,
        H::BPF_FUNC_get_current_cgroup_id,
        H::BPF_FUNC_probe_read_user,
        H::BPF_FUNC_probe_read_kernel,
        H::BPF_FUNC_ringbuf_reserve,
        H::BPF_FUNC_ringbuf_submit,
        H::BPF_FUNC_ringbuf_query,
        COOKIE,
    ]
};

/// Tells a probe on a library where it is. Since Linux 5.15; without it, probes go to other places.
const COOKIE: BpfHelper = BpfHelper::BPF_FUNC_get_attach_cookie;

/// The kinds of maps that the object may have.
const MAPS: [MapType; 6] = [
    MapType::RingBuf,
    MapType::Hash,
    MapType::LruHash,
    MapType::Array,
    MapType::PerCpuArray,
    MapType::LpmTrie,
];

/// The programs of the embedded object, by name. Empty if it cannot be read, which the tests rule
/// out.
#[must_use]
pub fn programs() -> Vec<Program> {
    contents()
        .map(|contents| contents.programs)
        .unwrap_or_default()
}

/// Reads the embedded object.
pub(super) fn contents() -> Result<Contents, String> {
    let mut object = Object::parse(OBJECT).map_err(|error| error.to_string())?;
    let sections = object.functions.keys().map(|(section, _)| *section);
    let sections = sections.collect();
    // Puts the functions that a program calls behind its own instructions.
    object
        .relocate_calls(&sections)
        .map_err(|error| error.to_string())?;
    let mut contents = Contents::default();
    for (name, program) in &object.programs {
        let (kind, type_name, program_type) = kind(&program.section)
            .ok_or_else(|| format!("program {name} is of a kind that is not expected"))?;
        let function = object.functions.get(&program.function_key());
        let function = function.ok_or_else(|| format!("program {name} has no instructions"))?;
        let calls = helpers(&function.instructions)
            .ok_or_else(|| format!("program {name} calls what is no helper"))?;
        contents.program_types.insert(type_name, program_type);
        let needed = calls.iter().filter(|id| **id != COOKIE as u32);
        let pairs = needed.map(|id| (type_name, *id));
        contents.calls.extend(pairs);
        contents.programs.push(Program {
            name: name.clone(),
            kind,
            helpers: calls.into_iter().map(helper_name).collect(),
        });
    }
    contents.programs.sort_by(|a, b| a.name.cmp(&b.name));
    for map in object.maps.values() {
        let number = map.map_type();
        let known = MAPS.into_iter().find(|known| *known as u32 == number);
        let name = known.map_or_else(|| number.to_string(), |known| format!("{known:?}"));
        contents.map_types.insert(name, known);
    }
    Ok(contents)
}

/// Numbers of the helpers that are called, if nothing but helpers and the program's own functions
/// are.
fn helpers(instructions: &[bpf_insn]) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for instruction in instructions.iter().filter(|one| one.code == CALL) {
        match instruction.src_reg() {
            HELPER => {
                found.insert(instruction.imm.cast_unsigned());
            }
            OWN_FUNCTION => {}
            _ => return None,
        }
    }
    Some(found)
}

/// The helper of a number, if it is a harmless one.
pub(super) fn helper(id: u32) -> Option<BpfHelper> {
    HARMLESS.into_iter().find(|helper| *helper as u32 == id)
}

/// As it is written in C: `bpf_map_lookup_elem`.
pub(super) fn helper_name(id: u32) -> String {
    let Some(helper) = helper(id) else {
        return format!("helper {id}");
    };
    format!("{helper:?}").replace("BPF_FUNC_", "bpf_")
}

/// How programs of a section are run, and the kernel's type for them with its name.
fn kind(section: &ProgramSection) -> Option<(&'static str, &'static str, ProgramType)> {
    use ProgramType as Type;
    Some(match section {
        ProgramSection::KProbe => ("kprobe", "kprobe", Type::KProbe),
        ProgramSection::UProbe { .. } => ("uprobe", "kprobe", Type::KProbe),
        ProgramSection::URetProbe { .. } => ("uretprobe", "kprobe", Type::KProbe),
        ProgramSection::KRetProbe => ("kretprobe", "kprobe", Type::KProbe),
        ProgramSection::TracePoint => ("tracepoint", "tracepoint", Type::TracePoint),
        ProgramSection::RawTracePoint => ("raw_tracepoint", "raw_tracepoint", Type::RawTracePoint),
        ProgramSection::FEntry { .. } => ("fentry", "tracing", Type::Tracing),
        ProgramSection::FExit { .. } => ("fexit", "tracing", Type::Tracing),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_call_nothing_but_harmless_helpers() {
        let contents = contents().unwrap();
        for (kind, id) in &contents.calls {
            assert!(helper(*id).is_some(), "a {kind} program calls helper {id}");
        }
        // Every program that is told of moved bytes reads memory and writes to the ring.
        let exit = contents.programs.iter().find(|p| p.name == "exit_call");
        let exit = exit.unwrap();
        assert_eq!(exit.kind, "tracepoint");
        for helper in ["bpf_probe_read_user", "bpf_map_lookup_elem"] {
            assert!(exit.helpers.contains(helper), "{helper} {:?}", exit.helpers);
        }
    }

    #[test]
    fn harmless_helpers_are_all_used() {
        let programs = contents().unwrap().programs;
        let used: BTreeSet<_> = programs
            .iter()
            .flat_map(|program| &program.helpers)
            .collect();
        let unused: Vec<_> = HARMLESS
            .into_iter()
            .filter(|helper| !used.contains(&helper_name(*helper as u32)))
            .collect();
        assert!(unused.is_empty(), "{unused:?}");
    }

    #[test]
    fn kinds_of_maps_are_known() {
        let maps = contents().unwrap().map_types;
        assert_eq!(maps.len(), MAPS.len(), "{maps:?}");
        assert!(maps.values().all(Option::is_some), "{maps:?}");
    }

    #[test]
    fn instruction_that_calls_a_function_of_the_kernel_is_no_helper() {
        let mut call = Object::parse(OBJECT)
            .unwrap()
            .functions
            .into_values()
            .flat_map(|function| function.instructions)
            .find(|instruction| instruction.code == CALL && instruction.src_reg() == HELPER)
            .unwrap();
        call.imm = 14;
        assert_eq!(helpers(&[call]), Some(BTreeSet::from([14])));
        call.set_src_reg(2);
        assert_eq!(helpers(&[call]), None);
    }
}
