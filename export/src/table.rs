//! Lines and tables for people.
//!
//! Text that came from the wire is shown with control characters escaped, so that a request cannot
//! drive the terminal it is shown on.

use std::io::Write as _;

use wirespan_engine::api::Outcome;
use wirespan_engine::{Exchange, Nanos};

use crate::format::{self, Clock};
use crate::ids::SpanIds;
use crate::red::{Red, Summary};

/// Whether lines carry colours (ANSI escape sequences).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Colour {
    /// They do.
    On,
    /// Plain text.
    Off,
}

const RESET: &str = "\x1b[0m";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const MAGENTA: &str = "\x1b[35m";

impl Colour {
    /// Writes `text` in the colour of `code`, and behind it spaces up to `width` characters.
    fn paint(self, out: &mut Vec<u8>, code: &str, text: &str, width: usize) {
        let coloured = self == Self::On && !text.is_empty();
        if coloured {
            out.extend_from_slice(code.as_bytes());
        }
        out.extend_from_slice(text.as_bytes());
        if coloured {
            out.extend_from_slice(RESET.as_bytes());
        }
        let missing = width.saturating_sub(text.chars().count());
        out.resize(out.len() + missing, b' ');
    }
}

/// Columns of operation and target together; what is longer pushes the rest of its line.
const WHAT_WIDTH: usize = 40;

/// Most characters of a target that a line shows. Records carry all of it.
const WHAT_MAX: usize = 120;

/// Writes exchanges as lines of a table whose columns are fixed from the first line on.
#[derive(Debug)]
pub struct LineWriter {
    clock: Clock,
    colour: Colour,
    /// Text of the column in work.
    cell: String,
}

impl LineWriter {
    /// A writer with or without colours.
    #[must_use]
    pub fn new(colour: Colour) -> Self {
        Self {
            clock: Clock::new(),
            colour,
            cell: String::new(),
        }
    }

    /// Appends `exchange` as a line: time of day in UTC, protocol, operation and target, status,
    /// duration, sizes of request and response, client and server, trace id, flags. The duration of
    /// one that is still open is how long it has been so far, and the word `open` stands before its flags.
    pub fn write(&mut self, out: &mut Vec<u8>, exchange: &Exchange<'_>) {
        self.clock.time_of_day(out, exchange.start);
        out.extend_from_slice(b"  ");
        self.column(out, "", 11, |cell| {
            cell.extend(exchange.protocol.0.chars().map(|c| c.to_ascii_uppercase()));
        });
        self.column(out, BOLD, WHAT_WIDTH, |cell| {
            visible(cell, exchange.operation, WHAT_MAX);
            if !exchange.target.is_empty() {
                cell.push(' ');
                visible(cell, exchange.target, WHAT_MAX);
            }
        });
        out.push(b' ');
        let status_colour = match exchange.outcome {
            Some(Outcome::Ok) => GREEN,
            Some(Outcome::ClientFault) => YELLOW,
            Some(Outcome::Error) => RED,
            None if exchange.open.is_some() => DIM,
            None => MAGENTA,
        };
        self.column(out, status_colour, 9, |cell| match exchange.status {
            "" => cell.push('-'),
            status => visible(cell, status, WHAT_MAX),
        });
        let duration = exchange.duration.or(exchange.open);
        let duration = duration.map_or_else(|| "-".into(), human_duration);
        // Writing into a Vec cannot fail.
        let (up, down) = (exchange.request_bytes, exchange.response_bytes);
        let (up, down) = (human_bytes(up), human_bytes(down));
        let _ = write!(out, "{duration:>8}  ↑{up:<6} ↓{down:<6} ");
        format::address(out, &exchange.client);
        out.extend_from_slice(" → ".as_bytes());
        format::address(out, &exchange.server);
        self.tail(out, exchange);
        out.push(b'\n');
    }

    /// Trace id and flags, where there are any.
    fn tail(&mut self, out: &mut Vec<u8>, exchange: &Exchange<'_>) {
        if let Some(ids) = SpanIds::of(exchange) {
            out.extend_from_slice(b"  ");
            format::hex(out, &ids.trace_id);
        }
        if exchange.open.is_some() {
            out.extend_from_slice(b"  ");
            self.column(out, BOLD, 0, |cell| cell.push_str("open"));
        }
        if !exchange.flags.is_empty() {
            out.extend_from_slice(b"  ");
            self.column(out, DIM, 0, |cell| {
                cell.push_str(&exchange.flags.to_string());
            });
        }
    }

