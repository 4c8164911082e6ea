//! Metrics as what was counted since they were delivered last.
//!
//! What a backend has not taken is kept and sent with what follows, so each exchange is in one
//! delivered request, whatever happened to those before. A request that a backend took without saying
//! so is sent again: OTLP delivers at least once.

use std::collections::{BTreeMap, HashMap};

use wirespan_engine::Nanos;
use wirespan_export::metrics::{Identity, Reading, ReadingKind, Series};

use crate::encode::{Collection, Counted, Window};

/// Series that wait to be delivered at most; what is beyond is delivered in overflow series.
const MOST: usize = 20_000;

/// Which metrics are sent as differences.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Temporality {
    /// None.
    #[default]
    Cumulative,
    /// All that only rise.
    Delta,
    /// Those that are aggregated here; what the program says of itself is read, and stays
    /// cumulative.
    LowMemory,
}

/// Tells what is to be sent of each collection.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    temporality: Temporality,
    /// The series as they were collected last.
    collected: HashMap<Identity, Series>,
    /// What was counted since the last delivery.
    waiting: BTreeMap<Identity, Series>,
    /// The readings as they were delivered last, and as they are under way.
    delivered: HashMap<Point, f64>,
    under_way: HashMap<Point, f64>,
    /// Time of the last delivery, and of what is under way.
    since: Option<Nanos>,
    time: Nanos,
}

/// Name and attributes of a point of a reading.
type Point = (&'static str, Vec<(&'static str, String)>);

impl Deltas {
    pub(crate) fn new(temporality: Temporality) -> Self {
        Self {
            temporality,
            ..Self::default()
        }
    }

    /// What is to be sent now.
    pub(crate) fn next(&mut self, collection: Collection) -> (Collection, Window) {
        let since = Counted::Since(self.since);
        match self.temporality {
            Temporality::Cumulative => (collection, Window::default()),
            Temporality::LowMemory => {
                let window = Window {
                    series: since,
                    ..Window::default()
                };
                (self.with_new_series(collection), window)
            }
            Temporality::Delta => {
                let window = Window {
                    series: since,
                    readings: since,
                };
                let mut collection = self.with_new_series(collection);
                collection.readings = self.since_delivered(collection.readings);
                (collection, window)
            }
        }
    }

    /// What was given last was delivered.
    pub(crate) fn delivered(&mut self) {
        self.waiting.clear();
        self.delivered = std::mem::take(&mut self.under_way);
        self.since = Some(self.time);
    }

    /// Exchanges that wait to be delivered.
    pub(crate) fn waiting(&self) -> u64 {
        let own = |(identity, _): &(&Identity, &Series)| !identity.instrument.is_edge();
        let waiting = self.waiting.iter().filter(own);
        waiting.map(|(_, series)| series.count()).sum()
    }

    fn with_new_series(&mut self, mut collection: Collection) -> Collection {
        self.time = collection.time;
        let series = std::mem::take(&mut collection.snapshot.series);
        let mut collected = HashMap::with_capacity(series.len());
        for (identity, now) in series {
            let before = self.collected.get(&identity);
            let before = before.filter(|before| before.number == now.number);
            let new = before.map_or_else(|| now.clone(), |before| now.since(before));
            if new.count() > 0 {
                self.wait(&identity, &new);
            }
            collected.insert(identity, now);
        }
        self.collected = collected;
        let waiting = self.waiting.iter();
        let series = waiting.map(|(identity, series)| (identity.clone(), series.clone()));
        collection.snapshot.series = series.collect();
        collection
    }

    fn wait(&mut self, identity: &Identity, new: &Series) {
        if let Some(waiting) = self.waiting.get_mut(identity) {
            waiting.merge(new);
        } else if self.waiting.len() < MOST {
            self.waiting.insert(identity.clone(), new.clone());
        } else {
            let overflow = Identity::overflow(identity.instrument);
            let waiting = self.waiting.entry(overflow);
            waiting
                .and_modify(|waiting| waiting.merge(new))
                .or_insert_with(|| new.clone());
        }
    }

    fn since_delivered(&mut self, mut readings: Vec<Reading>) -> Vec<Reading> {
        self.under_way.clear();
        for reading in &mut readings {
            if reading.kind != ReadingKind::Counter {
                continue;
            }
            for (attributes, value) in &mut reading.points {
                let point = (reading.name, attributes.clone());
                let before = self.delivered.get(&point).copied().unwrap_or_default();
                self.under_way.insert(point, *value);
                *value -= before;
            }
            reading.points.retain(|(_, value)| *value > 0.0);
        }
        readings
    }
}
