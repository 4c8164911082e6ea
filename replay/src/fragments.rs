//! IP fragments, put together within bounds.
//!
//! Where fragments overlap the first copy wins. Datagrams are given up when they are older than
//! [`MAX_AGE`] of capture time, and the oldest when there are too many or too large ones.

use std::collections::{HashMap, VecDeque};

use wirespan_engine::Nanos;

use crate::ip::Addresses;
use crate::view::View;

/// How long a datagram may stay incomplete, in nanoseconds of capture time: RFC 791 names 15 s,
/// Linux waits 30 s.
const MAX_AGE: u64 = 30_000_000_000;

/// Most incomplete datagrams.
const MAX_DATAGRAMS: usize = 1_024;

/// Most bytes of incomplete datagrams.
const MAX_BYTES: usize = 4 << 20;

/// Largest datagram.
const MAX_LEN: usize = 65_535;

/// What fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Datagram {
    pub(crate) addresses: Addresses,
    pub(crate) protocol: u8,
    pub(crate) id: u32,
}

/// Where a fragment belongs.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) datagram: Datagram,
    /// In bytes, a multiple of eight.
    pub(crate) offset: usize,
    /// Whether others follow it.
    pub(crate) more: bool,
}

/// What became of a fragment.
#[derive(Debug)]
pub(crate) enum Placed {
    /// Others are missing.
    Waiting,
    /// It was the last one: the payload of the datagram.
    Whole(Vec<u8>),
    /// It cannot be used.
    Bad(&'static str),
}

/// Incomplete datagrams.
#[derive(Default)]
pub(crate) struct Fragments {
    partial: HashMap<Datagram, Partial>,
    /// In order of their first fragment, with its time. May name datagrams that are complete.
    order: VecDeque<(Nanos, u64, Datagram)>,
    /// Counts datagrams, so that a name used again is told from its first use.
    serial: u64,
    bytes: usize,
    /// Fragments taken that completed nothing.
    pub(crate) waiting: u64,
    pub(crate) reassembled: u64,
    pub(crate) dropped: u64,
}

struct Partial {
    serial: u64,
    bytes: Vec<u8>,
    /// A bit for each unit of eight bytes that is there.
    present: Vec<u64>,
    units: usize,
    /// Known once the last fragment is there.
    len: Option<usize>,
}

impl Fragments {
    pub(crate) fn add(&mut self, piece: &Piece, view: View<'_>, now: Nanos) -> Placed {
        if view.missing() > 0 {
            return Placed::Bad("IP fragment cut short");
        }
        let end = piece.offset + view.len;
        if view.len == 0 || end > MAX_LEN || (piece.more && !view.len.is_multiple_of(8)) {
            return Placed::Bad("IP fragment impossible");
        }
        self.expire(now);
        let partial = self.partial.entry(piece.datagram).or_insert_with(|| {
            self.serial += 1;
            self.order.push_back((now, self.serial, piece.datagram));
            Partial::new(self.serial)
        });
        self.bytes -= partial.bytes.len();
        let fits = partial.place(piece, view.bytes);
        self.bytes += partial.bytes.len();
        if !fits {
            return Placed::Bad("IP fragment impossible");
        }
        if !partial.is_whole() {
            self.waiting += 1;
            self.make_room();
            return Placed::Waiting;
        }
        self.reassembled += 1;
        let whole = self
            .partial
            .remove(&piece.datagram)
            .map(|partial| partial.bytes);
        let bytes = whole.unwrap_or_default();
        self.bytes -= bytes.len();
        Placed::Whole(bytes)
    }

    /// Counts what is still incomplete as dropped; called at the end of the input.
    pub(crate) fn finish(&mut self) {
        self.dropped += self.partial.len() as u64;
        self.partial.clear();
        self.order.clear();
        self.bytes = 0;
    }

    fn expire(&mut self, now: Nanos) {
        while self
            .order
            .front()
            .is_some_and(|(since, ..)| now.since(*since) > MAX_AGE)
        {
            self.drop_oldest();
        }
    }

    fn make_room(&mut self) {
        while self.partial.len() > MAX_DATAGRAMS || self.bytes > MAX_BYTES {
            self.drop_oldest();
        }
        // Names of complete datagrams do not pile up behind an incomplete one.
        if self.order.len() > 2 * MAX_DATAGRAMS {
            let partial = &self.partial;
            self.order.retain(|(_, serial, datagram)| {
                partial
                    .get(datagram)
                    .is_some_and(|partial| partial.serial == *serial)
            });
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, serial, datagram)) = self.order.pop_front() else {
            return;
        };
        let waits = self
            .partial
            .get(&datagram)
            .is_some_and(|partial| partial.serial == serial);
        if waits && let Some(partial) = self.partial.remove(&datagram) {
            self.bytes -= partial.bytes.len();
            self.dropped += 1;
        }
    }
}

