//! Connections that turn to TLS: what goes on inside, if a source can see it.

use wirespan_parser_api::{Direction, Flags};

use super::{Connection, Context, OPAQUE};
use crate::both::{Both, DIRECTIONS};
use crate::handshake::Handshake;
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
        self.handshake = Some(Box::default());
    }

    /// If a connection of which no protocol was found begins with a TLS handshake: looks at what a
    /// direction holds of it, before that is dropped.
    pub(super) fn watch_held(&mut self, dir: Direction) {
        if self.handshake.is_none()
            && self.start == Start::Beginning
            && Handshake::begins(self.streams.to_server.held())
        {
            self.handshake = Some(Box::default());
        }
        let Some(handshake) = &mut self.handshake else {
            return;
        };
        let stream = &self.streams[dir];
        let (mut from, mut rest) = (stream.pos, stream.held());
        for (end, time, _) in stream.held_chunks() {
            let len = usize::try_from(end.saturating_sub(from)).unwrap_or(usize::MAX);
            let (bytes, behind) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            handshake.take(dir, bytes, time, time);
            (from, rest) = (end, behind);
        }
    }

    /// Looks at the next bytes of a stream that nobody parses, if they may be of a TLS handshake.
    #[inline]
    pub(super) fn watch(&mut self, dir: Direction, bytes: &[u8]) {
        if let Some(handshake) = &mut self.handshake {
            let stream = &self.streams[dir];
            let last = stream.pos.saturating_add(bytes.len() as u64);
            let last = stream.time(last.saturating_sub(1));
            handshake.take(dir, bytes, stream.time(stream.pos), last);
        }
    }

    /// The next bytes of a stream are not to be seen.
    #[inline]
    pub(super) fn watch_unseen(&mut self, dir: Direction, len: u64) {
        if let Some(handshake) = &mut self.handshake {
            handshake.pass(dir, len);
        }
    }

    /// Whether bytes that nobody parses may be of a TLS handshake.
    pub(super) fn watches(&self) -> bool {
        let handshake = self.handshake.as_ref();
        handshake.is_some_and(|handshake| handshake.wants_more())
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
        if let Some(handshake) = &mut self.handshake {
            handshake.stop();
            for attr in handshake.attrs() {
                self.session.set_attr(&attr);
            }
        }
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
