//! Live capture from load to detach: reads events, feeds the engine, lets time pass.

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use aya::maps::{MapData, RingBuf};
use wirespan_engine::api::Policy;
use wirespan_engine::{Closed, Config, Nanos, Registry, Sink, Stats};

use crate::Error;
use crate::clock::Clock;
use crate::event::{self, Event, What};
use crate::feed::Learns;
use crate::hooks::HookSet;
use crate::kernel::{Filters, Kernel, Losses};
use crate::ledger::Ledger;
use crate::memory;
use crate::shard::{Listeners, Shard};
use crate::spread::{Spread, WorkerLoad};
use crate::tap::Tap;
use crate::tls::Probes;
use crate::wait::{Waiter, is_readable};

/// How traffic is observed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Hook sets to try, in this order.
    pub hooks: Vec<HookSet>,
    /// What is observed.
    pub filters: Filters,
    /// Whether TLS libraries are probed.
    pub tls: bool,
    /// Size of the ring buffer in bytes: a power of two, at least a page.
    pub ring_bytes: u32,
    /// The protocols.
    pub registry: Arc<Registry>,
    /// Bounds and policies.
    pub engine: Config,
    /// Threads with an engine each, over which connections are spread. With one, whoever calls
    /// [`Live::poll`] does its work, and there is no thread.
    pub workers: NonZeroU16,
}

/// How long a hole may wait while capturing live: events come out of order by microseconds, and
/// whoever watches waits with it.
const HOLE_WAIT: u64 = 300_000_000;

/// How long to wait, at the end, for an event that is being written.
const DRAIN: Duration = Duration::from_secs(5);

/// How long to sleep when there was something to read, and at most when there was not.
const BUSY_SLEEP: Duration = Duration::from_millis(1);
const IDLE_SLEEP: Duration = Duration::from_millis(16);

/// Time between looks at what has waited too long.
const TICK: u64 = 100_000_000;

/// Time between looks for the files that processes are chosen by.
const LOOK: u64 = 2_000_000_000;

/// Time between looks for connections whose end nobody tells of.
const SWEEP: u64 = 60_000_000_000;

/// Events read before time is looked at and wishes are told.
const BATCH: usize = 4_096;

/// Observed traffic. Dropping it detaches everything.
pub struct Live {
    kernel: Kernel,
    hooks: HookSet,
    work: Work,
    /// What was made of events before anybody worked on them.
    read: Ledger,
    probes: Option<Probes>,
    clock: Clock,
    waiter: Waiter,
    sleep: Duration,
    /// See [`Live::set_pause`].
    pause: Duration,
    last_tick: u64,
    last_look: u64,
    last_sweep: u64,
    /// When the filters were last changed.
    filtered: u64,
}

/// Who works on events.
enum Work {
    /// Whoever reads them.
    Here(Box<Shard>),
    /// Threads.
    There(Box<Spread>),
}

impl Work {
    fn start(kernel: &Kernel, options: &Options) -> Result<Self, Error> {
        let mut config = options.engine.clone();
        config.hole_wait = HOLE_WAIT;
        let workers = options.workers.get();
        let shard = |number| {
            let tables = Box::new(kernel.more_tables()?);
            let (registry, config) = (&options.registry, config.clone());
            let mut shard = Shard::new(registry, config, tables, (number, workers));
            let protocols = &options.filters.protocols;
            shard.engine.read_only(protocols, &mut ());
            Ok(shard)
        };
        if workers == 1 {
            return Ok(Self::Here(Box::new(shard(0)?)));
        }
        let shards = (0..workers).map(shard).collect::<Result<_, Error>>()?;
        let spread = Spread::start(shards).map_err(Error::Wait)?;
        Ok(Self::There(Box::new(spread)))
    }

    fn learner(&mut self) -> &mut dyn Learns {
        match self {
            Self::Here(shard) => &mut shard.feed,
            Self::There(spread) => spread.learner(),
        }
    }

    /// Does something with each shard. What they have told may be under way.
    fn each(&self, mut act: impl FnMut(&Shard)) {
        match self {
            Self::Here(shard) => act(shard),
            Self::There(spread) => spread.shards().for_each(|shard| act(&shard)),
        }
    }
}

