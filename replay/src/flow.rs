//! One direction of a TCP connection: sequence numbers to stream offsets.

use wirespan_engine::Nanos;

/// Farthest that a sequence number may lie from the highest one seen, in bytes. RFC 7323 allows
/// windows up to 1 GiB; anything farther away belongs to another connection.
const WINDOW: u32 = 1 << 30;

/// How far from the bytes in flight a RST may lie: as far as a usual receive window.
const RESET_WINDOW: i64 = 1 << 20;

/// Offset of the first byte seen of a stream joined in the middle, so that bytes before it, out of
/// order, still have an offset.
const MIDDLE: u64 = 1 << 31;

/// What is known about the bytes that one side sends.
#[derive(Debug, Default)]
pub(crate) struct Half {
    /// Sequence number of offset 0.
    base: Option<u32>,
    /// Offset of the number that settled the base.
    first: u64,
    /// First byte of the stream; before it nothing is passed on.
    pub(crate) start: u64,
    /// End of the highest byte seen.
    pub(crate) next: u64,
    /// The receiver has everything before this.
    pub(crate) acked: u64,
    /// Where a FIN said that the stream ends.
    pub(crate) fin: Option<u64>,
    /// Bytes seen without a hole begin at `start` and end here.
    contiguous: u64,
    /// One run of bytes seen after a hole.
    island: (u64, u64),
    /// Present until it is settled where a stream joined in the middle begins.
    pub(crate) holding: Option<Box<Holding>>,
}

impl Half {
    /// A stream of which nothing is known but that it was joined in the middle.
    pub(crate) fn middle() -> Self {
        Self {
            holding: Some(Box::default()),
            ..Self::default()
        }
    }

    /// A stream whose offset 0 has this sequence number.
    pub(crate) fn beginning_with(seq: u32) -> Self {
        Self {
            base: Some(seq),
            ..Self::default()
        }
    }

    /// Whether a sequence number can be placed.
    pub(crate) fn is_based(&self) -> bool {
        self.base.is_some()
    }

    /// Settles which sequence number is which offset, by the first number seen: the first byte of
    /// a stream seen from its beginning, any byte of one joined in the middle.
    pub(crate) fn set_base(&mut self, seq: u32) {
        if self.holding.is_some() {
            self.base = Some(seq.wrapping_sub(MIDDLE as u32));
            self.first = MIDDLE;
        } else {
            self.base = Some(seq);
        }
    }

    /// Offset of a sequence number, negative before offset 0; `None` when it lies too far from
    /// everything seen. Numbers wrap, RFC 9293 §3.4, so the nearest offset to the highest one is
    /// meant.
    pub(crate) fn place(&self, seq: u32) -> Option<i64> {
        let reference = self.first.max(self.next).max(self.acked);
        let reference_seq = self.base?.wrapping_add(reference as u32);
        let ahead = seq.wrapping_sub(reference_seq).cast_signed();
        (ahead.unsigned_abs() <= WINDOW).then(|| reference.cast_signed() + i64::from(ahead))
    }

    /// Offset of a sequence number that is not before offset 0.
    pub(crate) fn offset(&self, seq: u32) -> Option<u64> {
        self.place(seq).and_then(|at| u64::try_from(at).ok())
    }

    /// Settles where the stream begins.
    pub(crate) fn begin_at(&mut self, start: u64) {
        let runs = self
            .holding
            .take()
            .map(|holding| holding.runs)
            .unwrap_or_default();
        self.start = start;
        self.contiguous = start;
        self.island = (0, 0);
        for (from, to) in runs.into_iter().filter(|(_, to)| *to > start) {
            self.note(from.max(start), to);
        }
    }

    /// Notes that `from..to` was seen, and returns how many of these bytes were surely seen before.
    pub(crate) fn note(&mut self, from: u64, to: u64) -> u64 {
        self.next = self.next.max(to);
        let (island_from, island_to) = self.island;
        if from > self.contiguous {
            let seen = overlap((from, to), self.island);
            if island_from == island_to {
                self.island = (from, to);
            } else if from <= island_to && to >= island_from {
                self.island = (from.min(island_from), to.max(island_to));
            }
            return seen;
        }
        let seen =
            to.min(self.contiguous) - from + overlap((self.contiguous.max(from), to), self.island);
        self.contiguous = self.contiguous.max(to);
        if self.contiguous >= island_from {
            self.contiguous = self.contiguous.max(island_to);
            self.island = (0, 0);
        }
        seen
    }

