//! How the watch is doing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Longest message that is kept.
const MAX_MESSAGE: usize = 300;

/// Where the watch stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// The pods were never listed.
    #[default]
    Starting,
    /// Changes are told as they happen.
    Watching,
    /// The API server does not answer, or refuses: what is known may be old.
    Failing,
}

impl Phase {
    /// As it is shown.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Watching => "watching",
            Self::Failing => "failing",
        }
    }
}

/// How the watch is doing, and what it did so far.
#[derive(Clone, Debug)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// Since when.
    pub since: Instant,
    /// Pods that are known.
    pub pods: usize,
    /// Pods that found no room.
    pub left_out: u64,
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were not, or in no way that could be understood; watches that broke off.
    pub failed: u64,
    /// Changes that were told.
    pub changes: u64,
    /// Times that the API server no longer knew where a watch stood, so that all was listed anew.
    pub forgotten: u64,
    /// What failed last.
    pub error: Option<String>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::default(),
            since: Instant::now(),
            pods: 0,
            left_out: 0,
            answered: 0,
            failed: 0,
            changes: 0,
            forgotten: 0,
            error: None,
        }
    }
}

impl State {
    /// Enters a phase, unless it is in it; whether it was not.
    pub(crate) fn enter(&mut self, phase: Phase) -> bool {
        let is_new = self.phase != phase;
        if is_new {
            self.phase = phase;
            self.since = Instant::now();
        }
        is_new
    }

    /// Something failed.
    pub(crate) fn failed(&mut self, what: &str) {
        self.failed += 1;
        let plain = what.chars().map(|c| if c.is_control() { ' ' } else { c });
        self.error = Some(plain.take(MAX_MESSAGE).collect());
    }
}

/// The state, shared with whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Shared(Mutex<State>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way: what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
