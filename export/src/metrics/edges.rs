//! The service map: who calls whom, by which protocol, how often, how well.

use std::collections::BTreeMap;

use super::{Explicit, LabelValue, Series, Snapshot};
use crate::semconv::{Instrument, Label};

/// One edge of the service map.
#[derive(Clone, Debug)]
pub struct Edge {
    /// Who calls: a process where it was observed, else an address.
    pub client: Box<str>,
    /// Who is called: a process where it was observed, else address and port.
    pub server: Box<str>,
    /// Protocol of the records.
    pub protocol: Box<str>,
    /// Whose socket was observed: `client`, `server`, `wire`. A call of which both ends are
    /// observed is an edge of each.
    pub side: Box<str>,
    /// Exchanges.
    pub count: u64,
    /// Those that failed, from the observed side.
    pub errors: u64,
    /// Durations of those whose duration is known.
    pub durations: Explicit,
}

/// The service map of a snapshot, in order of its ends. Edges beyond the bound on series are left
/// out.
#[must_use]
pub fn edges(snapshot: &Snapshot) -> Vec<Edge> {
    let mut edges = BTreeMap::new();
    for (identity, series) in &snapshot.series {
        if identity.instrument != Instrument::Edge || identity.overflow {
            continue;
        }
        let text = |wanted: Label| {
            let found = identity.labels.iter().find(|(label, _)| *label == wanted);
            match found {
                Some((_, LabelValue::Text(text))) => text.clone(),
                _ => Box::default(),
            }
        };
        let ends = [
            text(Label::EdgeClient),
            text(Label::EdgeServer),
            text(Label::NetworkProtocolName),
            text(Label::Side),
        ];
        let failed = !text(Label::ErrorType).is_empty();
        add(&mut edges, ends, failed, series);
    }
    edges.into_values().collect()
}

fn add(edges: &mut BTreeMap<[Box<str>; 4], Edge>, ends: [Box<str>; 4], failed: bool, of: &Series) {
    let [client, server, protocol, side] = ends.clone();
    let edge = edges.entry(ends).or_insert_with(|| Edge {
        client,
        server,
        protocol,
        side,
        count: 0,
        errors: 0,
        durations: Explicit::new(of.durations.bounds()),
    });
    edge.count += of.count();
    edge.errors += if failed { of.count() } else { 0 };
    edge.durations.merge(&of.durations);
}
