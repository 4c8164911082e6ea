//! One series: what was counted of the exchanges that have a key in common.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wirespan_engine::{Exchange, Nanos};

use super::{BYTES, DATABASE_SECONDS, Exemplar, Explicit, Exponential, Options, REQUEST_SECONDS};
use crate::semconv::{Facts, Instrument};

/// What is known of a series.
#[derive(Clone, Debug)]
pub struct Series {
    /// Tells it from others that had its identity before it, and were forgotten.
    pub number: u64,
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

/// One exchange, measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    pub(super) start: Nanos,
    pub(super) end: Nanos,
    pub(super) duration: Option<u64>,
    pub(super) sizes: [Option<i64>; 2],
    pub(super) span: Option<([u8; 16], [u8; 8])>,
}

impl Measured {
    pub(super) fn of(
        exchange: &Exchange<'_>,
        facts: &Facts<'_>,
        span: Option<([u8; 16], [u8; 8])>,
    ) -> Self {
        Self {
            start: exchange.start,
            end: Nanos(exchange.start.0 + exchange.duration.unwrap_or(0)),
            duration: exchange.duration,
            sizes: [facts.request_body, facts.response_body],
            span,
        }
    }

    fn exemplar(&self, value: u64) -> Option<Exemplar> {
        let (trace_id, span_id) = self.span?;
        Some(Exemplar {
            time: self.end,
            value,
            trace_id,
            span_id,
        })
    }

    fn sizes(&self) -> [Option<u64>; 2] {
        self.sizes
            .map(|size| size.and_then(|size| u64::try_from(size).ok()))
    }
}

/// An exchange where it was counted, which may yet get an exemplar.
#[derive(Clone, Debug)]
pub struct Counted {
    pub(super) slot: Arc<Slot>,
    pub(super) measured: Measured,
}

impl Counted {
    /// Names the span of the exchange, in case it is the latest.
    pub fn exemplify(&self, span: ([u8; 16], [u8; 8])) {
        let measured = Measured {
            span: Some(span),
            ..self.measured
        };
        // One of a series that was forgotten is of no use to anybody.
        let _ = self.slot.with(|series| series.exemplify(&measured));
    }
}

/// A series where it is kept, which more than one may know.
#[derive(Debug)]
pub(super) struct Slot(Mutex<Kept>);

#[derive(Debug)]
struct Kept {
    series: Series,
    /// Nobody will read it any more.
    forgotten: bool,
}

impl Slot {
    pub(super) const fn new(series: Series) -> Self {
        Self(Mutex::new(Kept {
            series,
            forgotten: false,
        }))
    }

    /// Looks at the series, or changes it; `None` where it was forgotten.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Series) -> T) -> Option<T> {
        let mut kept = self.lock();
        (!kept.forgotten).then(|| look(&mut kept.series))
    }

    /// Forgets the series, if it is one to forget.
    pub(super) fn forget_if(&self, is_old: impl FnOnce(&Series) -> bool) -> bool {
        let mut kept = self.lock();
        kept.forgotten = is_old(&kept.series);
        kept.forgotten
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here panics half-way: what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    pub(super) fn new(
        number: u64,
        instrument: Instrument,
        start: Nanos,
        options: &Options,
    ) -> Self {
        let bounds = match instrument.is_database() {
            true => &DATABASE_SECONDS,
            false => &REQUEST_SECONDS,
        };
        let sizes = options.sizes && instrument.body_sizes().is_some();
        Self {
            number,
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

    pub(super) fn add(&mut self, measured: &Measured) {
        self.start = self.start.min(measured.start);
        self.latest = self.latest.max(measured.end);
        match measured.duration {
            Some(nanos) => {
                self.durations.record(nanos, measured.exemplar(nanos));
                if let Some(exponential) = &mut self.exponential {
                    exponential.record(nanos as f64 / 1e9);
                }
            }
            None => self.untimed += 1,
        }
        if let Some(histograms) = &mut self.sizes {
            for (histogram, size) in histograms.iter_mut().zip(measured.sizes()) {
                if let Some(size) = size {
                    histogram.record(size, measured.exemplar(size));
                }
            }
        }
    }

    /// Gives what was measured its exemplar, which was not known when it was added.
    pub(super) fn exemplify(&mut self, measured: &Measured) {
        if let Some(nanos) = measured.duration {
            self.durations.exemplify(nanos, measured.exemplar(nanos));
        }
        if let Some(histograms) = &mut self.sizes {
            for (histogram, size) in histograms.iter_mut().zip(measured.sizes()) {
                if let Some(size) = size {
                    histogram.exemplify(size, measured.exemplar(size));
                }
            }
        }
    }

    /// What was counted since it was `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let exponential = self.exponential.as_ref().zip(earlier.exponential.as_ref());
        let sizes = self.sizes.as_ref().zip(earlier.sizes.as_ref());
        Self {
            durations: self.durations.since(&earlier.durations),
            exponential: exponential.map(|(now, before)| Box::new(now.since(before))),
            untimed: self.untimed - earlier.untimed,
            sizes: sizes.map(|(now, before)| {
                let [request, response] = &**now;
                Box::new([request.since(&before[0]), response.since(&before[1])])
            }),
            ..*self
        }
    }

    /// Adds everything that `other` has counted.
    pub fn merge(&mut self, other: &Self) {
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
