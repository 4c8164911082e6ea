//! The two blocks that close a live run: the RED table and the honesty block.

use wirespan_capture::{Ledger, Losses};
use wirespan_engine::Stats;
use wirespan_export::honesty::Block;
use wirespan_export::red::Red;
use wirespan_export::table::{self, Colour, Rows};

/// Rows of the RED table.
const MAX_ROWS: usize = 100;

/// What a live run has seen.
#[derive(Debug)]
pub(crate) struct Blocks<'a> {
    pub(crate) red: &'a Red,
    pub(crate) stats: &'a Stats,
    pub(crate) ledger: &'a Ledger,
    pub(crate) losses: &'a Losses,
    pub(crate) seconds: f64,
}

impl Blocks<'_> {
    /// Both blocks, each below its heading.
    pub(crate) fn render(&self, colour: Colour) -> String {
        let mut text = String::from("RED (rate, errors, duration)\n");
        let rows = Rows::First(MAX_ROWS);
        table::red(&mut text, self.red, self.seconds, rows, colour);
        text.push_str("\nHonesty (what was seen, and what became of it)\n");
        text.push_str(&self.honesty().render());
        text
    }

    fn honesty(&self) -> Block {
        let mut block = Block::default();
        let (ledger, losses) = (self.ledger, self.losses);
        block.row("events", ledger.events);
        block.row("bytes moved", ledger.moved_bytes);
        block.detail("copied out of the kernel", ledger.copied_bytes);
        block.row("connections observed", ledger.connections);
        block.detail("open before", ledger.midstream);
        block.rare("TLS sessions seen in the clear", ledger.sessions);
        block.rare("TLS sessions without a socket", ledger.unbound_sessions);
        block.rare("events lost, the buffer was full", losses.ring_full_events);
        block.rare("bytes lost, the buffer was full", losses.ring_full_bytes);
        block.rare("events lost, a process had its share", losses.share_events);
        block.rare("bytes lost, a process had its share", losses.share_bytes);
        block.rare("bytes above the share of a call", losses.call_share_bytes);
        block.rare("bytes beyond the window", losses.window_bytes);
        block.rare("bytes not wanted", losses.unwanted_bytes);
        block.rare("bytes not in user memory", losses.not_user_memory_bytes);
        block.rare(
            "events whose bytes could not be read",
            ledger.unreadable_memory,
        );
        block.rare("not followed, a table was full", losses.map_full);
        block.rare("runs of programs passed over", losses.passed_over);
        block.rare("connections filtered out", losses.filtered);
        block.rare("events not understood", ledger.unreadable_events);
        block.rare("ends with events unread", u64::from(ledger.cut_short));
        block.engine(self.stats);
        block
    }
}
