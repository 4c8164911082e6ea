//! Pairing for protocols that answer in order.

use alloc::collections::VecDeque;
use core::ops::Range;

use crate::{Abandon, Direction, Emit, Event, ExchangeId};

/// Most runs of [`Fifo::one_way`] between requests that await responses; beyond, pairing is blind.
const MAX_RUNS: usize = 1024;

/// Numbers the exchanges of a protocol that answers in order, and pairs responses with them.
///
/// In step, the n-th response answers the n-th request. After a loss that is no longer so: nobody
/// knows how many messages went missing. Then the pairing is *blind*: requests are still numbered
/// and reported, responses are orphans, and no response is given to a request, until the client is
/// known to have nothing else in flight when a request begins. Two things can show that:
///
/// - counting: after a gap in the responses, at most as many can still come as were in flight, and
///   each orphan leaves one fewer;
/// - habit: on this connection, every request that followed a response found nothing in flight (the
///   client waits for all its answers before it speaks again), and this one follows a response.
///
/// Where there is no habit yet, three rounds of one request and one response are taken for one, also
/// where a capture has cut the end off each of them. And for clients that always keep several
/// requests in flight there is a third way: when over many responses none came that was one too many
/// for the requests since the loss, the count is taken to be right again. Exchanges are then
/// [guessed](Ticket::guessed) until nothing is in flight.
///
/// How soon pairing is right again, once all answers have come:
///
/// - of a client that was seen to wait for its answers, one request at a time or in bursts: with its
///   next request;
/// - of a client of which nothing was seen yet: after three rounds of one request and one answer, guessed for one more;
/// - of a client that was seen to speak while answers were outstanding: with its next request, if every lost answer is
///   accounted for; else not before 256 answers have come without one too many, and guessed from then until nothing is in flight.
///
/// A connection joined in the middle starts unproven: it is paired in order at once, with
/// [`Ticket::guessed`] set until one round trip has shown the client to be waiting for its answers.
/// A response when nothing is in flight proves that the count is off, and makes it blind.
#[derive(Clone, Debug)]
pub struct Fifo {
    /// Id that the next request gets.
    next: u64,
    /// Id of the request that the next response answers. `front <= known <= next`.
    front: u64,
    /// Requests with ids below this can be paired. Equal to `next` while in step.
    known: u64,
    /// While blind: how many responses to requests that cannot be named may still come.
    owed: u64,
    /// Ids in `front..known` that await no response; rising, and never at `front`.
    one_way: VecDeque<Range<u64>>,
    /// Number of ids in `one_way`.
    one_way_len: u64,
    mode: Mode,
    /// Whether the server spoke (or lost bytes) since the client's last request.
    server_spoke: bool,
    /// Whether the client sent several requests in its current turn.
    bursting: bool,
    habit: Habit,
    /// Responses since the last request.
    answers: u32,
    /// While blind: rounds of one request and one response in a row.
    rounds: u32,
    /// While blind: responses less requests since the loss, and the most that it has been. Idle, a
    /// connection is at its most: as many as the loss left unanswered.
    ahead: i64,
    most_ahead: i64,
    /// While blind: responses since it was last at a new most.
    calm: u32,
}

/// Responses without a new most after which the count is trusted.
const CALM: u32 = 256;

/// Rounds of one request and one response after which a blind pairing is trusted again, if the
/// client was never seen to speak while answers were outstanding.
const ROUNDS: u32 = 3;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    /// In step since the connection's start, or since a proof.
    Proven,
    /// Paired in order, on trust: joined in the middle.
    Unproven,
    /// Not paired.
    Blind,
}

/// What the client's turns so far say about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Habit {
    /// No turn seen yet.
    Unknown,
    /// Waits for each answer, and has never had two requests in flight.
    OneByOne,
    /// Has sent several requests at once, and then waited for all of the answers.
    Bursts,
    /// Speaks while answers are outstanding.
    Overlaps,
}

/// What [`Fifo::request`] hands out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Ticket {
    /// The exchange's id.
    pub id: ExchangeId,
    /// Whether a response will ever be given to it. If not, emit [`Event::Abandon`] with
    /// [`Abandon::Lost`] after the request.
    pub pairable: bool,
    /// Whether its pairing rests on trust: flag the exchange as guessed.
    pub guessed: bool,
}

