//! Captures and their goldens: `x.pcap` (`.pcapng`, `.cap`, also compressed) and `x.golden.jsonl`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::difference::difference;

const COMPRESSIONS: [&str; 2] = ["gz", "zst"];
const CAPTURES: [&str; 3] = ["pcap", "pcapng", "cap"];

/// The captures in `folder` and the folders below it, in order of their paths. Links to folders are
/// not followed.
pub(crate) fn captures_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut captures, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if stem(&entry.path()).is_some() {
                captures.push(entry.path());
            }
        }
    }
    captures.sort();
    Ok(captures)
}

/// The golden that belongs to `capture`, beside it.
pub(crate) fn golden_of(capture: &Path) -> PathBuf {
    let mut golden = stem(capture)
        .unwrap_or_else(|| capture.into())
        .into_os_string();
    golden.push(".golden.jsonl");
    golden.into()
}

/// The path without the endings of a capture; `None` if it has none.
fn stem(path: &Path) -> Option<PathBuf> {
    let among = |path: &Path, endings: &[&str]| {
        let ending = path
            .extension()
            .and_then(OsStr::to_str)
            .map(str::to_ascii_lowercase);
        ending.is_some_and(|ending| endings.contains(&ending.as_str()))
    };
    let mut path = path.to_path_buf();
    if among(&path, &COMPRESSIONS) {
        path.set_extension("");
    }
    among(&path, &CAPTURES).then(|| path.with_extension(""))
}

/// What became of one golden.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The records are as expected.
    Same,
    /// They are not; for people.
    Different(String),
    /// There is no golden to compare with.
    Missing,
    /// The golden was written.
    Written,
}

/// Compares `records` with the golden.
///
/// # Errors
///
/// When the golden exists and cannot be read.
pub(crate) fn compare(golden: &Path, records: &[u8]) -> io::Result<Verdict> {
    let expected = match fs::read(golden) {
        Ok(expected) => expected,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Verdict::Missing),
        Err(error) => return Err(error),
    };
    if expected == records {
        return Ok(Verdict::Same);
    }
    let (expected, found) = (
        String::from_utf8_lossy(&expected),
        String::from_utf8_lossy(records),
    );
    let text = difference(&expected, &found);
    Ok(text.map_or(Verdict::Same, Verdict::Different))
}

/// Writes the golden unless it holds `records` already; makes its folder.
///
/// # Errors
///
/// When it cannot be written.
pub(crate) fn bless(golden: &Path, records: &[u8]) -> io::Result<Verdict> {
    if fs::read(golden).is_ok_and(|expected| expected == records) {
        return Ok(Verdict::Same);
    }
    if let Some(folder) = golden.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(golden, records)?;
    Ok(Verdict::Written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_golden_has_the_name_of_its_capture_without_the_endings() {
        for (capture, golden) in [
            ("a/x.pcap", "a/x.golden.jsonl"),
            ("x.v2.pcapng.gz", "x.v2.golden.jsonl"),
            ("x.PCAP.zst", "x.golden.jsonl"),
            ("x.cap", "x.golden.jsonl"),
            ("odd.bin", "odd.bin.golden.jsonl"),
        ] {
            assert_eq!(golden_of(Path::new(capture)), Path::new(golden));
        }
    }

    #[test]
    fn other_files_are_no_captures() {
        for name in ["x.golden.jsonl", "pcap", "x.gz", "x.pcap.txt", "README.md"] {
            assert_eq!(stem(Path::new(name)), None, "{name}");
        }
    }
}
