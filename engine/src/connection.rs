//! One connection: two streams, a parser, and the exchanges between them.

mod filter;
mod input;
mod open;
mod order;
mod secure;
mod step;

use std::collections::VecDeque;

use wirespan_parser_api::{Direction, Flags, Init, Limits, Parser, Policy, Upgrade};

use crate::both::{Both, DIRECTIONS};
use crate::detect::{self, Evidence, Verdict};
use crate::handshake::Handshake;
use crate::registry::Registry;
use crate::stats::{ProtocolStats, Stats, add};
use crate::stream::{Mode, Stream};
use crate::table::{Facts, Outlet, Pool, Table};
use crate::text::Text;
use crate::timers::Timers;
use crate::types::{
    Close, Closed, Config, Layer, Nanos, Opening, Process, Roles, Sink, Start, Task, Unread,
};

pub use filter::FILTERED;
use input::Again;
use order::Input;

/// What a connection borrows from its engine for the time of a call.
pub(crate) struct Context<'a> {
    pub(crate) registry: &'a Registry,
    /// The protocols that are read; `None` if all are.
    pub(crate) wanted: Option<&'a [&'static str]>,
    pub(crate) config: &'a Config,
    pub(crate) limits: &'a Limits,
    pub(crate) stats: &'a mut Stats,
    pub(crate) pool: &'a mut Pool,
    pub(crate) sink: &'a mut dyn Sink,
}

/// One connection.
pub(crate) struct Connection {
    facts: Facts,
    roles: Roles,
    start: Start,
    /// Whether detection found the peers' roles to be the other way round: then the directions of
    /// inputs are reversed.
    swapped: bool,
    /// Directions here and below are by the true roles.
    streams: Both<Stream>,
    parser: Option<Box<dyn Parser>>,
    /// The parser of what goes on inside TLS, until that can be seen.
    parked: Option<Box<dyn Parser>>,
    /// What its TLS handshake tells, if it has one that was seen.
    handshake: Option<Box<Handshake>>,
    /// Name of the protocol in the statistics.
    protocol: &'static str,
    counts: ProtocolStats,
    table: Table,
    session: Text,
    /// Whether bytes are kept ahead of a stream.
    has_pieces: bool,
    /// The direction (as in the opening) whose hole the receiver does not have: what it says must
    /// wait until the hole is filled or given up.
    hole: Option<Direction>,
    /// Inputs that must wait for a hole to be filled or given up.
    deferred: VecDeque<Input>,
    deferred_bytes: usize,
    /// Bytes to be given again, before anything else.
    again: VecDeque<Again>,
    /// A direction that no longer waits for the other.
    wake: Option<Direction>,
    /// Whether a direction without a protocol has new bytes.
    undetected: bool,
    /// Whether any of the three before is set.
    unsettled: bool,
    /// Why its bytes are only counted, if they are.
    opaque: Option<&'static str>,
    /// The last message that could not be read.
    unread: Option<Unread>,
    /// Errors since the last exchange that was completed.
    errors: u32,
    completed_at_error: u64,
    /// Number of inputs so far.
    seq: u64,
    pub(crate) last_seen: Nanos,
    /// Heap bytes that the engine has on its books for this connection.
    pub(crate) charged: usize,
}

/// Name in the statistics of connections of which no protocol was found.
pub(crate) const OPAQUE: &str = "opaque";

