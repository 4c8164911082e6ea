//! A run over one input: reading, decoding, ticking, delivering.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use wirespan_engine::{Config, Nanos, Registry, Stats, TICK};

use crate::file::{Filled, Record, Records};
use crate::link::Decoder;
use crate::segment::Segment;
use crate::shard::Shard;
use crate::tcp::Moment;
use crate::{CaptureStats, Collect, Error, Input, Progress, SHARDS, workers};

/// How to run.
#[derive(Clone)]
pub struct Options {
    /// Threads that drive engines. With one, everything happens on the caller's thread and nothing
    /// is copied; with more, the caller's thread reads and delivers. The output is the same.
    pub jobs: usize,
    /// The protocols.
    pub registry: Arc<Registry>,
    /// Bounds of each of the [`SHARDS`] engines.
    pub engine: Config,
}

/// What a run leaves behind.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report<C> {
    /// The collectors, one for each shard in order.
    pub collectors: Vec<C>,
    /// What the engines counted, together.
    pub stats: Stats,
    /// What the capture held.
    pub capture: CaptureStats,
    /// Why reading stopped before the end of the input. What came before it was delivered.
    pub error: Option<Error>,
}

/// Replays a capture.
///
/// `make` makes the collector of each shard. `deliver` gets what they collected, one batch for each
/// shard in order, after each read of the input and before the next one that may block; with
/// [`ControlFlow::Break`] the run stops, and its last findings stay in the collectors. `progress`
/// is called as often.
///
/// Within a shard, batches follow each other in the order of the file; a batch holds what came of
/// the same range of packets in every shard. Therefore findings sorted within a batch by packet
/// and connection are sorted over the whole run, and no order depends on `options.jobs`.
pub fn run<C: Collect>(
    input: Input,
    options: &Options,
    mut make: impl FnMut(usize) -> C,
    mut deliver: impl FnMut(Vec<C::Batch>) -> ControlFlow<()>,
    mut progress: impl FnMut(Progress),
) -> Report<C> {
    let shard = |index| {
        Shard::new(
            Arc::clone(&options.registry),
            options.engine.clone(),
            make(index),
        )
    };
    let shards: Vec<_> = (0..SHARDS).map(shard).collect();
    let mut capture = CaptureStats::default();
    let (shards, error) = if options.jobs <= 1 {
        let mut inline = Inline { shards };
        let error = drive(
            input,
            &mut inline,
            &mut capture,
            &mut deliver,
            &mut progress,
        );
        (inline.shards, error)
    } else {
        workers::with(shards, options.jobs.min(SHARDS), |workers| {
            drive(input, workers, &mut capture, &mut deliver, &mut progress)
        })
    };
    let mut stats = Stats::default();
    for shard in &shards {
        stats.merge(&shard.engine.stats());
        capture.tcp.merge(shard.tcp());
    }
    let collectors = shards.into_iter().map(|shard| shard.collector).collect();
    Report {
        collectors,
        stats,
        capture,
        error,
    }
}

/// Where decoded segments go.
pub(crate) trait Lanes {
    /// What one shard hands over.
    type Batch;

    /// Takes a segment of the connections of `shard`.
    fn segment(&mut self, shard: usize, segment: &Segment, payload: &[u8], at: Moment);

    /// Lets the timers of all shards fire.
    fn tick(&mut self, at: Moment);

    /// Ends all connections.
    fn finish(&mut self, at: Moment);

    /// Delivers what was found, and with [`Wait::Yes`] everything of it.
    fn flush(
        &mut self,
        wait: Wait,
        deliver: &mut dyn FnMut(Vec<Self::Batch>) -> ControlFlow<()>,
    ) -> ControlFlow<()>;
}

/// Whether everything that was found must be delivered now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    Yes,
    No,
}

/// Capture time, made into a clock that never goes backwards, and that one damaged time does not
/// set to a far future.
#[derive(Default)]
struct Clock {
    now: Nanos,
    /// A time far ahead, believed when the next one is near it.
    far_ahead: Option<Nanos>,
    next_tick: Option<u64>,
}

/// Nanoseconds by which a time may be ahead of the one before it without being doubted.
const LEAP: u64 = 24 * 3_600 * 1_000_000_000;

