//! What the pairing promises.

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
