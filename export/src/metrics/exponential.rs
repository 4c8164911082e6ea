//! OpenTelemetry's base-2 exponential histogram: at most 160 buckets, as fine as they allow.
//!
//! At scale `s` bucket `i` holds the values in `(b^i, b^(i+1)]` with `b = 2^(2^-s)`. A value beyond
//! the buckets halves the resolution until it fits, and merging takes the coarser of two scales:
//! counts move into wider buckets and are never lost.

use std::collections::VecDeque;

/// Most buckets.
pub const MAX_BUCKETS: usize = 160;
/// The finest scale.
pub const MAX_SCALE: i32 = 20;

/// Positive values, and zeros, counted by logarithmic buckets.
#[derive(Clone, Debug)]
pub struct Exponential {
    scale: i32,
    /// Index of the first bucket.
    offset: i32,
    /// At most [`MAX_BUCKETS`].
    counts: VecDeque<u64>,
    zeros: u64,
}

impl Default for Exponential {
    fn default() -> Self {
        Self {
            scale: MAX_SCALE,
            offset: 0,
            counts: VecDeque::new(),
            zeros: 0,
        }
    }
}

impl Exponential {
    /// Counts one value, which is not negative.
    pub fn record(&mut self, value: f64) {
        if value > 0.0 {
            let index = index(value, self.scale);
            self.add(index, self.scale, 1);
        } else {
            self.zeros += 1;
        }
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.zeros += other.zeros;
        self.coarsen(other.scale);
        for (i, count) in (other.offset..).zip(&other.counts) {
            if *count > 0 {
                self.add(i, other.scale, *count);
            }
        }
    }

    /// What was counted since it was `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let (mut since, mut earlier) = (self.clone(), earlier.clone());
        earlier.coarsen(since.scale);
        since.zeros -= earlier.zeros;
        let buckets = since.offset..;
        for (i, count) in buckets.zip(&mut since.counts) {
            let before = usize::try_from(i - earlier.offset).ok();
            let before = before.and_then(|at| earlier.counts.get(at));
            *count -= before.copied().unwrap_or_default();
        }
        since
    }

    /// `2^scale` buckets make a power of two.
    #[must_use]
    pub const fn scale(&self) -> i32 {
        self.scale
    }

    /// Index of the first bucket.
    #[must_use]
    pub const fn offset(&self) -> i32 {
        self.offset
    }

    /// Counts of the buckets from [`Exponential::offset`] on.
    pub fn counts(&self) -> impl ExactSizeIterator<Item = u64> + '_ {
        self.counts.iter().copied()
    }

    /// Number of values that were zero.
    #[must_use]
    pub const fn zeros(&self) -> u64 {
        self.zeros
    }

    /// Adds to the bucket that is `index` at `scale`.
    fn add(&mut self, index: i32, scale: i32, count: u64) {
        let mut index = index >> (scale - self.scale);
        if self.counts.is_empty() {
            self.offset = index;
        }
        let mut last = self.offset + self.counts.len() as i32 - 1;
        let (mut low, mut high) = (self.offset.min(index), last.max(index));
        let mut scale = self.scale;
        while (high - low) as usize >= MAX_BUCKETS {
            (low, high, scale) = (low >> 1, high >> 1, scale - 1);
        }
        if scale < self.scale {
            index >>= self.scale - scale;
            self.coarsen(scale);
            last = self.offset + self.counts.len() as i32 - 1;
        }
        for _ in index..self.offset {
            self.counts.push_front(0);
        }
        for _ in last..index {
            self.counts.push_back(0);
        }
        self.offset = self.offset.min(index);
        self.counts[(index - self.offset) as usize] += count;
    }

    /// Takes a coarser scale; does nothing where the scale is as coarse already.
    fn coarsen(&mut self, scale: i32) {
        let shift = self.scale - scale;
        if shift <= 0 {
            return;
        }
        let mut coarse = VecDeque::with_capacity(self.counts.len());
        let offset = self.offset >> shift;
        for (i, count) in (self.offset..).zip(&self.counts) {
            let at = ((i >> shift) - offset) as usize;
            if coarse.len() <= at {
                coarse.resize(at + 1, 0);
            }
            coarse[at] += count;
        }
        (self.counts, self.offset, self.scale) = (coarse, offset, scale);
    }
}

