//! What each shard of a replay does with the exchanges it finds, and how the shards' results become
//! one output.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use wirespan_engine::{Exchange, Nanos, Sink};
use wirespan_export::metrics::Metrics;
use wirespan_export::observe::Observer;
use wirespan_export::owner::Ends;
use wirespan_export::record::RecordWriter;
use wirespan_export::red::Red;
use wirespan_export::spans::Span;
use wirespan_export::table::LineWriter;
use wirespan_replay::Collect;
use wirespan_telemetry::{JsonLines, Queue};

use crate::census::{Census, Known};
use crate::filter::Filter;
use crate::pipeline::Format;
use crate::signals::Signals;

/// Filters, counts and renders the exchanges of one shard.
#[derive(Debug)]
pub(crate) struct Collector {
    filter: Arc<Filter>,
    writer: Writer,
    /// The time by the capture's clock.
    now: Nanos,
    batch: Batch,
    red: Red,
    observer: Option<Observer>,
    /// Where spans go.
    queue: Option<Arc<Queue>>,
    /// Who is at the ends of connections, where that is known.
    census: Option<Census>,
}

#[derive(Debug)]
enum Writer {
    Table(LineWriter),
    Records(RecordWriter),
    Spans(JsonLines),
    Nothing,
}

/// How long a replay waits for room in a full queue: a backend that takes nothing for so long is
/// given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Rendered exchanges, and reports of open ones, that were not yet delivered.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// The lines behind each other.
    bytes: Vec<u8>,
    lines: Vec<Line>,
    /// Exchanges that passed the filter, rendered or not.
    pub(crate) exchanges: u64,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    order: Order,
    /// Where the line ends in `bytes`. It begins where the one before ends.
    end: usize,
}

/// Place in the output: time of completion; a tie is broken by connection, then by offset.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Order {
    time: Nanos,
    connection: u64,
    offset: u64,
}

impl Collector {
    /// Metrics and spans are made where there are `signals`; spans also go to `queue`.
    pub(crate) fn new(
        filter: Arc<Filter>,
        format: Format,
        signals: Option<&Signals>,
        queue: Option<Arc<Queue>>,
    ) -> Self {
        let writer = match format {
            Format::Table(colour) => Writer::Table(LineWriter::new(colour)),
            Format::Records => Writer::Records(RecordWriter::default()),
            Format::OtlpJson => Writer::Spans(Signals::lines(signals)),
            Format::Nothing => Writer::Nothing,
        };
        Self {
            filter,
            writer,
            now: Nanos::default(),
            batch: Batch::default(),
            red: Red::default(),
            observer: signals.map(Signals::observer),
            queue,
            census: None,
        }
    }

    /// The same of connections of this machine.
    pub(crate) fn with_census(self, census: Census) -> Self {
        Self {
            census: Some(census),
            ..self
        }
    }

    /// The metrics over the same exchanges, where they are made.
    pub(crate) fn metrics(&self) -> Option<&Metrics> {
        let observer = self.observer.as_ref()?;
        Some(observer.metrics())
    }

    /// The statistics over all exchanges that passed the filter.
    pub(crate) fn red(&self) -> &Red {
        &self.red
    }

    fn known(&self, exchange: &Exchange<'_>) -> Known {
        let census = self.census.as_ref();
        census
            .map(|census| census.known(exchange))
            .unwrap_or_default()
    }

    fn write(&mut self, exchange: &Exchange<'_>, ends: &Ends<'_>) {
        let bytes = &mut self.batch.bytes;
        match &mut self.writer {
            Writer::Table(table) => table.write(bytes, exchange),
            Writer::Records(records) => records.write_between(bytes, exchange, ends),
            // A span is written when it is made, and an open exchange is none.
            Writer::Spans(_) | Writer::Nothing => return,
        }
        self.end_line(place(exchange));
    }

    fn write_span(&mut self, place: (u64, u64), span: Span) {
        if let Writer::Spans(lines) = &self.writer {
            lines.span(&mut self.batch.bytes, &span);
            self.end_line(place);
        }
        if let Some(queue) = &self.queue {
            queue.push_waiting(span, PATIENCE);
        }
    }

    /// Writes the spans that need not wait for their trace any longer: at `now`, or at the end.
    fn release(&mut self, now: Option<Nanos>) {
        /// Behind all exchanges of the same time.
        const LAST: (u64, u64) = (u64::MAX, 0);
        let Some(observer) = &mut self.observer else {
            return;
        };
        for span in observer.released(now) {
            self.write_span(LAST, span);
        }
    }

