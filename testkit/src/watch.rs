//! A protocol with a meter on the memory of its parsers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wirespan_parser_api::{
    AfterGap, Direction, Emit, ExchangeId, Gap, Init, Input, ParseError, Parser, Probe, ProbeInput,
    Protocol, ProtocolName, Step,
};

/// A protocol that passes everything on, and notes how much its parsers ever held.
pub(crate) struct Watched<P> {
    inner: P,
    peak: Arc<AtomicUsize>,
}

impl<P: Protocol> Watched<P> {
    /// The protocol, and the meter: the most heap bytes that one of its parsers owned to.
    pub(crate) fn new(inner: P) -> (Self, Arc<AtomicUsize>) {
        let peak = Arc::new(AtomicUsize::new(0));
        let meter = Arc::clone(&peak);
        (Self { inner, peak }, meter)
    }
}

impl<P: Protocol> Protocol for Watched<P> {
    fn name(&self) -> ProtocolName {
        self.inner.name()
    }

    fn description(&self) -> &'static str {
        self.inner.description()
    }

    fn ports(&self) -> &[u16] {
        self.inner.ports()
    }

    fn probe(&self, head: &ProbeInput<'_>) -> Probe {
        self.inner.probe(head)
    }

    fn parser(&self, init: &Init<'_>) -> Box<dyn Parser> {
        Box::new(WatchedParser {
            inner: self.inner.parser(init),
            peak: Arc::clone(&self.peak),
        })
    }
}

struct WatchedParser {
    inner: Box<dyn Parser>,
    peak: Arc<AtomicUsize>,
}

impl WatchedParser {
    fn note(&self) {
        self.peak
            .fetch_max(self.inner.heap_bytes(), Ordering::Relaxed);
    }
}

impl Parser for WatchedParser {
    fn parse(
        &mut self,
        dir: Direction,
        input: Input<'_>,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let step = self.inner.parse(dir, input, out);
        self.note();
        step
    }

    fn gap(&mut self, dir: Direction, gap: Gap<'_>, out: &mut dyn Emit) -> AfterGap {
        let after = self.inner.gap(dir, gap, out);
        self.note();
        after
    }

    fn resync(&mut self, dir: Direction, window: &[u8]) -> Option<usize> {
        self.inner.resync(dir, window)
    }

    fn end(&mut self, dir: Direction, offset: u64, out: &mut dyn Emit) {
        self.inner.end(dir, offset, out);
    }

    fn progress(&self, id: ExchangeId, out: &mut dyn Emit) {
        self.inner.progress(id, out);
    }

    fn heap_bytes(&self) -> usize {
        self.inner.heap_bytes()
    }
}
