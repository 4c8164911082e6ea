//! From server to client: replies and pushes.

use alloc::string::ToString as _;

use wirespan_parser_api::{
    Abandon, Emit, Event, ExchangeId, Flags, Input, Next, Outcome, ParseError, Response, Step, keys,
};

use crate::command::{Topic, Verb};
use crate::session::{Expect, Queued, Session};
use crate::walk::Walk;
use crate::wire::{self, Item, MAX_LINE, Stop};

/// State of the direction from server to client.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    walk: Walk,
    current: Current,
    /// Stream offset of the first byte of the message being read, its attributes included.
    began: Option<u64>,
    confirming: Option<Confirming>,
    subscriptions: Subscriptions,
    /// Whether pushes are told apart by their type.
    resp3: bool,
    /// Whether the lines of MONITOR come in.
    monitoring: bool,
    /// Whether replies may have been passed over since the last one that was read.
    adrift: bool,
}

/// What is being walked over.
#[derive(Clone, Copy, Debug, Default)]
enum Current {
    /// Nothing: a value begins next.
    #[default]
    Nothing,
    /// Attributes of the value that follows.
    Attribute,
    /// A reply; `None` to a request that cannot be named.
    Reply(Option<ExchangeId>),
    /// The confirmation of one topic.
    Confirmation(Verb),
    /// Any other push.
    Push,
}

/// A request that is being answered with confirmations.
#[derive(Clone, Copy, Debug)]
struct Confirming {
    id: ExchangeId,
    verb: Verb,
    began: u64,
    /// Confirmations still to come.
    left: u64,
}

/// What the client is subscribed to, by what the server has confirmed.
#[derive(Clone, Copy, Debug, Default)]
struct Subscriptions {
    channels: u64,
    patterns: u64,
    shards: u64,
}

impl Subscriptions {
    /// Takes a confirmation, which tells the number of channels and patterns together, or of
    /// shard channels.
    fn confirm(&mut self, topic: Topic, total: i64) {
        let total = u64::try_from(total).unwrap_or(0);
        match topic {
            Topic::Channels => self.channels = total.saturating_sub(self.patterns),
            Topic::Patterns => self.patterns = total.saturating_sub(self.channels),
            Topic::Shards => self.shards = total,
        }
        if topic != Topic::Shards && total == 0 {
            (self.channels, self.patterns) = (0, 0);
        }
    }

    const fn of(&self, topic: Topic) -> u64 {
        match topic {
            Topic::Channels => self.channels,
            Topic::Patterns => self.patterns,
            Topic::Shards => self.shards,
        }
    }

    const fn any(&self) -> bool {
        self.channels > 0 || self.patterns > 0 || self.shards > 0
    }

    /// There is a subscription that was not seen confirmed.
    fn assume(&mut self) {
        self.channels = self.channels.max(1);
    }
}

