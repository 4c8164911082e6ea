//! The two blocks that close a replay: the RED table and the honesty block.

use wirespan_engine::Stats;
use wirespan_export::honesty::Block;
use wirespan_export::metrics::Metrics;
use wirespan_export::red::Red;
use wirespan_export::table::{self, Colour, Rows};
use wirespan_replay::{CaptureStats, TcpStats};
use wirespan_telemetry::Collection;

use crate::pipeline::Found;
use crate::signals;

/// What all captures of a run held.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) red: Red,
    pub(crate) stats: Stats,
    captures: Vec<CaptureStats>,
    metrics: Option<Metrics>,
    /// Captures that could not be read, or not to their end.
    pub(crate) damaged: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, found: Found) {
        self.red.merge(&found.red);
        self.stats.merge(&found.stats);
        self.captures.push(found.capture);
        match (&self.metrics, found.metrics) {
            (Some(all), Some(more)) => all.merge(&more),
            (None, more) => self.metrics = more,
            (Some(_), None) => {}
        }
        self.damaged += u64::from(found.error.is_some());
    }

    /// The metrics over all captures, as of their latest packet.
    pub(crate) fn metrics(&self) -> Collection {
        let latest = self
            .captures
            .iter()
            .filter_map(|capture| capture.last)
            .max();
        let collection = |metrics| signals::collection(metrics, latest);
        self.metrics.as_ref().map(collection).unwrap_or_default()
    }

    /// Whether anything was read at all.
    pub(crate) fn any_packets(&self) -> bool {
        self.captures.iter().any(|capture| capture.packets > 0)
    }

    /// Both blocks, each below its heading.
    pub(crate) fn render(&self, rows: Rows, colour: Colour) -> String {
        let mut text = String::from("RED (rate, errors, duration)\n");
        table::red(&mut text, &self.red, self.seconds(), rows, colour);
        text.push_str("\nHonesty (what was seen, and what became of it)\n");
        text.push_str(&self.honesty().render());
        text
    }

    /// Seconds that the captures cover, one after the other.
    fn seconds(&self) -> f64 {
        let covered = |capture: &CaptureStats| match (capture.first, capture.last) {
            (Some(first), Some(last)) => last.since(first),
            _ => 0,
        };
        self.captures.iter().map(covered).sum::<u64>() as f64 / 1e9
    }

    fn honesty(&self) -> Block {
        let mut block = Block::default();
        if self.captures.len() > 1 {
            block.row("captures", self.captures.len() as u64);
        }
        block.rare("captures that could not be read to their end", self.damaged);
        block.row("packets", self.sum(|capture| capture.packets));
        block.detail("TCP", self.tcp(|tcp| tcp.segments));
        block.detail("waiting fragments", self.sum(|capture| capture.fragments));
        for capture in &self.captures {
            for (what, count) in &capture.not_understood {
                block.add_detail(&format!("not used: {what}"), *count);
            }
        }
        block.row("bytes", self.sum(|capture| capture.captured_bytes));
        block.detail(
            "cut off by the capture",
            self.sum(|capture| capture.wire_bytes.saturating_sub(capture.captured_bytes)),
        );
        self.rare(&mut block);
        block.engine(&self.stats);
        block
    }

    fn rare(&self, block: &mut Block) {
        let skipped = self.sum(|capture| capture.blocks_skipped.values().sum());
        block.rare("file blocks without packets", skipped);
        for capture in &self.captures {
            for (name, count) in &capture.blocks_skipped {
                block.add_detail(name, *count);
            }
        }
        block.rare(
            "datagrams reassembled",
            self.sum(|capture| capture.datagrams_reassembled),
        );
        block.rare(
            "datagrams given up",
            self.sum(|capture| capture.datagrams_dropped),
        );
        block.rare("TCP keep-alives", self.tcp(|tcp| tcp.keepalives));
        block.rare(
            "TCP segments out of window",
            self.tcp(|tcp| tcp.out_of_window),
        );
        block.rare(
            "TCP segments before their stream",
            self.tcp(|tcp| tcp.before_start),
        );
        block.rare(
            "TCP segments after their stream",
            self.tcp(|tcp| tcp.after_close),
        );
        block.rare("TCP segments of no connection", self.tcp(|tcp| tcp.stray));
        block.rare(
            "TCP connections given up for room",
            self.tcp(|tcp| tcp.evicted),
        );
    }

    fn sum(&self, part: impl Fn(&CaptureStats) -> u64) -> u64 {
        self.captures.iter().map(part).sum()
    }

    fn tcp(&self, part: impl Fn(&TcpStats) -> u64) -> u64 {
        self.sum(|capture| part(&capture.tcp))
    }
}
