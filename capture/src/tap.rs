//! What the engine is told, told to somebody else as well: to a recording.

use wirespan_engine::api::Direction;
use wirespan_engine::{
    Both, Close, ConnectionId, Engine, Nanos, Opening, Process, Sink, Start, Task,
};

/// Hears whatever the engine is told of connections, in the same order and with the same times.
///
/// The calls are those of [`Engine`], after which they are made. Each connection is closed at last,
/// but the engine may have closed it before on its own account: calls go on until the source is
/// done with it. An id is never used again. That time passes is not told.
pub trait Tap {
    /// Whether it hears of streams; otherwise only of connections: that they open and close, and
    /// which processes use them.
    fn hears_streams(&self) -> bool {
        true
    }

    /// A connection is introduced.
    fn open(&mut self, id: ConnectionId, opening: &Opening, time: Nanos);
    /// Another process uses the observed socket now.
    fn set_process(&mut self, id: ConnectionId, process: Process, time: Nanos);
    /// What comes next was moved by this task of the process.
    fn set_task(&mut self, id: ConnectionId, task: Option<Task>, time: Nanos);
    /// A direction of a connection joined in the middle is read from `offset` on.
    fn anchor(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos);
    /// From the offsets `at` on, both streams are what goes on inside TLS.
    fn cleartext(&mut self, id: ConnectionId, at: Both<u64>, start: Start, time: Nanos);
    /// The receiver of a direction has its bytes before `upto`.
    fn acked(&mut self, id: ConnectionId, dir: Direction, upto: u64, time: Nanos);
    /// Bytes were seen.
    fn chunk(&mut self, id: ConnectionId, dir: Direction, offset: u64, bytes: &[u8], time: Nanos);
    /// Bytes went by and were not copied.
    fn passed(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos);
    /// Bytes will never come.
    fn lost(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos);
    /// A direction has no bytes at or after `offset`.
    fn end(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos);
    /// A connection is closed.
    fn close(&mut self, id: ConnectionId, how: Close, time: Nanos);
}

/// Nobody hears.
impl Tap for () {
    fn hears_streams(&self) -> bool {
        false
    }

    fn open(&mut self, _: ConnectionId, _: &Opening, _: Nanos) {}
    fn set_process(&mut self, _: ConnectionId, _: Process, _: Nanos) {}
    fn set_task(&mut self, _: ConnectionId, _: Option<Task>, _: Nanos) {}
    fn anchor(&mut self, _: ConnectionId, _: Direction, _: u64, _: Nanos) {}
    fn cleartext(&mut self, _: ConnectionId, _: Both<u64>, _: Start, _: Nanos) {}
    fn acked(&mut self, _: ConnectionId, _: Direction, _: u64, _: Nanos) {}
    fn chunk(&mut self, _: ConnectionId, _: Direction, _: u64, _: &[u8], _: Nanos) {}
    fn passed(&mut self, _: ConnectionId, _: Direction, _: u64, _: u64, _: Nanos) {}
    fn lost(&mut self, _: ConnectionId, _: Direction, _: u64, _: u64, _: Nanos) {}
    fn end(&mut self, _: ConnectionId, _: Direction, _: u64, _: Nanos) {}
    fn close(&mut self, _: ConnectionId, _: Close, _: Nanos) {}
}

/// An engine with its sink, and the tap beside it.
pub(crate) struct Tapped<'a> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) sink: &'a mut dyn Sink,
    pub(crate) tap: &'a mut dyn Tap,
}

impl Tapped<'_> {
    pub(crate) fn open(&mut self, opening: &Opening, time: Nanos) -> ConnectionId {
        let id = self.engine.open(opening, time, self.sink);
        self.tap.open(id, opening, time);
        id
    }

    pub(crate) fn set_process(&mut self, id: ConnectionId, process: Process, time: Nanos) {
        self.engine.set_process(id, process);
        self.tap.set_process(id, process, time);
    }

    pub(crate) fn set_task(&mut self, id: ConnectionId, task: Option<Task>, time: Nanos) {
        self.engine.set_task(id, task);
        self.tap.set_task(id, task, time);
    }

    pub(crate) fn anchor(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        self.engine.anchor(id, dir, offset, time, self.sink);
        self.tap.anchor(id, dir, offset, time);
    }

    pub(crate) fn cleartext(&mut self, id: ConnectionId, at: Both<u64>, start: Start, time: Nanos) {
        self.engine.cleartext(id, at, start, time, self.sink);
        self.tap.cleartext(id, at, start, time);
    }

    pub(crate) fn acked(&mut self, id: ConnectionId, dir: Direction, upto: u64, time: Nanos) {
        self.engine.acked(id, dir, upto, time, self.sink);
        self.tap.acked(id, dir, upto, time);
    }

    pub(crate) fn chunk(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        offset: u64,
        bytes: &[u8],
        time: Nanos,
    ) {
        self.engine.chunk(id, dir, offset, bytes, time, self.sink);
        self.tap.chunk(id, dir, offset, bytes, time);
    }

    pub(crate) fn passed(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        offset: u64,
        len: u64,
        time: Nanos,
    ) {
        self.engine.passed(id, dir, offset, len, time, self.sink);
        self.tap.passed(id, dir, offset, len, time);
    }

    pub(crate) fn lost(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        offset: u64,
        len: u64,
        time: Nanos,
    ) {
        self.engine.lost(id, dir, offset, len, time, self.sink);
        self.tap.lost(id, dir, offset, len, time);
    }

    pub(crate) fn end(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        self.engine.end(id, dir, offset, time, self.sink);
        self.tap.end(id, dir, offset, time);
    }

    pub(crate) fn close(&mut self, id: ConnectionId, how: Close, time: Nanos) {
        self.engine.close(id, how, time, self.sink);
        self.tap.close(id, how, time);
    }
}
