//! Several workers: connections are spread over threads, each with its own engine, and what these tell
//! comes together again in the order of events.
//!
//! ```text
//! ring buffer ─▶ router ─┬─▶ worker: shard ─┬─▶ one sink, one tap
//!                        ├─▶ worker: shard ─┤
//!                        └─▶ worker: shard ─┘
//! ```
//!
//! What was read at once is a turn: each worker that has something to do in it gets a batch, and gives
//! back what its shard has told. A turn is over when all of them are done with it. Then everything is
//! told to the sink and the tap, event by event, as one worker would have: so nobody behind them need
//! know of workers, be it a recording or what infers who caused whom across connections.

mod batch;
mod heard;
mod route;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use wirespan_engine::{Nanos, Sink};

use crate::clock::Clock;
use crate::event::Event;
use crate::feed::{Known, Learns};
use crate::shard::Shard;
use crate::tap::Tap;
use batch::{Batch, Job};
use heard::{Heard, tell_in_order};
use route::Router;

/// Turns that may be under way: more would wait here instead of in the ring buffer, which is bounded
/// and tells what it has no room for.
const MOST_TURNS: usize = 4;

/// Events of a turn up to which no worker is woken for it: threads that wake each other every millisecond
/// cost more than they take off, and what comes in so slowly needs no help.
const FEW: u64 = 256;

/// Workers, and what is under way.
pub(crate) struct Spread {
    router: Router,
    /// See [`FEW`].
    few: u64,
    workers: Vec<Worker>,
    turns: VecDeque<Turn>,
    /// Batches to be filled again, and what was heard to be forgotten.
    empty: Vec<(Batch, Heard)>,
}

/// What was read at once.
struct Turn {
    /// When that was.
    read: Nanos,
    /// By worker, whether it has something to do that it is not done with.
    due: Vec<bool>,
    heard: Vec<Heard>,
    batches: Vec<Batch>,
}

/// What a worker is given, and what it gives back.
struct Given {
    batch: Batch,
    heard: Heard,
    clock: Clock,
    /// Whether the tap hears of streams.
    streams: bool,
}

struct Worker {
    shard: Arc<Mutex<Shard>>,
    /// `None` when there will be no more.
    jobs: Option<SyncSender<Given>>,
    done: Receiver<(Batch, Heard)>,
    thread: Option<JoinHandle<()>>,
    /// Events that it was given.
    given: u64,
    /// Events that it is done with.
    taken: Arc<AtomicU64>,
}

/// How a worker is getting on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct WorkerLoad {
    /// Events that were given to it.
    pub events: u64,
    /// Of them, those that wait for it, or that it is working on.
    pub waiting: u64,
    /// Bytes that its events stand for.
    pub moved_bytes: u64,
    /// Bytes of its streams that were never captured.
    pub lost_bytes: u64,
}

impl Spread {
    /// Starts a thread for each shard.
    pub(crate) fn start(shards: Vec<Shard>) -> std::io::Result<Self> {
        let router = Router::new(shards.len());
        let workers = shards.into_iter().enumerate();
        let workers = workers.map(|(number, shard)| Worker::start(number, shard));
        Ok(Self {
            router,
            few: FEW,
            workers: workers.collect::<Result<_, _>>()?,
            turns: VecDeque::new(),
            empty: Vec::new(),
        })
    }

    /// Takes an event, and the record that it was read from.
    pub(crate) fn event(&mut self, event: &Event<'_>, record: &[u8], known: &dyn Known) {
        self.router.event(event, record, known);
    }

    /// Whether no more events should be read before the next [`Spread::give`].
    pub(crate) fn is_full(&self) -> bool {
        self.router.is_full()
    }

    /// Who is to hear what is found out of processes.
    pub(crate) fn learner(&mut self) -> &mut dyn Learns {
        &mut self.router
    }

    pub(crate) fn tick(&mut self, now: u64) {
        self.router.tick(now);
    }

    pub(crate) fn sweep(&mut self, now: u64) {
        self.router.all(&Job::Sweep(now));
    }

    pub(crate) fn meet_anew(&mut self, since: u64, now: u64, protocols: &[String]) {
        self.router
            .all(&Job::MeetAnew(since, now, protocols.into()));
    }

    pub(crate) fn finish(&mut self, now: Nanos) {
        self.router.finish();
        self.router.all(&Job::Finish(now));
    }

    /// Gives the workers what there is to do, which is not waited for here. Where that is little, and
    /// they have nothing else to do, it is done here and told.
    pub(crate) fn give(&mut self, clock: &Clock, sink: &mut dyn Sink, tap: &mut dyn Tap) {
        if self.router.is_empty() {
            return;
        }
        let is_little = self.turns.is_empty() && self.router.events() <= self.few;
        let mut used = Vec::new();
        let empty = &mut self.empty;
        let batches = self.router.turn(|| {
            let (batch, heard) = empty.pop().unwrap_or_default();
            used.push(heard);
            batch
        });
        let mut turn = Turn {
            read: clock.wall(Clock::monotonic()),
            due: Vec::with_capacity(batches.len()),
            heard: Vec::with_capacity(batches.len()),
            batches: Vec::with_capacity(batches.len()),
        };
        for (worker, batch) in self.workers.iter_mut().zip(batches) {
            let is_due = !batch.is_empty();
            turn.due.push(is_due && !is_little);
            if !is_due {
                continue;
            }
            let given = Given {
                batch,
                heard: used.pop().unwrap_or_default(),
                clock: *clock,
                streams: tap.hears_streams(),
            };
            worker.given += given.batch.events;
            match is_little {
                true => {
                    let (batch, heard) = given.work(&worker.shard, &worker.taken);
                    turn.batches.push(batch);
                    turn.heard.push(heard);
                }
                false => worker.give(given),
            }
        }
        self.turns.push_back(turn);
        if is_little {
            self.end_turn(false, sink, tap);
        }
    }

