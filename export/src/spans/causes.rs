//! Which request caused which, inside a process and between the two ends of a connection.
//!
//! Of requests whose task is known it is decided when they begin, in the order in which things
//! happened: whoever comes later finds the trace that it belongs to, and nothing has to wait.
//!
//! ```text
//! client ──connection──▶ server ══task══▶ client ──connection──▶ server
//! ```
//!
//! A request that a task sends while it handles exactly one is caused by that one. Where tasks are
//! seen to handle several at once, to hand requests on to each other, or to ask over one connection
//! together, nothing is inferred.

use hashbrown::HashMap;
use wirespan_engine::{Exchange, Nanos, Side, Task};

use super::pairs::Pairs;
use super::traces::{Common, TraceKey, Traces};
use super::{Ids, Source};
use crate::semconv::Kind;

/// Requests that are remembered while they are open. Those beyond have no place in a trace but what
/// they say themselves.
const MAX_OPEN: usize = 65_536;
/// Processes and connections that are remembered for mixing up requests.
const MAX_MIXING: usize = 4_096;
/// For how long, in nanoseconds.
const MIXES_FOR: u64 = 60_000_000_000;

/// Names an exchange while it is open.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Name {
    connection: u64,
    offset: u64,
}

impl Name {
    pub(super) const fn of(exchange: &Exchange<'_>) -> Self {
        Self {
            connection: exchange.connection,
            offset: exchange.offset,
        }
    }
}

/// Where an exchange stands in a trace.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which span it is.
    pub ids: Ids,
    /// What its trace's first caller decided about sampling.
    pub(super) sampled: Option<bool>,
    /// How its parent was found, where that was inferred.
    pub(super) source: Option<Source>,
    /// The trace, where it may turn out to be a part of another one.
    pub(super) unsettled: Option<TraceKey>,
}

impl Place {
    /// With these ids, known for certain.
    pub(super) const fn of(ids: Ids, sampled: Option<bool>) -> Self {
        Self {
            ids,
            sampled,
            source: None,
            unsettled: None,
        }
    }

    const fn common(&self) -> Common {
        Common {
            id: self.ids.trace_id,
            flags: self.ids.flags,
            sampled: self.sampled,
        }
    }
}

/// An open request.
#[derive(Clone, Copy, Debug)]
struct Open {
    place: Place,
    trace: TraceKey,
    /// What handles it, at its server's end.
    worker: Option<Worker>,
    /// Whether it was told at its client's end.
    asks: bool,
}

/// What handles requests.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Worker {
    pid: u32,
    task: Task,
}

/// Requests that a worker handles.
#[derive(Clone, Copy, Debug)]
struct Handled {
    count: u32,
    /// The request, if there has been but one since the worker had none.
    only: Option<Name>,
}

/// Requests that were sent over a connection and are not answered.
#[derive(Clone, Copy, Debug)]
struct Asked {
    count: u32,
    /// Who sent the latest.
    by: Option<Task>,
}

/// Where requests get mixed up: what seems to be caused by one may be by another.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Mixer {
    /// Its threads handle several at once, or hand them on.
    Process(u32),
    /// Tasks share it: one may send what another asks.
    Connection(u64),
}

/// Why no cause is inferred.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unknown {
    /// The worker handles no request.
    Idle,
    /// It handles several, or they get mixed up.
    Mixed,
}

/// How often parents were inferred.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Inferred {
    /// A client's request became the child of the one that its task handled.
    pub found: u64,
    /// It did not, since its process handles several at once in one task, or one in several, or
    /// several tasks share its connection.
    pub mixed: u64,
    /// Its task handled none.
    pub idle: u64,
}

/// The open requests, and who handles them.
#[derive(Clone, Debug, Default)]
pub(super) struct Causes {
    pub(super) pairs: Pairs,
    pub(super) traces: Traces,
    open: HashMap<Name, Open>,
    workers: HashMap<Worker, Handled>,
    asked: HashMap<u64, Asked>,
    /// What was seen to mix requests up, and when.
    mixing: HashMap<Mixer, Nanos>,
    pub(super) inferred: Inferred,
}

