//! Live capture from load to detach: reads events, feeds the engine, lets time pass.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wirespan_engine::api::Policy;
use wirespan_engine::{Closed, Config, Engine, Nanos, Registry, Sink, Stats};

use crate::Error;
use crate::clock::Clock;
use crate::event::{self, What};
use crate::feed::{Feed, Ledger, Output};
use crate::hooks::HookSet;
use crate::kernel::{Filters, Kernel, Losses};
use crate::memory;
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
    feed: Feed,
    engine: Engine,
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
        let mut kernel = Kernel::load(&options.filters, options.ring_bytes)?;
        let hooks = kernel.attach(&options.hooks)?;
        let waiter = Waiter::new(&kernel.ring).map_err(Error::Wait)?;
        let mut config = options.engine;
        config.hole_wait = HOLE_WAIT;
        let mut feed = Feed::new();
        let probes = match options.tls {
            true => Some(Probes::start(&mut kernel, &mut feed)?),
            false => None,
        };
        memory::give_back();
        Ok(Self {
            kernel,
            hooks,
            feed,
            probes,
            engine: Engine::new(options.registry, config),
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

    /// Waits a moment for events and feeds them to the engine; returns after a bounded number of
    /// events or a few milliseconds. What the engine finds goes to `sink`; `tap` hears what it is
    /// told.
    ///
    /// # Errors
    ///
    /// [`Error::Wait`] when the kernel does not let it wait; [`Error::Map`] when it takes no more
    /// executables.
    pub fn poll(&mut self, sink: &mut dyn Sink, tap: &mut dyn Tap) -> Result<(), Error> {
        self.waiter.wait(self.sleep).map_err(Error::Wait)?;
        let read = self.read(sink, tap);
        self.sleep = match read {
            0 => (self.sleep * 2).min(IDLE_SLEEP.max(self.pause)),
            BATCH => Duration::ZERO,
            _ => BUSY_SLEEP.max(self.pause),
        };
        self.feed.wish(&mut self.kernel.tables, &self.engine);
        let now = Clock::monotonic();
        if let Some(probes) = &mut self.probes {
            probes.poll(&mut self.kernel, &mut self.feed);
        }
        if now.saturating_sub(self.last_tick) >= TICK {
            self.last_tick = now;
            self.clock.adjust();
            let mut out = Output::new(&mut self.engine, sink, tap, &self.clock);
            self.feed.release_late(now, &mut out);
            let wall = self.clock.wall(now);
            self.engine.tick(wall, sink);
            if now.saturating_sub(self.last_look) >= LOOK {
                self.last_look = now;
                self.kernel.follow_executables()?;
            }
            if now.saturating_sub(self.last_sweep) >= SWEEP {
                self.last_sweep = now;
                let mut out = Output::new(&mut self.engine, sink, tap, &self.clock);
                self.feed.sweep(&mut self.kernel.tables, now, &mut out);
            }
        }
        Ok(())
    }

    /// Replaces the filters while it observes. What the old and the new ones let through is not
    /// interrupted; of TCP connections that are let through again, what passed meanwhile is a gap of
    /// known length. Unix sockets and TLS sessions that were silent since the filters were changed
    /// last are met anew, in their middle, because nobody counted what they may have said.
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
        let mut out = Output::new(&mut self.engine, sink, tap, &self.clock);
        let tables = &mut self.kernel.tables;
        self.feed.meet_anew(tables, self.filtered, now, &mut out);
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
        self.engine.set_policy(policy);
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
        let mut out = Output::new(&mut self.engine, sink, tap, &self.clock);
        self.feed.finish(now, &mut out);
        self.engine.finish(now, sink);
        Finished {
            stats: self.engine.stats().clone(),
            ledger: self.feed.ledger,
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
            if self.read(sink, tap) > 0 {
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
        self.feed.ledger.cut_short = true;
    }

    fn detach(&mut self) {
        self.probes = None;
        self.kernel.detach();
    }

    /// Introduces the connections that are open to a tap that joins them now.
    pub fn introduce_to(&self, tap: &mut dyn Tap) {
        self.feed.introduce_to(tap, self.now());
    }

    /// The connections that the engine has open, as they stand.
    pub fn connections(&self) -> impl Iterator<Item = Closed<'_>> {
        self.engine.connections()
    }

    /// What was made of events so far.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.feed.ledger
    }

    /// What the engine made of it so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// What the kernel side did not deliver so far.
    pub fn losses(&mut self) -> Losses {
        self.kernel.losses()
    }

    fn read(&mut self, sink: &mut dyn Sink, tap: &mut dyn Tap) -> usize {
        let mut out = Output::new(&mut self.engine, sink, tap, &self.clock);
        let Kernel { ring, tables, .. } = &mut self.kernel;
        for n in 0..BATCH {
            let Some(record) = ring.next() else {
                return n;
            };
            self.feed.ledger.events += 1;
            let Some(event) = event::read(&record) else {
                self.feed.ledger.unreadable_events += 1;
                continue;
            };
            if let (What::Mapped, Some(probes)) = (&event.what, &self.probes) {
                probes.noticed(event.header.tgid);
            }
            self.feed.event(&event, tables, &mut out);
        }
        BATCH
    }
}
