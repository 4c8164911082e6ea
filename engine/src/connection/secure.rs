//! Connections that turn to TLS: what goes on inside, if a source can see it.

use wirespan_parser_api::{Direction, Flags};

use super::{Connection, Context, OPAQUE};
use crate::both::{Both, DIRECTIONS};
use crate::stats::add;
use crate::stream::Mode;
use crate::types::{Nanos, Start};

/// Why a connection is opaque of which only ciphertext is seen.
const TLS: &str = "tls";

impl Connection {
    /// The connection turns to TLS. Its parser is kept: the protocol goes on inside.
    pub(super) fn encrypt(&mut self, cx: &mut Context<'_>) {
        self.parked = self.parser.take();
        self.turn_opaque(TLS, cx);
    }

    /// From the offsets `at` on, what is told of the connection comes from inside its TLS layer.
    pub(crate) fn cleartext(
        &mut self,
        at: Both<u64>,
        start: Start,
        time: Nanos,
        cx: &mut Context<'_>,
    ) {
        for dir in DIRECTIONS {
            self.anchor_lowest(dir, time, cx);
        }
        self.release_deferred(time, cx);
        for dir in DIRECTIONS {
            while self.streams[dir].hole_end().is_some() {
                self.lose_hole(dir, time, cx);
            }
        }
        self.leave_opaque(cx);
        self.facts.flags = self.facts.flags.with(Flags::TLS);
        if start == Start::Middle {
            self.facts.flags = self.facts.flags.with(Flags::MIDSTREAM);
            self.parked = None;
        }
        self.start = start;
        self.parser = self.parked.take();
        for dir in DIRECTIONS {
            let at = at[self.dir(dir)];
            self.facts.inside[dir] = at;
            self.pass_ciphertext(dir, at, time, cx);
            let stream = &mut self.streams[dir];
            stream.need = 0;
            stream.gave_up = false;
            stream.end = None;
            stream.was_in_step &= self.parser.is_some();
            stream.mode = match self.parser {
                Some(_) => Mode::Running,
                None => Mode::Detecting,
            };
        }
    }

    /// Whatever was made of the ciphertext is over. Then the connection is no longer counted among
    /// those that could not be read.
    fn leave_opaque(&mut self, cx: &mut Context<'_>) {
        if !matches!(self.streams.to_server.mode, Mode::Opaque(_)) {
            self.turn_opaque(TLS, cx);
        }
        if let Mode::Opaque(reason) = self.streams.to_server.mode
            && let Some(count) = cx.stats.opaque.get_mut(reason)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                cx.stats.opaque.remove(reason);
            }
        }
        if self.protocol == OPAQUE {
            self.counts.connections = self.counts.connections.saturating_sub(1);
        } else if self.parked.is_none() {
            // Another protocol may follow: what was counted so far is the first one's.
            self.flush_counts(cx);
            self.protocol = OPAQUE;
        }
        self.opaque = None;
        self.errors = 0;
    }

    /// Moves a stream to `at`; the bytes before were ciphertext.
    fn pass_ciphertext(&mut self, dir: Direction, at: u64, time: Nanos, cx: &mut Context<'_>) {
        let stream = &mut self.streams[dir];
        let len = at.saturating_sub(stream.pos);
        if len > 0 {
            stream.pos = at;
            stream.stamp(at, Some(time), self.seq);
            add(&mut cx.stats.intake, len);
            let ledger = &mut self.counts.bytes[dir];
            add(&mut ledger.seen, len);
            add(ledger.unparsed.entry(TLS).or_default(), len);
        }
    }
}
