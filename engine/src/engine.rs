//! The engine: connections, budgets and eviction.

use std::sync::Arc;

use wirespan_parser_api::{Direction, Limits, Policy};

use crate::both::Both;
use crate::connection::{Connection, Context};
use crate::registry::Registry;
use crate::stats::{Stats, add};
use crate::table::Pool;
use crate::types::{
    Close, Closed, Config, ConnectionId, Nanos, Opening, Process, Sink, Start, Task,
};

/// Turns what sources see of connections into exchanges. One for each worker; nothing is shared.
///
/// Every call takes the capture time, and the sink for the exchanges that it completes. Directions
/// are relative to [`Opening::client`] and [`Opening::server`] throughout, even where detection
/// finds the peers' roles to be the other way round. Calls that name a closed connection do
/// nothing.
pub struct Engine {
    registry: Arc<Registry>,
    config: Config,
    /// The protocols that are read; `None` if all are.
    wanted: Option<Vec<&'static str>>,
    limits: Limits,
    slots: Vec<Slot>,
    free: Vec<u32>,
    open: usize,
    /// Heap bytes of all connections.
    heap: usize,
    stats: Stats,
    pool: Pool,
}

struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

impl Engine {
    /// An engine without connections.
    #[must_use]
    pub fn new(registry: Arc<Registry>, config: Config) -> Self {
        Self {
            registry,
            config,
            wanted: None,
            limits: Limits::default(),
            slots: Vec::new(),
            free: Vec::new(),
            open: 0,
            heap: 0,
            stats: Stats::default(),
            pool: Pool::default(),
        }
    }

