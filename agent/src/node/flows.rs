//! Exchanges as they happen, for whoever asks the agent for them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use wirespan_telemetry::{Fed, Feeder, Flow, flow};

/// Who may follow at once.
const MOST: usize = 16;
/// Bytes that wait for each of them.
const WAITING: usize = 1 << 20;

/// Those who follow. A reader that is slow loses lines, its own, and nobody waits for it.
#[derive(Debug, Default)]
pub(super) struct Flows {
    followers: Mutex<Vec<Feeder>>,
    /// Whether there are any: asked for each exchange.
    any: AtomicBool,
    /// Lines that were sent, to all together.
    sent: AtomicU64,
    /// Lines that found no room.
    dropped: AtomicU64,
}

/// How many there are, and what they got.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Followed {
    pub(super) followers: usize,
    pub(super) sent: u64,
    pub(super) dropped: u64,
}

impl Flows {
    /// One more follows from now on; `None` where there are too many.
    pub(super) fn follow(&self) -> Option<Flow> {
        let mut followers = self.lock();
        followers.retain(|follower| !follower.is_gone());
        if followers.len() >= MOST {
            return None;
        }
        let (feeder, body) = flow(WAITING);
        followers.push(feeder);
        self.any.store(true, Ordering::Relaxed);
        Some(body)
    }

    /// Whether anybody follows.
    pub(super) fn is_followed(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Tells the followers of an exchange: its record, a line.
    pub(super) fn tell(&self, line: &[u8]) {
        let mut followers = self.lock();
        followers.retain(|follower| match follower.feed(line) {
            Fed::Taken => {
                self.sent.fetch_add(1, Ordering::Relaxed);
                true
            }
            Fed::Full => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Fed::Gone => false,
        });
        self.any.store(!followers.is_empty(), Ordering::Relaxed);
    }

    /// Nobody follows any more: what they were told ends.
    pub(super) fn end(&self) {
        self.lock().clear();
        self.any.store(false, Ordering::Relaxed);
    }

    pub(super) fn followed(&self) -> Followed {
        let mut followers = self.lock();
        followers.retain(|follower| !follower.is_gone());
        Followed {
            followers: followers.len(),
            sent: self.sent.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Feeder>> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
