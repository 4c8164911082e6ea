//! The bytes of both streams, in order: what is kept ahead, what is lost, what comes next.

use wirespan_parser_api::{AfterGap, Direction, Gap};

use super::step::guarded;
use super::{Connection, Context};
use crate::both::DIRECTIONS;
use crate::stats::add;
use crate::stream::{Mode, Piece, Place};
use crate::table::Message;
use crate::types::Nanos;

/// Held bytes that are to be given again, now that there is a parser.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) dir: Direction,
    bytes: Vec<u8>,
    time: Option<Nanos>,
    seq: u64,
}

impl Connection {
    pub(super) fn end_now(
        &mut self,
        dir: Direction,
        offset: u64,
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        let stream = &mut self.streams[dir];
        if stream.end.is_none() && (offset >= stream.tip() || !stream.anchored) {
            stream.end = Some(offset);
        }
        self.settle(cx);
        self.note_holes(time, cx);
    }

    pub(super) fn chunk_now(
        &mut self,
        dir: Direction,
        offset: u64,
        bytes: &[u8],
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        let stream = &mut self.streams[dir];
        let bytes = match stream.end {
            None => bytes,
            Some(end) => {
                let room = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
                let kept = bytes.get(..room).unwrap_or(bytes);
                add(
                    &mut cx.stats.late_bytes,
                    bytes.len().saturating_sub(kept.len()) as u64,
                );
                kept
            }
        };
        match stream.place(offset, bytes.len()) {
            Place::Old => self.count_old(dir, offset, bytes.len() as u64, cx),
            Place::Next(old) if !self.has_pieces => {
                self.count_old(dir, offset, old as u64, cx);
                let new = bytes.get(old..).unwrap_or_default();
                self.next_in_line(dir, new, time, cx);
            }
            Place::Next(old) => {
                self.count_old(dir, offset, old as u64, cx);
                let new = bytes.get(old..).unwrap_or_default();
                let offset = offset.saturating_add(old as u64);
                self.keep(dir, offset, Piece::Bytes(new.to_vec(), time), cx);
                if !self.is_joining() {
                    self.drain_ahead(cx);
                }
            }
            Place::Ahead => {
                let end = offset.saturating_add(bytes.len() as u64);
                let piece = if self.streams[dir].wants(end) || self.watches() {
                    Piece::Bytes(bytes.to_vec(), time)
                } else {
                    Piece::Counted(bytes.len() as u64, time)
                };
                self.keep(dir, offset, piece, cx);
            }
        }
        if self.has_pieces || self.streams[dir].hole_since.is_some() {
            self.note_holes(time, cx);
        }
    }

    pub(super) fn passed_now(
        &mut self,
        dir: Direction,
        offset: u64,
        len: u64,
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        self.keep(dir, offset, Piece::Counted(len, time), cx);
        if !self.is_joining() {
            self.drain_ahead(cx);
        }
        self.note_holes(time, cx);
        if self.unsettled || self.streams[dir].end.is_some() {
            self.settle(cx);
        }
    }

    pub(super) fn lost_now(
        &mut self,
        dir: Direction,
        offset: u64,
        len: u64,
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        self.keep(dir, offset, Piece::Lost(len), cx);
        if !self.is_joining() {
            self.drain_ahead(cx);
        }
        self.note_holes(time, cx);
    }

    fn keep(&mut self, dir: Direction, offset: u64, piece: Piece, cx: &mut Context<'_>) {
        let len = piece.len();
        let lost = matches!(piece, Piece::Lost(_));
        self.seq = self.seq.saturating_add(1);
        self.has_pieces = true;
        let (new, conflicts) = self.streams[dir].keep(offset, piece, self.seq);
        if !lost {
            add(&mut cx.stats.duplicate_bytes, len.saturating_sub(new));
            add(&mut cx.stats.conflicting_bytes, conflicts);
        }
    }

    /// Counts bytes before the tip.
    fn count_old(&mut self, dir: Direction, offset: u64, len: u64, cx: &mut Context<'_>) {
        if len > 0 {
            let early = self.streams[dir].start.saturating_sub(offset).min(len);
            add(&mut cx.stats.early_bytes, early);
            add(&mut cx.stats.duplicate_bytes, len.saturating_sub(early));
        }
    }

    /// Takes new bytes that follow the tip.
    fn next_in_line(&mut self, dir: Direction, bytes: &[u8], time: Nanos, cx: &mut Context<'_>) {
        add(&mut cx.stats.intake, bytes.len() as u64);
        self.seq = self.seq.saturating_add(1);
        let seq = self.seq;
        let stream = &mut self.streams[dir];
        let end = stream.tip().saturating_add(bytes.len() as u64);
        stream.stamp(end, Some(time), seq);
        self.feed(dir, bytes, cx);
        if self.unsettled || self.streams[dir].end.is_some() {
            self.settle(cx);
        }
    }

