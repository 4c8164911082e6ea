//! What both directions share: pairing, and what the requests in flight will change.

use alloc::collections::VecDeque;
use alloc::string::{String, ToString as _};

use wirespan_parser_api::{Abandon, Direction, Emit, ExchangeId, Fifo, Flags};

use crate::command::Verb;

/// A request in flight whose reply changes the connection, or is not of the usual form.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Expect {
    /// `EXEC`.
    Exec(Queued),
    /// `HELLO`.
    Hello,
    /// `MONITOR`.
    Monitor,
    /// `RESET`.
    Reset,
    /// `SELECT` of this database.
    Select(u32),
    /// One confirmation for each topic; of all topics when none is named.
    Confirmations(Verb, u64),
    /// `SYNC` or `PSYNC`.
    Sync,
}

/// What the commands since `MULTI` will change.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Queued {
    /// The database that they select.
    pub(crate) database: Option<u32>,
    /// Whether they subscribe.
    pub(crate) subscribes: bool,
}

/// How a request is numbered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) id: ExchangeId,
    pub(crate) flags: Flags,
    /// Set where no reply will be given to it.
    pub(crate) abandon: Option<Abandon>,
}

/// What both directions share.
#[derive(Debug)]
pub(crate) struct Session {
    fifo: Fifo,
    /// By rising id, a subset of the requests in flight.
    expected: VecDeque<(ExchangeId, Expect)>,
    max_expected: usize,
    /// Index of the selected database, as far as the replies have come; `None` when not known.
    pub(crate) database: Option<String>,
}

impl Session {
    pub(crate) fn new(late_attach: bool, max_expected: usize) -> Self {
        Self {
            fifo: Fifo::new(late_attach),
            expected: VecDeque::new(),
            max_expected,
            database: (!late_attach).then(|| 0.to_string()),
        }
    }

    /// Numbers a request that is answered.
    pub(crate) fn request(&mut self, expect: Option<Expect>) -> Slot {
        let ticket = self.fifo.request();
        if let Some(expect) = expect {
            if ticket.pairable && self.expected.len() < self.max_expected {
                self.expected.push_back((ticket.id, expect));
            } else {
                self.miss(expect);
            }
        }
        Slot {
            id: ticket.id,
            flags: if ticket.guessed {
                Flags::GUESSED
            } else {
                Flags::NONE
            },
            abandon: (!ticket.pairable).then_some(Abandon::Lost),
        }
    }

    /// Numbers a request that is not answered.
    pub(crate) fn one_way(&mut self, expect: Option<Expect>) -> Slot {
        if let Some(expect) = expect {
            self.miss(expect);
        }
        Slot {
            id: self.fifo.one_way(),
            flags: Flags::NONE,
            abandon: Some(Abandon::OneWay),
        }
    }

    /// Names the request that a beginning reply answers, and what was expected of it.
    pub(crate) fn response(&mut self) -> Option<(ExchangeId, Option<Expect>)> {
        let id = self.fifo.response()?;
        while self
            .expected
            .pop_front_if(|(first, _)| *first < id)
            .is_some()
        {}
        let expect = self.expected.pop_front_if(|(first, _)| *first == id);
        Some((id, expect.map(|(_, expect)| expect)))
    }

    /// What is expected of the next reply, if it is anything special.
    pub(crate) fn next_expected(&self) -> Option<Expect> {
        if self.expected.is_empty() {
            return None;
        }
        let id = self.fifo.peek()?;
        let next = self.expected.iter().find(|(first, _)| *first >= id)?;
        (next.0 == id).then_some(next.1)
    }

    /// Number of requests that are known to await a reply.
    pub(crate) const fn in_flight(&self) -> u64 {
        self.fifo.in_flight()
    }

    /// Notes that requests may have been lost.
    pub(crate) fn lose_requests(&mut self, out: &mut dyn Emit) {
        self.database = None;
        self.fifo.gap(Direction::ToServer, out);
    }

    /// Notes that replies may have been lost, and part of one that had begun when `hit`.
    /// Returns whether one of them may have been the confirmation of a subscription.
    pub(crate) fn lose_replies(&mut self, hit: bool, out: &mut dyn Emit) -> bool {
        // The rest of a large array looks like many replies: with others in flight, counting
        // replies proves nothing, no more than after a loss of requests.
        let uncountable = self.fifo.in_flight().saturating_add(u64::from(hit)) > 1;
        self.fifo.gap(Direction::ToClient, out);
        if uncountable {
            self.fifo.gap(Direction::ToServer, out);
        }
        let mut subscribes = false;
        while let Some((_, expect)) = self.expected.pop_front() {
            self.miss(expect);
            subscribes |= matches!(
                expect,
                Expect::Confirmations(Verb::Subscribe(_), _)
                    | Expect::Exec(Queued {
                        subscribes: true,
                        ..
                    })
            );
        }
        subscribes
    }

    /// Gives up what the outcome of a request would have told.
    fn miss(&mut self, expect: Expect) {
        if matches!(
            expect,
            Expect::Select(_)
                | Expect::Reset
                | Expect::Exec(Queued {
                    database: Some(_),
                    ..
                })
        ) {
            self.database = None;
        }
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.expected
            .capacity()
            .saturating_mul(size_of::<(ExchangeId, Expect)>())
            .saturating_add(self.database.as_ref().map_or(0, String::capacity))
            .saturating_add(self.fifo.heap_bytes())
    }
}
