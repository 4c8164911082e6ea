//! What is reported of a request.

use wirespan_parser_api::{
    Abandon, Attr, Emit, Event, ExchangeId, Flags, Request, TraceContext, keys,
};
use wirespan_sql::Extent;

use crate::NAME;

/// What a request says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said<'a> {
    pub(crate) operation: &'a str,
    pub(crate) target: &'a str,
    pub(crate) summary: &'a str,
    pub(crate) trace: Option<TraceContext<'a>>,
    pub(crate) flags: Flags,
}

/// A text as UTF-8. Of another encoding, each byte that is not ASCII becomes `_`, so that offsets
/// stay what they are.
pub(crate) fn readable<'a>(text: &'a [u8], replaced: &'a mut String) -> &'a str {
    match core::str::from_utf8(text) {
        Ok(text) => text,
        // Cut within a character.
        Err(error) if error.error_len().is_none() => {
            let whole = text.get(..error.valid_up_to()).unwrap_or_default();
            core::str::from_utf8(whole).unwrap_or_default()
        }
        Err(_) => {
            replaced.clear();
            replaced.extend(text.iter().map(|byte| match byte {
                0..=0x7f => char::from(*byte),
                _ => '_',
            }));
            replaced
        }
    }
}

/// A statement among others: the semicolon is theirs.
pub(crate) fn part(text: &str) -> &str {
    let text = text.trim_ascii();
    text.strip_suffix(';').unwrap_or(text).trim_ascii_end()
}

pub(crate) const fn cut_flag(extent: Extent) -> Flags {
    match extent {
        Extent::Complete => Flags::NONE,
        Extent::Cut => Flags::TRUNCATED,
    }
}

pub(crate) fn request(id: u64, at: u64, said: &Said<'_>, out: &mut dyn Emit) {
    let system = keys::DB_SYSTEM_NAME.of(NAME.0);
    let text = keys::DB_QUERY_TEXT.of(said.target);
    let summary = keys::DB_QUERY_SUMMARY.of(said.summary);
    // What is empty is not known, or not to be shown.
    let attrs: &[Attr<'_>] = match (said.target.is_empty(), said.summary.is_empty()) {
        (false, false) => &[system, text, summary],
        (false, true) => &[system, text],
        (true, false) => &[system, summary],
        (true, true) => &[system],
    };
    out.emit(Event::Request {
        id: ExchangeId(id),
        at,
        request: Request {
            protocol: NAME,
            operation: said.operation,
            target: said.target,
            trace: said.trace,
            flags: said.flags,
            attrs,
        },
    });
}

pub(crate) fn request_end(id: u64, at: u64, size: u64, out: &mut dyn Emit) {
    out.emit(Event::RequestEnd {
        id: ExchangeId(id),
        at,
        size,
    });
}

pub(crate) fn abandon(id: u64, why: Abandon, out: &mut dyn Emit) {
    out.emit(Event::Abandon {
        id: ExchangeId(id),
        why,
    });
}

/// Abandons a request that was refused an answer.
pub(crate) fn settle(id: u64, expected: Result<(), Abandon>, out: &mut dyn Emit) {
    if let Err(why) = expected {
        abandon(id, why, out);
    }
}