    /// Whether `ack` shows that the stream, of which only a SYN was seen, begins elsewhere: the
    /// receiver took another SYN for the true one.
    pub(crate) fn began_elsewhere(&self, ack: u32) -> bool {
        let nothing_seen = self.next == 0 && self.acked == 0 && self.fin.is_none();
        let near = 0..=HOLD_SYN.cast_signed();
        let fits = |offset| near.contains(&offset);
        nothing_seen
            && self.start == 0
            && self.holding.is_none()
            && !self.place(ack).is_some_and(fits)
    }

    /// Whether the stream begins with the byte numbered `seq`.
    pub(crate) fn begins_with(&self, seq: u32) -> bool {
        self.holding.is_none() && self.place(seq) == Some(self.start.cast_signed())
    }

    /// Whether `ack` acknowledges something of this stream.
    pub(crate) fn has_sent(&self, ack: u32) -> bool {
        self.place(ack).is_some_and(|offset| {
            (self.start..=self.next.max(self.acked) + 1).contains(&offset.cast_unsigned())
        })
    }

    /// Whether a RST with this number may be the sender's. RFC 5961 §3 is stricter, but it knows
    /// the receiver's window.
    pub(crate) fn allows_reset(&self, seq: u32) -> bool {
        if !self.is_based() {
            return true;
        }
        let lowest = self.acked.min(self.next).cast_signed() - RESET_WINDOW;
        let highest = self.acked.max(self.next).cast_signed() + RESET_WINDOW;
        self.place(seq)
            .is_some_and(|offset| (lowest..=highest).contains(&offset))
    }

    /// Bytes before this were acknowledged: a FIN takes a number and is no byte.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.fin.map_or(self.acked, |fin| self.acked.min(fin))
    }

    /// Whether every byte up to the FIN was seen, and the receiver has the FIN.
    pub(crate) fn is_finished(&self) -> bool {
        self.holding.is_none()
            && self
                .fin
                .is_some_and(|fin| self.contiguous >= fin && self.acked > fin)
    }
}

/// Bytes that two ranges have in common.
fn overlap(a: (u64, u64), b: (u64, u64)) -> u64 {
    a.1.min(b.1).saturating_sub(a.0.max(b.0))
}

/// What is known about a stream joined in the middle while its first byte is looked for.
///
/// A stream's bytes are held (by the engine) until [`HOLD_BYTES`] or [`HOLD_TIME`] have come since
/// its first one, or its end, or until they lie in [`HOLD_RUNS`] places. It then begins
///
/// - at the byte that a SYN announced, when one came late; else
/// - at the lowest byte held, unless
/// - the receiver acknowledged all before A already when the stream was first seen, and what is
///   held below A does not reach A: that is an old retransmission, and the stream begins with what
///   is held at or after A.
///
/// So it does not matter how the stream is cut into segments, in which order they arrive within a
/// window of about half of the bounds, or how often.
#[derive(Debug, Default)]
pub(crate) struct Holding {
    /// Ranges of offsets, sorted, apart from each other; at most [`HOLD_RUNS`].
    runs: Vec<(u64, u64)>,
    /// When the first byte was seen, by the clock that does not go backwards.
    since: Option<Nanos>,
    bytes: u64,
    /// The lowest acknowledgement that the receiver sent, if the first one came before the bytes.
    acked: Option<u64>,
}

/// Ranges of bytes apart from each other after which a stream's beginning is settled.
const HOLD_RUNS: usize = 32;

/// Bytes after which a stream's beginning is settled.
const HOLD_BYTES: u64 = 64 << 10;

/// Nanoseconds of capture time after which a stream's beginning is settled.
pub(crate) const HOLD_TIME: u64 = 200_000_000;

/// Farthest that a late SYN may lie before the lowest byte held.
const HOLD_SYN: u64 = 1 << 20;

impl Holding {
    /// Notes bytes; true for the first ones.
    pub(crate) fn hold(&mut self, from: u64, to: u64, now: Nanos) -> bool {
        let first = self.since.is_none();
        self.since.get_or_insert(now);
        let known = self.runs.iter().any(|run| run.0 <= from && to <= run.1);
        if known || from == to {
            return first;
        }
        self.bytes += to - from;
        let (mut from, mut to) = (from, to);
        self.runs.retain(|run| {
            let apart = run.1 < from || run.0 > to;
            if !apart {
                from = from.min(run.0);
                to = to.max(run.1);
            }
            apart
        });
        let at = self.runs.partition_point(|run| run.0 < from);
        self.runs.insert(at, (from, to));
        first
    }

