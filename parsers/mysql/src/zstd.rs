//! Zstandard (RFC 8878), block by block.
//!
//! A frame of Zstandard's is the whole payload of a compressed packet. It is decoded when a block
//! of it is complete, and given on when it leaves the window: a short one at its end.

use alloc::boxed::Box;
use alloc::vec::Vec;

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read as _;
use wirespan_parser_api::{ErrorKind, ParseError};

use crate::inflate::{CHUNK, Take};
use crate::wire::{self, ZstdBlock, ZstdHeader};

/// Largest window. RFC 8878 §3.1.1.1.2 recommends to support as much, and levels up to 19 need no
/// more; those above do only for packets that are longer.
const MAX_WINDOW: u64 = 8 << 20;
/// Longest block, compressed or not (RFC 8878 §3.1.1.2.4).
const MAX_BLOCK: u32 = 128 << 10;
/// What a decoder takes beside its window, about: a block, its literals, what they become.
const SCRATCH: usize = 4 * MAX_BLOCK as usize;

/// Decodes one frame.
pub(crate) struct Zstd {
    decoder: FrameDecoder,
    /// Bytes that it is announced to become.
    len: u32,
    /// Blocks decoded.
    blocks: u32,
    next: Item,
    /// Beginning of an item that is not complete.
    held: Vec<u8>,
    header: ZstdHeader,
    chunk: Box<[u8; CHUNK]>,
}

/// What comes next in a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Item {
    Header,
    Block,
    Nothing,
}

impl core::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Zstd")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

impl Zstd {
    /// Begins every frame: 0xFD2FB528, little-endian.
    pub(crate) const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

    /// Decodes a frame that is announced to become `len` bytes.
    pub(crate) fn new(len: u32) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        Self {
            decoder,
            len,
            blocks: 0,
            next: Item::Header,
            held: Vec::new(),
            header: ZstdHeader::default(),
            chunk: Box::new([0; CHUNK]),
        }
    }

    /// Decodes more of the frame. What follows its end is ignored.
    pub(crate) fn feed(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<(), ParseError> {
        if self.held.is_empty() {
            let used = self.items(bytes, take)?;
            self.held
                .extend_from_slice(bytes.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut held = core::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let used = self.items(&held, take)?;
        held.drain(..used.min(held.len()));
        self.held = held;
        Ok(())
    }

    /// The decoder holds what it has decoded, but for what lies before the window.
    pub(crate) fn heap_bytes(&self) -> usize {
        let decoded = self.blocks.saturating_mul(MAX_BLOCK).min(self.len);
        let window = usize::try_from(self.header.window).unwrap_or(usize::MAX);
        window
            .min(decoded as usize)
            .next_power_of_two()
            .saturating_add(SCRATCH)
            .saturating_add(size_of::<Self>().saturating_add(CHUNK))
            .saturating_add(self.held.capacity())
    }

    /// Decodes the items that are complete; returns their bytes.
    fn items(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<usize, ParseError> {
        let mut used = 0usize;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let len = match self.next {
                Item::Header => self.header(rest)?,
                Item::Block => self.block(rest, take)?,
                Item::Nothing => rest.len(),
            };
            if len == 0 {
                return Ok(used);
            }
            used = used.saturating_add(len);
        }
    }

    /// Reads the header; returns its length, or 0 while it is not complete.
    fn header(&mut self, bytes: &[u8]) -> Result<usize, ParseError> {
        let Some(header) = wire::zstd_header(bytes) else {
            return if bytes.len() < wire::MAX_ZSTD_HEADER {
                Ok(0)
            } else {
                Err(ParseError::malformed("zstd header"))
            };
        };
        if header.window > MAX_WINDOW {
            return Err(ParseError {
                kind: ErrorKind::Unsupported,
                what: "zstd window",
            });
        }
        if header
            .content
            .is_some_and(|content| content != u64::from(self.len))
        {
            return Err(ParseError::malformed("compressed length"));
        }
        let bytes = bytes.get(..header.len).unwrap_or_default();
        self.decoder
            .reset(bytes)
            .map_err(|_| ParseError::malformed("zstd header"))?;
        self.header = header;
        self.next = Item::Block;
        Ok(header.len)
    }

    /// Decodes a block; returns its length, or 0 while it is not complete. A block becomes no more
    /// than [`MAX_BLOCK`] bytes.
    fn block(&mut self, bytes: &[u8], take: &mut Take<'_>) -> Result<usize, ParseError> {
        let Some(block) = wire::zstd_block(bytes) else {
            return Ok(0);
        };
        if block.size > MAX_BLOCK {
            return Err(ParseError::malformed("zstd block"));
        }
        let len = self.block_len(block);
        let Some(bytes) = bytes.get(..len) else {
            return Ok(0);
        };
        self.decoder
            .decode_blocks(bytes, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| ParseError::malformed("compressed data"))?;
        self.blocks = self.blocks.saturating_add(1);
        if block.is_last {
            self.next = Item::Nothing;
        }
        self.give(take)?;
        Ok(len)
    }

    /// Bytes of a block, header included, and of the checksum behind the last.
    fn block_len(&self, block: ZstdBlock) -> usize {
        let checksum = match block.is_last && self.header.has_checksum {
            true => 4,
            false => 0,
        };
        (block.payload as usize)
            .saturating_add(wire::ZSTD_BLOCK)
            .saturating_add(checksum)
    }

    /// Gives on what is no longer needed.
    fn give(&mut self, take: &mut Take<'_>) -> Result<(), ParseError> {
        loop {
            let read = self.decoder.read(&mut self.chunk[..]);
            let len = read.map_err(|_| ParseError::malformed("compressed data"))?;
            if len == 0 {
                return Ok(());
            }
            take(self.chunk.get(..len).unwrap_or_default())?;
        }
    }
}
