//! The TCP connections of a shard: which segment belongs to which, and when each ends.
//!
//! What a segment means to its connection is said in [`connection`](crate::connection); here is
//! the table with its bounds:
//!
//! - A connection is forgotten after [`IDLE`] of silence, unless its end will be told; when there are more than [`MAX_OPEN`],
//!   those silent longest give way.
//! - A closed connection is remembered for [`REMEMBER`], so that what arrives late does not look
//!   like a new one.
//!
//! Timers use a clock that never goes backwards: the latest time of the capture so far. Bytes are
//! passed on with the time at which they were captured, whatever that is.

use std::collections::VecDeque;

use wirespan_engine::api::Direction;
use wirespan_engine::{Both, Close, Nanos, Opening, Process, Start, Task};

use crate::connection::{Connection, Verdict};
use crate::flow::HOLD_TIME;
use crate::segment::Segment;
use crate::stats::TcpStats;
use crate::table::{List, Slot, Table};

/// Nanoseconds of silence after which a connection is given up.
const IDLE: u64 = 3_600_000_000_000;

/// Nanoseconds that a closed connection is remembered: TIME-WAIT of most systems.
const REMEMBER: u64 = 60_000_000_000;

/// Most open connections of a shard.
const MAX_OPEN: usize = 64 << 10;

/// Most closed connections that a shard remembers.
const MAX_CLOSED: usize = 4 << 10;

/// Where streams go: the engine, or a recorder in tests. The calls are those of
/// [`Engine`](wirespan_engine::Engine).
pub(crate) trait Streams {
    type Id: Copy;
    fn open(&mut self, opening: Opening, now: Nanos) -> Self::Id;
    fn is_open(&self, id: Self::Id) -> bool;
    fn set_process(&mut self, id: Self::Id, process: Process);
    fn set_task(&mut self, id: Self::Id, task: Option<Task>);
    fn chunk(&mut self, id: Self::Id, dir: Direction, offset: u64, bytes: &[u8], time: Nanos);
    fn passed(&mut self, id: Self::Id, dir: Direction, offset: u64, len: u64, time: Nanos);
    fn lost(&mut self, id: Self::Id, dir: Direction, offset: u64, len: u64, time: Nanos);
    fn cleartext(&mut self, id: Self::Id, at: Both<u64>, start: Start, time: Nanos);
    fn anchor(&mut self, id: Self::Id, dir: Direction, offset: u64, time: Nanos);
    fn acked(&mut self, id: Self::Id, dir: Direction, upto: u64, time: Nanos);
    fn end(&mut self, id: Self::Id, dir: Direction, offset: u64, time: Nanos);
    fn close(&mut self, id: Self::Id, how: Close, time: Nanos);
}

/// When and where in the capture something is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Number of the packet, from 1.
    pub(crate) packet: u64,
    /// As captured.
    pub(crate) time: Nanos,
    /// Latest time of the capture so far.
    pub(crate) now: Nanos,
}

/// The connections of a shard.
pub(crate) struct Flows<Id> {
    table: Table<Connection<Id>>,
    /// Connections with a stream whose beginning is looked for: since when, where, and the
    /// connection's number, because the place may have been given to another.
    holding: VecDeque<(Nanos, Slot, u64)>,
    pub(crate) stats: TcpStats,
}

impl<Id: Copy> Flows<Id> {
    pub(crate) fn new() -> Self {
        Self {
            table: Table::default(),
            holding: VecDeque::new(),
            stats: TcpStats::default(),
        }
    }