    /// Takes the pieces ahead that have come into line, in the order in which they came.
    pub(super) fn drain_ahead(&mut self, cx: &mut Context<'_>) {
        // Who moved what has waited is not remembered.
        let task = self.facts.task.take();
        loop {
            let ready = DIRECTIONS.map(|dir| (self.streams[dir].ready(), dir));
            let first = ready.iter().filter(|(seq, _)| seq.is_some()).min();
            let Some((_, dir)) = first.copied() else {
                break;
            };
            let Some((piece, old)) = self.streams[dir].next_ready() else {
                break;
            };
            let offset = self.streams[dir].tip().saturating_sub(old);
            let len = piece.len().saturating_sub(old);
            match piece {
                Piece::Bytes(bytes, time) => {
                    let skip = usize::try_from(old).unwrap_or(usize::MAX);
                    self.count_old(dir, offset, old.min(bytes.len() as u64), cx);
                    if let Some(new) = bytes.get(skip..).filter(|new| !new.is_empty()) {
                        self.next_in_line(dir, new, time, cx);
                    }
                }
                Piece::Counted(..) if len == 0 => {}
                Piece::Counted(_, time) => self.counted(dir, len, time, cx),
                Piece::Lost(_) if len == 0 => {}
                Piece::Lost(_) => self.gap(dir, len, cx),
            }
        }
        self.facts.task = task;
        self.has_pieces = DIRECTIONS
            .iter()
            .any(|dir| self.streams[*dir].first_ahead().is_some());
    }

    /// Takes bytes of which only the number was kept, since nobody wanted them.
    fn counted(&mut self, dir: Direction, len: u64, time: Nanos, cx: &mut Context<'_>) {
        let stream = &mut self.streams[dir];
        let covered = match stream.mode {
            Mode::Opaque(_) | Mode::SkipToEnd => len,
            _ => stream.skip.min(len),
        };
        if covered > 0 {
            self.watch_unseen(dir, covered);
            let stream = &mut self.streams[dir];
            add(&mut cx.stats.intake, covered);
            let end = stream.tip().saturating_add(covered);
            stream.stamp(end, Some(time), self.seq);
            let ledger = &mut self.counts.bytes[dir];
            add(&mut ledger.seen, covered);
            match stream.mode {
                Mode::Opaque(reason) => {
                    add(ledger.unparsed.entry(reason).or_default(), covered);
                }
                _ => add(&mut ledger.skipped, covered),
            }
            stream.skip = stream.skip.saturating_sub(covered);
            stream.pos = end;
            self.drain_ends(dir, cx);
        }
        // Wanted after all: a parser changed its mind, or an upgrade came.
        if covered < len {
            self.gap(dir, len.saturating_sub(covered), cx);
        }
    }

    /// Gives up the first hole of a direction: its bytes are lost.
    pub(super) fn lose_hole(&mut self, dir: Direction, time: Nanos, cx: &mut Context<'_>) {
        if !self.streams[dir].anchored {
            self.anchor_lowest(dir, time, cx);
        }
        let stream = &mut self.streams[dir];
        stream.hole_since = None;
        if let Some(end) = stream.hole_end() {
            let len = end.saturating_sub(stream.tip());
            self.gap(dir, len, cx);
        }
        self.drain_ahead(cx);
        let stream = &mut self.streams[dir];
        if stream.hole_end().is_some() {
            stream.hole_since = Some(time);
        }
        self.settle(cx);
    }

    /// Remembers since when there are holes, and gives them up when too much piles up behind them.
    pub(super) fn note_holes(&mut self, time: Nanos, cx: &mut Context<'_>) {
        for dir in DIRECTIONS {
            let stream = &mut self.streams[dir];
            if stream.first_ahead().is_none() && stream.hole_end().is_none() {
                stream.hole_since = None;
                continue;
            }
            let since = *stream.hole_since.get_or_insert(time);
            while self.streams[dir].ahead_bytes() > cx.config.hole_bytes {
                self.lose_hole(dir, time, cx);
            }
            if time.since(since) > cx.config.hole_wait {
                self.lose_hole(dir, time, cx);
            }
        }
    }