    /// Notes an acknowledgement number of the receiver.
    pub(crate) fn acked(&mut self, offset: u64) {
        self.acked = match self.acked {
            Some(acked) => Some(acked.min(offset)),
            // It may acknowledge what is held, not what came before.
            None if self.since.is_some() => None,
            None => Some(offset),
        };
    }

    /// Whether the beginning is to be settled now.
    pub(crate) fn is_due(&self, now: Nanos) -> bool {
        self.runs.len() >= HOLD_RUNS
            || self.bytes >= HOLD_BYTES
            || self
                .since
                .is_some_and(|since| now.since(since) >= HOLD_TIME)
    }

    /// Whether a SYN may announce `offset` as the first byte of this stream.
    pub(crate) fn allows_start(&self, offset: u64) -> bool {
        self.runs
            .first()
            .is_none_or(|(lowest, _)| (offset..=offset + HOLD_SYN).contains(lowest))
    }

    /// Where the stream begins, see [`Holding`]; `None` when nothing is held.
    pub(crate) fn start(&self) -> Option<u64> {
        let (lowest, _) = *self.runs.first()?;
        let Some(acked) = self.acked else {
            return Some(lowest);
        };
        let reaching = self.runs.iter().find(|(_, to)| *to >= acked);
        Some(reaching.map_or(acked, |(from, _)| *from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_wrap_and_offsets_do_not() {
        let mut half = Half::beginning_with(u32::MAX - 9);
        assert_eq!(half.place(0), Some(10));
        let mut offset = 0_u64;
        for _ in 0..100 {
            offset += u64::from(WINDOW);
            let seq = (u32::MAX - 9).wrapping_add(offset as u32);
            assert_eq!(half.place(seq), Some(offset.cast_signed()));
            half.note(offset - 1, offset);
        }
        assert!(offset > 20 * u64::from(u32::MAX));
    }

    #[test]
    fn numbers_far_from_everything_seen_have_no_place() {
        let half = Half::beginning_with(0);
        assert_eq!(half.place(WINDOW), Some(i64::from(WINDOW)));
        assert_eq!(half.place(WINDOW + 1), None);
        assert_eq!(half.place(u32::MAX), Some(-1));
        assert_eq!(half.place(u32::MAX - WINDOW), None);
    }

    #[test]
    fn repeated_bytes_are_counted_and_new_ones_are_not() {
        let mut half = Half::beginning_with(0);
        assert_eq!(half.note(0, 100), 0);
        assert_eq!(half.note(0, 100), 100);
        assert_eq!(half.note(50, 150), 50);
        assert_eq!(half.note(200, 300), 0);
        assert_eq!(half.note(250, 350), 50);
        assert_eq!(half.note(150, 210), 10);
        assert_eq!(half.note(0, 350), 350);
    }

    #[test]
    fn a_stream_begins_at_the_lowest_byte_held_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            let mut holding = Holding::default();
            for segment in order {
                holding.hold(100 + segment * 10, 110 + segment * 10, Nanos(0));
                holding.hold(100 + segment * 10, 110 + segment * 10, Nanos(0));
                holding.acked(100 + segment * 10);
            }
            assert_eq!(holding.start(), Some(100));
        }
    }

    #[test]
    fn an_old_retransmission_does_not_make_a_hole_at_the_beginning() {
        let mut holding = Holding::default();
        holding.acked(1_000);
        holding.hold(500, 600, Nanos(0));
        holding.hold(1_000, 1_100, Nanos(0));
        assert_eq!(holding.start(), Some(1_000));
        // In flight when the capture began, and acknowledged in it.
        holding.hold(900, 1_000, Nanos(0));
        assert_eq!(holding.start(), Some(900));
    }

    #[test]
    fn bytes_in_flight_when_the_capture_began_are_not_a_hole() {
        let mut holding = Holding::default();
        holding.acked(1_000);
        holding.hold(5_000, 6_000, Nanos(0));
        assert_eq!(holding.start(), Some(5_000));
    }
}
