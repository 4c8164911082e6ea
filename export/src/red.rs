//! RED statistics: rate, errors and durations for each (protocol, server, operation).
//!
//! The number of series is bounded, whatever the traffic names its operations: beyond
//! [`MAX_SERIES`], exchanges of new series are counted in one row of their own.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
use wirespan_engine::{Address, Exchange};

use crate::histogram::Histogram;

/// Most series that are told apart.
pub const MAX_SERIES: usize = 2_048;

/// What is known of a set of exchanges.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Exchanges.
    pub count: u64,
    /// Those that are errors from the server's side.
    pub errors: u64,
    /// Those without a response; they are errors too.
    pub no_response: u64,
    /// Durations, of those exchanges whose duration is known.
    pub durations: Histogram,
}

impl Summary {
    /// Errors as a share of all exchanges, 0 to 1; zero without exchanges.
    #[must_use]
    pub fn error_share(&self) -> f64 {
        self.errors as f64 / self.count.max(1) as f64
    }

    fn record(&mut self, exchange: &Exchange<'_>) {
        self.count += 1;
        self.errors += u64::from(exchange.error());
        self.no_response += u64::from(exchange.outcome.is_none());
        if let Some(nanos) = exchange.duration {
            self.durations.record(nanos);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.no_response += other.no_response;
        self.durations.merge(&other.durations);
    }
}

/// One row: the exchanges of one operation of one server.
#[derive(Clone, Debug)]
pub struct Series {
    /// Protocol of the records.
    pub protocol: &'static str,
    /// The peer that answered.
    pub server: Address,
    /// Operation of the records.
    pub operation: Box<str>,
    /// The exchanges.
    pub summary: Summary,
}

/// Aggregates exchanges. Use one for each worker and merge them at the end.
#[derive(Clone, Debug, Default)]
pub struct Red {
    hasher: DefaultHashBuilder,
    /// Positions in `series`, by protocol, server and operation.
    index: HashTable<u32>,
    /// In order of first sight; at most [`MAX_SERIES`].
    series: Vec<Series>,
    /// Position of the series found last: the next exchange is often another of it.
    latest: usize,
    /// The exchanges of all further series.
    other: Summary,
}

impl Red {
    /// Counts one exchange.
    pub fn record(&mut self, exchange: &Exchange<'_>) {
        let (protocol, server) = (exchange.protocol.0, exchange.server);
        self.summary(protocol, server, exchange.operation)
            .record(exchange);
    }

    /// Adds everything that `other` has counted. Which series are told apart depends on the order
    /// of merging only when there are more than [`MAX_SERIES`].
    pub fn merge(&mut self, other: &Self) {
        for series in &other.series {
            self.summary(series.protocol, series.server, &series.operation)
                .merge(&series.summary);
        }
        self.other.merge(&other.other);
    }

    /// The series, those with the most exchanges first.
    #[must_use]
    pub fn rows(&self) -> Vec<&Series> {
        let mut rows: Vec<_> = self.series.iter().collect();
        rows.sort_by(|a, b| {
            let key = |row: &&Series| (row.protocol, row.server);
            let most_first = b.summary.count.cmp(&a.summary.count);
            most_first
                .then_with(|| key(a).cmp(&key(b)))
                .then_with(|| a.operation.cmp(&b.operation))
        });
        rows
    }

    /// The exchanges beyond the bound on series.
    #[must_use]
    pub const fn other(&self) -> &Summary {
        &self.other
    }

    /// All exchanges together.
    #[must_use]
    pub fn total(&self) -> Summary {
        let mut total = self.other.clone();
        for series in &self.series {
            total.merge(&series.summary);
        }
        total
    }

    /// The summary of a series; allocates only when the series is new.
    fn summary(
        &mut self,
        protocol: &'static str,
        server: Address,
        operation: &str,
    ) -> &mut Summary {
        let is_it = |series: &Series| {
            series.server == server
                && *series.operation == *operation
                && series.protocol == protocol
        };
        if self.series.get(self.latest).is_some_and(is_it) {
            return &mut self.series[self.latest].summary;
        }
        let hash = self.hasher.hash_one((protocol, server, operation));
        let found = |at: &u32| is_it(&self.series[*at as usize]);
        if let Some(at) = self.index.find(hash, found) {
            self.latest = *at as usize;
            return &mut self.series[self.latest].summary;
        }
        if self.series.len() >= MAX_SERIES {
            return &mut self.other;
        }
        let at = self.series.len();
        self.series.push(Series {
            protocol,
            server,
            operation: operation.into(),
            summary: Summary::default(),
        });
        let (hasher, series) = (&self.hasher, &self.series);
        self.index.insert_unique(hash, at as u32, |at| {
            let series = &series[*at as usize];
            hasher.hash_one((series.protocol, series.server, &*series.operation))
        });
        &mut self.series[at].summary
    }
}

#[cfg(test)]
mod tests {
    use wirespan_engine::api::Outcome;

    use super::*;
    use crate::fixture::with_exchange;

    fn recorded(operations: &[&str]) -> Red {
        let mut red = Red::default();
        with_exchange(|exchange| {
            for operation in operations {
                red.record(&Exchange {
                    operation,
                    ..exchange
                });
            }
        });
        red
    }

    fn counts(red: &Red) -> Vec<(&str, u64)> {
        let rows = red.rows().into_iter();
        rows.map(|series| (&*series.operation, series.summary.count))
            .collect()
    }

    #[test]
    fn a_row_counts_errors_unanswered_requests_and_known_durations() {
        let mut red = Red::default();
        with_exchange(|mut exchange| {
            for outcome in [Outcome::Ok, Outcome::ClientFault, Outcome::Error] {
                exchange.outcome = Some(outcome);
                red.record(&exchange);
            }
            (exchange.outcome, exchange.duration) = (None, None);
            red.record(&exchange);
        });
        let total = red.total();
        assert_eq!((total.count, total.errors, total.no_response), (4, 2, 1));
        assert_eq!(total.durations.count(), 3);
        assert!((total.error_share() - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_busiest_row_comes_first_and_ties_are_in_order_of_their_key() {
        let red = recorded(&["PUT", "GET", "POST", "GET"]);
        assert_eq!(counts(&red), [("GET", 2), ("POST", 1), ("PUT", 1)]);
    }

    #[test]
    fn servers_and_protocols_are_told_apart() {
        let mut red = recorded(&["GET"]);
        with_exchange(|mut exchange| {
            exchange.server = ([10, 0, 0, 2], 81).into();
            red.record(&exchange);
            exchange.protocol.0 = "redis";
            red.record(&exchange);
        });
        assert_eq!(red.rows().len(), 3);
    }

    #[test]
    fn merged_parts_equal_the_whole() {
        let mut merged = recorded(&["GET", "PUT"]);
        merged.merge(&recorded(&["PUT", "PUT"]));
        assert_eq!(
            counts(&merged),
            counts(&recorded(&["GET", "PUT", "PUT", "PUT"]))
        );
    }

    #[test]
    fn beyond_the_bound_new_series_share_one_row_and_known_ones_go_on() {
        let names: Vec<_> = (0..MAX_SERIES + 100).map(|i| format!("M{i}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut red = recorded(&names);
        red.merge(&recorded(&["M0", "another"]));
        assert_eq!(red.rows().len(), MAX_SERIES);
        assert_eq!(red.other().count, 101);
        assert_eq!(counts(&red)[0], ("M0", 2));
        assert_eq!(red.total().count, MAX_SERIES as u64 + 102);
    }
}
