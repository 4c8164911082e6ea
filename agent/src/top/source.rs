//! Where the pictures come from.

use std::time::{Duration, Instant};

use wirespan_capture::Live;
use wirespan_engine::{Exchange, Nanos, Sink};

use super::board::Board;
use super::picture::Picture;
use crate::filter::Filter;

/// How often there is a new picture.
const EVERY: Duration = Duration::from_secs(1);

/// Gives pictures one after the other.
pub(super) trait Source {
    /// The next picture, once it is time for it. Waits for some milliseconds at most.
    ///
    /// # Errors
    ///
    /// Why there will be none now.
    fn next(&mut self) -> Result<Option<Picture>, String>;
}

/// What this program observes itself.
pub(super) struct Own {
    pub(super) live: Live,
    counter: Counter,
    due: Instant,
}

/// Counts exchanges that pass the filter.
struct Counter {
    board: Board,
    filter: Filter,
    now: Nanos,
}

impl Sink for Counter {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        if self.filter.matches(exchange) {
            self.board.record(exchange, self.now);
        }
    }
}

impl Own {
    pub(super) fn new(live: Live, board: Board, filter: Filter) -> Self {
        let now = live.now();
        Self {
            live,
            counter: Counter { board, filter, now },
            due: Instant::now(),
        }
    }

    /// Ends the observation.
    pub(super) fn finish(mut self) {
        self.live.finish(&mut self.counter, &mut ());
    }
}

impl Source for Own {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        self.counter.now = self.live.now();
        let polled = self.live.poll(&mut self.counter, &mut ());
        polled.map_err(|error| error.to_string())?;
        if Instant::now() < self.due {
            return Ok(None);
        }
        self.due = Instant::now() + EVERY;
        let lost = self.live.losses().ring_full_events;
        Ok(Some(self.counter.board.picture(self.live.now(), lost)))
    }
}
