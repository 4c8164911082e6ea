//! What `top` shows at one moment, as data: made by a board, shown by a screen, and sent by an agent
//! to the `top` that asks for it.

use serde::{Deserialize, Serialize};

/// Exchanges of a short time that has just passed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Picture {
    /// For how long they were observed, in seconds.
    pub(crate) seconds: f64,
    /// All of them.
    pub(crate) total: Figures,
    /// By service and side.
    pub(crate) services: Vec<Row>,
    /// By service, side, protocol and operation.
    pub(crate) operations: Vec<Row>,
    /// By who calls whom.
    pub(crate) edges: Vec<Row>,
    /// Those that took longest, longest first.
    pub(crate) slowest: Vec<Request>,
    /// Those that failed, latest first.
    pub(crate) failed: Vec<Request>,
    /// Events that were lost on their way from the kernel, since observation began.
    pub(crate) lost_events: u64,
}

/// One row of a table. What does not tell its exchanges apart is empty.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Row {
    /// Who was observed; of an edge, who calls.
    pub(crate) service: String,
    /// Who is called.
    pub(crate) peer: String,
    /// `client`, `server` or `wire`.
    pub(crate) side: String,
    /// Protocol of the records.
    pub(crate) protocol: String,
    /// Method and route, summary of a statement, command.
    pub(crate) operation: String,
    /// The exchanges.
    pub(crate) figures: Figures,
}

/// What is known of a set of exchanges. Durations are in nanoseconds; `None` where none is known.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// Exchanges of the time that has just passed.
    pub(crate) count: u64,
    /// Those of them that are errors from the server's side.
    pub(crate) errors: u64,
    /// Half of them took less.
    pub(crate) p50: Option<u64>,
    /// All but one of twenty took less.
    pub(crate) p95: Option<u64>,
    /// All but one of a hundred took less.
    pub(crate) p99: Option<u64>,
    /// The longest.
    pub(crate) max: Option<u64>,
    /// Exchanges since the row is there.
    pub(crate) ever: u64,
}

/// One exchange.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Request {
    /// Time of day in UTC of its beginning.
    pub(crate) at: String,
    /// In nanoseconds, where it is known.
    pub(crate) duration: Option<u64>,
    /// Who was observed.
    pub(crate) service: String,
    /// `client`, `server` or `wire`.
    pub(crate) side: String,
    /// Protocol of the records.
    pub(crate) protocol: String,
    /// Operation of the records.
    pub(crate) operation: String,
    /// Target of the records, redacted as there.
    pub(crate) target: String,
    /// Status of the records.
    pub(crate) status: String,
    /// The other end.
    pub(crate) peer: String,
}
