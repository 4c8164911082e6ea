//! Any sequence of inputs: no panic, bounded memory, balanced books.
#![allow(missing_docs)]

mod common;

use common::Rig;
use proptest::prelude::*;
use wirespan_engine::api::Direction::{self, ToClient, ToServer};
use wirespan_engine::{Config, Nanos, Roles, Start};

#[derive(Clone, Debug)]
enum Op {
    Chunk(Direction, u64, String),
    Lost(Direction, u64, u64),
    Acked(Direction, u64),
    Anchor(Direction, u64),
    End(Direction, u64),
    Tick(u64),
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(ToServer), Just(ToClient)]
}

fn op() -> impl Strategy<Value = Op> {
    let text =
        "(Q a 0\n|Q b 5\n12345|A 1 0\n|A 2 3\nxyz|U u 0\n|A 101 0\n|P\n|!\n|[QA !\n0-9]{0,9}){1,4}";
    let at = 0u64..120;
    prop_oneof![
        8 => (direction(), at.clone(), text).prop_map(|(d, at, t)| Op::Chunk(d, at, t)),
        1 => (direction(), at.clone(), 0u64..40).prop_map(|(d, at, n)| Op::Lost(d, at, n)),
        2 => (direction(), at.clone()).prop_map(|(d, at)| Op::Acked(d, at)),
        1 => (direction(), at.clone()).prop_map(|(d, at)| Op::Anchor(d, at)),
        1 => (direction(), at).prop_map(|(d, at)| Op::End(d, at)),
        1 => (0u64..5_000_000_000).prop_map(Op::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]
    #[test]
    fn never_panics_stays_small_and_balances(
        ops in prop::collection::vec(op(), 0..60),
        middle in any::<bool>(),
    ) {
        let start = if middle { Start::Middle } else { Start::Beginning };
        let mut rig = Rig::with(Config::default(), start, Roles::Assumed);
        for op in ops {
            let (engine, id, out) = (&mut rig.engine, rig.id, &mut rig.seen);
            rig.now += 5;
            let now = Nanos(rig.now);
            match op {
                Op::Chunk(dir, at, text) => engine.chunk(id, dir, at, text.as_bytes(), now, out),
                Op::Lost(dir, at, len) => engine.lost(id, dir, at, len, now, out),
                Op::Acked(dir, upto) => engine.acked(id, dir, upto, now, out),
                Op::Anchor(dir, at) => engine.anchor(id, dir, at, now, out),
                Op::End(dir, at) => engine.end(id, dir, at, now, out),
                Op::Tick(by) => {
                    rig.now += by;
                    engine.tick(Nanos(rig.now), out);
                }
            }
            prop_assert!(rig.engine.heap_bytes() < 100_000);
        }
        rig.finish();
    }

    /// Two streams, cut and shuffled within a window, give what the whole streams give.
    #[test]
    fn order_within_a_window_is_invisible(
        cuts in prop::collection::vec((any::<bool>(), 1usize..9, 0usize..4, any::<bool>()), 1..60),
    ) {
        let asked = "Q a 0\nQ b 5\n12345Q c 0\nQ d 12\nabcdefghijkl".repeat(3);
        let answered = "A 1 0\nP\nA 2 3\nxyzA 3 0\nA 4 8\nabcdefgh".repeat(3);
        let mut whole = Rig::new();
        whole.ask(&asked).answer(&answered);
        let expected = whole.finish();

        let mut rig = Rig::new();
        let mut pieces = Vec::new();
        for (dir, text) in [(ToServer, &asked), (ToClient, &answered)] {
            let (mut from, mut cuts) = (0, cuts.iter().cycle());
            while from < text.len() {
                let (_, len, shift, twice) = cuts.next().unwrap();
                let to = (from + len).min(text.len());
                for _ in 0..=usize::from(*twice) {
                    pieces.push((pieces.len() + shift * 2, dir, from, &text[from..to]));
                }
                from = to;
            }
        }
        pieces.sort_by_key(|(rank, ..)| *rank);
        for (_, dir, at, text) in pieces {
            rig.at(dir, at as u64, text);
        }
        prop_assert_eq!(rig.finish(), expected);
    }
}