    fn column(
        &mut self,
        out: &mut Vec<u8>,
        colour: &str,
        width: usize,
        fill: impl FnOnce(&mut String),
    ) {
        self.cell.clear();
        fill(&mut self.cell);
        self.colour.paint(out, colour, &self.cell, width);
    }
}

/// Appends `text` for a terminal, at most about `max` characters of it: control characters escaped,
/// and with them the marks that reorder the text around them (Unicode TR #36 §2.9).
pub fn visible(out: &mut String, text: &str, max: usize) {
    for (i, c) in text.chars().enumerate() {
        let reorders = matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if i >= max {
            out.push('…');
            return;
        }
        if c.is_control() || reorders {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

/// A duration for people, three digits of it: `812ns`, `1.5µs`, `12.4ms`, `1.02s`.
#[must_use]
pub fn human_duration(nanos: u64) -> String {
    let value = nanos as f64;
    match nanos {
        0..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{:.1}µs", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}ms", value / 1e6),
        _ => format!("{:.2}s", value / 1e9),
    }
}

/// The time of day of `time` in UTC, with milliseconds: `14:06:14.182`.
#[must_use]
pub fn time_of_day(time: Nanos) -> String {
    let mut text = Vec::new();
    Clock::new().time_of_day(&mut text, time);
    String::from_utf8(text).unwrap_or_default()
}

/// A size for people, in powers of 1,024: `312B`, `1.1K`, `3.0M`.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    for unit in ["K", "M", "G"] {
        value /= 1024.0;
        if value < 1024.0 {
            return format!("{value:.1}{unit}");
        }
    }
    format!("{:.1}T", value / 1024.0)
}

/// How much of the RED table to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rows {
    /// Every row.
    All,
    /// The first so many, and how many are left.
    First(usize),
}

/// Appends the RED table. Rates are over `seconds`, the time that the exchanges were observed for;
/// without a duration there is no rate.
pub fn red(out: &mut String, red: &Red, seconds: f64, rows: Rows, colour: Colour) {
    const HEAD: [&str; 10] = [
        "PROTOCOL",
        "SERVER",
        "OPERATION",
        "COUNT",
        "RATE/S",
        "ERRORS",
        "P50",
        "P95",
        "P99",
        "MAX",
    ];
    let mut table = vec![HEAD.map(String::from)];
    let all = red.rows();
    let shown = match rows {
        Rows::All => all.len(),
        Rows::First(most) => all.len().min(most),
    };
    for series in &all[..shown] {
        let mut operation = String::new();
        visible(&mut operation, &series.operation, WHAT_WIDTH);
        let name = [series.protocol.into(), series.server.to_string(), operation];
        table.push(row(name, &series.summary, seconds));
    }
    if red.other().count > 0 {
        let name = ["(other)".into(), String::new(), String::new()];
        table.push(row(name, red.other(), seconds));
    }
    aligned(out, &table, colour);
    if shown < all.len() {
        out.push_str(&format!("and {} more rows\n", all.len() - shown));
    }
}

fn row(name: [String; 3], summary: &Summary, seconds: f64) -> [String; 10] {
    let [protocol, server, operation] = name;
    let operation = if operation.is_empty() {
        "-".into()
    } else {
        operation
    };
    let quantile = |q| summary.durations.quantile(q);
    let duration = |nanos: Option<u64>| nanos.map_or_else(|| "-".into(), human_duration);
    let rate = if seconds > 0.0 {
        format!("{:.1}", summary.count as f64 / seconds)
    } else {
        "-".into()
    };
    [
        protocol,
        server,
        operation,
        summary.count.to_string(),
        rate,
        format!("{:.1}%", summary.error_share() * 100.0),
        duration(quantile(0.50)),
        duration(quantile(0.95)),
        duration(quantile(0.99)),
        duration(summary.durations.max()),
    ]
}

