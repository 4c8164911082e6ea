//! From server to client: greeting, results, rows.

use wirespan_parser_api::{Abandon, Emit, Event, ExchangeId, Flags, Input, Next, ParseError, Step};

use crate::reply::{self, Packet, end, is_possible, pass, respond_ok, skip_statements};
use crate::session::{Answer, Effect, Pending, Session, name};
use crate::wire::{self, Done, HEADER, Header, MAX_PAYLOAD, status};

/// Bytes of a greeting or of an OK packet that are read.
const MAX_HEAD: u32 = 1_024;

/// State of the direction from server to client.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    state: State,
    open: Option<Open>,
    /// Whether the payload continues in the next packet.
    is_long: bool,
    /// Whether responses may have been passed over since the last one that was read.
    is_adrift: bool,
    /// Sequence id of an EOF packet that may still belong to a response that was taken for over.
    stray_eof: Option<u8>,
}

/// What the next packet is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum State {
    /// The first of a connection.
    Greeting,
    /// The first of a response.
    #[default]
    Idle,
    /// Another one of a response that answers nothing we can name.
    Orphan,
    /// The first of a result.
    Head,
    /// A column definition; so many are left, at least one.
    Definitions(u64),
    /// EOF, or the first row.
    AfterDefinitions,
    /// A row, or the end of rows.
    Rows,
    /// A definition of a parameter, then of a column; so many are left.
    Prepared(u16, u16),
    /// EOF behind definitions; so many of columns are left.
    PreparedEof(u16),
    /// A column definition, or EOF.
    Fields,
    /// The outcome of the client's file.
    Infile,
    /// More of an authentication.
    Auth,
}

/// The response that is being read.
#[derive(Clone, Debug)]
struct Open {
    id: ExchangeId,
    answer: Answer,
    effect: Effect,
    is_last: bool,
    is_cut: bool,
    /// Stream offset of its first byte; `None` before that.
    began: Option<u64>,
}

impl Replies {
    pub(crate) fn new(late_attach: bool) -> Self {
        Self {
            state: if late_attach {
                State::Idle
            } else {
                State::Greeting
            },
            ..Self::default()
        }
    }

    /// Reads a packet, or many where they are rows.
    pub(crate) fn parse(
        &mut self,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        if matches!(self.state, State::Definitions(_) | State::Rows)
            && let Some(step) = self.run(input.bytes, session)?
        {
            return Ok(step);
        }
        let Some(header) = wire::header(input.bytes) else {
            return Ok(Step::need(HEADER));
        };
        if self.is_long {
            self.is_long = header.len == MAX_PAYLOAD;
            session.seq = header.seq.wrapping_add(1);
            return Ok(pass(header, input.bytes));
        }
        let Some(&first) = input.bytes.get(HEADER) else {
            return if header.len == 0 {
                Err(ParseError::malformed("empty packet"))
            } else {
                Ok(Step::need(HEADER.saturating_add(1)))
            };
        };
        let state = self.expected(header, session);
        let end = HEADER.saturating_add(header.len.min(head(state, first)) as usize);
        let Some(payload) = input.bytes.get(HEADER..end) else {
            return Ok(Step::need(end));
        };
        self.state = state;
        let packet = Packet {
            header,
            first,
            payload,
            at: input.offset,
        };
        let next = self.packet(&packet, session, out)?;
        Ok(next.unwrap_or_else(|| pass(header, input.bytes)))
    }

    /// Forgets a response that was hit by a loss.
    pub(crate) fn lose(&mut self, session: &mut Session, out: &mut dyn Emit) {
        if let Some(open) = self.open.take() {
            session.miss(&open.effect);
            out.emit(Event::Annotate {
                id: open.id,
                flags: Flags::GAP,
                attrs: &[],
            });
            out.emit(Event::Abandon {
                id: open.id,
                why: Abandon::Lost,
            });
        }
        *self = Self {
            is_adrift: true,
            ..Self::default()
        };
        session.lose_replies(out);
    }

    /// What a packet is. Behind a response that answers nothing we can name, it is of the same or
    /// the first of the next.
    fn expected(&self, header: Header, session: &Session) -> State {
        let is_next = match session.next() {
            Some(next) => header.seq == next.seq,
            None => header.seq == 1 && session.seq != 1,
        };
        match self.state {
            State::Orphan if is_next => State::Idle,
            state => state,
        }
    }

