//! Histograms with the bounds that the conventions advise, exact to the last unit.
//!
//! Values are whole numbers (nanoseconds, bytes) and sums are whole numbers, so that neither the
//! order of recording nor that of merging shows in the result. Units and fractions come with the
//! output.

use wirespan_engine::Nanos;

/// Where the buckets of a histogram end, and how its values are shown.
#[derive(Debug)]
pub struct Bounds {
    /// Upper bounds, each inclusive, rising; whole units (nanoseconds, bytes).
    pub raw: &'static [u64],
    /// The same as the output has them (seconds, bytes).
    pub shown: &'static [f64],
    /// Whole units in one shown unit.
    pub per_unit: f64,
}

impl Bounds {
    /// The bucket of a value. Most are in the first few, and in the same as the one before: there is
    /// no faster way to those than one by one.
    fn bucket(&self, value: u64) -> usize {
        let bucket = self.raw.iter().position(|bound| value <= *bound);
        bucket.unwrap_or(self.raw.len())
    }
}

const fn millis<const N: usize>(bounds: [u64; N]) -> [u64; N] {
    let mut nanos = bounds;
    let mut i = 0;
    while i < N {
        nanos[i] = bounds[i] * 1_000_000;
        i += 1;
    }
    nanos
}

/// Durations of HTTP requests, calls and what has no advice of its own.
pub static REQUEST_SECONDS: Bounds = Bounds {
    raw: &millis([
        5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000,
    ]),
    shown: &[
        0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    ],
    per_unit: 1e9,
};

/// Durations of database operations.
pub static DATABASE_SECONDS: Bounds = Bounds {
    raw: &millis([1, 5, 10, 50, 100, 500, 1_000, 5_000, 10_000]),
    shown: &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0],
    per_unit: 1e9,
};

/// Sizes in bytes, for which there is no advice: the default bounds of the metrics SDK.
pub static BYTES: Bounds = Bounds {
    raw: &[
        0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1_000, 2_500, 5_000, 7_500, 10_000,
    ],
    shown: &[
        0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1_000.0, 2_500.0, 5_000.0,
        7_500.0, 10_000.0,
    ],
    per_unit: 1.0,
};

/// A measurement with the span that it belongs to.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Exemplar {
    /// When the exchange ended.
    pub time: Nanos,
    /// The measured value, in whole units.
    pub value: u64,
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
}

/// Least and greatest value where they are not known: so they stay whatever is added.
const UNKNOWN: (u64, u64) = (0, u64::MAX);

/// A histogram with fixed bounds.
#[derive(Clone, Debug)]
pub struct Explicit {
    bounds: &'static Bounds,
    /// Not cumulative; one more than there are bounds.
    counts: Box<[u64]>,
    /// Of each bucket the latest; empty until there is one.
    exemplars: Box<[Option<Exemplar>]>,
    count: u64,
    sum: u128,
    min: u64,
    max: u64,
}

