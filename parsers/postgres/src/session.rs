//! What both directions share: which answers are due, in order.
//!
//! Everything that a client sends up to a `Sync`, or up to and with a simple query, is a *batch*,
//! and each batch is answered by exactly one `ReadyForQuery`. Batches are paired by that alone, so
//! that a loss costs the batches it touches and never shifts the others.

use std::collections::VecDeque;

use wirespan_parser_api::{
    Abandon, Direction, Emit, Event, ExchangeId, Fifo, Flags, Outcome, Response, keys,
};

/// An answer that is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expected {
    /// `ParseComplete`; ends the exchange where `ends`.
    Parse { id: u64, ends: bool },
    /// `BindComplete`; ends the exchange where `ends`.
    Bind { id: u64, ends: bool },
    /// `RowDescription` or `NoData`; ends the exchange where `ends`.
    Describe { id: u64, ends: bool },
    /// Rows and an end.
    Execute { id: u64 },
    /// `CloseComplete`.
    Close { id: u64 },
    /// None: the client's `CopyDone` or `CopyFail` stands here.
    CopyEnd,
    /// Answers of statements `next..end`, and `ReadyForQuery`.
    Query { batch: u64, next: u64, end: u64 },
    /// `FunctionCallResponse`, and `ReadyForQuery`.
    Call { batch: u64, id: u64 },
    /// Authentication, and `ReadyForQuery`.
    Startup { batch: u64, id: u64 },
    /// `ReadyForQuery`.
    Sync { batch: u64 },
    /// Nobody knows what, and `ReadyForQuery`.
    Unknown { batch: u64 },
}

/// How a batch ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Query { first: u64, end: u64 },
    Call { id: u64 },
    Startup { id: u64 },
    Sync,
}

/// The batch that the client is sending.
#[derive(Clone, Copy, Debug)]
struct Batch {
    number: u64,
    /// Whether all of it was seen, and its answers can be told from others'.
    pairable: bool,
}

/// The response that the server is sending.
#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    id: u64,
    /// Offset of its first byte, once it has begun.
    at: Option<u64>,
    size: u64,
}

/// What both directions share.
#[derive(Debug)]
pub(crate) struct Session {
    batches: Fifo,
    batch: Option<Batch>,
    due: VecDeque<Expected>,
    max_due: usize,
    answer: Answer,
    next_id: u64,
    /// Messages of the client's were lost, and perhaps the beginning of a batch with them.
    headless: bool,
    /// Whether pairing rests on trust.
    guessed: bool,
    /// The server has met an error and drops what the client sends up to its `Sync`.
    discarding: bool,
    /// The server reads `COPY` data and drops `Sync` until they end.
    copying: bool,
}

/// Swallows the events of [`Fifo`], whose ids are numbers of batches.
struct Quiet;

