//! What a worker is to do in a turn.

use crate::clock::Clock;
use crate::event;
use crate::feed::Learns as _;
use crate::processes::Tasks;
use crate::shard::{Listeners, Shard};
use std::cell::Cell;
use std::sync::Arc;
use wirespan_engine::{Nanos, Sink};

use super::heard::Heard;
use crate::tap::Tap;

/// Events, and what else there is to do, in order. Each has its place in the turn, by which what
/// comes of it is put back in order with what comes of the batches of others.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Records of the ring buffer, behind each other.
    bytes: Vec<u8>,
    jobs: Vec<(u32, Job)>,
    /// Events among them.
    pub(super) events: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Bytes of a record.
    Event(usize),
    /// A process has a name, and is known to be made of something.
    Process(u32, [u8; 16], Option<Tasks>),
    Understand(u32, Tasks),
    Probed(u64),
    Cover(u32, u64),
    RequireSockets(bool),
    /// Sessions whose sockets are not known wait no longer.
    Release,
    /// Time passes.
    Tick(u64),
    Sweep(u64),
    /// The filters were changed before, and now, when connections of these protocols are read.
    MeetAnew(u64, u64, Arc<[String]>),
    Finish(Nanos),
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.jobs.clear();
        self.events = 0;
    }

    pub(super) fn push(&mut self, place: u32, job: Job) {
        self.jobs.push((place, job));
    }

    pub(super) fn push_event(&mut self, place: u32, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.events += 1;
        self.push(place, Job::Event(record.len()));
    }

    /// Does it all; what comes of it is in `heard`.
    pub(super) fn work(&self, shard: &mut Shard, clock: &Clock, streams: bool, heard: &mut Heard) {
        let place = Cell::new(0);
        heard.hear(&place, streams, |sink, tap| {
            let mut rest = &self.bytes[..];
            for (at, job) in &self.jobs {
                place.set(*at);
                match job {
                    Job::Event(len) => {
                        let (record, behind) = rest.split_at(*len);
                        rest = behind;
                        event(shard, record, Listeners { sink, tap, clock });
                    }
                    other => other.work(shard, sink, tap, clock),
                }
            }
        });
        shard.wish();
    }
}

fn event<'a>(shard: &'a mut Shard, record: &[u8], to: Listeners<'a>) {
    // It was understood before it came here.
    if let Some(event) = event::read(record) {
        let (feed, tables, mut out) = shard.parts(to);
        feed.event(&event, tables, &mut out);
    }
}

impl Job {
    fn work(&self, shard: &mut Shard, sink: &mut dyn Sink, tap: &mut dyn Tap, clock: &Clock) {
        let to = Listeners { sink, tap, clock };
        match *self {
            Self::Event(_) => {}
            Self::Process(tgid, name, tasks) => shard.feed.introduce_process(tgid, name, tasks),
            Self::Understand(tgid, tasks) => shard.feed.understand(tgid, tasks),
            Self::Probed(since) => shard.feed.probed(since),
            Self::Cover(tgid, since) => shard.feed.cover(tgid, since),
            Self::RequireSockets(required) => shard.feed.require_sockets(required),
            Self::Release => {
                let (feed, _, mut out) = shard.parts(to);
                feed.release_all(&mut out);
            }
            Self::Tick(now) => shard.tick(now, to),
            Self::Sweep(now) => shard.sweep(now, to),
            Self::MeetAnew(since, now, ref protocols) => shard.meet_anew(since, now, protocols, to),
            Self::Finish(now) => shard.finish(now, to),
        }
    }
}
