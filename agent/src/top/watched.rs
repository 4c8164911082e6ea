//! The board of a running agent: there while somebody asks for its pictures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wirespan_engine::{Exchange, Nanos};
use wirespan_export::owner::Ends;
use wirespan_export::semconv::Routes;

use super::HALF;
use super::board::Board;
use super::picture::Picture;

/// Nobody looks any more when nobody has asked for so long.
const PATIENCE: Duration = Duration::from_secs(15);

/// A board, or none.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    board: Option<(Board, Instant)>,
    /// The time by the clock of exchanges.
    now: Nanos,
}

impl Watched {
    /// What time it is for the exchanges that come.
    pub(crate) fn at(&mut self, now: Nanos) {
        self.now = now;
        if let Some((_, asked)) = &self.board
            && asked.elapsed() > PATIENCE
        {
            self.board = None;
        }
    }

    /// Counts an exchange, if somebody looks.
    pub(crate) fn record(&mut self, exchange: &Exchange<'_>, known: &Ends<'_>) {
        if let Some((board, _)) = &mut self.board {
            board.record(exchange, known, self.now);
        }
    }

    /// What has happened of late; the first picture begins the counting.
    pub(crate) fn picture(&mut self, routes: &Arc<Routes>, lost_events: u64) -> Picture {
        let (board, asked) = self
            .board
            .get_or_insert_with(|| (Board::new(HALF, Arc::clone(routes)), Instant::now()));
        *asked = Instant::now();
        board.picture(self.now, lost_events)
    }
}
