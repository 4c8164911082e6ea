//! When open exchanges are looked at again.

use crate::types::{Config, Nanos, TICK};

/// Most reports of one exchange at once: of a longer silence the last so many.
const MAX_REPORTS: u64 = 64;

/// A time that does not come.
pub(crate) const NEVER: Nanos = Nanos(u64::MAX);

/// How long exchanges may be open before something is done about them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    request_wait: u64,
    report_open: Option<u64>,
}

impl Timers {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            request_wait: config.request_wait,
            report_open: config.report_open,
        }
    }

    /// The first moment at which an exchange that has moved at `time` has waited too long.
    pub(crate) fn expiry(&self, time: Nanos) -> Nanos {
        let wait = self.request_wait.saturating_add(1);
        Nanos(time.0.saturating_add(wait))
    }

    /// When an exchange that began at `start` is reported first after `time`: at a multiple of the
    /// period since its start, rounded up to one of [`TICK`]. What is known then does not depend on
    /// when the tick comes that says so.
    pub(crate) fn report(&self, start: Nanos, time: Nanos) -> Nanos {
        let Some(period) = self.report_open.map(|period| period.max(1)) else {
            return NEVER;
        };
        let passed = time.since(start).checked_div(period).unwrap_or(0);
        let since = passed.saturating_add(1).saturating_mul(period);
        let at = start.0.saturating_add(since).div_ceil(TICK);
        Nanos(at.saturating_mul(TICK))
    }

    /// The report from which to go on at `now`, where `due` is the first that was not given.
    pub(crate) fn resume(&self, start: Nanos, due: Nanos, now: Nanos) -> Nanos {
        let period = self.report_open.unwrap_or(0).max(TICK);
        let silence = period.saturating_mul(MAX_REPORTS);
        if now.since(due) < silence {
            return due;
        }
        self.report(start, Nanos(now.0.saturating_sub(silence)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn timers(report_open: u64) -> Timers {
        Timers::new(&Config {
            report_open: Some(report_open),
            ..Config::default()
        })
    }

    #[test]
    fn reports_fall_on_the_first_tick_behind_a_multiple_of_the_period() {
        let start = Nanos(100 * SECOND + 1);
        let first = timers(SECOND).report(start, start);
        assert_eq!(first, Nanos(101 * SECOND + TICK));
        let second = timers(SECOND).report(start, first);
        assert_eq!(second, Nanos(102 * SECOND + TICK));
        assert_eq!(Timers::new(&Config::default()).report(start, start), NEVER);
    }

    #[test]
    fn a_period_shorter_than_a_tick_gives_a_report_at_each_tick() {
        let start = Nanos(10 * TICK);
        let mut at = start;
        for tick in 11..15 {
            at = timers(TICK / 3).report(start, at);
            assert_eq!(at, Nanos(tick * TICK));
        }
    }

    #[test]
    fn a_leap_of_the_clock_gives_a_bounded_number_of_reports() {
        let (start, timers) = (Nanos(0), timers(SECOND));
        let due = timers.report(start, start);
        assert_eq!(timers.resume(start, due, Nanos(60 * SECOND)), due);
        let now = Nanos(100_000 * SECOND);
        let mut at = timers.resume(start, due, now);
        let mut reports = 0;
        while at <= now {
            reports += 1;
            at = timers.report(start, at);
        }
        assert_eq!(reports, MAX_REPORTS);
    }
}
