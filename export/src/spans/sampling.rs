//! Which spans are kept.
//!
//! Whether a trace is kept depends on its id alone, so that every node keeps the same ones. What is
//! kept in any case (failures, the slowest) is kept beside that. A span's weight says how many
//! spans it stands for: sums over weights estimate what was there. Exact counts are in the metrics.

use std::hash::{DefaultHasher, Hasher as _};

use crate::semconv::Facts;

/// Head sampling: which traces are recorded at all. By the names of `OTEL_TRACES_SAMPLER`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Head {
    /// Whether a decision that came with the request is honoured.
    pub parent_based: bool,
    /// Share of the other traces that is recorded, 0 to 1.
    pub ratio: f64,
}

impl Default for Head {
    /// `parentbased_always_on`
    fn default() -> Self {
        Self {
            parent_based: true,
            ratio: 1.0,
        }
    }
}

impl Head {
    /// The probability of a trace whose caller decided `sampled`.
    pub(super) fn probability(self, sampled: Option<bool>) -> f64 {
        match sampled {
            Some(true) if self.parent_based => 1.0,
            Some(false) if self.parent_based => 0.0,
            _ => self.ratio,
        }
    }
}

/// Tail sampling: which spans of recorded traces are kept. Failures always are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tail {
    /// Share of the unremarkable spans that is kept, 0 to 1; by trace.
    pub rate: f64,
    /// Whether the slowest percent of each operation is kept.
    pub slowest: bool,
}

impl Default for Tail {
    fn default() -> Self {
        Self {
            rate: 1.0,
            slowest: true,
        }
    }
}

/// For how many spans one of this trace stands; `None` where it is left out.
///
/// Trace ids need not be random: they are spread first.
pub(super) fn weight(trace_id: &[u8; 16], probability: f64) -> Option<f64> {
    if probability >= 1.0 {
        return Some(1.0);
    }
    let spread = crate::ids::spread(u128::from_be_bytes(*trace_id));
    // The upper 53 bits as a fraction of one, which is below one.
    let point = (spread >> 11) as f64 / (1_u64 << 53) as f64;
    (point < probability).then_some(1.0 / probability)
}

/// Operations that are told apart. Two that fall together share a threshold.
const SLOTS: usize = 1_024;
/// Durations before a threshold means anything.
const WARM_UP: u32 = 64;

/// Estimates the 99th percentile of each operation's durations, in 16 bytes an operation.
///
/// The estimate rises by 99 steps with each duration above it and falls by one with each below: it
/// rests where one in a hundred is above.
#[derive(Clone, Debug)]
pub(super) struct Slowest {
    /// By a hash that is the same in each run.
    slots: Box<[Threshold]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Threshold {
    nanos: u64,
    seen: u32,
}

impl Default for Slowest {
    fn default() -> Self {
        Self {
            slots: vec![Threshold::default(); SLOTS].into(),
        }
    }
}

impl Slowest {
    /// Whether a duration is among the slowest percent of its operation.
    pub(super) fn is_slow(&mut self, facts: &Facts<'_>, duration: Option<u64>) -> bool {
        let Some(nanos) = duration else {
            return false;
        };
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(facts.instrument as u8);
        let operation = facts.rpc_method.or(facts.db_summary).or(facts.db_operation);
        hasher.write(operation.or(facts.method).unwrap_or("").as_bytes());
        hasher.write(facts.route.map_or("", |(route, _)| route).as_bytes());
        let slot = hasher.finish() as usize % SLOTS;
        self.slots[slot].is_below(nanos)
    }
}

impl Threshold {
    fn is_below(&mut self, nanos: u64) -> bool {
        if self.seen == 0 {
            self.nanos = nanos;
        }
        self.seen = self.seen.saturating_add(1);
        let step = (self.nanos >> 10).max(1);
        let above = nanos > self.nanos;
        if above {
            self.nanos = self.nanos.saturating_add(99 * step);
        } else {
            self.nanos = self.nanos.saturating_sub(step);
        }
        above && self.seen > WARM_UP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(i: u128) -> [u8; 16] {
        // As counters would make them: the share must not depend on ids being random.
        (i << 3 | 1).to_be_bytes()
    }

    #[test]
    fn a_share_of_traces_is_kept_and_its_weights_sum_to_all() {
        let weights: Vec<_> = (0..20_000).filter_map(|i| weight(&trace(i), 0.1)).collect();
        assert!((1_800..2_200).contains(&weights.len()), "{}", weights.len());
        let sum: f64 = weights.iter().sum();
        assert!((sum / 20_000.0 - 1.0).abs() < 0.1, "{sum}");
        assert_eq!(weight(&trace(1), 0.0), None);
        assert_eq!(weight(&trace(1), 1.0), Some(1.0));
    }

    #[test]
    fn what_is_kept_at_a_low_rate_is_kept_at_a_higher_one() {
        for i in 0..2_000 {
            if weight(&trace(i), 0.05).is_some() {
                assert!(weight(&trace(i), 0.5).is_some());
            }
        }
    }

    #[test]
    fn the_callers_decision_is_honoured() {
        let head = Head {
            parent_based: true,
            ratio: 0.25,
        };
        assert_eq!(head.probability(Some(true)), 1.0);
        assert_eq!(head.probability(Some(false)), 0.0);
        assert_eq!(head.probability(None), 0.25);
        let alone = Head {
            parent_based: false,
            ..head
        };
        assert_eq!(alone.probability(Some(true)), 0.25);
    }

    #[test]
    fn about_one_in_a_hundred_is_slow() {
        let mut threshold = Threshold::default();
        let mut slow = 0;
        for i in 0..100_000_u64 {
            // Uniform from 1 to 100 ms, in an order without pattern.
            let nanos = 1_000_000 + crate::ids::spread(i.into()) % 99_000_000;
            slow += u32::from(threshold.is_below(nanos));
        }
        assert!((500..2_000).contains(&slow), "{slow} of 100,000");
    }
}
