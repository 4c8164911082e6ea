//! What both directions share: pairing, what the requests in flight expect, and what the
//! connection has agreed on.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::sync::Arc;

use wirespan_parser_api::{Attr, Direction, Emit, ExchangeId, Fifo, Flags, StrKey, keys};

use crate::statements::{Statements, Text};
use crate::wire::{Greeting, Login, capability};

/// SQLSTATE of an error; there is no semantic convention for it.
pub(crate) const SQLSTATE: StrKey = StrKey("wirespan.mysql.sqlstate");

/// The form of a response.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// OK, EOF or ERR.
    Single,
    /// Results: each a result set, OK or ERR.
    Results,
    /// Results of a procedure: any number of result sets, then OK.
    Call,
    /// What there is to know of a statement that is prepared.
    Prepare(Arc<Text>),
    /// Column definitions.
    Fields,
    /// Rows.
    Rows,
    /// One packet of text.
    Text,
    /// Any number of packets that ask for more, then OK.
    Auth,
    /// Packets without end.
    Stream,
}

/// What a success changes.
#[derive(Clone, Debug, Default)]
pub(crate) enum Effect {
    /// Nothing.
    #[default]
    Nothing,
    /// The schema.
    Schema(Option<Box<str>>),
    /// Prepared statements are gone.
    Reset,
    /// The same, and the schema is another.
    User(Option<Box<str>>),
    /// Begins the connection, compressed perhaps.
    Login(Option<Box<str>>),
}

impl Effect {
    /// The same where it is not known to what it changes.
    pub(crate) fn doubt(self) -> Self {
        match self {
            Self::Schema(_) => Self::Schema(None),
            effect => effect,
        }
    }
}

/// A request in flight.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) id: ExchangeId,
    pub(crate) answer: Answer,
    pub(crate) effect: Effect,
    /// Sequence id with which its response begins, if it is the first statement of its command.
    pub(crate) seq: u8,
    /// Whether it is the last statement of its command.
    pub(crate) is_last: bool,
    /// Whether statements may follow all the same, in a text that was not seen to its end.
    pub(crate) is_cut: bool,
}

/// How a request is numbered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) id: ExchangeId,
    pub(crate) flags: Flags,
    /// Whether no response will be given to it.
    pub(crate) is_lost: bool,
}

/// What both directions share.
#[derive(Debug)]
pub(crate) struct Session {
    fifo: Fifo,
    pending: VecDeque<Pending>,
    max_pending: usize,
    /// The schema, as far as the responses have come; `None` when there is none or it is not known.
    pub(crate) schema: Option<Box<str>>,
    system: &'static str,
    /// Whether a query may be several statements; `None` when not known.
    pub(crate) multi_statements: Option<bool>,
    /// Whether there are no EOF packets behind definitions; `None` when not known.
    pub(crate) deprecate_eof: Option<bool>,
    pub(crate) statements: Statements,
    /// Whether the client sends a file.
    pub(crate) is_infile: bool,
    /// Whether the client has yet to log in.
    pub(crate) awaits_login: bool,
    server_capabilities: u32,
    client_capabilities: u32,
    /// Next sequence id of the exchange that is being answered.
    pub(crate) seq: u8,
    /// Whether packets come in frames: when login has succeeded and the client has asked for it.
    pub(crate) is_compressed: bool,
    /// Whether the login was missed, and nothing shows yet whether it has asked for compression.
    compression_unknown: bool,
    /// Flags of every request.
    flags: Flags,
}

impl Session {
    pub(crate) fn new(late_attach: bool, max_pending: usize) -> Self {
        Self {
            fifo: Fifo::new(late_attach),
            pending: VecDeque::new(),
            max_pending,
            schema: None,
            system: "mysql",
            multi_statements: None,
            deprecate_eof: None,
            statements: Statements::default(),
            is_infile: false,
            awaits_login: !late_attach,
            server_capabilities: u32::MAX,
            client_capabilities: 0,
            seq: 0,
            is_compressed: false,
            compression_unknown: late_attach,
            flags: Flags::NONE,
        }
    }

    /// Whether packets may be compressed although no login has said so.
    pub(crate) const fn may_be_compressed(&self) -> bool {
        self.compression_unknown
    }

    /// Packets look compressed.
    pub(crate) fn assume_compression(&mut self) {
        self.is_compressed = true;
        self.compression_unknown = false;
        self.flags = Flags::GUESSED;
    }

    /// The server greets: the connection begins.
    pub(crate) fn greet(&mut self, greeting: &Greeting) {
        self.compression_unknown = false;
        self.system = if greeting.is_mariadb {
            "mariadb"
        } else {
            "mysql"
        };
        self.server_capabilities = greeting.capabilities;
        self.awaits_login = true;
    }

    /// The client answers the greeting.
    pub(crate) fn log_in(&mut self, login: &Login<'_>) {
        let agreed = login.capabilities & self.server_capabilities;
        self.client_capabilities = agreed;
        self.multi_statements = Some(agreed & capability::MULTI_STATEMENTS != 0);
        self.deprecate_eof = Some(agreed & capability::DEPRECATE_EOF != 0);
        self.awaits_login = false;
    }

