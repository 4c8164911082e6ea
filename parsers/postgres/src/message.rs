//! A message of the client's, of which only the beginning may be visible.

use wirespan_parser_api::{Next, ParseError, Step};
use wirespan_sql::Extent;

use crate::wire::{self, Header};

/// A message of the client's, as far as it is visible.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) header: Header,
    pub(crate) at: u64,
    pub(crate) body: &'a [u8],
    /// Whether `body` is all of it.
    pub(crate) extent: Extent,
}

impl Message<'_> {
    /// Offset behind it.
    pub(crate) const fn end(&self) -> u64 {
        self.at.saturating_add(self.header.len)
    }

    /// What makes it, where all of it is visible, a broken message.
    pub(crate) fn need<T>(
        &self,
        read: Option<T>,
        what: &'static str,
    ) -> Result<Option<T>, ParseError> {
        match (read, self.extent) {
            (None, Extent::Complete) => Err(ParseError::malformed(what)),
            (read, _) => Ok(read),
        }
    }
}

/// Consumes what is visible of a message of `len` bytes, at least `wanted` of them; skips the rest.
pub(crate) fn step(bytes: &[u8], len: u64, wanted: usize) -> Step {
    let consumed = usize::try_from(len).map_or(bytes.len(), |len| len.min(bytes.len()));
    debug_assert!(consumed >= wanted);
    match len.saturating_sub(consumed as u64) {
        0 => Step::more(consumed),
        rest => Step {
            consumed,
            next: Next::Skip(rest),
        },
    }
}

/// The text of a query, without its NUL.
pub(crate) fn message_text<'a>(
    message: &Message<'_>,
    body: &'a [u8],
) -> Result<&'a [u8], ParseError> {
    match message.extent {
        Extent::Cut => Ok(body),
        Extent::Complete => match wire::name(body) {
            Some(text) if text.len().saturating_add(1) == body.len() => Ok(text),
            _ => Err(ParseError::malformed("query text")),
        },
    }
}
