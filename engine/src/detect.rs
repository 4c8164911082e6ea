//! Which protocol a connection speaks.

use wirespan_parser_api::{Confidence, Direction, Probe, ProbeInput, Speaker};

use crate::both::{Both, DIRECTIONS};
use crate::registry::Registry;

/// Most bytes of one direction that are shown to the probes.
pub(crate) const WINDOW: usize = 4096;

/// What is known when a connection is to be detected.
pub(crate) struct Evidence<'a> {
    /// The first bytes of each direction; empty while it is silent.
    pub(crate) heads: Both<&'a [u8]>,
    /// Which directions have shown nothing yet, and still may.
    pub(crate) silent: Both<bool>,
    /// Whether the roles of the peers are known.
    pub(crate) roles_known: bool,
    /// Whether the heads begin with the first bytes of the connection.
    pub(crate) at_start: bool,
    /// The server's port.
    pub(crate) server_port: Option<u16>,
    /// Whether nothing more will come: no bytes, or none that are looked at.
    pub(crate) last_chance: bool,
}

/// What detection has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// The protocol with this index in the registry.
    Found {
        protocol: usize,
        /// Whether the peer that we took for the server is the client.
        swapped: bool,
    },
    /// More bytes are needed.
    Undecided,
    /// None of ours.
    Nothing,
}

/// What one protocol says of both heads.
#[derive(Clone, Copy, Debug)]
struct Claim {
    protocol: usize,
    confidence: Confidence,
    swapped: bool,
    on_port: bool,
}

/// Asks every protocol.
pub(crate) fn detect(registry: &Registry, evidence: &Evidence<'_>) -> Verdict {
    let mut best: Option<Claim> = None;
    let mut open = false;
    for (index, protocol) in registry.protocols().enumerate() {
        let probes = probe_both(protocol, evidence);
        let on_port = evidence
            .server_port
            .is_some_and(|port| protocol.ports().contains(&port));
        open |= undecided(&probes, evidence);
        let Some((confidence, swapped, agreed)) = combine(&probes) else {
            continue;
        };
        // Weak evidence needs a second witness.
        if confidence == Confidence::Weak && !agreed && !on_port {
            open |= !evidence.last_chance && one_is_silent(evidence);
            continue;
        }
        if evidence.roles_known && swapped && confidence == Confidence::Weak {
            continue;
        }
        let better =
            best.is_none_or(|best| (confidence, on_port) > (best.confidence, best.on_port));
        if better {
            best = Some(Claim {
                protocol: index,
                confidence,
                swapped,
                on_port,
            });
        }
    }
    match best {
        Some(claim) if claim.confidence > Confidence::Weak || !open || evidence.last_chance => {
            Verdict::Found {
                protocol: claim.protocol,
                swapped: claim.swapped,
            }
        }
        _ if evidence.last_chance => Verdict::Nothing,
        None if !open && !one_is_silent(evidence) => Verdict::Nothing,
        _ => Verdict::Undecided,
    }
}

/// Whether one of the directions is still silent.
fn one_is_silent(evidence: &Evidence<'_>) -> bool {
    evidence.silent.to_server || evidence.silent.to_client
}

fn probe_both(
    protocol: &dyn wirespan_parser_api::Protocol,
    evidence: &Evidence<'_>,
) -> Both<Option<Probe>> {
    let mut probes = Both::default();
    for dir in DIRECTIONS {
        let head = evidence.heads[dir];
        let bytes = head.get(..WINDOW).unwrap_or(head);
        if !bytes.is_empty() {
            let mut head = ProbeInput::new(bytes);
            head.speaker = evidence.roles_known.then(|| dir.speaker());
            head.at_start = evidence.at_start;
            head.server_port = evidence.server_port;
            probes[dir] = Some(protocol.probe(&head));
        }
    }
    probes
}

/// Whether a direction could still bring a verdict that is not in.
fn undecided(probes: &Both<Option<Probe>>, evidence: &Evidence<'_>) -> bool {
    DIRECTIONS.iter().any(|dir| {
        matches!(probes[*dir], Some(Probe::NeedMore(_))) && evidence.heads[*dir].len() < WINDOW
    })
}

/// The strongest claim over both directions, whether it swaps the roles, and whether both agree.
fn combine(probes: &Both<Option<Probe>>) -> Option<(Confidence, bool, bool)> {
    let claim = |dir: Direction| match probes[dir] {
        Some(Probe::Accept(confidence, speaker)) => Some((confidence, swaps(dir, speaker))),
        _ => None,
    };
    match (claim(Direction::ToServer), claim(Direction::ToClient)) {
        (Some((a, a_swaps)), Some((b, b_swaps))) => Some(if a >= b {
            (a, a_swaps, a_swaps == b_swaps)
        } else {
            (b, b_swaps, a_swaps == b_swaps)
        }),
        (Some((confidence, swaps)), None) | (None, Some((confidence, swaps))) => {
            Some((confidence, swaps, false))
        }
        (None, None) => None,
    }
}

fn swaps(dir: Direction, speaker: Speaker) -> bool {
    dir.speaker() != speaker
}

/// Why bytes that no protocol claims are not parsed: TLS is worth telling apart.
pub(crate) fn opaque_reason(heads: &Both<&[u8]>) -> &'static str {
    let tls = |head: &[u8]| matches!(head, [0x14..=0x17, 0x03, 0x00..=0x04, ..]);
    if tls(heads.to_server) || tls(heads.to_client) {
        "tls"
    } else {
        "unknown protocol"
    }
}
