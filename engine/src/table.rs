//! The open exchanges of one connection, and how they become [`Exchange`]s.

mod progress;

pub(crate) use progress::Fate;

use std::collections::VecDeque;
use std::ptr;

use wirespan_parser_api::{
    Direction, ExchangeId, Flags, Outcome, Propagation, ProtocolName, Request, Response,
    TraceContext, Value,
};

use crate::address::Address;
use crate::both::Both;
use crate::stats::{ProtocolStats, add};
use crate::text::{Cut, Span, Text};
use crate::timers::{NEVER, Timers};
use crate::types::{Exchange, Nanos, Process, Side, Sink, Task};

/// What all exchanges of a connection have in common.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) number: u64,
    pub(crate) client: Address,
    pub(crate) server: Address,
    pub(crate) side: Side,
    pub(crate) process: Option<Process>,
    /// Offsets at which the layer that is read began.
    pub(crate) inside: Both<u64>,
    /// What of the process moved the bytes at hand.
    pub(crate) task: Option<Task>,
    /// Flags of every exchange.
    pub(crate) flags: Flags,
}

/// A stored trace context.
#[derive(Clone, Copy, Debug)]
struct Trace {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    parent_span_id: Option<[u8; 8]>,
    sampled: Option<bool>,
    flags: u8,
    propagation: Propagation,
    tracestate: Span,
}

/// An exchange that is not complete.
#[derive(Debug)]
pub(crate) struct Open {
    id: ExchangeId,
    protocol: ProtocolName,
    offset: u64,
    flow_offset: u64,
    flags: Flags,
    outcome: Option<Outcome>,
    trace: Option<Trace>,
    text: Text,
    operation: Span,
    target: Span,
    status: Span,
    /// When the first byte of the request was captured.
    start: Moment,
    /// What of the process moved the request.
    task: Option<Task>,
    /// What of it moved the beginning of the response.
    answered_by: Option<Task>,
    /// Offset of the request's first byte, where the client sent it.
    request_at: Option<u64>,
    request_end: Progress,
    response_start: Option<Nanos>,
    /// Offset of the response's first byte, once it was seen.
    response_at: Option<u64>,
    response_end: Progress,
    request_bytes: u64,
    response_bytes: u64,
    /// [`Table::epoch`] when the request began.
    epoch: u32,
    /// When it has waited too long, unless it moves.
    expiry: Nanos,
    /// Bytes of both messages when that was looked at last.
    moved: Option<u64>,
    /// When it is to be reported as open next.
    report: Nanos,
}

/// Where and when a message began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    pub(crate) dir: Direction,
    pub(crate) at: u64,
    pub(crate) time: Moment,
}

/// How a response began: where, when, and what moved it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) at: u64,
    pub(crate) start: Option<Nanos>,
    pub(crate) task: Option<Task>,
}

/// When something happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Moment {
    Exact(Nanos),
    /// Not after this: the exact time is forgotten, or its bytes are lost.
    About(Nanos),
}

impl Moment {
    pub(crate) const fn nearest(self) -> Nanos {
        match self {
            Self::Exact(time) | Self::About(time) => time,
        }
    }

    pub(crate) const fn exact(self) -> Option<Nanos> {
        match self {
            Self::Exact(time) => Some(time),
            Self::About(_) => None,
        }
    }
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    /// Its last byte has not gone by.
    Running,
    /// Its last byte was captured then; `None` when it was lost.
    Ended(Option<Nanos>),
}

impl Progress {
    const fn time(self) -> Option<Nanos> {
        match self {
            Self::Running => None,
            Self::Ended(time) => time,
        }
    }
}

/// Which message of an exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Message {
    Request,
    Response,
}

/// Where finished exchanges go, and where their memory comes from.
pub(crate) struct Outlet<'a> {
    pub(crate) facts: &'a Facts,
    /// Counters of the connection's current protocol.
    pub(crate) counts: &'a mut ProtocolStats,
    pub(crate) pool: &'a mut Pool,
    pub(crate) sink: &'a mut dyn Sink,
}

/// Cleared exchanges for further use.
#[derive(Debug, Default)]
#[expect(
    clippy::vec_box,
    reason = "they move between pool and table without being copied"
)]
pub(crate) struct Pool(Vec<Box<Open>>);

