//! Bodies of fuzz targets: any bytes are a story that the engine must survive.
//!
//! A story begins with a byte that says how the connection is introduced. Each event is an order,
//! a length (two bytes, little end first), and as many bytes as that for an arrival.
//!
//! ```text
//! order: 0 client's bytes arrive  1 server's bytes arrive  2, 3 are lost  4, 5 stream ends
//!        6, 7 stream begins here  8, 9 acknowledged        10 time passes 11 connection closes
//! order >> 4: 0 in order  1 to 7: so many times eight bytes back  8 to 15: behind a hole
//! ```

use std::sync::Arc;

use wirespan_engine::{Close, Config, Engine, Ledger, Nanos, Registry, Roles, Start};
use wirespan_parser_api::{Direction, Protocol};

use crate::Fixture;
use crate::play::{Seen, Witness, opening};
use crate::probe::monotonic_within;
use crate::toy::Toy;

/// Prefixes of a stream that a probe is asked about.
const PROBED: usize = 64;
/// Heap bytes that the engine may hold at the end of a call, whatever the story: its budgets and
/// one connection's worth.
const SLACK: usize = 1 << 20;

/// Plays any bytes to a protocol's probe and parser.
///
/// # Panics
///
/// When the parser breaks the contract, or the engine's account does not balance.
pub fn fuzz_parser(protocol: impl Protocol, data: &[u8]) {
    let mut fixture = Fixture::new();
    for event in Events::of(data) {
        fixture = match event.order & 0xF {
            0 => fixture.client(event.bytes),
            1 => fixture.server(event.bytes),
            _ => fixture,
        };
    }
    monotonic_within(&protocol, &fixture, PROBED);
    play(protocol, data, Config::default());
}

/// Plays any bytes as a story to an engine with little room, and with a protocol that asks the
/// engine for everything that a parser can ask for.
///
/// # Panics
///
/// When the engine's account does not balance, or it holds more than its budgets.
pub fn fuzz_engine_ops(data: &[u8]) {
    let mut config = Config::default();
    config.connection_bytes = 16 * 1024;
    config.engine_bytes = 32 * 1024;
    config.max_connections = 4;
    config.hole_bytes = 4 * 1024;
    config.hole_wait = 50_000_000;
    config.request_wait = 200_000_000;
    play(Toy, data, config);
}

/// Something that happens in a story.
struct Event<'a> {
    order: u8,
    len: u16,
    bytes: &'a [u8],
}

/// Reads a story.
struct Events<'a>(&'a [u8]);

impl<'a> Events<'a> {
    fn of(data: &'a [u8]) -> Self {
        Self(data.get(1..).unwrap_or_default())
    }
}

impl<'a> Iterator for Events<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let (head, rest) = self.0.split_first_chunk::<3>()?;
        let [order, low, high] = *head;
        let len = u16::from_le_bytes([low, high]);
        let arrives = order & 0xF <= 1;
        let (bytes, rest) = rest.split_at(rest.len().min(if arrives { len.into() } else { 0 }));
        self.0 = rest;
        Some(Event { order, len, bytes })
    }
}

fn play(protocol: impl Protocol, data: &[u8], config: Config) {
    let port = protocol.ports().first().copied().unwrap_or(9);
    let registry = Registry::builder().with(protocol).build();
    let registry = registry.unwrap_or_else(|error| panic!("{error}"));
    let limit = config.engine_bytes + SLACK;
    let mut engine = Engine::new(Arc::new(registry), config);
    let intro = data.first().copied().unwrap_or(0);
    let start = [Start::Beginning, Start::Middle][usize::from(intro & 1)];
    let roles = [Roles::Known, Roles::Assumed][usize::from(intro >> 1 & 1)];
    let mut opening = opening(port, start, roles);
    let mut seen = Witness::default();
    let mut now = Nanos(1_000_000_000);
    let mut tips = [0u64; 2];
    let mut id = engine.open(&opening, now, &mut seen);
    for Event { order, len, bytes } in Events::of(data) {
        now.0 += 1_000_000;
        let dir = [Direction::ToServer, Direction::ToClient][usize::from(order & 1)];
        let tip = &mut tips[usize::from(order & 1)];
        let shift = u64::from(order >> 4) * 8;
        let at = match shift {
            0..64 => tip.saturating_sub(shift),
            _ => *tip + shift - 56,
        };
        match order & 0xF {
            0 | 1 => {
                engine.chunk(id, dir, at, bytes, now, &mut seen);
                *tip = at + bytes.len() as u64;
            }
            2 | 3 => {
                engine.lost(id, dir, at, len.into(), now, &mut seen);
                *tip = at + u64::from(len);
            }
            4 | 5 => engine.end(id, dir, at, now, &mut seen),
            6 | 7 => engine.anchor(id, dir, at, now, &mut seen),
            8 | 9 => engine.acked(id, dir, at, now, &mut seen),
            10 => {
                now.0 += u64::from(len) * 1_000_000;
                engine.tick(now, &mut seen);
            }
            11 => {
                if len & 1 == 0 {
                    engine.close(id, Close::Reset, now, &mut seen);
                }
                opening.number += 1;
                tips = [0; 2];
                id = engine.open(&opening, now, &mut seen);
            }
            _ => {}
        }
        let held = engine.heap_bytes();
        assert!(held <= limit, "the engine holds {held} bytes");
    }
    engine.finish(now, &mut seen);
    check_account(&engine, &seen.0);
}

/// Every byte and every exchange is accounted for once, and nothing is left.
fn check_account(engine: &Engine, seen: &[Seen]) {
    let stats = engine.stats();
    assert_eq!(stats.parser_faults, 0, "{stats:#?}");
    assert_eq!(stats.exchanges(), seen.len() as u64, "{stats:#?}");
    assert_eq!(engine.heap_bytes(), 0, "nothing is open");
    let dirs = [Direction::ToServer, Direction::ToClient];
    let protocols = stats.protocols.values();
    let ledgers = protocols.flat_map(|protocol| dirs.map(|dir| &protocol.bytes[dir]));
    assert!(ledgers.clone().all(Ledger::balances), "{stats:#?}");
    assert_eq!(
        ledgers.map(|ledger| ledger.seen).sum::<u64>(),
        stats.intake,
        "{stats:#?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_reaches_the_parser() {
        let mut story = vec![0];
        story.extend([0, 5, 0, b'.', b'Q', 3, b'x', b'y']);
        story.extend([0, 1, 0, b'z', 1, 2, 0, b'R', 0]);
        let events: Vec<(u8, usize)> = Events::of(&story)
            .map(|e| (e.order, e.bytes.len()))
            .collect();
        assert_eq!(events, [(0, 5), (0, 1), (1, 2)]);
        fuzz_engine_ops(&story);
    }

    #[test]
    fn a_cut_story_ends_early() {
        assert_eq!(
            Events::of(&[0, 0, 9, 0, b'x'])
                .map(|e| e.bytes.len())
                .sum::<usize>(),
            1
        );
        assert_eq!(Events::of(&[0, 1, 2]).count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn the_engine_survives_any_story(data in proptest::collection::vec(story_byte(), 0..400)) {
            fuzz_engine_ops(&data);
        }
    }

    /// Bytes that are often an order of either kind.
    fn story_byte() -> impl proptest::strategy::Strategy<Value = u8> {
        use proptest::prelude::*;
        prop_oneof![
            0u8..12,
            prop::sample::select(b".NSEWUXQRA#".to_vec()),
            any::<u8>()
        ]
    }
}
