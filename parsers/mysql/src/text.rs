//! Statements in the text of a query.

use alloc::boxed::Box;
use alloc::string::String;

use wirespan_sql::{Extent, Reader, Statement};

use crate::session::{Answer, Effect, Session};

/// The first statement of a text, or all of it where it cannot be several.
pub(crate) fn read<'a>(
    reader: &'a mut Reader,
    text: &'a str,
    is_cut: bool,
    session: &Session,
) -> Statement<'a> {
    let extent = extent(is_cut);
    if session.multi_statements == Some(false) || is_routine(text) {
        reader.whole(text, extent)
    } else {
        reader.first(text, extent)
    }
}

/// Whether a text may define or be a stored program, whose semicolons part no statements.
fn is_routine(text: &str) -> bool {
    const PROGRAMS: [&str; 5] = ["PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"];
    let head = text.split('(').next().unwrap_or_default();
    let head = head.split(';').next().unwrap_or_default();
    let mut words = head
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
        .take(24);
    let Some(first) = words.next() else {
        return false;
    };
    let is = |word: &str, other: &str| word.eq_ignore_ascii_case(other);
    if is(first, "BEGIN") {
        return words.next().is_some_and(|second| is(second, "NOT"));
    }
    let compound = ["DECLARE", "IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR"];
    compound.iter().any(|word| is(first, word))
        || ["CREATE", "ALTER"].iter().any(|word| is(first, word))
            && words.any(|word| PROGRAMS.iter().any(|program| is(word, program)))
}

/// How a statement is answered, and what its success changes.
pub(crate) fn outcome(keyword: &str, text: &str) -> (Answer, Effect) {
    match keyword {
        "CALL" => (Answer::Call, Effect::Nothing),
        "USE" => (Answer::Results, Effect::Schema(used_schema(text))),
        _ => (Answer::Results, Effect::Nothing),
    }
}

/// The schema that a `USE` names; `None` where it is not plain.
fn used_schema(text: &str) -> Option<Box<str>> {
    let (_, name) = text
        .trim_ascii()
        .split_once(|c: char| c.is_ascii_whitespace())?;
    let name = name.split(';').next()?.trim_ascii();
    let quoted = name
        .strip_prefix('`')
        .and_then(|name| name.strip_suffix('`'));
    let name = quoted.unwrap_or(name);
    let is_plain = !name.is_empty() && !name.contains(|c: char| "`'\"/# \t\n".contains(c));
    is_plain.then(|| name.into())
}

/// Whether nothing but white space and semicolons is left.
pub(crate) fn is_blank(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_whitespace() || byte == b';' || byte == 0)
}

/// A text as UTF-8, byte for byte: what is none becomes question marks.
pub(crate) fn legible<'a>(bytes: &'a [u8], scratch: &'a mut String) -> &'a str {
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => {
            scratch.clear();
            for chunk in bytes.utf8_chunks() {
                scratch.push_str(chunk.valid());
                scratch.extend(chunk.invalid().iter().map(|_| '?'));
            }
            scratch
        }
    }
}

/// Whether a text is all there is.
pub(crate) const fn extent(is_cut: bool) -> Extent {
    if is_cut {
        Extent::Cut
    } else {
        Extent::Complete
    }
}
