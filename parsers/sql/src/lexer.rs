//! Bytes to tokens, by dialect.
//!
//! PostgreSQL: <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>; MySQL:
//! <https://dev.mysql.com/doc/refman/8.4/en/language-structure.html>.

use crate::Dialect;

/// What a run of bytes is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Token {
    /// A keyword or a name, with the parts that dots join to it; none of them quoted.
    Word,
    /// The same with a quoted part.
    Quoted,
    /// A string or a number.
    Literal,
    /// A comment.
    Comment,
    /// A character that may matter to the summary: parentheses, comma, semicolon.
    Punctuation(u8),
    /// Operators, parameters, variables.
    Other,
    /// The end of the text.
    End,
    /// What follows is no SQL, or is not whole.
    Unlexable,
}

/// Cuts a text into tokens.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    bytes: &'a [u8],
    at: usize,
    dialect: Dialect,
    /// Whether the last token ends an operand, so that a sign behind it is an operator.
    operand: bool,
    /// Inside of MySQL's `/*! … */`, whose content is executed.
    conditional: bool,
}

const SPACE: u8 = 1;
const DIGIT: u8 = 2;
/// May begin a name.
const NAME: u8 = 4;
/// May go on a name: begins one, or digit, or `$`.
const WORD: u8 = 8;

const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0u8;
    loop {
        let class = match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => SPACE,
            b'0'..=b'9' => DIGIT | WORD,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => NAME | WORD,
            b'$' => WORD,
            _ => 0,
        };
        #[expect(
            clippy::indexing_slicing,
            reason = "a table of 256, by byte, when compiled"
        )]
        {
            classes[byte as usize] = class;
        }
        match byte.checked_add(1) {
            Some(next) => byte = next,
            None => break classes,
        }
    }
};

fn class(byte: u8) -> u8 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

fn is(byte: u8, of: u8) -> bool {
    class(byte) & of != 0
}

impl<'a> Lexer<'a> {
    pub(crate) const fn new(bytes: &'a [u8], dialect: Dialect) -> Self {
        Self {
            bytes,
            at: 0,
            dialect,
            operand: false,
            conditional: false,
        }
    }

    /// Where the last token ends.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    /// Moves behind the next token; gives where it begins, behind white space. Behind
    /// [`Token::Unlexable`] there is no more.
    pub(crate) fn next(&mut self) -> (usize, Token) {
        let mut before = core::mem::replace(&mut self.operand, false);
        while let Some(&byte) = self.bytes.get(self.at) {
            let class = class(byte);
            if class & SPACE != 0 {
                before = false;
                self.at = self.at.saturating_add(1);
                continue;
            }
            let from = self.at;
            let token = if class & NAME != 0 {
                self.word(byte)
            } else if class & DIGIT != 0 {
                self.number()
            } else {
                self.mark(byte, before)
            };
            return (from, token);
        }
        (self.at, self.end())
    }

    /// What begins with a byte that is neither space nor part of a word; `before` tells whether an
    /// operand ends right before it.
    fn mark(&mut self, byte: u8, before: bool) -> Token {
        let next = self.peek(1).unwrap_or(0);
        let mysql = self.dialect == Dialect::MySql;
        match byte {
            b'\'' => self.string(0, mysql),
            b'"' if mysql => self.string(0, true),
            b'"' => self.name(),
            b'`' if mysql => self.name(),
            b'-' if next == b'-' && self.is_dashed_comment() => self.line_comment(),
            b'#' if mysql => self.line_comment(),
            b'/' if next == b'*' => self.block_comment(),
            b'*' if next == b'/' && self.conditional => {
                self.conditional = false;
                self.other(2)
            }
            // Behind an operand it is an operator; the sign of a number is its own.
            b'+' | b'-' if !before && self.is_number(1) => {
                self.forward(1);
                self.number()
            }
            b'.' if is(next, DIGIT) && !before => self.number(),
            b'$' => self.dollar(next),
            b'@' if mysql => self.variable(),
            // MySQL's `\N` is NULL. Elsewhere a backslash says that we took a string for ended that
            // is not.
            b'\\' if mysql && next == b'N' => self.other(2),
            b'\\' => Token::Unlexable,
            b')' | b']' => {
                self.operand = true;
                self.punctuation(byte)
            }
            b'(' | b',' | b';' => self.punctuation(byte),
            _ => self.other(1),
        }
    }

