//! A process that was looked up, and what came to be known of its pod since.

use std::sync::Arc;
use std::time::Instant;

use wirespan_engine::Process;
use wirespan_export::owner::Owner;
use wirespan_identity as identity;

use super::describe;
use crate::pods::{Pods, Told};

/// A process that was looked up.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) process: Process,
    pub(super) owner: Arc<Owner>,
    pub(super) when: Instant,
    uses: Use,
    /// What is needed when more is known of its pod, if it may be in one.
    inside: Option<Box<Inside>>,
}

/// Held by each connection of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Use(Arc<()>);

/// A process in a container.
#[derive(Debug)]
struct Inside {
    /// As it was read: it may be gone when its pod is known.
    read: identity::Process,
    /// What was said of its pod, which stays true when the pod is gone.
    told: Option<Told>,
    /// When that was looked up, by the count of changes.
    generation: u64,
}

impl Found {
    /// A process that was `read` for the first time; `None` of one that is gone.
    pub(super) fn new(
        process: &Process,
        read: Option<identity::Process>,
        pods: &Pods,
        host: &str,
    ) -> Self {
        let mut found = Self {
            process: *process,
            owner: Arc::default(),
            when: Instant::now(),
            uses: Use::default(),
            inside: None,
        };
        found.describe(read, pods, host);
        if let Some(inside) = &found.inside
            && inside.read.placement.pod.is_some()
        {
            pods.looked_up(inside.told.is_some());
        }
        found
    }

    /// It has one more connection, as long as this is kept.
    pub(super) fn used(&self) -> Use {
        self.uses.clone()
    }

    /// Whether it has connections.
    pub(super) fn is_used(&self) -> bool {
        Arc::strong_count(&self.uses.0) > 1
    }

    /// Takes what is known by now: of the process, where it was `read` again, and of its pod.
    pub(super) fn look(&mut self, read: Option<identity::Process>, pods: &Pods, host: &str) {
        let inside = self.inside.as_ref();
        let is_behind = inside.is_some_and(|inside| inside.generation != pods.generation());
        if read.is_some() || is_behind {
            let read = read.or_else(|| inside.map(|inside| inside.read.clone()));
            self.describe(read, pods, host);
        }
    }

    fn describe(&mut self, read: Option<identity::Process>, pods: &Pods, host: &str) {
        // Before the look: what changes meanwhile is looked at again.
        let generation = pods.generation();
        let before = self.inside.take();
        let told = read.as_ref().and_then(|read| {
            let same = |before: Box<Inside>| {
                let is_same = before.read.placement == read.placement;
                before.told.filter(|_| is_same)
            };
            pods.find(read).or_else(|| before.and_then(same))
        });
        let owner = describe::owner(read.as_ref(), told.as_ref(), &self.process, host);
        if owner != *self.owner {
            self.owner = Arc::new(owner);
        }
        let placed = |read: &identity::Process| {
            pods.is_asked() && (read.placement.container.is_some() || read.placement.pod.is_some())
        };
        self.inside = read.filter(placed).map(|read| {
            Box::new(Inside {
                read,
                told,
                generation,
            })
        });
    }
}
