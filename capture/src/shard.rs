//! A share of the connections: what follows them, their engine, and the maps in which their wishes are
//! told to the kernel side. There is one, or one for each worker.

use std::sync::Arc;

use wirespan_engine::{Config, Engine, Nanos, Registry, Sink};

use crate::clock::Clock;
use crate::feed::{Feed, Maps, Output};
use crate::tap::Tap;

/// Connections, and all that is known of them.
pub(crate) struct Shard {
    pub(crate) feed: Feed,
    pub(crate) engine: Engine,
    tables: Box<dyn Maps + Send>,
}

/// Who is told what comes of events.
pub(crate) struct Listeners<'a> {
    pub(crate) sink: &'a mut dyn Sink,
    pub(crate) tap: &'a mut dyn Tap,
    pub(crate) clock: &'a Clock,
}

impl Shard {
    /// One of `of`, counted from 0.
    pub(crate) fn new(
        registry: &Arc<Registry>,
        mut config: Config,
        tables: Box<dyn Maps + Send>,
        (number, of): (u16, u16),
    ) -> Self {
        config.number = number;
        Self {
            feed: Feed::new(number.into(), of.into()),
            engine: Engine::new(Arc::clone(registry), config),
            tables,
        }
    }

    /// Its parts, to be used together.
    pub(crate) fn parts<'a>(
        &'a mut self,
        to: Listeners<'a>,
    ) -> (&'a mut Feed, &'a mut dyn Maps, Output<'a>) {
        let out = Output::new(&mut self.engine, to.sink, to.tap, to.clock);
        (&mut self.feed, &mut *self.tables, out)
    }

    /// Tells the kernel side what is wanted from now on.
    pub(crate) fn wish(&mut self) {
        self.feed.wish(&mut *self.tables, &self.engine);
    }

    /// Gives up what has waited too long at `now`, on the monotonic clock.
    pub(crate) fn tick(&mut self, now: u64, to: Listeners<'_>) {
        let wall = to.clock.wall(now);
        let Listeners { sink, tap, clock } = to;
        let mut out = Output::new(&mut self.engine, sink, tap, clock);
        self.feed.release_late(now, &mut out);
        self.engine.tick(wall, sink);
    }

    /// Looks for connections whose end nobody tells of.
    pub(crate) fn sweep<'a>(&'a mut self, now: u64, to: Listeners<'a>) {
        let (feed, tables, mut out) = self.parts(to);
        feed.sweep(tables, now, &mut out);
    }

    /// The filters have changed at `now`, and before at `since`: connections of `protocols` are read,
    /// all if there is none.
    pub(crate) fn meet_anew<'a>(
        &'a mut self,
        since: u64,
        now: u64,
        protocols: &[String],
        to: Listeners<'a>,
    ) {
        self.engine.read_only(protocols, to.sink);
        let (feed, tables, mut out) = self.parts(to);
        feed.meet_anew(tables, since, now, &mut out);
        feed.join_missed(tables, now, &mut out);
    }

    /// Ends all connections.
    pub(crate) fn finish(&mut self, now: Nanos, to: Listeners<'_>) {
        let Listeners { sink, tap, clock } = to;
        let mut out = Output::new(&mut self.engine, sink, tap, clock);
        self.feed.finish(now, &mut out);
        self.engine.finish(now, sink);
    }
}
