//! The progress bar.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use wirespan_replay::Progress;

/// Work that takes less needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Shows how far a replay has come: on standard error, if that is a terminal and the work takes
/// long enough.
#[derive(Debug)]
pub(crate) struct Bar {
    wanted: bool,
    began: Instant,
    shown: Option<ProgressBar>,
}

impl Bar {
    pub(crate) fn new(quiet: bool) -> Self {
        Self {
            wanted: !quiet && io::stderr().is_terminal(),
            began: Instant::now(),
            shown: None,
        }
    }

    pub(crate) fn update(&mut self, now: Progress, exchanges: u64) {
        if !self.wanted || self.began.elapsed() < PATIENCE {
            return;
        }
        let bar = self.shown.get_or_insert_with(|| bar(now.total));
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = HumanBytes((now.bytes as f64 / seconds) as u64);
        bar.set_position(now.bytes);
        bar.set_message(format!("{rate}/s, {exchanges} exchanges"));
    }

    /// Runs `write` with the bar out of the way.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.shown {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.shown.take() {
            bar.finish_and_clear();
        }
        self.began = Instant::now();
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let template = match total {
        Some(_) => "{bar:30} {bytes}/{total_bytes} {msg}",
        None => "{spinner} {bytes} {msg}",
    };
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
