//! Counts exchanges for `top`: by service, by operation and by edge, over a short time that moves
//! along.
//!
//! The time has two halves. When one is over, what was counted in it becomes the older half, and what
//! the older half held is forgotten: so nothing need be kept for each exchange. Rows are bounded;
//! what finds no room is counted in one row of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use wirespan_engine::{Address, Exchange, Nanos, Side};
use wirespan_export::histogram::Histogram;
use wirespan_export::owner::Ends;
use wirespan_export::semconv::{Facts, Routes};
use wirespan_export::table;

use super::picture::{Figures, Picture, Request, Row};

/// Most rows of a table.
const MAX_ROWS: usize = 1_000;
/// Most requests of a list.
const MAX_REQUESTS: usize = 50;
/// A row in which nothing was counted for so long is forgotten, in nanoseconds.
const IDLE: u64 = 300_000_000_000;
/// Most characters of a name.
const MAX_NAME: usize = 200;
/// What rows beyond the bound are called.
const OTHERS: &str = "(others)";

/// Between the parts of a row's key; no part but the last contains it.
const SEPARATOR: char = '\0';

/// Exchanges of the last moments, counted.
#[derive(Debug)]
pub(crate) struct Board {
    /// Half of the time over which is counted, in nanoseconds.
    half: u64,
    /// When the current half began, and when the one before it.
    began: Option<[Nanos; 2]>,
    routes: Arc<Routes>,
    total: Entry,
    services: Table,
    operations: Table,
    edges: Table,
    /// The slowest requests of the current half, and of the one before.
    slowest: [Vec<(u64, Request)>; 2],
    failed: VecDeque<Request>,
    route: String,
    key: String,
}

#[derive(Debug, Default)]
struct Table {
    rows: HashMap<Box<str>, Entry>,
    others: Entry,
}

/// The exchanges of one row.
#[derive(Debug, Default)]
struct Entry {
    halves: [Counts; 2],
    ever: u64,
    latest: Nanos,
}

#[derive(Debug, Default)]
struct Counts {
    count: u64,
    errors: u64,
    durations: Histogram,
}

impl Board {
    /// A board over between `half` and twice as many nanoseconds.
    pub(crate) fn new(half: u64, routes: Arc<Routes>) -> Self {
        Self {
            half,
            began: None,
            routes,
            total: Entry::default(),
            services: Table::default(),
            operations: Table::default(),
            edges: Table::default(),
            slowest: Default::default(),
            failed: VecDeque::new(),
            route: String::new(),
            key: String::new(),
        }
    }

    /// Counts a finished exchange, of which more is known than it says itself.
    pub(crate) fn record(&mut self, exchange: &Exchange<'_>, known: &Ends<'_>, now: Nanos) {
        self.turn(now);
        let facts = Facts::of(exchange, &self.routes, &mut self.route).between(known);
        let side = exchange.side.name();
        let service = match facts.service {
            "" => own(exchange),
            service => seen(service),
        };
        let key = &mut self.key;
        join(key, &[&service, side]);
        self.services.record(key, exchange, now);
        join(key, &[&service, side, exchange.protocol.0]);
        key.push(SEPARATOR);
        operation(key, exchange, &facts);
        self.operations.record(key, exchange, now);
        let (client, server) = ends(exchange, &service, known.peer);
        join(key, &[&client, &server, exchange.protocol.0]);
        self.edges.record(key, exchange, now);
        self.total.record(exchange, now);
        self.list(exchange, service);
    }

    /// Keeps the exchange if it failed, or is among the slowest.
    fn list(&mut self, exchange: &Exchange<'_>, service: String) {
        let failed = exchange.error();
        let slowest = &mut self.slowest[0];
        let is_slow = exchange.duration.is_some_and(|duration| {
            slowest.len() < MAX_REQUESTS || slowest.last().is_some_and(|(d, _)| *d < duration)
        });
        if !failed && !is_slow {
            return;
        }
        let request = request(exchange, service);
        if let (true, Some(duration)) = (is_slow, exchange.duration) {
            let at = slowest.partition_point(|(other, _)| *other >= duration);
            slowest.insert(at, (duration, request.clone()));
            slowest.truncate(MAX_REQUESTS);
        }
        if failed {
            self.failed.truncate(MAX_REQUESTS - 1);
            self.failed.push_front(request);
        }
    }

    /// Forgets what is too old by now.
    fn turn(&mut self, now: Nanos) {
        let Some([began, _]) = self.began else {
            self.began = Some([now; 2]);
            return;
        };
        let since = now.since(began);
        if since < self.half {
            return;
        }
        // After a pause the older half is empty as well.
        let times = if since < 2 * self.half { 1 } else { 2 };
        let older = if times == 1 { began } else { now };
        self.began = Some([now, older]);
        for _ in 0..times {
            self.total.turn();
            for table in [&mut self.services, &mut self.operations, &mut self.edges] {
                table.turn(now);
            }
            self.slowest.swap(0, 1);
            self.slowest[0].clear();
        }
    }