/// What came of it at last. Dropping it detaches everything, which may take seconds.
pub struct Finished {
    /// The engine's counters.
    pub stats: Stats,
    /// What was made of events.
    pub ledger: Ledger,
    /// What the kernel side did not deliver.
    pub losses: Losses,
    live: Live,
}

impl Finished {
    /// What the workers did, if there were any.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerLoad> {
        self.live.workers()
    }
}

impl Drop for Finished {
    fn drop(&mut self) {
        self.live.detach();
    }
}

impl Live {
    /// Loads and attaches. From here on, what happens is seen.
    ///
    /// # Errors
    ///
    /// [`Error`] says what this kernel, or these rights, do not allow.
    pub fn start(options: Options) -> Result<Self, Error> {
        memory::keep_little();
        let mut kernel = Kernel::load(&options.filters, options.ring_bytes)?;
        let mut work = Work::start(&kernel, &options)?;
        let hooks = kernel.attach(&options.hooks)?;
        let waiter = Waiter::new(&kernel.ring).map_err(Error::Wait)?;
        work.learner()
            .require_sockets(options.filters.ask_for_addresses());
        let probes = match options.tls {
            true => Some(Probes::start(&mut kernel, work.learner())?),
            false => None,
        };
        memory::give_back();
        Ok(Self {
            kernel,
            hooks,
            work,
            read: Ledger::default(),
            probes,
            clock: Clock::new(),
            waiter,
            sleep: BUSY_SLEEP,
            pause: Duration::ZERO,
            last_tick: 0,
            last_look: Clock::monotonic(),
            last_sweep: 0,
            filtered: 0,
        })
    }

    /// The hook set that is in use.
    #[must_use]
    pub const fn hooks(&self) -> HookSet {
        self.hooks
    }

    /// TLS libraries that could not be probed when capture began: file, and what the kernel said.
    #[must_use]
    pub fn unprobed(&self) -> Vec<(PathBuf, String)> {
        let probes = self.probes.as_ref();
        probes.map(Probes::failures).unwrap_or_default()
    }

