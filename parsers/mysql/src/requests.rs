//! From client to server: commands, login, files.

use alloc::string::String;
use alloc::sync::Arc;

use wirespan_parser_api::{
    Emit, Event, Flags, Gap, Input, Next, ParseError, Redaction, Step, TraceContext, Upgrade,
};
use wirespan_sql::{Dialect, Reader};

use crate::ask::{Ask, cut, end, open};
use crate::command::{Command, MAX_HEAD};
use crate::session::{self, Answer, Effect, Session, Slot};
use crate::statements::Text;
use crate::text::{extent, is_blank, legible, outcome, read};
use crate::wire::{self, HEADER, Header, MAX_PAYLOAD, capability};

/// Bytes of a login that are read.
const MAX_LOGIN: u32 = 4_096;
/// Payload of a login that ends before the user's name: the client wants TLS first.
const TLS_REQUEST: u32 = 32;

/// State of the direction from client to server.
#[derive(Debug)]
pub(crate) struct Requests {
    /// A payload that continues in the next packet.
    long: Option<Long>,
    /// Bytes of a packet whose beginning was read that are left behind a gap.
    skip: u64,
    reader: Reader,
    /// Scratch space for texts that are no UTF-8.
    scratch: String,
}

/// A payload in several packets.
#[derive(Clone, Copy, Debug)]
struct Long {
    /// The exchange, if there is one.
    slot: Option<Slot>,
    /// Stream offset of its first byte.
    began: u64,
}

/// A command's packet.
#[derive(Clone, Copy, Debug)]
struct Packet<'a> {
    header: Header,
    command: Command,
    /// The payload behind the command byte, as far as it is visible.
    payload: &'a [u8],
    /// Stream offset of the header.
    at: u64,
    /// Whether bytes of it are lost that would have been read.
    is_partial: bool,
}

impl Packet<'_> {
    const fn end(&self) -> u64 {
        self.at.saturating_add(self.header.total())
    }

    /// Whether its text is only the beginning.
    const fn is_cut(&self) -> bool {
        self.is_partial || self.header.len > MAX_HEAD
    }

    const fn is_long(&self) -> bool {
        self.header.len == MAX_PAYLOAD
    }

    /// Sequence id of the response.
    const fn answer_seq(&self) -> u8 {
        self.header.seq.wrapping_add(1)
    }
}

impl Requests {
    pub(crate) const fn new(redaction: Redaction) -> Self {
        Self {
            long: None,
            skip: 0,
            reader: Reader::new(Dialect::MySql, redaction),
            scratch: String::new(),
        }
    }

    pub(crate) const fn set_redaction(&mut self, redaction: Redaction) {
        self.reader.set_redaction(redaction);
    }

    /// Reads a packet.
    pub(crate) fn parse(
        &mut self,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        if self.skip > 0 {
            return Ok(Step {
                consumed: 0,
                next: Next::Skip(core::mem::take(&mut self.skip)),
            });
        }
        let Some(header) = wire::header(input.bytes) else {
            return Ok(Step::need(HEADER));
        };
        if let Some(long) = self.long {
            self.continue_long(long, header, input.offset, session, out);
            return Ok(pass(header, HEADER));
        }
        if session.is_infile {
            session.is_infile = header.len > 0;
            session.seq = header.seq.wrapping_add(1);
            return Ok(pass(header, HEADER));
        }
        if header.seq != 0 {
            return self.login_or_data(header, input, session, out);
        }
        self.command(header, input, session, out)
    }

    /// Forgets a payload that was hit by a loss at `offset`.
    pub(crate) fn lose(&mut self, offset: u64, session: &mut Session, out: &mut dyn Emit) {
        if let Some(long) = self.long.take()
            && let Some(slot) = long.slot
        {
            out.emit(Event::Annotate {
                id: slot.id,
                flags: Flags::GAP,
                attrs: &[],
            });
            end(slot, long.began, offset, out);
        }
        self.skip = 0;
        session.lose_requests(out);
    }

