//! The laws of detection.

use wirespan_parser_api::{Confidence, Direction, Probe, ProbeInput, Protocol, Speaker};

use crate::Fixture;

/// The engine never shows more than this to a probe.
const WINDOW: usize = 4 * 1_024;

/// Checks that a protocol does not take other protocols' conversations for its own.
///
/// # Panics
///
/// When a prefix of one of them is accepted with [`Confidence::Strong`] or more.
pub fn strangers(protocol: &impl Protocol, others: &[Fixture]) {
    for (number, other) in others.iter().enumerate() {
        for (dir, speaker, at_start) in views() {
            let stream = other.stream(dir);
            for len in 1..=stream.len().min(WINDOW) {
                let bytes = &stream[..len];
                let verdict = protocol.probe(&input(bytes, speaker, at_start));
                let taken =
                    matches!(verdict, Probe::Accept(surely, _) if surely >= Confidence::Strong);
                assert!(
                    !taken,
                    "{} takes stranger {number} for its own: {verdict:?} for {dir:?}, {:?}",
                    protocol.name(),
                    bytes.escape_ascii().to_string(),
                );
            }
        }
    }
}

/// Checks that a probe's verdict stays what it is however many bytes follow, and that it asks for
/// more than it has.
pub(crate) fn monotonic(protocol: &dyn Protocol, fixture: &Fixture) {
    monotonic_within(protocol, fixture, WINDOW);
}

/// The same over prefixes of at most `most` bytes.
pub(crate) fn monotonic_within(protocol: &dyn Protocol, fixture: &Fixture, most: usize) {
    for (dir, speaker, at_start) in views() {
        let stream = fixture.stream(dir);
        let mut verdict = None;
        for len in 1..=stream.len().min(most) {
            let bytes = &stream[..len];
            let now = protocol.probe(&input(bytes, speaker, at_start));
            let shown = || bytes.escape_ascii().to_string();
            if let Probe::NeedMore(n) = now {
                assert!(n > len, "probe wants {n} bytes and has {len}: {}", shown());
            }
            match verdict {
                Some(before) => {
                    assert_eq!(
                        now,
                        before,
                        "the verdict changed at {len} bytes: {}",
                        shown()
                    );
                }
                None if !matches!(now, Probe::NeedMore(_)) => verdict = Some(now),
                None => {}
            }
        }
    }
}

/// All ways in which the engine shows a stream.
fn views() -> impl Iterator<Item = (Direction, Option<Speaker>, bool)> {
    let dirs = [Direction::ToServer, Direction::ToClient];
    dirs.into_iter().flat_map(|dir| {
        let speakers = [None, Some(dir.speaker())];
        speakers
            .into_iter()
            .flat_map(move |speaker| [true, false].map(|at_start| (dir, speaker, at_start)))
    })
}

fn input(bytes: &[u8], speaker: Option<Speaker>, at_start: bool) -> ProbeInput<'_> {
    let mut head = ProbeInput::new(bytes);
    (head.speaker, head.at_start) = (speaker, at_start);
    head
}