    /// Lost bytes are next in line.
    fn gap(&mut self, dir: Direction, len: u64, cx: &mut Context<'_>) {
        add(&mut cx.stats.intake, len);
        self.watch_unseen(dir, len);
        let stream = &mut self.streams[dir];
        let harmless = stream.held().is_empty()
            && (stream.skip >= len || matches!(stream.mode, Mode::Opaque(_) | Mode::SkipToEnd));
        // Bytes of a message whose rest is lost; with no parser yet, the head of the stream.
        let unread = if harmless {
            Vec::new()
        } else {
            let reason = match stream.mode {
                Mode::Detecting => "undetected",
                _ => "cut by a gap",
            };
            self.drop_held(dir, reason)
        };
        let stream = &mut self.streams[dir];
        let offset = stream.pos;
        stream.skip = stream.skip.saturating_sub(len);
        stream.need = 0;
        stream.pos = offset.saturating_add(len);
        stream.stamp(offset.saturating_add(len), None, self.seq);
        let ledger = &mut self.counts.bytes[dir];
        add(&mut ledger.seen, len);
        add(&mut ledger.lost, len);
        if harmless {
            add(&mut self.counts.gaps_skipped, 1);
            self.drain_ends(dir, cx);
        } else {
            add(&mut self.counts.gaps, 1);
            let gap = Gap::new(offset, len, &unread);
            self.drain_ends(dir, cx);
            match self.tell_gap(dir, gap, cx) {
                Some(AfterGap::Continue) => self.streams[dir].mode = Mode::Running,
                Some(AfterGap::Resync) => self.streams[dir].mode = Mode::Syncing,
                Some(_) => self.turn_opaque("gap", cx),
                None => {}
            }
        }
    }

    /// Tells the exchanges and the parser about bytes that were lost, or went by unread. `None`
    /// while there is no parser, and when it failed.
    pub(super) fn tell_gap(
        &mut self,
        dir: Direction,
        gap: Gap<'_>,
        cx: &mut Context<'_>,
    ) -> Option<AfterGap> {
        self.streams[dir].skip = 0;
        self.table.gap(match dir {
            Direction::ToServer => Message::Request,
            Direction::ToClient => Message::Response,
        });
        let Some(mut parser) = self.parser.take() else {
            // The start of a direction is lost: its protocol, once known, joins in the middle.
            self.start = crate::types::Start::Middle;
            return None;
        };
        let after = guarded(&mut parser, |p| {
            let mut recorder = self.recorder(dir, cx);
            // What was lost need not be of the message that it hit.
            recorder.read[dir] = recorder.read[dir].min(gap.offset);
            p.gap(dir, gap, &mut recorder)
        });
        self.parser = Some(parser);
        if after.is_none() {
            self.fault(cx);
        }
        after
    }

    /// Does what the last input has left to do: the other direction's turn, detection, bytes to be
    /// given again, the end of a stream.
    pub(super) fn settle(&mut self, cx: &mut Context<'_>) {
        self.unsettled = false;
        loop {
            if let Some(dir) = self.wake.take() {
                self.run_held(dir, cx);
            } else if std::mem::take(&mut self.undetected) {
                self.detect(false, cx);
            } else if let Some(again) = self.again.pop_front() {
                let stream = &mut self.streams[again.dir];
                let end = stream.tip().saturating_add(again.bytes.len() as u64);
                stream.stamp(end, again.time, again.seq);
                self.feed(again.dir, &again.bytes, cx);
            } else {
                break;
            }
        }
        for dir in DIRECTIONS {
            let stream = &self.streams[dir];
            if stream.anchored && stream.end == Some(stream.tip()) && stream.mode != Mode::Waiting {
                self.end_stream(dir, cx);
            }
        }
    }

    /// Takes the bytes that both directions hold, to be given again in the order of capture.
    pub(super) fn requeue_held(&mut self) {
        let mut chunks = Vec::new();
        for dir in DIRECTIONS {
            let stream = &mut self.streams[dir];
            let mut from = stream.pos;
            let bounds: Vec<_> = stream.held_chunks().collect();
            stream.forget_held_stamps();
            let held = stream.take_held();
            let mut rest = held.as_slice();
            for (end, time, seq) in bounds {
                let len = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
                let (bytes, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
                from = end;
                rest = behind;
                chunks.push(Again {
                    dir,
                    bytes: bytes.to_vec(),
                    time,
                    seq,
                });
            }
        }
        chunks.sort_by_key(|again| again.seq);
        for again in chunks.into_iter().rev() {
            self.again.push_front(again);
        }
    }

    /// Tells the parser that a direction has ended.
    pub(super) fn end_stream(&mut self, dir: Direction, cx: &mut Context<'_>) {
        if std::mem::replace(&mut self.streams[dir].ended, true) {
            return;
        }
        let offset = self.streams[dir].tip();
        let Some(mut parser) = self.parser.take() else {
            return;
        };
        let told = guarded(&mut parser, |p| {
            p.end(dir, offset, &mut self.recorder(dir, cx));
        });
        self.parser = Some(parser);
        if told.is_none() {
            self.fault(cx);
        }
        self.drop_held(dir, "incomplete");
        self.drain_ends(dir, cx);
    }
}
