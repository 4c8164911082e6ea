//! Ids of exchanges that carry no trace context: derived from the flow, so that the two ends of a
//! connection, where both are observed, are client and server of one trace.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use wirespan_engine::{Address, Exchange, Nanos, Side};

use super::Ids;
use super::traces::TraceKey;
use crate::ids;
use crate::semconv::Kind;

/// Exchanges whose other end may still be told.
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

impl Flow {
    const fn of(exchange: &Exchange<'_>) -> Self {
        Self {
            client: exchange.client,
            server: exchange.server,
            offset: exchange.flow_offset,
        }
    }
}

/// One end, waiting for the other.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    flow: Flow,
    side: Side,
    start: Nanos,
    /// The trace that it belongs to, once that is known.
    trace: Option<TraceKey>,
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
    /// The ids of an exchange without a trace context, and the trace of its other end, if that was
    /// told before. One of the wire has none; one without addresses cannot be told from others.
    pub(super) fn ids(&mut self, exchange: &Exchange<'_>, kind: Kind) -> (Ids, Option<TraceKey>) {
        let flow = Flow::of(exchange);
        let has_addresses = flow.client.port().is_some_and(|port| port != 0);
        let other_end = match exchange.side {
            Side::Client | Side::Server if has_addresses => self.meet(exchange, flow),
            _ => None,
        };
        // Whichever end was told first names the trace.
        let named = other_end.map_or(exchange.start, |end| end.start);
        let word = |tag: u64| ids::flow_word(flow.client, flow.server, flow.offset, named.0 ^ tag);
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&word(1).to_be_bytes());
        trace_id[8..].copy_from_slice(&word(2).to_be_bytes());
        let (client, server) = (word(3).to_be_bytes(), word(4).to_be_bytes());
        // The server is usually done first. Where the client must be on this machine its end
        // follows, and it is known what its span will be called.
        let local = has_addresses && exchange.client.is_beside(&exchange.server);
        let parent = (other_end.is_some() || local).then_some(client);
        let (span_id, parent_span_id) = match (exchange.side, kind) {
            (Side::Server, _) => (server, parent),
            (Side::Client, _) | (Side::Wire, Kind::Client) => (client, None),
            (Side::Wire, Kind::Server) => (server, None),
        };
        let ids = Ids {
            trace_id,
            span_id,
            parent_span_id,
            flags: 0b11,
        };
        (ids, other_end.and_then(|end| end.trace))
    }

    /// This end belongs to that trace: its other end is to know, if it comes.
    pub(super) fn place(&mut self, exchange: &Exchange<'_>, trace: TraceKey) {
        let flow = Flow::of(exchange);
        let hash = self.hasher.hash_one(flow);
        let (side, start) = (exchange.side, exchange.start);
        let is_it = |end: &Waiting| (end.flow, end.side, end.start) == (flow, side, start);
        if let Some(waiting) = self.waiting.find_mut(hash, is_it) {
            waiting.trace = Some(trace);
        }
    }

    /// The other end, if it was told; otherwise this end waits for it.
    fn meet(&mut self, exchange: &Exchange<'_>, flow: Flow) -> Option<Waiting> {
        let (side, start) = (exchange.side, exchange.start);
        let hash = self.hasher.hash_one(flow);
        let is_it = |waiting: &Waiting| {
            let apart = waiting.start.0.abs_diff(start.0);
            waiting.flow == flow && waiting.side != side && apart < APART
        };
        if let Ok(found) = self.waiting.find_entry(hash, is_it) {
            return Some(found.remove().0);
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
        let waiting = Waiting {
            flow,
            side,
            start,
            trace: None,
        };
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