    /// Whether bytes went by since the last response that was read.
    pub(crate) const fn is_adrift(&self) -> bool {
        self.is_adrift
    }

    /// Passes over the definitions and rows that are visible; `None` where another packet begins.
    fn run(&mut self, bytes: &[u8], session: &mut Session) -> Result<Option<Step>, ParseError> {
        if self.is_long {
            return Ok(None);
        }
        let mut used = 0usize;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let (Some(header), Some(&first)) = (wire::header(rest), rest.get(HEADER)) else {
                break;
            };
            let left = match self.state {
                State::Definitions(left) => Some(left),
                _ => None,
            };
            let is_other = first == wire::ERR
                || first == wire::EOF && header.len < MAX_PAYLOAD
                || header.len == 0
                || session.is_out_of_sequence(header.seq);
            if is_other {
                break;
            }
            session.seq = header.seq.wrapping_add(1);
            self.is_long = header.len == MAX_PAYLOAD;
            match left {
                Some(0 | 1) => self.state = State::AfterDefinitions,
                Some(left) => self.state = State::Definitions(left.saturating_sub(1)),
                None => {}
            }
            let end = (used as u64).saturating_add(header.total());
            let beyond = end.saturating_sub(bytes.len() as u64);
            if beyond > 0 {
                return Ok(Some(Step {
                    consumed: bytes.len(),
                    next: Next::Skip(beyond),
                }));
            }
            used = usize::try_from(end).unwrap_or(bytes.len());
            if self.is_long || self.state == State::AfterDefinitions {
                break;
            }
        }
        Ok((used > 0).then_some(Step::more(used)))
    }

    /// Reads one packet by what is expected.
    fn packet(
        &mut self,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Option<Step>, ParseError> {
        if self.is_aside(packet, session, out) {
            return Ok(None);
        }
        match self.state {
            State::Greeting => self.greeting(packet, session, out)?,
            State::Idle => return self.begin(packet, session, out),
            State::Orphan => self.check(packet, session)?,
            _ => {
                self.check(packet, session)?;
                self.go_on(packet, session, out)?;
            }
        }
        self.passed(packet, session);
        Ok(None)
    }

    /// Takes packets that may come at any time: a greeting where a connection was joined early, a
    /// farewell, MariaDB's progress, an EOF that belongs to the response before.
    fn is_aside(&mut self, packet: &Packet<'_>, session: &mut Session, out: &mut dyn Emit) -> bool {
        let seq = packet.header.seq;
        if self.stray_eof.take() == Some(seq) && packet.is_eof() {
            session.deprecate_eof = Some(false);
            return true;
        }
        if packet.first == wire::ERR
            && wire::failure(packet.rest()).is_some_and(|e| e.number == wire::PROGRESS)
        {
            match self.open {
                Some(_) => session.seq = seq.wrapping_add(1),
                None => session.postpone(seq.wrapping_add(1)),
            }
            return true;
        }
        if self.state != State::Idle || seq != 0 || session.next().is_some() {
            return false;
        }
        if packet.first == wire::ERR {
            out.emit(Event::Push {
                at: packet.at,
                kind: "error",
            });
            return true;
        }
        if packet.first == 10
            && let Some(greeting) = wire::greeting(packet.payload)
        {
            session.greet(&greeting);
            return true;
        }
        false
    }

    fn greeting(
        &mut self,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        match packet.first {
            10 => {
                let greeting = wire::greeting(packet.payload);
                session.greet(&greeting.ok_or(ParseError::malformed("greeting"))?);
            }
            // Protocol 9, which servers before 3.22 speak.
            9 => {}
            wire::ERR => reply::refuse(packet, session, out)?,
            _ => return Err(ParseError::malformed("greeting")),
        }
        self.state = State::Idle;
        Ok(())
    }

    /// The first packet of a response.
    fn begin(
        &mut self,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Option<Step>, ParseError> {
        // Requests of which some may have been answered while no boundary was found.
        if self.is_adrift && session.commands_in_flight() > 1 {
            session.lose_replies(out);
        }
        if let Some(next) = session.next() {
            is_possible(packet, &next.answer)?;
            session.seq = next.seq;
            self.check(packet, session)?;
        }
        self.is_adrift = false;
        let Some(pending) = session.response() else {
            out.emit(Event::Orphan { at: packet.at });
            self.state = State::Orphan;
            self.passed(packet, session);
            return Ok(None);
        };
        let is_stream = matches!(pending.answer, Answer::Stream) && packet.first != wire::ERR;
        self.open(pending);
        self.go_on(packet, session, out)?;
        self.passed(packet, session);
        Ok(is_stream.then_some(Step {
            consumed: HEADER.saturating_add(1),
            next: Next::SkipToEnd,
        }))
    }

    fn open(&mut self, pending: Pending) {
        self.state = match pending.answer {
            Answer::Rows => State::Rows,
            Answer::Fields => State::Fields,
            _ => State::Head,
        };
        self.open = Some(Open {
            id: pending.id,
            answer: pending.answer,
            effect: pending.effect,
            is_last: pending.is_last,
            is_cut: pending.is_cut,
            began: None,
        });
    }

    /// The next packet of the open response.
    fn go_on(
        &mut self,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let Some(open) = &mut self.open else {
            return Err(ParseError::malformed("response"));
        };
        let (id, is_first) = (open.id, open.began.is_none());
        open.began.get_or_insert(packet.at);
        match self.state {
            State::Definitions(_) if packet.first != wire::ERR => {
                return Err(ParseError::malformed("column definition"));
            }
            _ if packet.first == wire::ERR => self.fail(packet, session, out)?,
            State::Head => self.result(packet, session, out)?,
            State::AfterDefinitions => self.after_definitions(packet, session, out)?,
            State::Rows | State::Fields if packet.ends_rows() => {
                self.finish(packet, packet.done()?, session, out);
            }
            State::Prepared(parameters, columns) => {
                self.definition(parameters, columns, packet, session, out);
            }
            State::PreparedEof(columns) => self.prepared_eof(columns, packet, session, out)?,
            State::Infile | State::Auth if packet.first == wire::OK => {
                self.finish(packet, packet.done()?, session, out);
            }
            State::Infile => return Err(ParseError::malformed("response")),
            _ => {}
        }
        let goes_on = self.open.as_ref().is_some_and(|open| open.id == id);
        if is_first && goes_on {
            out.emit(Event::ResponseStart { id, at: packet.at });
        }
        Ok(())
    }

    /// The first packet of a result.
    fn result(
        &mut self,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        is_possible(packet, &open.answer)?;
        match (&open.answer, packet.first) {
            (Answer::Auth, wire::OK) | (Answer::Single, _) => {
                self.finish(packet, packet.done()?, session, out);
            }
            (Answer::Auth, _) => self.state = State::Auth,
            (Answer::Text, _) => self.finish(packet, Done::default(), session, out),
            (Answer::Stream, _) => {
                respond_ok(open.id, packet.at, Flags::STREAMING, out);
                self.open = None;
            }
            (Answer::Prepare(text), _) => {
                let prepared = wire::prepared(packet.rest());
                let prepared = prepared.ok_or(ParseError::malformed("prepared statement"))?;
                let text = alloc::sync::Arc::clone(text);
                session.statements.insert(prepared.id, text);
                let (parameters, columns) = (prepared.parameters, prepared.columns);
                match (parameters, columns) {
                    (0, 0) => self.finish(packet, Done::default(), session, out),
                    _ => self.state = State::Prepared(parameters, columns),
                }
            }
            (_, wire::OK) => self.finish(packet, packet.done()?, session, out),
            (_, wire::INFILE) => {
                session.is_infile = true;
                self.state = State::Infile;
            }
            _ => {
                let columns = wire::columns(packet.payload);
                let columns = columns.ok_or(ParseError::malformed("column count"))?;
                self.state = if columns.defined {
                    State::Definitions(columns.count)
                } else {
                    State::AfterDefinitions
                };
            }
        }
        Ok(())
    }

    /// The packet behind column definitions tells whether there is an EOF packet: it is shorter
    /// than the OK packet that ends an empty result set without one.
    fn after_definitions(
        &mut self,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let done = if packet.ends_rows() {
            Some(packet.done()?)
        } else {
            None
        };
        session.deprecate_eof = Some(!packet.is_eof());
        let has_cursor = done.is_some_and(|done| done.status & status::CURSOR_EXISTS != 0);
        match done {
            Some(done) if !packet.is_eof() || has_cursor => {
                self.finish(packet, done, session, out);
            }
            _ => self.state = State::Rows,
        }
        Ok(())
    }

    /// A definition behind the answer to a prepare.
    fn definition(
        &mut self,
        parameters: u16,
        columns: u16,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) {
        let (parameters, columns, is_end) = match (parameters, columns) {
            (0 | 1, columns) if parameters == 1 => (0, columns, true),
            (0, columns) => (0, columns.saturating_sub(1), columns <= 1),
            (parameters, columns) => (parameters.saturating_sub(1), columns, false),
        };
        match session.deprecate_eof {
            _ if !is_end => self.state = State::Prepared(parameters, columns),
            Some(true) if columns > 0 => self.state = State::Prepared(0, columns),
            Some(true) => self.finish(packet, Done::default(), session, out),
            None if columns == 0 => {
                // Whether an EOF packet follows is not known; if so, it is taken when it comes.
                if let Some(open) = &self.open {
                    out.emit(Event::Annotate {
                        id: open.id,
                        flags: Flags::GUESSED,
                        attrs: &[],
                    });
                }
                self.stray_eof = Some(packet.header.seq.wrapping_add(1));
                self.finish(packet, Done::default(), session, out);
            }
            Some(false) | None => self.state = State::PreparedEof(columns),
        }
    }

    /// The packet behind the definitions of parameters, or of columns if none of these is left.
    fn prepared_eof(
        &mut self,
        columns: u16,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        if packet.is_eof() {
            session.deprecate_eof = Some(false);
            match columns {
                0 => self.finish(packet, Done::default(), session, out),
                _ => self.state = State::Prepared(0, columns),
            }
            return Ok(());
        }
        if session.deprecate_eof == Some(false) {
            return Err(ParseError::malformed("EOF packet"));
        }
        session.deprecate_eof = Some(true);
        self.definition(0, columns, packet, session, out);
        Ok(())
    }

    /// A result is complete: ends its exchange, unless more results belong to it.
    fn finish(
        &mut self,
        packet: &Packet<'_>,
        done: Done<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) {
        let has_more = done.status & status::MORE_RESULTS != 0;
        let Some(open) = &mut self.open else { return };
        let is_part = open.is_last && !open.is_cut
            || matches!(open.answer, Answer::Call) && packet.first != wire::OK;
        if has_more && is_part {
            self.state = State::Head;
            return;
        }
        let (id, began) = (open.id, open.began.unwrap_or(packet.at));
        respond_ok(id, began, Flags::NONE, out);
        session.apply(core::mem::take(&mut open.effect));
        if let Some(schema) = done.schema {
            session.schema = name(schema);
        }
        let is_last = open.is_last;
        self.close(session);
        if is_last && has_more {
            // The results of statements that were not seen.
            out.emit(Event::Orphan { at: packet.at });
            self.state = State::Orphan;
        } else if has_more && let Some(next) = session.response() {
            self.open(next);
        } else if !is_last {
            skip_statements(session, out);
        }
        end(id, began, packet.end(), out);
    }

    /// An error ends a response, and the command.
    fn fail(
        &mut self,
        packet: &Packet<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        let (id, began) = (open.id, open.began.unwrap_or(packet.at));
        let is_last = open.is_last;
        reply::fail(id, began, packet, out)?;
        self.close(session);
        if !is_last {
            skip_statements(session, out);
        }
        end(id, began, packet.end(), out);
        Ok(())
    }

    /// The open response is over.
    fn close(&mut self, session: &mut Session) {
        session.is_infile = false;
        self.open = None;
        self.state = State::Idle;
    }

    /// Checks that a packet is the next one.
    fn check(&self, packet: &Packet<'_>, session: &Session) -> Result<(), ParseError> {
        if session.is_out_of_sequence(packet.header.seq) {
            return Err(ParseError::malformed("sequence id"));
        }
        Ok(())
    }

    fn passed(&mut self, packet: &Packet<'_>, session: &mut Session) {
        session.seq = packet.header.seq.wrapping_add(1);
        self.is_long = packet.header.len == MAX_PAYLOAD;
    }
}

/// Bytes of a payload that are read.
const fn head(state: State, first: u8) -> u32 {
    match (state, first) {
        (State::Greeting, _) => MAX_HEAD,
        (State::Definitions(_) | State::Prepared(..) | State::Orphan, _) => 1,
        (_, wire::ERR) => 9,
        (State::Rows | State::Fields | State::AfterDefinitions, wire::OK) => 1,
        (_, wire::OK | wire::EOF | 10) => MAX_HEAD,
        (State::Idle | State::Head, _) => 16,
        _ => 1,
    }
}