    /// Reports a command of which the end was lost, by what is known of it. Returns whether the
    /// loss lies inside of it, so that the next command is where it should be.
    pub(crate) fn salvage(
        &mut self,
        gap: Gap<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> bool {
        let is_command = self.long.is_none() && !session.is_infile;
        let (Some(header), Some(&first)) = (wire::header(gap.unread), gap.unread.get(HEADER))
        else {
            return false;
        };
        let command = Command(first);
        if !is_command || header.seq != 0 || !command.fits(header.len) {
            return false;
        }
        let Some(operation) = command.name() else {
            return false;
        };
        let seen = gap.unread.len() as u64;
        let packet = Packet {
            header,
            command,
            payload: gap
                .unread
                .get(HEADER.saturating_add(1)..)
                .unwrap_or_default(),
            at: gap.offset.saturating_sub(seen),
            is_partial: true,
        };
        self.report(&packet, operation, session, out);
        let lost = seen.saturating_add(gap.len);
        let left = header.total().checked_sub(lost);
        self.skip = left.unwrap_or(0);
        left.is_some()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.reader
            .heap_bytes()
            .saturating_add(self.scratch.capacity())
    }

    fn continue_long(
        &mut self,
        long: Long,
        header: Header,
        at: u64,
        session: &mut Session,
        out: &mut dyn Emit,
    ) {
        if let Some(slot) = long.slot {
            session.end_command(slot, header.seq.wrapping_add(1));
        }
        if header.len < MAX_PAYLOAD {
            self.long = None;
            if let Some(slot) = long.slot {
                end(slot, long.began, at.saturating_add(header.total()), out);
            }
        }
    }

    /// A packet that is not the first of its exchange: a login, or data that the server has asked
    /// for.
    fn login_or_data(
        &mut self,
        header: Header,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        if !session.awaits_login {
            session.seq = header.seq.wrapping_add(1);
            return Ok(pass(header, HEADER));
        }
        let bytes = match visible(header, MAX_LOGIN, input.bytes) {
            Ok(bytes) => bytes,
            Err(need) => return Ok(need),
        };
        let login = wire::login(bytes).ok_or(ParseError::malformed("login"))?;
        if header.len == TLS_REQUEST && login.capabilities & capability::SSL != 0 {
            return Ok(Step {
                consumed: HEADER.saturating_add(bytes.len()),
                next: Next::Upgrade(Upgrade::Tls),
            });
        }
        session.log_in(&login);
        let schema = login.schema.and_then(session::name);
        let packet = Packet {
            header,
            command: Command::CHANGE_USER,
            payload: bytes,
            at: input.offset,
            is_partial: false,
        };
        let ask = Ask {
            schema: schema.as_deref(),
            ..Ask::command("HANDSHAKE")
        };
        let effect = Effect::Login(schema.clone());
        self.whole(&packet, ask, Answer::Auth, effect, session, out);
        Ok(pass(header, HEADER.saturating_add(bytes.len())))
    }

    fn command(
        &mut self,
        header: Header,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Step, ParseError> {
        let Some(&first) = input.bytes.get(HEADER) else {
            return if header.len == 0 {
                Err(ParseError::malformed("empty command"))
            } else {
                Ok(Step::need(HEADER.saturating_add(1)))
            };
        };
        let command = Command(first);
        let Some(operation) = command.name() else {
            return Err(ParseError::malformed("command"));
        };
        if !command.fits(header.len) {
            return Err(ParseError::malformed("command length"));
        }
        let head = match (command, input.bytes.get(HEADER.saturating_add(5))) {
            // Parameters follow that may have names.
            (Command::EXECUTE, Some(flags)) if flags & 0x08 != 0 => MAX_HEAD,
            _ => command.head(),
        };
        let bytes = match visible(header, head, input.bytes) {
            Ok(bytes) => bytes,
            Err(need) => return Ok(need),
        };
        // Only a client that is logged in sends commands.
        session.awaits_login = false;
        let packet = Packet {
            header,
            command,
            payload: bytes.get(1..).unwrap_or_default(),
            at: input.offset,
            is_partial: false,
        };
        self.report(&packet, operation, session, out);
        Ok(pass(header, HEADER.saturating_add(bytes.len())))
    }

    /// Reports a command.
    fn report(
        &mut self,
        packet: &Packet<'_>,
        operation: &'static str,
        session: &mut Session,
        out: &mut dyn Emit,
    ) {
        match packet.command {
            Command::QUERY => self.query(packet, session, out),
            Command::PREPARE => self.prepare(packet, session, out),
            command if command.is_answered() => self.other(packet, operation, session, out),
            command => {
                if let (Command::CLOSE, Some(id)) = (command, id(packet.payload)) {
                    session.statements.remove(id);
                }
                if packet.is_long() {
                    self.long = Some(Long {
                        slot: None,
                        began: packet.at,
                    });
                }
            }
        }
    }

    /// A query: an exchange for each of its statements.
    fn query(&mut self, packet: &Packet<'_>, session: &mut Session, out: &mut dyn Emit) {
        let is_cut = packet.is_cut();
        let query = wire::query(packet.payload);
        let carried = query.as_ref().and_then(|query| query.traceparent);
        let carried = carried.and_then(TraceContext::from_traceparent);
        let bytes = query.map_or(&[][..], |query| query.text);
        let text = legible(bytes, &mut self.scratch);
        let prefix = packet.payload.len().saturating_sub(bytes.len());
        let prefix = prefix.saturating_add(HEADER).saturating_add(1);
        // Begins at the header for the first statement, and at the text for those behind it.
        let mut from = packet.at;
        let mut at = packet.at.saturating_add(prefix as u64);
        let mut rest = text;
        loop {
            let statement = read(&mut self.reader, rest, is_cut, session);
            let used = statement.used.max(1);
            let next = rest.get(used..).unwrap_or_default();
            let is_last = is_blank(next);
            let mut ask = Ask::of(&statement);
            ask.trace = carried.or(ask.trace);
            let (answer, mut effect) = outcome(statement.keyword, rest);
            if is_last && is_cut {
                ask.flags = Flags::TRUNCATED;
                if packet.is_partial {
                    ask.doubt();
                    effect = effect.doubt();
                }
            }
            let slot = open(from, ask, answer, effect, session, out);
            at = at.saturating_add(used as u64);
            if !is_last {
                end(slot, from, at, out);
                (from, rest) = (at, next);
                continue;
            }
            session.end_command(slot, packet.answer_seq());
            if is_cut {
                session.cut_command(slot);
            }
            return self.close(packet, slot, from, out);
        }
    }

    fn prepare(&mut self, packet: &Packet<'_>, session: &mut Session, out: &mut dyn Emit) {
        let is_cut = packet.is_cut();
        let text = legible(packet.payload, &mut self.scratch);
        let statement = self.reader.whole(text, extent(is_cut));
        let mut ask = Ask::of(&statement);
        ask.flags = cut(is_cut);
        if packet.is_partial {
            ask.doubt();
        }
        let text = Arc::new(Text::of(&ask, statement.redaction, is_cut));
        ask.operation = "PREPARE";
        session.statements.announce(Arc::clone(&text));
        let answer = Answer::Prepare(text);
        let slot = open(packet.at, ask, answer, Effect::Nothing, session, out);
        session.end_command(slot, packet.answer_seq());
        self.close(packet, slot, packet.at, out);
    }

    /// Commands that are answered, and are neither query nor prepare.
    fn other(
        &mut self,
        packet: &Packet<'_>,
        operation: &'static str,
        session: &mut Session,
        out: &mut dyn Emit,
    ) {
        let ask = Ask::command(operation);
        match packet.command {
            Command::INIT_DB | Command::CREATE_DB | Command::DROP_DB => {
                let schema = session::name(packet.payload).filter(|_| !packet.is_partial);
                let ask = Ask {
                    target: schema.as_deref().unwrap_or_default(),
                    ..ask
                };
                let effect = if packet.command == Command::INIT_DB {
                    Effect::Schema(schema.clone())
                } else {
                    Effect::Nothing
                };
                self.whole(packet, ask, Answer::Single, effect, session, out);
            }
            Command::EXECUTE | Command::BULK_EXECUTE => self.execute(packet, session, out),
            Command::FETCH => {
                let text = id(packet.payload).and_then(|id| session.statements.get(id).cloned());
                let fetched = text.as_deref().map(|text| self.execution(text));
                let ask = Ask {
                    operation,
                    ..fetched.unwrap_or_default()
                };
                self.whole(packet, ask, Answer::Rows, Effect::Nothing, session, out);
            }
            Command::CHANGE_USER => {
                let schema = wire::change_user(packet.payload).and_then(session::name);
                let effect = Effect::User(schema);
                self.whole(packet, ask, Answer::Auth, effect, session, out);
            }
            Command::SET_OPTION => {
                // It may allow several statements from now on.
                session.multi_statements = None;
                self.whole(packet, ask, Answer::Single, Effect::Nothing, session, out);
            }
            command => {
                let (answer, effect) = match command {
                    Command::FIELD_LIST => (Answer::Fields, Effect::Nothing),
                    Command::STATISTICS => (Answer::Text, Effect::Nothing),
                    Command::PROCESS_INFO => (Answer::Results, Effect::Nothing),
                    Command::BINLOG_DUMP | Command::BINLOG_DUMP_GTID => {
                        (Answer::Stream, Effect::Nothing)
                    }
                    Command::RESET_CONNECTION => (Answer::Single, Effect::Reset),
                    _ => (Answer::Single, Effect::Nothing),
                };
                self.whole(packet, ask, answer, effect, session, out);
            }
        }
    }

    fn execution<'t>(&self, text: &'t Text) -> Ask<'t> {
        Ask::execution(text, self.reader.redaction())
    }

