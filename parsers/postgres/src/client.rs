//! From client to server: start-up, queries, and the messages of an extended query.

use wirespan_parser_api::{
    Abandon, Direction, Emit, Event, ExchangeId, Flags, Input, Next, ParseError, Redaction, Step,
    Upgrade, keys,
};
use wirespan_sql::{Dialect, Extent, Reader};

use crate::NAME;
use crate::message::{Message, message_text, step};
use crate::request::{Said, abandon, cut_flag, part, readable, request, request_end, settle};
use crate::session::{End, Expected, Session};
use crate::statements::{Source, Statements};
use crate::wire::{self, HEADER, Object, Opening};

/// Most bytes of a message whose text is read; what is behind them is skipped.
const MAX_TEXT: usize = 16 * 1_024;
/// Most bytes of a message of which only names are read.
const MAX_NAMES: usize = 1_024;
/// Most statements of one query that are told apart.
const MAX_STATEMENTS: usize = 1_024;

/// State of the direction from client to server.
#[derive(Debug)]
pub(crate) struct Client {
    phase: Phase,
    group: Option<Group>,
    statements: Statements,
    reader: Reader,
    /// A text whose bytes are no UTF-8, with those replaced.
    replaced: String,
}

/// Where the connection is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// Before `StartupMessage`.
    Opening,
    /// The server has been asked for encryption, and not answered.
    Negotiating,
    /// Behind `StartupMessage`.
    Running,
}

/// The messages of one extended query, up to its `Execute`.
#[derive(Clone, Copy, Debug)]
struct Group {
    id: u64,
    /// Bytes so far.
    size: u64,
    /// The statement.
    source: Source,
    first: First,
    bound: bool,
}

/// What a group begins with. Unless it is executed, that is its operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum First {
    Parse,
    Bind,
    Describe,
    Execute,
}

impl Client {
    pub(crate) fn new(late_attach: bool, redaction: Redaction) -> Self {
        Self {
            phase: if late_attach {
                Phase::Running
            } else {
                Phase::Opening
            },
            group: None,
            statements: Statements::new(),
            reader: Reader::new(Dialect::Postgres, redaction),
            replaced: String::new(),
        }
    }

    pub(crate) const fn set_redaction(&mut self, redaction: Redaction) {
        self.reader.set_redaction(redaction);
    }

    pub(crate) const fn phase(&self) -> Phase {
        self.phase
    }

