//! How far open exchanges have come: their sizes so far, and the reports of those open for long.

use wirespan_parser_api::{Attr, ExchangeId, Flags};

use super::{Outlet, Progress, Table};
use crate::both::Both;
use crate::stats::add;
use crate::text::TextMark;
use crate::types::Nanos;

/// What an exchange was before its progress was noted, to go back to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    text: TextMark,
    request_bytes: u64,
    response_bytes: u64,
}

/// What has become of an exchange that was to expire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// Its time has not come.
    Waits,
    /// It waits for a response, or a message of it has stood still.
    Expired,
}

impl Table {
    /// Before this, no exchange is to be reported or to expire.
    pub(crate) fn due(&self) -> Nanos {
        self.due
    }

    /// Reckons anew when something is due.
    pub(crate) fn reckon(&mut self) {
        let times = self.open.iter().map(|open| open.expiry.min(open.report));
        self.due = times.min().unwrap_or(crate::timers::NEVER);
    }

    /// The exchange at a place in the order of their beginning.
    pub(crate) fn id_at(&self, index: usize) -> Option<ExchangeId> {
        self.open.get(index).map(|open| open.id)
    }

    /// Whether the exchange is to be reported, or may expire, at `now`.
    pub(crate) fn is_due(&self, index: usize, now: Nanos) -> bool {
        let open = self.open.get(index);
        open.is_some_and(|open| open.expiry.min(open.report) <= now)
    }

    /// What the exchange is now, for [`Table::go_back`].
    pub(crate) fn before(&self, index: usize) -> Option<Before> {
        self.open.get(index).map(|open| Before {
            text: open.text.mark(),
            request_bytes: open.request_bytes,
            response_bytes: open.response_bytes,
        })
    }

    /// Forgets the progress that was noted since.
    pub(crate) fn go_back(&mut self, index: usize, before: Before) {
        if let Some(open) = self.open.get_mut(index) {
            open.text.rewind(before.text);
            open.request_bytes = before.request_bytes;
            open.response_bytes = before.response_bytes;
        }
    }

    /// Notes what the parser told of an exchange's progress.
    pub(crate) fn progress(&mut self, id: ExchangeId, bytes: Both<u64>, attrs: &[Attr<'_>]) {
        let Some(open) = self.find(id) else { return };
        let before = open.heap_bytes();
        if open.request_end == Progress::Running {
            open.request_bytes = bytes.to_server;
        }
        if open.response_end == Progress::Running {
            open.response_bytes = bytes.to_client;
        }
        for attr in attrs {
            open.text.push_attr(attr);
        }
        let grown = open.heap_bytes().saturating_sub(before);
        self.heap = self.heap.saturating_add(grown);
    }

    /// Counts the bytes of messages that have not ended, where nobody told them, from where they
    /// began to where their direction was `read`, or to where the next message began.
    pub(crate) fn measure(&mut self, id: ExchangeId, read: &Both<u64>) {
        let Some(index) = self.index(id) else { return };
        let next = index.saturating_add(1);
        let next = self.open.get(next);
        let request_to = next.and_then(|next| next.request_at);
        let response_to = next.and_then(|next| next.response_at);
        let Some(open) = self.open.get_mut(index) else {
            return;
        };
        let size = |at: Option<u64>, to: Option<u64>, read: u64| {
            let to = to.map_or(read, |to| to.min(read));
            at.map_or(0, |at| to.saturating_sub(at))
        };
        if open.request_end == Progress::Running && open.request_bytes == 0 {
            open.request_bytes = size(open.request_at, request_to, read.to_server);
        }
        if open.response_end == Progress::Running && open.response_bytes == 0 {
            open.response_bytes = size(open.response_at, response_to, read.to_client);
        }
    }

    /// Reports an exchange as open, if it is time; returns how often. Its progress has been noted.
    pub(crate) fn report(&mut self, index: usize, now: Nanos, outlet: &mut Outlet<'_>) -> u64 {
        let timers = self.timers;
        let Some(open) = self.open.get_mut(index) else {
            return 0;
        };
        let start = open.start.nearest();
        let mut due = timers.resume(start, open.report, now);
        let mut reports = 0u64;
        while due <= now {
            let mut exchange = open.exchange(outlet.facts);
            exchange.open = Some(due.since(start));
            exchange.duration = None;
            if open.is_under_way() {
                exchange.flags = exchange.flags.with(Flags::STREAMING);
            }
            outlet.sink.progress(&exchange);
            add(&mut reports, 1);
            due = timers.report(start, due);
        }
        open.report = due;
        reports
    }

    /// Whether the exchange has waited too long at `now`. Its progress has been noted.
    pub(crate) fn expire(&mut self, index: usize, now: Nanos) -> Fate {
        let timers = self.timers;
        let Some(open) = self.open.get_mut(index).filter(|open| open.expiry <= now) else {
            return Fate::Waits;
        };
        let bytes = open.request_bytes.saturating_add(open.response_bytes);
        if !open.is_under_way() || open.moved == Some(bytes) {
            return Fate::Expired;
        }
        open.moved = Some(bytes);
        open.expiry = timers.expiry(now);
        Fate::Waits
    }
}

impl super::Open {
    /// Whether one of its messages has begun and not ended.
    fn is_under_way(&self) -> bool {
        let responds = self.response_at.is_some() && self.response_end == Progress::Running;
        responds || self.request_end == Progress::Running
    }
}
