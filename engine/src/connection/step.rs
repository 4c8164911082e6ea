//! The step loop: from contiguous bytes to events.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use wirespan_parser_api::{
    Abandon, AfterGap, Direction, Emit, ErrorKind, Event, ExchangeId, Flags, Gap, Input, Next,
    ParseError, Parser, Step,
};

use super::{Connection, Context};
use crate::both::Both;
use crate::stats::{ProtocolStats, add};
use crate::stream::{End, Mode, Stream};
use crate::table::{Answer, Beginning, Message, Moment, Outlet, Table};
use crate::text::Text;
use crate::types::Unread;

/// Errors without a completed exchange between them after which a connection turns opaque.
const MAX_ERRORS: u32 = 8;
/// Bytes that are kept when no message boundary is found: one may begin among them.
const RESYNC_TAIL: usize = 64;

/// What the loop does after a turn.
enum Turn {
    /// Goes on with the bytes behind these.
    Used(usize),
    /// Waits for more bytes, for the other direction, or for detection.
    Pause,
}

impl Connection {
    /// Gives captured bytes, next in line, to the parser; holds what it does not take.
    pub(super) fn feed(&mut self, dir: Direction, bytes: &[u8], cx: &mut Context<'_>) {
        if self.streams[dir].held().is_empty() {
            // The common case: nothing is held, and the parser sees the captured bytes themselves.
            let used = self.consume(dir, bytes, cx);
            let rest = bytes.get(used..).unwrap_or_default();
            self.streams[dir].hold(rest);
        } else {
            self.streams[dir].hold(bytes);
            self.run_held(dir, cx);
        }
        let stream = &mut self.streams[dir];
        match stream.mode {
            Mode::Detecting if !stream.held().is_empty() => {
                self.undetected = true;
                self.unsettled = true;
            }
            // The answer that this direction waits for does not come: one-sided, perhaps.
            Mode::Waiting if stream.held().len() > cx.limits.max_message => {
                stream.mode = Mode::Running;
                let key = (
                    self.protocol,
                    ErrorKind::TooLarge,
                    "bytes before the answer",
                );
                add(cx.stats.errors.entry(key).or_default(), 1);
                self.run_held(dir, cx);
            }
            _ => {}
        }
    }

    /// Gives a direction's held bytes to the parser.
    pub(super) fn run_held(&mut self, dir: Direction, cx: &mut Context<'_>) {
        let stream = &mut self.streams[dir];
        if stream.held().is_empty() || stream.held().len() < stream.need {
            return;
        }
        let held = stream.take_held();
        let used = self.consume(dir, &held, cx);
        self.streams[dir].put_held(held, used);
    }

    /// The loop. `view` begins at the stream's position; returns how much of it is done with.
    fn consume(&mut self, dir: Direction, view: &[u8], cx: &mut Context<'_>) -> usize {
        let mut used = 0usize;
        loop {
            self.drain_ends(dir, cx);
            let rest = view.get(used..).unwrap_or_default();
            if rest.is_empty() {
                return used;
            }
            match self.turn(dir, rest, cx) {
                Turn::Used(n) => used = used.saturating_add(n),
                Turn::Pause => return used,
            }
        }
    }

    /// One turn of the loop over `rest`, which is not empty.
    fn turn(&mut self, dir: Direction, rest: &[u8], cx: &mut Context<'_>) -> Turn {
        let stream = &mut self.streams[dir];
        if stream.skip > 0 {
            let n = usize::try_from(stream.skip).map_or(rest.len(), |skip| skip.min(rest.len()));
            stream.skip = stream.skip.saturating_sub(n as u64);
            add(&mut self.counts.bytes[dir].skipped, n as u64);
            return self.advance(dir, n);
        }
        match stream.mode {
            Mode::Opaque(reason) => {
                self.watch(dir, rest);
                self.drop_bytes(dir, rest.len(), reason)
            }
            Mode::SkipToEnd => {
                add(&mut self.counts.bytes[dir].skipped, rest.len() as u64);
                self.advance(dir, rest.len())
            }
            Mode::Detecting if stream.gave_up => {
                self.watch(dir, rest);
                self.drop_bytes(dir, rest.len(), "undetected")
            }
            Mode::Detecting | Mode::Waiting => Turn::Pause,
            Mode::Syncing => self.resync(dir, rest, cx),
            Mode::Running | Mode::Confirming if rest.len() < stream.need => Turn::Pause,
            Mode::Running | Mode::Confirming => self.parse(dir, rest, cx),
        }
    }