    fn execute(&mut self, packet: &Packet<'_>, session: &mut Session, out: &mut dyn Emit) {
        let execution = wire::execution(packet.payload);
        let text = execution.and_then(|execution| session.statements.get(execution.id).cloned());
        let ask = text.as_deref().map(|text| self.execution(text));
        let mut ask = ask.unwrap_or_default();
        let names_follow = packet.command == Command::EXECUTE
            && execution.is_some_and(|execution| execution.flags & 0x08 != 0);
        if names_follow {
            let parameters = packet.payload.get(9..).unwrap_or_default();
            let carried = wire::execution_traceparent(parameters);
            ask.trace = carried.and_then(TraceContext::from_traceparent);
        }
        self.whole(packet, ask, Answer::Results, Effect::Nothing, session, out);
    }

    /// Reports a command that is one request.
    fn whole(
        &mut self,
        packet: &Packet<'_>,
        ask: Ask<'_>,
        answer: Answer,
        effect: Effect,
        session: &mut Session,
        out: &mut dyn Emit,
    ) {
        let slot = open(packet.at, ask, answer, effect, session, out);
        session.end_command(slot, packet.answer_seq());
        self.close(packet, slot, packet.at, out);
    }

    /// Ends the last request of a packet, unless its payload continues in the next.
    fn close(&mut self, packet: &Packet<'_>, slot: Slot, began: u64, out: &mut dyn Emit) {
        if packet.is_long() {
            self.long = Some(Long {
                slot: Some(slot),
                began,
            });
        } else {
            end(slot, began, packet.end(), out);
        }
    }
}

/// The payload's first `most` bytes; what is needed to see them if they are not visible.
fn visible(header: Header, most: u32, bytes: &[u8]) -> Result<&[u8], Step> {
    let end = HEADER.saturating_add(header.len.min(most) as usize);
    bytes.get(HEADER..end).ok_or(Step::need(end))
}

/// Consumes `seen` bytes of a packet and skips the others.
fn pass(header: Header, seen: usize) -> Step {
    match header.total().saturating_sub(seen as u64) {
        0 => Step::more(seen),
        rest => Step {
            consumed: seen,
            next: Next::Skip(rest),
        },
    }
}

/// The id of a prepared statement, with which a payload begins.
fn id(payload: &[u8]) -> Option<u32> {
    payload.first_chunk().map(|id| u32::from_le_bytes(*id))
}