impl Replies {
    /// Reads a reply, or more of one.
    pub(crate) fn parse(
        &mut self,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Step, Stop> {
        let mut from = 0;
        if matches!(self.current, Current::Nothing) {
            if session.next_expected() == Some(Expect::Sync)
                && let Some(step) = self.replication(input, session, out)?
            {
                return Ok(step);
            }
            from = self.begin(input, session, out)?;
        }
        let progress = self.walk.step_from(from, input.bytes).map_err(Stop::Bad)?;
        if progress.done {
            let end = input.offset.saturating_add(progress.used as u64);
            self.end(end.saturating_add(progress.skip), out);
        }
        Ok(progress.step(input.bytes.len()))
    }

    /// Forgets a message that was hit by a loss.
    pub(crate) fn lose(&mut self, session: &mut Session, out: &mut dyn Emit) {
        let hit = match (self.current, self.confirming.take()) {
            (Current::Reply(id), None) => id,
            (_, confirming) => confirming.map(|confirming| confirming.id),
        };
        if let Some(id) = hit {
            out.emit(Event::Annotate {
                id,
                flags: Flags::GAP,
                attrs: &[],
            });
            out.emit(Event::Abandon {
                id,
                why: Abandon::Lost,
            });
        }
        self.current = Current::Nothing;
        self.began = None;
        self.adrift = true;
        if session.lose_replies(hit.is_some(), out) {
            self.subscriptions.assume();
        }
    }

    /// Begins a message, or its attributes: returns the bytes of it that are done with.
    fn begin(
        &mut self,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<u64, Stop> {
        let bytes = input.bytes;
        let (item, used) = wire::item(bytes)?;
        let at = self.began.unwrap_or(input.offset);
        let mut max_line = MAX_LINE as u64;
        if let Item::Attribute(values) = item {
            self.began = Some(at);
            self.current = Current::Attribute;
            self.walk = Walk::over_values(values, max_line);
            return Ok(used as u64);
        }
        match self.push(bytes, item, session)? {
            Some(Pushed::Confirmation(verb)) => self.confirmation(verb, at, session, out),
            Some(Pushed::Other(kind)) => {
                if kind == MONITOR {
                    // Shows a command with all its arguments, so it may be as long as they are.
                    max_line = u64::MAX;
                }
                self.resp3 |= bytes.first() == Some(&b'>');
                out.emit(Event::Push { at, kind });
                self.current = Current::Push;
            }
            None => self.reply(bytes, item, used, at, session, out)?,
        }
        self.began = Some(at);
        if let Some(len) = wire::whole(bytes, item, used) {
            self.walk = Walk::default();
            return Ok(len as u64);
        }
        // The walk reads the item again: it is short, and only its beginning.
        self.walk = Walk::over_values(1, max_line);
        Ok(0)
    }

    fn end(&mut self, at: u64, out: &mut dyn Emit) {
        let began = self.began.unwrap_or(at);
        match core::mem::take(&mut self.current) {
            // The value that they describe follows, and belongs to the same message.
            Current::Attribute => return,
            Current::Reply(Some(id)) => out.emit(Event::ResponseEnd {
                id,
                at,
                size: at.saturating_sub(began),
            }),
            Current::Confirmation(verb) => {
                self.subscriptions.confirm(verb.topic(), self.walk.integer);
                if let Some(confirming) = &mut self.confirming
                    && confirming.verb == verb
                {
                    confirming.left = confirming.left.saturating_sub(1);
                    if confirming.left == 0 {
                        self.end_confirming(at, out);
                    }
                }
            }
            Current::Reply(None) | Current::Push | Current::Nothing => {}
        }
        self.began = None;
    }

    fn end_confirming(&mut self, at: u64, out: &mut dyn Emit) {
        if let Some(confirming) = self.confirming.take() {
            out.emit(Event::ResponseEnd {
                id: confirming.id,
                at,
                size: at.saturating_sub(confirming.began),
            });
        }
    }

    /// Whether the message that begins is a push, and which.
    fn push(&self, bytes: &[u8], item: Item, session: &Session) -> Result<Option<Pushed>, Stop> {
        match bytes.first() {
            Some(b'>') => {
                let word = wire::announcement(bytes)?.unwrap_or_default();
                return Ok(Some(Pushed::of(word).unwrap_or(Pushed::Other("push"))));
            }
            Some(b'+') if self.monitoring || session.in_flight() == 0 => {
                let is_line = wire::is_monitor_line(bytes)?;
                return Ok(is_line.then_some(Pushed::Other(MONITOR)));
            }
            Some(b'*') if !self.resp3 => {}
            _ => return Ok(None),
        }
        // In RESP2 a push looks like any array. It is one when it says so, and when there is reason
        // to expect one: a subscription, or no request that it could answer.
        let expected = self.confirming.is_some()
            || self.subscriptions.any()
            || session.in_flight() == 0
            || matches!(session.next_expected(), Some(Expect::Confirmations(..)));
        if !expected || !matches!(item, Item::Aggregate(3 | 4)) {
            return Ok(None);
        }
        Ok(wire::announcement(bytes)?.and_then(Pushed::of))
    }

    /// Begins the confirmation of one topic.
    fn confirmation(&mut self, verb: Verb, at: u64, session: &mut Session, out: &mut dyn Emit) {
        self.current = Current::Confirmation(verb);
        if self
            .confirming
            .is_some_and(|confirming| confirming.verb == verb)
        {
            return;
        }
        match session.next_expected() {
            Some(Expect::Confirmations(expected, topics)) if expected == verb => {
                self.end_confirming(at, out);
                let Some((id, _)) = session.response() else {
                    return;
                };
                respond(id, at, None, session, out);
                self.confirming = Some(Confirming {
                    id,
                    verb,
                    began: at,
                    // Without arguments: all that there are, and one if there is none.
                    left: match topics {
                        0 => self.subscriptions.of(verb.topic()).max(1),
                        n => n,
                    },
                });
            }
            _ => out.emit(Event::Push {
                at,
                kind: verb.name(),
            }),
        }
    }

    /// Begins a reply.
    fn reply(
        &mut self,
        bytes: &[u8],
        item: Item,
        used: usize,
        at: u64,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<(), Stop> {
        let text = bytes.get(used..).unwrap_or_default();
        let error = match (bytes.first(), item) {
            (Some(b'-'), _) => Some(wire::error_code(text, None)?),
            (Some(b'!'), Item::Bulk(len)) => Some(wire::error_code(text, Some(len))?),
            _ => None,
        };
        self.end_confirming(at, out);
        // Requests of which some may have been answered while no boundary was found.
        if core::mem::take(&mut self.adrift)
            && session.in_flight() > 1
            && session.lose_replies(false, out)
        {
            self.subscriptions.assume();
        }
        let Some((id, expect)) = session.response() else {
            out.emit(Event::Orphan { at });
            self.current = Current::Reply(None);
            return Ok(());
        };
        if let (Some(expect), None) = (expect, error) {
            self.apply(expect, item, bytes.first() == Some(&b'%'), session);
        }
        respond(id, at, error, session, out);
        self.current = Current::Reply(Some(id));
        Ok(())
    }

    /// Does what a command was expected to do when it succeeds.
    fn apply(&mut self, expect: Expect, item: Item, is_map: bool, session: &mut Session) {
        match expect {
            Expect::Select(database) => session.database = Some(database.to_string()),
            // Null when a watched key was touched: then nothing was done.
            Expect::Exec(queued) if matches!(item, Item::Aggregate(_)) => {
                let Queued {
                    database,
                    subscribes,
                } = queued;
                if let Some(database) = database {
                    session.database = Some(database.to_string());
                }
                if subscribes {
                    self.subscriptions.assume();
                }
            }
            Expect::Hello => self.resp3 = is_map,
            Expect::Monitor => self.monitoring = true,
            Expect::Reset => {
                session.database = Some(0.to_string());
                self.subscriptions = Subscriptions::default();
                self.resp3 = false;
                self.monitoring = false;
            }
            Expect::Exec(_) | Expect::Confirmations(..) | Expect::Sync => {}
        }
    }

    /// Reads the reply to `SYNC` or `PSYNC`. Unless it is an error, what follows is no longer a
    /// dialogue: a snapshot, and then the commands that the master sends to its replica.
    fn replication(
        &self,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Option<Step>, Stop> {
        match input.bytes {
            // Keeps the connection alive until the snapshot is ready.
            [b'\n', ..] => {
                let blank = input.bytes.iter().take_while(|b| **b == b'\n').count();
                return Ok(Some(Step::more(blank)));
            }
            [b'+' | b'$', ..] => {}
            _ => return Ok(None),
        }
        let Some(len) = wire::line(input.bytes)? else {
            return Err(if input.bytes.len() < MAX_LINE {
                Stop::Short
            } else {
                Stop::Bad(ParseError::too_large("line"))
            });
        };
        if let Some((id, _)) = session.response() {
            respond(id, input.offset, None, session, out);
            out.emit(Event::ResponseEnd {
                id,
                at: input.offset.saturating_add(len as u64),
                size: len as u64,
            });
        }
        Ok(Some(Step {
            consumed: len,
            next: Next::Stop,
        }))
    }
}

/// Kind of the lines of MONITOR.
const MONITOR: &str = "monitor";

/// What a push says that it is.
#[derive(Clone, Copy, Debug)]
enum Pushed {
    Confirmation(Verb),
    Other(&'static str),
}

impl Pushed {
    const KINDS: [&'static str; 5] = [
        "message",
        "pmessage",
        "smessage",
        "invalidate",
        "tracking-redir-broken",
    ];

    fn of(word: &[u8]) -> Option<Self> {
        if let Some(verb) = Verb::of(word) {
            return Some(Self::Confirmation(verb));
        }
        let mut kinds = Self::KINDS.into_iter();
        kinds.find(|kind| kind.as_bytes() == word).map(Self::Other)
    }
}

/// Reports the response to a request; `error` is its code.
fn respond(id: ExchangeId, at: u64, error: Option<&str>, session: &Session, out: &mut dyn Emit) {
    let database = session.database.as_deref();
    let namespace = database.map(|database| keys::DB_NAMESPACE.of(database));
    let code = error.map(|code| keys::DB_RESPONSE_STATUS_CODE.of(code));
    let (attrs, len) = match (namespace, code) {
        (Some(namespace), Some(code)) => ([namespace, code], 2),
        (Some(attr), None) | (None, Some(attr)) => ([attr, attr], 1),
        (None, None) => ([keys::DB_NAMESPACE.of(""); 2], 0),
    };
    out.emit(Event::Response {
        id,
        at,
        response: Response {
            status: error.unwrap_or("OK"),
            outcome: if error.is_some() {
                Outcome::Error
            } else {
                Outcome::Ok
            },
            flags: Flags::NONE,
            attrs: attrs.get(..len).unwrap_or_default(),
        },
    });
}