impl Causes {
    /// A request begins. `told` is its place by the context that it carries.
    pub(super) fn begin(&mut self, exchange: &Exchange<'_>, kind: Kind, told: Option<Place>) {
        let name = Name::of(exchange);
        if self.open.len() >= MAX_OPEN || self.open.contains_key(&name) {
            return;
        }
        let now = exchange.start;
        self.traces.expire(now);
        let worker = worker(exchange);
        if exchange.side == Side::Client {
            self.ask(exchange);
        }
        let (place, trace) = match (told, exchange.side) {
            (Some(told), Side::Client) => self.tell_client(exchange, told, worker),
            (Some(told), _) => (told, self.traces.begin(told.common(), true, now)),
            (None, Side::Client) => self.client(exchange, kind, worker),
            (None, _) => self.server(exchange, kind),
        };
        let worker = worker.filter(|_| exchange.side == Side::Server);
        if let Some(worker) = worker {
            self.handle(worker, name, now);
        }
        let open = Open {
            place,
            trace,
            worker,
            asks: exchange.side == Side::Client,
        };
        self.open.insert(name, open);
    }

    /// A client's request without a context is the child of the one that its task handles. Its
    /// server's end, where that was told before, is in the same trace.
    fn client(
        &mut self,
        exchange: &Exchange<'_>,
        kind: Kind,
        worker: Option<Worker>,
    ) -> (Place, TraceKey) {
        let (ids, other_end) = self.pairs.ids(exchange, kind);
        let mut place = Place::of(ids, None);
        let handled = worker.and_then(|worker| self.infer(worker, exchange));
        let joined = handled.filter(|handled| self.traces.join(handled.trace));
        let trace = match joined {
            Some(handled) => {
                place.ids.parent_span_id = Some(handled.place.ids.span_id);
                place.source = worker.map(Worker::source);
                handled.trace
            }
            None => self.traces.begin(place.common(), true, exchange.start),
        };
        if let Some(other_end) = other_end {
            self.traces.merge(other_end, trace);
        }
        self.pairs.place(exchange, trace);
        (place, trace)
    }

    /// A server's end without a context is in its client's trace. Where that was not told yet and
    /// must be on this machine, it follows.
    fn server(&mut self, exchange: &Exchange<'_>, kind: Kind) -> (Place, TraceKey) {
        let (ids, other_end) = self.pairs.ids(exchange, kind);
        let place = Place::of(ids, None);
        let known = other_end.filter(|trace| self.traces.join(*trace));
        let trace = known.unwrap_or_else(|| {
            let is_settled = other_end.is_some() || ids.parent_span_id.is_none();
            self.traces
                .begin(place.common(), is_settled, exchange.start)
        });
        self.pairs.place(exchange, trace);
        (place, trace)
    }

    /// A client's request with a context *is* the span that it names, and that one's parent is told
    /// nowhere: it is the request that its task handles, if that is of the same trace.
    fn tell_client(
        &mut self,
        exchange: &Exchange<'_>,
        told: Place,
        worker: Option<Worker>,
    ) -> (Place, TraceKey) {
        let (connection, now) = (exchange.connection, exchange.start);
        let trace = self.traces.begin(told.common(), true, now);
        let handled = worker.and_then(|worker| self.handled_by(worker, connection, now).ok());
        let mut place = told;
        if let Some(handled) = handled
            && told.ids.parent_span_id.is_none()
            && handled.place.ids.trace_id == told.ids.trace_id
            // Else the context was handed on as it came.
            && handled.place.ids.parent_span_id != Some(told.ids.span_id)
        {
            place.ids.parent_span_id = Some(handled.place.ids.span_id);
            place.source = worker.map(Worker::source);
        }
        (place, trace)
    }

    fn handle(&mut self, worker: Worker, name: Name, now: Nanos) {
        let handled = self.workers.entry(worker).or_insert(Handled {
            count: 0,
            only: None,
        });
        handled.only = Some(name).filter(|_| handled.count == 0);
        handled.count += 1;
        // A goroutine that reads several does not handle them; a thread runs whatever is ready.
        if handled.count > 1 && !worker.task.is_goroutine() {
            self.mixes(Mixer::Process(worker.pid), now);
        }
    }

    fn mixes(&mut self, mixer: Mixer, now: Nanos) {
        if self.mixing.len() >= MAX_MIXING {
            let is_recent = |at: &Nanos| now.since(*at) < MIXES_FOR;
            self.mixing.retain(|_, at| is_recent(at));
        }
        if self.mixing.len() < MAX_MIXING || self.mixing.contains_key(&mixer) {
            self.mixing.insert(mixer, now);
        }
    }

