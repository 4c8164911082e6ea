//! RED metrics by the semantic conventions: series of histograms, bounded and forgotten in time.
//!
//! Several threads may record into one [`Metrics`], and others take [`Snapshot`]s of it; or each
//! thread has its own, which are merged at the end. Either way every exchange is counted once, in a
//! series of its own or in the overflow series.

mod edges;
mod explicit;
mod exponential;
mod key;
mod reading;
mod recent;
mod series;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use hashbrown::DefaultHashBuilder;
use wirespan_engine::{Exchange, Nanos};

use crate::owner::Service;
use crate::semconv::{Facts, Instrument};

pub use edges::{Edge, edges};
pub use explicit::{BYTES, Bounds, DATABASE_SECONDS, Exemplar, Explicit, REQUEST_SECONDS};
pub use exponential::{Exponential, MAX_BUCKETS, MAX_SCALE};
pub use key::{Identity, LabelValue};
pub use reading::{Reading, ReadingKind};
pub use series::{Counted, Series};

use key::KeyWriter;
use recent::Recent;
use series::{Measured, Slot};

/// How metrics are kept.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Most series, over all instruments. Beyond, exchanges of new series are counted in one
    /// overflow series for each instrument.
    pub max_series: usize,
    /// A series is forgotten when nothing was recorded in it for so long, in nanoseconds.
    pub ttl: u64,
    /// Whether durations are also counted in exponential histograms.
    pub exponential: bool,
    /// Whether body sizes are measured.
    pub sizes: bool,
    /// Whether the edges of the service map are counted.
    pub edges: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_series: 10_000,
            ttl: 300_000_000_000,
            exponential: false,
            sizes: false,
            edges: true,
        }
    }
}

/// Aggregates exchanges by series.
#[derive(Debug)]
pub struct Metrics {
    options: Options,
    series: DashMap<Box<[u8]>, Arc<Slot>, DefaultHashBuilder>,
    /// Series that count against the bound: all but the overflow series.
    held: AtomicUsize,
    /// Series that were made so far.
    made: AtomicU64,
    overflowed: AtomicU64,
    evicted: AtomicU64,
    /// The services that series name, where more is known of them than the name.
    services: DashMap<Box<str>, Arc<Service>>,
}

/// Writes keys, and remembers series: one for each thread that records, and for one [`Metrics`] only.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    key: KeyWriter,
    recent: Recent,
    /// The service that was introduced last, and what stands for it in keys.
    introduced: Option<(Weak<Service>, Box<str>)>,
}

/// All series at one time, in order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The series.
    pub series: Vec<(Identity, Series)>,
    /// The end of the latest exchange.
    pub latest: Nanos,
    /// Exchanges that were counted in overflow series.
    pub overflowed: u64,
    /// Series that were forgotten.
    pub evicted: u64,
    /// What more is known of services, by what stands for them in keys.
    services: BTreeMap<Box<str>, Arc<Service>>,
}

impl Snapshot {
    /// What is known of a service besides its name and instance.
    #[must_use]
    pub fn service(&self, name: &str, instance: &str) -> Option<&Service> {
        let key = key::of_service(name, instance);
        self.services.get(&key).map(|service| &**service)
    }

