//! A base-2 exponential histogram of durations.
//!
//! The buckets are those of OpenTelemetry's exponential histogram at scale 6: bucket `i` holds the
//! values in `(b^i, b^(i+1)]` with `b = 2^(1/64)`, so that a quantile is at most 0.55 % off. Unlike
//! there the scale never changes: merging is exact, and the order of merging does not matter.
//!
//! Counts are kept for each power of two that occurred, 256 bytes apiece. Usual latencies of one
//! operation touch three to six of them.

use std::sync::LazyLock;

/// Buckets in a power of two: `2^scale`.
const SUB_BUCKETS: usize = 64;

/// Powers of two that a `u64` of nanoseconds can lie in.
const OCTAVES: usize = 65;

/// Marks an octave without counts.
const EMPTY: u8 = u8::MAX;

/// Fractions of `2^64` at which the buckets of an octave begin: `2^(i/64) - 1`.
static BOUNDS: LazyLock<[u64; SUB_BUCKETS]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        (((i as f64 / SUB_BUCKETS as f64).exp2() - 1.0) * 2_f64.powi(64)) as u64
    })
});

/// Durations in nanoseconds, counted by logarithmic buckets.
#[derive(Clone, Debug)]
pub struct Histogram {
    /// Position in `chunks` of each octave's counts, or [`EMPTY`].
    octaves: [u8; OCTAVES],
    /// Counts, saturating; an octave each, in order of first use.
    chunks: Vec<[u32; SUB_BUCKETS]>,
    count: u64,
    min: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            octaves: [EMPTY; OCTAVES],
            chunks: Vec::new(),
            count: 0,
            min: u64::MAX,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, nanos: u64) {
        let (octave, sub) = bucket(nanos);
        let count = &mut self.chunk(octave)[sub];
        *count = count.saturating_add(1);
        self.count += 1;
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
    }

    /// Adds all durations of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (octave, counts) in other.occupied() {
            for (mine, theirs) in self.chunk(octave).iter_mut().zip(counts) {
                *mine = mine.saturating_add(*theirs);
            }
        }
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Number of durations.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The longest duration, exactly; `None` without any.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The least duration that is not below a share `q` (0 to 1) of all, by at most 0.55 %;
    /// `None` without any.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count);
        let mut below = 0;
        for (octave, counts) in self.occupied() {
            for (sub, count) in counts.iter().enumerate() {
                below += u64::from(*count);
                if below >= rank {
                    return Some(middle(octave, sub).clamp(self.min, self.max));
                }
            }
        }
        // Only counts that saturated leave the rank unreached.
        Some(self.max)
    }

    /// The counts of the octaves that have any, in rising order.
    fn occupied(&self) -> impl Iterator<Item = (usize, &[u32; SUB_BUCKETS])> {
        let chunk = |(octave, at): (usize, &u8)| Some((octave, self.chunks.get(usize::from(*at))?));
        self.octaves.iter().enumerate().filter_map(chunk)
    }

    fn chunk(&mut self, octave: usize) -> &mut [u32; SUB_BUCKETS] {
        if self.octaves[octave] == EMPTY {
            self.octaves[octave] = self.chunks.len() as u8;
            self.chunks.push([0; SUB_BUCKETS]);
        }
        &mut self.chunks[usize::from(self.octaves[octave])]
    }
}

/// Octave and bucket in it. Octave `k` holds `(2^(k-1), 2^k]`: buckets include their upper bound.
/// Zero, which no logarithm reaches, counts as one.
fn bucket(nanos: u64) -> (usize, usize) {
    let nanos = nanos.max(1);
    let floor = nanos.ilog2();
    // The digits behind the leading one, as a fraction of 2^64.
    let fraction = if floor == 0 { 0 } else { nanos << (64 - floor) };
    if fraction == 0 {
        return (floor as usize, SUB_BUCKETS - 1);
    }
    let bounds = &*BOUNDS;
    // 2^(i/64) - 1 lies between i/64 * ln 2 and i/64: from the linear guess it is at most six
    // buckets upwards.
    let mut sub = (fraction >> 58) as usize;
    while sub + 1 < SUB_BUCKETS && bounds[sub + 1] < fraction {
        sub += 1;
    }
    (floor as usize + 1, sub)
}

/// The value in a bucket whose relative distance to both bounds is the same.
fn middle(octave: usize, sub: usize) -> u64 {
    let bound = |sub: usize| (octave as f64 - 1.0 + sub as f64 / SUB_BUCKETS as f64).exp2();
    let (low, high) = (bound(sub), bound(sub + 1));
    (2.0 * low * high / (low + high)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are always the same, spread over eight powers of ten.
    fn durations(count: u64) -> Vec<u64> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let exponent = (state >> 32) as f64 / f64::from(u32::MAX) * 8.0 + 2.0;
                10_f64.powf(exponent) as u64
            })
            .collect()
    }

    fn filled(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    #[test]
    fn quantiles_are_within_a_percent_of_the_sorted_truth() {
        let mut values = durations(50_000);
        let histogram = filled(&values);
        values.sort_unstable();
        for q in [0.0, 0.001, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let (truth, found) = (values[rank - 1], histogram.quantile(q).expect("values"));
            // Half a nanosecond is lost to rounding.
            let off = (truth.abs_diff(found) as f64 - 0.5) / truth as f64;
            assert!(off <= 0.0055, "q {q}: {found} instead of {truth}, {off}");
        }
        assert_eq!(histogram.max(), values.last().copied());
    }

    #[test]
    fn every_bucket_holds_exactly_the_values_between_its_bounds() {
        for value in (1..5_000)
            .chain(durations(20_000))
            .chain([u64::MAX, 1 << 63])
        {
            let (octave, sub) = bucket(value);
            let bound = |sub: usize| (octave as f64 - 1.0 + sub as f64 / 64.0).exp2();
            // A hair of tolerance: the bounds here are rounded to 53 bits.
            assert!(bound(sub) < value as f64 * (1.0 + 1e-14), "{value}");
            assert!(bound(sub + 1) >= value as f64 * (1.0 - 1e-14), "{value}");
        }
    }

    #[test]
    fn a_power_of_two_is_the_last_value_of_its_bucket() {
        assert_eq!(bucket(1024), (10, 63));
        assert_eq!(bucket(1025), (11, 0));
        assert_eq!(bucket(0), bucket(1));
    }

    #[test]
    fn merged_parts_equal_the_whole_in_any_order() {
        let values = durations(9_000);
        let whole = filled(&values);
        for order in [[0, 1, 2], [2, 0, 1]] {
            let mut merged = Histogram::default();
            for part in order {
                merged.merge(&filled(&values[part * 3_000..(part + 1) * 3_000]));
            }
            assert_eq!(merged.count(), whole.count());
            assert_eq!(merged.max(), whole.max());
            for percent in 0..=100 {
                let q = f64::from(percent) / 100.0;
                assert_eq!(merged.quantile(q), whole.quantile(q));
            }
        }
    }

    #[test]
    fn one_value_is_every_quantile() {
        let histogram = filled(&[123_456_789]);
        assert_eq!(histogram.quantile(0.0), Some(123_456_789));
        assert_eq!(histogram.quantile(0.99), Some(123_456_789));
    }

    #[test]
    fn without_values_there_is_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.5), None);
        assert_eq!(Histogram::default().max(), None);
    }
}
