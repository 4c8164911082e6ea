//! Spans on their way to a backend: bounded by number and by bytes. Who puts spans in never waits,
//! unless it wants to.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use wirespan_export::spans::Span;

/// Most bytes that wait.
const MAX_BYTES: usize = 16 << 20;

/// Finished spans that wait to be sent.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    /// A batch is full.
    full_batch: Notify,
    /// Something was taken out, or nothing more will be.
    taken: Condvar,
    max_spans: usize,
    batch: usize,
}

#[derive(Debug)]
struct Inner {
    spans: VecDeque<Span>,
    bytes: usize,
    /// Spans that found no room.
    dropped: u64,
    /// Nobody takes spans out any more.
    closed: bool,
    /// Share of the bounds that may be used.
    room: f64,
}

impl Queue {
    /// Holds at most `max_spans`, taken out in batches of at most `batch`.
    #[must_use]
    pub fn new(max_spans: usize, batch: usize) -> Self {
        Self {
            inner: Mutex::new(Inner {
                spans: VecDeque::new(),
                bytes: 0,
                dropped: 0,
                closed: false,
                room: 1.0,
            }),
            full_batch: Notify::new(),
            taken: Condvar::new(),
            max_spans,
            batch: batch.clamp(1, max_spans.max(1)),
        }
    }

    /// Puts a span in; drops and counts it where there is no room.
    pub fn push(&self, span: Span) {
        let mut inner = self.lock();
        if inner.closed || self.is_full(&inner, &span) {
            inner.dropped += 1;
            return;
        }
        self.put(inner, span);
    }

    /// Puts a span in, and waits for room at most `patience`; then drops and counts it.
    pub fn push_waiting(&self, span: Span, patience: Duration) {
        let inner = self.lock();
        let full = |inner: &mut Inner| !inner.closed && self.is_full(inner, &span);
        let waited = self.taken.wait_timeout_while(inner, patience, full);
        let (mut inner, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        if inner.closed || timeout.timed_out() {
            inner.dropped += 1;
            return;
        }
        self.put(inner, span);
    }

    /// Lets this share of the bounds be used from now on, from 0 to 1; the spans that waited longest and have
    /// no room any more are dropped and counted.
    pub fn set_room(&self, share: f64) {
        let mut inner = self.lock();
        inner.room = share;
        let (most, most_bytes) = self.bounds(&inner);
        while (inner.spans.len() > most || inner.bytes > most_bytes)
            && let Some(span) = inner.spans.pop_front()
        {
            inner.bytes = inner.bytes.saturating_sub(span.heap_bytes());
            inner.dropped += 1;
        }
        inner.spans.shrink_to_fit();
    }

    /// Spans that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().spans.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Spans that found no room so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Takes a batch, which may be smaller than a full one, or empty.
    pub(crate) fn take(&self) -> Vec<Span> {
        let mut inner = self.lock();
        let n = inner.spans.len().min(self.batch);
        let batch: Vec<_> = inner.spans.drain(..n).collect();
        let bytes: usize = batch.iter().map(Span::heap_bytes).sum();
        inner.bytes = inner.bytes.saturating_sub(bytes);
        drop(inner);
        self.taken.notify_all();
        batch
    }

    /// Waits until a batch is full. May return early.
    pub(crate) async fn full_batch(&self) {
        if self.len() < self.batch {
            self.full_batch.notified().await;
        }
    }

    /// Takes no more spans; returns how many were left.
    pub(crate) fn close(&self) -> u64 {
        let mut inner = self.lock();
        inner.closed = true;
        let left = inner.spans.len() as u64;
        inner.spans.clear();
        drop(inner);
        self.taken.notify_all();
        left
    }

    fn is_full(&self, inner: &Inner, span: &Span) -> bool {
        let (most, most_bytes) = self.bounds(inner);
        inner.spans.len() >= most || inner.bytes + span.heap_bytes() > most_bytes
    }

    /// How many spans, and bytes of them, may wait.
    fn bounds(&self, inner: &Inner) -> (usize, usize) {
        let of = |bound: usize| (bound as f64 * inner.room) as usize;
        (of(self.max_spans), of(MAX_BYTES))
    }

    fn put(&self, mut inner: MutexGuard<'_, Inner>, span: Span) {
        inner.bytes += span.heap_bytes();
        inner.spans.push_back(span);
        let full = inner.spans.len() == self.batch;
        drop(inner);
        if full {
            self.full_batch.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way: what a poisoned lock guards is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