    fn is_mixing(&self, mixer: Mixer, now: Nanos) -> bool {
        let seen = self.mixing.get(&mixer);
        seen.is_some_and(|at| now.since(*at) < MIXES_FOR)
    }

    /// A request is sent over a connection. What sends another one before the answer is there sends
    /// it for somebody else, perhaps: libraries for HTTP/2 have one thread send what many ask. Over
    /// others one task sends several in a row.
    fn ask(&mut self, exchange: &Exchange<'_>) {
        let is_http = matches!(exchange.protocol.0, "http" | "grpc");
        let asked = self
            .asked
            .entry(exchange.connection)
            .or_insert(Asked { count: 0, by: None });
        let is_shared = asked.count > 0 && (is_http || asked.by != exchange.task);
        asked.count += 1;
        asked.by = exchange.task;
        if is_shared {
            self.mixes(Mixer::Connection(exchange.connection), exchange.start);
        }
    }

    fn answer(&mut self, connection: u64) {
        if let Some(asked) = self.asked.get_mut(&connection) {
            asked.count -= 1;
            if asked.count == 0 {
                self.asked.remove(&connection);
            }
        }
    }

    /// The request that a client's task handles, which is the cause of its own.
    fn infer(&mut self, worker: Worker, exchange: &Exchange<'_>) -> Option<Open> {
        let handled = self.handled_by(worker, exchange.connection, exchange.start);
        let counter = match handled {
            Ok(_) => &mut self.inferred.found,
            Err(Unknown::Mixed) => &mut self.inferred.mixed,
            Err(Unknown::Idle) => &mut self.inferred.idle,
        };
        *counter += 1;
        handled.ok()
    }

    /// The request that a worker handles which asks over a connection.
    fn handled_by(&self, worker: Worker, connection: u64, now: Nanos) -> Result<Open, Unknown> {
        let handled = self.workers.get(&worker).ok_or(Unknown::Idle)?;
        let name = handled.only.ok_or(Unknown::Mixed)?;
        let process = Mixer::Process(worker.pid);
        if self.is_mixing(process, now) && !worker.task.is_goroutine() {
            return Err(Unknown::Mixed);
        }
        if self.is_mixing(Mixer::Connection(connection), now) {
            return Err(Unknown::Mixed);
        }
        self.open.get(&name).copied().ok_or(Unknown::Idle)
    }

    /// A request has ended: its place, if its beginning was told. Nothing is its effect from here
    /// on.
    pub(super) fn end(&mut self, exchange: &Exchange<'_>) -> Option<Place> {
        let Open {
            mut place,
            trace,
            worker,
            asks,
        } = self.open.remove(&Name::of(exchange))?;
        let end = Nanos(exchange.start.0 + exchange.duration.unwrap_or(0));
        self.traces.expire(end);
        if let Some((common, is_settled)) = self.traces.common(trace) {
            place.ids.trace_id = common.id;
            place.ids.flags = common.flags;
            place.sampled = common.sampled;
            place.unsettled = Some(trace).filter(|_| !is_settled);
        }
        self.traces.leave(trace);
        if asks {
            self.answer(exchange.connection);
        }
        if let Some(worker) = worker {
            self.put_down(worker);
            let is_other = exchange.answered_by.is_some_and(|task| task != worker.task);
            if is_other && !worker.task.is_goroutine() {
                self.mixes(Mixer::Process(worker.pid), end);
            }
        }
        Some(place)
    }

    /// Forgets all that is open: nobody will tell of its end.
    pub(super) fn forget(&mut self) {
        for (_, open) in self.open.drain() {
            self.traces.leave(open.trace);
        }
        self.workers.clear();
        self.asked.clear();
        self.pairs = Pairs::default();
    }

    fn put_down(&mut self, worker: Worker) {
        if let Some(handled) = self.workers.get_mut(&worker) {
            handled.count -= 1;
            handled.only = None;
            if handled.count == 0 {
                self.workers.remove(&worker);
            }
        }
    }

    /// Requests, workers and connections that are remembered.
    #[cfg(test)]
    pub(super) fn held(&self) -> [usize; 3] {
        [self.open.len(), self.workers.len(), self.asked.len()]
    }
}

impl Worker {
    const fn source(self) -> Source {
        match self.task.is_goroutine() {
            true => Source::Goroutine,
            false => Source::Thread,
        }
    }
}

fn worker(exchange: &Exchange<'_>) -> Option<Worker> {
    let pid = exchange.process?.pid;
    exchange.task.map(|task| Worker { pid, task })
}