    /// The server has answered whether it encrypts, or its answer was lost.
    pub(crate) fn stop_negotiating(&mut self) {
        if self.phase == Phase::Negotiating {
            self.phase = Phase::Opening;
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.statements
            .heap_bytes()
            .saturating_add(self.reader.heap_bytes())
            .saturating_add(self.replaced.capacity())
    }

    /// Forgets what a loss has put in doubt.
    pub(crate) fn lose(&mut self, session: &mut Session, out: &mut dyn Emit) {
        if let Some(group) = self.group.take() {
            abandon(group.id, Abandon::Lost, out);
        }
        self.phase = Phase::Running;
        self.statements.lose();
        session.lose_requests();
    }

    /// Reads a message.
    pub(crate) fn parse(
        &mut self,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        if self.phase != Phase::Running {
            return self.open(input, session, out);
        }
        let Some(header) = wire::header(Direction::ToServer, input.bytes)? else {
            return Ok(Step::need(HEADER));
        };
        let most = match header.kind {
            b'Q' | b'P' => MAX_TEXT,
            b'B' | b'E' | b'D' | b'C' => MAX_NAMES,
            _ => HEADER,
        };
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let wanted = len.min(most);
        let Some(visible) = input.bytes.get(..wanted) else {
            return Ok(Step::need(wanted));
        };
        let message = Message {
            header,
            at: input.offset,
            body: visible.get(HEADER..).unwrap_or_default(),
            extent: if wanted == len {
                Extent::Complete
            } else {
                Extent::Cut
            },
        };
        self.message(&message, session, out)?;
        Ok(step(input.bytes, header.len, wanted))
    }

    fn message(
        &mut self,
        message: &Message<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        match message.header.kind {
            b'Q' => self.query(message, session, out)?,
            b'P' => self.prepare(message, session, out)?,
            b'B' => self.bind(message, session, out)?,
            b'D' => self.describe(message, session, out)?,
            b'E' => self.execute(message, session, out)?,
            b'C' => self.close(message, session, out)?,
            b'F' => self.call(message, session, out),
            b'S' => {
                self.end_group(session, out);
                // Only exchanges could be refused, and `Sync` is none.
                let _ = session.end_batch(End::Sync, out);
            }
            // What is bound will be executed, as soon as its description is known.
            b'H' if !self.group.is_some_and(|group| group.bound) => self.end_group(session, out),
            b'c' | b'f' => session.end_copy(),
            // Passwords, data of `COPY`, the end.
            _ => {}
        }
        Ok(())
    }

    /// Reads what opens a connection.
    fn open(
        &mut self,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        if input.bytes.first() == Some(&0x16) {
            // The answer that allowed this was not seen.
            return Ok(Step {
                consumed: 0,
                next: Next::Upgrade(Upgrade::Tls),
            });
        }
        let Some((opening, len)) = wire::opening(input.bytes)? else {
            let len = wire::opening_code(input.bytes).map_or(8, |(len, _)| len);
            return Ok(Step::need(usize::try_from(len).unwrap_or(usize::MAX)));
        };
        let next = match opening {
            Opening::Tls | Opening::Gss => {
                self.phase = Phase::Negotiating;
                Next::Wait
            }
            Opening::Cancel => {
                // It has no answer, so it is no exchange.
                out.emit(Event::Push {
                    at: input.offset,
                    kind: "cancel request",
                });
                Next::SkipToEnd
            }
            Opening::Startup(parameters) => {
                self.phase = Phase::Running;
                self.start_up(parameters, input.offset, len, session, out);
                Next::More
            }
        };
        Ok(Step {
            consumed: len,
            next,
        })
    }

    fn start_up(
        &mut self,
        parameters: &[u8],
        at: u64,
        len: usize,
        session: &mut Session,
        out: &mut dyn Emit,
    ) {
        let user = wire::parameter(parameters, b"user");
        let database = wire::parameter(parameters, b"database").filter(|name| !name.is_empty());
        let database = database.or(user).unwrap_or_default();
        if let Ok(name) = core::str::from_utf8(database)
            && !name.is_empty()
        {
            out.emit(Event::Session {
                attrs: &[keys::DB_NAMESPACE.of(name)],
            });
        }
        session.begin_alone();
        let said = Said {
            operation: "HANDSHAKE",
            target: "",
            summary: "",
            trace: None,
            flags: session.flags(out),
        };
        let id = session.number(1);
        request(id, at, &said, out);
        request_end(id, at.saturating_add(len as u64), len as u64, out);
        let ended = session.end_batch(End::Startup { id }, out);
        settle(id, ended, out);
    }

    /// A simple query: an exchange for each of its statements, each beginning at its own text.
    fn query(
        &mut self,
        message: &Message<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let text = message_text(message, message.body)?;
        self.end_group(session, out);
        let text = readable(text, &mut self.replaced);
        session.begin_alone();
        let flags = session.flags(out).with(cut_flag(message.extent));
        let first = session.number(0);
        let mut rest = text;
        let mut count = 0usize;
        // Offset behind what was given to a statement.
        let mut from = message.at;
        while count < MAX_STATEMENTS {
            let statement = self.reader.first(rest, message.extent);
            let (used, empty) = (statement.used, statement.empty);
            let after = rest.get(used..).unwrap_or_default();
            let last = after.trim_ascii_start().is_empty();
            // An empty query has an answer, an empty statement has none.
            if !empty || last && count == 0 {
                let id = session.number(1);
                let alone = last && count == 0;
                let said = Said {
                    operation: statement.keyword,
                    target: if alone {
                        statement.text
                    } else {
                        part(statement.text)
                    },
                    summary: statement.summary,
                    trace: statement.trace,
                    flags,
                };
                request(id, from, &said, out);
                let to = if last {
                    message.end()
                } else {
                    let left = after.len().saturating_add(1) as u64;
                    message
                        .at
                        .saturating_add(message.header.len.saturating_sub(left))
                };
                request_end(id, message.end(), to.saturating_sub(from), out);
                from = to;
                count = count.saturating_add(1);
            }
            if last {
                break;
            }
            rest = after;
        }
        let end = session.number(0);
        if let Err(why) = session.end_batch(End::Query { first, end }, out) {
            for id in first..end {
                abandon(id, why, out);
            }
        }
        Ok(())
    }

    /// `Parse`.
    fn prepare(
        &mut self,
        message: &Message<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let read = message.need(wire::named_text(message.body), "statement name")?;
        let Some((name, text)) = read else {
            return Ok(());
        };
        let text = match message.extent {
            Extent::Complete => wire::name(text).ok_or(ParseError::malformed("statement text"))?,
            Extent::Cut => text,
        };
        self.end_group(session, out);
        let text = readable(text, &mut self.replaced);
        let flags = session.flags(out).with(cut_flag(message.extent));
        let statement = self.reader.whole(text, message.extent);
        let source = self
            .statements
            .define(name, &statement, cut_flag(message.extent));
        let said = Said {
            operation: statement.keyword,
            target: statement.text,
            summary: statement.summary,
            trace: statement.trace,
            flags,
        };
        let id = session.number(1);
        request(id, message.at, &said, out);
        self.group = Some(Group::new(id, source, First::Parse));
        self.extend(message, out);
        // Whether it is refused is asked again when the group ends.
        let _ = session.expect(Expected::Parse { id, ends: false }, out);
        Ok(())
    }

    fn bind(
        &mut self,
        message: &Message<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let names = message.need(wire::names(message.body), "portal or statement name")?;
        let source = match names {
            Some((portal, name)) => {
                let source = self.statements.find(name);
                self.statements.bind(portal, source);
                source
            }
            None => Source::Unknown,
        };
        if self.group.is_some_and(|group| group.bound) {
            self.end_group(session, out);
        }
        let id = self.join(message, source, First::Bind, session, out);
        if let Some(group) = &mut self.group {
            group.bound = true;
        }
        let _ = session.expect(Expected::Bind { id, ends: false }, out);
        Ok(())
    }

    fn describe(
        &mut self,
        message: &Message<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let source = match message.need(wire::object(message.body), "described object")? {
            Some(Object::Statement(name)) => self.statements.find(name),
            Some(Object::Portal(name)) => self.statements.bound(name),
            None => Source::Unknown,
        };
        let id = self.join(message, source, First::Describe, session, out);
        let _ = session.expect(Expected::Describe { id, ends: false }, out);
        Ok(())
    }

    fn execute(
        &mut self,
        message: &Message<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let portal = message.need(wire::name(message.body), "portal name")?;
        let source = portal.map_or(Source::Unknown, |portal| self.statements.bound(portal));
        let id = self.join(message, source, First::Execute, session, out);
        if let Some(group) = self.group.take()
            && group.first == First::Describe
        {
            self.rename(&group, None, out);
        }
        let expected = session.expect(Expected::Execute { id }, out);
        settle(id, expected, out);
        Ok(())
    }

    fn close(
        &mut self,
        message: &Message<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), ParseError> {
        let object = message.need(wire::object(message.body), "closed object")?;
        self.end_group(session, out);
        match object {
            Some(Object::Statement(name)) => self.statements.forget(name),
            Some(Object::Portal(name)) => self.statements.unbind(name),
            None => {}
        }
        let id = self.command("CLOSE", message, session, out);
        let expected = session.expect(Expected::Close { id }, out);
        settle(id, expected, out);
        Ok(())
    }

    /// `FunctionCall`.
    fn call(&mut self, message: &Message<'_>, session: &mut Session, out: &mut dyn Emit) {
        self.end_group(session, out);
        session.begin_alone();
        let id = self.command("FUNCTION_CALL", message, session, out);
        let ended = session.end_batch(End::Call { id }, out);
        settle(id, ended, out);
    }

    /// Reports a request that is one message without text.
    fn command(
        &mut self,
        operation: &str,
        message: &Message<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> u64 {
        let said = Said {
            operation,
            target: "",
            summary: "",
            trace: None,
            flags: session.flags(out),
        };
        let id = session.number(1);
        request(id, message.at, &said, out);
        request_end(id, message.end(), message.header.len, out);
        id
    }

    /// Adds a message to the group if it is about the same statement; else begins another. Returns
    /// the exchange.
    fn join(
        &mut self,
        message: &Message<'_>,
        source: Source,
        first: First,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> u64 {
        // A statement that is prepared only and a portal that is executed have nothing in common.
        let joins = |group: &Group| {
            group.source == source
                && (first != First::Execute || group.bound || group.first == First::Describe)
        };
        if self.group.is_some_and(|group| !joins(&group)) {
            self.end_group(session, out);
        }
        let id = match self.group {
            Some(group) => group.id,
            None => self.begin(message, source, first, session, out),
        };
        self.extend(message, out);
        id
    }

    /// Begins a group with a message that is not `Parse`.
    fn begin(
        &mut self,
        message: &Message<'_>,
        source: Source,
        first: First,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> u64 {
        let prepared = self.statements.get(source);
        let flags = prepared.map_or(Flags::NONE, |prepared| prepared.flags());
        let said = Said {
            operation: match first {
                First::Describe => "DESCRIBE",
                _ => prepared.map_or("", |prepared| prepared.keyword()),
            },
            target: prepared.map_or("", |prepared| prepared.text(self.reader.redaction())),
            summary: prepared.map_or("", |prepared| prepared.summary()),
            // That of a statement prepared earlier was of another request.
            trace: None,
            flags: session.flags(out).with(flags),
        };
        let id = session.number(1);
        request(id, message.at, &said, out);
        self.group = Some(Group::new(id, source, first));
        id
    }

    /// Counts a message to the group.
    fn extend(&mut self, message: &Message<'_>, out: &mut dyn Emit) {
        if let Some(group) = &mut self.group {
            group.size = group.size.saturating_add(message.header.len);
            request_end(group.id, message.end(), group.size, out);
        }
    }

    /// Ends a group without `Execute`.
    fn end_group(&mut self, session: &mut Session, out: &mut dyn Emit) {
        let Some(group) = self.group.take() else {
            return;
        };
        match group.first {
            First::Parse => self.rename(&group, Some("PREPARE"), out),
            First::Bind => self.rename(&group, Some("BIND"), out),
            First::Describe | First::Execute => {}
        }
        settle(group.id, session.expect_end(group.id), out);
    }

    /// Replaces a group's operation; by the statement's own when there is none.
    fn rename(&self, group: &Group, operation: Option<&str>, out: &mut dyn Emit) {
        let prepared = self.statements.get(group.source);
        let keyword = prepared.map_or("", |prepared| prepared.keyword());
        out.emit(Event::Rename {
            id: ExchangeId(group.id),
            protocol: NAME,
            operation: operation.unwrap_or(keyword),
            target: prepared.map_or("", |prepared| prepared.text(self.reader.redaction())),
        });
    }
}

impl Group {
    const fn new(id: u64, source: Source, first: First) -> Self {
        Self {
            id,
            size: 0,
            source,
            first,
            bound: false,
        }
    }
}
