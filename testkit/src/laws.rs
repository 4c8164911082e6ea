//! The laws.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};
use wirespan_engine::Nanos;
use wirespan_parser_api::{Direction, Flags, Protocol};

use crate::Fixture;
use crate::play::{Happening, Piece, Run, Seen, Stage, arrivals, pieces};
use crate::probe::monotonic;
use crate::watch::Watched;

/// Heap bytes that a parser may own while it reads one of the fixtures.
const HEAP: usize = 1 << 20;
/// Places at which a conversation is cut, at most; all of them when it is shorter.
const CUTS: usize = 1_000;

/// Runs a protocol's parser through the laws, with one conversation.
///
/// - Any chunking gives equal exchanges, to the nanosecond: cut anywhere, one byte at a time,
///   pieces in reversed order or twice.
/// - With bytes lost, announced or not: exchanges that were over before the loss are unchanged, and
///   no exchange has an operation, target or status that is not its own; it may have none. The same where the beginning was missed, except
///   for exchanges flagged `guessed`.
/// - A probe's verdict never changes with more bytes.
/// - In all of these: every byte is accounted for once, no time lies outside of the conversation, a
///   parser's memory stays bounded, and nothing panics.
///
/// # Panics
///
/// When a law is broken, with the input that breaks it; when the conversation has no exchange, or
/// is no pure conversation of this protocol from its beginning.
pub fn laws(protocol: impl Protocol, fixture: &Fixture) {
    let (protocol, peak) = Watched::new(protocol);
    let court = Court::new(Stage::new(protocol), peak, fixture);
    monotonic(court.stage.protocol(), fixture);
    court.any_cut_is_equal();
    court.any_chunking_is_equal();
    court.any_loss_is_harmless();
    court.many_losses_are_harmless();
    court.late_attach_is_harmless();
}

/// One conversation, and what it says when nothing goes wrong.
pub(crate) struct Court {
    stage: Stage,
    peak: Arc<AtomicUsize>,
    pieces: Vec<Piece>,
    /// The undisturbed run's exchanges.
    whole: Vec<Seen>,
    /// The same by the offset of their request.
    by_offset: BTreeMap<u64, Seen>,
    /// First and last time of the conversation.
    times: (Nanos, Nanos),
}

/// What a loss means for the exchanges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Loss {
    /// When the first of the lost bytes was sent.
    first: Option<Nanos>,
    /// A wrong pairing with one of these flags is excused.
    excused: Flags,
}

impl Court {
    pub(crate) fn new(stage: Stage, peak: Arc<AtomicUsize>, fixture: &Fixture) -> Self {
        let pieces = pieces(fixture);
        let time = |piece: Option<&Piece>| piece.map_or(Nanos::default(), |piece| piece.time);
        let mut court = Self {
            times: (time(pieces.first()), time(pieces.last())),
            stage,
            peak,
            pieces,
            whole: Vec::new(),
            by_offset: BTreeMap::new(),
        };
        let run = court.stage.play(&arrivals(&court.pieces));
        court.check_account(&run, "undisturbed");
        assert!(
            !run.seen.is_empty(),
            "the conversation has no exchange: {:#?}",
            run.stats
        );
        assert!(
            run.stats.errors.is_empty(),
            "parse errors: {:?}\n{:#?}",
            run.stats.errors,
            run.seen
        );
        court.by_offset = run
            .seen
            .iter()
            .map(|seen| (seen.offset, seen.clone()))
            .collect();
        assert_eq!(
            court.by_offset.len(),
            run.seen.len(),
            "two exchanges at one offset"
        );
        court.whole = run.seen;
        court
    }

    /// Places to cut at, counted over the pieces in capture order.
    fn cuts(&self) -> impl Iterator<Item = usize> {
        let total: usize = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        (0..=total).step_by(total.div_ceil(CUTS).max(1))
    }

    /// What was played before and after `cut` bytes.
    fn cut(&self, cut: usize) -> (Vec<Piece>, Vec<Piece>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut left = cut;
        for piece in &self.pieces {
            let (a, b) = piece.split(left);
            left = left.saturating_sub(piece.bytes.len());
            before.extend(Some(a).filter(|a| !a.bytes.is_empty()));
            after.extend(Some(b).filter(|b| !b.bytes.is_empty()));
        }
        (before, after)
    }

