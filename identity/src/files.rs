//! Reading files that may be gone, endless, or no text.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// At most `most` bytes of a file; `None` where it cannot be read.
pub(crate) fn read(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .ok()?
        .take(most)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}
