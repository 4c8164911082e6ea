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
            Mode::Proven | Mode::Unproven => {
                self.go_blind(u64::MAX);
                self.habit = Habit::Overlaps;
            }
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
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Collects the ids of abandoned exchanges.
    #[derive(Default)]
    struct Lost(Vec<u64>);

    impl Emit for Lost {
        fn emit(&mut self, event: Event<'_>) {
            if let Event::Abandon { id, .. } = event {
                self.0.push(id.0);
            }
        }
    }

    fn round_trips(fifo: &mut Fifo, n: u64, depth: u64) {
        for _ in 0..n {
            let ids: Vec<_> = (0..depth).map(|_| fifo.request().id).collect();
            for id in ids {
                assert_eq!(fifo.response(), Some(id));
            }
        }
    }

    #[test]
    fn pipelined_requests_are_answered_in_order() {
        let mut fifo = Fifo::new(false);
        round_trips(&mut fifo, 3, 5);
        assert_eq!(fifo.in_flight(), 0);
    }

    #[test]
    fn a_lost_response_of_a_waiting_client_costs_only_its_own_exchange() {
        let mut fifo = Fifo::new(false);
        round_trips(&mut fifo, 3, 1);
        let hit = fifo.request().id;
        let mut lost = Lost::default();
        fifo.gap(Direction::ToClient, &mut lost);
        assert_eq!(lost.0, [hit.0]);
        let after = fifo.request();
        assert!(after.pairable);
        assert_eq!(fifo.response(), Some(after.id));
    }

    #[test]
    fn a_lost_request_does_not_shift_the_pairing_of_those_before_it() {
        let mut fifo = Fifo::new(false);
        round_trips(&mut fifo, 2, 1);
        let before = fifo.request().id;
        fifo.gap(Direction::ToServer, &mut Lost::default());
        assert_eq!(fifo.response(), Some(before));
        assert_eq!(fifo.response(), None, "answers the lost request");
        let after = fifo.request();
        assert!(after.pairable, "the client waits for its answers");
        assert_eq!(fifo.response(), Some(after.id));
    }

    #[test]
    fn a_response_before_a_lost_request_does_not_answer_it() {
        let mut fifo = Fifo::new(false);
        round_trips(&mut fifo, 3, 1);
        fifo.gap(Direction::ToServer, &mut Lost::default());
        assert!(!fifo.request().pairable);
        assert_eq!(fifo.response(), None, "answers the lost request");
    }

    #[test]
    fn a_client_that_begins_to_pipeline_is_not_trusted_after_a_loss() {
        let mut fifo = Fifo::new(false);
        round_trips(&mut fifo, 5, 1);
        for _ in 0..3 {
            let _ = fifo.request();
        }
        // The gap swallows one response; two can still come.
        fifo.gap(Direction::ToClient, &mut Lost::default());
        assert_eq!(fifo.response(), None);
        let early = fifo.request();
        assert!(!early.pairable, "one answer is still owed");
        assert_eq!(fifo.response(), None);
        assert_eq!(fifo.response(), None, "this answers `early`");
        let clean = fifo.request();
        assert!(clean.pairable);
        assert_eq!(fifo.response(), Some(clean.id));
    }

    #[test]
    fn a_client_that_sends_bursts_is_paired_again_at_its_next_burst() {
        let mut fifo = Fifo::new(false);
        round_trips(&mut fifo, 3, 4);
        for _ in 0..4 {
            let _ = fifo.request();
        }
        // Three responses go missing.
        fifo.gap(Direction::ToClient, &mut Lost::default());
        assert_eq!(fifo.response(), None);
        round_trips(&mut fifo, 2, 4);
    }

    #[test]
    fn an_overlapping_client_is_paired_again_by_counting_what_can_still_come() {
        let mut fifo = Fifo::new(false);
        let _ = fifo.request();
        let _ = fifo.request();
        let _ = fifo.response();
        let _ = fifo.request();
        // Two in flight.
        fifo.gap(Direction::ToClient, &mut Lost::default());
        assert!(!fifo.request().pairable);
        for _ in 0..3 {
            assert_eq!(fifo.response(), None);
        }
        let clean = fifo.request();
        assert!(clean.pairable);
        assert_eq!(fifo.response(), Some(clean.id));
    }

    #[test]
    fn a_client_that_is_never_idle_is_paired_again_on_trust() {
        let mut fifo = Fifo::new(false);
        let mut waiting: VecDeque<_> = (0..10).map(|_| fifo.request().id).collect();
        for _ in 0..20 {
            assert_eq!(fifo.response(), waiting.pop_front());
            waiting.push_back(fifo.request().id);
        }
        // Three of the ten answers are lost, and seven come.
        fifo.gap(Direction::ToClient, &mut Lost::default());
        waiting.drain(..3);
        let mut paired = 0;
        for _ in 0..1000 {
            let due = waiting.pop_front();
            let answered = fifo.response();
            if fifo.mode != Mode::Blind {
                assert!(answered.is_none() || answered == due);
                paired += u32::from(answered.is_some());
            }
            let ticket = fifo.request();
            assert!(ticket.guessed || !ticket.pairable);
            waiting.push_back(ticket.id);
            // Once in a while the client rests until all is answered.
            if paired == 0 && fifo.calm == 100 {
                while let Some(due) = waiting.pop_front() {
                    assert!(fifo.response().is_none_or(|id| id == due));
                }
                waiting.extend((0..10).map(|_| fifo.request().id));
            }
        }
        assert!(paired > 500, "{paired}");
    }

    #[test]
    fn a_one_way_request_takes_no_response() {
        let mut fifo = Fifo::new(false);
        let alone = fifo.one_way();
        let first = fifo.request().id;
        let between = [fifo.one_way(), fifo.one_way()];
        let second = fifo.request().id;
        let last = fifo.one_way();
        assert!(alone < first && first < between[0] && between[0] < between[1]);
        assert!(between[1] < second && second < last);
        assert_eq!(fifo.in_flight(), 2);
        assert_eq!(fifo.response(), Some(first));
        assert_eq!(fifo.peek(), Some(second));
        assert_eq!(fifo.response(), Some(second));
        assert_eq!(fifo.in_flight(), 0);
        round_trips(&mut fifo, 2, 2);
    }

    #[test]
    fn a_gap_does_not_abandon_one_way_requests_again() {
        let mut fifo = Fifo::new(false);
        let first = fifo.request().id;
        let _ = (fifo.one_way(), fifo.one_way());
        let second = fifo.request().id;
        let _ = fifo.one_way();
        let mut lost = Lost::default();
        fifo.gap(Direction::ToClient, &mut lost);
        assert_eq!(lost.0, [first.0, second.0]);
        assert_eq!(fifo.in_flight(), 0);
    }

    #[test]
    fn one_way_requests_are_remembered_in_bounded_memory() {
        let mut fifo = Fifo::new(false);
        for _ in 0..3 * MAX_RUNS {
            let _ = fifo.request();
            let _ = (fifo.one_way(), fifo.one_way());
        }
        assert!(fifo.one_way.len() <= MAX_RUNS + 1);
        assert!(!fifo.request().pairable);
    }

    #[test]
    fn a_client_without_habits_is_paired_again_after_three_rounds() {
        let mut fifo = Fifo::new(false);
        fifo.gap(Direction::ToServer, &mut Lost::default());
        for _ in 0..3 {
            assert!(!fifo.request().pairable);
            assert_eq!(fifo.response(), None);
        }
        let fourth = fifo.request();
        assert!(fourth.pairable && fourth.guessed);
        assert_eq!(fifo.response(), Some(fourth.id));
        assert!(!fifo.request().guessed);
    }

    #[test]
    fn a_client_whose_every_message_loses_its_end_is_paired_again_after_three_rounds() {
        let mut fifo = Fifo::new(false);
        let mut paired = Vec::new();
        for _ in 0..8 {
            let ticket = fifo.request();
            fifo.gap(Direction::ToServer, &mut Lost::default());
            let answered = fifo.response();
            assert_eq!(answered, ticket.pairable.then_some(ticket.id));
            paired.extend(answered.map(|id| (id.0, ticket.guessed)));
            fifo.gap(Direction::ToClient, &mut Lost::default());
        }
        let again = (3..8).map(|id| (id, true));
        assert!(paired.into_iter().eq([(0, false)].into_iter().chain(again)));
    }

    #[test]
    fn a_client_whose_every_response_loses_its_end_is_known_to_wait() {
        let mut fifo = Fifo::new(false);
        for _ in 0..3 {
            let id = fifo.request().id;
            assert_eq!(fifo.response(), Some(id));
            fifo.gap(Direction::ToClient, &mut Lost::default());
        }
        let _ = fifo.request();
        fifo.gap(Direction::ToServer, &mut Lost::default());
        let _ = fifo.response();
        let after = fifo.request();
        assert!(after.pairable && !after.guessed);
    }

    #[test]
    fn rounds_before_a_lost_request_do_not_count_for_the_next_one() {
        let mut fifo = Fifo::new(false);
        fifo.gap(Direction::ToServer, &mut Lost::default());
        for _ in 0..3 {
            let _ = (fifo.request(), fifo.response());
        }
        fifo.gap(Direction::ToServer, &mut Lost::default());
        assert!(!fifo.request().pairable);
    }

    #[test]
    fn a_client_that_speaks_before_a_known_answer_is_not_trusted() {
        let mut fifo = Fifo::new(false);
        round_trips(&mut fifo, 3, 4);
        let first = fifo.request().id;
        let second = fifo.request().id;
        fifo.gap(Direction::ToServer, &mut Lost::default());
        assert_eq!(fifo.response(), Some(first));
        assert!(!fifo.request().pairable);
        assert_eq!(fifo.response(), Some(second));
        assert_eq!(
            fifo.response(),
            None,
            "answers a lost request, or the last one"
        );
    }

    #[test]
    fn a_late_attach_is_guessed_until_one_round_trip() {
        let mut fifo = Fifo::new(true);
        assert_eq!(fifo.response(), None, "answers a request from before");
        let first = fifo.request();
        assert!(first.pairable && first.guessed);
        assert_eq!(fifo.response(), Some(first.id));
        let second = fifo.request();
        assert!(second.pairable && !second.guessed);
    }

    #[test]
    fn a_late_attach_that_was_off_is_noticed() {
        let mut fifo = Fifo::new(true);
        let first = fifo.request();
        assert_eq!(
            fifo.response(),
            Some(first.id),
            "wrong, and flagged as guessed"
        );
        assert_eq!(fifo.response(), None, "one answer too many");
        assert!(!fifo.request().pairable);
    }
}
