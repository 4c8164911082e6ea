//! Executables by path: which files they are, as the kernel's side names files.
//!
//! The kernel's side compares the file that a process runs at its first call, and again after an
//! exec, so that a process is left out or observed from its first byte on, however short it lives.
//! No verdict has to follow it through forks. What has to follow is the set of files: an upgrade
//! puts another one in its place, a container brings its own.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::ptr;
use std::str::FromStr;

use wirespan_capture_abi::Executable;

use crate::tls::survey::processes;

/// Files that patterns stand for at most: what the kernel's side has room for.
const MOST: usize = 2_048;

/// Executables by path: an absolute one, in whose names `*` is any text and `?` any character.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExecutablePattern(String);

impl FromStr for ExecutablePattern {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected a path from the root, such as /usr/sbin/nginx or /opt/*/bin/server")
        }
    }
}

impl ExecutablePattern {
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|name| !name.is_empty())
    }

    /// The paths of this machine that it stands for, whether or not there is a file.
    fn paths(&self) -> Vec<PathBuf> {
        let mut places = vec![PathBuf::from("/")];
        for name in self.names() {
            if !name.contains(['*', '?']) {
                places.iter_mut().for_each(|place| place.push(name));
                continue;
            }
            let entries = places.iter().filter_map(|place| fs::read_dir(place).ok());
            let entries = entries.flatten().flatten();
            let matching = entries.filter(|entry| matches(name, &entry.file_name()));
            places = matching.map(|entry| entry.path()).take(MOST).collect();
        }
        places
    }

    /// Whether it stands for a path.
    fn is(&self, path: &Path) -> bool {
        let mut names = self.names();
        let mut found = path.iter().skip(1);
        loop {
            match (names.next(), found.next()) {
                (None, None) => return true,
                (Some(pattern), Some(name)) if matches(pattern, name) => {}
                _ => return false,
            }
        }
    }
}

/// Whether a pattern matches all of a name. Only the last star is remembered: a later one can always
/// take over.
fn matches(pattern: &str, name: &OsStr) -> bool {
    let (mut pattern, mut name) = (pattern.as_bytes(), name.as_bytes());
    // Behind the last star, and what it has not yet swallowed.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        (pattern, name) = match (pattern, name) {
            ([], []) => return true,
            ([b'*', after @ ..], _) => {
                retry = Some((after, name));
                (after, name)
            }
            ([wanted, after @ ..], [found, rest @ ..]) if *wanted == b'?' || wanted == found => {
                (after, rest)
            }
            _ => match retry {
                Some((after, [_, rest @ ..])) => {
                    retry = Some((after, rest));
                    (after, rest)
                }
                _ => return false,
            },
        };
    }
}

/// The files that patterns stand for.
#[derive(Debug)]
pub(crate) struct Executables {
    patterns: Vec<ExecutablePattern>,
    files: BTreeSet<Executable>,
    /// What the kernel calls the devices that stat(2) tells.
    devices: HashMap<u64, BTreeSet<u32>>,
}

impl Executables {
    pub(crate) fn new(patterns: &[ExecutablePattern]) -> Self {
        Self {
            patterns: patterns.to_vec(),
            files: BTreeSet::new(),
            devices: HashMap::new(),
        }
    }

    /// Whether there are patterns.
    pub(crate) fn any(&self) -> bool {
        !self.patterns.is_empty()
    }

    pub(crate) fn files(&self) -> &BTreeSet<Executable> {
        &self.files
    }

    /// Looks for files and processes anew; whether the files are others than before.
    pub(crate) fn look(&mut self) -> bool {
        let here = self.patterns.iter().flat_map(ExecutablePattern::paths);
        let running = processes().into_iter().filter_map(|pid| self.runs(pid));
        let places: Vec<PathBuf> = here.chain(running).collect();
        let mut files = BTreeSet::new();
        for place in places {
            if files.len() < MOST
                && let Ok(metadata) = fs::metadata(&place)
                && metadata.is_file()
            {
                files.extend(self.names(&place, &metadata));
            }
        }
        let other = files != self.files;
        self.files = files;
        other
    }

    /// The link to the executable of a process, if that is meant: by the path in its own mount
    /// namespace, also where the file has been replaced.
    fn runs(&self, pid: u32) -> Option<PathBuf> {
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let path = fs::read_link(&link).ok()?;
        let bytes = path.as_os_str().as_bytes();
        let path = bytes.strip_suffix(b" (deleted)").unwrap_or(bytes);
        let path = Path::new(OsStr::from_bytes(path));
        self.patterns.iter().any(|p| p.is(path)).then_some(link)
    }

    /// What the kernel calls a file. Most file systems tell the device that they are; Btrfs tells
    /// that of the subvolume, and overlays that of a layer. Neither is another file's name.
    fn names(&mut self, path: &Path, metadata: &Metadata) -> Vec<Executable> {
        let told = metadata.dev();
        let devices = self.devices.entry(told).or_insert_with(|| {
            let told = device(libc::major(told), libc::minor(told));
            mapped_device(path).into_iter().chain([told]).collect()
        });
        let name = |device: &u32| Executable {
            inode: metadata.ino(),
            device: *device,
            reserved: 0,
        };
        devices.iter().map(name).collect()
    }
}

/// `MKDEV` of `include/linux/kdev_t.h`.
const fn device(major: u32, minor: u32) -> u32 {
    major << 20 | minor
}

/// The device of a file as `/proc/self/maps` has it, proc(5), once the file is mapped: `s_dev`.
#[allow(unsafe_code, reason = "mmap has no safe interface in std")]
fn mapped_device(path: &Path) -> Option<u32> {
    let file = File::open(path).ok()?;
    let (nowhere, rights) = (ptr::null_mut(), libc::PROT_READ);
    // SAFETY: a new mapping, which nobody reads; the descriptor is open.
    let address = unsafe { libc::mmap(nowhere, 1, rights, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if address == libc::MAP_FAILED {
        return None;
    }
    let maps = fs::read_to_string("/proc/self/maps");
    // SAFETY: mapped above.
    unsafe { libc::munmap(address, 1) };
    let begin = format!("{:x}-", address.addr());
    let maps = maps.ok()?;
    let line = maps.lines().find(|line| line.starts_with(&begin))?;
    let (major, minor) = line.split_ascii_whitespace().nth(3)?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    Some(device(number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> ExecutablePattern {
        text.parse().unwrap()
    }

    #[test]
    fn stars_and_question_marks_stay_within_a_name() {
        for (text, path, expected) in [
            ("/usr/sbin/nginx", "/usr/sbin/nginx", true),
            ("/usr/sbin/nginx", "/usr/sbin/nginx2", false),
            ("/usr/*/nginx", "/usr/sbin/nginx", true),
            ("/usr/*/nginx", "/usr/a/b/nginx", false),
            ("/usr/bin/python3*", "/usr/bin/python3.11", true),
            ("/usr/bin/*-*r", "/usr/bin/redis-server", true),
            ("/usr/bin/*-*r", "/usr/bin/redis-servers", false),
            ("/usr/bin/p?", "/usr/bin/ps", true),
            ("/usr/bin/p?", "/usr/bin/p", false),
            ("/*/*", "/usr", false),
        ] {
            assert_eq!(pattern(text).is(Path::new(path)), expected, "{text} {path}");
        }
    }

    #[test]
    fn a_path_that_is_not_from_the_root_is_refused() {
        for text in ["", "nginx", "./nginx", "*/nginx"] {
            assert!(text.parse::<ExecutablePattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_own_executable_is_found_by_path_by_pattern_and_by_process() {
        let own = std::env::current_exe().unwrap();
        let folder = own.parent().unwrap().to_str().unwrap();
        let name = own.file_name().unwrap().to_str().unwrap();
        let by_path = pattern(&format!("{folder}/{name}"));
        let by_pattern = pattern(&format!("{folder}/{}*", &name[..name.len() - 2]));
        for pattern in [by_path, by_pattern] {
            assert!(pattern.paths().contains(&own), "{pattern:?}");
            let mut executables = Executables::new(&[pattern]);
            assert!(executables.runs(std::process::id()).is_some());
            assert!(executables.look(), "they are new");
            let inode = fs::metadata(&own).unwrap().ino();
            let mut found = executables.files().iter();
            assert!(found.any(|file| file.inode == inode));
            assert!(!executables.look(), "they are the same");
        }
    }

    #[test]
    fn a_device_has_the_number_that_mappings_show() {
        let own = std::env::current_exe().unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps
            .lines()
            .find(|line| line.ends_with(own.to_str().unwrap()));
        let shown = line.unwrap().split_ascii_whitespace().nth(3).unwrap();
        let found = mapped_device(&own).unwrap();
        let (major, minor) = (found >> 20, found & 0xf_ffff);
        assert_eq!(format!("{major:02x}:{minor:02x}"), shown);
    }

    #[test]
    fn what_is_not_there_stands_for_no_file() {
        let mut executables = Executables::new(&[pattern("/nonexistent/*/x")]);
        assert!(!executables.look());
        assert!(executables.files().is_empty());
    }
}
