//! A layer of a packet: the captured bytes, and how long it was on the wire.

/// Bytes of one layer. `bytes.len() <= len`; what is missing was cut off by the snap length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    /// What was captured.
    pub(crate) bytes: &'a [u8],
    /// Length on the wire.
    pub(crate) len: usize,
}

impl<'a> View<'a> {
    /// `bytes` of something that was `len` long; a `len` that is too small is corrected.
    pub(crate) fn new(bytes: &'a [u8], len: usize) -> Self {
        Self {
            bytes,
            len: len.max(bytes.len()),
        }
    }

    /// Bytes on the wire that were not captured.
    pub(crate) fn missing(&self) -> usize {
        self.len - self.bytes.len()
    }

    /// Without its first `n` bytes, if they were captured.
    pub(crate) fn skip(self, n: usize) -> Option<Self> {
        let bytes = self.bytes.get(n..)?;
        Some(Self {
            bytes,
            len: self.len - n,
        })
    }

    /// The layer is `len` long, says its own header: shorter cuts padding off, longer means that
    /// bytes are missing.
    pub(crate) fn resize(self, len: usize) -> Self {
        Self {
            bytes: self.bytes.get(..len).unwrap_or(self.bytes),
            len,
        }
    }

    /// The byte at `at`.
    pub(crate) fn u8(&self, at: usize) -> Option<u8> {
        self.bytes.get(at).copied()
    }

    /// The big-endian number at `at`.
    pub(crate) fn u16(&self, at: usize) -> Option<u16> {
        self.bytes
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u16::from_be_bytes)
    }

    /// The big-endian number at `at`.
    pub(crate) fn u32(&self, at: usize) -> Option<u32> {
        self.bytes
            .get(at..)?
            .first_chunk()
            .copied()
            .map(u32::from_be_bytes)
    }
}