    /// What has been counted of late. `lost_events` are those that never reached the board.
    pub(crate) fn picture(&mut self, now: Nanos, lost_events: u64) -> Picture {
        self.turn(now);
        let older = self.began.map_or(now, |[_, older]| older);
        let mut slowest: Vec<_> = self.slowest.iter().flatten().collect();
        slowest.sort_by_key(|(duration, _)| std::cmp::Reverse(*duration));
        let slowest = slowest.into_iter().map(|(_, request)| request.clone());
        Picture {
            seconds: now.since(older) as f64 / 1e9,
            total: self.total.figures(),
            services: self.services.shown(|[service, side, ..]| Row {
                service,
                side,
                ..Row::default()
            }),
            operations: self
                .operations
                .shown(|[service, side, protocol, operation]| Row {
                    service,
                    side,
                    protocol,
                    operation,
                    ..Row::default()
                }),
            edges: self.edges.shown(|[service, peer, protocol, _]| Row {
                service,
                peer,
                protocol,
                ..Row::default()
            }),
            slowest: slowest.take(MAX_REQUESTS).collect(),
            failed: self.failed.iter().cloned().collect(),
            lost_events,
        }
    }
}

impl Table {
    fn record(&mut self, key: &str, exchange: &Exchange<'_>, now: Nanos) {
        let is_full = self.rows.len() >= MAX_ROWS;
        match self.rows.get_mut(key) {
            Some(entry) => entry.record(exchange, now),
            None if is_full => self.others.record(exchange, now),
            None => {
                let entry = self.rows.entry(key.into()).or_default();
                entry.record(exchange, now);
            }
        }
    }

    fn turn(&mut self, now: Nanos) {
        self.others.turn();
        self.rows.retain(|_, entry| {
            entry.turn();
            now.since(entry.latest) < IDLE
        });
    }

    /// The rows, made of the parts of their keys.
    fn shown(&self, row: impl Fn([String; 4]) -> Row) -> Vec<Row> {
        let rows = self.rows.iter().map(|(key, entry)| {
            let mut parts = key.splitn(4, SEPARATOR).map(str::to_owned);
            Row {
                figures: entry.figures(),
                ..row(std::array::from_fn(|_| parts.next().unwrap_or_default()))
            }
        });
        let others = (self.others.ever > 0).then(|| Row {
            service: OTHERS.to_owned(),
            figures: self.others.figures(),
            ..Row::default()
        });
        rows.chain(others).collect()
    }
}

impl Entry {
    fn record(&mut self, exchange: &Exchange<'_>, now: Nanos) {
        self.ever += 1;
        self.latest = now;
        let counts = &mut self.halves[0];
        counts.count += 1;
        counts.errors += u64::from(exchange.error());
        if let Some(nanos) = exchange.duration {
            counts.durations.record(nanos);
        }
    }

    fn turn(&mut self) {
        self.halves.swap(0, 1);
        // A row at rest has nothing to give back.
        if self.halves[0].count > 0 {
            self.halves[0] = Counts::default();
        }
    }

    fn figures(&self) -> Figures {
        let [current, older] = &self.halves;
        let mut durations = current.durations.clone();
        durations.merge(&older.durations);
        Figures {
            count: current.count + older.count,
            errors: current.errors + older.errors,
            p50: durations.quantile(0.5),
            p95: durations.quantile(0.95),
            p99: durations.quantile(0.99),
            max: durations.max(),
            ever: self.ever,
        }
    }
}

/// Writes the parts of a key, one behind the other.
fn join(key: &mut String, parts: &[&str]) {
    key.clear();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            key.push(SEPARATOR);
        }
        key.push_str(part);
    }
}

/// What an exchange asks for, in few words: method and route, the summary of a statement.
fn operation(key: &mut String, exchange: &Exchange<'_>, facts: &Facts<'_>) {
    let summary = facts.rpc_method.or(facts.db_summary);
    table::visible(key, summary.unwrap_or(exchange.operation), MAX_NAME);
    if let Some((route, _)) = facts.route {
        key.push(' ');
        table::visible(key, route, MAX_NAME);
    }
}

/// An address without its port.
fn host(address: &Address) -> String {
    let ip = address.ip();
    ip.map_or_else(|| address.to_string(), |ip| ip.to_string())
}

/// The other end of the connection: the server as its client calls it by address, the client without
/// its port.
fn peer(exchange: &Exchange<'_>) -> String {
    match exchange.side {
        Side::Server => host(&exchange.client),
        Side::Client | Side::Wire => exchange.server.to_string(),
    }
}

/// The observed end where its process is not known.
fn own(exchange: &Exchange<'_>) -> String {
    match exchange.side {
        Side::Client => host(&exchange.client),
        Side::Server | Side::Wire => exchange.server.to_string(),
    }
}

/// Who calls whom. The end that was observed goes by its name, and so does the other if it is known.
fn ends(exchange: &Exchange<'_>, service: &str, peer: Option<&str>) -> (String, String) {
    let client = || peer.map_or_else(|| host(&exchange.client), seen);
    let server = || peer.map_or_else(|| exchange.server.to_string(), seen);
    match exchange.side {
        Side::Client => (service.to_owned(), server()),
        Side::Server => (client(), service.to_owned()),
        Side::Wire => (client(), server()),
    }
}

/// Text from outside, as a terminal may show it.
fn seen(text: &str) -> String {
    let mut seen = String::new();
    table::visible(&mut seen, text, MAX_NAME);
    seen
}

fn request(exchange: &Exchange<'_>, service: String) -> Request {
    Request {
        at: table::time_of_day(exchange.start),
        duration: exchange.duration,
        service,
        side: exchange.side.name().to_owned(),
        protocol: exchange.protocol.0.to_owned(),
        operation: seen(exchange.operation),
        target: seen(exchange.target),
        status: seen(exchange.status),
        peer: peer(exchange),
    }
}

#[cfg(test)]
mod tests;