impl Connection {
    pub(crate) fn new(opening: &Opening, config: &Config, now: Nanos) -> Self {
        let midstream = match opening.start {
            Start::Beginning => Flags::NONE,
            Start::Middle => Flags::MIDSTREAM,
        };
        let tls = match opening.layer {
            Layer::Transport => Flags::NONE,
            Layer::Tls => Flags::TLS,
        };
        let anchored = opening.start == Start::Beginning;
        Self {
            facts: Facts {
                number: opening.number,
                client: opening.client,
                server: opening.server,
                side: opening.side,
                process: opening.process,
                inside: Both::default(),
                task: None,
                flags: midstream.with(tls),
            },
            roles: opening.roles,
            start: opening.start,
            swapped: false,
            streams: Both {
                to_server: Stream::new(anchored),
                to_client: Stream::new(anchored),
            },
            parser: None,
            parked: None,
            handshake: None,
            protocol: OPAQUE,
            counts: ProtocolStats::default(),
            table: Table::new(Timers::new(config)),
            session: Text::default(),
            deferred: VecDeque::new(),
            deferred_bytes: 0,
            has_pieces: false,
            hole: None,
            again: VecDeque::new(),
            wake: None,
            undetected: false,
            unsettled: false,
            opaque: None,
            unread: None,
            errors: 0,
            completed_at_error: 0,
            seq: 0,
            last_seen: now,
            charged: 0,
        }
    }

    /// Another process uses the observed socket now.
    pub(crate) fn set_process(&mut self, process: Process) {
        self.facts.process = Some(process);
    }

    /// What comes next was moved by this task.
    pub(crate) fn set_task(&mut self, task: Option<Task>) {
        self.facts.task = task;
    }

