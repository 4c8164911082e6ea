//! How long to wait before asking again.

use std::time::Duration;

/// Waits that double, each shortened by up to half, so that the agents of many nodes do not come back
/// at once when an API server does.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
    /// State of a small generator: waits need not be unpredictable, only different.
    noise: u64,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self {
            first,
            longest,
            next: first,
            noise: seed | 1,
        }
    }

    /// It works again: the next wait is the first one.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next wait: at least what was asked for, if that is not too long.
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let wait = self.jittered(self.next);
        self.next = (self.next * 2).min(self.longest);
        wait.max(asked.unwrap_or_default().min(self.longest))
    }

    /// From half of a time to all of it.
    pub(crate) fn jittered(&mut self, time: Duration) -> Duration {
        // xorshift64
        self.noise ^= self.noise << 13;
        self.noise ^= self.noise >> 7;
        self.noise ^= self.noise << 17;
        time - time.mul_f64((self.noise % 256) as f64 / 512.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_differ_and_begin_again() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, longest, 7);
        for i in 0..8 {
            let full = (first * (1 << i)).min(longest);
            let wait = backoff.wait(None);
            assert!(wait <= full && wait >= full / 2, "{wait:?}");
        }
        backoff.reset();
        assert!(backoff.wait(None) <= first);
        let mut other = Backoff::new(first, longest, 77);
        assert_ne!(
            backoff.wait(None),
            (0..2).map(|_| other.wait(None)).last().unwrap_or_default()
        );
    }

    #[test]
    fn the_server_may_ask_for_a_time_but_not_for_any() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), 7);
        assert_eq!(backoff.wait(Some(Duration::from_secs(7))).as_secs(), 7);
        assert_eq!(backoff.wait(Some(Duration::MAX)).as_secs(), 30);
    }
}
