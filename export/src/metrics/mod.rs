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

use key::KeyWriter;

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
    series: DashMap<Box<[u8]>, Series, DefaultHashBuilder>,
    /// Series that count against the bound: all but the overflow series.
    held: AtomicUsize,
    overflowed: AtomicU64,
    evicted: AtomicU64,
    /// The services that series name, where more is known of them than the name.
    services: DashMap<Box<str>, Arc<Service>>,
}

/// What is known of a series.
#[derive(Clone, Debug)]
pub struct Series {
    /// When its first exchange began.
    pub start: Nanos,
    /// When its latest exchange ended.
    pub latest: Nanos,
    /// Durations of the exchanges whose duration is known.
    pub durations: Explicit,
    /// The same, where exponential histograms are asked for.
    pub exponential: Option<Box<Exponential>>,
    /// Exchanges whose duration is not known.
    pub untimed: u64,
    /// Sizes of bodies (request, response), where they are asked for and known.
    pub sizes: Option<Box<[Explicit; 2]>>,
}

/// Writes keys: one for each thread that records.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    key: KeyWriter,
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
        let end = Nanos(exchange.start.0 + exchange.duration.unwrap_or(0));
        let measured = Measured {
            start: exchange.start,
            end,
            duration: exchange.duration,
            sizes: [facts.request_body, facts.response_body],
            span,
        };
        let side = exchange.side.name();
        let key = match facts.instrument {
            Instrument::Other => scratch.key.other(exchange.protocol.0, facts, side),
            _ => scratch.key.exchange(facts, side),
        };
        self.add(facts.instrument, key, &measured);
        if self.options.edges {
            self.edge(exchange, facts, &measured, scratch);
        }
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
        let key = scratch.key.edge(exchange, facts);
        self.add(Instrument::Edge, key, &measured);
    }

    fn add(&self, instrument: Instrument, key: &[u8], measured: &Measured) {
        if let Some(mut series) = self.series.get_mut(key) {
            series.add(measured);
            return;
        }
        self.with_new(instrument, key, measured.start, |series| {
            series.add(measured);
            1
        });
    }

    /// Calls `change` on the series of `key`, or on the overflow series where the bound allows no
    /// new one; `change` returns how many exchanges that are.
    fn with_new(
        &self,
        instrument: Instrument,
        key: &[u8],
        start: Nanos,
        change: impl FnOnce(&mut Series) -> u64,
    ) {
        let new = || Series::new(instrument, start, &self.options);
        let one_more = |held| (held < self.options.max_series).then_some(held + 1);
        let reserved = self
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if reserved.is_err() {
            let key = key::overflow(instrument);
            let n = change(&mut self.series.entry(key.into()).or_insert_with(new));
            self.overflowed.fetch_add(n, Ordering::Relaxed);
            return;
        }
        match self.series.entry(key.into()) {
            Entry::Vacant(place) => {
                change(&mut place.insert(new()));
            }
            Entry::Occupied(mut series) => {
                // Another thread was faster.
                self.held.fetch_sub(1, Ordering::Relaxed);
                change(series.get_mut());
            }
        }
    }

    /// Adds everything that `other` has counted. Which series are told apart depends on the order
    /// of merging only beyond the bound.
    pub fn merge(&self, other: &Self) {
        let mut keys: Vec<_> = other.series.iter().collect();
        keys.sort_by(|a, b| a.key().cmp(b.key()));
        for theirs in keys {
            let key = theirs.key();
            let merge = |series: &mut Series| {
                series.merge(&theirs);
                theirs.count()
            };
            let known = self
                .series
                .get_mut(key)
                .map(|mut series| merge(&mut series));
            let Some(instrument) = key
                .first()
                .and_then(|i| Instrument::ALL.get(usize::from(*i)))
            else {
                continue;
            };
            match known {
                Some(_) => {}
                None if key::is_overflow(key) => {
                    let new = || Series::new(*instrument, theirs.start, &self.options);
                    merge(&mut self.series.entry(key.clone()).or_insert_with(new));
                }
                None => self.with_new(*instrument, key, theirs.start, merge),
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
        self.series.retain(|key, series| {
            let keep = now.since(series.latest) <= self.options.ttl || key::is_overflow(key);
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
            .map(|entry| (entry.key().clone(), entry.value().clone()))
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

/// One exchange, measured.
#[derive(Clone, Copy, Debug)]
struct Measured {
    start: Nanos,
    end: Nanos,
    duration: Option<u64>,
    sizes: [Option<i64>; 2],
    span: Option<([u8; 16], [u8; 8])>,
}

impl Series {
    fn new(instrument: Instrument, start: Nanos, options: &Options) -> Self {
        let bounds = match instrument.is_database() {
            true => &DATABASE_SECONDS,
            false => &REQUEST_SECONDS,
        };
        let sizes = options.sizes && instrument.body_sizes().is_some();
        Self {
            start,
            latest: start,
            durations: Explicit::new(bounds),
            exponential: options.exponential.then(Box::default),
            untimed: 0,
            sizes: sizes.then(|| Box::new([Explicit::new(&BYTES), Explicit::new(&BYTES)])),
        }
    }

    /// Exchanges, whether their duration is known or not.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.durations.count() + self.untimed
    }

    fn add(&mut self, measured: &Measured) {
        self.start = self.start.min(measured.start);
        self.latest = self.latest.max(measured.end);
        let exemplar = |value| {
            let (trace_id, span_id) = measured.span?;
            Some(Exemplar {
                time: measured.end,
                value,
                trace_id,
                span_id,
            })
        };
        match measured.duration {
            Some(nanos) => {
                self.durations.record(nanos, exemplar(nanos));
                if let Some(exponential) = &mut self.exponential {
                    exponential.record(nanos as f64 / 1e9);
                }
            }
            None => self.untimed += 1,
        }
        if let Some(histograms) = &mut self.sizes {
            for (histogram, size) in histograms.iter_mut().zip(measured.sizes) {
                if let Some(size) = size.and_then(|size| u64::try_from(size).ok()) {
                    histogram.record(size, exemplar(size));
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.start = self.start.min(other.start);
        self.latest = self.latest.max(other.latest);
        self.durations.merge(&other.durations);
        self.untimed += other.untimed;
        if let (Some(mine), Some(theirs)) = (&mut self.exponential, &other.exponential) {
            mine.merge(theirs);
        }
        if let (Some(mine), Some(theirs)) = (&mut self.sizes, &other.sizes) {
            for (mine, theirs) in mine.iter_mut().zip(theirs.iter()) {
                mine.merge(theirs);
            }
        }
    }
}