    /// The time, by the clock that exchanges are dated with.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.clock.wall(Clock::monotonic())
    }

    /// The time up to which everything that was seen has been told, by the same clock. Workers may have
    /// something under way; without any, it is now.
    #[must_use]
    pub fn told_until(&self) -> Nanos {
        let under_way = match &self.work {
            Work::Here(_) => None,
            Work::There(spread) => spread.under_way(),
        };
        under_way.unwrap_or_else(|| self.now())
    }

    /// Waits a moment for events and feeds them to the engine; returns after a bounded number of
    /// events or a few milliseconds. What the engine finds goes to `sink`; `tap` hears what it is
    /// told. With several workers both hear of events a little later, in the same order.
    ///
    /// # Errors
    ///
    /// [`Error::Wait`] when the kernel does not let it wait; [`Error::Map`] when it takes no more
    /// executables.
    pub fn poll(&mut self, sink: &mut dyn Sink, tap: &mut dyn Tap) -> Result<(), Error> {
        self.waiter.wait(self.sleep).map_err(Error::Wait)?;
        let read = self.read(sink, tap);
        self.sleep = match read {
            Read::Nothing => (self.sleep * 2).min(IDLE_SLEEP.max(self.pause)),
            Read::All => BUSY_SLEEP.max(self.pause),
            Read::Some => Duration::ZERO,
        };
        let now = Clock::monotonic();
        if let Some(probes) = &mut self.probes {
            probes.poll(&mut self.kernel, self.work.learner());
        }
        if now.saturating_sub(self.last_tick) >= TICK {
            self.last_tick = now;
            self.clock.adjust();
            self.tick(now, sink, tap);
            if now.saturating_sub(self.last_look) >= LOOK {
                self.last_look = now;
                self.kernel.follow_executables()?;
            }
        }
        if let Work::There(spread) = &mut self.work {
            spread.give(&self.clock, sink, tap);
            if spread.under_way().is_some() {
                self.sleep = self.sleep.min(BUSY_SLEEP.max(self.pause));
            }
        }
        Ok(())
    }

    /// Lets time pass.
    fn tick(&mut self, now: u64, sink: &mut dyn Sink, tap: &mut dyn Tap) {
        let sweeps = now.saturating_sub(self.last_sweep) >= SWEEP;
        if sweeps {
            self.last_sweep = now;
        }
        let clock = &self.clock;
        match &mut self.work {
            Work::Here(shard) => {
                shard.tick(now, Listeners { sink, tap, clock });
                if sweeps {
                    shard.sweep(now, Listeners { sink, tap, clock });
                }
            }
            Work::There(spread) => {
                spread.tick(now);
                if sweeps {
                    spread.sweep(now);
                }
            }
        }
    }

    /// Replaces the filters while it observes. What the old and the new ones let through is not
    /// interrupted; of TCP connections that are let through again, what passed meanwhile is a gap of
    /// known length. Unix sockets and TLS sessions that were silent since the filters were changed
    /// last are met anew, in their middle, because nobody counted what they may have said. So are
    /// connections that were left out for their protocol, which is wanted now.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] where there are more than a map holds; the old ones stay.
    pub fn set_filters(
        &mut self,
        filters: &Filters,
        sink: &mut dyn Sink,
        tap: &mut dyn Tap,
    ) -> Result<(), Error> {
        let now = Clock::monotonic();
        self.kernel.set_filters(filters)?;
        self.work
            .learner()
            .require_sockets(filters.ask_for_addresses());
        let (since, clock) = (self.filtered, &self.clock);
        match &mut self.work {
            Work::Here(shard) => {
                let to = Listeners { sink, tap, clock };
                shard.meet_anew(since, now, &filters.protocols, to);
            }
            Work::There(spread) => {
                spread.meet_anew(since, now, &filters.protocols);
                spread.give(clock, sink, tap);
                // What is said from here on is said by connections that are met anew.
                spread.settle(sink, tap);
            }
        }
        self.filtered = now;
        Ok(())
    }

    /// Sets how many bytes of one call are copied at most; more than [`MAX_CALL_BYTES`] are that
    /// many. What is beyond is a gap of known length where a protocol needs it.
    ///
    /// # Errors
    ///
    /// [`Error::Map`] when the kernel does not take it.
    ///
    /// [`MAX_CALL_BYTES`]: crate::MAX_CALL_BYTES
    pub fn set_call_bytes(&mut self, bytes: u32) -> Result<(), Error> {
        self.kernel.set_call_bytes(bytes)
    }

    /// Lets other text out of parsers from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        match &mut self.work {
            Work::Here(shard) => shard.engine.set_policy(policy),
            Work::There(spread) => {
                let each =
                    |mut shard: MutexGuard<'_, Shard>| shard.engine.set_policy(policy.clone());
                spread.shards().for_each(each);
            }
        }
    }

    /// Lets events wait for this long, unless the buffer fills: fewer looks at it cost less. What is read later
    /// is granted later, too, so that more of a long stream may be missing where it is needed.
    pub fn set_pause(&mut self, pause: Duration) {
        self.pause = pause;
    }

    /// Takes no more events, reads what is left, and ends all connections. Programs are detached
    /// when the result is dropped.
    pub fn finish(mut self, sink: &mut dyn Sink, tap: &mut dyn Tap) -> Finished {
        if self.kernel.hush().is_err() {
            self.detach();
        }
        self.drain(sink, tap);
        let now = self.now();
        let clock = &self.clock;
        match &mut self.work {
            Work::Here(shard) => shard.finish(now, Listeners { sink, tap, clock }),
            Work::There(spread) => {
                spread.settle(sink, tap);
                spread.finish(now);
                spread.give(clock, sink, tap);
                spread.settle(sink, tap);
            }
        }
        Finished {
            stats: self.stats(),
            ledger: self.ledger(),
            losses: self.kernel.losses(),
            live: self,
        }
    }

    /// Reads what is left. Where a program was preempted while it wrote an event, what is behind that waits
    /// for it; whoever it was preempted for may have the processor for long.
    fn drain(&mut self, sink: &mut dyn Sink, tap: &mut dyn Tap) {
        let mut patient_until = Instant::now() + DRAIN;
        // More than once around is what comes meanwhile.
        for _ in 0..=2 * self.kernel.ring_bytes() as usize / BATCH {
            if self.read(sink, tap) != Read::Nothing {
                patient_until = Instant::now() + DRAIN;
                continue;
            }
            if !is_readable(&self.kernel.ring) {
                return;
            }
            if Instant::now() > patient_until {
                break;
            }
            std::thread::sleep(BUSY_SLEEP);
        }
        self.read.cut_short = true;
    }

    fn detach(&mut self) {
        self.probes = None;
        self.kernel.detach();
    }

    /// Introduces the connections that are open to a tap that joins them now: it is `new`, and hears
    /// with `tap` of all that comes. What is under way is told to those who heard of it so far.
    pub fn introduce_to(&mut self, new: &mut dyn Tap, sink: &mut dyn Sink, tap: &mut dyn Tap) {
        if let Work::There(spread) = &mut self.work {
            spread.settle(sink, tap);
        }
        let now = self.now();
        self.work.each(|shard| shard.feed.introduce_to(new, now));
    }

    /// Tells of each connection that is open, as it stands.
    pub fn connections(&self, mut tell: impl FnMut(&Closed<'_>)) {
        let mut tell = |shard: &Shard| shard.engine.connections().for_each(|of| tell(&of));
        self.work.each(&mut tell);
    }

    /// How the workers are getting on; nothing where there are none.
    #[must_use]
    pub fn workers(&self) -> Vec<WorkerLoad> {
        match &self.work {
            Work::Here(_) => Vec::new(),
            Work::There(spread) => spread.loads(),
        }
    }

    /// What was made of events so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let mut ledger = self.read;
        self.work.each(|shard| ledger.merge(&shard.feed.ledger));
        ledger
    }

    /// What the engines made of it so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.work.each(|shard| stats.merge(&shard.engine.stats()));
        stats
    }

    /// What the kernel side did not deliver so far.
    pub fn losses(&mut self) -> Losses {
        self.kernel.losses()
    }

    /// Reads events, a bounded number of them, and works on them or has them worked on.
    fn read(&mut self, sink: &mut dyn Sink, tap: &mut dyn Tap) -> Read {
        let clock = &self.clock;
        match &mut self.work {
            Work::Here(shard) => {
                let (feed, tables, mut out) = shard.parts(Listeners { sink, tap, clock });
                let taken = |event: &Event<'_>, _: &[u8]| {
                    feed.event(event, tables, &mut out);
                    false
                };
                let read = take(&mut self.kernel.ring, &mut self.read, &self.probes, taken);
                shard.wish();
                read
            }
            Work::There(spread) => {
                spread.make_room(sink, tap);
                let Kernel { ring, tables, .. } = &mut self.kernel;
                let read = take(ring, &mut self.read, &self.probes, |event, record| {
                    spread.event(event, record, tables);
                    spread.is_full()
                });
                spread.give(clock, sink, tap);
                read
            }
        }
    }
}

/// How much of what was in the buffer was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Read {
    Nothing,
    /// There may be more.
    Some,
    All,
}

/// Gives events to `taken`, with the records that they were read from, until it says that these were
/// enough.
fn take(
    ring: &mut RingBuf<MapData>,
    ledger: &mut Ledger,
    probes: &Option<Probes>,
    mut taken: impl FnMut(&Event<'_>, &[u8]) -> bool,
) -> Read {
    for n in 0..BATCH {
        let Some(record) = ring.next() else {
            return if n == 0 { Read::Nothing } else { Read::All };
        };
        ledger.events += 1;
        let Some(event) = event::read(&record) else {
            ledger.unreadable_events += 1;
            continue;
        };
        ledger.process_events += u64::from(event.what.is_of_process());
        if let (What::Mapped, Some(probes)) = (&event.what, probes) {
            probes.noticed(event.header.tgid);
        }
        if taken(&event, &record) {
            break;
        }
    }
    Read::Some
}
