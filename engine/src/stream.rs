//! One direction of a connection: reassembly by offset, and times by offset.

use std::collections::{BTreeMap, VecDeque};

use wirespan_parser_api::ExchangeId;

use crate::table::Message;
use crate::types::Nanos;

/// Times that are remembered for bytes already gone by, for messages that are reported a little late;
/// the others are marked. Few, since each packet touches another of them: with the present one they
/// fill 16 places, and those of a hundred connections stay in the processor's cache.
const PAST_STAMPS: usize = 15;
/// Most messages of which the time is remembered.
const MAX_MARKS: usize = 4096;
/// What a piece costs beside its bytes.
const PIECE_OVERHEAD: usize = 96;

/// What a stream's bytes are used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    /// No protocol is known yet; bytes are held for detection.
    Detecting,
    /// Bytes go to the parser.
    Running,
    /// A message boundary is being looked for.
    Syncing,
    /// A candidate boundary was found; parsing confirms it or not.
    Confirming,
    /// Bytes are held until the other direction makes a step.
    Waiting,
    /// Bytes are dropped and counted under this reason.
    Opaque(&'static str),
    /// Bytes are dropped as not needed.
    SkipToEnd,
}

/// The time of the bytes before `end` and behind the previous stamp.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    end: u64,
    /// `None`: lost.
    time: Option<Nanos>,
    /// Number of the input, over both directions.
    seq: u64,
}

/// Bytes or a hole, ahead of the stream.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Captured bytes.
    Bytes(Vec<u8>, Nanos),
    /// Captured bytes of which only the number is needed.
    Counted(u64, Nanos),
    /// Bytes that will never come.
    Lost(u64),
}

impl Piece {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes, _) => bytes.len() as u64,
            Self::Counted(len, _) | Self::Lost(len) => *len,
        }
    }
}

/// A message's end that lies at or ahead of the stream's position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) at: u64,
    pub(crate) id: ExchangeId,
    pub(crate) message: Message,
    pub(crate) size: u64,
}

/// Where given bytes belong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// All seen before.
    Old,
    /// Next in line, after this many bytes that were seen before.
    Next(usize),
    /// Behind a hole.
    Ahead,
}

/// One direction of a connection.
///
/// `pos <= tip() <= ` every offset in `ahead`; `held` are the bytes from `pos` to `tip()`.
#[derive(Debug)]
pub(crate) struct Stream {
    /// Offset of the next byte that nobody is done with.
    pub(crate) pos: u64,
    held: Vec<u8>,
    /// Pieces by offset, with the number of the input that brought them.
    ahead: BTreeMap<u64, (Piece, u64)>,
    ahead_bytes: usize,
    /// Offset from which the stream is read.
    pub(crate) start: u64,
    /// Whether `pos` is known: false until the start of a stream joined in the middle is.
    pub(crate) anchored: bool,
    /// Offset behind the last byte, once announced.
    pub(crate) end: Option<u64>,
    /// Whether the parser was told of the end.
    pub(crate) ended: bool,
    /// The receiver has these bytes: those before this offset.
    pub(crate) acked: u64,
    /// When the first hole was noticed.
    pub(crate) hole_since: Option<Nanos>,
    stamps: VecDeque<Stamp>,
    /// Offset before which times are forgotten, but for the marks.
    forgotten: u64,
    /// Times of messages that began there and will be reported later; rising.
    marks: VecDeque<(u64, Option<Nanos>)>,
    pub(crate) mode: Mode,
    /// Whether the parser has read a message here, or failed on one.
    pub(crate) was_in_step: bool,
    /// Whether bytes were dropped before a protocol was found.
    pub(crate) gave_up: bool,
    /// Bytes that the parser does not need.
    pub(crate) skip: u64,
    /// Bytes that must be visible before the parser is called.
    pub(crate) need: usize,
    pub(crate) ends: VecDeque<End>,
}

