//! What sources say of a connection, put into the order in which the peers said it.

use wirespan_parser_api::Direction;

use super::{Connection, Context};
use crate::both::DIRECTIONS;
use crate::stream::Mode;
use crate::types::Nanos;

/// What a source says of one direction. The direction is as [`Opening`](crate::Opening) had it.
#[derive(Debug)]
pub(crate) struct Input {
    pub(super) dir: Direction,
    pub(super) time: Nanos,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Chunk { offset: u64, bytes: Vec<u8> },
    Lost { offset: u64, len: u64 },
    Passed { offset: u64, len: u64 },
    Acked { upto: u64 },
    End { offset: u64 },
}

/// Bytes that an input takes while it waits.
fn cost(what: &What) -> usize {
    let bytes = match what {
        What::Chunk { bytes, .. } => bytes.len(),
        _ => 0,
    };
    bytes.saturating_add(size_of::<Input>())
}

impl Connection {
    /// The direction by the peers' true roles.
    pub(super) fn dir(&self, raw: Direction) -> Direction {
        if self.swapped { raw.reverse() } else { raw }
    }

    /// Takes captured bytes.
    pub(crate) fn chunk(
        &mut self,
        raw: Direction,
        offset: u64,
        bytes: &[u8],
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        self.last_seen = self.last_seen.max(time);
        if self.hole.is_some() && self.must_wait(raw, offset) {
            let bytes = bytes.to_vec();
            self.defer(raw, time, What::Chunk { offset, bytes }, cx);
        } else {
            self.chunk_now(self.dir(raw), offset, bytes, time, cx);
            if self.hole.is_some() {
                self.release(cx);
            }
        }
    }

    /// Takes the news that bytes will never come.
    pub(crate) fn lost(
        &mut self,
        raw: Direction,
        offset: u64,
        len: u64,
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        if self.hole.is_some() && self.must_wait(raw, offset) {
            self.defer(raw, time, What::Lost { offset, len }, cx);
        } else {
            self.lost_now(self.dir(raw), offset, len, time, cx);
            if self.hole.is_some() {
                self.release(cx);
            }
        }
    }

    /// Takes the news that bytes went by which the source did not copy.
    pub(crate) fn passed(
        &mut self,
        raw: Direction,
        offset: u64,
        len: u64,
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        self.last_seen = self.last_seen.max(time);
        if self.hole.is_some() && self.must_wait(raw, offset) {
            self.defer(raw, time, What::Passed { offset, len }, cx);
        } else {
            self.passed_now(self.dir(raw), offset, len, time, cx);
            if self.hole.is_some() {
                self.release(cx);
            }
        }
    }

    /// From which offset on the bytes of a direction are of use; `u64::MAX` if none are.
    pub(crate) fn wanted_from(&self, raw: Direction) -> u64 {
        let stream = &self.streams[self.dir(raw)];
        match stream.mode {
            Mode::Opaque(_) if self.watches() => stream.tip(),
            Mode::Opaque(_) | Mode::SkipToEnd => u64::MAX,
            _ => stream.tip().saturating_add(stream.skip),
        }
    }

    /// Whether the news that the receiver of a direction has its bytes before `upto` changes
    /// anything.
    pub(crate) fn needs_ack(&self, raw: Direction, upto: u64) -> bool {
        self.hole.is_some() || upto > self.streams[self.dir(raw)].tip()
    }

    /// Takes the news that the receiver of a direction has its bytes before `upto`.
    ///
    /// If we have not, the capture lost them, or gives them late. Whatever the receiver says from
    /// here on, it says knowing them; so it waits until they come or are given up.
    pub(crate) fn acked(&mut self, raw: Direction, upto: u64, time: Nanos, cx: &mut Context<'_>) {
        if self.hole.is_some() {
            self.defer(raw, time, What::Acked { upto }, cx);
        } else {
            self.acked_now(raw, upto);
        }
    }

    /// Takes the news that a direction has no bytes from `offset` on.
    pub(crate) fn end(&mut self, raw: Direction, offset: u64, time: Nanos, cx: &mut Context<'_>) {
        if self.hole.is_some() {
            self.defer(raw, time, What::End { offset }, cx);
        } else {
            self.end_now(self.dir(raw), offset, time, cx);
        }
    }

    /// Takes the offset at which a direction that was joined in the middle is to be read from.
    pub(crate) fn anchor(
        &mut self,
        raw: Direction,
        offset: u64,
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        let dir = self.dir(raw);
        let stream = &mut self.streams[dir];
        if !stream.anchored {
            stream.anchored = true;
            stream.pos = offset;
            stream.start = offset;
            if !self.is_joining() {
                self.drain_ahead(cx);
                self.note_holes(time, cx);
            }
        }
    }

