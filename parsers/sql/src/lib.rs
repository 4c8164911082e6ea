//! SQL text without literals, its first keyword, its summary and its trace context, in one pass.
//!
//! It knows tokens, not grammar: nothing is parsed, looked up or rejected, and no text is too
//! strange. Time is linear in the text, memory bounded by it, and nothing recurses.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod comment;
mod lexer;
mod secret;
mod summary;

use alloc::string::String;

use wirespan_parser_api::{Redaction, TraceContext};

use comment::Trace;
use lexer::{Lexer, Token};
use secret::Trail;
use summary::Summary;

/// Bytes of text that are written: what the engine keeps of a target, and one more so that it
/// notices the cut.
const MAX_TEXT: usize = 4_097;
/// Longest first keyword that is believed, in bytes.
const MAX_KEYWORD: usize = 32;

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// MySQL and MariaDB with the default `sql_mode`: `"…"` is a string, `\` escapes.
    MySql,
    /// PostgreSQL with `standard_conforming_strings`: `"…"` is an identifier, `\` does not escape.
    Postgres,
}

/// Whether a text is all that was sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Extent {
    /// All of it.
    Complete,
    /// Its beginning: a literal that does not end is no surprise.
    Cut,
}

/// What a statement's text says.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// The first keyword in upper case; empty where there is none.
    pub keyword: &'a str,
    /// The text for records. Redacted: without literals and comments, white space around it
    /// trimmed, and wholly `?` where it is no SQL of the dialect. Otherwise as sent, unless it
    /// seems to contain a credential. Empty where no text may be shown.
    ///
    /// At most 4,097 bytes where redacted.
    pub text: &'a str,
    /// How the text was redacted.
    pub redaction: Redaction,
    /// Operations and targets, as `db.query.summary` wants them: `SELECT songs artists`. At most
    /// 255 bytes.
    pub summary: &'a str,
    /// The trace context in the statement's comments.
    pub trace: Option<TraceContext<'a>>,
    /// Bytes of the input that the statement takes, its semicolon included.
    pub used: usize,
    /// Whether there is nothing but white space, comments and semicolons.
    pub empty: bool,
}

/// Reads statements, one at a time, into memory that it uses again.
#[derive(Debug)]
pub struct Reader {
    dialect: Dialect,
    redaction: Redaction,
    text: String,
    keyword: String,
    summary: Summary,
    trace: Trace,
}

/// How far a read goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Until {
    End,
    Semicolon,
}

impl Reader {
    /// A reader of one dialect.
    #[must_use]
    pub const fn new(dialect: Dialect, redaction: Redaction) -> Self {
        Self {
            dialect,
            redaction,
            text: String::new(),
            keyword: String::new(),
            summary: Summary::new(),
            trace: Trace::new(),
        }
    }

    /// How texts are redacted.
    #[must_use]
    pub const fn redaction(&self) -> Redaction {
        self.redaction
    }

    /// Redacts texts otherwise from now on.
    pub const fn set_redaction(&mut self, redaction: Redaction) {
        self.redaction = redaction;
    }

    /// Reads a whole text as one statement, whatever semicolons are in it.
    pub fn whole<'a>(&'a mut self, text: &'a str, extent: Extent) -> Statement<'a> {
        self.read(text, extent, Until::End)
    }

    /// Reads the first statement of a text, up to and with its semicolon. Semicolons within
    /// parentheses and behind `BEGIN ATOMIC` part nothing.
    pub fn first<'a>(&'a mut self, text: &'a str, extent: Extent) -> Statement<'a> {
        self.read(text, extent, Until::Semicolon)
    }