    /// Tells what is known by now. Where too much is under way, waits until some of it is over.
    pub(crate) fn make_room(&mut self, sink: &mut dyn Sink, tap: &mut dyn Tap) {
        while self.turns.len() >= MOST_TURNS {
            self.end_turn(true, sink, tap);
        }
        while self.end_turn(false, sink, tap) {}
    }

    /// Waits until nothing is under way, and tells all.
    pub(crate) fn settle(&mut self, sink: &mut dyn Sink, tap: &mut dyn Tap) {
        while self.end_turn(true, sink, tap) {}
    }

    /// When what is not told yet was read, if there is such.
    pub(crate) fn under_way(&self) -> Option<Nanos> {
        self.turns.front().map(|turn| turn.read)
    }

    /// Ends the oldest turn, if it is over, or when it is.
    fn end_turn(&mut self, wait: bool, sink: &mut dyn Sink, tap: &mut dyn Tap) -> bool {
        let Some(turn) = self.turns.front_mut() else {
            return false;
        };
        for (worker, due) in self.workers.iter_mut().zip(&mut turn.due) {
            if !*due {
                continue;
            }
            let Some((batch, heard)) = worker.done(wait) else {
                return false;
            };
            *due = false;
            turn.batches.push(batch);
            turn.heard.push(heard);
        }
        tell_in_order(&turn.heard, sink, tap);
        if let Some(turn) = self.turns.pop_front() {
            let both = turn.batches.into_iter().zip(turn.heard);
            self.empty.extend(both.map(|(mut batch, mut heard)| {
                batch.clear();
                heard.clear();
                (batch, heard)
            }));
        }
        true
    }

    /// The shards. What they have told may be under way.
    pub(crate) fn shards(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.workers.iter().map(|worker| lock(&worker.shard))
    }

    pub(crate) fn loads(&self) -> Vec<WorkerLoad> {
        self.workers.iter().map(Worker::load).collect()
    }
}

impl Given {
    /// Does it, and counts the events.
    fn work(mut self, shard: &Mutex<Shard>, taken: &AtomicU64) -> (Batch, Heard) {
        let (batch, heard) = (&self.batch, &mut self.heard);
        batch.work(&mut lock(shard), &self.clock, self.streams, heard);
        taken.fetch_add(batch.events, Ordering::Relaxed);
        (self.batch, self.heard)
    }
}

impl Worker {
    fn start(number: usize, shard: Shard) -> std::io::Result<Self> {
        let shard = Arc::new(Mutex::new(shard));
        let taken = Arc::new(AtomicU64::new(0));
        // Of a round of reading, events are one turn and the rest another: it is never waited for.
        let (jobs, to_do) = sync_channel(MOST_TURNS + 2);
        let (report, done) = sync_channel(MOST_TURNS + 2);
        let (own, counted) = (Arc::clone(&shard), Arc::clone(&taken));
        let thread = Builder::new().name(format!("worker-{number}"));
        let thread = thread.spawn(move || work(&own, &to_do, &report, &counted))?;
        Ok(Self {
            shard,
            jobs: Some(jobs),
            done,
            thread: Some(thread),
            given: 0,
            taken,
        })
    }

    fn give(&self, given: Given) {
        // One that is gone is noticed where it is waited for.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(given);
        }
    }

    /// What it has done next; `None` if it has not, and is not to be waited for.
    fn done(&mut self, wait: bool) -> Option<(Batch, Heard)> {
        let done = match wait {
            true => self.done.recv().map_err(|_| TryRecvError::Disconnected),
            false => self.done.try_recv(),
        };
        match done {
            Ok(done) => Some(done),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => self.has_failed(),
        }
    }

    /// Its thread has ended by itself: it has panicked, and so does whoever waits for it.
    fn has_failed(&mut self) -> ! {
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(cause)) => panic::resume_unwind(cause),
            _ => unreachable!("a worker ends when it gets no more jobs"),
        }
    }

    fn load(&self) -> WorkerLoad {
        let shard = lock(&self.shard);
        let taken = self.taken.load(Ordering::Relaxed);
        let stats = shard.engine.stats();
        let ledgers = stats.protocols.values().map(|protocol| &protocol.bytes);
        WorkerLoad {
            events: self.given,
            waiting: self.given.saturating_sub(taken),
            moved_bytes: shard.feed.ledger.moved_bytes,
            lost_bytes: ledgers
                .map(|both| both.to_server.lost + both.to_client.lost)
                .sum(),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of it has told of itself.
            let _ = thread.join();
        }
    }
}

fn work(
    shard: &Mutex<Shard>,
    jobs: &Receiver<Given>,
    done: &SyncSender<(Batch, Heard)>,
    taken: &AtomicU64,
) {
    for given in jobs {
        if done.send(given.work(shard, taken)).is_err() {
            return;
        }
    }
}

/// A worker that has panicked is noticed where it is waited for.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}
