//! The kernel side: the eBPF object loaded, its maps read and written.

mod tables;

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::Path;

use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::ProgramError;
use aya::{Ebpf, EbpfLoader, Pod};
use wirespan_capture_abi::{Counter, Executable, Offsets, Settings, filter_flag};

use crate::Error;
use crate::btf::Btf;
use crate::executables::{ExecutablePattern, Executables};
use crate::hooks::{self, HookSet, Link, Omitted, Place};
use crate::multi::Multi;
use crate::offsets;
pub(crate) use tables::Tables;

/// The compiled programs, committed beside their source.
pub(crate) static OBJECT: &[u8] = {
    #[repr(align(8))]
    struct Aligned<T: ?Sized>(T);
    const ALIGNED: &Aligned<[u8]> =
        &Aligned(*include_bytes!("../../capture-bpf/wirespan-capture.o"));
    &ALIGNED.0
};

/// Where the kernel tells its types.
pub(crate) const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// Bytes of a stream that are copied before anything is granted: what one connection may cost
/// before it is known what it carries.
pub(crate) const FIRST_WINDOW: u32 = 60 << 10;

/// Bytes of one call that are copied at most, unless [`Live::set_call_bytes`](crate::Live) says
/// less: as many as the programs walk over.
pub const MAX_CALL_BYTES: u32 = 64 << 10;

/// A value of the kernel's maps: plain data.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq)]
struct Plain<T>(T);

#[allow(
    unsafe_code,
    reason = "the types of capture-abi are integers without padding"
)]
// SAFETY: only used with types of capture-abi, which are repr(C) integers without padding.
unsafe impl<T: Copy + 'static> Pod for Plain<T> {}

/// What is observed. An empty list stands for everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Filters {
    /// Processes by number; together with `names` and `executables`, one of them.
    pub pids: Vec<u32>,
    /// Processes by name, the first 15 bytes of it.
    pub names: Vec<String>,
    /// Processes by the file that they run.
    pub executables: Vec<ExecutablePattern>,
    /// Cgroups (version 2) by id.
    pub cgroups: Vec<u64>,
    /// Network namespaces by inode number.
    pub namespaces: Vec<u32>,
    /// Ports of either peer.
    pub ports: Vec<u16>,
    /// Networks of either peer: address and prefix length.
    pub networks: Vec<(IpAddr, u8)>,
    /// Leave out connections within this machine.
    pub external_only: bool,
    /// Protocols, by the names that exchanges are recorded under. A connection is left out once its
    /// protocol is known.
    pub protocols: Vec<String>,
}

impl Filters {
    /// Whether they ask where a connection leads.
    pub(crate) fn ask_for_addresses(&self) -> bool {
        self.external_only || !self.ports.is_empty() || !self.networks.is_empty()
    }
}

/// What the kernel side could not, or need not, deliver.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Losses {
    /// Events that found the ring buffer full.
    pub ring_full_events: u64,
    /// Bytes of them.
    pub ring_full_bytes: u64,
    /// Events of processes that had their share of the ring buffer while it was more than half full.
    pub share_events: u64,
    /// Bytes of them.
    pub share_bytes: u64,
    /// Bytes above the share of one call.
    pub call_share_bytes: u64,
    /// Bytes beyond the window of their connection.
    pub window_bytes: u64,
    /// Bytes that nobody wanted.
    pub unwanted_bytes: u64,
    /// Bytes that never were in user memory.
    pub not_user_memory_bytes: u64,
    /// Calls and connections for which a map had no room.
    pub map_full: u64,
    /// Connections that the filters left out.
    pub filtered: u64,
    /// Runs of programs that the kernel has passed over, as it tells since Linux 5.12.
    pub passed_over: u64,
}

/// How a set of filters changes.
#[derive(Clone, Copy)]
enum Change {
    /// These come in.
    Add,
    /// No others stay.
    Keep,
}

