//! Those who hear of connections while exchanges are printed.

use wirespan_capture::Tap;
use wirespan_engine::api::Direction;
use wirespan_engine::{Both, Close, ConnectionId, Nanos, Opening, Process, Start, Task};

use super::Census;

/// The census, and a recording where there is one.
pub(crate) struct Taps<'a> {
    pub(crate) census: &'a mut Census,
    pub(crate) other: Option<&'a mut dyn Tap>,
}

impl Taps<'_> {
    /// Tells the recording, if there is one.
    fn record(&mut self, tell: impl FnOnce(&mut dyn Tap)) {
        if let Some(other) = &mut self.other {
            tell(&mut **other);
        }
    }
}

impl Tap for Taps<'_> {
    fn hears_streams(&self) -> bool {
        self.other
            .as_ref()
            .is_some_and(|other| other.hears_streams())
    }

    fn open(&mut self, id: ConnectionId, opening: &Opening, time: Nanos) {
        self.census.open(id, opening, time);
        self.record(|other| other.open(id, opening, time));
    }

    fn set_process(&mut self, id: ConnectionId, process: Process, time: Nanos) {
        self.census.set_process(id, process, time);
        self.record(|other| other.set_process(id, process, time));
    }

    fn set_task(&mut self, id: ConnectionId, task: Option<Task>, time: Nanos) {
        self.record(|other| other.set_task(id, task, time));
    }

    fn close(&mut self, id: ConnectionId, how: Close, time: Nanos) {
        self.census.close(id, how, time);
        self.record(|other| other.close(id, how, time));
    }

    fn anchor(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        self.record(|other| other.anchor(id, dir, offset, time));
    }

    fn cleartext(&mut self, id: ConnectionId, at: Both<u64>, start: Start, time: Nanos) {
        self.record(|other| other.cleartext(id, at, start, time));
    }

    fn acked(&mut self, id: ConnectionId, dir: Direction, upto: u64, time: Nanos) {
        self.record(|other| other.acked(id, dir, upto, time));
    }

    fn chunk(&mut self, id: ConnectionId, dir: Direction, offset: u64, bytes: &[u8], time: Nanos) {
        self.record(|other| other.chunk(id, dir, offset, bytes, time));
    }

    fn passed(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        self.record(|other| other.passed(id, dir, offset, len, time));
    }

    fn lost(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        self.record(|other| other.lost(id, dir, offset, len, time));
    }

    fn end(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        self.record(|other| other.end(id, dir, offset, time));
    }
}