impl Stream {
    pub(crate) fn new(anchored: bool) -> Self {
        Self {
            pos: 0,
            held: Vec::new(),
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            start: 0,
            anchored,
            end: None,
            ended: false,
            acked: 0,
            hole_since: None,
            stamps: VecDeque::new(),
            forgotten: 0,
            marks: VecDeque::new(),
            mode: Mode::Detecting,
            was_in_step: false,
            gave_up: false,
            skip: 0,
            need: 0,
            ends: VecDeque::new(),
        }
    }

    /// Offset of the next byte that was not given yet.
    pub(crate) fn tip(&self) -> u64 {
        self.pos.saturating_add(self.held.len() as u64)
    }

    pub(crate) fn held(&self) -> &[u8] {
        &self.held
    }

    /// Lends the held bytes out, to be given back with [`Stream::put_held`].
    pub(crate) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Takes held bytes back after the first `used` of them (already counted in `pos`) were used.
    pub(crate) fn put_held(&mut self, mut bytes: Vec<u8>, used: usize) {
        if used >= bytes.len() {
            bytes.clear();
            if bytes.capacity() > 64 * 1024 {
                bytes = Vec::new();
            }
        } else {
            bytes.drain(..used);
        }
        self.held = bytes;
    }

    /// Holds bytes that follow the tip.
    pub(crate) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    pub(crate) fn place(&self, offset: u64, len: usize) -> Place {
        let tip = self.tip();
        let end = offset.saturating_add(len as u64);
        if !self.anchored || offset > tip {
            Place::Ahead
        } else if end <= tip {
            Place::Old
        } else {
            Place::Next(usize::try_from(tip.saturating_sub(offset)).unwrap_or(len))
        }
    }

    /// Notes the time of the bytes from the tip up to `end`.
    pub(crate) fn stamp(&mut self, end: u64, time: Option<Nanos>, seq: u64) {
        // Where each came from matters only while bytes may have to be given again.
        if self.mode != Mode::Detecting
            && let Some(last) = self.stamps.back_mut()
            && last.time == time
        {
            last.end = end;
            return;
        }
        if self.stamps.len() > PAST_STAMPS
            && let Some(first) = self.stamps.front()
            && first.end <= self.pos
        {
            self.forgotten = first.end;
            self.stamps.pop_front();
        }
        self.stamps.push_back(Stamp { end, time, seq });
    }

    /// Remembers the time of a byte for as long as it takes to report its message.
    pub(crate) fn mark(&mut self, offset: u64) {
        if self.marks.len() >= MAX_MARKS {
            self.marks.pop_front();
        }
        let time = self.time(offset);
        self.marks.push_back((offset, time));
    }

    /// When the first byte of a message was captured; forgets the marks before it.
    pub(crate) fn message_time(&mut self, offset: u64) -> Option<Nanos> {
        while let Some((at, time)) = self.marks.front().copied()
            && at <= offset
        {
            if at == offset {
                return time;
            }
            self.marks.pop_front();
        }
        self.time(offset)
    }

    /// The oldest time that is remembered.
    pub(crate) fn oldest_time(&self) -> Option<Nanos> {
        self.stamps.iter().find_map(|stamp| stamp.time)
    }

    /// When the byte at `offset` was captured; `None` when it was lost, or is forgotten.
    pub(crate) fn time(&self, offset: u64) -> Option<Nanos> {
        if offset < self.forgotten {
            return None;
        }
        let mut found = None;
        for stamp in self.stamps.iter().rev() {
            if stamp.end <= offset {
                break;
            }
            found = stamp.time;
        }
        found
    }

    /// Whether the bytes before `offset` have been captured, or lost.
    pub(crate) fn is_stamped(&self, offset: u64) -> bool {
        self.stamps.back().is_some_and(|last| offset <= last.end)
    }

    /// Ends and input numbers of the chunks that make up the held bytes.
    pub(crate) fn held_chunks(&self) -> impl Iterator<Item = (u64, Option<Nanos>, u64)> {
        self.stamps
            .iter()
            .filter(|stamp| stamp.end > self.pos)
            .map(|stamp| (stamp.end, stamp.time, stamp.seq))
    }

