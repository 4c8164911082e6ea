//! Shards on several threads.
//!
//! The reading thread copies segments into batches, one for each worker; every worker owns the
//! shards whose index it is congruent to. All workers get a batch, even an empty one, at each flush,
//! and answer in order, so that the answers to one flush are the findings of one range of packets.

use std::ops::{ControlFlow, Range};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::Collect;
use crate::run::{Lanes, Wait};
use crate::segment::Segment;
use crate::shard::Shard;
use crate::tcp::Moment;

/// Most batches under way to each worker; each holds the segments of one read.
const UNDER_WAY: usize = 4;

/// What a worker is to do, in order.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    /// Payloads.
    bytes: Vec<u8>,
}

enum Job {
    Segment {
        shard: usize,
        segment: Segment,
        payload: Range<usize>,
        at: Moment,
    },
    Tick(Moment),
    Finish(Moment),
}

/// A worker's answer to a batch.
struct Answer<T> {
    /// What each of its shards found.
    found: Vec<(usize, T)>,
    /// The batch, to be used again.
    empty: Batch,
}

/// The reading side.
pub(crate) struct Workers<T> {
    workers: Vec<Worker<T>>,
    shards: usize,
    under_way: usize,
}

struct Worker<T> {
    batches: Sender<Batch>,
    answers: Receiver<Answer<T>>,
    next: Batch,
    spare: Vec<Batch>,
}

/// Runs `body` with the shards on `threads` threads, and returns the shards in order.
pub(crate) fn with<C: Collect, R>(
    shards: Vec<Shard<C>>,
    threads: usize,
    body: impl FnOnce(&mut Workers<C::Batch>) -> R,
) -> (Vec<Shard<C>>, R) {
    let count = shards.len();
    let mut shares: Vec<Vec<(usize, Shard<C>)>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, shard) in shards.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(index % threads) {
            share.push((index, shard));
        }
    }
    thread::scope(|scope| {
        let mut workers = Workers {
            workers: Vec::new(),
            shards: count,
            under_way: 0,
        };
        let mut handles = Vec::new();
        for share in shares {
            let (batches, incoming) = unbounded();
            let (outgoing, answers) = unbounded();
            handles.push(scope.spawn(move || work(share, &incoming, &outgoing)));
            let (next, spare) = (Batch::default(), Vec::new());
            workers.workers.push(Worker {
                batches,
                answers,
                next,
                spare,
            });
        }
        let result = body(&mut workers);
        // The workers end when their batches do.
        drop(workers);
        let mut shards = Vec::with_capacity(count);
        for handle in handles {
            match handle.join() {
                Ok(share) => shards.extend(share),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        shards.sort_by_key(|(index, _)| *index);
        (shards.into_iter().map(|(_, shard)| shard).collect(), result)
    })
}

/// A worker's life.
fn work<C: Collect>(
    mut share: Vec<(usize, Shard<C>)>,
    batches: &Receiver<Batch>,
    answers: &Sender<Answer<C::Batch>>,
) -> Vec<(usize, Shard<C>)> {
    for mut batch in batches {
        for job in batch.jobs.drain(..) {
            match job {
                Job::Segment {
                    shard,
                    segment,
                    payload,
                    at,
                } => {
                    let payload = batch.bytes.get(payload).unwrap_or_default();
                    if let Some((_, shard)) = share.iter_mut().find(|(index, _)| *index == shard) {
                        shard.segment(&segment, payload, at);
                    }
                }
                Job::Tick(at) => share.iter_mut().for_each(|(_, shard)| shard.tick(at)),
                Job::Finish(at) => share.iter_mut().for_each(|(_, shard)| shard.finish(at)),
            }
        }
        batch.bytes.clear();
        let found = share
            .iter_mut()
            .map(|(index, shard)| (*index, shard.collector.take()))
            .collect();
        if answers
            .send(Answer {
                found,
                empty: batch,
            })
            .is_err()
        {
            break;
        }
    }
    share
}

impl<T> Workers<T> {
    /// Waits for the answers to the oldest flush; `None` when a worker has died.
    fn answer(&mut self) -> Option<Vec<T>> {
        let mut found: Vec<Option<T>> = (0..self.shards).map(|_| None).collect();
        for worker in &mut self.workers {
            let answer = worker.answers.recv().ok()?;
            worker.spare.push(answer.empty);
            for (index, batch) in answer.found {
                if let Some(place) = found.get_mut(index) {
                    *place = Some(batch);
                }
            }
        }
        self.under_way -= 1;
        found.into_iter().collect()
    }
}

impl<T> Lanes for Workers<T> {
    type Batch = T;

    fn segment(&mut self, shard: usize, segment: &Segment, payload: &[u8], at: Moment) {
        let count = self.workers.len();
        if let Some(worker) = self.workers.get_mut(shard % count) {
            let from = worker.next.bytes.len();
            worker.next.bytes.extend_from_slice(payload);
            let payload = from..worker.next.bytes.len();
            worker.next.jobs.push(Job::Segment {
                shard,
                segment: segment.clone(),
                payload,
                at,
            });
        }
    }

    fn tick(&mut self, at: Moment) {
        self.workers
            .iter_mut()
            .for_each(|worker| worker.next.jobs.push(Job::Tick(at)));
    }

    fn finish(&mut self, at: Moment) {
        self.workers
            .iter_mut()
            .for_each(|worker| worker.next.jobs.push(Job::Finish(at)));
    }

    fn flush(
        &mut self,
        wait: Wait,
        deliver: &mut dyn FnMut(Vec<T>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for worker in &mut self.workers {
            let empty = worker.spare.pop().unwrap_or_default();
            let batch = std::mem::replace(&mut worker.next, empty);
            if worker.batches.send(batch).is_err() {
                return ControlFlow::Break(());
            }
        }
        self.under_way += 1;
        let stay = if wait == Wait::Yes { 0 } else { UNDER_WAY };
        while self.under_way > stay {
            match self.answer() {
                Some(found) => deliver(found)?,
                None => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }
}