    /// Whether a direction has bytes of which nobody knows yet where they are to be read from. Then
    /// the other one waits too: what the peers said must be read in the order in which they said it.
    pub(super) fn is_joining(&self) -> bool {
        DIRECTIONS.iter().any(|dir| {
            let stream = &self.streams[*dir];
            !stream.anchored && stream.first_ahead().is_some()
        })
    }

    /// Anchors a direction at the lowest offset that was given.
    pub(super) fn anchor_lowest(&mut self, dir: Direction, time: Nanos, cx: &mut Context<'_>) {
        let lowest = self.streams[dir].first_ahead().unwrap_or_default();
        let raw = self.dir(dir);
        self.anchor(raw, lowest, time, cx);
    }

    /// Whether an input must wait for the hole: those of the other direction, and those of its own
    /// that the receiver had not got when it spoke.
    fn must_wait(&self, raw: Direction, offset: u64) -> bool {
        self.hole != Some(raw) || offset >= self.streams[self.dir(raw)].acked
    }

    fn defer(&mut self, raw: Direction, time: Nanos, what: What, cx: &mut Context<'_>) {
        self.deferred_bytes = self.deferred_bytes.saturating_add(cost(&what));
        self.deferred.push_back(Input {
            dir: raw,
            time,
            what,
        });
        self.expire_hole(time, cx);
    }

    /// Gives up the hole for which inputs wait, once it has waited long enough.
    pub(super) fn expire_hole(&mut self, now: Nanos, cx: &mut Context<'_>) {
        let first = self.deferred.front().map_or(now, |input| input.time);
        if self.deferred_bytes >= cx.config.hole_bytes || now.since(first) > cx.config.acked_wait {
            self.give_up_hole(now, cx);
        }
    }

    /// Declares the bytes that the receiver has and we have not lost, and goes on.
    fn give_up_hole(&mut self, time: Nanos, cx: &mut Context<'_>) {
        if let Some(raw) = self.hole {
            let dir = self.dir(raw);
            while self.streams[dir].tip() < self.streams[dir].acked
                && self.streams[dir].hole_end().is_some()
            {
                self.lose_hole(dir, time, cx);
            }
            self.hole = None;
        }
        self.release(cx);
    }

    /// Lets deferred inputs go on as far as no hole is in the way.
    fn release(&mut self, cx: &mut Context<'_>) {
        // Who moved what has waited is not remembered.
        let task = self.facts.task.take();
        self.release_known(cx);
        self.facts.task = task;
    }

    fn release_known(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(raw) = self.hole {
                let stream = &self.streams[self.dir(raw)];
                if stream.tip() < stream.acked {
                    return;
                }
                self.hole = None;
            }
            let Some(input) = self.deferred.pop_front() else {
                return;
            };
            self.deferred_bytes = self.deferred_bytes.saturating_sub(cost(&input.what));
            let dir = self.dir(input.dir);
            match input.what {
                What::Chunk { offset, bytes } => {
                    self.chunk_now(dir, offset, &bytes, input.time, cx);
                }
                What::Lost { offset, len } => self.lost_now(dir, offset, len, input.time, cx),
                What::Passed { offset, len } => {
                    self.passed_now(dir, offset, len, input.time, cx);
                }
                What::Acked { upto } => self.acked_now(input.dir, upto),
                What::End { offset } => self.end_now(dir, offset, input.time, cx),
            }
        }
    }

    /// Lets all deferred inputs go on: nothing more will come.
    pub(super) fn release_deferred(&mut self, time: Nanos, cx: &mut Context<'_>) {
        while self.hole.is_some() {
            self.give_up_hole(time, cx);
        }
        self.release(cx);
    }

    fn acked_now(&mut self, raw: Direction, upto: u64) {
        let dir = self.dir(raw);
        let stream = &mut self.streams[dir];
        if upto <= stream.tip() || !stream.anchored {
            return;
        }
        stream.acked = stream.acked.max(upto);
        let reads = match stream.mode {
            Mode::Running | Mode::Confirming | Mode::Syncing => true,
            Mode::Detecting => !stream.gave_up,
            Mode::Waiting | Mode::Opaque(_) | Mode::SkipToEnd => false,
        };
        if reads && stream.tip().saturating_add(stream.skip) < upto {
            self.hole = Some(raw);
        }
    }
}