    /// Forgets the times of held bytes that are about to be given again.
    pub(crate) fn forget_held_stamps(&mut self) {
        while self.stamps.back().is_some_and(|stamp| stamp.end > self.pos) {
            self.stamps.pop_back();
        }
    }

    /// Keeps a piece ahead of the tip. Where pieces overlap, the first copy wins.
    ///
    /// Returns the number of new bytes, and of bytes that differ from the copy kept before.
    pub(crate) fn keep(&mut self, offset: u64, piece: Piece, seq: u64) -> (u64, u64) {
        let end = offset.saturating_add(piece.len());
        let mut from = offset;
        let mut new = 0u64;
        let mut conflicts = 0u64;
        while from < end {
            // The piece that covers `from`, or else the next one behind it.
            let before = self.ahead.range(..=from).next_back();
            if let Some((start, (kept, _))) = before
                && start.saturating_add(kept.len()) > from
            {
                let until = start.saturating_add(kept.len()).min(end);
                let conflict = differing(kept, *start, &piece, offset, from, until);
                conflicts = conflicts.saturating_add(conflict);
                from = until;
                continue;
            }
            let next = self.ahead.range(from..).next().map_or(end, |(at, _)| *at);
            let until = next.min(end);
            let part = cut(&piece, offset, from, until);
            self.ahead_bytes = self.ahead_bytes.saturating_add(cost(&part));
            new = new.saturating_add(part.len());
            self.ahead.insert(from, (part, seq));
            from = until;
        }
        (new, conflicts)
    }

    /// Number of the input that brought the piece at or before the tip, if there is one.
    pub(crate) fn ready(&self) -> Option<u64> {
        let (at, (_, seq)) = self.ahead.first_key_value()?;
        (self.anchored && *at <= self.tip()).then_some(*seq)
    }

    /// Takes the piece at or before the tip, with the number of its bytes that are old.
    pub(crate) fn next_ready(&mut self) -> Option<(Piece, u64)> {
        self.ready()?;
        let tip = self.tip();
        let (at, (piece, _)) = self.ahead.pop_first()?;
        self.ahead_bytes = self.ahead_bytes.saturating_sub(cost(&piece));
        Some((piece, tip.saturating_sub(at)))
    }

    /// Offset of the first piece ahead.
    pub(crate) fn first_ahead(&self) -> Option<u64> {
        self.ahead.first_key_value().map(|(at, _)| *at)
    }

    /// Where a hole at the tip ends: at the first piece ahead, at the stream's end, or behind what
    /// the receiver has; `None` when there is no hole.
    pub(crate) fn hole_end(&self) -> Option<u64> {
        let known = self.end.unwrap_or(self.acked);
        let end = self.first_ahead().unwrap_or(known);
        Some(end).filter(|end| *end > self.tip())
    }

    pub(crate) fn ahead_bytes(&self) -> usize {
        self.ahead_bytes
    }

