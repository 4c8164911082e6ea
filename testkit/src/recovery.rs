//! How soon after a loss exchanges are whole again.

use wirespan_engine::Nanos;
use wirespan_parser_api::{Direction, Protocol};

use crate::Fixture;
use crate::laws::{Court, hold};
use crate::play::{Seen, Stage};
use crate::watch::Watched;

/// Round trips, one at a time, after which a loss is forgotten: the bound for a client that waits for
/// all its answers before it speaks again, whatever was lost. `Fifo` keeps it.
pub const RECOVERY: usize = 5;

/// Round trips that are checked behind those.
const CHECKED: usize = 3;
/// Nanoseconds of silence before the round trips: longer than a hole waits for its bytes.
const SILENCE: u64 = 5_000_000_000;
/// Nanoseconds between a request and its answer, and between an answer and the next request.
const STEP: u64 = 1_000_000;

/// Runs a protocol's parser through the law of recovery: bytes of `fixture` are lost, then nothing
/// is said for a while, and then the client asks and gets its answers, one at a time. After `within`
/// such round trips, [`RECOVERY`] for most clients, every exchange is as it would be without the loss: there,
/// with its own status, times and sizes, and without the flags `gap` and `guessed`. An operation or
/// a target that was told before the loss may stay empty.
///
/// The first `unharmed` bytes, in the order in which they were said, are not lost. `round_trip` makes
/// the request and the answer of the n-th. All requests of `fixture` must have been answered.
///
/// # Panics
///
/// When the law is broken, with the loss that breaks it; when a round trip is no exchange.
pub fn recovers(
    protocol: impl Protocol,
    fixture: &Fixture,
    unharmed: usize,
    within: usize,
    round_trip: impl Fn(usize) -> [Vec<u8>; 2],
) {
    let mut whole = fixture.clone();
    let last = fixture.chunks().last().map_or(0, |chunk| chunk.time.0);
    let mut time = last.saturating_add(SILENCE);
    let mut checked_from = Nanos(time);
    for n in 0..within + CHECKED {
        if n == within {
            checked_from = Nanos(time);
        }
        let [request, answer] = round_trip(n);
        for (dir, bytes) in [
            (Direction::ToServer, request),
            (Direction::ToClient, answer),
        ] {
            whole = whole.chunk(dir, Nanos(time), &bytes);
            time += STEP;
        }
    }
    let (protocol, peak) = Watched::new(protocol);
    let court = Court::new(Stage::new(protocol).with_acks(), peak, &whole);
    let expected: Vec<_> = court.exchanges_from(checked_from).collect();
    assert!(
        expected.len() >= CHECKED,
        "a round trip is no exchange: {expected:#?}"
    );
    let check = |from: usize, len: usize, announced: bool| {
        let until = (from + len).min(fixture.len());
        let what = format!("lost {:?}, announced: {announced}", from..until);
        let (happenings, _) = court.lose(&[(from, until)], announced);
        let run = court.run(&happenings, &what);
        for right in &expected {
            let seen = run.seen.iter().find(|seen| seen.offset == right.offset);
            assert!(
                seen.is_some_and(|seen| is_whole(seen, right)),
                "{what}: not recovered: {seen:#?}\nshould be {right:#?}\n{:#?}",
                run.stats
            );
        }
    };
    let lengths = (unharmed..fixture.len(), 1usize..200, proptest::bool::ANY);
    hold("recovery", lengths, |(from, len, announced)| {
        check(from, len, announced);
    });
}

/// Whether an exchange is as it should be, but for what was told of it before a loss.
fn is_whole(seen: &Seen, right: &Seen) -> bool {
    let known = |seen: &str, right: &str| seen.is_empty() || seen == right;
    let rest = Seen {
        operation: seen.operation.clone(),
        target: seen.target.clone(),
        attrs: seen.attrs.clone(),
        ..right.clone()
    };
    known(&seen.operation, &right.operation) && known(&seen.target, &right.target) && *seen == rest
}