impl Pool {
    /// Most exchanges that are kept.
    const MAX: usize = 1024;

    fn take(&mut self) -> Box<Open> {
        self.0.pop().unwrap_or_else(|| Box::new(Open::empty()))
    }

    fn put(&mut self, mut open: Box<Open>) {
        if self.0.len() < Self::MAX && open.text.heap_bytes() < 16 * 1024 {
            open.text.clear();
            self.0.push(open);
        }
    }
}

/// The open exchanges of one connection, by rising id.
#[derive(Debug)]
pub(crate) struct Table {
    open: VecDeque<Box<Open>>,
    /// Number of gaps so far.
    epoch: u32,
    /// Whether a clean round trip has passed since the last gap.
    clean: bool,
    /// Exchanges completed with a response.
    pub(crate) completed: u64,
    heap: usize,
    timers: Timers,
    /// Nothing is to be done about an open exchange before.
    due: Nanos,
}

impl Table {
    pub(crate) fn new(timers: Timers) -> Self {
        Self {
            open: VecDeque::new(),
            epoch: 0,
            clean: true,
            completed: 0,
            heap: 0,
            timers,
            due: NEVER,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.heap
    }

    fn index(&self, id: ExchangeId) -> Option<usize> {
        match (self.open.front(), self.open.back()) {
            (Some(first), _) if first.id == id => Some(0),
            (_, Some(last)) if last.id == id => self.open.len().checked_sub(1),
            _ => self.open.binary_search_by_key(&id, |open| open.id).ok(),
        }
    }

    fn find(&mut self, id: ExchangeId) -> Option<&mut Box<Open>> {
        let index = self.index(id)?;
        self.open.get_mut(index)
    }

    /// Opens an exchange. Returns false, and ignores it, when ids do not rise: a parser's bug.
    pub(crate) fn request(
        &mut self,
        id: ExchangeId,
        beginning: Beginning,
        request: &Request<'_>,
        session: &Text,
        outlet: &mut Outlet<'_>,
    ) -> bool {
        if self.open.back().is_some_and(|last| last.id >= id) {
            return false;
        }
        let Beginning { dir, at, time } = beginning;
        let mut open = outlet.pool.take();
        open.id = id;
        open.protocol = request.protocol;
        open.offset = at;
        open.flow_offset = at.saturating_sub(outlet.facts.inside[dir]);
        open.flags = outlet.facts.flags.with(request.flags);
        if !self.clean || time.exact().is_none() {
            open.flags = open.flags.with(Flags::GAP);
        }
        open.start = time;
        open.task = outlet.facts.task;
        open.answered_by = None;
        open.epoch = self.epoch;
        open.outcome = None;
        open.request_at = Some(at).filter(|_| dir == Direction::ToServer);
        open.request_end = Progress::Running;
        open.response_start = None;
        open.response_at = None;
        open.response_end = Progress::Running;
        open.request_bytes = 0;
        open.response_bytes = 0;
        open.fill(request, session);
        let start = time.nearest();
        open.expiry = self.timers.expiry(start);
        open.moved = None;
        open.report = self.timers.report(start, start);
        self.due = self.due.min(open.expiry).min(open.report);
        self.heap = self.heap.saturating_add(open.heap_bytes());
        if open.task.is_some() {
            outlet.sink.begun(&open.exchange(outlet.facts));
        }
        self.open.push_back(open);
        true
    }

    /// Notes where and when a response began whose status is not known yet.
    pub(crate) fn response_start(&mut self, id: ExchangeId, answer: Answer) {
        if let Some(open) = self.find(id) {
            open.response_at = Some(answer.at);
            open.response_start = answer.start;
            open.answered_by = answer.task;
        }
    }

    /// Replaces what a request was taken for.
    pub(crate) fn rename(
        &mut self,
        id: ExchangeId,
        protocol: ProtocolName,
        operation: &str,
        target: &str,
    ) {
        let Some(open) = self.find(id) else { return };
        let before = open.heap_bytes();
        open.protocol = protocol;
        open.name(operation, target);
        let grown = open.heap_bytes().saturating_sub(before);
        self.heap = self.heap.saturating_add(grown);
    }

    /// Notes a response. Returns false when no such exchange is open.
    pub(crate) fn response(
        &mut self,
        id: ExchangeId,
        answer: Answer,
        response: &Response<'_>,
    ) -> bool {
        let Some(open) = self.find(id) else {
            return false;
        };
        let before = open.heap_bytes();
        let (status, _) = open.text.push(response.status);
        open.status = status;
        open.outcome = Some(response.outcome);
        open.flags = open.flags.with(response.flags);
        if open.response_at.is_none() {
            open.answered_by = answer.task;
        }
        open.response_at = open.response_at.or(Some(answer.at));
        open.response_start = open.response_start.or(answer.start);
        for attr in response.attrs {
            open.text.push_attr(attr);
        }
        let grown = open.heap_bytes().saturating_sub(before);
        self.heap = self.heap.saturating_add(grown);
        true
    }

    pub(crate) fn annotate(
        &mut self,
        id: ExchangeId,
        flags: Flags,
        attrs: &[wirespan_parser_api::Attr<'_>],
    ) {
        let Some(open) = self.find(id) else { return };
        let before = open.heap_bytes();
        open.flags = open.flags.with(flags);
        for attr in attrs {
            open.text.push_attr(attr);
        }
        let grown = open.heap_bytes().saturating_sub(before);
        self.heap = self.heap.saturating_add(grown);
    }

    /// Notes that the last byte of a message has gone by; reports the exchange when both have.
    pub(crate) fn end(
        &mut self,
        id: ExchangeId,
        message: Message,
        time: Option<Nanos>,
        size: u64,
        outlet: &mut Outlet<'_>,
    ) {
        let Some(index) = self.index(id) else { return };
        let Some(open) = self.open.get_mut(index) else {
            return;
        };
        if time.is_none() {
            open.flags = open.flags.with(Flags::GAP);
        }
        match message {
            Message::Request => {
                open.request_end = Progress::Ended(time);
                open.request_bytes = size;
            }
            Message::Response => {
                open.response_end = Progress::Ended(time);
                open.response_bytes = size;
            }
        }
        if open.request_end != Progress::Running && open.response_end != Progress::Running {
            self.take(index, outlet);
        }
    }

    /// Notes the size of a message that may not have gone by yet.
    pub(crate) fn size(&mut self, id: ExchangeId, message: Message, size: u64) {
        if let Some(open) = self.find(id) {
            match message {
                Message::Request => open.request_bytes = size,
                Message::Response => open.response_bytes = size,
            }
        }
    }

    /// Makes a response that has begun an error.
    pub(crate) fn fail(&mut self, id: ExchangeId) {
        if let Some(open) = self.find(id) {
            open.outcome = open.outcome.map(|_| Outcome::Error);
        }
    }

    /// Reports an exchange as it stands.
    pub(crate) fn abandon(&mut self, id: ExchangeId, flags: Flags, outlet: &mut Outlet<'_>) {
        if let Some(index) = self.index(id) {
            self.abandon_at(index, flags, outlet);
        }
    }

    /// Reports the exchange at a place in the order of their beginning as it stands.
    pub(crate) fn abandon_at(&mut self, index: usize, flags: Flags, outlet: &mut Outlet<'_>) {
        if let Some(open) = self.open.get_mut(index) {
            open.flags = open.flags.with(flags);
            self.take(index, outlet);
        }
    }

    /// Notes lost bytes: marks the exchanges whose `message` was not complete.
    pub(crate) fn gap(&mut self, message: Message) {
        self.epoch = self.epoch.saturating_add(1);
        self.clean = false;
        for open in &mut self.open {
            let progress = match message {
                Message::Request => open.request_end,
                Message::Response => open.response_end,
            };
            if progress == Progress::Running {
                open.flags = open.flags.with(Flags::GAP);
            }
        }
    }

    fn take(&mut self, index: usize, outlet: &mut Outlet<'_>) {
        let removed = match index {
            0 => self.open.pop_front(),
            _ => self.open.remove(index),
        };
        let Some(mut open) = removed else {
            return;
        };
        self.heap = self.heap.saturating_sub(open.heap_bytes());
        let ended = open.response_end != Progress::Running;
        if ended && open.outcome.is_some() {
            self.completed = self.completed.saturating_add(1);
            if open.epoch == self.epoch {
                self.clean = true;
            }
        }
        open.flags = open.flags.with(match (open.outcome.is_some(), ended) {
            (false, _) => Flags::NO_RESPONSE,
            (true, false) if !open.flags.has(Flags::GAP) => Flags::TRUNCATED,
            (true, _) => Flags::NONE,
        });
        add(&mut outlet.counts.exchanges, 1);
        if open.outcome.is_none() {
            add(&mut outlet.counts.no_response, 1);
        }
        outlet.sink.exchange(&open.exchange(outlet.facts));
        outlet.pool.put(open);
    }
}

impl Open {
    fn empty() -> Self {
        Self {
            id: ExchangeId(0),
            protocol: ProtocolName(""),
            offset: 0,
            flow_offset: 0,
            flags: Flags::NONE,
            outcome: None,
            trace: None,
            text: Text::default(),
            operation: Span::default(),
            target: Span::default(),
            status: Span::default(),
            start: Moment::About(Nanos(0)),
            task: None,
            answered_by: None,
            request_at: None,
            request_end: Progress::Running,
            response_start: None,
            response_at: None,
            response_end: Progress::Running,
            request_bytes: 0,
            response_bytes: 0,
            epoch: 0,
            expiry: NEVER,
            moved: None,
            report: NEVER,
        }
    }

    fn fill(&mut self, request: &Request<'_>, session: &Text) {
        self.name(request.operation, request.target);
        self.status = Span::default();
        let text = &mut self.text;
        if session.has_attrs() {
            for attr in session.attrs().iter() {
                text.push_attr(&attr);
            }
        }
        for attr in request.attrs {
            // Often one of the two texts that are stored already.
            match attr.value() {
                Value::Str(same) if ptr::eq(same, request.operation) => {
                    text.push_span(attr.key(), self.operation);
                }
                Value::Str(same) if ptr::eq(same, request.target) => {
                    text.push_span(attr.key(), self.target);
                }
                _ => text.push_attr(attr),
            }
        }
        self.trace = request.trace.map(|trace| Trace {
            trace_id: trace.trace_id,
            span_id: trace.span_id,
            parent_span_id: trace.parent_span_id,
            sampled: trace.sampled,
            flags: trace.flags,
            propagation: trace.propagation,
            tracestate: text.push(trace.tracestate).0,
        });
    }

    /// Stores the texts that say what the request is.
    fn name(&mut self, operation: &str, target: &str) {
        let (operation, cut_operation) = self.text.push(operation);
        let (target, cut_target) = self.text.push(target);
        if cut_operation == Cut::Cut || cut_target == Cut::Cut {
            self.flags = self.flags.with(Flags::TRUNCATED);
        }
        self.operation = operation;
        self.target = target;
    }

    fn heap_bytes(&self) -> usize {
        self.text.heap_bytes().saturating_add(size_of::<Self>())
    }

    fn exchange<'a>(&'a self, facts: &Facts) -> Exchange<'a> {
        let known = !self.flags.has(Flags::GAP);
        let span = |from: Option<Nanos>, to: Option<Nanos>| Some(to?.since(from?));
        let whole = self.outcome.is_some() && known;
        Exchange {
            connection: facts.number,
            client: facts.client,
            server: facts.server,
            side: facts.side,
            process: facts.process,
            task: self.task,
            answered_by: self.answered_by,
            protocol: self.protocol,
            operation: self.text.get(self.operation),
            target: self.text.get(self.target),
            status: self.text.get(self.status),
            outcome: self.outcome,
            offset: self.offset,
            flow_offset: self.flow_offset,
            start: self.start.nearest(),
            open: None,
            duration: span(self.start.exact(), self.response_end.time()).filter(|_| whole),
            ttfb: span(self.request_end.time(), self.response_start).filter(|_| whole),
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            trace: self.trace.map(|trace| TraceContext {
                trace_id: trace.trace_id,
                span_id: trace.span_id,
                parent_span_id: trace.parent_span_id,
                sampled: trace.sampled,
                flags: trace.flags,
                propagation: trace.propagation,
                tracestate: self.text.get(trace.tracestate),
            }),
            flags: self.flags,
            attrs: self.text.attrs(),
        }
    }
}
