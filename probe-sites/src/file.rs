//! A file of which only what is looked at is read: programs have gigabytes, and little of them says
//! where their TLS is.
//!
//! What several steps look at is held until the file is done with, up to a bound; what is merely
//! searched passes through a window.

use std::cell::{Cell, OnceCell};
use std::ops::Range;

use memchr::memmem;

/// A file's bytes, wherever they are.
pub trait Source {
    /// How many bytes there are.
    fn size(&self) -> u64;

    /// Fills `bytes` with what begins at `offset`; whether there was so much, and it could be read.
    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool;
}

impl Source for &[u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> bool {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..)?.get(..bytes.len()));
        from.map(|from| bytes.copy_from_slice(from)).is_some()
    }
}

/// Bytes that are held of one file at most. The function table of the largest Go programs has some
/// 100 MB, and nobody else comes near it.
const MOST_HELD: usize = 256 << 20;
/// Parts that are held of one file at most; a power of two.
const MOST_PARTS: usize = 8_192;
/// What is held around a place begins at a multiple of this, and has twice as much.
const BLOCK: u64 = 128 << 10;
/// Bytes of a window through which a file is searched: a multiple of what symbols have, 16 and 24.
const WINDOW: usize = 48 * 5_461;

/// A file, and what is held of it.
pub(crate) struct File<'s> {
    source: &'s dyn Source,
    size: u64,
    left: Cell<usize>,
    /// By offset and size, in the first free place from where their hash says.
    parts: Vec<OnceCell<Part>>,
}

struct Part {
    offset: u64,
    bytes: Box<[u8]>,
}

