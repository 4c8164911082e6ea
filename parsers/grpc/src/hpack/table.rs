//! The static and the dynamic table (RFC 7541 §2.3), the latter with entries that nobody saw.

use std::collections::VecDeque;
use std::ops::Range;

/// What an entry costs beside its bytes (RFC 7541 §4.1).
const OVERHEAD: usize = 32;
/// Size of a table until its encoder changes it (RFC 9113 §6.5.2).
pub(super) const DEFAULT_SIZE: usize = 4096;
/// Most that is kept of a table, however large the peers make it. Older entries are unknown.
const MAX_KEPT: usize = 64 * 1024;

/// The dynamic table of one direction.
///
/// An index counts from the newest entry, so entries inserted since we joined are addressed
/// correctly whatever lies behind them. To keep an entry longer than the encoder does is harmless:
/// it never refers to what it has evicted.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    /// Names and values of the entries, oldest first, and of evicted ones before them.
    bytes: Vec<u8>,
    /// Position of the first of `bytes`, in the count of all bytes ever inserted.
    base: usize,
    /// Size of the entries by RFC 7541 §4.1; unknown names count as empty.
    size: usize,
    /// Size above which entries are evicted.
    max: usize,
    /// Whether `max` is what the encoder goes by.
    exact: bool,
    /// Whether the encoder has no entry that is not among `entries`.
    whole: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Position of the name's first byte, in the count of all bytes ever inserted; the value follows.
    start: usize,
    /// `None`: the name is unknown, because it was given by an index that was.
    name: Option<usize>,
    value: usize,
}

impl Entry {
    fn size(&self) -> usize {
        let bytes = self.name.unwrap_or(0).saturating_add(self.value);
        bytes.saturating_add(OVERHEAD)
    }
}

/// What an index refers to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Found<'a> {
    /// An entry; its name may be unknown.
    Entry(Option<&'a [u8]>, &'a [u8]),
    /// An entry that was inserted before we joined.
    Unknown,
    /// No entry: an encoder's error.
    Outside,
}

/// Name of an entry to insert.
#[derive(Clone, Copy, Debug)]
pub(super) enum Name<'a> {
    /// As given.
    Bytes(&'a [u8]),
    /// That of the entry at this index, 0 the newest.
    Of(usize),
    /// Nobody knows.
    Unknown,
}

impl Table {
    /// The table of a connection that begins.
    pub(super) const fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: Vec::new(),
            base: 0,
            size: 0,
            max: DEFAULT_SIZE,
            exact: true,
            whole: true,
        }
    }

    /// Forgets everything: an unknown number of entries was inserted meanwhile, so that all that are
    /// present cannot be addressed any more, and the size may have changed.
    pub(super) fn lose(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.size = 0;
        self.max = MAX_KEPT;
        self.exact = false;
        self.whole = false;
    }

    /// The entry at an index of the dynamic table, 0 the newest.
    pub(super) fn get(&self, index: usize) -> Found<'_> {
        let Some(entry) = self.entries.get(index) else {
            return if self.whole {
                Found::Outside
            } else {
                Found::Unknown
            };
        };
        let range = self.range(entry.start, entry.name.unwrap_or(0));
        let name = entry
            .name
            .map(|_| self.bytes.get(range.clone()).unwrap_or_default());
        let value = range.end..range.end.saturating_add(entry.value);
        Found::Entry(name, self.bytes.get(value).unwrap_or_default())
    }

    /// Inserts an entry, and evicts what no longer fits (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: Name<'_>, value: &[u8]) {
        let start = self.base.wrapping_add(self.bytes.len());
        let name = match name {
            Name::Bytes(name) => {
                self.bytes.extend_from_slice(name);
                Some(name.len())
            }
            Name::Of(index) => self.entries.get(index).copied().and_then(|entry| {
                let len = entry.name?;
                let range = self.range(entry.start, len);
                // The range lies in `bytes`, by the invariant of `Entry`.
                if range.end <= self.bytes.len() {
                    self.bytes.extend_from_within(range);
                }
                Some(len)
            }),
            Name::Unknown => None,
        };
        self.bytes.extend_from_slice(value);
        let entry = Entry {
            start,
            name,
            value: value.len(),
        };
        self.entries.push_front(entry);
        self.size = self.size.saturating_add(entry.size());
        // An entry larger than the table empties it, and is not kept.
        self.evict();
        self.shrink();
    }

    /// Takes the size that the encoder goes by from now on (RFC 7541 §6.3).
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max.min(MAX_KEPT);
        self.exact = max <= MAX_KEPT;
        self.whole |= max < OVERHEAD;
        self.evict();
        self.shrink();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let entries = self.entries.capacity().saturating_mul(size_of::<Entry>());
        entries.saturating_add(self.bytes.capacity())
    }

    fn range(&self, start: usize, len: usize) -> Range<usize> {
        let start = start.wrapping_sub(self.base);
        start..start.saturating_add(len)
    }

    fn evict(&mut self) {
        while self.size > self.max
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size = self.size.saturating_sub(oldest.size());
            // Where one of ours had to go, all older ones have gone.
            self.whole |= self.exact;
        }
        // Beyond what we keep, the encoder may have more.
        self.whole &= self.exact;
    }

    /// Drops the bytes of evicted entries, once they are the larger part.
    fn shrink(&mut self) {
        let start = self
            .entries
            .back()
            .map_or(self.base.wrapping_add(self.bytes.len()), |e| e.start);
        let dead = start.wrapping_sub(self.base);
        if dead > DEFAULT_SIZE && dead > self.bytes.len() / 2 {
            self.bytes.drain(..dead.min(self.bytes.len()));
            self.base = start;
        }
    }
}

