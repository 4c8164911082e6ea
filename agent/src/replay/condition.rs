//! Conditions on the outcome of a replay: `--fail-on 'errors > 1%'`.

use std::fmt;
use std::str::FromStr;

use wirespan_engine::Stats;
use wirespan_export::honesty;
use wirespan_export::red::Summary;
use wirespan_export::table::human_duration;

use crate::units::Duration;

/// A metric, an operator and a bound.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    /// As the user wrote it.
    text: String,
    metric: Metric,
    comparison: Comparison,
    bound: Bound,
}

#[derive(Clone, Copy, Debug)]
enum Metric {
    /// A number of exchanges, which is also a share of all.
    Share(fn(&Summary) -> u64),
    /// A number.
    Count(fn(&Summary, &Stats) -> u64),
    /// A duration; unknown without exchanges.
    Time(fn(&Summary) -> Option<u64>),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Comparison {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Percent(f64),
    Number(u64),
    Time(Duration),
}

/// The metrics by name.
const METRICS: [(&str, Metric); 15] = [
    ("errors", Metric::Share(|summary| summary.errors)),
    ("no_response", Metric::Share(|summary| summary.no_response)),
    ("count", Metric::Count(|summary, _| summary.count)),
    (
        "p50",
        Metric::Time(|summary| summary.durations.quantile(0.50)),
    ),
    (
        "p95",
        Metric::Time(|summary| summary.durations.quantile(0.95)),
    ),
    (
        "p99",
        Metric::Time(|summary| summary.durations.quantile(0.99)),
    ),
    ("max", Metric::Time(|summary| summary.durations.max())),
    ("lost", Metric::Count(|_, stats| honesty::lost_bytes(stats))),
    ("gaps", Metric::Count(|_, stats| honesty::gaps(stats))),
    (
        "parse_errors",
        Metric::Count(|_, stats| stats.errors.values().sum()),
    ),
    (
        "orphans",
        Metric::Count(|_, stats| sum(stats, |protocol| protocol.orphans)),
    ),
    (
        "resyncs",
        Metric::Count(|_, stats| sum(stats, |protocol| protocol.resyncs)),
    ),
    (
        "opaque",
        Metric::Count(|_, stats| stats.opaque.values().sum()),
    ),
    (
        "evictions",
        Metric::Count(|_, stats| honesty::evictions(stats)),
    ),
    (
        "unparsed",
        Metric::Count(|_, stats| honesty::unparsed_bytes(stats)),
    ),
];

fn sum(stats: &Stats, part: fn(&wirespan_engine::ProtocolStats) -> u64) -> u64 {
    stats.protocols.values().map(part).sum()
}

/// Longer operators first, so that `>=` is not read as `>`.
const COMPARISONS: [(&str, Comparison); 6] = [
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

impl Condition {
    /// If the condition holds, what was found. A duration that is not known satisfies nothing.
    pub(crate) fn holds(&self, summary: &Summary, stats: &Stats) -> Option<String> {
        let (found, bound, text) = match (self.metric, self.bound) {
            (Metric::Share(part), Bound::Percent(bound)) => {
                let (part, all) = (part(summary), summary.count);
                let share = part as f64 / all.max(1) as f64 * 100.0;
                (share, bound, format!("{share:.2}%, {part} of {all}"))
            }
            (Metric::Share(part), Bound::Number(bound)) => {
                let part = part(summary);
                (part as f64, bound as f64, part.to_string())
            }
            (Metric::Count(part), Bound::Number(bound)) => {
                let part = part(summary, stats);
                (part as f64, bound as f64, part.to_string())
            }
            (Metric::Time(part), Bound::Time(bound)) => {
                let nanos = part(summary)?;
                (nanos as f64, bound.0 as f64, human_duration(nanos))
            }
            // `from_str` makes no other pair.
            _ => return None,
        };
        self.comparison
            .holds(found, bound)
            .then(|| format!("failed on '{}': it is {text}", self.text))
    }
}

impl Comparison {
    fn holds(self, found: f64, bound: f64) -> bool {
        match self {
            Self::Greater => found > bound,
            Self::GreaterOrEqual => found >= bound,
            Self::Less => found < bound,
            Self::LessOrEqual => found <= bound,
            Self::Equal => found == bound,
            Self::NotEqual => found != bound,
        }
    }
}

/// Why a text is not a condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum NotACondition {
    Operator,
    Metric(String),
    Bound(&'static str),
}

impl fmt::Display for NotACondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => {
                f.write_str("expected METRIC OPERATOR BOUND, such as 'errors > 1%' or 'p99 >= 1s'")
            }
            Self::Metric(name) => {
                let known: Vec<_> = METRICS.iter().map(|(name, _)| *name).collect();
                write!(
                    f,
                    "there is no metric '{name}'; known are {}",
                    known.join(", ")
                )
            }
            Self::Bound(expected) => write!(f, "expected {expected}"),
        }
    }
}