/// The loaded object and what it is attached to.
pub(crate) struct Kernel {
    ebpf: Ebpf,
    /// The programs for files, where this kernel runs each at many places at once.
    multi: Option<Multi>,
    /// Whether programs on files can be told where they are; `None` until that was tried.
    cookies: Option<bool>,
    links: Vec<Link>,
    pub(crate) ring: RingBuf<MapData>,
    pub(crate) tables: Tables,
    go_programs: HashMap<MapData, u32, u32>,
    counters: PerCpuArray<MapData, u64>,
    ring_bytes: u32,
    settings: Settings,
    filters: Filters,
    executables: Executables,
}

impl Kernel {
    /// Loads the object, with the filters set; nothing is attached yet.
    pub(crate) fn load(filters: &Filters, ring_bytes: u32) -> Result<Self, Error> {
        let types = fs::read(TYPES).map_err(Error::NoBtf)?;
        let offsets: Plain<Offsets> = Plain(offsets::offsets(&Btf::parse(&types)?)?);
        // The object has no relocations against the kernel's types.
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("OFFSETS", &offsets, true)
            .map_max_entries("EVENTS", ring_bytes)
            .load(OBJECT)?;
        let multi = Multi::new(&ebpf);
        let ring = take(&mut ebpf, "EVENTS")?;
        let mut kernel = Self {
            tables: Tables::of(&ebpf)?,
            go_programs: take(&mut ebpf, "GO_PROGRAMS")?,
            counters: take(&mut ebpf, "COUNTERS")?,
            ebpf,
            multi,
            cookies: None,
            links: Vec::new(),
            ring,
            ring_bytes,
            settings: Settings {
                own_tgid: std::process::id(),
                call_share: MAX_CALL_BYTES,
                first_window: FIRST_WINDOW,
                wake_above: ring_bytes / 8,
                ring_bytes,
                ..Settings::default()
            },
            filters: Filters::default(),
            executables: Executables::new(&[]),
        };
        kernel.set_filters(filters)?;
        Ok(kernel)
    }

    /// Attaches the programs of the first of `sets` that works here.
    pub(crate) fn attach(&mut self, sets: &[HookSet]) -> Result<HookSet, Error> {
        let mut reasons = String::new();
        let mut last = None;
        for set in sets {
            match self.attach_set(*set) {
                Ok(_) => return Ok(*set),
                Err(error) => {
                    self.detach();
                    reasons.push_str(&format!("\n  {set}: {}", error.reason()));
                    last = Some(error);
                }
            }
        }
        match last {
            Some(error) if sets.len() == 1 || error.is_permission() => Err(error),
            _ => Err(Error::NoHooks(reasons)),
        }
    }

    /// Attaches the programs of a set and detaches them; tells what the set does without.
    pub(crate) fn try_set(&mut self, set: HookSet) -> Result<Vec<Omitted>, Error> {
        let without = self.attach_set(set);
        self.detach();
        without
    }