impl Emit for Quiet {
    fn emit(&mut self, _: Event<'_>) {}
}

impl Session {
    pub(crate) fn new(late_attach: bool, max_due: usize) -> Self {
        Self {
            batches: Fifo::new(late_attach),
            batch: None,
            due: VecDeque::new(),
            max_due,
            answer: Answer::default(),
            next_id: 0,
            headless: false,
            guessed: late_attach,
            discarding: false,
            copying: false,
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let due = self.due.capacity().saturating_mul(size_of::<Expected>());
        due.saturating_add(self.batches.heap_bytes())
    }

    // From here on: what the client sends.

    /// Numbers `n` exchanges; returns the first.
    pub(crate) fn number(&mut self, n: u64) -> u64 {
        let id = self.next_id;
        self.next_id = id.saturating_add(n);
        id
    }

    /// What a request that begins now must be flagged with.
    pub(crate) fn flags(&mut self, out: &mut dyn Emit) -> Flags {
        self.open_batch(out);
        if self.guessed {
            Flags::GUESSED
        } else {
            Flags::NONE
        }
    }

    /// Notes that a message begins that is a batch of its own, unless one is being sent: whatever
    /// was lost before it, it is whole.
    pub(crate) const fn begin_alone(&mut self) {
        if self.batch.is_none() {
            self.headless = false;
        }
    }

    /// Notes a message that will be answered; `Err` where its answer will not be, or never be known.
    pub(crate) fn expect(&mut self, expected: Expected, out: &mut dyn Emit) -> Result<(), Abandon> {
        let batch = self.open_batch(out);
        if self.discarding {
            return Err(Abandon::Cancelled);
        }
        if self.due.len() >= self.max_due {
            self.lose_requests();
            return Err(Abandon::Lost);
        }
        if !batch.pairable {
            return Err(Abandon::Lost);
        }
        self.due.push_back(expected);
        Ok(())
    }

    /// Notes that the last message that was noted ends its exchange; `Err` as with
    /// [`expect`](Self::expect).
    pub(crate) fn expect_end(&mut self, of: u64) -> Result<(), Abandon> {
        match self.due.back_mut() {
            Some(
                Expected::Parse { id, ends }
                | Expected::Bind { id, ends }
                | Expected::Describe { id, ends },
            ) if *id == of => {
                *ends = true;
                Ok(())
            }
            _ if self.discarding => Err(Abandon::Cancelled),
            _ => Err(Abandon::Lost),
        }
    }

    /// Notes what ends a batch; `Err` where its answers will not be, or never be known.
    pub(crate) fn end_batch(&mut self, end: End, out: &mut dyn Emit) -> Result<(), Abandon> {
        if self.copying && end == End::Sync {
            return Ok(());
        }
        if self.discarding && end != End::Sync {
            return Err(Abandon::Cancelled);
        }
        let batch = self.open_batch(out);
        self.batch = None;
        self.headless = false;
        self.discarding = false;
        if !batch.pairable {
            return Err(Abandon::Lost);
        }
        let number = batch.number;
        self.due.push_back(match end {
            End::Query { first, end } => Expected::Query {
                batch: number,
                next: first,
                end,
            },
            End::Call { id } => Expected::Call { batch: number, id },
            End::Startup { id } => Expected::Startup { batch: number, id },
            End::Sync => Expected::Sync { batch: number },
        });
        Ok(())
    }

    /// Notes the client's `CopyDone` or `CopyFail`.
    pub(crate) fn end_copy(&mut self) {
        if self.copying {
            self.copying = false;
        } else if !self.due.is_empty() && self.due.len() < self.max_due {
            // The server has not asked for the data yet, as far as we have seen.
            self.due.push_back(Expected::CopyEnd);
        }
    }

    /// Notes that messages of the client's were lost.
    pub(crate) fn lose_requests(&mut self) {
        if let Some(batch) = self.batch.take()
            && batch.pairable
        {
            self.due.push_back(Expected::Unknown {
                batch: batch.number,
            });
        }
        self.headless = true;
        self.discarding = false;
        self.copying = false;
        self.batches.gap(Direction::ToServer, &mut Quiet);
    }

    fn open_batch(&mut self, out: &mut dyn Emit) -> Batch {
        if let Some(batch) = self.batch {
            return batch;
        }
        if self.due.len() >= self.max_due {
            self.batches.gap(Direction::ToServer, &mut Quiet);
        }
        let ticket = self.batches.request();
        self.guessed = ticket.guessed;
        if ticket.pairable && self.batches.in_flight() <= 1 {
            // Nothing else is due: what is left over was answered unseen.
            self.abandon_until(None, Abandon::Lost, out);
        }
        if self.headless {
            // Perhaps the end of a batch that has a number already: proves nothing.
            self.batches.gap(Direction::ToServer, &mut Quiet);
        }
        let batch = Batch {
            number: ticket.id.0,
            pairable: ticket.pairable && !self.headless,
        };
        self.batch = Some(batch);
        batch
    }

    // From here on: what the server sends.

    /// The answer that is due next.
    pub(crate) fn next_due(&mut self) -> Option<&mut Expected> {
        while self
            .due
            .pop_front_if(|due| *due == Expected::CopyEnd)
            .is_some()
        {}
        self.due.front_mut()
    }

    /// Takes the answer that is due next.
    pub(crate) fn take_due(&mut self) {
        self.due.pop_front();
    }

    /// Notes a message of `len` bytes at `at` that belongs to the response of an exchange.
    pub(crate) fn count(&mut self, id: u64, at: u64, len: u64, out: &mut dyn Emit) {
        self.count_interim(id, len);
        if self.answer.at.is_none() {
            self.answer.at = Some(at);
            out.emit(Event::ResponseStart {
                id: ExchangeId(id),
                at,
            });
        }
    }

    /// The same for a message before the response proper: `CopyInResponse`, as HTTP's `100`.
    pub(crate) fn count_interim(&mut self, id: u64, len: u64) {
        if self.answer.id != id {
            self.answer = Answer {
                id,
                ..Answer::default()
            };
        }
        self.answer.size = self.answer.size.saturating_add(len);
    }

    /// Ends the response of an exchange with a message of `len` bytes at `at`.
    pub(crate) fn succeed(&mut self, id: u64, at: u64, len: u64, flags: Flags, out: &mut dyn Emit) {
        let response = Response {
            status: "OK",
            outcome: Outcome::Ok,
            flags,
            attrs: &[],
        };
        self.end_answer(id, at, len, response, out);
    }

    /// The same for a response that ends in an error.
    pub(crate) fn fail(&mut self, id: u64, at: u64, len: u64, sqlstate: &str, out: &mut dyn Emit) {
        // Class 00 is success, 01 a warning.
        let outcome = match sqlstate.get(..2) {
            Some("00" | "01") => Outcome::Ok,
            _ => Outcome::Error,
        };
        let code = [keys::DB_RESPONSE_STATUS_CODE.of(sqlstate)];
        let response = Response {
            status: sqlstate,
            outcome,
            flags: Flags::NONE,
            attrs: if sqlstate.is_empty() { &[] } else { &code },
        };
        self.end_answer(id, at, len, response, out);
    }

    fn end_answer(
        &mut self,
        id: u64,
        at: u64,
        len: u64,
        response: Response<'_>,
        out: &mut dyn Emit,
    ) {
        self.count_interim(id, len);
        out.emit(Event::Response {
            id: ExchangeId(id),
            at: self.answer.at.unwrap_or(at),
            response,
        });
        out.emit(Event::ResponseEnd {
            id: ExchangeId(id),
            at: at.saturating_add(len),
            size: self.answer.size,
        });
        // No exchange has this id yet.
        self.answer = Answer {
            id: u64::MAX,
            ..Answer::default()
        };
    }

    /// Notes that the server reads `COPY` data from now on.
    pub(crate) fn begin_copy(&mut self) {
        // A `Sync` that it finds before the end of the data is dropped.
        let mut at = 1usize;
        while let Some(due) = self.due.get(at).copied() {
            match due {
                Expected::Sync { batch } => {
                    self.due.remove(at);
                    // Its batch goes on.
                    if self.batch.is_none() {
                        self.batch = Some(Batch {
                            number: batch,
                            pairable: true,
                        });
                    }
                }
                Expected::CopyEnd => {
                    self.due.remove(at);
                    return;
                }
                _ => at = at.saturating_add(1),
            }
        }
        self.copying = true;
    }

    /// Notes the end of `COPY` on the server's side.
    pub(crate) fn finish_copy(&mut self) {
        self.copying = false;
    }

    /// Notes that the server drops everything up to the next `Sync`. Exchanges of which `except`
    /// is not one will have no answer.
    pub(crate) fn discard(&mut self, except: u64, out: &mut dyn Emit) {
        self.copying = false;
        while let Some(due) = self.due.front().copied() {
            if matches!(due, Expected::Sync { .. } | Expected::Unknown { .. }) {
                return;
            }
            if batch_of(due).is_some() {
                // A query among what is dropped has no `ReadyForQuery` of its own: rare enough to
                // start afresh.
                self.lose_responses(out);
                return;
            }
            self.due.pop_front();
            if opened(due) != Some(except) {
                abandon(due, Abandon::Cancelled, out);
            }
        }
        self.discarding = true;
    }

    /// Notes a `ReadyForQuery` that ends at `end`.
    pub(crate) fn ready(&mut self, at: u64, len: u64, out: &mut dyn Emit) {
        self.copying = false;
        let Some(batch) = self.batches.response() else {
            return;
        };
        let end = self.abandon_until(Some(batch.0), Abandon::Lost, out);
        match end {
            Some(Expected::Startup { id, .. }) => {
                self.succeed(id, at, len, Flags::NONE, out);
            }
            // A statement that an error kept from running.
            Some(due) => abandon(due, Abandon::Cancelled, out),
            None => {
                // The batch is still being sent, for all we know.
                if let Some(batch) = self.batch.as_mut() {
                    batch.pairable = false;
                }
            }
        }
    }

    /// Notes that messages of the server's were lost.
    pub(crate) fn lose_responses(&mut self, out: &mut dyn Emit) {
        self.abandon_until(None, Abandon::Lost, out);
        if let Some(batch) = self.batch.as_mut() {
            batch.pairable = false;
        }
        self.discarding = false;
        self.copying = false;
        self.answer = Answer {
            id: u64::MAX,
            ..Answer::default()
        };
        // How many of the lost bytes were a `ReadyForQuery` cannot be counted: no more than after a
        // loss of requests.
        self.batches.gap(Direction::ToServer, &mut Quiet);
        self.batches.gap(Direction::ToClient, &mut Quiet);
    }

    /// Notes a message that fits nothing that is due. Joined in the middle, that is no surprise.
    pub(crate) fn misfit(&mut self, out: &mut dyn Emit) {
        if !self.guessed {
            self.lose_responses(out);
        }
    }

    /// Gives up what is due up to the end of a batch, which is returned; everything when there is
    /// no such end.
    fn abandon_until(
        &mut self,
        batch: Option<u64>,
        why: Abandon,
        out: &mut dyn Emit,
    ) -> Option<Expected> {
        while let Some(due) = self.due.pop_front() {
            if batch.is_some() && batch_of(due) == batch {
                return Some(due);
            }
            abandon(due, why, out);
        }
        None
    }
}

/// The batch that something ends.
const fn batch_of(due: Expected) -> Option<u64> {
    match due {
        Expected::Query { batch, .. }
        | Expected::Call { batch, .. }
        | Expected::Startup { batch, .. }
        | Expected::Sync { batch }
        | Expected::Unknown { batch } => Some(batch),
        _ => None,
    }
}

/// The exchange that an answer ends, if it is one only.
const fn opened(due: Expected) -> Option<u64> {
    match due {
        Expected::Parse { id, ends: true }
        | Expected::Bind { id, ends: true }
        | Expected::Describe { id, ends: true }
        | Expected::Execute { id }
        | Expected::Close { id }
        | Expected::Call { id, .. }
        | Expected::Startup { id, .. } => Some(id),
        _ => None,
    }
}

fn abandon(due: Expected, why: Abandon, out: &mut dyn Emit) {
    let ids = match (due, opened(due)) {
        (Expected::Query { next, end, .. }, _) => next..end,
        (_, Some(id)) => id..id.saturating_add(1),
        (_, None) => return,
    };
    for id in ids {
        out.emit(Event::Abandon {
            id: ExchangeId(id),
            why,
        });
    }
}