    pub(crate) fn set_policy(&mut self, policy: &Policy) {
        if let Some(parser) = &mut self.parser {
            parser.set_policy(policy);
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        [
            self.streams.to_server.heap_bytes(),
            self.streams.to_client.heap_bytes(),
            self.table.heap_bytes(),
            self.deferred_bytes,
            self.parser.as_ref().map_or(0, |parser| parser.heap_bytes()),
            self.parked.as_ref().map_or(0, |parser| parser.heap_bytes()),
            self.handshake
                .as_ref()
                .map_or(0, |known| known.heap_bytes()),
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// The connection's counters that are not in the engine's statistics yet.
    pub(crate) fn add_counts_to(&self, stats: &mut Stats) {
        let mut open = Stats::default();
        open.protocols.insert(self.protocol, self.counts.clone());
        stats.merge(&open);
    }

    fn flush_counts(&mut self, cx: &mut Context<'_>) {
        self.add_counts_to(cx.stats);
        self.counts = ProtocolStats::default();
    }

    /// Tries to find the protocol; gives the held bytes to its parser when it is found.
    fn detect(&mut self, last_chance: bool, cx: &mut Context<'_>) {
        let heads = Both {
            to_server: self.streams.to_server.held(),
            to_client: self.streams.to_client.held(),
        };
        let verdict = detect::detect(
            cx.registry,
            &Evidence {
                heads,
                silent: Both {
                    to_server: self.is_silent(Direction::ToServer),
                    to_client: self.is_silent(Direction::ToClient),
                },
                roles_known: self.roles == Roles::Known,
                at_start: self.start == Start::Beginning,
                server_port: self.facts.server.port(),
                last_chance,
            },
        );
        let reason = detect::opaque_reason(&heads);
        match verdict {
            Verdict::Found { protocol, swapped } => {
                if swapped {
                    self.swap();
                }
                self.run_as(protocol, self.start == Start::Middle, cx);
                self.requeue_held();
            }
            Verdict::Nothing => {
                for dir in DIRECTIONS {
                    self.watch_held(dir);
                }
                self.turn_opaque(reason, cx);
            }
            // The other direction may still tell; what this one holds is bounded.
            Verdict::Undecided => {
                for dir in DIRECTIONS {
                    if self.streams[dir].held().len() >= detect::WINDOW {
                        self.watch_held(dir);
                        self.drop_held(dir, "undetected");
                        self.streams[dir].gave_up = true;
                    }
                }
            }
        }
    }

    /// Whether a direction has shown nothing yet, and still may.
    fn is_silent(&self, dir: Direction) -> bool {
        let stream = &self.streams[dir];
        stream.held().is_empty() && !stream.gave_up && !stream.ended
    }

    /// Exchanges the roles of the peers: all that was seen so far went the other way.
    fn swap(&mut self) {
        self.swapped = !self.swapped;
        std::mem::swap(&mut self.streams.to_server, &mut self.streams.to_client);
        std::mem::swap(&mut self.facts.client, &mut self.facts.server);
        self.facts.side = self.facts.side.reverse();
        let inside = &mut self.facts.inside;
        std::mem::swap(&mut inside.to_server, &mut inside.to_client);
        for again in &mut self.again {
            again.dir = again.dir.reverse();
        }
        let bytes = &mut self.counts.bytes;
        std::mem::swap(&mut bytes.to_server, &mut bytes.to_client);
    }

    /// Starts the parser of a protocol on both directions.
    fn run_as(&mut self, protocol: usize, late_attach: bool, cx: &mut Context<'_>) {
        let Some(protocol) = cx.registry.get(protocol) else {
            return;
        };
        self.rename(protocol.name().0, cx);
        if self.is_unwanted(cx.wanted) {
            return self.turn_opaque(FILTERED, cx);
        }
        let mut init = Init::new(cx.limits);
        (init.late_attach, init.policy) = (late_attach, &cx.config.policy);
        self.parser = Some(protocol.parser(&init));
        for dir in DIRECTIONS {
            let stream = &mut self.streams[dir];
            // A direction that gave bytes up during detection is joined in the middle too.
            let joined = late_attach || stream.gave_up;
            stream.gave_up = false;
            stream.need = 0;
            stream.skip = 0;
            stream.mode = if joined { Mode::Syncing } else { Mode::Running };
        }
    }

    fn rename(&mut self, name: &'static str, cx: &mut Context<'_>) {
        if self.protocol == OPAQUE {
            // What detection has dropped belongs to the protocol that was found.
            self.protocol = name;
        } else {
            self.flush_counts(cx);
            self.protocol = name;
        }
        add(&mut self.counts.connections, 1);
    }

    /// The connection goes on as another protocol, from where both streams are.
    #[cold]
    fn upgrade(&mut self, upgrade: Upgrade, cx: &mut Context<'_>) {
        self.end_exchanges(cx);
        if upgrade == Upgrade::Tls {
            return self.encrypt(cx);
        }
        self.parser = None;
        match upgrade {
            Upgrade::To(name) => match cx.registry.find(name) {
                Some(index) => self.run_as(index, false, cx),
                None => self.turn_opaque("unknown upgrade", cx),
            },
            Upgrade::Detect => {
                self.flush_counts(cx);
                self.protocol = OPAQUE;
                self.start = Start::Beginning;
                for dir in DIRECTIONS {
                    self.streams[dir].mode = Mode::Detecting;
                    self.streams[dir].need = 0;
                }
                self.undetected = true;
                self.unsettled = true;
            }
            _ => self.turn_opaque("unknown upgrade", cx),
        }
    }

    /// Gives up on the connection: from now on its bytes are only counted.
    #[cold]
    pub(crate) fn turn_opaque(&mut self, reason: &'static str, cx: &mut Context<'_>) {
        add(cx.stats.opaque.entry(reason).or_default(), 1);
        self.opaque = Some(reason);
        if self.protocol == OPAQUE && self.counts.connections == 0 {
            add(&mut self.counts.connections, 1);
        }
        self.end_exchanges(cx);
        self.parser = None;
        self.session = Text::default();
        for dir in DIRECTIONS {
            self.drop_held(dir, reason);
            let stream = &mut self.streams[dir];
            stream.mode = Mode::Opaque(reason);
            stream.skip = 0;
            stream.shrink();
        }
    }

    /// Drops the bytes that a direction holds, under this reason; returns them.
    fn drop_held(&mut self, dir: Direction, reason: &'static str) -> Vec<u8> {
        let stream = &mut self.streams[dir];
        let held = stream.take_held();
        let n = held.len() as u64;
        if n > 0 {
            stream.pos = stream.pos.saturating_add(n);
            let ledger = &mut self.counts.bytes[dir];
            add(&mut ledger.seen, n);
            add(ledger.unparsed.entry(reason).or_default(), n);
        }
        held
    }

    /// The open exchanges, and where they go when they are finished.
    fn exchanges<'a>(&'a mut self, cx: &'a mut Context<'_>) -> (&'a mut Table, Outlet<'a>) {
        let outlet = Outlet {
            facts: &self.facts,
            counts: &mut self.counts,
            pool: cx.pool,
            sink: cx.sink,
        };
        (&mut self.table, outlet)
    }

    /// Reports all open exchanges as they stand.
    fn end_exchanges(&mut self, cx: &mut Context<'_>) {
        while self.table.len() > 0 {
            self.give_up_oldest(Flags::NONE, cx);
        }
    }

    /// Reports the oldest open exchanges as they stand until the others take at most `goal` bytes.
    pub(crate) fn give_up_exchanges(&mut self, goal: usize, cx: &mut Context<'_>) {
        while self.table.len() > 0 && self.table.heap_bytes() > goal {
            self.give_up_oldest(Flags::TRUNCATED, cx);
            add(&mut cx.stats.evicted_exchanges, 1);
        }
    }

    /// Gives up holes and requests that have waited too long, and reports what is open for long.
    pub(crate) fn tick(&mut self, now: Nanos, cx: &mut Context<'_>) {
        if self.hole.is_some() {
            self.expire_hole(now, cx);
        }
        for dir in DIRECTIONS {
            if let Some(since) = self.streams[dir].hole_since
                && now.since(since) > cx.config.hole_wait
            {
                self.lose_hole(dir, now, cx);
            }
        }
        self.look_after_open(now, cx);
    }

    /// Whether both streams have come to their end.
    pub(crate) fn is_finished(&self) -> bool {
        DIRECTIONS.iter().all(|dir| self.streams[*dir].ended)
    }

    /// Ends both streams and reports what is left.
    pub(crate) fn close(&mut self, how: Close, now: Nanos, cx: &mut Context<'_>) {
        for dir in DIRECTIONS {
            self.anchor_lowest(dir, now, cx);
        }
        self.release_deferred(now, cx);
        for dir in DIRECTIONS {
            while self.streams[dir].hole_end().is_some() {
                self.lose_hole(dir, now, cx);
            }
        }
        if DIRECTIONS
            .iter()
            .any(|dir| !self.streams[*dir].held().is_empty() || self.streams[*dir].gave_up)
            && self.parser.is_none()
        {
            self.detect(true, cx);
            self.settle(cx);
        }
        for dir in DIRECTIONS {
            self.end_stream(dir, cx);
        }
        self.end_exchanges(cx);
        for dir in DIRECTIONS {
            self.drop_held(dir, "incomplete");
        }
        if self.protocol == OPAQUE && self.counts.connections == 0 {
            // Closed before a byte was seen.
            add(cx.stats.opaque.entry("no data").or_default(), 1);
            self.opaque = Some("no data");
            add(&mut self.counts.connections, 1);
        }
        self.flush_counts(cx);
        add(cx.stats.closed.entry(how).or_default(), 1);
        cx.sink.closed(&self.summary());
    }

    /// What is told of it when it is closed, as it stands.
    pub(crate) fn summary(&self) -> Closed<'_> {
        Closed {
            client: self.facts.client,
            server: self.facts.server,
            side: self.facts.side,
            process: self.facts.process.as_ref(),
            flags: self.facts.flags,
            protocol: self.protocol,
            opaque: self.opaque,
            handshake: self.handshake.as_deref(),
            unread: self.unread,
            exchanges: self.table.completed,
            bytes: Both {
                to_server: self.streams.to_server.pos,
                to_client: self.streams.to_client.pos,
            },
        }
    }
}