    fn any_cut_is_equal(&self) {
        for cut in self.cuts() {
            let (mut pieces, after) = self.cut(cut);
            pieces.extend(after);
            self.check_equal(&pieces, || format!("cut at {cut}"));
        }
        let bytes: Vec<Piece> = self
            .pieces
            .iter()
            .flat_map(|piece| in_steps(piece, 1))
            .collect();
        self.check_equal(&bytes, || "one byte at a time".into());
    }

    fn any_chunking_is_equal(&self) {
        let sizes = prop::collection::vec(1usize..40, 1..20);
        hold(
            "any chunking",
            (sizes, 1usize..6, any::<bool>()),
            |(sizes, window, twice)| {
                let mut sizes = sizes.into_iter().cycle();
                let mut pieces = Vec::new();
                for piece in &self.pieces {
                    // Only what one side sent at one time may change its order.
                    let mut parts = in_steps(piece, sizes.next().unwrap_or(1));
                    parts.chunks_mut(window).for_each(<[Piece]>::reverse);
                    for part in parts {
                        pieces.push(part.clone());
                        pieces.extend(Some(part).filter(|_| twice));
                    }
                }
                self.check_equal(&pieces, || format!("{pieces:?}"));
            },
        );
    }

    fn any_loss_is_harmless(&self) {
        let total: usize = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        let ranges = (0..total, 1usize..80, any::<bool>());
        hold("any loss", ranges, |(at, len, announced)| {
            self.check_losses(&[(at, at + len)], announced);
        });
        for cut in self.cuts() {
            self.check_losses(&[(cut, cut + 1)], true);
        }
    }

    fn many_losses_are_harmless(&self) {
        let total: usize = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        let ranges = prop::collection::vec((0..total, 1usize..40), 2..5);
        hold(
            "many losses",
            (ranges, any::<bool>()),
            |(ranges, announced)| {
                let ranges: Vec<_> = ranges.iter().map(|(at, len)| (*at, at + len)).collect();
                self.check_losses(&ranges, announced);
            },
        );
    }

    /// The exchanges of the undisturbed run that begin at `time` or later.
    pub(crate) fn exchanges_from(&self, time: Nanos) -> impl Iterator<Item = &Seen> {
        self.whole.iter().filter(move |seen| seen.start >= time)
    }

    /// Plays a disturbed conversation.
    pub(crate) fn run(&self, happenings: &[Happening], what: &str) -> Run {
        let run = self.stage.play(happenings);
        self.check_account(&run, what);
        run
    }

    /// What happens when the ranges are lost, counted over the pieces in capture order.
    pub(crate) fn lose(
        &self,
        ranges: &[(usize, usize)],
        announced: bool,
    ) -> (Vec<Happening>, Loss) {
        let mut happenings = Vec::new();
        let mut loss = Loss {
            first: None,
            excused: Flags::NONE,
        };
        let mut at = 0usize;
        for piece in &self.pieces {
            for byte in in_steps(piece, 1) {
                let lost = ranges
                    .iter()
                    .any(|(from, until)| (*from..*until).contains(&at));
                at += 1;
                if lost {
                    loss.first = loss.first.or(Some(piece.time));
                }
                // What begins with a loss is a late attach.
                if lost && self.begins(&byte) {
                    loss.excused = Flags::GUESSED;
                }
                push(&mut happenings, byte, lost);
            }
        }
        if !announced {
            happenings.retain(|happening| matches!(happening, Happening::Arrive(_)));
        }
        (happenings, loss)
    }

    /// Loses the ranges, counted over the pieces in capture order.
    fn check_losses(&self, ranges: &[(usize, usize)], announced: bool) {
        let what = format!("lost {ranges:?}, announced: {announced}");
        let (happenings, loss) = self.lose(ranges, announced);
        let run = self.run(&happenings, &what);
        self.check_pairing(&run, loss.excused, &what);
        let over = |seen: &&Seen| {
            let end = seen.duration.map(|duration| seen.start.0 + duration);
            matches!((end, loss.first), (Some(end), Some(lost)) if end < lost.0)
        };
        for seen in self.whole.iter().filter(over) {
            assert!(
                run.seen.contains(seen),
                "{what}: changed before the loss: {seen:#?}\n{:#?}",
                run.seen
            );
        }
    }