impl Clock {
    /// The latest time so far, and whether a multiple of [`TICK`] was crossed.
    fn advance(&mut self, time: Nanos) -> (Nanos, bool) {
        let base = self.far_ahead.take().unwrap_or(self.now).max(self.now);
        if self.now == Nanos(0) || time.since(base) < LEAP {
            self.now = self.now.max(time);
        } else {
            self.far_ahead = Some(time);
        }
        let Nanos(now) = self.now;
        let crossed = self.next_tick.is_some_and(|next| now >= next);
        if crossed || self.next_tick.is_none() {
            self.next_tick = Some((now / TICK).saturating_add(1).saturating_mul(TICK));
        }
        (self.now, crossed)
    }
}

/// Reads `input` to its end; returns why it stopped earlier.
pub(crate) fn drive<L: Lanes>(
    input: Input,
    lanes: &mut L,
    stats: &mut CaptureStats,
    deliver: &mut dyn FnMut(Vec<L::Batch>) -> ControlFlow<()>,
    progress: &mut dyn FnMut(Progress),
) -> Option<Error> {
    let total = input.total();
    let wait = if input.is_live() { Wait::Yes } else { Wait::No };
    let (source, bytes) = match input.decompressed() {
        Ok(opened) => opened,
        Err(error) => return Some(error),
    };
    let mut records = Records::new(source);
    let mut decoding = Decoding::default();
    let error = loop {
        match records.fill() {
            Ok(Filled::More) => {}
            Ok(Filled::End) => break None,
            Err(error) => break Some(error),
        }
        if let Err(error) = decoding.all(&mut records, lanes, stats) {
            break Some(error);
        }
        let bytes = bytes.load(Ordering::Relaxed);
        progress(Progress {
            bytes,
            total,
            packets: stats.packets,
        });
        if lanes.flush(wait, deliver).is_break() {
            decoding.finish(stats);
            return None;
        }
    };
    decoding.finish(stats);
    let now = decoding.clock.now;
    lanes.finish(Moment {
        packet: stats.packets + 1,
        time: now,
        now,
    });
    // There is nothing left to stop.
    let _ = lanes.flush(Wait::Yes, deliver);
    error
}

/// From records to segments.
#[derive(Default)]
struct Decoding {
    decoder: Decoder,
    clock: Clock,
}

impl Decoding {
    /// Takes all records that are in the buffer.
    fn all<R: std::io::Read, L: Lanes>(
        &mut self,
        records: &mut Records<R>,
        lanes: &mut L,
        stats: &mut CaptureStats,
    ) -> Result<(), Error> {
        while let Some(record) = records.next(stats)? {
            let Record {
                link,
                label,
                packet,
                time,
            } = record;
            stats.packet(packet.bytes.len(), packet.len, time);
            let (now, crossed) = self.clock.advance(time);
            let at = Moment {
                packet: stats.packets,
                time,
                now,
            };
            if crossed {
                lanes.tick(at);
            }
            self.decoder
                .packet((link, label), packet, now, &mut |segment, payload| {
                    lanes.segment(segment.key.shard(SHARDS), segment, payload, at);
                });
        }
        Ok(())
    }

    fn finish(&mut self, stats: &mut CaptureStats) {
        let fragments = &mut self.decoder.fragments;
        fragments.finish();
        stats.fragments = fragments.waiting;
        stats.datagrams_reassembled = fragments.reassembled;
        stats.datagrams_dropped = fragments.dropped;
        stats.not_understood = std::mem::take(&mut self.decoder.not_understood);
    }
}

/// All shards on this thread.
struct Inline<C> {
    shards: Vec<Shard<C>>,
}

impl<C: Collect> Lanes for Inline<C> {
    type Batch = C::Batch;

    fn segment(&mut self, shard: usize, segment: &Segment, payload: &[u8], at: Moment) {
        if let Some(shard) = self.shards.get_mut(shard) {
            shard.segment(segment, payload, at);
        }
    }

    fn tick(&mut self, at: Moment) {
        self.shards.iter_mut().for_each(|shard| shard.tick(at));
    }

    fn finish(&mut self, at: Moment) {
        self.shards.iter_mut().for_each(|shard| shard.finish(at));
    }

    fn flush(
        &mut self,
        _: Wait,
        deliver: &mut dyn FnMut(Vec<C::Batch>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        deliver(
            self.shards
                .iter_mut()
                .map(|shard| shard.collector.take())
                .collect(),
        )
    }
}
