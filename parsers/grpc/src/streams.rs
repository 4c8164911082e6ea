//! The open streams of a connection.

use std::collections::VecDeque;

use wirespan_parser_api::{Direction, ExchangeId};

use crate::grpc::Messages;

/// A request stream that is not done with.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) exchange: ExchangeId,
    pub(crate) kind: Kind,
    pub(crate) request: Half,
    pub(crate) response: Half,
    /// HTTP status of the final response.
    pub(crate) status: Option<u16>,
    pub(crate) answer: Answer,
    /// Whether headers of the response are unknown, or lost.
    pub(crate) unsure: bool,
}

/// What a stream carries.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Http,
    Grpc,
    /// Reported as HTTP; may turn out to be gRPC, to the method whose path this is.
    Maybe(Box<str>),
    /// CONNECT: after a good answer, another protocol.
    Connect,
}

/// How far the response is reported.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// Not seen.
    None,
    /// Begun; its status is to come.
    Begun,
    /// With its status.
    Told,
}

/// One direction of a stream.
#[derive(Debug, Default)]
pub(crate) struct Half {
    /// Offset of its newest frame.
    pub(crate) at: u64,
    /// Bytes of its HEADERS, CONTINUATION and DATA frames.
    pub(crate) size: u64,
    pub(crate) ended: bool,
    /// Whether bytes were lost that may have been its own.
    pub(crate) lost: bool,
    /// Whether a DATA frame was seen.
    pub(crate) data: bool,
    pub(crate) messages: Messages,
}

impl Stream {
    pub(crate) fn half(&mut self, dir: Direction) -> &mut Half {
        match dir {
            Direction::ToServer => &mut self.request,
            Direction::ToClient => &mut self.response,
        }
    }

    fn heap_bytes(&self) -> usize {
        match &self.kind {
            Kind::Maybe(path) => path.len(),
            Kind::Http | Kind::Grpc | Kind::Connect => 0,
        }
    }
}

/// The open streams by rising exchange, which is nearly always by rising stream.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    open: VecDeque<Stream>,
    /// Whether streams rise too: false once a stream was opened late, after a loss.
    unordered: bool,
    heap: usize,
}

impl Streams {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn find(&mut self, id: u32) -> Option<&mut Stream> {
        let index = self.index(id)?;
        self.open.get_mut(index)
    }

    pub(crate) fn by_exchange(&self, id: ExchangeId) -> Option<&Stream> {
        let index = self
            .open
            .binary_search_by_key(&id, |stream| stream.exchange);
        self.open.get(index.ok()?)
    }

    pub(crate) fn push(&mut self, stream: Stream) {
        self.unordered &= !self.open.is_empty();
        self.unordered |= self.open.back().is_some_and(|last| last.id >= stream.id);
        self.heap = self.heap.saturating_add(stream.heap_bytes());
        self.open.push_back(stream);
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Stream> {
        let index = self.index(id)?;
        let stream = self.open.remove(index)?;
        self.heap = self.heap.saturating_sub(stream.heap_bytes());
        Some(stream)
    }

    pub(crate) fn remove_oldest(&mut self) -> Option<Stream> {
        let id = self.open.front()?.id;
        self.remove(id)
    }

    /// Settles what a stream carries.
    pub(crate) fn settle(&mut self, id: u32, kind: Kind) {
        if let Some(index) = self.index(id)
            && let Some(stream) = self.open.get_mut(index)
        {
            self.heap = self.heap.saturating_sub(stream.heap_bytes());
            stream.kind = kind;
            self.heap = self.heap.saturating_add(stream.heap_bytes());
        }
    }

    /// The newest stream above `last`.
    pub(crate) fn newest_above(&self, last: u32) -> Option<u32> {
        self.open
            .iter()
            .rev()
            .map(|stream| stream.id)
            .find(|id| *id > last)
    }

    /// Notes that bytes were lost in a direction that may have been of any open stream.
    pub(crate) fn lose(&mut self, dir: Direction) {
        for stream in &mut self.open {
            let half = stream.half(dir);
            if !half.ended {
                half.lost = true;
                half.messages.lose();
            }
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let streams = self.open.capacity().saturating_mul(size_of::<Stream>());
        streams.saturating_add(self.heap)
    }

    fn index(&self, id: u32) -> Option<usize> {
        // Most often it is the newest.
        if self.open.back().is_some_and(|last| last.id == id) {
            return self.open.len().checked_sub(1);
        }
        if self.unordered {
            return self.open.iter().rposition(|stream| stream.id == id);
        }
        self.open.binary_search_by_key(&id, |stream| stream.id).ok()
    }
}