impl<'s> File<'s> {
    pub(crate) fn new(source: &'s dyn Source) -> Self {
        Self {
            source,
            size: source.size(),
            left: Cell::new(MOST_HELD),
            parts: (0..MOST_PARTS).map(|_| OnceCell::new()).collect(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Whether some of it was not looked at, because more is held already than may be.
    pub(crate) fn is_too_much(&self) -> bool {
        self.left.get() == 0
    }

    /// A part of the file; `None` if it has not so much, or too much is held already.
    pub(crate) fn part(&self, offset: u64, size: u64) -> Option<&[u8]> {
        let end = offset.checked_add(size)?;
        if end > self.size {
            return None;
        }
        if size == 0 {
            return Some(&[]);
        }
        let size = usize::try_from(size).ok()?;
        let hash = (offset ^ (size as u64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (hash >> 32) as usize % MOST_PARTS;
        let (before, from) = self.parts.split_at_checked(first)?;
        for place in from.iter().chain(before) {
            let part = match place.get() {
                Some(part) => part,
                None => {
                    let bytes = self.read(offset, size)?;
                    place.get_or_init(|| Part { offset, bytes })
                }
            };
            if part.offset == offset && part.bytes.len() == size {
                return Some(&part.bytes);
            }
        }
        self.left.set(0);
        None
    }

    fn read(&self, offset: u64, size: usize) -> Option<Box<[u8]>> {
        let left = self.left.get().checked_sub(size).filter(|left| *left > 0);
        self.left.set(left.unwrap_or(0));
        left?;
        let mut bytes = vec![0; size].into_boxed_slice();
        self.source.read(offset, &mut bytes).then_some(bytes)
    }

    /// What begins at an offset: `most` bytes, or [`BLOCK`] if these are fewer.
    pub(crate) fn near(&self, offset: u64, most: u64) -> Option<&[u8]> {
        let start = offset.checked_div(BLOCK)?.checked_mul(BLOCK)?;
        let size = self.size.checked_sub(start)?.min(BLOCK.saturating_mul(2));
        let block = self.part(start, size)?;
        let rest = block.get(usize::try_from(offset.checked_sub(start)?).ok()?..)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Some(rest.get(..most).unwrap_or(rest))
    }

    /// So many bytes at an offset, which are not held.
    pub(crate) fn bytes_at<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read(offset, &mut bytes).then_some(bytes)
    }

    /// Up to `most` bytes before the end of a range, which are not held.
    pub(crate) fn end_of(&self, range: Range<u64>, most: u64) -> Option<Vec<u8>> {
        let size = range.end.checked_sub(range.start)?.min(most);
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        let start = range.end.checked_sub(size)?;
        self.source.read(start, &mut bytes).then_some(bytes)
    }

    /// Shows a range window by window to `look`, with the offset of each, until it says that it has seen
    /// enough, or the file cannot be read. Each window but the first begins with the last `again` bytes
    /// of the one before.
    pub(crate) fn windows(
        &self,
        range: Range<u64>,
        again: usize,
        mut look: impl FnMut(u64, &[u8]) -> bool,
    ) {
        let mut window = Vec::new();
        let mut at = range.start;
        let end = range.end.min(self.size);
        while at < end {
            let kept = window.len().saturating_sub(again);
            window.drain(..kept);
            let old = window.len();
            let more = end.saturating_sub(at).min(WINDOW as u64) as usize;
            window.resize(old.saturating_add(more), 0);
            let read = window
                .get_mut(old..)
                .is_some_and(|new| self.source.read(at, new));
            if !read || look(at.saturating_sub(old as u64), &window) {
                return;
            }
            at = at.saturating_add(more as u64);
        }
    }

    /// Where in a range some bytes are, the first `most` of these places.
    pub(crate) fn places(&self, range: Range<u64>, wanted: &[u8], most: usize) -> Vec<u64> {
        let finder = memmem::Finder::new(wanted);
        let mut places = Vec::new();
        let again = wanted.len().saturating_sub(1);
        self.windows(range, again, |offset, window| {
            let here = finder.find_iter(window);
            let here = here.filter_map(|at| offset.checked_add(at as u64));
            places.extend(here.take(most.saturating_sub(places.len())));
            places.len() >= most
        });
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(size: usize) -> Vec<u8> {
        (0..size).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn parts_are_what_the_file_has_and_stay() {
        let all = bytes(700_000);
        let all = &all[..];
        let file = File::new(&all);
        let first = file.part(3, 10).unwrap();
        for nth in 0..1_000_u64 {
            let part = file.part(nth * 7, 1 + nth % 3).unwrap();
            let start = nth as usize * 7;
            assert_eq!(part, &all[start..start + part.len()]);
        }
        assert_eq!(first, &all[3..13]);
        assert_eq!(file.part(3, 10).unwrap().as_ptr(), first.as_ptr());
        assert_eq!(file.part(700_000, 0), Some(&[][..]));
        assert_eq!(file.part(699_999, 2), None);
        assert_eq!(file.part(u64::MAX, 2), None);
        assert!(!file.is_too_much());
    }

    #[test]
    fn no_more_is_held_than_may_be() {
        let all = bytes(MOST_PARTS + 2);
        let all = &all[..];
        let file = File::new(&all);
        let held = (0..all.len() as u64).filter(|at| file.part(*at, 1).is_some());
        assert_eq!(held.count(), MOST_PARTS);
        assert!(file.is_too_much());

        struct Endless;

        impl Source for Endless {
            fn size(&self) -> u64 {
                u64::MAX
            }

            fn read(&self, _: u64, _: &mut [u8]) -> bool {
                true
            }
        }

        let file = File::new(&Endless);
        assert_eq!(file.part(0, MOST_HELD as u64 + 1), None);
        assert!(file.is_too_much());
        assert_eq!(file.part(0, 1), None);
    }

    #[test]
    fn near_a_place_there_is_a_block_or_what_is_asked_for() {
        let all = bytes(700_000);
        let all = &all[..];
        let file = File::new(&all);
        for offset in [0, 1, BLOCK - 1, BLOCK, 600_000, 699_999] {
            let here = file.near(offset, 700_000).unwrap();
            assert!(here.len() as u64 >= BLOCK.min(700_000 - offset));
            assert_eq!(here, &all[offset as usize..][..here.len()]);
            assert_eq!(file.near(offset, 1).unwrap().len(), 1);
        }
        assert_eq!(file.near(700_001, 1), None);
    }

    #[test]
    fn a_search_finds_what_lies_across_windows_once() {
        let mut all = vec![0; 3 * WINDOW];
        let places = [0, WINDOW - 3, 2 * WINDOW - 1, 3 * WINDOW - 4];
        for at in places {
            all[at..at + 4].copy_from_slice(b"abcd");
        }
        let whole = 0..all.len() as u64;
        let all = &all[..];
        let file = File::new(&all);
        let expected = places.map(|at| at as u64);
        assert_eq!(file.places(whole.clone(), b"abcd", 9), expected);
        assert_eq!(file.places(whole.clone(), b"abcd", 2), expected[..2]);
        assert!(file.places(1..4, b"abcd", 2).is_empty());
        assert!(file.places(whole, b"nothing", 2).is_empty());
    }

    #[test]
    fn windows_show_every_byte_in_order() {
        let all = bytes(2 * WINDOW + 5);
        let all = &all[..];
        let file = File::new(&all);
        let mut seen = Vec::new();
        file.windows(5..u64::MAX, 0, |offset, window| {
            assert_eq!(offset as usize, 5 + seen.len());
            seen.extend_from_slice(window);
            false
        });
        assert!(seen == all[5..]);
    }
}
