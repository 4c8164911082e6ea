//! Trace context in comments.
//!
//! Two forms are read: sqlcommenter's `traceparent='00-…-01',tracestate='a%3D1'`, whose values are
//! URL-encoded (<https://google.github.io/sqlcommenter/spec/>), and plain `traceparent: 00-…-01`.

use alloc::string::String;
use alloc::vec::Vec;

use wirespan_parser_api::{TraceContext, TraceHeaders};

/// Longest value that is read, in bytes.
const MAX_VALUE: usize = 4_096;

/// Collects the trace context of a statement. Of several, the last counts: sqlcommenter appends.
#[derive(Debug)]
pub(crate) struct Trace {
    traceparent: Vec<u8>,
    tracestate: Vec<u8>,
    joined: String,
}

impl Trace {
    pub(crate) const fn new() -> Self {
        Self {
            traceparent: Vec::new(),
            tracestate: Vec::new(),
            joined: String::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.traceparent.clear();
        self.tracestate.clear();
    }

    pub(crate) const fn heap_bytes(&self) -> usize {
        self.traceparent
            .capacity()
            .saturating_add(self.tracestate.capacity())
            .saturating_add(self.joined.capacity())
    }

    /// Takes a comment, with the marks around it.
    pub(crate) fn comment(&mut self, comment: &str) {
        let comment = comment.strip_suffix("*/").unwrap_or(comment);
        let Some(value) = find(comment, "traceparent", [' ', '\t', '\r', '\n', ';', ',']) else {
            return;
        };
        let mut traceparent = core::mem::take(&mut self.traceparent);
        decode(value, &mut traceparent);
        if TraceContext::from_traceparent(&traceparent).is_some() {
            self.tracestate.clear();
            if let Some(value) = find(comment, "tracestate", [' ', '\t', '\r', '\n', ';']) {
                decode(value, &mut self.tracestate);
            }
        } else {
            traceparent.clear();
        }
        self.traceparent = traceparent;
    }

    pub(crate) fn context(&mut self) -> Option<TraceContext<'_>> {
        if self.traceparent.is_empty() {
            return None;
        }
        let mut headers = TraceHeaders::default();
        headers.header(b"traceparent", &self.traceparent);
        if !self.tracestate.is_empty() {
            headers.header(b"tracestate", &self.tracestate);
        }
        headers.context(&mut self.joined)
    }
}

/// The value of a key, still encoded. Without quotes it ends before one of `ends`.
fn find<'a, const N: usize>(comment: &'a str, key: &str, ends: [char; N]) -> Option<&'a str> {
    let at = comment
        .as_bytes()
        .windows(key.len())
        .position(|window| window.eq_ignore_ascii_case(key.as_bytes()))?;
    let rest = comment.get(at.saturating_add(key.len())..)?;
    let rest = rest.trim_ascii_start();
    let rest = rest.strip_prefix(['=', ':'])?.trim_ascii_start();
    let value = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.split_once('\'')?.0,
        None => rest.split(ends).next()?,
    };
    Some(value).filter(|value| value.len() <= MAX_VALUE)
}

/// Undoes the URL encoding.
fn decode(value: &str, decoded: &mut Vec<u8>) {
    decoded.clear();
    let mut rest = value.as_bytes();
    while let [byte, after @ ..] = rest {
        let escape = match after {
            [high, low, after @ ..] if *byte == b'%' => hex(*high)
                .zip(hex(*low))
                .map(|(high, low)| (high << 4 | low, after)),
            _ => None,
        };
        let (byte, after) = escape.unwrap_or((*byte, after));
        decoded.push(byte);
        rest = after;
    }
}

fn hex(digit: u8) -> Option<u8> {
    let value = char::from(digit).to_digit(16)?;
    u8::try_from(value).ok()
}
