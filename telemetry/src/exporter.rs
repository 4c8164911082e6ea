//! The thread that exports.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::admin::Admin;
use crate::config::{Config, Error, Target};
use crate::delta::Deltas;
use crate::encode::{Collection, Resource, request_of, trace_request};
use crate::otlp::{Answer, Request, Sender};
use crate::queue::Queue;
use crate::retry::Backoff;
use crate::scrape::Scrape;

/// Where metrics come from, whenever somebody wants them.
pub trait Source: Send + Sync + fmt::Debug {
    /// The metrics as they stand.
    fn collect(&self) -> Collection;
}

/// What became of what was to be exported.
#[derive(Debug, Default)]
pub struct Counts {
    /// Spans that a backend took.
    pub spans_sent: AtomicU64,
    /// Spans that a backend refused, in whole requests or in parts of them.
    pub spans_refused: AtomicU64,
    /// Spans that were given up because the backend could not be reached for too long.
    pub spans_given_up: AtomicU64,
    /// Requests with metrics that a backend took.
    pub metrics_sent: AtomicU64,
    /// Those that it refused, or that were given up.
    pub metrics_failed: AtomicU64,
    /// Points that a backend rejected of requests that it took.
    pub points_rejected: AtomicU64,
    /// Attempts that failed and were repeated.
    pub retries: AtomicU64,
}

impl Counts {
    fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Exports until it is stopped.
#[derive(Debug)]
pub struct Exporter {
    queue: Arc<Queue>,
    counts: Arc<Counts>,
    /// Until when to be done, once it is told.
    stop: watch::Sender<Option<Instant>>,
    thread: JoinHandle<()>,
}

/// When metrics are sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Push {
    /// At this interval, and at the end.
    Every(Duration),
    /// At the end only.
    AtTheEnd,
}

impl Exporter {
    /// Starts exporting by `config`: the spans of the queue, and the metrics of `source` at each
    /// interval; serves `scrape` and `admin`, where they are given. Trouble with a backend is told to `report`,
    /// once until it is over.
    ///
    /// # Errors
    ///
    /// An endpoint that cannot be one; a thread that cannot be started.
    pub fn start(
        config: &Config,
        source: Arc<dyn Source>,
        scrape: Option<Scrape>,
        admin: Option<Admin>,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::spawn(
            config,
            source,
            (scrape, admin),
            Push::Every(config.metric_interval),
            report,
        )
    }

    /// The same for a run that ends: metrics are sent once, at its end, and when a batch was given
    /// up so are all that follow.
    ///
    /// # Errors
    ///
    /// As of [`Exporter::start`].
    pub fn once(
        config: &Config,
        source: Arc<dyn Source>,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Self::spawn(config, source, (None, None), Push::AtTheEnd, report)
    }