/// Index of the bucket of a positive value. Exact at powers of two, where rounding would do harm:
/// they are the upper, inclusive, bounds of buckets.
fn index(value: f64, scale: i32) -> i32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let fraction = bits & ((1 << 52) - 1);
    if scale <= 0 {
        return (if fraction == 0 {
            exponent - 1
        } else {
            exponent
        }) >> -scale;
    }
    if fraction == 0 {
        return (exponent << scale) - 1;
    }
    // The logarithm of the fraction alone: at scale 20 that of the whole would cost digits.
    let mantissa = f64::from_bits(fraction | (1023 << 52));
    let within = (mantissa.log2() * f64::from(scale).exp2()).ceil() as i32 - 1;
    (exponent << scale) + within.clamp(0, (1 << scale) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> Exponential {
        let mut histogram = Exponential::default();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    /// Upper bound of bucket `i`.
    fn bound(i: i32, scale: i32) -> f64 {
        (f64::from(i + 1) * f64::from(-scale).exp2()).exp2()
    }

    #[test]
    fn a_value_lies_between_the_bounds_of_its_bucket_at_every_scale() {
        for scale in -5..=MAX_SCALE {
            for value in [1e-9, 3e-7, 0.001, 0.25, 0.3, 1.0, 1.5, 2.0, 59.9, 1e4] {
                let i = index(value, scale);
                let slack = 1.0 + 1e-12;
                assert!(value <= bound(i, scale) * slack, "{value} at {scale}");
                assert!(value * slack > bound(i - 1, scale), "{value} at {scale}");
            }
        }
    }

    #[test]
    fn a_power_of_two_is_the_upper_bound_of_its_bucket() {
        for scale in -2..=MAX_SCALE {
            for power in [-30_i32, -1, 0, 1, 13] {
                let i = index(f64::from(power).exp2(), scale);
                let expected = if scale >= 0 {
                    (power << scale) - 1
                } else {
                    (power - 1) >> -scale
                };
                assert_eq!(i, expected, "2^{power} at {scale}");
            }
        }
    }

    #[test]
    fn the_scale_falls_until_all_values_fit_and_no_count_is_lost() {
        let histogram = of(&[1e-6, 0.0, 1.0, 60.0, 1e-6]);
        assert!(histogram.counts().len() <= MAX_BUCKETS);
        assert_eq!(histogram.counts().sum::<u64>(), 4);
        assert_eq!(histogram.zeros(), 1);
        // 1 µs to 60 s are almost 26 powers of two: four buckets each at scale 2, and no more at 3.
        assert_eq!(histogram.scale(), 2);
        assert_eq!(of(&[0.5]).scale(), MAX_SCALE);
    }

    #[test]
    fn what_was_counted_since_is_what_was_recorded_since_at_whatever_scale() {
        let (first, then) = ([0.0, 0.01, 0.0100001], [0.0, 0.01, 60.0, 1e-6]);
        let before = of(&first);
        let mut all = before.clone();
        then.iter().for_each(|value| all.record(*value));
        assert!(all.scale() < before.scale());
        let since = all.since(&before);
        assert_eq!(since.zeros(), 1);
        assert_eq!(since.counts().sum::<u64>(), 3);
        let mut again = before.clone();
        again.merge(&since);
        assert!(again.counts().eq(all.counts()));
        assert_eq!(before.since(&Exponential::default()).zeros(), 1);
    }

    #[test]
    fn merged_parts_equal_the_whole() {
        let values: Vec<f64> = (1..500).map(|i| f64::from(i * i) * 1e-6).collect();
        let whole = of(&values);
        let (left, right) = values.split_at(123);
        for (first, second) in [(left, right), (right, left)] {
            let mut merged = of(first);
            merged.merge(&of(second));
            assert_eq!(merged.scale(), whole.scale());
            assert_eq!(merged.offset(), whole.offset());
            assert!(merged.counts().eq(whole.counts()));
        }
    }
}