    /// Numbers a request that is answered.
    pub(crate) fn request(
        &mut self,
        answer: Answer,
        effect: Effect,
        seq: u8,
        out: &mut dyn Emit,
    ) -> Slot {
        if self.pending.len() >= self.max_pending {
            self.lose_replies(out);
        }
        let ticket = self.fifo.request();
        if ticket.pairable {
            self.pending.push_back(Pending {
                id: ticket.id,
                answer,
                effect,
                seq,
                is_last: false,
                is_cut: false,
            });
        } else {
            self.miss(&effect);
        }
        Slot {
            id: ticket.id,
            flags: if ticket.guessed {
                Flags::GUESSED
            } else {
                self.flags
            },
            is_lost: !ticket.pairable,
        }
    }

    /// The request numbered last was the last of its command, and ended with the packet before
    /// sequence id `seq`.
    pub(crate) fn end_command(&mut self, slot: Slot, seq: u8) {
        if let Some(last) = self.pending.back_mut()
            && last.id == slot.id
        {
            last.is_last = true;
            last.seq = seq;
        }
    }

    /// The text of the request numbered last was not seen to its end.
    pub(crate) fn cut_command(&mut self, slot: Slot) {
        if let Some(last) = self.pending.back_mut()
            && last.id == slot.id
        {
            last.is_cut = true;
        }
    }

    /// An exchange that the server begins and ends.
    pub(crate) fn unasked(&mut self) -> ExchangeId {
        let ticket = self.fifo.request();
        let _ = self.fifo.response();
        ticket.id
    }

    /// The request that a beginning response answers; `None` if it answers none we can name.
    pub(crate) fn response(&mut self) -> Option<Pending> {
        self.compression_unknown = false;
        let id = self.fifo.response()?;
        while self.pending.pop_front_if(|first| first.id < id).is_some() {}
        self.pending.pop_front_if(|first| first.id == id)
    }

    /// The request that the next response will answer.
    pub(crate) fn next(&self) -> Option<&Pending> {
        self.pending.front()
    }

    /// A packet came before the next response, which so begins with sequence id `seq`.
    pub(crate) fn postpone(&mut self, seq: u8) {
        if let Some(next) = self.pending.front_mut() {
            next.seq = seq;
        }
    }

    /// Number of commands that await a response.
    pub(crate) fn commands_in_flight(&self) -> usize {
        self.pending.iter().filter(|one| one.is_last).count()
    }

    /// Notes that requests may have been lost.
    pub(crate) fn lose_requests(&mut self, out: &mut dyn Emit) {
        self.schema = None;
        self.is_infile = false;
        self.multi_statements = self.multi_statements.filter(|is_on| *is_on);
        self.statements.forget_latest();
        self.fifo.gap(Direction::ToServer, out);
    }

    /// Notes that responses may have been lost.
    pub(crate) fn lose_replies(&mut self, out: &mut dyn Emit) {
        while let Some(lost) = self.pending.pop_front() {
            self.miss(&lost.effect);
        }
        self.fifo.gap(Direction::ToClient, out);
    }

    /// Gives up what the outcome of a request would have told.
    pub(crate) fn miss(&mut self, effect: &Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Schema(_) => self.schema = None,
            Effect::Reset | Effect::User(_) | Effect::Login(_) => {
                self.schema = None;
                self.statements.clear();
            }
        }
    }

    /// Does what a success changes.
    pub(crate) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Schema(schema) => self.schema = schema,
            Effect::Reset => self.statements.clear(),
            Effect::User(schema) => {
                self.statements.clear();
                self.schema = schema;
            }
            Effect::Login(schema) => {
                self.schema = schema;
                // A frame tells by which of the two it is compressed.
                self.is_compressed =
                    self.client_capabilities & (capability::COMPRESS | capability::ZSTD) != 0;
            }
        }
    }

    /// Whether a packet of the server's is not the next one. Compressed packets number anew.
    pub(crate) const fn is_out_of_sequence(&self, seq: u8) -> bool {
        !self.is_compressed && seq != self.seq
    }

    /// Attributes that every request has.
    pub(crate) fn attrs(&self) -> Attrs<'_> {
        let mut attrs = Attrs::default();
        attrs.push(keys::DB_SYSTEM_NAME.of(self.system));
        if let Some(schema) = self.schema.as_deref() {
            attrs.push(keys::DB_NAMESPACE.of(schema));
        }
        attrs
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let pending = self.pending.capacity();
        let pending = pending.saturating_mul(size_of::<Pending>());
        pending
            .saturating_add(self.fifo.heap_bytes())
            .saturating_add(self.statements.heap_bytes())
            .saturating_add(self.schema.as_ref().map_or(0, |schema| schema.len()))
    }
}

/// A few attributes, on the stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attrs<'a> {
    /// The first `len` count.
    list: [Attr<'a>; 5],
    len: usize,
}

impl Default for Attrs<'_> {
    fn default() -> Self {
        Self {
            list: [keys::DB_SYSTEM_NAME.of(""); 5],
            len: 0,
        }
    }
}

impl<'a> Attrs<'a> {
    pub(crate) fn push(&mut self, attr: Attr<'a>) {
        if let Some(slot) = self.list.get_mut(self.len) {
            *slot = attr;
            self.len = self.len.saturating_add(1);
        }
    }

    pub(crate) fn as_slice(&self) -> &[Attr<'a>] {
        self.list.get(..self.len).unwrap_or_default()
    }
}

/// A name from the wire, fit for records.
pub(crate) fn name(bytes: &[u8]) -> Option<Box<str>> {
    let name = String::from_utf8_lossy(bytes);
    (!name.is_empty()).then(|| name.into_owned().into_boxed_str())
}
