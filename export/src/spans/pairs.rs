//! Ids of exchanges that carry no trace context: derived from the flow, so that the two ends of a
//! connection, where both are observed, are client and server of one trace.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use wirespan_engine::{Address, Exchange, Nanos, Side};

use super::Ids;
use crate::ids;
use crate::semconv::Kind;

/// Exchanges whose other end may still be reported.
const MAX_WAITING: usize = 8_192;
/// The two ends of an exchange begin within this time.
const APART: u64 = 1_000_000_000;

/// What both ends of an exchange have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Flow {
    client: Address,
    server: Address,
    offset: u64,
}

/// One end, waiting for the other.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    flow: Flow,
    side: Side,
    start: Nanos,
}

/// Gives ids, and remembers those whose other end may follow.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs {
    hasher: DefaultHashBuilder,
    waiting: HashTable<Waiting>,
    /// In order of arrival; those that found their other end stay until their turn comes.
    order: VecDeque<(Flow, Nanos)>,
}

impl Pairs {
    /// The ids of an exchange without a trace context. One of the wire has no other end.
    pub(super) fn ids(&mut self, exchange: &Exchange<'_>, kind: Kind) -> Ids {
        let flow = Flow {
            client: exchange.client,
            server: exchange.server,
            offset: exchange.offset,
        };
        let other_end = match exchange.side {
            Side::Wire => None,
            side => self.meet(flow, side, exchange.start),
        };
        // Whichever end was reported first names the trace.
        let named = other_end.unwrap_or(exchange.start);
        let word = |tag: u64| ids::flow_word(flow.client, flow.server, flow.offset, named.0 ^ tag);
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&word(1).to_be_bytes());
        trace_id[8..].copy_from_slice(&word(2).to_be_bytes());
        let (client, server) = (word(3).to_be_bytes(), word(4).to_be_bytes());
        // The server is usually done first. Where the client must be on this machine its end
        // follows, and it is known what its span will be called.
        let local = exchange.client.is_beside(&exchange.server);
        let parent = (other_end.is_some() || local).then_some(client);
        let (span_id, parent_span_id) = match (exchange.side, kind) {
            (Side::Server, _) => (server, parent),
            (Side::Client, _) | (Side::Wire, Kind::Client) => (client, None),
            (Side::Wire, Kind::Server) => (server, None),
        };
        Ids {
            trace_id,
            span_id,
            parent_span_id,
            flags: 0b11,
        }
    }

    /// When the other end began, if it was reported; otherwise this end waits for it.
    fn meet(&mut self, flow: Flow, side: Side, start: Nanos) -> Option<Nanos> {
        let hash = self.hasher.hash_one(flow);
        let is_it = |waiting: &Waiting| {
            let apart = waiting.start.0.abs_diff(start.0);
            waiting.flow == flow && waiting.side != side && apart < APART
        };
        if let Ok(found) = self.waiting.find_entry(hash, is_it) {
            return Some(found.remove().0.start);
        }
        if self.order.len() >= MAX_WAITING
            && let Some((flow, start)) = self.order.pop_front()
        {
            let hash = self.hasher.hash_one(flow);
            let is_it = |waiting: &Waiting| waiting.flow == flow && waiting.start == start;
            if let Ok(old) = self.waiting.find_entry(hash, is_it) {
                old.remove();
            }
        }
        self.order.push_back((flow, start));
        let hasher = &self.hasher;
        let waiting = Waiting { flow, side, start };
        self.waiting
            .insert_unique(hash, waiting, |waiting| hasher.hash_one(waiting.flow));
        None
    }
}

/// An id for a further span of the exchange whose span has this id.
pub(super) fn beside(span_id: [u8; 8]) -> [u8; 8] {
    let word = ids::spread(u64::from_be_bytes(span_id).into());
    word.max(1).to_be_bytes()
}