impl Fifo {
    /// Starts with nothing in flight; `late_attach` when that is not known.
    #[must_use]
    pub const fn new(late_attach: bool) -> Self {
        Self {
            next: 0,
            front: 0,
            known: 0,
            owed: 0,
            one_way: VecDeque::new(),
            one_way_len: 0,
            mode: if late_attach {
                Mode::Unproven
            } else {
                Mode::Proven
            },
            server_spoke: false,
            bursting: false,
            habit: Habit::Unknown,
            answers: 0,
            rounds: 0,
            ahead: 0,
            most_ahead: 0,
            calm: 0,
        }
    }

    /// Names a request that begins.
    pub fn request(&mut self) -> Ticket {
        let in_flight = self.next.saturating_sub(self.front);
        let in_flight = in_flight.saturating_sub(self.one_way_len);
        let turn = self.server_spoke;
        self.server_spoke = false;
        match self.mode {
            Mode::Proven | Mode::Unproven => {
                self.learn(turn, in_flight);
                if turn && in_flight == 0 && self.front > 0 {
                    self.mode = Mode::Proven;
                }
            }
            Mode::Blind => {
                // A client that speaks before a known answer has come waits for nothing.
                let answered = self.front == self.known;
                let idle = answered && self.owed == 0;
                let habit = match self.habit {
                    Habit::Bursts => turn,
                    // Says nothing about a client that has just begun to pipeline.
                    Habit::OneByOne => turn && !self.bursting,
                    Habit::Unknown | Habit::Overlaps => false,
                };
                if idle {
                    self.learn(turn, 0);
                } else {
                    self.bursting = !turn;
                }
                self.rounds = if self.answers == 1 {
                    self.rounds.saturating_add(1)
                } else {
                    0
                };
                let rounds = self.rounds >= ROUNDS && !matches!(self.habit, Habit::Overlaps);
                if idle || (answered && habit) {
                    self.mode = Mode::Proven;
                    self.forget();
                } else if answered && rounds {
                    self.mode = Mode::Unproven;
                    self.forget();
                } else if answered && self.calm >= CALM {
                    self.mode = Mode::Unproven;
                    self.trust_count();
                } else {
                    self.owed = self.owed.saturating_add(1);
                    self.ahead = self.ahead.saturating_sub(1);
                }
            }
        }
        self.answers = 0;
        let id = ExchangeId(self.next);
        self.next = self.next.saturating_add(1);
        let pairable = !matches!(self.mode, Mode::Blind);
        if pairable {
            self.known = self.next;
        }
        Ticket {
            id,
            pairable,
            guessed: matches!(self.mode, Mode::Unproven),
        }
    }

    /// Names a request that begins and that the server does not answer. Emit [`Event::Abandon`]
    /// with [`Abandon::OneWay`] after it.
    pub fn one_way(&mut self) -> ExchangeId {
        let id = self.next;
        self.next = self.next.saturating_add(1);
        // While blind, nothing from `known` on awaits a response anyway.
        if !matches!(self.mode, Mode::Blind) {
            self.known = self.next;
            self.one_way_len = self.one_way_len.saturating_add(1);
            match self.one_way.back_mut() {
                Some(run) if run.end == id => run.end = self.next,
                _ => self.one_way.push_back(id..self.next),
            }
            self.pass_one_way();
            if self.one_way.len() > MAX_RUNS {
                self.go_blind(u64::MAX);
                self.rounds = 0;
            }
        }
        ExchangeId(id)
    }

