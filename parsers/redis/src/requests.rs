//! From client to server: commands.

use alloc::borrow::Cow;
use alloc::string::String;

use wirespan_parser_api::{
    Abandon, Attr, Emit, Event, ExchangeId, Flags, Input, Redaction, Request, Step, keys,
};

use crate::NAME;
use crate::command::{self, MAX_TARGET, Name, Role, Verb};
use crate::inline::Words;
use crate::session::{Expect, Queued, Session, Slot};
use crate::walk::Walk;
use crate::wire::{self, Stop};

/// State of the direction from client to server.
#[derive(Debug)]
pub(crate) struct Requests {
    walk: Walk,
    open: Option<Open>,
    replies: Replies,
    /// What was queued since `MULTI`.
    queued: Option<Queued>,
    /// Whether we know where commands begin. Only then can an inline command be told from data.
    in_step: bool,
    redaction: Redaction,
    /// Scratch space for the text of a command.
    text: String,
}

/// A request that has begun.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: ExchangeId,
    /// Stream offset of its first byte.
    began: u64,
    abandon: Option<Abandon>,
}

/// What `CLIENT REPLY` has set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Replies {
    On,
    Off,
    /// Off for the next command.
    SkipNext,
}

/// The beginning of a command.
#[derive(Debug)]
struct Head<'a> {
    name: Name,
    role: Role,
    /// The first argument as far as it may be shown; empty where it may not.
    first: Option<Cow<'a, [u8]>>,
    /// The second argument of `CLIENT`.
    second: Option<Cow<'a, [u8]>>,
    /// Number of arguments, the name not counted.
    arguments: u64,
}

/// A head, where it ends, and what follows.
#[derive(Debug)]
struct Begun<'a> {
    /// `None` for an empty command, which Redis ignores.
    head: Option<Head<'a>>,
    /// Bytes that the head takes; its last word may reach further than what is visible.
    used: u64,
    /// Words that follow.
    owed: u64,
}

impl Requests {
    pub(crate) const fn set_redaction(&mut self, redaction: Redaction) {
        self.redaction = redaction;
    }

    pub(crate) fn new(late_attach: bool, redaction: Redaction) -> Self {
        Self {
            walk: Walk::default(),
            open: None,
            replies: Replies::On,
            queued: None,
            in_step: !late_attach,
            redaction,
            text: String::new(),
        }
    }

    /// Reads a command, or more of one.
    pub(crate) fn parse(
        &mut self,
        input: Input<'_>,
        session: &mut Session,
        out: &mut dyn Emit,
    ) -> Result<Step, Stop> {
        let mut from = 0;
        if self.open.is_none() {
            let begun = match input.bytes.first() {
                Some(b'*') => multibulk(input.bytes, self.redaction)?,
                _ if self.in_step => inline(input.bytes)?,
                _ => return Err(Stop::malformed("command")),
            };
            self.in_step = true;
            from = begun.used;
            let Some(head) = &begun.head else {
                return Ok(Step::more(
                    usize::try_from(from).unwrap_or(input.bytes.len()),
                ));
            };
            self.walk = Walk::over_words(begun.owed);
            self.begin(head, input.offset, session, out);
        }
        let progress = self.walk.step_from(from, input.bytes).map_err(Stop::Bad)?;
        if progress.done {
            let end = input.offset.saturating_add(progress.used as u64);
            self.end(end.saturating_add(progress.skip), out);
        }
        Ok(progress.step(input.bytes.len()))
    }

    /// Forgets a command that was hit by a loss at `offset`.
    pub(crate) fn lose(&mut self, offset: u64, session: &mut Session, out: &mut dyn Emit) {
        if let Some(open) = &self.open {
            out.emit(Event::Annotate {
                id: open.id,
                flags: Flags::GAP,
                attrs: &[],
            });
            self.end(offset, out);
        }
        self.queued = None;
        self.in_step = false;
        session.lose_requests(out);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.text.capacity()
    }

