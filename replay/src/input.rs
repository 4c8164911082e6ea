//! Where the bytes come from: a file or standard input, compressed or not.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

/// Something to read a capture from.
pub struct Input {
    source: Box<dyn Read + Send>,
    total: Option<u64>,
    live: bool,
}

impl Input {
    /// The file at `path`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Directory`] or [`Error::Open`]. What is in the file is looked
    /// at by [`run`](crate::run()).
    pub fn open(path: &Path) -> Result<Self, Error> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound { path: path.into() },
            io::ErrorKind::IsADirectory => Error::Directory { path: path.into() },
            _ => Error::Open {
                path: path.into(),
                source,
            },
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Error::Directory { path: path.into() });
        }
        let regular = metadata.is_file();
        Ok(Self {
            source: Box::new(file),
            total: regular.then_some(metadata.len()),
            live: !regular,
        })
    }

    /// Standard input, which may still be written to.
    #[must_use]
    pub fn stdin() -> Self {
        Self::live(io::stdin())
    }

    /// A reader that may block, such as a pipe: what was found is delivered before each read.
    #[must_use]
    pub fn live(source: impl Read + Send + 'static) -> Self {
        Self {
            source: Box::new(source),
            total: None,
            live: true,
        }
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(bytes: Vec<u8>) -> Self {
        let total = Some(bytes.len() as u64);
        Self {
            source: Box::new(Cursor::new(bytes)),
            total,
            live: false,
        }
    }

    /// Size in bytes before decompression, where it is known.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// Whether a read may block for long.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Looks at the first bytes and returns the reader of the decompressed input, and the counter
    /// of bytes read before decompression. Blocks until four bytes are there.
    pub(crate) fn decompressed(mut self) -> Result<(Box<dyn Read + Send>, Arc<AtomicU64>), Error> {
        let mut first = [0; MAGIC_LEN];
        let mut len = 0;
        while let Some(free) = first.get_mut(len..).filter(|free| !free.is_empty()) {
            match self.source.read(free) {
                Ok(0) => break,
                Ok(n) => len += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Io {
                        offset: len as u64,
                        source,
                    });
                }
            }
        }
        if len == 0 {
            return Err(Error::Empty);
        }
        let begin = first.get(..len).unwrap_or_default().to_vec();
        let count = Arc::new(AtomicU64::new(0));
        let rest = Cursor::new(begin.clone()).chain(self.source);
        let counted = Counted {
            source: rest,
            count: Arc::clone(&count),
        };
        Ok((decompress(&begin, counted)?, count))
    }
}

/// Bytes needed to tell the formats apart.
const MAGIC_LEN: usize = 4;

fn decompress(
    begin: &[u8],
    source: impl Read + Send + 'static,
) -> Result<Box<dyn Read + Send>, Error> {
    let unsupported = |what| Err(Error::Unsupported { what });
    match begin {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(
            source,
        )))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let decoder = zstd::stream::read::Decoder::new(source)
                .map_err(|source| Error::Io { offset: 0, source })?;
            Ok(Box::new(decoder))
        }
        [0xfd, b'7', b'z', b'X'] => unsupported(
            "this is xz-compressed; decompress it first: `xz -dc FILE | wirespan replay -`",
        ),
        [b'B', b'Z', b'h', _] => unsupported(
            "this is bzip2-compressed; decompress it first: `bzip2 -dc FILE | wirespan replay -`",
        ),
        [0x04, 0x22, 0x4d, 0x18] => unsupported(
            "this is lz4-compressed; decompress it first: `lz4 -dc FILE | wirespan replay -`",
        ),
        [b'P', b'K', 3, 4] => {
            unsupported("this is a zip archive; extract the capture files from it first")
        }
        b"snoo" => unsupported(
            "this is a snoop capture; convert it first: `editcap -F pcapng FILE FILE.pcapng`",
        ),
        _ => Ok(Box::new(source)),
    }
}

/// Counts what passes.
struct Counted<R> {
    source: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.source.read(buf)?;
        self.count.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn decompressed(bytes: Vec<u8>) -> Vec<u8> {
        let (mut reader, _) = Input::bytes(bytes).decompressed().unwrap();
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn gzip_with_several_members_is_read_to_its_end() {
        let mut bytes = Vec::new();
        for member in [b"first ", b"second"] {
            let mut encoder = flate2::write::GzEncoder::new(&mut bytes, Default::default());
            encoder.write_all(member).unwrap();
            encoder.finish().unwrap();
        }
        assert_eq!(decompressed(bytes), b"first second");
    }

    #[test]
    fn zstd_with_several_frames_is_read_to_its_end() {
        let mut bytes = zstd::encode_all(&b"first "[..], 0).unwrap();
        bytes.extend(zstd::encode_all(&b"second"[..], 0).unwrap());
        assert_eq!(decompressed(bytes), b"first second");
    }

    #[test]
    fn plain_bytes_pass_even_when_there_are_fewer_than_a_magic_number() {
        assert_eq!(decompressed(b"ab".to_vec()), b"ab");
    }

    #[test]
    fn no_bytes_are_an_empty_input() {
        assert!(matches!(
            Input::bytes(Vec::new()).decompressed(),
            Err(Error::Empty)
        ));
    }

    #[test]
    fn other_compressions_are_named_with_the_remedy() {
        let Err(error) = Input::bytes(b"\xfd7zXZ\0".to_vec()).decompressed() else {
            panic!("xz was accepted")
        };
        assert!(error.to_string().contains("xz -dc"), "{error}");
    }

    #[test]
    fn a_missing_file_and_a_folder_are_told_apart() {
        let folder = std::env::temp_dir();
        assert!(matches!(Input::open(&folder), Err(Error::Directory { .. })));
        let missing = folder.join("wirespan-no-such-file.pcap");
        assert!(matches!(Input::open(&missing), Err(Error::NotFound { .. })));
    }
}
