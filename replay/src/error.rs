//! What can be wrong with an input, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why an input could not be read, or not to its end. Everything before it was delivered.
///
/// Offsets are byte offsets in the capture file, after decompression.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    #[error("there is no file {}; check the path", .path.display())]
    NotFound {
        /// The path as given.
        path: PathBuf,
    },
    /// The file exists and cannot be opened.
    #[error("cannot open {}: {source}; check its permissions", .path.display())]
    Open {
        /// The path as given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The path names a folder.
    #[error("{} is a folder; name the capture files in it", .path.display())]
    Directory {
        /// The path as given.
        path: PathBuf,
    },
    /// Not one byte.
    #[error("the input is empty; did the capture program have the right to capture?")]
    Empty,
    /// Neither pcap nor pcapng, compressed or not.
    #[error(
        "this is not a capture file: it begins with {first}; expected pcap or pcapng, plain or \
         compressed with gzip or zstd"
    )]
    NotACapture {
        /// The first bytes, readable.
        first: String,
    },
    /// The input ends inside a record.
    #[error(
        "the capture is cut off: its last record begins at byte {offset} and does not end; \
         everything before it was read"
    )]
    Truncated {
        /// Where the incomplete record begins.
        offset: u64,
    },
    /// A record contradicts the file format.
    #[error("the capture is damaged at byte {offset}: {what}; everything before it was read")]
    Damaged {
        /// Where the damaged record begins.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A format that is known and not read.
    #[error("{what}")]
    Unsupported {
        /// What it is, and how to convert it.
        what: &'static str,
    },
    /// Reading or decompressing failed.
    #[error("cannot read on after byte {offset}: {source}")]
    Io {
        /// How many bytes were read before.
        offset: u64,
        /// What the operating system or the decompressor said.
        source: io::Error,
    },
}