    fn begin(&mut self, head: &Head<'_>, at: u64, session: &mut Session, out: &mut dyn Emit) {
        let slot = self.slot(head, session);
        let first = head.first.as_deref();
        let mut flags = slot.flags;
        if first.is_some_and(|first| first.len() > MAX_TARGET)
            && head.role.shows_first(self.redaction)
        {
            flags = flags.with(Flags::TRUNCATED);
        }
        let name = head.name.as_str();
        let target = head.role.target(first, self.redaction);
        command::write_text(&mut self.text, name, &target, head.arguments);
        let attrs: [Attr<'_>; 4] = [
            keys::DB_SYSTEM_NAME.of(NAME.0),
            keys::DB_OPERATION_NAME.of(name),
            keys::DB_QUERY_TEXT.of(&self.text),
            keys::DB_STORED_PROCEDURE_NAME.of(&target),
        ];
        let known = match head.role {
            _ if name.is_empty() => 1,
            Role::Procedure if !target.is_empty() => 4,
            _ => 3,
        };
        out.emit(Event::Request {
            id: slot.id,
            at,
            request: Request {
                protocol: NAME,
                operation: name,
                target: &target,
                trace: None,
                flags,
                attrs: attrs.get(..known).unwrap_or_default(),
            },
        });
        self.open = Some(Open {
            id: slot.id,
            began: at,
            abandon: slot.abandon,
        });
    }

    fn end(&mut self, at: u64, out: &mut dyn Emit) {
        let Some(open) = self.open.take() else { return };
        out.emit(Event::RequestEnd {
            id: open.id,
            at,
            size: at.saturating_sub(open.began),
        });
        if let Some(why) = open.abandon {
            out.emit(Event::Abandon { id: open.id, why });
        }
    }

    /// Numbers a command, by whether it is answered.
    fn slot(&mut self, head: &Head<'_>, session: &mut Session) -> Slot {
        let (expect, answered) = if self.queued.is_some() {
            (self.queue(head), self.answered())
        } else {
            self.expect(head)
        };
        if answered {
            session.request(expect)
        } else {
            session.one_way(expect)
        }
    }

    /// What is to be expected of a command outside of `MULTI`, and whether it is answered.
    fn expect(&mut self, head: &Head<'_>) -> (Option<Expect>, bool) {
        let expect = match head.role {
            Role::Client => return (None, self.client(head)),
            Role::Multi => {
                self.queued = Some(Queued::default());
                None
            }
            Role::Hello => Some(Expect::Hello),
            Role::Monitor => Some(Expect::Monitor),
            Role::Select => database(head).map(Expect::Select),
            Role::Sync => Some(Expect::Sync),
            // Both are answered whatever CLIENT REPLY says (seen with Redis 7.0).
            Role::Reset => {
                self.replies = Replies::On;
                return (Some(Expect::Reset), true);
            }
            Role::Subscription(verb) => {
                let _ = self.answered();
                return (Some(Expect::Confirmations(verb, head.arguments)), true);
            }
            _ => None,
        };
        (expect, self.answered())
    }

    /// What is to be expected of a command inside of `MULTI`: nothing before `EXEC`.
    fn queue(&mut self, head: &Head<'_>) -> Option<Expect> {
        let queued = self.queued.as_mut()?;
        match head.role {
            Role::Select => queued.database = database(head).or(queued.database),
            Role::Subscription(Verb::Subscribe(_)) => queued.subscribes = true,
            Role::Exec => {
                let queued = self
                    .queued
                    .take()
                    .filter(|queued| *queued != Queued::default());
                return queued.map(Expect::Exec);
            }
            Role::Discard => self.queued = None,
            Role::Reset => {
                self.queued = None;
                self.replies = Replies::On;
                return Some(Expect::Reset);
            }
            _ => {}
        }
        None
    }

    /// Does what `CLIENT REPLY` asks for; whether this command is answered.
    fn client(&mut self, head: &Head<'_>) -> bool {
        let is = |word: &Option<Cow<'_, [u8]>>, what: &str| {
            word.as_deref()
                .is_some_and(|word| word.eq_ignore_ascii_case(what.as_bytes()))
        };
        if head.arguments != 2 || !is(&head.first, "REPLY") {
            return self.answered();
        }
        if is(&head.second, "ON") {
            self.replies = Replies::On;
            true
        } else if is(&head.second, "OFF") {
            self.replies = Replies::Off;
            false
        } else if is(&head.second, "SKIP") {
            if self.replies == Replies::On {
                self.replies = Replies::SkipNext;
            }
            false
        } else {
            self.answered()
        }
    }

    /// Whether an ordinary command is answered now.
    fn answered(&mut self) -> bool {
        match self.replies {
            Replies::On => true,
            Replies::Off => false,
            Replies::SkipNext => {
                self.replies = Replies::On;
                false
            }
        }
    }
}