    fn end(&self) -> Token {
        if self.conditional {
            Token::Unlexable
        } else {
            Token::End
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at.saturating_add(ahead)).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn forward(&mut self, n: usize) {
        self.at = self.at.saturating_add(n).min(self.bytes.len());
    }

    /// Moves behind all bytes of a class.
    fn run(&mut self, class: u8) {
        let rest = self.rest();
        let len = rest.iter().position(|byte| !is(*byte, class));
        self.forward(len.unwrap_or(rest.len()));
    }

    fn other(&mut self, n: usize) -> Token {
        self.forward(n);
        Token::Other
    }

    fn punctuation(&mut self, mark: u8) -> Token {
        self.forward(1);
        Token::Punctuation(mark)
    }

    /// A word that begins with `first`; or the prefix of a string, and the string.
    fn word(&mut self, first: u8) -> Token {
        let next = self.peek(1).unwrap_or(0);
        if !matches!(next, b'\'' | b'&') {
            return self.name();
        }
        match (self.dialect, first) {
            (_, b'x' | b'X' | b'b' | b'B' | b'n' | b'N') if next == b'\'' => {
                self.string(1, self.dialect == Dialect::MySql)
            }
            (Dialect::Postgres, b'e' | b'E') if next == b'\'' => self.string(1, true),
            (Dialect::Postgres, b'u' | b'U') if next == b'&' => match self.peek(2) {
                Some(b'\'') => self.string(2, false),
                Some(b'"') => {
                    self.forward(2);
                    self.name()
                }
                _ => self.name(),
            },
            _ => self.name(),
        }
    }

    /// A name's parts, and the dots between them.
    fn name(&mut self) -> Token {
        let mut token = Token::Word;
        self.operand = true;
        loop {
            match self.peek(0) {
                Some(quote @ (b'"' | b'`')) => {
                    token = Token::Quoted;
                    if !self.quoted(1, quote, false) {
                        return Token::Unlexable;
                    }
                }
                _ => self.run(WORD),
            }
            if self.peek(0) != Some(b'.') {
                return token;
            }
            let part = self.peek(1).unwrap_or(0);
            let quote = match self.dialect {
                Dialect::MySql => b'`',
                Dialect::Postgres => b'"',
            };
            if !is(part, WORD) && part != quote {
                return token;
            }
            self.forward(1);
        }
    }

    /// Whether a number begins `ahead` bytes from here.
    fn is_number(&self, ahead: usize) -> bool {
        match self.peek(ahead) {
            Some(b'.') => {
                let digit = self.peek(ahead.saturating_add(1));
                digit.is_some_and(|digit| is(digit, DIGIT))
            }
            Some(byte) => is(byte, DIGIT),
            None => false,
        }
    }

    /// Everything that hangs on to a digit. More than the grammars allow: what is in doubt is not
    /// shown.
    fn number(&mut self) -> Token {
        let start = self.at;
        loop {
            self.run(WORD);
            match self.peek(0) {
                Some(b'.') => self.forward(1),
                Some(b'+' | b'-') if self.ends_in_exponent(start) && self.is_number(1) => {
                    self.forward(1);
                }
                _ => return Token::Literal,
            }
        }
    }

    /// Whether the number that began at `start` ends in an `e` that a sign may follow.
    fn ends_in_exponent(&self, start: usize) -> bool {
        let number = self.bytes.get(start..self.at).unwrap_or_default();
        matches!(number, [.., b'e' | b'E']) && !matches!(number, [b'0', b'x' | b'X', ..])
    }

    /// A string whose first quote follows `prefix` bytes of prefix.
    fn string(&mut self, prefix: usize, escapes: bool) -> Token {
        let quote = self.peek(prefix).unwrap_or(0);
        if self.quoted(prefix.saturating_add(1), quote, escapes) {
            Token::Literal
        } else {
            Token::Unlexable
        }
    }

    /// Moves behind the end of something quoted, whose content begins `content` bytes from here.
    /// A doubled quote stands for itself. False, and nothing moves, where it does not end.
    fn quoted(&mut self, content: usize, quote: u8, escapes: bool) -> bool {
        let mut at = self.at.saturating_add(content);
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let mark = |byte: &u8| *byte == quote || escapes && *byte == b'\\';
            let Some(len) = rest.iter().position(mark) else {
                return false;
            };
            let doubled = match rest.get(len..) {
                Some([mark, next, ..]) => *mark != quote || *next == quote,
                _ => false,
            };
            if doubled {
                at = at.saturating_add(len).saturating_add(2);
            } else if rest.get(len) == Some(&quote) {
                self.at = at.saturating_add(len).saturating_add(1);
                return true;
            } else {
                return false; // A backslash is the last byte.
            }
        }
    }

