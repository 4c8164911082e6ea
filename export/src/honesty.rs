//! The honesty block: what was seen, and what became of it. Nothing is lost silently.
//!
//! Main rows are always there, also when they are zero; details and rare events only when they
//! happened.

use std::fmt::Write as _;

use wirespan_engine::api::Direction;
use wirespan_engine::{Ledger, ProtocolStats, Stats};

/// A list of counters with their names; details are indented below.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Block {
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Row {
    detail: bool,
    label: String,
    count: u64,
}

impl Block {
    /// Adds a row that is always shown.
    pub fn row(&mut self, label: &str, count: u64) {
        self.push(false, label, count);
    }

    /// Adds a row that is shown when `count` is not zero.
    pub fn rare(&mut self, label: &str, count: u64) {
        if count > 0 {
            self.push(false, label, count);
        }
    }

    /// Adds a detail of the row above, shown when `count` is not zero.
    pub fn detail(&mut self, label: &str, count: u64) {
        if count > 0 {
            self.push(true, label, count);
        }
    }

    /// Adds to the detail of this name below the last row, or makes it.
    pub fn add_detail(&mut self, label: &str, count: u64) {
        let below = self.rows.iter_mut().rev().take_while(|row| row.detail);
        match below.into_iter().find(|row| row.label == label) {
            Some(row) => row.count += count,
            None => self.detail(label, count),
        }
    }

    /// Adds the counters of the engine.
    pub fn engine(&mut self, stats: &Stats) {
        self.connections(stats);
        self.row("exchanges", stats.exchanges());
        self.bytes(stats);
        self.troubles(stats);
    }

    fn push(&mut self, detail: bool, label: &str, count: u64) {
        self.rows.push(Row {
            detail,
            label: label.into(),
            count,
        });
    }

    fn connections(&mut self, stats: &Stats) {
        self.row("connections", stats.connections);
        for (name, protocol) in &stats.protocols {
            if *name != "opaque" {
                self.detail(name, protocol.connections);
            }
        }
        self.row(
            "connections that stayed opaque",
            stats.opaque.values().sum(),
        );
        for (reason, count) in &stats.opaque {
            self.detail(reason, *count);
        }
    }

    fn bytes(&mut self, stats: &Stats) {
        let sum = |part: fn(&Ledger) -> u64| ledgers(stats).map(part).sum();
        self.row("stream bytes", sum(|ledger| ledger.seen));
        self.row("bytes parsed", sum(|ledger| ledger.parsed));
        self.row("bytes skipped", sum(|ledger| ledger.skipped));
        self.row("bytes lost", sum(|ledger| ledger.lost));
        self.row("bytes nobody parsed", unparsed_bytes(stats));
        for (reason, count) in ledgers(stats).flat_map(|ledger| &ledger.unparsed) {
            self.add_detail(reason, *count);
        }
        self.rare("bytes seen twice", stats.duplicate_bytes);
        self.rare(
            "bytes seen twice with different values",
            stats.conflicting_bytes,
        );
        self.rare("bytes before the point of joining", stats.early_bytes);
        self.rare("bytes behind the end of their stream", stats.late_bytes);
    }

    fn troubles(&mut self, stats: &Stats) {
        let sum = |part: fn(&ProtocolStats) -> u64| stats.protocols.values().map(part).sum();
        self.row("gaps", gaps(stats));
        self.detail(
            "inside skipped bytes",
            sum(|protocol| protocol.gaps_skipped),
        );
        self.row("parse errors", stats.errors.values().sum());
        for ((protocol, kind, what), count) in &stats.errors {
            self.detail(&format!("{protocol}: {kind}: {what}"), *count);
        }
        self.row("resyncs", sum(|protocol| protocol.resyncs));
        self.row(
            "requests without response",
            sum(|protocol| protocol.no_response),
        );
        self.row(
            "responses without request",
            sum(|protocol| protocol.orphans),
        );
        self.row(
            "messages nobody asked for",
            sum(ProtocolStats::pushes_total),
        );
        for (name, protocol) in &stats.protocols {
            for (kind, count) in &protocol.pushes {
                self.detail(&format!("{name}: {kind}"), *count);
            }
        }
        let unknown = |protocol: &ProtocolStats| {
            let counted = protocol.counted.get("unknown HPACK entries");
            counted.copied().unwrap_or_default()
        };
        self.row("unknown HPACK entries", sum(unknown));
        for (name, protocol) in &stats.protocols {
            for (what, count) in &protocol.counted {
                if *what != "unknown HPACK entries" {
                    self.rare(&format!("{name}: {what}"), *count);
                }
            }
        }
        self.row(
            "evictions",
            stats.evicted_connections + stats.evicted_exchanges,
        );
        self.detail("connections", stats.evicted_connections);
        self.detail("exchanges", stats.evicted_exchanges);
        self.rare("exchanges that waited too long", stats.expired_exchanges);
        self.rare("reports of open exchanges", stats.open_reports);
        self.rare("faults of parsers", stats.parser_faults);
    }