/// Writes rows in columns, the first three flush left, numbers flush right; the first row is the head.
fn aligned(out: &mut String, table: &[[String; 10]], colour: Colour) {
    let width = |column: usize| {
        let cells = table.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 10] = std::array::from_fn(width);
    for (i, row) in table.iter().enumerate() {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let text = match column {
                0..3 => format!("{cell:<width$}  "),
                9 => format!("{cell:>width$}"),
                _ => format!("{cell:>width$}  "),
            };
            line.push_str(&text);
        }
        match (colour, i) {
            (Colour::On, 0) => out.push_str(&format!("{BOLD}{line}{RESET}\n")),
            _ => out.push_str(&format!("{line}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use wirespan_engine::api::Flags;

    use super::*;
    use crate::fixture::{w3c, with_exchange};

    fn line(colour: Colour, exchange: &Exchange<'_>) -> String {
        let mut out = Vec::new();
        LineWriter::new(colour).write(&mut out, exchange);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_line_shows_the_exchange_in_fixed_columns() {
        let expected = "23:59:59.000  HTTP   GET /a?b=c                               200         1.5ms  \
             ↑78B    ↓1.2K   10.0.0.1:40000 → 10.0.0.2:80\n";
        with_exchange(|exchange| assert_eq!(line(Colour::Off, &exchange), expected));
    }

    #[test]
    fn a_line_ends_with_the_trace_id_and_the_flags() {
        let expected = format!(":80  {}  gap,guessed\n", "4b".repeat(16));
        with_exchange(|mut traced| {
            traced.trace = Some(w3c());
            traced.flags = Flags::GAP.with(Flags::GUESSED);
            assert!(line(Colour::Off, &traced).ends_with(&expected));
        });
    }

    #[test]
    fn a_line_of_an_open_exchange_says_so() {
        with_exchange(|mut open| {
            (open.status, open.outcome, open.duration) = ("", None, None);
            (open.open, open.flags) = (Some(2_000_000_000), Flags::STREAMING);
            let line = line(Colour::Off, &open);
            assert!(line.contains(" -            2.00s  "), "{line}");
            assert!(line.ends_with(":80  open  streaming\n"), "{line}");
        });
    }

    #[test]
    fn the_status_has_the_colour_of_its_class() {
        let classes = [
            (Some(Outcome::Ok), GREEN),
            (Some(Outcome::ClientFault), YELLOW),
            (Some(Outcome::Error), RED),
            (None, MAGENTA),
        ];
        with_exchange(|mut exchange| {
            for (outcome, colour) in classes {
                exchange.outcome = outcome;
                let painted = format!("{colour}200{RESET}      ");
                assert!(line(Colour::On, &exchange).contains(&painted));
                assert!(!line(Colour::Off, &exchange).contains('\x1b'));
            }
        });
    }

    #[test]
    fn a_target_cannot_drive_the_terminal_or_break_the_line() {
        with_exchange(|mut hostile| {
            hostile.target = "/\x1b[2J\n\u{202e}x\u{9b}";
            let line = line(Colour::Off, &hostile);
            assert!(line.contains("/\\u{1b}[2J\\n\\u{202e}x\\u{9b}"));
            assert_eq!(line.chars().filter(|c| c.is_control()).count(), 1);
        });
    }

    #[test]
    fn a_long_target_is_cut_visibly() {
        let long = "é".repeat(500);
        with_exchange(|exchange| {
            let exchange = Exchange {
                target: &long,
                ..exchange
            };
            assert!(line(Colour::Off, &exchange).contains("é…"));
        });
    }

    #[test]
    fn durations_and_sizes_have_a_unit_that_fits() {
        let durations = [0, 999, 1_500, 12_400_000, 1_020_000_000, 90_000_000_000];
        let texts = ["0ns", "999ns", "1.5µs", "12.4ms", "1.02s", "90.00s"];
        assert_eq!(durations.map(human_duration), texts);
        let sizes = [0, 1023, 1126, 3 << 20, 5 << 30, 2 << 40];
        let texts = ["0B", "1023B", "1.1K", "3.0M", "5.0G", "2.0T"];
        assert_eq!(sizes.map(human_bytes), texts);
    }

    #[test]
    fn the_red_table_has_a_row_for_each_operation_and_says_what_it_leaves_out() {
        let mut statistics = Red::default();
        with_exchange(|mut exchange| {
            statistics.record(&exchange);
            statistics.record(&exchange);
            (exchange.operation, exchange.outcome, exchange.duration) = ("PUT", None, None);
            statistics.record(&exchange);
        });
        let mut out = String::new();
        red(&mut out, &statistics, 4.0, Rows::All, Colour::Off);
        assert_eq!(
            out,
            "PROTOCOL  SERVER       OPERATION  COUNT  RATE/S  ERRORS    P50    P95    P99    MAX\n\
             http      10.0.0.2:80  GET            2     0.5    0.0%  1.5ms  1.5ms  1.5ms  1.5ms\n\
             http      10.0.0.2:80  PUT            1     0.2  100.0%      -      -      -      -\n"
        );
        out.clear();
        red(&mut out, &statistics, 0.0, Rows::First(1), Colour::Off);
        assert!(out.ends_with("\nand 1 more rows\n") && !out.contains("PUT"));
    }
}