    /// Ends the line of what has this place among those of the same time: connection, and offset.
    fn end_line(&mut self, (connection, offset): (u64, u64)) {
        self.batch.lines.push(Line {
            order: Order {
                time: self.now,
                connection,
                offset,
            },
            end: self.batch.bytes.len(),
        });
    }
}

const fn place(exchange: &Exchange<'_>) -> (u64, u64) {
    (exchange.connection, exchange.offset)
}

impl Sink for Collector {
    fn begun(&mut self, request: &Exchange<'_>) {
        if let Some(observer) = &mut self.observer {
            observer.begun(request);
        }
    }

    fn exchange(&mut self, exchange: &Exchange<'_>) {
        if !self.filter.matches(exchange) {
            if let Some(observer) = &mut self.observer {
                observer.left_out(exchange);
            }
            return;
        }
        self.red.record(exchange);
        self.batch.exchanges += 1;
        let known = self.known(exchange);
        let ends = known.ends();
        let observer = self.observer.as_mut();
        let span = observer.and_then(|observer| observer.exchange_between(exchange, &ends));
        if let Some(span) = span {
            self.write_span(place(exchange), span);
        }
        self.write(exchange, &ends);
    }

    fn progress(&mut self, exchange: &Exchange<'_>) {
        if self.filter.matches(exchange) {
            let known = self.known(exchange);
            self.write(exchange, &known.ends());
        }
    }
}

impl Collect for Collector {
    type Batch = Batch;

    fn at(&mut self, now: Nanos) {
        self.now = now;
        self.release(Some(now));
    }

    fn finish(&mut self) {
        self.release(None);
    }

    fn take(&mut self) -> Batch {
        mem::take(&mut self.batch)
    }
}

/// Puts the lines of the shards in order.
#[derive(Debug, Default)]
pub(crate) struct Merger {
    /// Lines of the latest time: more of that time may come.
    waiting: Vec<(Order, Vec<u8>)>,
}

impl Merger {
    /// Appends to `output` the lines of `batches`, which cover the same packets, in order; those of
    /// the latest time wait for the next call, or for [`Merger::finish`].
    pub(crate) fn merge(&mut self, batches: &[Batch], output: &mut Vec<u8>) {
        let waiting = mem::take(&mut self.waiting);
        let count = batches.iter().map(|batch| batch.lines.len()).sum::<usize>();
        let mut lines = Vec::with_capacity(count + waiting.len());
        lines.extend(waiting.iter().map(|(order, text)| (*order, &text[..])));
        for batch in batches {
            let mut start = 0;
            for line in &batch.lines {
                lines.push((line.order, &batch.bytes[start..line.end]));
                start = line.end;
            }
        }
        lines.sort_by_key(|(order, _)| *order);
        let Some((last, _)) = lines.last().copied() else {
            return;
        };
        let settled = lines.partition_point(|(order, _)| order.time < last.time);
        for (_, text) in &lines[..settled] {
            output.extend_from_slice(text);
        }
        let latest = lines[settled..].iter();
        self.waiting = latest
            .map(|(order, text)| (*order, text.to_vec()))
            .collect();
    }

    /// Appends the lines that waited.
    pub(crate) fn finish(&mut self, output: &mut Vec<u8>) {
        for (_, text) in self.waiting.drain(..) {
            output.extend_from_slice(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lines: &[(u64, u64, u64, &str)]) -> Batch {
        let mut batch = Batch::default();
        for (time, connection, offset, text) in lines.iter().copied() {
            batch.bytes.extend_from_slice(text.as_bytes());
            batch.lines.push(Line {
                order: Order {
                    time: Nanos(time),
                    connection,
                    offset,
                },
                end: batch.bytes.len(),
            });
        }
        batch
    }

    #[test]
    fn shards_merge_by_time_then_connection_then_offset() {
        let mut merger = Merger::default();
        let mut output = Vec::new();
        let first = [
            batch(&[(2, 5, 0, "c"), (9, 1, 7, "g"), (9, 1, 3, "e")]),
            Batch::default(),
            batch(&[(1, 6, 0, "a"), (2, 4, 9, "b"), (2, 6, 0, "d")]),
        ];
        merger.merge(&first, &mut output);
        assert_eq!(output, b"abcd", "there may be more of the latest time");
        merger.merge(&[batch(&[(9, 1, 5, "f")])], &mut output);
        merger.merge(&[batch(&[(10, 1, 0, "h")])], &mut output);
        assert_eq!(output, b"abcdefg");
        merger.finish(&mut output);
        assert_eq!(output, b"abcdefgh");
    }
}