    fn attach_set(&mut self, set: HookSet) -> Result<Vec<Omitted>, Error> {
        let mut without = Vec::new();
        // Large, and needed to find the functions of trampolines only.
        let loader_types = match set {
            HookSet::Fentry => aya::Btf::from_sys_fs().ok(),
            HookSet::Kprobe | HookSet::Tracepoint => None,
        };
        for hook in hooks::hooks(set) {
            let link = hooks::attach(
                &mut self.ebpf,
                loader_types.as_ref(),
                &hook.program,
                hook.target,
            );
            match link {
                Ok(link) => self.links.push(link),
                Err(error) if hook.optional => without.push(Omitted {
                    target: hook.target,
                    permission: error.is_permission(),
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(without)
    }

    /// Whether programs on files can be told where they are (since Linux 5.15).
    pub(crate) fn has_cookies(&mut self) -> bool {
        let (ebpf, multi) = (&mut self.ebpf, &self.multi);
        *self
            .cookies
            .get_or_insert_with(|| multi.is_some() || hooks::takes(ebpf, "tls_branch"))
    }

    /// Lets a program run at places of a file, in whatever process.
    pub(crate) fn attach_to_file(
        &mut self,
        program: &str,
        file: &Path,
        places: &[Place],
    ) -> Result<Vec<Link>, Error> {
        let Some(multi) = &mut self.multi else {
            let attach =
                |place: &Place| hooks::attach_to_file(&mut self.ebpf, program, file, *place);
            return places.iter().map(attach).collect();
        };
        let link = multi.attach(program, file, places);
        let link = link.map_err(|error| Error::Program {
            program: program.to_owned(),
            cause: ProgramError::IOError(error),
        })?;
        Ok(vec![Link::Multi(link)])
    }

    /// Detaches everything, the last first: what tells the end of sockets must outlast what follows
    /// them by their addresses. What was seen can still be read.
    pub(crate) fn detach(&mut self) {
        while self.links.pop().is_some() {}
    }

    /// Lets the programs leave out everything from now on. It takes effect at once, while to detach
    /// takes the kernel tens of milliseconds for each program.
    pub(crate) fn hush(&mut self) -> Result<(), Error> {
        self.settings.filters |= filter_flag::EVERYTHING;
        self.write_epoch()
    }

    /// Replaces the filters while events flow; where that fails, the old ones stay.
    ///
    /// What both let through is never left out meanwhile: the sets grow before they shrink, and
    /// whoever was judged by sets of both is judged again.
    pub(crate) fn set_filters(&mut self, filters: &Filters) -> Result<(), Error> {
        let mut executables = Executables::new(&filters.executables);
        executables.look();
        let files = executables.files().clone();
        if let Err(error) = self.change_sets(filters, &files, Change::Add) {
            let (old, files) = (self.filters.clone(), self.executables.files().clone());
            self.change_sets(&old, &files, Change::Keep)?;
            return Err(error);
        }
        self.settings.filters = flags(filters);
        self.write_epoch()?;
        self.filters = filters.clone();
        self.executables = executables;
        self.change_sets(filters, &files, Change::Keep)?;
        self.write_epoch()
    }

    /// Sets how many bytes of one call are copied at most.
    pub(crate) fn set_call_bytes(&mut self, bytes: u32) -> Result<(), Error> {
        self.settings.call_share = bytes.min(MAX_CALL_BYTES);
        self.write_settings()
    }

    fn change_sets(
        &mut self,
        filters: &Filters,
        files: &BTreeSet<Executable>,
        how: Change,
    ) -> Result<(), Error> {
        self.change_set("TGIDS", filters.pids.iter().copied(), how)?;
        let names = filters.names.iter().map(|name| padded(name));
        self.change_set("NAMES", names, how)?;
        self.change_files(files, how)?;
        self.change_set("CGROUPS", filters.cgroups.iter().copied(), how)?;
        self.change_set("NAMESPACES", filters.namespaces.iter().copied(), how)?;
        self.change_set("PORTS", filters.ports.iter().copied(), how)?;
        self.change_networks(&filters.networks, how)
    }

    /// Lets the programs ask the filters anew.
    fn write_epoch(&mut self) -> Result<(), Error> {
        self.settings.epoch = self.settings.epoch.wrapping_add(1).max(1);
        self.write_settings()
    }

    /// Follows the files that `--exe` means. To be called every few seconds.
    pub(crate) fn follow_executables(&mut self) -> Result<(), Error> {
        if !self.executables.any() || !self.executables.look() {
            return Ok(());
        }
        let files = self.executables.files().clone();
        self.change_files(&files, Change::Add)?;
        self.change_files(&files, Change::Keep)?;
        self.write_epoch()
    }

    fn change_files(&mut self, files: &BTreeSet<Executable>, how: Change) -> Result<(), Error> {
        self.change_set("EXECUTABLES", files.iter().copied().map(Plain), how)
    }

    fn write_settings(&mut self) -> Result<(), Error> {
        let value = Plain(self.settings);
        let mut settings: Array<_, Plain<Settings>> = self.map("SETTINGS")?;
        let written = settings.set(0, value, 0);
        written.map_err(map_error("SETTINGS"))
    }

    /// Changes the keys of a set.
    fn change_set<K: Pod + PartialEq>(
        &mut self,
        name: &'static str,
        keys: impl Iterator<Item = K>,
        how: Change,
    ) -> Result<(), Error> {
        let mut map: HashMap<_, K, u8> = self.map(name)?;
        let mut keys = keys;
        match how {
            // What is there is not written again: whoever looks for it meanwhile might miss it.
            Change::Add => keys.try_for_each(|key| match map.get(&key, 0) {
                Ok(_) => Ok(()),
                Err(_) => map.insert(key, 1, 0),
            }),
            Change::Keep => {
                let kept: Vec<K> = keys.collect();
                let old: Vec<K> = map.keys().filter_map(Result::ok).collect();
                for key in old.iter().filter(|key| !kept.contains(key)) {
                    // Another key may have taken its place; what is gone is gone.
                    let _ = map.remove(key);
                }
                Ok(())
            }
        }
        .map_err(map_error(name))
    }

    fn change_networks(&mut self, networks: &[(IpAddr, u8)], how: Change) -> Result<(), Error> {
        let name = "ADDRESSES";
        let mut map: LpmTrie<_, [u8; 16], u8> = self.map(name)?;
        let key = |(address, prefix): &(IpAddr, u8)| {
            let (address, prefix) = match address {
                IpAddr::V4(v4) => (v4.to_ipv6_mapped(), u32::from(*prefix) + 96),
                IpAddr::V6(v6) => (*v6, u32::from(*prefix)),
            };
            Key::new(prefix, masked(address, prefix).octets())
        };
        let plain = |key: &Key<[u8; 16]>| (key.prefix_len(), key.data());
        let keys = networks.iter().map(key);
        match how {
            Change::Add => {
                let old: Vec<_> = map.keys().flatten().map(|key| plain(&key)).collect();
                let mut new = keys.filter(|key| !old.contains(&plain(key)));
                new.try_for_each(|key| map.insert(&key, 1, 0))
            }
            Change::Keep => {
                let kept: Vec<_> = keys.map(|key| plain(&key)).collect();
                let old: Vec<_> = map.keys().filter_map(Result::ok).collect();
                for key in old.iter().filter(|key| !kept.contains(&plain(key))) {
                    let _ = map.remove(key);
                }
                Ok(())
            }
        }
        .map_err(map_error(name))
    }

    fn map<'a, T>(&'a mut self, name: &'static str) -> Result<T, Error>
    where
        T: TryFrom<&'a mut Map, Error = MapError>,
    {
        let map = self.ebpf.map_mut(name);
        let map = map.ok_or_else(|| Error::Missing(format!("map {name}")))?;
        T::try_from(map).map_err(map_error(name))
    }

    /// What was not delivered so far.
    pub(crate) fn losses(&self) -> Losses {
        Losses {
            ring_full_events: self.counter(Counter::RingFullEvents),
            ring_full_bytes: self.counter(Counter::RingFullBytes),
            share_events: self.counter(Counter::ShareEvents),
            share_bytes: self.counter(Counter::ShareBytes),
            call_share_bytes: self.counter(Counter::CallShareBytes),
            window_bytes: self.counter(Counter::WindowBytes),
            unwanted_bytes: self.counter(Counter::UnwantedBytes),
            not_user_memory_bytes: self.counter(Counter::NotUserMemoryBytes),
            map_full: self.counter(Counter::MapFull),
            filtered: self.counter(Counter::Filtered),
            passed_over: self.passed_over(),
        }
    }

    fn counter(&self, counter: Counter) -> u64 {
        let values = self.counters.get(&(counter as u32), 0);
        values.map_or(0, |values| values.iter().sum())
    }

    /// Another way to the maps of connections.
    pub(crate) fn more_tables(&self) -> Result<Tables, Error> {
        Tables::of(&self.ebpf)
    }

    /// Tells the kernel side where a process of Go has the numbers of its goroutines, `Some(None)`
    /// where that is not known; `None` of any other. Returns whether it took it.
    pub(crate) fn set_goroutines(&mut self, tgid: u32, goid: Option<Option<u16>>) -> bool {
        match goid {
            Some(at) => {
                let at = at.map_or(0, u32::from);
                self.go_programs.insert(tgid, at, 0).is_ok()
            }
            None => {
                // What is not there need not be removed.
                let _ = self.go_programs.remove(&tgid);
                true
            }
        }
    }

    /// Runs that the kernel has passed over, of programs for which no other steps in.
    fn passed_over(&self) -> u64 {
        let programs = self.ebpf.programs();
        let alone = programs.filter(|(name, _)| !hooks::has_second(name));
        let fds =
            alone.filter_map(|(_, program)| program.fd().ok().map(|fd| fd.as_fd().as_raw_fd()));
        fds.map(recursion_misses).sum()
    }

    /// Size of the ring buffer.
    pub(crate) fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }
}

/// The kernel's own count, 0 before Linux 5.12.
fn recursion_misses(program: RawFd) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{program}")).unwrap_or_default();
    let mut lines = info.lines();
    let misses = lines.find_map(|line| line.strip_prefix("recursion_misses:"));
    misses
        .and_then(|misses| misses.trim().parse().ok())
        .unwrap_or(0)
}

fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, Error> {
    let map = ebpf.take_map(name);
    let map = map.ok_or_else(|| Error::Missing(format!("map {name}")))?;
    T::try_from(map).map_err(map_error(name))
}

fn map_error(map: &'static str) -> impl FnOnce(MapError) -> Error {
    move |cause| Error::Map { map, cause }
}

/// Which maps of filters are to be asked.
fn flags(filters: &Filters) -> u32 {
    let flag = |flag: u32, wanted: bool| if wanted { flag } else { 0 };
    flag(filter_flag::TGID, !filters.pids.is_empty())
        | flag(filter_flag::NAME, !filters.names.is_empty())
        | flag(filter_flag::EXECUTABLE, !filters.executables.is_empty())
        | flag(filter_flag::CGROUP, !filters.cgroups.is_empty())
        | flag(filter_flag::NETNS, !filters.namespaces.is_empty())
        | flag(filter_flag::PORT, !filters.ports.is_empty())
        | flag(filter_flag::CIDR, !filters.networks.is_empty())
        | flag(filter_flag::EXTERNAL_ONLY, filters.external_only)
}

/// The first address of a network: what differs behind its prefix is one key of the map.
fn masked(address: Ipv6Addr, prefix: u32) -> Ipv6Addr {
    let host = u128::MAX.checked_shr(prefix).unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & !host)
}

/// A process name as the kernel has it: 15 bytes and a zero at most.
fn padded(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    for (to, from) in padded.iter_mut().zip(name.bytes().take(15)) {
        *to = from;
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_that_differ_behind_their_prefix_are_one_key() {
        let address = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
        for (text, prefix, expected) in [
            ("::ffff:10.1.2.3", 104, "::ffff:10.0.0.0"),
            ("::ffff:10.1.2.3", 128, "::ffff:10.1.2.3"),
            ("2001:db8::1", 32, "2001:db8::"),
            ("2001:db8::1", 0, "::"),
        ] {
            assert_eq!(
                masked(address(text), prefix),
                address(expected),
                "{text}/{prefix}"
            );
        }
    }
}
