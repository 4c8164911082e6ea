//! How long to wait before trying again.

use std::time::Duration;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait, unless the backend asks for a longer one.
const LONGEST: Duration = Duration::from_secs(30);
/// What a backend may ask for.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits that double, each shortened by up to a quarter, so that many agents do not come back at
/// once.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    /// State of a small generator: waits need not be unpredictable, only different.
    noise: u64,
}

impl Backoff {
    pub(crate) const fn new(seed: u64) -> Self {
        Self {
            next: FIRST,
            noise: seed | 1,
        }
    }

    /// The next wait; what the backend asked for, if it did.
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        if let Some(asked) = asked {
            return asked.min(PATIENCE);
        }
        let wait = self.next;
        self.next = (self.next * 2).min(LONGEST);
        // xorshift64
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        wait - wait.mul_f64((self.noise % 256) as f64 / 1_024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let (mut one, mut two) = (Backoff::new(1), Backoff::new(77));
        let waits: Vec<_> = (0..8).map(|_| one.wait(None)).collect();
        for (i, wait) in waits.iter().enumerate() {
            let full = FIRST.saturating_mul(1 << i).min(LONGEST);
            assert!(*wait <= full && *wait >= full.mul_f64(0.74), "{wait:?}");
        }
        assert_ne!(
            waits[3],
            (0..4).map(|_| two.wait(None)).last().expect("four")
        );
    }

    #[test]
    fn the_backend_may_ask_for_a_time_but_not_for_any() {
        let mut backoff = Backoff::new(1);
        assert_eq!(backoff.wait(Some(Duration::from_secs(7))).as_secs(), 7);
        assert_eq!(backoff.wait(Some(Duration::MAX)), PATIENCE);
    }
}