    /// The services of which more is known than their names, in order of their names.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values().map(|service| &**service)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Metrics {
    /// Without any series.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            series: DashMap::default(),
            held: AtomicUsize::new(0),
            made: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            services: DashMap::default(),
        }
    }

    /// Tells more of the service that the series of the next exchanges name. What is told of one that
    /// has no series is forgotten.
    pub fn introduce(&self, service: &Arc<Service>, scratch: &mut Scratch) {
        let known = |(latest, _): &(Weak<Service>, _)| latest.as_ptr() == Arc::as_ptr(service);
        if let Some((_, key)) = scratch.introduced.as_ref().filter(|latest| known(latest))
            && self.services.contains_key(key)
        {
            return;
        }
        let key = key::of_service(&service.name, &service.instance);
        self.services.insert(key.clone(), Arc::clone(service));
        scratch.introduced = Some((Arc::downgrade(service), key));
    }

    /// Counts one exchange. The exemplar, where there is one, is of its span.
    pub fn record(
        &self,
        exchange: &Exchange<'_>,
        facts: &Facts<'_>,
        span: Option<([u8; 16], [u8; 8])>,
        scratch: &mut Scratch,
    ) {
        let measured = Measured::of(exchange, facts, span);
        let key = match facts.instrument {
            Instrument::Other => {
                let side = exchange.side.name();
                scratch.key.other(exchange.protocol.0, facts, side)
            }
            _ => scratch.key.exchange(facts, exchange.side.name()),
        };
        let recent = scratch.recent.of(exchange.connection);
        if !recent.own.is_at(key, |series| series.add(&measured)) {
            let slot = self.add(facts.instrument, key, &measured);
            recent.own.put(key, slot);
        }
        if self.options.edges {
            self.edge(exchange, facts, &measured, scratch);
        }
    }

    /// The exchange that was recorded last, where it may yet get an exemplar.
    pub fn latest(
        &self,
        exchange: &Exchange<'_>,
        facts: &Facts<'_>,
        scratch: &mut Scratch,
    ) -> Option<Counted> {
        let slot = scratch.recent.of(exchange.connection).own.slot()?;
        let measured = Measured::of(exchange, facts, None);
        Some(Counted { slot, measured })
    }

    fn edge(
        &self,
        exchange: &Exchange<'_>,
        facts: &Facts<'_>,
        measured: &Measured,
        scratch: &mut Scratch,
    ) {
        let measured = Measured {
            sizes: [None; 2],
            span: None,
            ..*measured
        };
        let recent = scratch.recent.of(exchange.connection);
        if recent
            .edge
            .is_between(exchange, facts, |series| series.add(&measured))
        {
            return;
        }
        let key = scratch.key.edge(exchange, facts);
        if let Some(slot) = self.add(Instrument::Edge, key, &measured) {
            recent.edge.put(exchange, facts, slot);
        }
    }

    /// Counts in the series of `key`, and returns it; in the overflow series where the bound allows
    /// no new one.
    fn add(&self, instrument: Instrument, key: &[u8], measured: &Measured) -> Option<Arc<Slot>> {
        if let Some(slot) = self.series.get(key) {
            // Forgetting takes the lock of the shard, which is held here.
            let _ = slot.with(|series| series.add(measured));
            return Some(Arc::clone(&slot));
        }
        self.with_new(instrument, key, measured.start, |series| {
            series.add(measured);
            1
        })
    }

    /// Calls `change` on the series of `key`, and returns it; on the overflow series where the bound
    /// allows no new one. `change` returns how many exchanges that are.
    fn with_new(
        &self,
        instrument: Instrument,
        key: &[u8],
        start: Nanos,
        change: impl FnOnce(&mut Series) -> u64,
    ) -> Option<Arc<Slot>> {
        let one_more = |held| (held < self.options.max_series).then_some(held + 1);
        let reserved = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if reserved.is_err() {
            let n = self.with_overflow(instrument, start, change);
            self.overflowed.fetch_add(n, Ordering::Relaxed);
            return None;
        }
        let place = match self.series.entry(key.into()) {
            Entry::Vacant(place) => place.insert(self.slot(instrument, start)),
            Entry::Occupied(place) => {
                // Another thread was faster.
                self.held.fetch_sub(1, Ordering::Relaxed);
                place.into_ref()
            }
        };
        // Forgetting takes the lock of the shard, which is held here.
        let _ = place.with(change);
        Some(Arc::clone(&place))
    }

    /// The same with the overflow series, which is never forgotten.
    fn with_overflow(
        &self,
        instrument: Instrument,
        start: Nanos,
        change: impl FnOnce(&mut Series) -> u64,
    ) -> u64 {
        let place = self.series.entry(key::overflow(instrument).into());
        let place = place.or_insert_with(|| self.slot(instrument, start));
        place.with(change).unwrap_or_default()
    }

    fn slot(&self, instrument: Instrument, start: Nanos) -> Arc<Slot> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let series = Series::new(number, instrument, start, &self.options);
        Arc::new(Slot::new(series))
    }

    /// Adds everything that `other` has counted. Which series are told apart depends on the order
    /// of merging only beyond the bound.
    pub fn merge(&self, other: &Self) {
        let mut keys: Vec<_> = other.series.iter().collect();
        keys.sort_by(|a, b| a.key().cmp(b.key()));
        for theirs in keys {
            let key = theirs.key();
            let instrument = key
                .first()
                .and_then(|i| Instrument::ALL.get(usize::from(*i)));
            let (Some(instrument), Some(theirs)) = (instrument, theirs.with(|of| of.clone()))
            else {
                continue;
            };
            let merge = |series: &mut Series| {
                series.merge(&theirs);
                theirs.count()
            };
            let known = self
                .series
                .get(key)
                .is_some_and(|slot| slot.with(merge).is_some());
            match known {
                true => {}
                false if key::is_overflow(key) => {
                    self.with_overflow(*instrument, theirs.start, merge);
                }
                false => drop(self.with_new(*instrument, key, theirs.start, merge)),
            }
        }
        for service in &other.services {
            let (key, service) = service.pair();
            self.services.insert(key.clone(), Arc::clone(service));
        }
        let theirs = other.overflowed.load(Ordering::Relaxed);
        self.overflowed.fetch_add(theirs, Ordering::Relaxed);
        let theirs = other.evicted.load(Ordering::Relaxed);
        self.evicted.fetch_add(theirs, Ordering::Relaxed);
    }

    /// Forgets the series in which nothing was recorded for the time that the options give. One
    /// that comes back begins again at zero, with a new start.
    pub fn expire(&self, now: Nanos) {
        self.series.retain(|key, slot| {
            let is_old = |series: &Series| now.since(series.latest) > self.options.ttl;
            let keep = key::is_overflow(key) || !slot.forget_if(is_old);
            if !keep {
                self.held.fetch_sub(1, Ordering::Relaxed);
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
            keep
        });
        let series = self.series.iter();
        let used: HashSet<Box<[u8]>> = series
            .filter_map(|series| key::service_of(series.key()).map(Into::into))
            .collect();
        self.services.retain(|key, _| used.contains(key.as_bytes()));
    }

    /// What was counted so far. Threads that record meanwhile wait for at most one shard.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let series = self.series.iter();
        let mut series: Vec<_> = series
            .filter_map(|slot| Some((slot.key().clone(), slot.with(|series| series.clone())?)))
            .collect();
        series.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let latest = series.iter().map(|(_, series)| series.latest).max();
        let read = |(key, series): (Box<[u8]>, Series)| Some((Identity::of(&key)?, series));
        Snapshot {
            series: series.into_iter().filter_map(read).collect(),
            latest: latest.unwrap_or_default(),
            overflowed: self.overflowed.load(Ordering::Relaxed),
            evicted: self.evicted.load(Ordering::Relaxed),
            services: self
                .services
                .iter()
                .map(|service| (service.key().clone(), Arc::clone(service.value())))
                .collect(),
        }
    }

    /// Series that are held, overflow series not counted.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }
}
