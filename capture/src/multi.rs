//! Programs at many places of a file at once (`uprobe.multi`, since Linux 6.6).
//!
//! A link holds all places of a program in a file, so that the kernel waits for the processors once
//! to detach them, where each perf event has them wait several times, one event after the other.
//! Its programs need not pass through perf's part of the kernel either. The loader of the other
//! programs does not know this kind: they are loaded here, with its maps.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Ebpf;
use aya::maps::Map;
use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_insn, bpf_prog_type};
use aya_obj::{Object, ProgramSection};

use crate::hooks::Place;
use crate::kernel::OBJECT;

const UPROBE_MULTI: u32 = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;

/// `BPF_F_UPROBE_MULTI_RETURN`.
const AT_RETURN: u32 = 1;

/// `BPF_PROG_LOAD`'s part of `union bpf_attr`, `linux/bpf.h`, as far as it is needed. Pointers are
/// numbers there; what is left out counts as 0.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// `BPF_LINK_CREATE`'s, with `uprobe_multi`.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    ref_ctr_offsets: u64,
    cookies: u64,
    cnt: u32,
    multi_flags: u32,
    pid: u32,
    _end: u32,
}

// No padding, of which the kernel would be told what nobody wrote.
const _: () = assert!(size_of::<ProgramLoad>() == 72 && size_of::<LinkCreate>() == 64);

/// The programs for files, and the maps that their instructions name.
pub(crate) struct Multi {
    programs: HashMap<String, Program>,
    /// Open as long as a program may be loaded.
    _maps: Vec<OwnedFd>,
}

struct Program {
    license: CString,
    instructions: Vec<bpf_insn>,
    /// Whether it runs where a function returns to.
    at_return: bool,
    loaded: Option<OwnedFd>,
}

impl Multi {
    /// The programs for files, with the maps of `ebpf`, none of which may have been taken out of it;
    /// `None` where the kernel does not have it, or the rights do not suffice.
    pub(crate) fn new(ebpf: &Ebpf) -> Option<Self> {
        let mut multi = Self::prepare(ebpf)?;
        let programs = multi.programs.iter();
        let (probe, _) = programs.min_by_key(|(_, program)| program.instructions.len())?;
        let probe = probe.clone();
        // It looks at what is asked for before it looks for the file, which this is not.
        let place = Place {
            offset: 0,
            cookie: None,
        };
        let refused = multi.attach(&probe, Path::new("/"), &[place]).err()?;
        (refused.raw_os_error() == Some(libc::EBADF)).then_some(multi)
    }

    fn prepare(ebpf: &Ebpf) -> Option<Self> {
        let mut object = Object::parse(OBJECT).ok()?;
        let maps = std::mem::take(&mut object.maps);
        let mut held = Vec::new();
        for name in maps.keys() {
            let fd = descriptor(ebpf.map(name)?)?;
            held.push((name, fd.try_clone_to_owned().ok()?));
        }
        let named = held
            .iter()
            .map(|(name, fd)| (name.as_str(), fd.as_raw_fd(), &maps[*name]));
        let sections = object.functions.keys().map(|(section, _)| *section);
        let sections = sections.collect();
        object.relocate_maps(named, &sections).ok()?;
        object.relocate_calls(&sections).ok()?;
        let mut programs = HashMap::new();
        for (name, program) in &object.programs {
            let at_return = match program.section {
                ProgramSection::UProbe { .. } => false,
                ProgramSection::URetProbe { .. } => true,
                _ => continue,
            };
            let function = object.functions.get(&program.function_key())?;
            let program = Program {
                license: program.license.clone(),
                instructions: function.instructions.clone(),
                at_return,
                loaded: None,
            };
            programs.insert(name.clone(), program);
        }
        let _maps = held.into_iter().map(|(_, fd)| fd).collect();
        Some(Self { programs, _maps })
    }

    /// Lets a program run at places of a file, in whatever process, until the result is dropped.
    pub(crate) fn attach(
        &mut self,
        name: &str,
        file: &Path,
        places: &[Place],
    ) -> io::Result<OwnedFd> {
        let program = self.programs.get_mut(name);
        let program = program.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let loaded = match program.loaded.take() {
            Some(loaded) => loaded,
            None => load(name, program)?,
        };
        let loaded = program.loaded.insert(loaded);
        let path = CString::new(file.as_os_str().as_bytes())?;
        link(loaded.as_fd(), &path, places, program.at_return)
    }
}

/// The descriptor of a map of a kind that the object has.
fn descriptor(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(map)
        | Map::HashMap(map)
        | Map::LpmTrie(map)
        | Map::LruHashMap(map)
        | Map::PerCpuArray(map)
        | Map::RingBuf(map) => Some(map.fd().as_fd()),
        _ => None,
    }
}

fn load(name: &str, program: &Program) -> io::Result<OwnedFd> {
    let mut prog_name = [0; 16];
    // The last byte stays 0.
    for (to, from) in prog_name.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    let attributes = ProgramLoad {
        prog_type: bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32,
        insn_cnt: count(program.instructions.len()),
        insns: program.instructions.as_ptr() as u64,
        license: program.license.as_ptr() as u64,
        prog_name,
        expected_attach_type: UPROBE_MULTI,
        ..ProgramLoad::default()
    };
    bpf(bpf_cmd::BPF_PROG_LOAD, &attributes)
}

fn link(
    program: BorrowedFd<'_>,
    path: &CStr,
    places: &[Place],
    at_return: bool,
) -> io::Result<OwnedFd> {
    let offsets: Vec<u64> = places.iter().map(|place| place.offset).collect();
    let cookies = places.iter().map(|place| place.cookie.unwrap_or(0));
    let cookies: Vec<u64> = cookies.collect();
    let attributes = LinkCreate {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: UPROBE_MULTI,
        path: path.as_ptr() as u64,
        offsets: offsets.as_ptr() as u64,
        cookies: cookies.as_ptr() as u64,
        cnt: count(places.len()),
        multi_flags: if at_return { AT_RETURN } else { 0 },
        ..LinkCreate::default()
    };
    bpf(bpf_cmd::BPF_LINK_CREATE, &attributes)
}

/// More than the kernel takes, where it does not fit.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A command of bpf(2) that gives a descriptor.
fn bpf<T>(command: bpf_cmd, attributes: &T) -> io::Result<OwnedFd> {
    #[allow(unsafe_code, reason = "a system call")]
    // SAFETY: The kernel reads as many bytes as it is told there are. Those of this module's types have
    // no padding, and what they point to lives in the callers until this returns.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as u32,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error)?;
    #[allow(unsafe_code, reason = "the kernel's answer is a number")]
    // SAFETY: The kernel has just opened it for this.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