impl Partial {
    fn new(serial: u64) -> Self {
        Self {
            serial,
            bytes: Vec::new(),
            present: Vec::new(),
            units: 0,
            len: None,
        }
    }

    /// Copies what is not there yet; false when the fragment contradicts the datagram's length.
    fn place(&mut self, piece: &Piece, bytes: &[u8]) -> bool {
        let end = piece.offset + bytes.len();
        let too_long = self.len.is_some_and(|len| end > len);
        let other_end =
            !piece.more && (self.bytes.len() > end || self.len.is_some_and(|len| len != end));
        if too_long || other_end {
            return false;
        }
        if !piece.more {
            self.len = Some(end);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
            self.present.resize(end.div_ceil(8).div_ceil(64), 0);
        }
        for (unit, from) in (piece.offset / 8..).zip(bytes.chunks(8)) {
            let Some(word) = self.present.get_mut(unit / 64) else {
                return false;
            };
            let bit = 1 << (unit % 64);
            if *word & bit == 0 {
                *word |= bit;
                self.units += 1;
                let to = unit * 8..unit * 8 + from.len();
                if let Some(to) = self.bytes.get_mut(to) {
                    to.copy_from_slice(from);
                }
            }
        }
        true
    }

    fn is_whole(&self) -> bool {
        self.len.is_some_and(|len| self.units == len.div_ceil(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Endpoint;

    fn datagram(id: u32) -> Datagram {
        let addresses = Addresses {
            source: Endpoint::v4([10, 0, 0, 1], 0),
            destination: Endpoint::v4([10, 0, 0, 2], 0),
        };
        Datagram {
            addresses,
            protocol: 6,
            id,
        }
    }

    fn add(fragments: &mut Fragments, id: u32, offset: usize, more: bool, bytes: &[u8]) -> Placed {
        let piece = Piece {
            datagram: datagram(id),
            offset,
            more,
        };
        fragments.add(&piece, View::new(bytes, bytes.len()), Nanos(0))
    }

    #[test]
    fn fragments_in_any_order_make_the_datagram() {
        let mut fragments = Fragments::default();
        assert!(matches!(
            add(&mut fragments, 1, 16, false, b"end"),
            Placed::Waiting
        ));
        assert!(matches!(
            add(&mut fragments, 1, 0, true, b"01234567"),
            Placed::Waiting
        ));
        let Placed::Whole(bytes) = add(&mut fragments, 1, 8, true, b"89abcdef") else {
            panic!("not whole")
        };
        assert_eq!(bytes, b"0123456789abcdefend");
        assert_eq!((fragments.bytes, fragments.partial.len()), (0, 0));
    }

    #[test]
    fn of_overlapping_fragments_the_first_copy_wins() {
        let mut fragments = Fragments::default();
        add(&mut fragments, 1, 0, true, b"firstcpy");
        add(&mut fragments, 1, 0, true, b"othercpyand more");
        let Placed::Whole(bytes) = add(&mut fragments, 1, 16, false, b".") else {
            panic!("not whole")
        };
        assert_eq!(bytes, b"firstcpyand more.");
    }

    #[test]
    fn fragments_that_contradict_the_length_are_refused() {
        let mut fragments = Fragments::default();
        add(&mut fragments, 1, 8, false, b"end");
        assert!(matches!(
            add(&mut fragments, 1, 16, true, b"01234567"),
            Placed::Bad(_)
        ));
        assert!(matches!(
            add(&mut fragments, 1, 0, false, b"short"),
            Placed::Bad(_)
        ));
        assert!(matches!(
            add(&mut fragments, 2, 65_528, false, b"01234567"),
            Placed::Bad(_)
        ));
    }

    #[test]
    fn an_incomplete_datagram_is_given_up_after_its_time() {
        let mut fragments = Fragments::default();
        add(&mut fragments, 1, 0, true, b"01234567");
        let piece = Piece {
            datagram: datagram(1),
            offset: 8,
            more: false,
        };
        let placed = fragments.add(&piece, View::new(b"end", 3), Nanos(MAX_AGE + 1));
        assert!(matches!(placed, Placed::Waiting));
        assert_eq!(fragments.dropped, 1);
    }

    #[test]
    fn a_flood_of_fragments_stays_within_the_bounds() {
        let mut fragments = Fragments::default();
        for id in 0..10_000 {
            add(&mut fragments, id, 60_000, true, &[0; 64]);
            assert!(fragments.bytes <= MAX_BYTES && fragments.partial.len() <= MAX_DATAGRAMS);
            assert!(fragments.order.len() <= 2 * MAX_DATAGRAMS + 1);
        }
        for id in 0..10_000 {
            add(&mut fragments, 20_000 + id, 0, true, &[0; 8]);
            add(&mut fragments, 20_000 + id, 8, false, &[0; 8]);
        }
        assert_eq!(fragments.reassembled, 10_000);
    }
}
