//! Parents inside a process, and between the ends of connections without a context.

use std::collections::HashMap;

use wirespan_engine::api::TraceContext;
use wirespan_engine::{Exchange, Nanos, Process, Side, Task};

use super::*;
use crate::fixture::{w3c, with_exchange_of};
use crate::owner::Ends;

/// A request of a story, at one end of its connection.
#[derive(Clone, Copy)]
struct Told {
    side: Side,
    connection: u64,
    /// Tells flows apart, the same at both ends.
    flow: u16,
    offset: u64,
    pid: u32,
    task: u32,
}

const GO: u32 = Task::GOROUTINE;
const SECOND: u64 = 1_000_000_000;

fn server(connection: u64, flow: u16, pid: u32, task: u32) -> Told {
    Told {
        side: Side::Server,
        connection,
        flow,
        offset: 0,
        pid,
        task,
    }
}

fn client(connection: u64, flow: u16, pid: u32, task: u32) -> Told {
    Told {
        side: Side::Client,
        ..server(connection, flow, pid, task)
    }
}

/// Tells the requests of a story to [`Spans`] as the engine does, a microsecond apart.
struct Story {
    spans: Spans,
    now: u64,
    starts: HashMap<(u64, u64), u64>,
}

impl Story {
    fn new() -> Self {
        Self {
            spans: Spans::new(Options::default()),
            now: SECOND,
            starts: HashMap::new(),
        }
    }

