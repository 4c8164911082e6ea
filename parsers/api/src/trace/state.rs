//! `tracestate`: the list that travels with a `traceparent` (W3C Trace Context §3.3).

use alloc::string::String;

use super::trim;

/// Members of a `tracestate` (W3C Trace Context §3.3.1.1).
const MAX_MEMBERS: usize = 32;
/// Length up to which a `tracestate` is kept whole (W3C Trace Context §3.3.1.5).
const MAX_TRACESTATE: usize = 512;
/// Members longer than this are the first to go (W3C Trace Context §3.3.1.5).
const LONG_MEMBER: usize = 128;

/// Joins the members of `headers` in order, cut to what must be kept; `None` where one is invalid,
/// or there are too many.
///
/// Overwrites `scratch` where the text cannot be borrowed from a header.
pub(super) fn combine<'s>(headers: &[&'s [u8]], scratch: &'s mut String) -> Option<&'s str> {
    let (mut count, mut len) = (0usize, 0usize);
    for member in members(headers) {
        is_member(member).then_some(())?;
        count = count.saturating_add(1);
        len = len.saturating_add(member.len()).saturating_add(1);
    }
    // Each member but the last is followed by a comma.
    let len = len.saturating_sub(1);
    match headers {
        _ if count > MAX_MEMBERS => return None,
        // Nothing to trim, join or cut: the common case.
        [only] if len == only.len() && len <= MAX_TRACESTATE => {
            return str::from_utf8(only).ok();
        }
        _ => {}
    }
    let drop_long = len > MAX_TRACESTATE;
    scratch.clear();
    for member in members(headers).filter(|m| !drop_long || m.len() <= LONG_MEMBER) {
        let comma = usize::from(!scratch.is_empty());
        let total = scratch
            .len()
            .saturating_add(comma)
            .saturating_add(member.len());
        if total > MAX_TRACESTATE {
            break;
        }
        if comma == 1 {
            scratch.push(',');
        }
        scratch.push_str(str::from_utf8(member).ok()?);
    }
    Some(scratch)
}

/// The list members in order, without the empty ones, which are legal (W3C Trace Context §3.3.1.1).
fn members<'a>(headers: &[&'a [u8]]) -> impl Iterator<Item = &'a [u8]> {
    let lists = headers.iter().copied();
    let members = lists.flat_map(|list| list.split(|b| *b == b','));
    members.map(trim).filter(|member| !member.is_empty())
}

/// Whether `member` is `key=value` (W3C Trace Context §3.3.1.3).
fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|b| *b == b'=') else {
        return false;
    };
    let (key, value) = member.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    matches!(key.first(), Some(b'a'..=b'z' | b'0'..=b'9'))
        && key.len() <= 256
        && key
            .iter()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'))
        && (1..=256).contains(&value.len())
        && value.iter().all(|b| matches!(b, 0x20..=0x7e) && *b != b'=')
}
