//! A file that is looked into where it lies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use wirespan_probe_sites::Source;

/// An open file, as large as it was when it was opened.
pub(super) struct OnDisk {
    file: File,
    size: u64,
}

impl OnDisk {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl Source for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.file.read_exact_at(bytes, offset).is_ok()
    }
}

impl From<OnDisk> for File {
    fn from(on_disk: OnDisk) -> Self {
        on_disk.file
    }
}