    /// Introduces a connection.
    ///
    /// With [`Config::max_connections`] open, the ones that were idle longest are closed first.
    pub fn open(&mut self, opening: &Opening, now: Nanos, out: &mut dyn Sink) -> ConnectionId {
        if self.open >= self.config.max_connections {
            self.evict_idle(now, out);
        }
        add(&mut self.stats.connections, 1);
        self.open = self.open.saturating_add(1);
        let connection = Some(Box::new(Connection::new(opening, &self.config, now)));
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                connection: None,
            });
            u32::try_from(self.slots.len().saturating_sub(1)).unwrap_or(u32::MAX)
        });
        let mut generation = 0;
        if let Some(free) = self.slots.get_mut(slot as usize) {
            free.connection = connection;
            generation = free.generation;
        }
        let engine = self.config.number;
        ConnectionId {
            engine,
            slot,
            generation,
        }
    }

    /// Whether a connection is open: not closed by its source, by its end, or for want of room.
    #[must_use]
    pub fn is_open(&self, id: ConnectionId) -> bool {
        self.get(id).is_some()
    }

    fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let slot = self.slots.get(id.slot as usize)?;
        let connection = slot.connection.as_deref()?;
        (slot.generation == id.generation).then_some(connection)
    }

    fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        let connection = slot.connection.as_deref_mut()?;
        (slot.generation == id.generation).then_some(connection)
    }

    /// Takes captured bytes of a direction. Order is free, overlaps are trimmed, the first copy of
    /// a byte wins.
    pub fn chunk(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        offset: u64,
        bytes: &[u8],
        time: Nanos,
        out: &mut dyn Sink,
    ) {
        self.with(id, out, |connection, cx| {
            connection.chunk(dir, offset, bytes, time, cx);
        });
    }

    /// Takes the news that `len` bytes from `offset` on will never come: the capture cut them off.
    pub fn lost(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        offset: u64,
        len: u64,
        time: Nanos,
        out: &mut dyn Sink,
    ) {
        self.with(id, out, |connection, cx| {
            connection.lost(dir, offset, len, time, cx);
        });
    }

    /// Takes the news that `len` bytes from `offset` on went by which the source did not copy,
    /// because [`Engine::wanted_from`] told it so, or for its own economy. Where they are of use
    /// after all, they are lost.
    pub fn passed(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        offset: u64,
        len: u64,
        time: Nanos,
        out: &mut dyn Sink,
    ) {
        self.with(id, out, |connection, cx| {
            connection.passed(dir, offset, len, time, cx);
        });
    }

    /// From which offset on the bytes of a direction are of use, as far as is known now: those
    /// before it need not be given, only [`passed`](Engine::passed). `u64::MAX` if no byte is, also
    /// when the connection is closed.
    #[must_use]
    pub fn wanted_from(&self, id: ConnectionId, dir: Direction) -> u64 {
        self.slots
            .get(id.slot as usize)
            .filter(|slot| slot.generation == id.generation)
            .and_then(|slot| slot.connection.as_ref())
            .map_or(u64::MAX, |connection| connection.wanted_from(dir))
    }

    /// From now on reads only connections whose protocol records exchanges under one of `names`; none
    /// stands for all. Of others, once their protocol is known, bytes are only counted, as of opaque
    /// ones, for the reason [`FILTERED`](crate::FILTERED): what is open is reported as it stands.
    pub fn read_only(&mut self, names: &[String], out: &mut dyn Sink) {
        self.wanted = (!names.is_empty()).then(|| self.registry.recording(names));
        for id in self.ids() {
            self.with(id, out, |connection, cx| connection.reconsider(cx));
        }
    }

    /// Whether a connection was left out for its protocol, which is read by now. It could only be
    /// joined in its middle: by closing it, and opening it anew.
    #[must_use]
    pub fn is_missed(&self, id: ConnectionId) -> bool {
        let connection = self.get(id);
        connection.is_some_and(|connection| connection.is_missed(self.wanted.as_deref()))
    }

    /// Takes the news that another process uses the observed socket now: it was handed on, or runs
    /// another program. Exchanges that end from here on are said to be its.
    pub fn set_process(&mut self, id: ConnectionId, process: Process) {
        if let Some(connection) = self.get_mut(id) {
            connection.set_process(process);
        }
    }

    /// Takes the news that what is told of a connection from here on was moved by this task of its
    /// process; `None` where that is not known, as it is not at first.
    pub fn set_task(&mut self, id: ConnectionId, task: Option<Task>) {
        if let Some(connection) = self.get_mut(id) {
            connection.set_task(task);
        }
    }

    /// Lets out other text from now on. What is known of requests before that stays as it was.
    pub fn set_policy(&mut self, policy: Policy) {
        for slot in &mut self.slots {
            if let Some(connection) = &mut slot.connection {
                connection.set_policy(&policy);
            }
        }
        self.config.policy = policy;
    }

    /// Takes the news that from the offsets `at` on, what is told of a connection comes from inside
    /// its TLS layer; `at` is behind all that was told before, as [`Opening`] has the directions. A
    /// protocol that asked for TLS goes on, unless `start` says that the beginning of the layer was
    /// not seen; what else is inside is detected.
    pub fn cleartext(
        &mut self,
        id: ConnectionId,
        at: Both<u64>,
        start: Start,
        time: Nanos,
        out: &mut dyn Sink,
    ) {
        self.with(id, out, |connection, cx| {
            connection.cleartext(at, start, time, cx);
        });
    }

    /// Takes the offset from which a direction of a connection joined in the middle is read. Bytes
    /// given before are held until then.
    pub fn anchor(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        offset: u64,
        time: Nanos,
        out: &mut dyn Sink,
    ) {
        self.with(id, out, |connection, cx| {
            connection.anchor(dir, offset, time, cx);
        });
    }

    /// Takes the news that the receiver of `dir` has acknowledged its bytes before `upto`. To be
    /// called before the chunk that came with it. A source that gives bytes out of order must say
    /// it: without it, answers are read before the requests that are held behind a hole.
    pub fn acked(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        upto: u64,
        time: Nanos,
        out: &mut dyn Sink,
    ) {
        // Mostly it confirms what is known, and costs nothing.
        if self.get(id).is_some_and(|known| known.needs_ack(dir, upto)) {
            self.with(id, out, |connection, cx| {
                connection.acked(dir, upto, time, cx);
            });
        }
    }

    /// Takes the news that a direction has no bytes at or after `offset`.
    pub fn end(
        &mut self,
        id: ConnectionId,
        dir: Direction,
        offset: u64,
        time: Nanos,
        out: &mut dyn Sink,
    ) {
        let finished = self.with(id, out, |connection, cx| {
            connection.end(dir, offset, time, cx);
            connection.is_finished()
        });
        if finished == Some(true) {
            self.close(id, Close::Finished, time, out);
        }
    }

    /// Closes a connection: reports what is open, and frees it.
    pub fn close(&mut self, id: ConnectionId, how: Close, time: Nanos, out: &mut dyn Sink) {
        let Some(slot) = self.slots.get_mut(id.slot as usize) else {
            return;
        };
        if slot.generation != id.generation {
            return;
        }
        let Some(mut connection) = slot.connection.take() else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.slot);
        self.open = self.open.saturating_sub(1);
        self.heap = self.heap.saturating_sub(connection.charged);
        connection.close(
            how,
            time,
            &mut Context {
                registry: &self.registry,
                wanted: self.wanted.as_deref(),
                config: &self.config,
                limits: &self.limits,
                stats: &mut self.stats,
                pool: &mut self.pool,
                sink: out,
            },
        );
    }

    /// What would be told of each open connection if it were closed now.
    pub fn connections(&self) -> impl Iterator<Item = Closed<'_>> {
        let open = self
            .slots
            .iter()
            .filter_map(|slot| slot.connection.as_ref());
        open.map(|connection| connection.summary())
    }

    /// Lets capture time pass: gives up holes and requests that have waited too long, and reports
    /// exchanges that are open for long. To be called when a multiple of [`TICK`](crate::TICK) has
    /// passed, before the input that showed it: then reports tell what was known at that multiple.
    pub fn tick(&mut self, now: Nanos, out: &mut dyn Sink) {
        for id in self.ids() {
            self.with(id, out, |connection, cx| connection.tick(now, cx));
        }
    }

    /// Closes every connection: the source has ended.
    pub fn finish(&mut self, now: Nanos, out: &mut dyn Sink) {
        for id in self.ids() {
            self.close(id, Close::SourceEnded, now, out);
        }
    }

    /// The counters so far, those of open connections included.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.stats.clone();
        for slot in &self.slots {
            if let Some(connection) = &slot.connection {
                connection.add_counts_to(&mut stats);
            }
        }
        stats
    }

    /// Heap bytes that connections hold.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.heap
    }

    fn ids(&self) -> Vec<ConnectionId> {
        let open = self.slots.iter().enumerate();
        open.filter(|(_, slot)| slot.connection.is_some())
            .filter_map(|(index, slot)| {
                Some(ConnectionId {
                    engine: self.config.number,
                    slot: u32::try_from(index).ok()?,
                    generation: slot.generation,
                })
            })
            .collect()
    }

    /// Calls `call` on an open connection, and settles its memory with the budgets.
    fn with<T>(
        &mut self,
        id: ConnectionId,
        out: &mut dyn Sink,
        call: impl FnOnce(&mut Connection, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let connection = slot.connection.as_mut()?;
        let mut cx = Context {
            registry: &self.registry,
            wanted: self.wanted.as_deref(),
            config: &self.config,
            limits: &self.limits,
            stats: &mut self.stats,
            pool: &mut self.pool,
            sink: out,
        };
        let result = call(connection, &mut cx);
        let budget = self.config.connection_bytes;
        let mut heap = connection.heap_bytes();
        if heap > budget {
            connection.give_up_exchanges(budget / 2, &mut cx);
            heap = connection.heap_bytes();
        }
        if heap > budget {
            connection.turn_opaque("connection budget", &mut cx);
            heap = connection.heap_bytes();
        }
        let charged = std::mem::replace(&mut connection.charged, heap);
        self.heap = self.heap.saturating_sub(charged).saturating_add(heap);
        if self.heap > self.config.engine_bytes {
            self.shed(out);
        }
        Some(result)
    }

    /// Turns the largest connections opaque until a quarter of the budget is free.
    fn shed(&mut self, out: &mut dyn Sink) {
        let goal = self.config.engine_bytes.saturating_mul(3) / 4;
        let mut by_size: Vec<(usize, usize)> = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| Some((slot.connection.as_ref()?.charged, index)))
            .collect();
        by_size.sort_unstable();
        while self.heap > goal
            && let Some((_, index)) = by_size.pop()
        {
            let slot = self.slots.get_mut(index);
            let Some(connection) = slot.and_then(|slot| slot.connection.as_mut()) else {
                continue;
            };
            let mut cx = Context {
                registry: &self.registry,
                wanted: self.wanted.as_deref(),
                config: &self.config,
                limits: &self.limits,
                stats: &mut self.stats,
                pool: &mut self.pool,
                sink: out,
            };
            connection.turn_opaque("engine budget", &mut cx);
            let heap = connection.heap_bytes();
            let charged = std::mem::replace(&mut connection.charged, heap);
            self.heap = self.heap.saturating_sub(charged).saturating_add(heap);
        }
    }

    /// Closes the eighth of the connections that was idle longest.
    fn evict_idle(&mut self, now: Nanos, out: &mut dyn Sink) {
        let mut by_age: Vec<(Nanos, ConnectionId)> = self
            .ids()
            .into_iter()
            .filter_map(|id| {
                let slot = self.slots.get(id.slot as usize)?;
                Some((slot.connection.as_ref()?.last_seen, id))
            })
            .collect();
        by_age.sort_by_key(|(seen, id)| (*seen, id.slot));
        let surplus = (self.config.max_connections / 8).max(1);
        for (_, id) in by_age.into_iter().take(surplus) {
            add(&mut self.stats.evicted_connections, 1);
            self.close(id, Close::Evicted, now, out);
        }
    }
}