    fn spawn(
        config: &Config,
        source: Arc<dyn Source>,
        served: (Option<Scrape>, Option<Admin>),
        push: Push,
        report: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| Error::new(format!("cannot start exporting: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let queue = Arc::new(Queue::new(config.queue, config.batch));
        let counts = Arc::new(Counts::default());
        let (stop, stopping) = watch::channel(None);
        let _in_runtime = runtime.enter();
        let lane = |target: &Option<Target>| {
            let target = target.as_ref()?;
            let lane = Sender::new(target).map(|sender| Lane {
                sender,
                endpoint: target.endpoint.clone(),
                give_up: config.give_up,
                counts: Arc::clone(&counts),
                stopping: stopping.clone(),
                troubled: false,
            });
            Some(lane)
        };
        let work = Work {
            traces: lane(&config.traces).transpose()?,
            metrics: lane(&config.metrics).transpose()?,
            queue: Arc::clone(&queue),
            source,
            resource: config.resource.clone(),
            batch_delay: config.batch_delay,
            push,
            deltas: Deltas::new(config.temporality),
            report: Box::new(report),
        };
        let name = "export".to_owned();
        let run = move || runtime.block_on(work.run(served, stopping));
        let thread = thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(failed)?;
        Ok(Self {
            queue,
            counts,
            stop,
            thread,
        })
    }

    /// Where spans are put in.
    #[must_use]
    pub const fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    /// What became of everything so far.
    #[must_use]
    pub const fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Sends what is left, for at most `limit`, and ends. Spans that were left over count as given
    /// up.
    pub fn stop(self, limit: Duration) {
        self.stop.send_replace(Some(Instant::now() + limit));
        // A panic of the thread has told of itself; there is nothing to add.
        let _ = self.thread.join();
        let left = self.queue.close();
        Counts::add(&self.counts.spans_given_up, left);
    }
}

/// What the thread does.
struct Work {
    traces: Option<Lane>,
    metrics: Option<Lane>,
    queue: Arc<Queue>,
    source: Arc<dyn Source>,
    resource: Resource,
    batch_delay: Duration,
    push: Push,
    deltas: Deltas,
    report: Box<dyn Fn(&str) + Send + Sync>,
}

impl Work {
    async fn run(
        self,
        (scrape, admin): (Option<Scrape>, Option<Admin>),
        stopping: watch::Receiver<Option<Instant>>,
    ) {
        let Self {
            mut traces,
            mut metrics,
            queue,
            source,
            resource,
            batch_delay,
            push,
            deltas,
            report,
        } = self;
        let spans = async {
            if let Some(lane) = &mut traces {
                lane.spans(&queue, &resource, batch_delay, push, &*report)
                    .await;
            }
        };
        let metrics = async {
            if let Some(lane) = &mut metrics {
                lane.metrics(&*source, &resource, (push, deltas), &*report)
                    .await;
            }
        };
        let mut until = stopping.clone();
        let (for_scrape, for_admin) = (Arc::clone(&source), Arc::clone(&source));
        let scraped = stopping.clone();
        let served = async {
            if let Some(scrape) = scrape {
                scrape.serve(for_scrape, scraped).await;
            }
        };
        let administered = async {
            if let Some(admin) = admin {
                admin.serve(for_admin, stopping).await;
            }
        };
        let all = async { tokio::join!(spans, metrics, served, administered) };
        let deadline = async {
            let deadline = until.wait_for(Option::is_some).await.ok().and_then(|d| *d);
            sleep_until(deadline.unwrap_or_else(Instant::now)).await;
        };
        tokio::select! {
            // What ends at the deadline says what became of it.
            biased;
            _ = all => {}
            () = deadline => {}
        }
    }
}

/// The way of one signal to its backend.
struct Lane {
    sender: Sender,
    endpoint: String,
    give_up: Duration,
    counts: Arc<Counts>,
    stopping: watch::Receiver<Option<Instant>>,
    /// Whether it was reported that the backend does not take anything.
    troubled: bool,
}

/// What became of a request.
enum Fate {
    Taken { rejected: u64 },
    Refused,
    GivenUp,
}

/// Spans of a request that has no fate yet. When the time to stop has come before it has, they were
/// given up.
struct UnderWay {
    spans: u64,
    counts: Arc<Counts>,
}

impl UnderWay {
    fn end(mut self, fate: &Fate) {
        let counts = &self.counts;
        match fate {
            Fate::Taken { rejected } => {
                let rejected = self.spans.min(*rejected);
                Counts::add(&counts.spans_sent, self.spans - rejected);
                Counts::add(&counts.spans_refused, rejected);
            }
            Fate::Refused => Counts::add(&counts.spans_refused, self.spans),
            Fate::GivenUp => return,
        }
        self.spans = 0;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        Counts::add(&self.counts.spans_given_up, self.spans);
    }
}

impl Lane {
    async fn spans(
        &mut self,
        queue: &Queue,
        resource: &Resource,
        delay: Duration,
        push: Push,
        report: &(dyn Fn(&str) + Send + Sync),
    ) {
        loop {
            let stopping = self.is_stopping();
            if !stopping {
                let mut stop = self.stopping.clone();
                tokio::select! {
                    () = queue.full_batch() => {}
                    () = tokio::time::sleep(delay) => {}
                    _ = stop.wait_for(Option::is_some) => {}
                }
            }
            let batch = queue.take();
            if batch.is_empty() {
                if stopping {
                    return;
                }
                continue;
            }
            let request = Request::Traces(trace_request(&batch, resource));
            let under_way = UnderWay {
                spans: batch.len() as u64,
                counts: Arc::clone(&self.counts),
            };
            drop(batch);
            let fate = self.deliver(request, self.give_up, report).await;
            under_way.end(&fate);
            if matches!((&fate, push), (Fate::GivenUp, Push::AtTheEnd)) {
                // Whoever waits for room in the queue would wait as long for each batch.
                let left = queue.close();
                Counts::add(&self.counts.spans_given_up, left);
                return;
            }
        }
    }

    async fn metrics(
        &mut self,
        source: &dyn Source,
        resource: &Resource,
        (push, mut deltas): (Push, Deltas),
        report: &(dyn Fn(&str) + Send + Sync),
    ) {
        let mut next = Instant::now();
        loop {
            let mut stop = self.stopping.clone();
            match push {
                Push::Every(interval) => {
                    next = (next + interval).max(Instant::now());
                    tokio::select! {
                        () = sleep_until(next) => {}
                        _ = stop.wait_for(Option::is_some) => {}
                    }
                }
                Push::AtTheEnd => drop(stop.wait_for(Option::is_some).await),
            }
            let last = self.is_stopping();
            let (collection, window) = deltas.next(source.collect());
            let request = request_of(&collection, resource, window);
            drop(collection);
            if !request.resource_metrics.is_empty() {
                // What the next interval brings makes up for this one, or has it within.
                let patience = match push {
                    Push::Every(interval) => interval.min(self.give_up),
                    Push::AtTheEnd => self.give_up,
                };
                let request = Request::Metrics(request);
                let fate = self.deliver(request, patience, report).await;
                self.sent(&fate, &mut deltas);
            }
            if last {
                let lost = deltas.waiting();
                if lost > 0 {
                    report(&format!("metrics of {lost} exchanges were not delivered"));
                }
                return;
            }
        }
    }

    /// Counts what became of a request with metrics.
    fn sent(&self, fate: &Fate, deltas: &mut Deltas) {
        match *fate {
            Fate::Taken { rejected } => {
                deltas.delivered();
                Counts::add(&self.counts.metrics_sent, 1);
                Counts::add(&self.counts.points_rejected, rejected);
            }
            Fate::Refused | Fate::GivenUp => Counts::add(&self.counts.metrics_failed, 1),
        }
    }

    /// Sends a request until it is taken, refused, or too old.
    async fn deliver(
        &mut self,
        request: Request,
        patience: Duration,
        report: &(dyn Fn(&str) + Send + Sync),
    ) -> Fate {
        let prepared = self.sender.prepare(request);
        let give_up = Instant::now() + patience;
        let mut backoff = Backoff::new(std::ptr::from_ref(self).addr() as u64);
        loop {
            let until = (*self.stopping.borrow()).map_or(give_up, |stop| stop.min(give_up));
            let answer = timeout_at(until, self.sender.send(&prepared)).await;
            let after = match answer {
                Ok(Answer::Taken { rejected, why }) => {
                    self.taken(rejected, &why, report);
                    return Fate::Taken { rejected };
                }
                Ok(Answer::Refused { why }) => {
                    self.trouble(&why, report);
                    return Fate::Refused;
                }
                Ok(Answer::Later { after, why }) => {
                    self.trouble(&why, report);
                    after
                }
                Err(_) => {
                    self.trouble("no answer", report);
                    None
                }
            };
            let wake = Instant::now() + backoff.wait(after);
            let until = (*self.stopping.borrow()).map_or(give_up, |stop| stop.min(give_up));
            if wake >= until {
                return Fate::GivenUp;
            }
            let was_stopping = self.is_stopping();
            let mut stop = self.stopping.clone();
            tokio::select! {
                () = sleep_until(wake) => {}
                // Whoever stops wants one more attempt now.
                _ = stop.wait_for(Option::is_some), if !was_stopping => {}
            }
            Counts::add(&self.counts.retries, 1);
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.borrow().is_some()
    }

    fn taken(&mut self, rejected: u64, why: &str, report: &(dyn Fn(&str) + Send + Sync)) {
        if rejected > 0 {
            self.trouble(&format!("{rejected} rejected: {why}"), report);
        } else if !why.is_empty() {
            self.trouble(&format!("taken with a warning: {why}"), report);
        } else if std::mem::take(&mut self.troubled) {
            report(&format!("{}: exporting again", self.endpoint));
        }
    }

    fn trouble(&mut self, why: &str, report: &(dyn Fn(&str) + Send + Sync)) {
        if !std::mem::replace(&mut self.troubled, true) {
            report(&format!("{}: {why}", self.endpoint));
        }
    }
}
