//! Header blocks: their fragments put together, and read.

use wirespan_parser_api::{Emit, Event, ParseError};

use crate::hpack::Decoder;
use crate::message::Message;
use crate::wire::{self, HEAD, Head, Kind, flag};

/// Puts header blocks together and reads them; its room is used again for each.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    message: Message,
    /// The fragments behind the first.
    fragments: Vec<u8>,
}

/// What became of the fragments of a header block.
pub(crate) enum Collected {
    /// All are there, and end this many bytes behind the first payload's beginning.
    Whole(usize),
    /// This many bytes are needed.
    Need(usize),
    /// The block is larger than what is read.
    TooLarge,
}

impl Blocks {
    /// Puts the fragments behind the first one together: those of the CONTINUATIONs behind `first`,
    /// at whose payload `bytes` begins.
    ///
    /// # Errors
    ///
    /// When another frame comes first (RFC 9113 §4.3).
    pub(crate) fn collect(
        &mut self,
        first: &Head,
        bytes: &[u8],
        max: usize,
    ) -> Result<Collected, ParseError> {
        self.fragments.clear();
        let mut at = first.payload();
        if first.has(flag::END_HEADERS) {
            return Ok(Collected::Whole(at));
        }
        loop {
            let body = at.saturating_add(HEAD);
            if body > max {
                return Ok(Collected::TooLarge);
            }
            let Some(head) = bytes.get(at..).and_then(wire::head) else {
                return Ok(Collected::Need(body));
            };
            if head.kind != Kind::CONTINUATION || head.stream != first.stream {
                return Err(ParseError::malformed("CONTINUATION"));
            }
            at = body.saturating_add(head.payload());
            if at > max {
                return Ok(Collected::TooLarge);
            }
            let Some(fragment) = bytes.get(body..at) else {
                return Ok(Collected::Need(at));
            };
            self.fragments.extend_from_slice(fragment);
            if head.has(flag::END_HEADERS) {
                return Ok(Collected::Whole(at));
            }
        }
    }

    /// Reads a block: its first fragment, and what was collected. `None`, and an error is reported:
    /// it cannot be read, and the table is lost.
    pub(crate) fn read(
        &mut self,
        first: &[u8],
        hpack: &mut Decoder,
        out: &mut dyn Emit,
    ) -> Option<&Message> {
        let Self { message, fragments } = self;
        let block = if fragments.is_empty() {
            first
        } else {
            fragments.splice(..0, first.iter().copied());
            fragments
        };
        message.clear();
        match hpack.decode(block, |header| message.add(header)) {
            Ok(()) => Some(message),
            Err(error) => {
                hpack.lose();
                let error = ParseError::malformed(error.what());
                out.emit(Event::Error { error });
                None
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let fragments = self.fragments.capacity();
        self.message.heap_bytes().saturating_add(fragments)
    }
}