    /// Whether the byte belongs to the first that was said in its direction.
    fn begins(&self, byte: &Piece) -> bool {
        let first = self.pieces.iter().find(|piece| piece.dir == byte.dir);
        first.is_some_and(|first| byte.offset < first.offset + first.bytes.len() as u64)
    }

    fn late_attach_is_harmless(&self) {
        for cut in self.cuts() {
            let (_, after) = self.cut(cut);
            let run = self.stage.play_late(&arrivals(&after));
            let what = format!("joined at {cut}");
            self.check_account(&run, &what);
            self.check_pairing(&run, Flags::GUESSED, &what);
        }
    }

    fn check_equal(&self, pieces: &[Piece], what: impl Fn() -> String) {
        let run = self.stage.play(&arrivals(pieces));
        self.check_account(&run, "chunking");
        assert_eq!(run.seen, self.whole, "other exchanges when {}", what());
    }

    /// Every exchange with a status is one of the undisturbed run's, except those with a flag of
    /// `excused`.
    fn check_pairing(&self, run: &Run, excused: Flags, what: &str) {
        for seen in run.seen.iter().filter(|seen| !seen.status.is_empty()) {
            if !excused.is_empty() && seen.flags.has(excused) {
                continue;
            }
            let right = self.by_offset.get(&seen.offset);
            // What is empty is not known any more, which is honest.
            let known = |seen: &str, right: &str| seen.is_empty() || seen == right;
            let same = right.is_some_and(|right| {
                seen.status == right.status
                    && known(&seen.operation, &right.operation)
                    && known(&seen.target, &right.target)
            });
            assert!(
                same,
                "{what}: wrong pairing: {seen:#?}\nshould be {right:#?}"
            );
        }
    }

    /// What holds for every run.
    fn check_account(&self, run: &Run, what: &str) {
        let stats = &run.stats;
        assert_eq!(
            stats.parser_faults, 0,
            "{what}: the parser broke the contract: {stats:#?}"
        );
        assert_eq!(
            stats.exchanges(),
            run.seen.len() as u64,
            "{what}: {stats:#?}"
        );
        let mut accounted = 0;
        for (name, protocol) in &stats.protocols {
            for dir in [Direction::ToServer, Direction::ToClient] {
                let ledger = &protocol.bytes[dir];
                assert!(
                    ledger.balances(),
                    "{what}: bytes of {name} {dir:?}: {ledger:?}"
                );
                accounted += ledger.seen;
            }
        }
        assert_eq!(
            accounted, stats.intake,
            "{what}: bytes got lost: {stats:#?}"
        );
        let (first, last) = self.times;
        for seen in &run.seen {
            let end = seen.start.0.saturating_add(seen.duration.unwrap_or(0));
            let inside = seen.start >= first && end <= last.0;
            let shorter = seen.ttfb <= seen.duration.or(seen.ttfb);
            assert!(inside && shorter, "{what}: impossible times: {seen:#?}");
        }
        let peak = self.peak.load(Ordering::Relaxed);
        assert!(peak <= HEAP, "{what}: the parser held {peak} bytes");
    }
}

fn in_steps(piece: &Piece, size: usize) -> Vec<Piece> {
    let mut parts = Vec::new();
    let mut rest = piece.clone();
    while !rest.bytes.is_empty() {
        let (part, after) = rest.split(size);
        parts.push(part);
        rest = after;
    }
    parts
}

/// Adds a byte to the last happening where it continues it.
fn push(happenings: &mut Vec<Happening>, byte: Piece, lost: bool) {
    if let Some((last, was_lost)) = happenings.last_mut().map(|happening| match happening {
        Happening::Arrive(last) => (last, false),
        Happening::Lose(last) => (last, true),
    }) && was_lost == lost
        && (last.dir, last.time) == (byte.dir, byte.time)
    {
        last.bytes.extend(byte.bytes);
        return;
    }
    happenings.push(if lost {
        Happening::Lose(byte)
    } else {
        Happening::Arrive(byte)
    });
}

/// Runs a check over random input, the same on every run, and shrinks what breaks it.
pub(crate) fn hold<S: Strategy>(law: &str, input: S, check: impl Fn(S::Value)) {
    // proptest's own number of cases: PROPTEST_CASES sets another.
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let rng = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let done = runner.run(&input, |value| {
        check(value);
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(TestError::Fail(why, input)) => panic!("{law}: {why}\nwith {input:?}"),
        Err(TestError::Abort(why)) => panic!("{law}: {why}"),
    }
}
