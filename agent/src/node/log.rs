//! What the agent says on standard error while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::Level;
use crate::terminal::Terminal;

/// Lines on standard error, down to a level that can change while they are written.
#[derive(Clone, Debug)]
pub(super) struct Log {
    terminal: Terminal,
    level: Arc<AtomicU8>,
}

impl Log {
    pub(super) fn new(terminal: Terminal, level: Level) -> Self {
        let level = Arc::new(AtomicU8::new(level as u8));
        Self { terminal, level }
    }

    /// Says nothing below `level` from now on.
    pub(super) fn set(&self, level: Level) {
        self.level.store(level as u8, Ordering::Relaxed);
    }

    pub(super) fn error(&self, message: &str) {
        self.say(Level::Error, "error: ", message);
    }

    pub(super) fn warn(&self, message: &str) {
        self.say(Level::Warn, "warning: ", message);
    }

    pub(super) fn info(&self, message: &str) {
        self.say(Level::Info, "", message);
    }

    /// What somebody did to the agent is said whatever the level.
    pub(super) fn audit(&self, message: &str) {
        self.say(Level::Error, "", message);
    }

    fn say(&self, level: Level, kind: &str, message: &str) {
        if level as u8 <= self.level.load(Ordering::Relaxed) {
            self.terminal.note(&format!("wirespan: {kind}{message}\n"));
        }
    }
}
