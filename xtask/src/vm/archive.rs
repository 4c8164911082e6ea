//! An initial file system for the kernel: a cpio archive in the format `newc`
//! (<https://docs.kernel.org/driver-api/early-userspace/buffer-format.html>).

/// Something in the archive.
pub(crate) enum Entry {
    Folder,
    /// A file that can be run.
    Program(Vec<u8>),
}

/// An archive of `entries`, by path without a leading slash; folders come before what is in them.
pub(crate) fn newc(entries: &[(&str, Entry)]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (number, (path, entry)) in entries.iter().enumerate() {
        let (mode, contents): (u32, &[u8]) = match entry {
            Entry::Folder => (0o040_755, &[]),
            Entry::Program(contents) => (0o100_755, contents),
        };
        append(&mut archive, number + 1, path, mode, contents);
    }
    append(&mut archive, 0, "TRAILER!!!", 0, &[]);
    archive
}

fn append(archive: &mut Vec<u8>, inode: usize, path: &str, mode: u32, contents: &[u8]) {
    // Inode, mode, user, group, links, time, size, four of device numbers, path with its zero, sum.
    let mode = mode as usize;
    let path_len = path.len() + 1;
    let fields = [
        inode,
        mode,
        0,
        0,
        1,
        0,
        contents.len(),
        0,
        0,
        0,
        0,
        path_len,
        0,
    ];
    archive.extend(b"070701");
    archive.extend(fields.map(|field| format!("{field:08x}")).concat().bytes());
    archive.extend(path.bytes().chain([0]));
    align(archive);
    archive.extend(contents);
    align(archive);
}

fn align(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_header_a_name_and_contents_each_aligned() {
        let archive = newc(&[("bin/x", Entry::Program(b"12345".to_vec()))]);
        // 110 bytes of header and 6 of name are 116, which is a multiple of four.
        assert_eq!(&archive[..22], b"07070100000001000081ed");
        assert_eq!(&archive[54..62], b"00000005", "size");
        assert_eq!(&archive[110..124], b"bin/x\x0012345\0\0\0");
        assert_eq!(&archive[124..130], b"070701");
        assert!(archive.ends_with(b"TRAILER!!!\0\0\0\0"));
    }
}