    /// `--` begins a comment; in MySQL only where white space or a control character follows.
    fn is_dashed_comment(&self) -> bool {
        match self.dialect {
            Dialect::Postgres => true,
            Dialect::MySql => self.peek(2).is_none_or(|byte| byte <= b' '),
        }
    }

    /// Up to the line's end, which is not part of it; for MySQL a carriage return ends no line.
    fn line_comment(&mut self) -> Token {
        let rest = self.rest();
        let postgres = self.dialect == Dialect::Postgres;
        let ends = |byte: &u8| *byte == b'\n' || postgres && *byte == b'\r';
        let end = rest.iter().position(ends);
        self.forward(end.unwrap_or(rest.len()));
        Token::Comment
    }

    fn block_comment(&mut self) -> Token {
        if self.dialect == Dialect::MySql && !self.conditional {
            let version = match self.rest() {
                [_, _, b'!', ..] => 3,
                [_, _, b'M', b'!', ..] => 4, // MariaDB's own.
                _ => 0,
            };
            if version > 0 {
                self.conditional = true;
                self.forward(version);
                self.run(DIGIT);
                return Token::Other;
            }
        }
        let mut depth = 1usize;
        let mut at = 2usize;
        loop {
            let (a, b) = (self.peek(at), self.peek(at.saturating_add(1)));
            match (a, b) {
                (Some(b'*'), Some(b'/')) => {
                    at = at.saturating_add(2);
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.forward(at);
                        return Token::Comment;
                    }
                }
                (Some(b'/'), Some(b'*')) if self.dialect == Dialect::Postgres => {
                    at = at.saturating_add(2);
                    depth = depth.saturating_add(1);
                }
                (_, None) => return Token::Unlexable,
                _ => at = at.saturating_add(1),
            }
        }
    }

    /// A parameter `$1`, or a dollar-quoted string.
    fn dollar(&mut self, next: u8) -> Token {
        if self.dialect == Dialect::MySql {
            return self.name();
        }
        if is(next, DIGIT) {
            self.forward(1);
            self.run(DIGIT);
            self.operand = true;
            return Token::Other;
        }
        let rest = self.rest().get(1..).unwrap_or_default();
        let len = rest
            .iter()
            .position(|byte| *byte == b'$' || !is(*byte, WORD));
        let Some((tag, content)) = len
            .filter(|len| rest.get(*len) == Some(&b'$'))
            .and_then(|len| self.rest().split_at_checked(len.saturating_add(2)))
        else {
            return self.other(1);
        };
        // A tag has no `$` inside, so no byte is compared twice.
        let mut at = 0usize;
        while let Some(rest) = content.get(at..)
            && let Some(dollar) = rest.iter().position(|byte| *byte == b'$')
        {
            at = at.saturating_add(dollar);
            if content.get(at..).is_some_and(|rest| rest.starts_with(tag)) {
                let len = tag.len().saturating_add(at).saturating_add(tag.len());
                self.forward(len);
                return Token::Literal;
            }
            at = at.saturating_add(1);
        }
        Token::Unlexable
    }

    /// MySQL's `@user` and `@@system` variables.
    fn variable(&mut self) -> Token {
        while self.peek(0) == Some(b'@') {
            self.forward(1);
        }
        while let Some(byte) = self.peek(0)
            && (byte == b'.' || is(byte, WORD))
        {
            self.forward(1);
        }
        self.operand = true;
        Token::Other
    }
}
