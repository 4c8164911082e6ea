//! The whole way from bytes to streams, without engines behind it.

use std::ops::ControlFlow;

use wirespan_engine::api::Direction;
use wirespan_engine::{Both, Close, Nanos, Opening, Process, Start, Task};

use crate::run::{Lanes, Wait, drive};
use crate::segment::Segment;
use crate::tcp::{Flows, Moment, Streams};
use crate::{CaptureStats, Input};

/// Reads `data` as a capture, down to streams that go nowhere. For fuzzing: it must come back soon
/// and without a panic, whatever the bytes.
///
/// # Panics
/// When a packet was counted twice or not at all: a bug.
pub fn fuzz_capture(data: &[u8]) {
    let mut lanes = Streamless {
        flows: Flows::new(),
    };
    let mut stats = CaptureStats::default();
    // Most of what a fuzzer makes is no capture; why does not matter here.
    let _ = drive(
        Input::bytes(data.to_vec()),
        &mut lanes,
        &mut stats,
        &mut |_| ControlFlow::Continue(()),
        &mut |_| {},
    );
    let others = stats.fragments + stats.not_understood.values().sum::<u64>();
    assert_eq!(
        stats.packets,
        lanes.flows.stats.segments + others,
        "each packet is counted once"
    );
}

/// One shard without an engine.
struct Streamless {
    flows: Flows<()>,
}

impl Lanes for Streamless {
    type Batch = ();

    fn segment(&mut self, _: usize, segment: &Segment, payload: &[u8], at: Moment) {
        self.flows.segment(segment, payload, at, &mut Nowhere);
    }

    fn tick(&mut self, at: Moment) {
        self.flows.tick(at, &mut Nowhere);
    }

    fn finish(&mut self, at: Moment) {
        self.flows.finish(at, &mut Nowhere);
    }

    fn flush(&mut self, _: Wait, _: &mut dyn FnMut(Vec<()>) -> ControlFlow<()>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Streams that nobody reads.
struct Nowhere;

impl Streams for Nowhere {
    type Id = ();
    fn open(&mut self, _: Opening, _: Nanos) {}
    fn is_open(&self, (): ()) -> bool {
        true
    }
    fn set_process(&mut self, (): (), _: Process) {}
    fn set_task(&mut self, (): (), _: Option<Task>) {}
    fn chunk(&mut self, (): (), _: Direction, _: u64, _: &[u8], _: Nanos) {}
    fn passed(&mut self, (): (), _: Direction, _: u64, _: u64, _: Nanos) {}
    fn lost(&mut self, (): (), _: Direction, _: u64, _: u64, _: Nanos) {}
    fn cleartext(&mut self, (): (), _: Both<u64>, _: Start, _: Nanos) {}
    fn anchor(&mut self, (): (), _: Direction, _: u64, _: Nanos) {}
    fn acked(&mut self, (): (), _: Direction, _: u64, _: Nanos) {}
    fn end(&mut self, (): (), _: Direction, _: u64, _: Nanos) {}
    fn close(&mut self, (): (), _: Close, _: Nanos) {}
}
