//! Where the pictures come from.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use wirespan_capture::Live;
use wirespan_engine::{Exchange, Nanos, Sink};
use wirespan_identity::Root;

use super::board::Board;
use super::picture::Picture;
use crate::census::Census;
use crate::filter::Filter;
use crate::node;
use crate::pods::Pods;

/// How often there is a new picture.
const EVERY: Duration = Duration::from_secs(1);

/// How long to wait for the next one at a time: keys wait, too.
const SHORT: Duration = Duration::from_millis(20);

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

/// What a running agent observes.
pub(super) struct Agent {
    pictures: Receiver<Result<Picture, String>>,
}

impl Agent {
    /// Asks the agent at this socket once a second, in a thread of its own: it may be slow to answer.
    pub(super) fn new(socket: PathBuf) -> Self {
        let (sender, pictures) = sync_channel(1);
        thread::spawn(move || {
            // Until nobody takes them any more.
            while sender.send(asked(&socket)).is_ok() {
                thread::sleep(EVERY);
            }
        });
        Self { pictures }
    }
}

/// What the agent at this socket shows now.
///
/// # Errors
///
/// Why there is no answer, or what it says instead.
pub(super) fn asked(socket: &Path) -> Result<Picture, String> {
    let at = socket.display();
    let answer = node::get(socket, "/top");
    let (code, body) = answer.map_err(|error| format!("cannot ask an agent at {at}: {error}"))?;
    if code != 200 {
        let said = String::from_utf8_lossy(&body);
        return Err(format!("{at}: {code} {}", said.trim_end()));
    }
    serde_json::from_slice(&body).map_err(|error| format!("{at}: {error}"))
}

impl Source for Agent {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        match self.pictures.recv_timeout(SHORT) {
            Ok(picture) => picture.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("nobody asks any more".to_owned()),
        }
    }
}

/// Counts exchanges that pass the filter.
struct Counter {
    board: Board,
    filter: Filter,
    census: Census,
    now: Nanos,
}

impl Sink for Counter {
    fn exchange(&mut self, exchange: &Exchange<'_>) {
        if self.filter.matches(exchange) {
            let known = self.census.known(exchange);
            self.board.record(exchange, &known.ends(), self.now);
        }
    }
}

impl Own {
    pub(super) fn new(live: Live, board: Board, filter: Filter) -> Self {
        let now = live.now();
        Self {
            live,
            counter: Counter {
                board,
                filter,
                census: Census::new(Root::default(), Pods::default()),
                now,
            },
            due: Instant::now(),
        }
    }

    /// Ends the observation.
    pub(super) fn finish(mut self) {
        let mut census = self.counter.census.clone();
        self.live.finish(&mut self.counter, &mut census);
    }
}

impl Source for Own {
    fn next(&mut self) -> Result<Option<Picture>, String> {
        self.counter.now = self.live.now();
        let mut census = self.counter.census.clone();
        let polled = self.live.poll(&mut self.counter, &mut census);
        polled.map_err(|error| error.to_string())?;
        if Instant::now() < self.due {
            return Ok(None);
        }
        self.due = Instant::now() + EVERY;
        let losses = self.live.losses();
        let lost = losses.ring_full_events + losses.share_events;
        Ok(Some(self.counter.board.picture(self.live.now(), lost)))
    }
}
