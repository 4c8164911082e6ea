//! Traces of requests that are open, and spans that wait to know which one is theirs.
//!
//! A server's end may be told before its client's: the call that sent the request has not returned
//! when the answer is there. So the trace of a request without a context, from a client on this
//! machine, is open until the client's end tells that it belongs to another one, or for 50 ms.

use std::collections::VecDeque;

use hashbrown::HashMap;
use wirespan_engine::Nanos;

use super::Span;
use crate::metrics::Counted;

/// For how long a trace may turn out to be a part of another, in nanoseconds.
const OPEN_FOR: u64 = 50_000_000;
/// Spans that wait for it at most.
const MAX_HELD: usize = 8_192;

/// Names a trace; never used again.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct TraceKey(u64);

/// What all spans of a trace have in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Common {
    pub(super) id: [u8; 16],
    pub(super) flags: u8,
    /// What the first caller has decided about sampling.
    pub(super) sampled: Option<bool>,
}

/// A span whose trace is not settled, and its share in sampling within a trace.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) span: Span,
    pub(super) tail: f64,
    /// Where it was counted, if it is to give an exemplar.
    pub(super) counted: Option<Counted>,
}

#[derive(Clone, Debug)]
struct Trace {
    common: Common,
    /// Open requests that belong to it, and traces that became a part of it.
    members: u32,
    /// The trace that it is a part of.
    part_of: Option<TraceKey>,
    /// Whether it can no longer become a part of another.
    is_settled: bool,
    held: Vec<Held>,
}

/// The traces. All that is asked of one that is forgotten is nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Traces {
    known: HashMap<TraceKey, Trace>,
    next: u64,
    /// Those that are not settled, and since when; some are by now.
    unsettled: VecDeque<(TraceKey, Nanos)>,
    held: usize,
    /// Spans that wait no longer, and what is known of their traces.
    released: Vec<(Held, Common)>,
}

impl Traces {
    /// A new trace, with one member.
    pub(super) fn begin(&mut self, common: Common, is_settled: bool, now: Nanos) -> TraceKey {
        let key = TraceKey(self.next);
        self.next += 1;
        let trace = Trace {
            common,
            members: 1,
            part_of: None,
            is_settled,
            held: Vec::new(),
        };
        self.known.insert(key, trace);
        if !is_settled {
            self.unsettled.push_back((key, now));
        }
        key
    }

    /// Adds a member; whether the trace is still known.
    pub(super) fn join(&mut self, key: TraceKey) -> bool {
        let trace = self.known.get_mut(&key);
        trace.map(|trace| trace.members += 1).is_some()
    }

    /// A member is gone.
    pub(super) fn leave(&mut self, key: TraceKey) {
        let mut next = Some(key);
        while let Some(key) = next.take()
            && let Some(trace) = self.known.get_mut(&key)
        {
            trace.members -= 1;
            let is_over = trace.is_settled || trace.part_of.is_some();
            if trace.members == 0 && is_over {
                next = trace.part_of;
                self.known.remove(&key);
            }
        }
    }

    /// What is known of a trace now, and whether that is final.
    pub(super) fn common(&self, key: TraceKey) -> Option<(Common, bool)> {
        let trace = self.known.get(&self.whole(key))?;
        Some((trace.common, trace.is_settled))
    }

    /// The trace turns out to be a part of another one, if it may yet.
    pub(super) fn merge(&mut self, part: TraceKey, whole: TraceKey) {
        let (part, whole) = (self.whole(part), self.whole(whole));
        let may = self.known.get(&part).is_some_and(|part| !part.is_settled);
        if part == whole || !may || !self.join(whole) {
            return;
        }
        let Some(trace) = self.known.get_mut(&part) else {
            return;
        };
        trace.part_of = Some(whole);
        let held = std::mem::take(&mut trace.held);
        if trace.members == 0 {
            self.known.remove(&part);
            self.leave(whole);
        }
        for held in held {
            self.held -= 1;
            self.hold(whole, held);
        }
    }

    /// Keeps a span until its trace is settled.
    pub(super) fn hold(&mut self, key: TraceKey, held: Held) {
        let key = self.whole(key);
        let Some(trace) = self.known.get_mut(&key) else {
            return;
        };
        if trace.is_settled {
            self.released.push((held, trace.common));
            return;
        }
        trace.held.push(held);
        self.held += 1;
        while self.held > MAX_HELD && self.settle_oldest().is_some() {}
    }

    /// Settles the traces that have waited long enough.
    pub(super) fn expire(&mut self, now: Nanos) {
        while let Some((_, since)) = self.unsettled.front()
            && now.since(*since) > OPEN_FOR
        {
            self.settle_oldest();
        }
    }

    /// Settles all.
    pub(super) fn finish(&mut self) {
        while self.settle_oldest().is_some() {}
    }

    fn settle_oldest(&mut self) -> Option<()> {
        let (key, _) = self.unsettled.pop_front()?;
        if let Some(trace) = self.known.get_mut(&key)
            && trace.part_of.is_none()
        {
            trace.is_settled = true;
            let common = trace.common;
            self.held -= trace.held.len();
            let held = trace.held.drain(..);
            self.released.extend(held.map(|held| (held, common)));
            if trace.members == 0 {
                self.known.remove(&key);
            }
        }
        Some(())
    }

    /// Takes the spans that wait no longer.
    pub(super) fn released(&mut self) -> Vec<(Held, Common)> {
        std::mem::take(&mut self.released)
    }

    /// The trace that it is a part of by now.
    fn whole(&self, key: TraceKey) -> TraceKey {
        let mut key = key;
        while let Some(whole) = self.known.get(&key).and_then(|trace| trace.part_of) {
            key = whole;
        }
        key
    }

    /// Traces that are known, and spans that are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.known.len(), self.held)
    }
}
