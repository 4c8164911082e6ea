//! Inline commands: words on a line, with quotes, as typed into telnet.

use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The words of an inline command, by the rules of Redis's `sdssplitargs`.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    pub(crate) const fn new(line: &'a [u8]) -> Self {
        Self { rest: line }
    }

    /// Reads the word in quotes that `rest` continues with, and what follows the closing quote.
    fn quoted(rest: &[u8], quote: u8, word: &mut Vec<u8>) -> Option<usize> {
        let mut at = 0usize;
        loop {
            let (value, len) = match rest.get(at..)? {
                [b, ..] if *b == quote => {
                    let end = at.saturating_add(1);
                    let follows = rest.get(end);
                    return follows.is_none_or(|b| is_space(*b)).then_some(end);
                }
                [b'\\', b'\'', ..] if quote == b'\'' => (b'\'', 2),
                [b'\\', b'x', high, low, ..] if quote == b'"' => match (hex(*high), hex(*low)) {
                    (Some(high), Some(low)) => (high << 4 | low, 4),
                    _ => (b'x', 2),
                },
                [b'\\', b, ..] if quote == b'"' => (unescape(*b), 2),
                [b, ..] => (*b, 1),
                [] => return None,
            };
            word.push(value);
            at = at.saturating_add(len);
        }
    }
}

/// Quotes that do not match: Redis refuses the command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Unbalanced;

impl<'a> Iterator for Words<'a> {
    type Item = Result<Cow<'a, [u8]>, Unbalanced>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.rest.iter().position(|b| !is_space(*b))?;
        let rest = self.rest.get(start..)?;
        let special = |b: &u8| is_space(*b) || matches!(b, b'"' | b'\'');
        let plain = rest.iter().position(special).unwrap_or(rest.len());
        let (word, tail) = rest.split_at_checked(plain)?;
        match tail.split_first() {
            Some((quote @ (b'"' | b'\''), tail)) => {
                let mut word = word.to_vec();
                self.rest = &[];
                let Some(len) = Self::quoted(tail, *quote, &mut word) else {
                    return Some(Err(Unbalanced));
                };
                self.rest = tail.get(len..)?;
                Some(Ok(Cow::Owned(word)))
            }
            _ => {
                self.rest = tail;
                Some(Ok(Cow::Borrowed(word)))
            }
        }
    }
}

const fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

fn hex(b: u8) -> Option<u8> {
    char::from(b)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

const fn unescape(b: u8) -> u8 {
    match b {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<Result<Vec<u8>, Unbalanced>> {
        let words = Words::new(line.as_bytes());
        words.map(|word| word.map(Cow::into_owned)).collect()
    }

    #[test]
    fn words_are_split_at_blanks() {
        let want = ["SET", "a", "b"].map(|w| Ok(w.as_bytes().to_vec()));
        assert_eq!(words("  SET\ta  b "), want);
        assert_eq!(words(" "), []);
    }

    #[test]
    fn quotes_hold_blanks_and_escapes() {
        let want = [&b"a b"[..], b"\x01\n\"", b"c'\\n", b""].map(|w| Ok(w.to_vec()));
        assert_eq!(words(r#""a b" "\x01\n\"" 'c\'\n' """#), want);
    }

    #[test]
    fn quotes_that_do_not_match_are_refused() {
        assert_eq!(words("\"a"), [Err(Unbalanced)]);
        assert_eq!(words("'a\\'"), [Err(Unbalanced)]);
        assert_eq!(words("\"a\"b c"), [Err(Unbalanced)], "a blank must follow");
    }
}