    /// Heap bytes in use.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.text
            .capacity()
            .saturating_add(self.keyword.capacity())
            .saturating_add(self.summary.heap_bytes())
            .saturating_add(self.trace.heap_bytes())
    }

    fn read<'a>(&'a mut self, text: &'a str, extent: Extent, until: Until) -> Statement<'a> {
        self.text.clear();
        self.keyword.clear();
        self.summary.clear();
        self.trace.clear();
        let scan = self.scan(text, extent, until);
        if extent == Extent::Cut && has_escaped_quote(text) {
            self.hide_all();
        }
        let sent = text.get(..scan.used).unwrap_or(text);
        let shown = match self.redaction {
            Redaction::Off if !secret::is_likely(sent, &self.keyword) => sent,
            Redaction::Full => "",
            _ => self.text.trim_ascii(),
        };
        Statement {
            keyword: &self.keyword,
            text: shown,
            redaction: self.redaction,
            summary: self.summary.as_str(),
            trace: self.trace.context(),
            used: scan.used,
            empty: scan.empty,
        }
    }

    fn scan(&mut self, text: &str, extent: Extent, until: Until) -> Scan {
        let mut lexer = Lexer::new(text.as_bytes(), self.dialect);
        // Text before this is written.
        let mut done = 0;
        let mut depth = 0usize;
        let mut empty = true;
        let mut atomic = false;
        let mut trail = Trail::default();
        loop {
            let (from, token) = lexer.next();
            let to = lexer.at();
            match token {
                Token::Word => {
                    let word = text.get(from..to).unwrap_or_default();
                    if self.keyword.is_empty() {
                        self.set_keyword(word);
                    }
                    atomic |= word.eq_ignore_ascii_case("atomic") && self.keyword == "CREATE";
                    if trail.word(word.as_bytes(), &self.keyword, text.as_bytes().get(to)) {
                        done = self.hide(text, done, from, to);
                    } else {
                        self.summary.word(word);
                    }
                }
                Token::Quoted => {
                    let name = text.get(from..to).unwrap_or_default();
                    if trail.word(name.as_bytes(), &self.keyword, None) {
                        done = self.hide(text, done, from, to);
                    } else {
                        self.summary.quoted(name);
                    }
                }
                Token::Literal => {
                    trail = Trail::default();
                    done = self.hide(text, done, from, to);
                }
                Token::Comment => {
                    self.write(text, done, from);
                    done = to;
                    self.trace.comment(text.get(from..to).unwrap_or_default());
                    continue;
                }
                Token::Punctuation(b';') => {
                    trail = Trail::default();
                    self.summary.semicolon();
                    if until == Until::Semicolon && depth == 0 && !atomic {
                        self.write(text, done, to);
                        return Scan { used: to, empty };
                    }
                    continue;
                }
                Token::Punctuation(mark) => {
                    trail = Trail::default();
                    depth = match mark {
                        b'(' => depth.saturating_add(1),
                        b')' => depth.saturating_sub(1),
                        _ => depth,
                    };
                    self.summary.punctuation(mark);
                }
                Token::Other => {
                    trail.other(text.as_bytes().get(from..to).unwrap_or_default());
                    self.summary.other();
                }
                Token::End => {
                    self.write(text, done, to);
                    return Scan { used: to, empty };
                }
                Token::Unlexable => {
                    self.give_up(text, done, from, extent);
                    return Scan {
                        used: text.len(),
                        empty: false,
                    };
                }
            }
            empty = false;
        }
    }

    /// Writes what is left of the text before `from`, and a mark in place of what ends at `to`; gives
    /// where the text is to be continued.
    fn hide(&mut self, text: &str, done: usize, from: usize, to: usize) -> usize {
        self.write(text, done, from);
        self.write("?", 0, 1);
        self.summary.other();
        to
    }

    fn write(&mut self, text: &str, from: usize, to: usize) {
        if self.text.len() < MAX_TEXT {
            let part = text.get(from..to).unwrap_or_default();
            let room = MAX_TEXT.saturating_sub(self.text.len());
            let end = part.floor_char_boundary(room);
            self.text.push_str(part.get(..end).unwrap_or_default());
        }
    }

    /// Something that does not end began at `from`, or is no SQL. Unless the text was cut there,
    /// what we took for literals may have been the text between them.
    fn give_up(&mut self, text: &str, done: usize, from: usize, extent: Extent) {
        match extent {
            Extent::Cut => {
                self.write(text, done, from);
                self.write("?", 0, 1);
            }
            Extent::Complete => self.hide_all(),
        }
    }

    fn hide_all(&mut self) {
        self.text.clear();
        self.text.push('?');
        self.summary.keep_first();
    }

    fn set_keyword(&mut self, word: &str) {
        if is_keyword(word) {
            self.keyword.push_str(word);
            self.keyword.make_ascii_uppercase();
        }
    }
}

/// How far a scan came.
struct Scan {
    used: usize,
    empty: bool,
}

/// Whether it depends on the session's mode where a literal ends (`sql_mode=NO_BACKSLASH_ESCAPES`,
/// `standard_conforming_strings=off`). In a whole text a wrong reading shows: quotes do not match, or a
/// backslash stands outside of them. A cut one may hide that.
fn has_escaped_quote(text: &str) -> bool {
    let mut pairs = text.as_bytes().windows(2);
    pairs.any(|pair| matches!(pair, [b'\\', b'\'' | b'"']))
}

/// Whether a word could be a keyword: letters and underscores, and not many of them.
fn is_keyword(word: &str) -> bool {
    let letters = word
        .bytes()
        .all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    letters && word.len() <= MAX_KEYWORD
}

#[cfg(test)]
mod tests;