    /// Names the request that a beginning response answers; `None` if it answers none we can name.
    pub fn response(&mut self) -> Option<ExchangeId> {
        self.server_spoke = true;
        self.answers = self.answers.saturating_add(1);
        if self.front < self.known {
            let id = ExchangeId(self.front);
            self.front = self.front.saturating_add(1);
            self.pass_one_way();
            return Some(id);
        }
        match self.mode {
            Mode::Blind => {
                if !self.unbounded() {
                    self.owed = self.owed.saturating_sub(1);
                }
                self.ahead = self.ahead.saturating_add(1);
                self.calm = self.calm.saturating_add(1);
                if self.ahead > self.most_ahead {
                    self.most_ahead = self.ahead;
                    self.calm = 0;
                }
            }
            // Nothing in flight before the first request of a late attach: an answer to an
            // earlier one. Otherwise our count is off, by how much nobody knows.
            Mode::Unproven if self.next == 0 => {}
            Mode::Unproven => {
                self.go_blind(u64::MAX);
                self.habit = Habit::Overlaps;
            }
            // Its request went by unseen, which says nothing about the client.
            Mode::Proven => self.go_blind(u64::MAX),
        }
        None
    }

    /// The id of the request that the next response will answer, without taking it.
    #[must_use]
    pub const fn peek(&self) -> Option<ExchangeId> {
        if self.front < self.known {
            Some(ExchangeId(self.front))
        } else {
            None
        }
    }

    /// Number of requests that await a response and can be paired.
    #[must_use]
    pub const fn in_flight(&self) -> u64 {
        self.known
            .saturating_sub(self.front)
            .saturating_sub(self.one_way_len)
    }

    /// Heap bytes in use.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.one_way
            .capacity()
            .saturating_mul(size_of::<Range<u64>>())
    }

    /// Notes that bytes that may have held whole messages of `dir` were lost, and abandons the
    /// exchanges that can no longer be paired. Call it after closing the message that the gap hit.
    pub fn gap(&mut self, dir: Direction, out: &mut dyn Emit) {
        match dir {
            // The requests that we know are still answered first, in order.
            Direction::ToServer => {
                self.go_blind(u64::MAX);
                // What the server said before says nothing of the requests that were lost.
                self.server_spoke = false;
                self.answers = 0;
            }
            Direction::ToClient => {
                self.server_spoke = true;
                let lost = self.in_flight();
                for id in self.front..self.known {
                    if self.one_way.front().is_some_and(|run| run.contains(&id)) {
                        self.one_way
                            .pop_front_if(|run| run.end == id.saturating_add(1));
                        continue;
                    }
                    out.emit(Event::Abandon {
                        id: ExchangeId(id),
                        why: Abandon::Lost,
                    });
                }
                self.forget();
                let owed = match self.mode {
                    Mode::Blind => self.owed.saturating_add(lost),
                    Mode::Proven => lost,
                    Mode::Unproven => u64::MAX,
                };
                self.go_blind(owed);
            }
        }
    }

    /// Loses step, with this many responses still to come to requests that cannot be named.
    const fn go_blind(&mut self, owed: u64) {
        self.mode = Mode::Blind;
        self.owed = owed;
        self.ahead = 0;
        self.most_ahead = 0;
        self.calm = 0;
    }

    /// Takes the count to be right again: the ids that are still to be answered are the last ones.
    fn trust_count(&mut self) {
        let outstanding = u64::try_from(self.most_ahead.saturating_sub(self.ahead)).unwrap_or(0);
        self.forget();
        self.front = self.next.saturating_sub(outstanding);
    }

    /// Nothing is in flight.
    fn forget(&mut self) {
        self.front = self.next;
        self.known = self.next;
        self.one_way.clear();
        self.one_way_len = 0;
    }

    /// Moves `front` past the ids that await no response.
    fn pass_one_way(&mut self) {
        let front = self.front;
        if let Some(run) = self.one_way.pop_front_if(|run| run.start == front) {
            let len = run.end.saturating_sub(run.start);
            self.one_way_len = self.one_way_len.saturating_sub(len);
            self.front = run.end;
        }
    }

    const fn unbounded(&self) -> bool {
        self.owed == u64::MAX
    }

    const fn learn(&mut self, turn: bool, in_flight: u64) {
        self.habit = match (self.habit, turn, in_flight) {
            (Habit::Overlaps, _, _) => Habit::Overlaps,
            (_, true, 1..) => Habit::Overlaps,
            (_, true, 0) if self.bursting => Habit::Bursts,
            (Habit::Unknown, true, 0) => Habit::OneByOne,
            (habit, _, _) => habit,
        };
        self.bursting = !turn && in_flight > 0;
    }
}

#[cfg(test)]
mod tests;