    /// Moves a stream's position; the caller has said what became of the bytes.
    fn advance(&mut self, dir: Direction, n: usize) -> Turn {
        let stream = &mut self.streams[dir];
        stream.pos = stream.pos.saturating_add(n as u64);
        add(&mut self.counts.bytes[dir].seen, n as u64);
        Turn::Used(n)
    }

    fn drop_bytes(&mut self, dir: Direction, n: usize, reason: &'static str) -> Turn {
        let ledger = &mut self.counts.bytes[dir];
        add(ledger.unparsed.entry(reason).or_default(), n as u64);
        self.advance(dir, n)
    }

    /// Looks for a message boundary.
    #[cold]
    fn resync(&mut self, dir: Direction, rest: &[u8], cx: &mut Context<'_>) -> Turn {
        if rest.len() < self.streams[dir].need {
            return Turn::Pause;
        }
        let Some(parser) = self.parser.as_mut() else {
            return Turn::Pause;
        };
        let found = guarded(parser, |p| p.resync(dir, rest));
        let stream = &mut self.streams[dir];
        stream.need = 0;
        match found {
            Some(Some(n)) if n < rest.len() => {
                stream.mode = Mode::Confirming;
                self.pass_over(dir, n, "resync", cx)
            }
            Some(_) => {
                let n = rest.len().saturating_sub(RESYNC_TAIL);
                stream.need = rest.len().saturating_sub(n).saturating_add(1);
                self.pass_over(dir, n, "resync", cx)
            }
            None => {
                self.fault(cx);
                Turn::Used(0)
            }
        }
    }

    /// Drops bytes in which whole messages may have gone by unread: as good as lost.
    fn pass_over(
        &mut self,
        dir: Direction,
        n: usize,
        reason: &'static str,
        cx: &mut Context<'_>,
    ) -> Turn {
        let gap = Gap::new(self.streams[dir].pos, n as u64, &[]);
        let turn = self.drop_bytes(dir, n, reason);
        // Before the first message of a late attach there is nothing to lose count of.
        if n > 0
            && self.streams[dir].was_in_step
            && self.tell_gap(dir, gap, cx) == Some(AfterGap::Stop)
        {
            self.turn_opaque("gap", cx);
        }
        turn
    }

    /// A parser panicked or broke the contract: its connection turns opaque, the process lives.
    #[cold]
    pub(super) fn fault(&mut self, cx: &mut Context<'_>) {
        add(&mut cx.stats.parser_faults, 1);
        self.turn_opaque("parser fault", cx);
    }

    /// Calls the parser once.
    fn parse(&mut self, dir: Direction, rest: &[u8], cx: &mut Context<'_>) -> Turn {
        let offset = self.streams[dir].pos;
        let Some(mut parser) = self.parser.take() else {
            return Turn::Pause;
        };
        let input = Input {
            bytes: rest,
            offset,
        };
        let result = guarded(&mut parser, |p| {
            p.parse(dir, input, &mut self.recorder(dir, cx))
        });
        let Some(result) = result else {
            self.fault(cx);
            return Turn::Used(0);
        };
        self.parser = Some(parser);
        match result {
            Ok(step) if !is_sound(&step, rest.len()) => {
                debug_assert!(
                    false,
                    "unsound step {step:?} of {} at {offset}",
                    self.protocol
                );
                self.fault(cx);
                Turn::Used(0)
            }
            Ok(step) => self.apply(dir, step, cx),
            Err(error) => self.error(dir, error, cx),
        }
    }