/// The index that `SELECT` names.
fn database(head: &Head<'_>) -> Option<u32> {
    core::str::from_utf8(head.first.as_deref()?)
        .ok()?
        .parse()
        .ok()
}

/// Reads the beginning of a command that is sent as an array of bulk strings.
fn multibulk(bytes: &[u8], redaction: Redaction) -> Result<Begun<'_>, Stop> {
    let (words, used) = wire::words(bytes)?;
    let mut begun = Begun {
        head: None,
        used: used as u64,
        owed: words,
    };
    if words == 0 {
        return Ok(begun);
    }
    let name = Name::new(begun.word(bytes, Name::MAX.saturating_add(1))?);
    let role = Role::of(&name);
    let arguments = begun.owed;
    let mut first: Option<&[u8]> = (arguments > 0).then_some(b"");
    let mut second = None;
    if arguments > 0 && !name.as_bytes().is_empty() && role.shows_first(redaction) {
        first = Some(begun.word(bytes, MAX_TARGET.saturating_add(1))?);
        if role == Role::Client && arguments == 2 {
            second = Some(begun.word(bytes, "SKIP".len())?);
        }
    }
    begun.head = Some(Head {
        name,
        role,
        first: first.map(Cow::Borrowed),
        second: second.map(Cow::Borrowed),
        arguments,
    });
    begun.pass_whole_words(bytes);
    Ok(begun)
}

impl<'a> Begun<'a> {
    /// Passes over the words that lie wholly in `bytes`; only the others need a walk.
    fn pass_whole_words(&mut self, bytes: &[u8]) {
        while self.owed > 0
            && let Ok(used) = usize::try_from(self.used)
            && let Some((n, len)) = bytes.get(used..).and_then(|rest| wire::word(rest).ok())
            && let end = n.saturating_add(2).saturating_add(len as u64)
            && let end = self.used.saturating_add(end)
            && end <= bytes.len() as u64
        {
            self.used = end;
            self.owed = self.owed.saturating_sub(1);
        }
    }

    /// Reads a word, of which at most `max` bytes need to be visible.
    fn word(&mut self, bytes: &'a [u8], max: usize) -> Result<&'a [u8], Stop> {
        let rest = usize::try_from(self.used)
            .ok()
            .and_then(|used| bytes.get(used..))
            .ok_or(Stop::Short)?;
        let (len, used) = wire::word(rest)?;
        let seen = usize::try_from(len).unwrap_or(usize::MAX).min(max);
        let text = rest.get(used..).and_then(|text| text.get(..seen));
        let text = text.ok_or(Stop::Short)?;
        let whole = len.saturating_add(2).saturating_add(used as u64);
        self.used = self.used.saturating_add(whole);
        self.owed = self.owed.saturating_sub(1);
        Ok(text)
    }
}

/// Reads a command that is sent as a line of words.
fn inline(bytes: &[u8]) -> Result<Begun<'_>, Stop> {
    let (line, used) = wire::inline(bytes)?;
    let mut words = Words::new(line);
    let head = words.next().map(|name| {
        let name = Name::new(&name.unwrap_or_default());
        // Redis refuses a line with unbalanced quotes: then there are no arguments.
        let rest: Result<(), _> = words.clone().try_for_each(|word| word.map(|_| ()));
        let arguments = rest.map_or(0, |()| words.clone().count());
        let mut words = words.take(arguments).filter_map(Result::ok);
        Head {
            name,
            role: Role::of(&name),
            first: words.next(),
            second: words.next(),
            arguments: arguments as u64,
        }
    });
    Ok(Begun {
        head,
        used: used as u64,
        owed: 0,
    })
}
