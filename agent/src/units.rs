//! Quantities as people write them on the command line.

use std::fmt;
use std::str::FromStr;

/// A duration in nanoseconds, written with a unit: `100ms`, `1.5s`, `250us`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Duration(pub(crate) u64);

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotADuration;

impl fmt::Display for NotADuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a number with a unit (ns, us, ms, s, m), such as 100ms")
    }
}

impl std::error::Error for NotADuration {}

impl Duration {
    /// So many seconds.
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(seconds * 1_000_000_000)
    }
}

/// In the largest unit of which it is a whole number.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
        ];
        let whole = |(nanos, _): &(u64, _)| self.0 > 0 && self.0.is_multiple_of(*nanos);
        let (nanos, unit) = units.into_iter().find(whole).unwrap_or((1, "ns"));
        write!(f, "{}{unit}", self.0 / nanos)
    }
}

impl FromStr for Duration {
    type Err = NotADuration;

    fn from_str(text: &str) -> Result<Self, NotADuration> {
        let unit_at = text.find(|c: char| c.is_alphabetic()).ok_or(NotADuration)?;
        let (number, unit) = text.split_at(unit_at);
        let nanos = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" | "min" => 60e9,
            _ => return Err(NotADuration),
        };
        let number: f64 = number.trim_end().parse().map_err(|_| NotADuration)?;
        // The cast saturates: whatever is too long is longer than any exchange.
        (number >= 0.0)
            .then_some(Self((number * nanos).round() as u64))
            .ok_or(NotADuration)
    }
}

/// A duration that can be the time between two events.
///
/// # Errors
///
/// What is wrong with the text.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(Duration(0)) => Err("expected more than no time, such as 10s".into()),
        Ok(period) => Ok(period),
        Err(error) => Err(NotADuration::to_string(&error)),
    }
}

/// A share, 0 to 1.
///
/// # Errors
///
/// What is wrong with the text.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_not_zero() {
        assert_eq!(period("2s"), Ok(Duration(2_000_000_000)));
        assert!(period("0s").is_err() && period("s").is_err());
    }

    #[test]
    fn durations_have_a_unit() {
        for (text, nanos) in [
            ("7ns", 7),
            ("250us", 250_000),
            ("250µs", 250_000),
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            ("2 m", 120_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(Duration(nanos)), "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_they_are_written() {
        for text in ["0ns", "7ns", "250us", "100ms", "1500ms", "90s", "5m"] {
            let duration: Duration = text.parse().expect("a duration");
            assert_eq!(duration.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "100", "ms", "-1s", "1h", "1.2.3s", "NaNs", "1e3"] {
            assert_eq!(text.parse::<Duration>(), Err(NotADuration), "{text}");
        }
    }
}