    /// Does what the parser asked for.
    fn apply(&mut self, dir: Direction, step: Step, cx: &mut Context<'_>) -> Turn {
        let stream = &mut self.streams[dir];
        stream.need = 0;
        if let Next::Need(n) = step.next {
            if n > cx.limits.max_message {
                return self.error(dir, ParseError::too_large("message"), cx);
            }
            stream.need = n;
            if step.consumed == 0 {
                return Turn::Pause;
            }
        }
        add(&mut self.counts.bytes[dir].parsed, step.consumed as u64);
        stream.was_in_step = true;
        if stream.mode == Mode::Confirming {
            stream.mode = Mode::Running;
            add(&mut self.counts.resyncs, 1);
        }
        match step.next {
            Next::More | Next::Need(_) => {}
            Next::Skip(n) => stream.skip = n,
            Next::SkipToEnd => stream.mode = Mode::SkipToEnd,
            Next::Wait => stream.mode = Mode::Waiting,
            _ => {}
        }
        let other = &mut self.streams[dir.reverse()];
        if other.mode == Mode::Waiting {
            other.mode = Mode::Running;
            self.wake = Some(dir.reverse());
            self.unsettled = true;
        }
        let turn = self.advance(dir, step.consumed);
        match step.next {
            Next::Upgrade(upgrade) => {
                self.drain_ends(dir, cx);
                self.upgrade(upgrade, cx);
            }
            Next::Stop => {
                self.drain_ends(dir, cx);
                self.turn_opaque("finished", cx);
            }
            _ => {}
        }
        turn
    }

    /// Counts a parse error and looks for the next message; gives up after several.
    #[cold]
    fn error(&mut self, dir: Direction, error: ParseError, cx: &mut Context<'_>) -> Turn {
        let stream = &mut self.streams[dir];
        stream.need = 0;
        // A candidate boundary that was none is no error of the connection's, if it cost little.
        if stream.mode == Mode::Confirming && error.kind != ErrorKind::TooLarge {
            stream.mode = Mode::Syncing;
            return self.pass_over(dir, 1, "parse error", cx);
        }
        stream.mode = Mode::Syncing;
        self.unread = Some(Unread {
            kind: error.kind,
            what: error.what,
            dir,
            offset: stream.pos,
        });
        let key = (self.protocol, error.kind, error.what);
        add(cx.stats.errors.entry(key).or_default(), 1);
        if self.table.completed > self.completed_at_error {
            self.errors = 0;
            self.completed_at_error = self.table.completed;
        }
        self.errors = self.errors.saturating_add(1);
        if self.errors >= MAX_ERRORS {
            self.turn_opaque("parse errors", cx);
            return Turn::Used(0);
        }
        self.streams[dir].was_in_step = true;
        self.pass_over(dir, 1, "parse error", cx)
    }

    /// Tells the exchanges about messages whose last byte lay ahead and has gone by.
    #[inline]
    pub(super) fn drain_ends(&mut self, dir: Direction, cx: &mut Context<'_>) {
        if !self.streams[dir].ends.is_empty() {
            self.drain_some_ends(dir, cx);
        }
    }

    fn drain_some_ends(&mut self, dir: Direction, cx: &mut Context<'_>) {
        while let Some(end) = self.streams[dir].ends.front().copied()
            && end.at <= self.streams[dir].pos
        {
            let stream = &mut self.streams[dir];
            stream.ends.pop_front();
            let time = stream.time(end.at.saturating_sub(1));
            let (table, mut outlet) = self.exchanges(cx);
            table.end(end.id, end.message, time, end.size, &mut outlet);
        }
    }

    /// Splits the connection into what the parser's events change.
    pub(super) fn recorder<'a>(
        &'a mut self,
        dir: Direction,
        cx: &'a mut Context<'_>,
    ) -> Recorder<'a> {
        Recorder {
            dir,
            read: self.read(),
            stream: &mut self.streams[dir],
            table: &mut self.table,
            session: &mut self.session,
            max_open: cx.config.max_open,
            evicted: &mut cx.stats.evicted_exchanges,
            errors: &mut cx.stats.errors,
            protocol: self.protocol,
            outlet: Outlet {
                facts: &self.facts,
                counts: &mut self.counts,
                pool: cx.pool,
                sink: cx.sink,
            },
        }
    }
}

/// Whether a step keeps the contract, when `visible` bytes were shown.
fn is_sound(step: &Step, visible: usize) -> bool {
    let left = visible.checked_sub(step.consumed);
    match (left, step.next) {
        (None, _) => false,
        (Some(left), Next::Need(n)) => n > left,
        (Some(_), Next::More) => step.consumed > 0,
        (Some(_), Next::Skip(n)) => step.consumed > 0 || n > 0,
        (Some(_), Next::SkipToEnd | Next::Wait | Next::Upgrade(_) | Next::Stop) => true,
        (Some(_), _) => false,
    }
}