    fn with<T>(
        &mut self,
        told: Told,
        change: impl FnOnce(&mut Exchange<'_>, &mut Spans) -> T,
    ) -> T {
        self.now += 1_000;
        let key = (told.connection, told.offset);
        let start = *self.starts.entry(key).or_insert(self.now);
        let (spans, mut result) = (&mut self.spans, None);
        with_exchange_of("http", &[], |mut exchange| {
            exchange.connection = told.connection;
            (exchange.offset, exchange.flow_offset) = (told.offset, told.offset);
            exchange.side = told.side;
            exchange.client = ([127, 0, 0, 1], told.flow).into();
            exchange.server = ([127, 0, 0, 1], 80).into();
            exchange.process = Some(Process::new(told.pid, b"app"));
            exchange.task = Task::new(told.task);
            exchange.answered_by = exchange.task;
            exchange.start = Nanos(start);
            result = Some(change(&mut exchange, spans));
        });
        result.expect("an exchange")
    }

    fn begin(&mut self, told: Told) {
        self.with(told, |exchange, spans| spans.begin(exchange));
    }

    fn end(&mut self, told: Told) -> Place {
        self.with(told, |exchange, spans| place(spans, exchange))
    }

    fn inferred(&self) -> [u64; 3] {
        let Inferred { found, mixed, idle } = self.spans.counts().inferred;
        [found, mixed, idle]
    }
}

fn place(spans: &mut Spans, exchange: &Exchange<'_>) -> Place {
    let facts = Facts::outline(exchange);
    spans.place(exchange, &facts)
}

fn child_of(child: Place, parent: Place) -> bool {
    child.ids.trace_id == parent.ids.trace_id
        && child.ids.parent_span_id == Some(parent.ids.span_id)
}

#[test]
fn what_a_thread_asks_while_it_handles_a_request_is_caused_by_it() {
    let mut story = Story::new();
    let (handled, first, second) = (
        server(1, 1, 7, 70),
        client(2, 2, 7, 70),
        client(3, 3, 7, 71),
    );
    let later = client(4, 4, 7, 70);
    story.begin(handled);
    story.begin(first);
    let first = story.end(first);
    story.begin(second);
    let second = story.end(second);
    let handled = story.end(handled);
    story.begin(later);
    let later = story.end(later);
    assert!(child_of(first, handled));
    assert_eq!(first.source, Some(Source::Thread));
    for other in [second, later] {
        assert_eq!(other.ids.parent_span_id, None, "another thread; too late");
        assert_ne!(other.ids.trace_id, handled.ids.trace_id);
        assert_eq!(other.source, None);
    }
    assert_eq!(story.inferred(), [1, 0, 2]);
}

/// Four processes in a row: whatever ends first, all know the one trace.
#[test]
fn a_chain_of_processes_is_one_trace() {
    let chain = [
        client(1, 1, 1, 10),
        server(2, 1, 2, 20),
        client(3, 2, 2, 20),
        server(4, 2, 3, 30),
        client(5, 3, 3, 30),
        server(6, 3, 4, 40),
    ];
    // A server may be heard before its client, whose call returns later.
    for heard in [
        [0, 1, 2, 3, 4, 5],
        [1, 0, 2, 3, 4, 5],
        [0, 1, 3, 2, 4, 5],
        [0, 1, 2, 3, 5, 4],
    ] {
        for ended in [[5, 4, 3, 2, 1, 0], [4, 5, 2, 3, 0, 1], [1, 3, 5, 0, 2, 4]] {
            let mut story = Story::new();
            heard.iter().for_each(|n| story.begin(chain[*n]));
            let mut places = [None; 6];
            for n in ended {
                places[n] = Some(story.end(chain[n]));
            }
            let places = places.map(|place| place.expect("all have ended"));
            assert_eq!(places[0].ids.parent_span_id, None);
            for pair in places.windows(2) {
                assert!(child_of(pair[1], pair[0]), "{heard:?} {ended:?}");
            }
        }
    }
}

#[test]
fn a_context_wins_and_is_handed_on() {
    let mut story = Story::new();
    let (handled, told, untold) = (
        server(1, 1, 7, 70),
        client(2, 2, 7, 70),
        client(3, 3, 7, 70),
    );
    let context = TraceContext {
        sampled: Some(false),
        flags: 0,
        ..w3c()
    };
    story.with(handled, |exchange, spans| {
        exchange.trace = Some(context);
        spans.begin(exchange);
    });
    let other = TraceContext {
        trace_id: [9; 16],
        ..w3c()
    };
    let told = story.with(told, |exchange, spans| {
        exchange.trace = Some(other);
        spans.begin(exchange);
        place(spans, exchange)
    });
    story.begin(untold);
    let untold = story.end(untold);
    assert_eq!((told.ids.trace_id, told.source), ([9; 16], None));
    assert_eq!(untold.ids.trace_id, context.trace_id);
    assert_eq!((untold.ids.flags, untold.sampled), (0, Some(false)));
}

#[test]
fn a_thread_that_handles_several_at_once_says_nothing_of_its_process_for_a_minute() {
    let mut story = Story::new();
    let (one, two, asked) = (
        server(1, 1, 7, 70),
        server(2, 2, 7, 70),
        client(3, 3, 7, 70),
    );
    story.begin(one);
    story.begin(two);
    story.begin(asked);
    assert_eq!(story.end(asked).source, None);
    story.end(one);
    story.begin(Told { offset: 1, ..asked });
    assert_eq!(
        story.end(Told { offset: 1, ..asked }).source,
        None,
        "of which of both?"
    );
    story.end(two);
    let mut again = |offset, pid| {
        let (handled, asked) = (server(1, 1, pid, 71), client(3, 3, pid, 71));
        story.begin(Told { offset, ..handled });
        story.begin(Told { offset, ..asked });
        let source = story.end(Told { offset, ..asked }).source;
        story.end(Told { offset, ..handled });
        story.now += 61 * SECOND;
        source
    };
    assert_eq!(again(2, 7), None, "another thread of the process");
    assert_eq!(again(3, 7), Some(Source::Thread), "a minute later");
    assert_eq!(story.inferred(), [1, 3, 0]);
}

#[test]
fn who_hands_requests_on_to_other_threads_is_not_believed_to_handle_them() {
    let mut story = Story::new();
    let (read, asked) = (server(1, 1, 7, 70), client(2, 2, 7, 71));
    story.begin(read);
    story.with(read, |exchange, spans| {
        exchange.answered_by = Task::new(72);
        place(spans, exchange)
    });
    story.begin(server(3, 3, 7, 71));
    story.begin(asked);
    assert_eq!(story.end(asked).source, None);
    assert_eq!(story.inferred(), [0, 1, 0]);
}

#[test]
fn goroutines_answer_for_themselves_alone() {
    let mut story = Story::new();
    // One reads two requests, as that of an HTTP/2 connection does; others answer them.
    for offset in [0, 1] {
        let read = server(1, 1, 7, GO | 1);
        story.begin(Told { offset, ..read });
    }
    let (handled, asked) = (server(2, 2, 7, GO | 2), client(3, 3, 7, GO | 2));
    story.begin(handled);
    story.begin(asked);
    let (asked, handled) = (story.end(asked), story.end(handled));
    assert!(child_of(asked, handled));
    assert_eq!(asked.source, Some(Source::Goroutine));
    let reader = client(4, 4, 7, GO | 1);
    story.begin(reader);
    assert_eq!(story.end(reader).source, None);
}

#[test]
fn what_is_left_out_is_handled_no_longer() {
    let mut story = Story::new();
    let (handled, asked) = (server(1, 1, 7, 70), client(2, 2, 7, 70));
    story.begin(handled);
    story.with(handled, |exchange, spans| spans.leave_out(exchange));
    story.begin(asked);
    assert_eq!(story.end(asked).source, None);
    assert_eq!(story.inferred(), [0, 0, 1]);
}

#[test]
fn without_addresses_no_two_ends_are_taken_for_one_connection() {
    let mut story = Story::new();
    let (asked, other) = (client(1, 0, 1, 10), server(2, 0, 2, 20));
    story.begin(asked);
    story.begin(other);
    let (asked, other) = (story.end(asked), story.end(other));
    assert_eq!(other.ids.parent_span_id, None);
    assert_ne!(asked.ids.trace_id, other.ids.trace_id);
}

#[test]
fn whatever_is_told_in_whatever_order_nothing_stays_behind() {
    let mut story = Story::new();
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut open: Vec<Told> = Vec::new();
    for n in 0..20_000 {
        if open.is_empty() || random(2) == 0 {
            let side = [client, server][random(2) as usize];
            let task = random(5) as u32 + [1, GO][random(2) as usize];
            let told = side(n, random(9) as u16, random(3) as u32, task);
            story.begin(told);
            open.push(told);
        } else {
            let told = open.swap_remove(random(open.len() as u64) as usize);
            story.end(told);
        }
    }
    for told in open {
        story.end(told);
    }
    assert_eq!(story.spans.causes.held(), [0; 3]);
    assert!(story.spans.released(None).is_empty(), "none was made");
    assert_eq!(story.spans.causes.traces.len(), (0, 0));
}

/// The span of a request that begins and ends, if it need not wait.
fn whole(story: &mut Story, told: Told) -> Option<Span> {
    story.begin(told);
    finished(story, told)
}

fn finished(story: &mut Story, told: Told) -> Option<Span> {
    story.with(told, |exchange, spans| {
        let facts = Facts::outline(exchange);
        let place = spans.place(exchange, &facts);
        match spans.make(exchange, &facts, &Ends::default(), place) {
            Made::Waits(waits) => {
                spans.hold(*waits, None);
                None
            }
            made => made.at_once(),
        }
    })
}

#[test]
fn an_answer_that_was_there_before_the_call_returned_waits_for_its_trace() {
    let mut story = Story::new();
    let (handled, asked, answered) = (
        server(1, 1, 7, 70),
        client(2, 2, 7, 70),
        server(3, 2, 8, 80),
    );
    let below = client(4, 3, 8, 80);
    story.begin(client(9, 1, 6, 60));
    story.begin(handled);
    story.begin(answered);
    assert!(whole(&mut story, below).is_none(), "it waits as well");
    assert!(finished(&mut story, answered).is_none());
    let now = Nanos(story.now);
    assert!(story.spans.released(Some(now)).is_empty());
    let asked = whole(&mut story, asked).expect("a span");
    let waited = story.spans.released(Some(now));
    let handled = finished(&mut story, handled).expect("a span");
    let [below, answered] = &waited[..] else {
        panic!("{waited:?}")
    };
    for (child, parent) in [(below, answered), (answered, &asked), (&asked, &handled)] {
        assert_eq!(child.ids.trace_id, parent.ids.trace_id);
        assert_eq!(child.ids.parent_span_id, Some(parent.ids.span_id));
    }
}

#[test]
fn an_end_that_never_comes_is_waited_for_for_a_moment_only() {
    let mut story = Story::new();
    let lonely = server(1, 1, 7, 70);
    assert!(whole(&mut story, lonely).is_none());
    let now = Nanos(story.now);
    assert!(story.spans.released(Some(now)).is_empty());
    let released = story.spans.released(Some(Nanos(now.0 + SECOND / 10)));
    assert_eq!(released.len(), 1);
    assert_eq!(story.spans.counts().made, 1);
    let late = whole(&mut story, client(2, 1, 8, 80)).expect("a span");
    assert_eq!(late.ids.trace_id, released[0].ids.trace_id);
    assert_eq!(released[0].ids.parent_span_id, Some(late.ids.span_id));
}

#[test]
fn no_more_wait_than_there_is_room_for() {
    let mut story = Story::new();
    let lonely = (0..10_000).map(|n| server(n, (n % 60_000) as u16 + 1, 7, 1 + n as u32));
    let mut released = 0;
    for told in lonely {
        story.now -= 1_999; // A nanosecond later than the one before.
        assert!(whole(&mut story, told).is_none());
        released += story.spans.released(Some(Nanos(story.now))).len();
    }
    assert_eq!(released, 10_000 - 8_192);
    assert_eq!(story.spans.released(None).len(), 8_192);
}

#[test]
fn the_decision_of_the_trace_that_it_turns_out_to_be_in_counts() {
    let mut story = Story::new();
    let (handled, asked, answered) = (
        server(1, 1, 7, 70),
        client(2, 2, 7, 70),
        server(3, 2, 8, 80),
    );
    story.with(handled, |exchange, spans| {
        exchange.trace = Some(TraceContext {
            sampled: Some(false),
            flags: 0,
            ..w3c()
        });
        spans.begin(exchange);
    });
    assert!(whole(&mut story, answered).is_none());
    assert!(whole(&mut story, asked).is_none());
    assert!(story.spans.released(None).is_empty());
    assert_eq!(story.spans.counts().unsampled, 2);
}

#[test]
fn a_context_that_an_instrumented_service_sent_has_its_parent_in_the_service() {
    let mut story = Story::new();
    let (handled, asked) = (server(1, 1, 7, 70), client(2, 2, 7, 70));
    let sent = |span_id| TraceContext {
        span_id: [span_id; 8],
        ..w3c()
    };
    let begin = |exchange: &mut Exchange<'_>, spans: &mut Spans, span_id| {
        exchange.trace = Some(sent(span_id));
        spans.begin(exchange);
        place(spans, exchange)
    };
    let handled = story.with(handled, |exchange, spans| {
        exchange.trace = Some(sent(1));
        spans.begin(exchange);
        let facts = Facts::outline(exchange);
        spans.told(exchange, &facts).expect("a place")
    });
    let own = story.with(asked, |exchange, spans| begin(exchange, spans, 2));
    assert!(child_of(own, handled));
    assert_eq!(own.ids.span_id, [2; 8]);
    let other = Told { offset: 1, ..asked };
    let handed_on = story.with(other, |exchange, spans| begin(exchange, spans, 1));
    assert_eq!(
        handed_on.ids.parent_span_id, None,
        "its own parent's parent"
    );
}

#[test]
fn over_a_connection_that_tasks_share_nobody_knows_who_asks() {
    let mut story = Story::new();
    let (one, two) = (server(1, 1, 7, 70), server(2, 2, 7, 71));
    story.begin(one);
    story.begin(two);
    // Both threads ask over connection 3, and the first sends what the second asks.
    let asked = |offset, task| Told {
        offset,
        ..client(3, 3, 7, task)
    };
    story.begin(asked(0, 70));
    story.begin(asked(1, 70));
    assert_eq!(story.end(asked(0, 70)).source, Some(Source::Thread));
    assert_eq!(story.end(asked(1, 70)).source, None);
    story.begin(asked(2, 71));
    assert_eq!(story.end(asked(2, 71)).source, None, "it may be again");
    let elsewhere = client(4, 4, 7, 71);
    story.begin(elsewhere);
    assert_eq!(story.end(elsewhere).source, Some(Source::Thread));
}