    /// Whether the parser will want to see bytes up to `end`, if they come.
    pub(crate) fn wants(&self, end: u64) -> bool {
        match self.mode {
            Mode::Opaque(_) | Mode::SkipToEnd => false,
            _ => end > self.tip().saturating_add(self.skip),
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.held
            .capacity()
            .saturating_add(self.ahead_bytes)
            .saturating_add(self.stamps.capacity().saturating_mul(size_of::<Stamp>()))
            .saturating_add(self.ends.capacity().saturating_mul(size_of::<End>()))
            .saturating_add(self.marks.capacity().saturating_mul(24))
    }

    /// Frees what an opaque stream does not need.
    pub(crate) fn shrink(&mut self) {
        self.stamps = VecDeque::new();
        self.marks = VecDeque::new();
        self.ends = VecDeque::new();
        self.need = 0;
        for (piece, _) in self.ahead.values_mut() {
            if let Piece::Bytes(bytes, time) = piece {
                *piece = Piece::Counted(bytes.len() as u64, *time);
            }
        }
        self.ahead_bytes = self.ahead.len().saturating_mul(PIECE_OVERHEAD);
    }
}

fn cost(piece: &Piece) -> usize {
    match piece {
        Piece::Bytes(bytes, _) => bytes.len().saturating_add(PIECE_OVERHEAD),
        Piece::Counted(..) | Piece::Lost(_) => PIECE_OVERHEAD,
    }
}

/// The bytes of a piece (which begins at `offset`) from `from` to `until`.
fn cut(piece: &Piece, offset: u64, from: u64, until: u64) -> Piece {
    let len = until.saturating_sub(from);
    match piece {
        Piece::Bytes(bytes, time) => {
            let part = slice(bytes, offset, from, until);
            Piece::Bytes(part.to_vec(), *time)
        }
        Piece::Counted(_, time) => Piece::Counted(len, *time),
        Piece::Lost(_) => Piece::Lost(len),
    }
}

fn slice(bytes: &[u8], offset: u64, from: u64, until: u64) -> &[u8] {
    let index = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
    bytes.get(index(from)..index(until)).unwrap_or_default()
}

/// Number of bytes from `from` to `until` that two overlapping pieces give differently.
fn differing(a: &Piece, a_at: u64, b: &Piece, b_at: u64, from: u64, until: u64) -> u64 {
    let (Piece::Bytes(a, _), Piece::Bytes(b, _)) = (a, b) else {
        return 0;
    };
    let a = slice(a, a_at, from, until);
    let b = slice(b, b_at, from, until);
    a.iter().zip(b).filter(|(x, y)| x != y).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Piece {
        Piece::Bytes(text.as_bytes().to_vec(), Nanos(1))
    }

    fn drained(stream: &mut Stream) -> String {
        let mut all = String::new();
        while let Some((piece, old)) = stream.next_ready() {
            let Piece::Bytes(part, _) = piece else {
                panic!("only bytes were kept")
            };
            let part = &part[(old as usize).min(part.len())..];
            stream.pos += part.len() as u64;
            all.push_str(std::str::from_utf8(part).unwrap());
        }
        all
    }

    #[test]
    fn out_of_order_pieces_come_out_in_order() {
        let mut stream = Stream::new(true);
        stream.keep(3, bytes("def"), 0);
        stream.keep(6, bytes("ghi"), 0);
        assert!(stream.next_ready().is_none(), "a hole at 0");
        stream.keep(0, bytes("abc"), 0);
        assert_eq!(drained(&mut stream), "abcdefghi");
        assert_eq!(stream.ahead_bytes(), 0);
    }

    #[test]
    fn where_pieces_overlap_the_first_copy_wins() {
        let mut stream = Stream::new(true);
        assert_eq!(stream.keep(2, bytes("cd"), 0), (2, 0));
        assert_eq!(stream.keep(0, bytes("abXXef"), 0), (4, 2));
        assert_eq!(drained(&mut stream), "abcdef");
    }

    #[test]
    fn a_piece_inside_another_adds_nothing() {
        let mut stream = Stream::new(true);
        stream.keep(0, bytes("abcdef"), 0);
        assert_eq!(stream.keep(2, bytes("cd"), 0), (0, 0));
        assert_eq!(drained(&mut stream), "abcdef");
    }

    #[test]
    fn times_are_found_by_offset() {
        let mut stream = Stream::new(true);
        stream.stamp(10, Some(Nanos(1)), 0);
        stream.stamp(20, None, 1);
        stream.stamp(30, Some(Nanos(3)), 2);
        assert_eq!(stream.time(0), Some(Nanos(1)));
        assert_eq!(stream.time(9), Some(Nanos(1)));
        assert_eq!(stream.time(10), None, "lost");
        assert_eq!(stream.time(29), Some(Nanos(3)));
        assert_eq!(stream.time(30), None, "not captured yet");
    }
}
