//! What happened to every byte, connection and exchange. Nothing is lost silently.

use std::collections::BTreeMap;

use wirespan_parser_api::{Direction, ErrorKind};

use crate::both::Both;
use crate::types::Close;

/// Counters of one engine, or of several added up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stats {
    /// Connections opened.
    pub connections: u64,
    /// Connections closed, by how.
    pub closed: BTreeMap<Close, u64>,
    /// Stream bytes taken in, duplicates not counted, plus bytes declared lost.
    pub intake: u64,
    /// Bytes that had been seen before: retransmissions, overlaps.
    pub duplicate_bytes: u64,
    /// Bytes given twice with different values while the first copy was still held; it won.
    pub conflicting_bytes: u64,
    /// Bytes before the point from which a connection joined in the middle is read.
    pub early_bytes: u64,
    /// Bytes beyond the end that their stream had announced.
    pub late_bytes: u64,
    /// Connections that turned opaque, by reason.
    pub opaque: BTreeMap<&'static str, u64>,
    /// By protocol; `opaque` for connections of which none was found.
    pub protocols: BTreeMap<&'static str, ProtocolStats>,
    /// Parse errors by protocol, kind and what was being read.
    pub errors: BTreeMap<(&'static str, ErrorKind, &'static str), u64>,
    /// Connections closed because there were too many.
    pub evicted_connections: u64,
    /// Exchanges reported before their end because there were too many.
    pub evicted_exchanges: u64,
    /// Exchanges reported as they stood because they waited too long.
    pub expired_exchanges: u64,
    /// Reports of exchanges that were still open.
    pub open_reports: u64,
    /// Parsers that panicked or broke the contract; their connections turned opaque.
    pub parser_faults: u64,
}

/// Counters of one protocol.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProtocolStats {
    /// Connections (or parts of them, after an upgrade) that were this protocol.
    pub connections: u64,
    /// Exchanges reported.
    pub exchanges: u64,
    /// Exchanges reported without a response.
    pub no_response: u64,
    /// Responses to no request that was seen.
    pub orphans: u64,
    /// Messages that no request asked for, by kind.
    pub pushes: BTreeMap<&'static str, u64>,
    /// What its parser found worth counting, such as `unknown HPACK entries`.
    pub counted: BTreeMap<&'static str, u64>,
    /// Holes that cost something: not inside bytes that were skipped anyway.
    pub gaps: u64,
    /// Holes inside skipped bytes.
    pub gaps_skipped: u64,
    /// Times that a message boundary was found again.
    pub resyncs: u64,
    /// What became of the bytes.
    pub bytes: Both<Ledger>,
}

/// What became of the bytes of one protocol in one direction:
/// `seen == parsed + skipped + lost + unparsed`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ledger {
    /// Positions of the stream that went by.
    pub seen: u64,
    /// Read by a parser.
    pub parsed: u64,
    /// Not needed by the parser: bodies, rows, values.
    pub skipped: u64,
    /// Never captured.
    pub lost: u64,
    /// Captured and not parsed, by reason.
    pub unparsed: BTreeMap<&'static str, u64>,
}

impl Ledger {
    /// Unparsed bytes over all reasons.
    #[must_use]
    pub fn unparsed_total(&self) -> u64 {
        self.unparsed.values().sum()
    }

    /// Whether every byte has gone exactly one way.
    #[must_use]
    pub fn balances(&self) -> bool {
        let parts = [self.parsed, self.skipped, self.lost, self.unparsed_total()];
        self.seen == parts.iter().sum::<u64>()
    }

    fn merge(&mut self, other: &Self) {
        add(&mut self.seen, other.seen);
        add(&mut self.parsed, other.parsed);
        add(&mut self.skipped, other.skipped);
        add(&mut self.lost, other.lost);
        add_all(&mut self.unparsed, &other.unparsed);
    }
}

impl ProtocolStats {
    /// Pushes over all kinds.
    #[must_use]
    pub fn pushes_total(&self) -> u64 {
        self.pushes.values().sum()
    }

    fn merge(&mut self, other: &Self) {
        add(&mut self.connections, other.connections);
        add(&mut self.exchanges, other.exchanges);
        add(&mut self.no_response, other.no_response);
        add(&mut self.orphans, other.orphans);
        add_all(&mut self.pushes, &other.pushes);
        add_all(&mut self.counted, &other.counted);
        add(&mut self.gaps, other.gaps);
        add(&mut self.gaps_skipped, other.gaps_skipped);
        add(&mut self.resyncs, other.resyncs);
        for dir in [Direction::ToServer, Direction::ToClient] {
            self.bytes[dir].merge(&other.bytes[dir]);
        }
    }
}

impl Stats {
    /// Adds the counters of another engine.
    pub fn merge(&mut self, other: &Self) {
        add(&mut self.connections, other.connections);
        add_all(&mut self.closed, &other.closed);
        add(&mut self.intake, other.intake);
        add(&mut self.duplicate_bytes, other.duplicate_bytes);
        add(&mut self.conflicting_bytes, other.conflicting_bytes);
        add(&mut self.early_bytes, other.early_bytes);
        add(&mut self.late_bytes, other.late_bytes);
        add_all(&mut self.opaque, &other.opaque);
        for (name, stats) in &other.protocols {
            self.protocols.entry(name).or_default().merge(stats);
        }
        add_all(&mut self.errors, &other.errors);
        add(&mut self.evicted_connections, other.evicted_connections);
        add(&mut self.evicted_exchanges, other.evicted_exchanges);
        add(&mut self.expired_exchanges, other.expired_exchanges);
        add(&mut self.open_reports, other.open_reports);
        add(&mut self.parser_faults, other.parser_faults);
    }

    /// Exchanges over all protocols.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.protocols.values().map(|p| p.exchanges).sum()
    }
}

pub(crate) fn add(to: &mut u64, n: u64) {
    *to = to.saturating_add(n);
}

fn add_all<K: Ord + Copy>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, n) in from {
        add(to.entry(*key).or_default(), *n);
    }
}
