//! Files that processes have mapped as code.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Names a file whatever its path: device as `/proc/PID/maps` writes it, and inode number.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct FileId {
    device: String,
    inode: u64,
}

/// Tells a file from a later one that got its number: size, and time of its last change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp(u64, i64, i64);

/// A file of which a process has mapped code.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mapping {
    pub(crate) file: FileId,
    /// As the process sees it, in its own mount namespace.
    pub(crate) path: PathBuf,
    /// `start-end` of the mapping, as its link in `/proc/PID/map_files` is called.
    range: String,
}

/// Files larger than this are not looked at, in bytes.
const LARGEST: u64 = 1 << 30;

/// The files of which a process has mapped code; empty when it is gone.
pub(crate) fn mappings(tgid: u32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{tgid}/maps")).unwrap_or_default();
    let mut mappings: Vec<Mapping> = Vec::new();
    for mapping in text.lines().filter_map(mapping) {
        if !mappings.iter().any(|known| known.file == mapping.file) {
            mappings.push(mapping);
        }
    }
    mappings
}

/// A line of `/proc/PID/maps`, proc(5), if it is code of a file.
fn mapping(line: &str) -> Option<Mapping> {
    let mut rest = line;
    let mut field = || {
        let (field, behind) = rest.trim_start().split_once(' ')?;
        rest = behind;
        Some(field)
    };
    let (range, rights, _) = (field()?, field()?, field()?);
    let (device, inode) = (field()?, field()?.parse().ok()?);
    let path = rest.trim_start();
    let is_code = rights.as_bytes().get(2) == Some(&b'x');
    (is_code && inode != 0 && path.starts_with('/')).then(|| Mapping {
        file: FileId {
            device: device.to_owned(),
            inode,
        },
        path: PathBuf::from(path.strip_suffix(" (deleted)").unwrap_or(path)),
        range: range.to_owned(),
    })
}

impl Mapping {
    /// The file's stamp.
    pub(crate) fn stamp(&self, tgid: u32) -> io::Result<Stamp> {
        self.ways(tgid)
            .find_map(|way| stamp(&way).ok())
            .ok_or_else(gone)
    }

    /// Opens the file, even if it was replaced on disk or lies in another mount namespace.
    pub(crate) fn open(&self, tgid: u32) -> io::Result<File> {
        self.ways(tgid)
            .find_map(|way| open(&way).ok())
            .ok_or_else(gone)
    }

    /// Paths that lead to the file from here: the exact one, and, since few have the right to follow
    /// such links, what the process calls it.
    fn ways(&self, tgid: u32) -> impl Iterator<Item = PathBuf> {
        let exact = format!("/proc/{tgid}/map_files/{}", self.range);
        let inside = self.path.strip_prefix("/").unwrap_or(&self.path);
        let named = Path::new(&format!("/proc/{tgid}/root")).join(inside);
        [PathBuf::from(exact), named].into_iter()
    }
}

fn gone() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

/// The stamp of a file.
pub(crate) fn stamp(path: &Path) -> io::Result<Stamp> {
    let metadata = fs::metadata(path)?;
    Ok(Stamp(
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    ))
}

/// All processes.
pub(crate) fn processes() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str().and_then(|name| name.parse().ok()))
        .collect()
}

/// What a file on disk is called in `/proc/PID/maps`.
pub(crate) fn identity(path: &Path) -> io::Result<FileId> {
    let metadata = fs::metadata(path)?;
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    Ok(FileId {
        device: format!("{major:02x}:{minor:02x}"),
        inode: metadata.ino(),
    })
}

/// Opens a regular file that is not too large to be looked at.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err(io::Error::other("not a file that could be looked at"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_files_is_found_whatever_their_names() {
        let line = "7f2c1e600000-7f2c1e65b000 r-xp 0001e000 fe:00 265413    \
                    /usr/lib/a library/libssl.so.3 (deleted)";
        let found = mapping(line).unwrap();
        assert_eq!(found.path, Path::new("/usr/lib/a library/libssl.so.3"));
        let file = (found.file.device.as_str(), found.file.inode);
        assert_eq!(file, ("fe:00", 265_413));
        assert_eq!(found.range, "7f2c1e600000-7f2c1e65b000");
    }

    #[test]
    fn data_and_memory_are_no_code_of_files() {
        for line in [
            "",
            "7ffd8a9c5000-7ffd8a9e6000 rw-p 00000000 00:00 0          [stack]",
            "7ffd8a9f4000-7ffd8a9f6000 r-xp 00000000 00:00 0          [vdso]",
            "7f2c1e65b000-7f2c1e679000 r--p 00079000 fe:00 265413     /usr/lib/libssl.so.3",
            "7f2c1e65b000-7f2c1e679000 r-xp 00000000 00:00 0 ",
        ] {
            assert_eq!(mapping(line), None, "{line}");
        }
    }

    #[test]
    fn the_tests_have_mapped_themselves() {
        let own = mappings(std::process::id());
        let program = std::env::current_exe().unwrap();
        let mapping = own.iter().find(|mapping| mapping.path == program).unwrap();
        let file = mapping.open(std::process::id()).unwrap();
        assert_eq!(file.metadata().unwrap().ino(), mapping.file.inode);
        assert_eq!(identity(&program).unwrap(), mapping.file);
        assert!(processes().contains(&std::process::id()));
    }
}