    /// The block as text, a row to a line, numbers flush right.
    #[must_use]
    pub fn render(&self) -> String {
        let name = |row: &Row| format!("{}{}", if row.detail { "  " } else { "" }, row.label);
        let names: Vec<_> = self.rows.iter().map(name).collect();
        let counts: Vec<_> = self.rows.iter().map(|row| row.count.to_string()).collect();
        let widest = |texts: &[String]| texts.iter().map(|text| text.chars().count()).max();
        let (left, right) = (widest(&names).unwrap_or(0), widest(&counts).unwrap_or(0));
        let mut text = String::new();
        for (name, count) in names.iter().zip(&counts) {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{name:<left$}  {count:>right$}");
        }
        text
    }
}

/// Holes, wherever they were.
#[must_use]
pub fn gaps(stats: &Stats) -> u64 {
    let holes = |protocol: &ProtocolStats| protocol.gaps + protocol.gaps_skipped;
    stats.protocols.values().map(holes).sum()
}

/// Stream bytes that were never captured.
#[must_use]
pub fn lost_bytes(stats: &Stats) -> u64 {
    ledgers(stats).map(|ledger| ledger.lost).sum()
}

/// Stream bytes that were captured and that no parser read or chose to skip.
#[must_use]
pub fn unparsed_bytes(stats: &Stats) -> u64 {
    ledgers(stats).map(Ledger::unparsed_total).sum()
}

/// Connections and exchanges that had to give way.
#[must_use]
pub fn evictions(stats: &Stats) -> u64 {
    stats.evicted_connections + stats.evicted_exchanges
}

fn ledgers(stats: &Stats) -> impl Iterator<Item = &Ledger> {
    stats.protocols.values().flat_map(|protocol| {
        [Direction::ToServer, Direction::ToClient].map(|dir| &protocol.bytes[dir])
    })
}

#[cfg(test)]
mod tests {
    use wirespan_engine::api::ErrorKind;

    use super::*;

    fn stats() -> Stats {
        let mut http = ProtocolStats {
            connections: 2,
            exchanges: 9,
            gaps: 1,
            gaps_skipped: 3,
            ..ProtocolStats::default()
        };
        let ledger = &mut http.bytes[Direction::ToServer];
        (ledger.seen, ledger.parsed, ledger.lost) = (100, 70, 10);
        ledger.unparsed.insert("looking for a boundary", 20);
        let mut stats = Stats {
            connections: 3,
            ..Stats::default()
        };
        stats.protocols.insert("http", http);
        stats.opaque.insert("not detected", 1);
        let error = ("http", ErrorKind::Malformed, "chunk size");
        stats.errors.insert(error, 4);
        stats
    }

    #[test]
    fn the_block_names_every_kind_of_loss() {
        let mut block = Block::default();
        block.row("packets", 12_345);
        block.engine(&stats());
        assert_eq!(
            block.render(),
            "\
packets                         12345
connections                         3
  http                              2
connections that stayed opaque      1
  not detected                      1
exchanges                           9
stream bytes                      100
bytes parsed                       70
bytes skipped                       0
bytes lost                         10
bytes nobody parsed                20
  looking for a boundary           20
gaps                                4
  inside skipped bytes              3
parse errors                        4
  http: malformed: chunk size       4
resyncs                             0
requests without response           0
responses without request           0
messages nobody asked for           0
unknown HPACK entries               0
evictions                           0
"
        );
    }

    #[test]
    fn rare_events_have_a_row_only_when_they_happened() {
        let mut block = Block::default();
        block.rare("faults of parsers", 0);
        assert_eq!(block.render(), "");
        block.rare("faults of parsers", 1);
        assert_eq!(block.render(), "faults of parsers  1\n");
        let mut stats = stats();
        for reports in [0, 3] {
            stats.open_reports = reports;
            let mut block = Block::default();
            block.engine(&stats);
            let said = block.render().contains("reports of open exchanges");
            assert_eq!(said, reports > 0);
        }
    }

    #[test]
    fn details_of_one_name_add_up_below_their_own_row_only() {
        let mut block = Block::default();
        for row in ["packets", "bytes"] {
            block.row(row, 9);
            block.add_detail("UDP", 1);
            block.add_detail("ARP", 5);
            block.add_detail("UDP", 2);
        }
        let part = |row: &str| format!("{row:<7}  9\n  UDP    3\n  ARP    5\n");
        assert_eq!(block.render(), part("packets") + &part("bytes"));
    }

    #[test]
    fn losses_are_summed_over_protocols_and_directions() {
        assert_eq!(gaps(&stats()), 4);
        assert_eq!(lost_bytes(&stats()), 10);
    }
}