impl Explicit {
    /// An empty histogram.
    #[must_use]
    pub fn new(bounds: &'static Bounds) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.raw.len() + 1].into(),
            exemplars: Box::default(),
            count: 0,
            sum: 0,
            min: u64::MAX,
            max: 0,
        }
    }

    /// Counts one value.
    pub fn record(&mut self, value: u64, exemplar: Option<Exemplar>) {
        let bucket = self.bounds.bucket(value);
        self.counts[bucket] += 1;
        self.count += 1;
        self.sum += u128::from(value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if exemplar.is_some() {
            self.offer(bucket, exemplar);
        }
    }

    /// Gives a value that was counted its exemplar.
    pub(super) fn exemplify(&mut self, value: u64, exemplar: Option<Exemplar>) {
        let bucket = self.bounds.bucket(value);
        self.offer(bucket, exemplar);
    }

    /// Adds all values of `other`, which has the same bounds.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        for (bucket, exemplar) in other.exemplars.iter().enumerate() {
            self.offer(bucket, *exemplar);
        }
    }

    /// What was counted since it was `earlier`. Least and greatest value of that are not known.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        if earlier.count == 0 {
            return since;
        }
        for (mine, before) in since.counts.iter_mut().zip(&earlier.counts) {
            *mine -= before;
        }
        since.count -= earlier.count;
        since.sum -= earlier.sum;
        (since.min, since.max) = UNKNOWN;
        for (mine, before) in since.exemplars.iter_mut().zip(&earlier.exemplars) {
            *mine = mine.filter(|exemplar| Some(exemplar) != before.as_ref());
        }
        since
    }

    /// Keeps the latest; of the same time the greatest, so that order never decides.
    fn offer(&mut self, bucket: usize, exemplar: Option<Exemplar>) {
        if self.exemplars.is_empty() {
            self.exemplars = vec![None; self.counts.len()].into();
        }
        let slot = &mut self.exemplars[bucket];
        *slot = (*slot).max(exemplar);
    }

    /// The bounds.
    #[must_use]
    pub const fn bounds(&self) -> &'static Bounds {
        self.bounds
    }

    /// Counts of the buckets, not cumulative; the last one is above all bounds.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// The latest exemplar of each bucket.
    #[must_use]
    pub fn exemplars(&self) -> &[Option<Exemplar>] {
        &self.exemplars
    }

    /// Number of values.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values, in shown units.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum as f64 / self.bounds.per_unit
    }

    /// Sum of the values, in whole units.
    #[must_use]
    pub const fn whole_sum(&self) -> u128 {
        self.sum
    }

    /// Least and greatest value, in shown units; `None` without any, and where they are not known.
    #[must_use]
    pub fn range(&self) -> Option<(f64, f64)> {
        let shown = |value: u64| value as f64 / self.bounds.per_unit;
        let known = self.count > 0 && (self.min, self.max) != UNKNOWN;
        known.then(|| (shown(self.min), shown(self.max)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shown_as_they_are_counted() {
        for bounds in [&REQUEST_SECONDS, &DATABASE_SECONDS, &BYTES] {
            assert_eq!(bounds.raw.len(), bounds.shown.len());
            for (raw, shown) in bounds.raw.iter().zip(bounds.shown) {
                assert_eq!((shown * bounds.per_unit).round() as u64, *raw);
            }
        }
    }

    #[test]
    fn a_bound_belongs_to_the_bucket_below_it() {
        let mut histogram = Explicit::new(&DATABASE_SECONDS);
        for nanos in [0, 1_000_000, 1_000_001, 10_000_000_000, 10_000_000_001] {
            histogram.record(nanos, None);
        }
        assert_eq!(histogram.counts(), [2, 1, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(histogram.whole_sum(), 20_002_000_002);
        assert_eq!(histogram.range(), Some((0.0, 10.000_000_001)));
    }

    #[test]
    fn what_was_counted_since_and_before_is_all() {
        let of = |values: &[u64]| {
            let mut histogram = Explicit::new(&BYTES);
            for value in values {
                histogram.record(*value, None);
            }
            histogram
        };
        let (before, all) = (of(&[3, 70]), of(&[3, 70, 4, 20_000]));
        let since = all.since(&before);
        assert_eq!(since.counts(), of(&[4, 20_000]).counts());
        assert_eq!((since.count(), since.whole_sum()), (2, 20_004));
        assert_eq!(since.range(), None);
        assert_eq!(all.since(&of(&[])).range(), Some((3.0, 20_000.0)));
        let mut merged = before.clone();
        merged.merge(&since);
        assert_eq!(merged.counts(), all.counts());
        assert_eq!(merged.whole_sum(), all.whole_sum());
        assert_eq!(merged.range(), None, "of a part it is not known");
    }

    #[test]
    fn the_latest_exemplar_of_a_bucket_stays_in_whatever_order_they_come() {
        let exemplar = |time: u64| Exemplar {
            time: Nanos(time),
            value: 7,
            trace_id: [1; 16],
            span_id: [2; 8],
        };
        let (mut one, mut two) = (Explicit::new(&BYTES), Explicit::new(&BYTES));
        one.record(7, Some(exemplar(3)));
        one.record(7, Some(exemplar(2)));
        one.record(7, None);
        two.record(8, Some(exemplar(9)));
        let mut other = two.clone();
        other.merge(&one);
        one.merge(&two);
        assert_eq!(one.exemplars()[2], Some(exemplar(9)));
        assert_eq!(one.exemplars(), other.exemplars());
        assert_eq!(one.exemplars().iter().flatten().count(), 1);
    }
}
