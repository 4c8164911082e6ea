//! What is said of a request, and how it is reported.

use wirespan_parser_api::{
    Abandon, Emit, Event, ExchangeId, Flags, Redaction, Request, TraceContext, keys,
};
use wirespan_sql::Statement;

use crate::NAME;
use crate::session::{Answer, Effect, Session, Slot};
use crate::statements::Text;

/// Bytes of a target that appear in records.
const MAX_TARGET: usize = 4_096;

/// What is said of a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) operation: &'a str,
    pub(crate) target: &'a str,
    pub(crate) summary: &'a str,
    /// The statement, if there is one; the target, unless more of it is lost than shows.
    pub(crate) text: &'a str,
    pub(crate) trace: Option<TraceContext<'a>>,
    pub(crate) flags: Flags,
    /// The schema of a login.
    pub(crate) schema: Option<&'a str>,
}

impl<'a> Ask<'a> {
    pub(crate) fn of(statement: &Statement<'a>) -> Self {
        Self {
            operation: statement.keyword,
            target: statement.text,
            summary: statement.summary,
            text: statement.text,
            trace: statement.trace,
            ..Self::default()
        }
    }

    pub(crate) fn execution(text: &'a Text, redaction: Redaction) -> Self {
        let shown = text.text(redaction);
        Self {
            operation: &text.keyword,
            target: shown,
            summary: &text.summary,
            text: shown,
            flags: cut(text.is_cut),
            ..Self::default()
        }
    }

    /// The statement's end was lost: what it might have been part of is not known.
    pub(crate) fn doubt(&mut self) {
        if self.text.trim_ascii().len() <= self.operation.len() {
            self.operation = "";
        }
        if self.target.len() <= MAX_TARGET {
            self.target = "";
        }
        self.summary = "";
        self.trace = None;
    }

    pub(crate) fn command(operation: &'a str) -> Self {
        Self {
            operation,
            ..Self::default()
        }
    }
}

/// Reports that a request begins.
pub(crate) fn open(
    at: u64,
    ask: Ask<'_>,
    answer: Answer,
    effect: Effect,
    session: &mut Session,
    out: &mut dyn Emit,
) -> Slot {
    let slot = session.request(answer, effect, 1, out);
    let mut attrs = session.attrs();
    if let Some(schema) = ask.schema {
        attrs.push(keys::DB_NAMESPACE.of(schema));
    }
    if !ask.text.is_empty() {
        attrs.push(keys::DB_QUERY_TEXT.of(ask.text));
    }
    if !ask.summary.is_empty() {
        attrs.push(keys::DB_QUERY_SUMMARY.of(ask.summary));
    }
    out.emit(Event::Request {
        id: slot.id,
        at,
        request: Request {
            protocol: NAME,
            operation: ask.operation,
            target: ask.target,
            trace: ask.trace,
            flags: ask.flags.with(slot.flags),
            attrs: attrs.as_slice(),
        },
    });
    slot
}

/// Reports that a request ends before `at`.
pub(crate) fn end(slot: Slot, began: u64, at: u64, out: &mut dyn Emit) {
    let id: ExchangeId = slot.id;
    out.emit(Event::RequestEnd {
        id,
        at,
        size: at.saturating_sub(began),
    });
    if slot.is_lost {
        out.emit(Event::Abandon {
            id,
            why: Abandon::Lost,
        });
    }
}

/// The flag of a text that is only the beginning.
pub(crate) const fn cut(is_cut: bool) -> Flags {
    if is_cut {
        Flags::TRUNCATED
    } else {
        Flags::NONE
    }
}
