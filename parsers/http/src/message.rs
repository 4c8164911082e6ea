//! Where a connection is: the message that each direction is in.

use wirespan_parser_api::{ExchangeId, Flags};

use crate::framing::Body;

/// What must be known of a request to read its response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// The response to HEAD has no body.
    Head,
    /// A 2xx response turns the connection into a tunnel.
    Connect,
    /// A 101 response changes the protocol.
    Upgrade,
    Other,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Half {
    pub(crate) reading: Reading,
    /// The message whose head was read last.
    pub(crate) message: Message,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Reading {
    #[default]
    Head,
    /// A body, or the next head: the response answers a request that nobody knows, and that may
    /// have been HEAD.
    Unsure(Body),
    /// A chunk-size line.
    Chunk,
    /// Trailer lines, of this many bytes at most.
    Trailers(usize),
    /// The rest of a body that lasts to the end.
    ToEnd,
    /// Nothing: no later message can be told from this body.
    Broken,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Message {
    /// `None` for a response that cannot be paired, and a request that will not be.
    pub(crate) id: Option<ExchangeId>,
    pub(crate) began: u64,
    /// Offset behind the last byte, where the head tells it.
    pub(crate) end: u64,
}

/// Where a head lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    /// Stream offset of its first byte.
    pub(crate) at: u64,
    /// Its visible bytes.
    pub(crate) len: usize,
    /// Bytes that were lost behind them: more than none, and it is not whole.
    pub(crate) lost: u64,
}

impl Span {
    pub(crate) const fn whole(at: u64, len: usize) -> Self {
        Self { at, len, lost: 0 }
    }

    pub(crate) const fn end(self) -> u64 {
        self.at
            .saturating_add(self.len as u64)
            .saturating_add(self.lost)
    }

    /// The body behind the head, with flags: what a whole head says of it.
    pub(crate) fn body(self, whole: impl FnOnce() -> (Body, Flags)) -> (Body, Flags) {
        match self.lost {
            0 => whole(),
            _ => (Body::Empty, Flags::GAP.with(Flags::TRUNCATED)),
        }
    }
}
