//! The payload of a compressed frame, piece by piece, by either algorithm.

use alloc::boxed::Box;

use miniz_oxide::inflate::stream::{InflateState, MinReset, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use wirespan_parser_api::ParseError;

use crate::zstd::Zstd;

/// Bytes that are inflated at once.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Takes what becomes of a payload.
pub(crate) type Take<'a> = dyn FnMut(&[u8]) -> Result<(), ParseError> + 'a;

/// Inflates the frames of one direction, one after another.
#[derive(Debug, Default)]
pub(crate) struct Inflater {
    /// Kept for all frames: it is needed for each, and its size is fixed.
    zlib: Option<Box<Zlib>>,
    /// Lives as long as a frame: what it holds depends on the frame.
    zstd: Option<Box<Zstd>>,
}

/// What inflating zlib takes.
struct Zlib {
    state: InflateState,
    chunk: [u8; CHUNK],
}

impl core::fmt::Debug for Zlib {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Zlib").finish_non_exhaustive()
    }
}

impl Inflater {
    /// A frame begins whose payload becomes `len` bytes. Its first byte tells the algorithm: a
    /// zlib stream with this one would have a window of 1 KiB, which nobody asks for.
    pub(crate) fn begin(&mut self, first: u8, len: u32) {
        self.end();
        if Zstd::MAGIC.starts_with(&[first]) {
            self.zstd = Some(Box::new(Zstd::new(len)));
            return;
        }
        let zlib = self.zlib.get_or_insert_with(|| {
            Box::new(Zlib {
                state: InflateState::new(DataFormat::Zlib),
                chunk: [0; CHUNK],
            })
        });
        zlib.state.reset_as(MinReset);
    }

    /// Inflates more of the payload. What follows the end of the compressed data is ignored.
    pub(crate) fn feed(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<(), ParseError> {
        match (&mut self.zstd, &mut self.zlib) {
            (Some(zstd), _) => zstd.feed(bytes, take),
            (None, Some(zlib)) => zlib.feed(bytes, take),
            (None, None) => Ok(()),
        }
    }

    /// The frame is over, or lost.
    pub(crate) fn end(&mut self) {
        self.zstd = None;
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let zlib = self.zlib.as_ref().map_or(0, |_| size_of::<Zlib>());
        let zstd = self.zstd.as_ref().map_or(0, |zstd| zstd.heap_bytes());
        zlib.saturating_add(zstd)
    }
}

impl Zlib {
    fn feed(&mut self, mut bytes: &[u8], take: &mut Take<'_>) -> Result<(), ParseError> {
        loop {
            let result = inflate(&mut self.state, bytes, &mut self.chunk, MZFlush::None);
            take(self.chunk.get(..result.bytes_written).unwrap_or_default())?;
            bytes = bytes.get(result.bytes_consumed..).unwrap_or_default();
            match result.status {
                Ok(MZStatus::StreamEnd) => return Ok(()),
                Ok(_) if result.bytes_consumed > 0 || result.bytes_written > 0 => {}
                Ok(_) | Err(MZError::Buf) => return Ok(()),
                Err(_) => return Err(ParseError::malformed("compressed data")),
            }
        }
    }
}
