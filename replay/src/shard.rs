//! A share of the connections: their table, their engine, and what collects the engine's findings.

use std::sync::Arc;

use wirespan_engine::api::Direction;
use wirespan_engine::{
    Both, Close, Config, ConnectionId, Engine, Nanos, Opening, Process, Registry, Sink, Start, Task,
};

use crate::segment::Segment;
use crate::tcp::{Flows, Moment, Streams};

/// How many shares the connections of a run are split into, whatever the number of threads. Fixed,
/// so that the bounds of each engine, and with them the output, do not depend on the machine.
pub const SHARDS: usize = 8;

/// Collects what the engine of one shard finds.
pub trait Collect: Sink + Send {
    /// What is handed over between two takes.
    type Batch: Send;

    /// Called before the engine is fed, with the time by the capture's clock, which never goes
    /// backwards; for the end of the input, with a time behind the last packet's.
    ///
    /// What is found at one time has no order of its own: how a stream was cut into packets must
    /// not show.
    fn at(&mut self, now: Nanos);

    /// Called once, when all that was found has been told.
    fn finish(&mut self) {}

    /// Hands over what was collected since the last take.
    fn take(&mut self) -> Self::Batch;
}

/// One shard.
pub(crate) struct Shard<C> {
    flows: Flows<ConnectionId>,
    pub(crate) engine: Engine,
    pub(crate) collector: C,
}

impl<C: Collect> Shard<C> {
    pub(crate) fn new(registry: Arc<Registry>, config: Config, collector: C) -> Self {
        Self {
            flows: Flows::new(),
            engine: Engine::new(registry, config),
            collector,
        }
    }

    pub(crate) fn segment(&mut self, segment: &Segment, payload: &[u8], at: Moment) {
        self.collector.at(at.now);
        let mut feed = Feed {
            engine: &mut self.engine,
            out: &mut self.collector,
        };
        self.flows.segment(segment, payload, at, &mut feed);
    }

    pub(crate) fn tick(&mut self, at: Moment) {
        self.collector.at(at.now);
        let mut feed = Feed {
            engine: &mut self.engine,
            out: &mut self.collector,
        };
        self.flows.tick(at, &mut feed);
        self.engine.tick(at.now, &mut self.collector);
    }

    pub(crate) fn finish(&mut self, at: Moment) {
        self.collector.at(Nanos(at.now.0.saturating_add(1)));
        let mut feed = Feed {
            engine: &mut self.engine,
            out: &mut self.collector,
        };
        self.flows.finish(at, &mut feed);
        self.engine.finish(at.now, &mut self.collector);
        self.collector.finish();
    }

    pub(crate) fn tcp(&self) -> &crate::TcpStats {
        &self.flows.stats
    }
}

/// An engine whose findings go to a collector.
struct Feed<'s, C> {
    engine: &'s mut Engine,
    out: &'s mut C,
}

impl<C: Collect> Streams for Feed<'_, C> {
    type Id = ConnectionId;

    fn open(&mut self, opening: Opening, now: Nanos) -> ConnectionId {
        self.engine.open(&opening, now, self.out)
    }

    fn is_open(&self, id: ConnectionId) -> bool {
        self.engine.is_open(id)
    }

    fn set_process(&mut self, id: ConnectionId, process: Process) {
        self.engine.set_process(id, process);
    }

    fn set_task(&mut self, id: ConnectionId, task: Option<Task>) {
        self.engine.set_task(id, task);
    }

    fn chunk(&mut self, id: ConnectionId, dir: Direction, offset: u64, bytes: &[u8], time: Nanos) {
        self.engine.chunk(id, dir, offset, bytes, time, self.out);
    }

    fn passed(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        self.engine.passed(id, dir, offset, len, time, self.out);
    }

    fn lost(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        self.engine.lost(id, dir, offset, len, time, self.out);
    }

    fn cleartext(&mut self, id: ConnectionId, at: Both<u64>, start: Start, time: Nanos) {
        self.engine.cleartext(id, at, start, time, self.out);
    }

    fn anchor(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        self.engine.anchor(id, dir, offset, time, self.out);
    }

    fn acked(&mut self, id: ConnectionId, dir: Direction, upto: u64, time: Nanos) {
        self.engine.acked(id, dir, upto, time, self.out);
    }

    fn end(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        self.engine.end(id, dir, offset, time, self.out);
    }

    fn close(&mut self, id: ConnectionId, how: Close, time: Nanos) {
        self.engine.close(id, how, time, self.out);
    }
}