    /// Takes a segment and its captured payload.
    pub(crate) fn segment<S: Streams<Id = Id>>(
        &mut self,
        segment: &Segment,
        payload: &[u8],
        at: Moment,
        streams: &mut S,
    ) {
        let len = payload.len() as u64 + u64::from(segment.missing);
        self.stats.segments += 1;
        self.stats.payload_bytes += len;
        self.stats.cut_bytes += u64::from(segment.missing);
        let Some(slot) = self.table.touch(&segment.key, at.now) else {
            return self.admit(segment, payload, at, streams);
        };
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        match connection.verdict(segment, len, at.now, streams) {
            Verdict::Take => self.take(slot, segment, payload, at, streams),
            Verdict::OutOfWindow => self.stats.out_of_window += 1,
            Verdict::Late => self.stats.after_close += u64::from(len > 0),
            Verdict::Replace => {
                connection.close(Close::Replaced, at, streams);
                self.table.remove(slot);
                self.admit(segment, payload, at, streams);
            }
        }
    }

    /// Lets timers fire. Called at fixed steps of capture time.
    pub(crate) fn tick<S: Streams<Id = Id>>(&mut self, at: Moment, streams: &mut S) {
        while self
            .holding
            .front()
            .is_some_and(|(since, ..)| at.now.since(*since) >= HOLD_TIME)
        {
            self.settle_oldest(at, streams);
        }
        while let Some((slot, touched)) = self.table.oldest(List::Open) {
            if at.now.since(touched) < IDLE {
                break;
            }
            let connection = self.table.get_mut(slot);
            if connection.is_some_and(|connection| connection.is_introduced()) {
                self.table.renew(slot, at.now);
            } else {
                self.forget(slot, Close::Idle, at, streams);
            }
        }
        while let Some((slot, touched)) = self.table.oldest(List::Closed) {
            if at.now.since(touched) < REMEMBER {
                break;
            }
            self.table.remove(slot);
        }
    }

    /// Settles the beginnings of all streams: nothing more will come. Connections stay open.
    pub(crate) fn finish<S: Streams<Id = Id>>(&mut self, at: Moment, streams: &mut S) {
        while !self.holding.is_empty() {
            self.settle_oldest(at, streams);
        }
    }

    /// Opens a connection with its first segment.
    fn admit<S: Streams<Id = Id>>(
        &mut self,
        segment: &Segment,
        payload: &[u8],
        at: Moment,
        streams: &mut S,
    ) {
        let Some(connection) = Connection::open(segment, at, streams) else {
            self.stats.stray += 1;
            return;
        };
        self.stats.connections += 1;
        let slot = self.table.insert(segment.key, connection, at.now);
        while self.table.len(List::Open) > MAX_OPEN {
            let Some((oldest, _)) = self.table.oldest(List::Open) else {
                break;
            };
            self.stats.evicted += 1;
            self.forget(oldest, Close::Evicted, at, streams);
        }
        self.take(slot, segment, payload, at, streams);
    }

    fn take<S: Streams<Id = Id>>(
        &mut self,
        slot: Slot,
        segment: &Segment,
        payload: &[u8],
        at: Moment,
        streams: &mut S,
    ) {
        let Some(connection) = self.table.get_mut(slot) else {
            return;
        };
        let held = connection.take(segment, payload, at, streams, &mut self.stats);
        let closed = connection.is_closed();
        if held {
            self.holding.push_back((at.now, slot, connection.number()));
            if self.holding.len() > 2 * MAX_OPEN {
                self.settle_oldest(at, streams);
            }
        }
        if closed {
            self.table.shift(slot, List::Closed);
            if self.table.len(List::Closed) > MAX_CLOSED
                && let Some((oldest, _)) = self.table.oldest(List::Closed)
            {
                self.table.remove(oldest);
            }
        }
    }

    fn settle_oldest<S: Streams<Id = Id>>(&mut self, at: Moment, streams: &mut S) {
        let Some((_, slot, number)) = self.holding.pop_front() else {
            return;
        };
        if let Some(connection) = self.table.get_mut(slot)
            && connection.number() == number
            && connection.settle_all(at, streams)
        {
            self.table.shift(slot, List::Closed);
        }
    }

    fn forget<S: Streams<Id = Id>>(&mut self, slot: Slot, how: Close, at: Moment, streams: &mut S) {
        if let Some(connection) = self.table.get_mut(slot) {
            connection.close(how, at, streams);
        }
        self.table.remove(slot);
    }
}
