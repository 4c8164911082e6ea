//! The answer of every reader in this crate.

/// What came of reading one item from the front of some bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Read<T> {
    /// An item, and the bytes that it took.
    Done(T, usize),
    /// Consistent so far; at least this many bytes must be visible.
    Short(usize),
    /// Not such an item: what was being read.
    Bad(&'static str),
}