/// The entry at an index of the static table, 1 the first (RFC 7541 appendix A).
pub(super) fn static_entry(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = STATIC.get(index.checked_sub(1)?)?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// Entries of the static table.
pub(super) const STATIC_LEN: usize = STATIC.len();

#[rustfmt::skip]
static STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(name: &'a str, value: &'a str) -> Found<'a> {
        Found::Entry(Some(name.as_bytes()), value.as_bytes())
    }

    fn joined() -> Table {
        let mut table = Table::new();
        table.lose();
        table
    }

    #[test]
    fn the_newest_entry_has_the_lowest_index() {
        let mut table = Table::new();
        table.insert(Name::Bytes(b"a"), b"1");
        table.insert(Name::Bytes(b"b"), b"2");
        table.insert(Name::Of(1), b"3");
        assert_eq!(table.get(0), entry("a", "3"));
        assert_eq!(table.get(1), entry("b", "2"));
        assert_eq!(table.get(2), entry("a", "1"));
        assert_eq!(table.get(3), Found::Outside);
    }

    #[test]
    fn the_oldest_entries_are_evicted_first() {
        let mut table = Table::new();
        table.resize(2 * 34);
        for value in [b"1", b"2", b"3"] {
            table.insert(Name::Bytes(b"a"), value);
        }
        assert_eq!(
            (table.get(1), table.get(2)),
            (entry("a", "2"), Found::Outside)
        );
        table.resize(34);
        assert_eq!(
            (table.get(0), table.get(1)),
            (entry("a", "3"), Found::Outside)
        );
    }

    #[test]
    fn an_entry_larger_than_the_table_empties_it() {
        let mut table = Table::new();
        table.resize(64);
        table.insert(Name::Bytes(b"a"), b"1");
        table.insert(Name::Bytes(b"a"), &[b'x'; 64]);
        assert_eq!(table.get(0), Found::Outside);
    }

    #[test]
    fn the_name_of_an_entry_that_is_evicted_thereby_is_kept() {
        let mut table = Table::new();
        table.resize(40);
        table.insert(Name::Bytes(b"name"), b"1");
        table.insert(Name::Of(0), b"2");
        assert_eq!(table.get(0), entry("name", "2"));
    }

    #[test]
    fn entries_from_before_we_joined_are_unknown_and_later_ones_right() {
        let mut table = joined();
        assert_eq!(table.get(0), Found::Unknown);
        table.insert(Name::Bytes(b"a"), b"1");
        table.insert(Name::Unknown, b"2");
        assert_eq!(table.get(0), Found::Entry(None, b"2"));
        assert_eq!(table.get(1), entry("a", "1"));
        assert_eq!(table.get(2), Found::Unknown);
    }

    #[test]
    fn a_lost_block_makes_present_entries_unknown() {
        let mut table = Table::new();
        table.insert(Name::Bytes(b"a"), b"1");
        table.lose();
        assert_eq!(table.get(0), Found::Unknown);
        table.insert(Name::Bytes(b"b"), b"2");
        assert_eq!(
            (table.get(0), table.get(1)),
            (entry("b", "2"), Found::Unknown)
        );
    }

    #[test]
    fn a_table_that_has_turned_over_is_whole_again() {
        let mut table = joined();
        table.resize(2 * 34);
        for value in [b"1", b"2", b"3"] {
            assert_eq!(table.get(2), Found::Unknown);
            table.insert(Name::Bytes(b"a"), value);
        }
        assert_eq!(table.get(2), Found::Outside);
    }

    #[test]
    fn a_table_of_size_zero_is_whole() {
        let mut table = joined();
        table.resize(0);
        assert_eq!(table.get(0), Found::Outside);
    }

    #[test]
    fn memory_stays_bounded() {
        let mut table = Table::new();
        table.resize(1 << 30);
        for n in 0..100_000u32 {
            table.insert(Name::Bytes(&n.to_be_bytes()), &[b'x'; 60]);
        }
        assert_eq!(
            table.get(0),
            Found::Entry(Some(&99_999u32.to_be_bytes()), &[b'x'; 60])
        );
        assert_eq!(table.get(10_000), Found::Unknown, "the encoder may have it");
        assert!(table.heap_bytes() < 4 * MAX_KEPT, "{}", table.heap_bytes());
    }
}
