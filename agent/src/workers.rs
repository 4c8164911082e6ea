//! Over how many threads live traffic is spread, unless somebody says it.

use std::num::NonZeroU16;
use std::thread::available_parallelism;

/// What may be asked for.
pub(crate) const MOST: u16 = 64;

/// More are of no use: one thread reads events and takes what comes of them, and by then that one is
/// what the others wait for.
const ENOUGH: u16 = 4;

/// The number that was asked for, or one for each four processors that this program may use.
///
/// A quarter is what observing may take of a machine whose processors are all busy with what is
/// observed. Two workers are worth their hop between threads only where three threads can run beside
/// the rest, hence from eight processors on.
pub(crate) fn number(asked: Option<u16>) -> NonZeroU16 {
    let processors = available_parallelism().map_or(1, usize::from);
    NonZeroU16::new(asked.unwrap_or_else(|| usual(processors))).unwrap_or(NonZeroU16::MIN)
}

fn usual(processors: usize) -> u16 {
    u16::try_from(processors / 4)
        .unwrap_or(ENOUGH)
        .clamp(1, ENOUGH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_have_one_and_large_ones_not_more_than_are_of_use() {
        for (processors, workers) in [(1, 1), (4, 1), (7, 1), (8, 2), (15, 3), (16, 4), (512, 4)] {
            assert_eq!(usual(processors), workers, "{processors}");
        }
        assert_eq!(number(Some(7)).get(), 7);
    }
}