/// Takes a parser's events.
pub(super) struct Recorder<'a> {
    dir: Direction,
    /// How far both directions have been read.
    pub(super) read: Both<u64>,
    stream: &'a mut Stream,
    table: &'a mut Table,
    session: &'a mut Text,
    max_open: usize,
    evicted: &'a mut u64,
    errors: &'a mut BTreeMap<(&'static str, ErrorKind, &'static str), u64>,
    protocol: &'static str,
    outlet: Outlet<'a>,
}

impl Recorder<'_> {
    fn counts(&mut self) -> &mut ProtocolStats {
        self.outlet.counts
    }

    fn answer(&mut self, at: u64) -> Answer {
        Answer {
            at,
            start: self.stream.message_time(at),
            task: self.outlet.facts.task,
        }
    }

    fn abandon(&mut self, id: ExchangeId, why: Abandon) {
        let flags = match why {
            Abandon::Lost => Flags::GAP,
            _ => Flags::NONE,
        };
        if why == Abandon::Failed {
            self.table.fail(id);
        }
        for end in self.stream.ends.iter().filter(|end| end.id == id) {
            self.table.size(id, end.message, end.size);
        }
        self.table.measure(id, &self.read);
        self.table.abandon(id, flags, &mut self.outlet);
    }

    fn end(&mut self, end: End) {
        if self.stream.is_stamped(end.at) {
            let time = self.stream.time(end.at.saturating_sub(1));
            self.table
                .end(end.id, end.message, time, end.size, &mut self.outlet);
            return;
        }
        // Ends of interleaved messages come in order, or nearly so.
        let ends = &mut self.stream.ends;
        let at = ends.iter().rposition(|e| e.at <= end.at);
        ends.insert(at.map_or(0, |at| at.saturating_add(1)), end);
    }
}

impl Emit for Recorder<'_> {
    fn emit(&mut self, event: Event<'_>) {
        match event {
            Event::Request {
                id,
                at,
                ref request,
            } => {
                if self.table.len() >= self.max_open {
                    add(self.evicted, 1);
                    self.table.abandon_at(0, Flags::TRUNCATED, &mut self.outlet);
                }
                let time = match self.stream.message_time(at) {
                    Some(time) => Moment::Exact(time),
                    None => Moment::About(self.stream.oldest_time().unwrap_or_default()),
                };
                let dir = self.dir;
                let beginning = Beginning { dir, at, time };
                let risen =
                    self.table
                        .request(id, beginning, request, self.session, &mut self.outlet);
                debug_assert!(risen, "exchange ids must rise");
            }
            Event::RequestEnd { id, at, size } => self.end(End {
                at,
                id,
                message: Message::Request,
                size,
            }),
            Event::Mark { at } => self.stream.mark(at),
            Event::ResponseStart { id, at } => {
                let answer = self.answer(at);
                self.table.response_start(id, answer);
            }
            Event::Response {
                id,
                at,
                ref response,
            } => {
                let answer = self.answer(at);
                if !self.table.response(id, answer, response) {
                    add(&mut self.counts().orphans, 1);
                }
            }
            Event::ResponseEnd { id, at, size } => self.end(End {
                at,
                id,
                message: Message::Response,
                size,
            }),
            Event::Annotate { id, flags, attrs } => self.table.annotate(id, flags, attrs),
            Event::Rename {
                id,
                protocol,
                operation,
                target,
            } => self.table.rename(id, protocol, operation, target),
            Event::Progress {
                id,
                request_bytes,
                response_bytes,
                attrs,
            } => {
                let bytes = Both {
                    to_server: request_bytes,
                    to_client: response_bytes,
                };
                self.table.progress(id, bytes, attrs);
            }
            Event::Abandon { id, why } => self.abandon(id, why),
            Event::Orphan { .. } => add(&mut self.counts().orphans, 1),
            Event::Push { kind, .. } => {
                add(self.counts().pushes.entry(kind).or_default(), 1);
            }
            Event::Count { what, n } => add(self.counts().counted.entry(what).or_default(), n),
            Event::Error { error } => {
                let key = (self.protocol, error.kind, error.what);
                add(self.errors.entry(key).or_default(), 1);
            }
            Event::Session { attrs } => {
                for attr in attrs {
                    self.session.set_attr(attr);
                }
            }
            _ => {}
        }
    }
}

/// Calls a parser; `None` when it panics.
pub(super) fn guarded<T>(
    parser: &mut Box<dyn Parser>,
    call: impl FnOnce(&mut dyn Parser) -> T,
) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| call(parser.as_mut()))).ok()
}