impl std::error::Error for NotACondition {}

impl FromStr for Condition {
    type Err = NotACondition;

    fn from_str(text: &str) -> Result<Self, NotACondition> {
        let at = text
            .find(['<', '>', '=', '!'])
            .ok_or(NotACondition::Operator)?;
        let (name, rest) = text.split_at(at);
        let (comparison, bound) = COMPARISONS
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))
            .ok_or(NotACondition::Operator)?;
        let (name, bound) = (name.trim(), bound.trim());
        let (_, metric) = METRICS
            .into_iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| NotACondition::Metric(name.into()))?;
        Ok(Self {
            text: text.trim().into(),
            metric,
            comparison,
            bound: metric.bound(bound)?,
        })
    }
}

impl Metric {
    fn bound(self, text: &str) -> Result<Bound, NotACondition> {
        let number = |expected| {
            let number = text.parse().map(Bound::Number);
            number.map_err(|_| NotACondition::Bound(expected))
        };
        match (self, text.strip_suffix('%')) {
            (Self::Share(_), Some(percent)) => match percent.trim_end().parse::<f64>() {
                Ok(percent) if percent.is_finite() => Ok(Bound::Percent(percent)),
                _ => Err(NotACondition::Bound("a share such as 1.5%")),
            },
            (Self::Share(_), None) => number("a share such as 1%, or a number of exchanges"),
            (Self::Count(_), _) => number("a whole number"),
            (Self::Time(_), _) => {
                let time = text.parse().map(Bound::Time);
                time.map_err(|_| NotACondition::Bound("a duration such as 100ms"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(condition: &str) -> bool {
        let mut summary = Summary {
            count: 200,
            errors: 3,
            no_response: 1,
            ..Summary::default()
        };
        summary.durations.record(20_000_000);
        let mut stats = Stats::default();
        stats.protocols.entry("http").or_default().gaps = 2;
        let condition: Condition = condition.parse().expect("a condition");
        condition.holds(&summary, &stats).is_some()
    }

    #[test]
    fn shares_are_compared_in_percent_and_as_numbers() {
        assert!(holds("errors > 1%"));
        assert!(holds("errors == 1.5%"));
        assert!(!holds("errors > 1.5 %"));
        assert!(holds("errors>2"));
        assert!(!holds("no_response > 1"));
    }

    #[test]
    fn durations_and_counts_are_compared_by_every_operator() {
        for condition in [
            "max >= 20ms",
            "p50 <= 20ms",
            "p99 > 19ms",
            "count == 200",
            "gaps != 0",
        ] {
            assert!(holds(condition), "{condition}");
        }
        for condition in ["max > 20ms", "p95 < 1us", "count < 200", "lost > 0"] {
            assert!(!holds(condition), "{condition}");
        }
    }

    #[test]
    fn a_duration_that_nobody_knows_fails_nothing() {
        let condition: Condition = "p99 < 1s".parse().expect("a condition");
        assert_eq!(
            condition.holds(&Summary::default(), &Stats::default()),
            None
        );
    }

    #[test]
    fn the_message_says_what_was_found() {
        let condition: Condition = " errors > 1% ".parse().expect("a condition");
        let summary = Summary {
            count: 40,
            errors: 5,
            ..Summary::default()
        };
        assert_eq!(
            condition.holds(&summary, &Stats::default()).as_deref(),
            Some("failed on 'errors > 1%': it is 12.50%, 5 of 40")
        );
    }

    #[test]
    fn what_is_no_condition_is_refused_with_a_hint() {
        let refused = |text: &str| text.parse::<Condition>().expect_err("refused");
        assert_eq!(refused("errors"), NotACondition::Operator);
        assert_eq!(refused("errors = 1%"), NotACondition::Operator);
        assert_eq!(refused("eror > 1%"), NotACondition::Metric("eror".into()));
        for text in [
            "errors > x%",
            "errors > 0.01",
            "p99 > 100",
            "count > 1%",
            "max > 1%",
        ] {
            assert!(matches!(refused(text), NotACondition::Bound(_)), "{text}");
        }
    }
}
