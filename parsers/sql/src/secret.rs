//! Which statements may contain a credential.
//!
//! Then none of their literals is shown, whatever the configuration. A false alarm hides too much,
//! which is the better fault; but a query that merely names a column `password` is none.

/// What a word contains, in lower case, behind which a credential may stand: passwords of accounts,
/// of replication and foreign servers, arguments of cryptographic functions.
const SIGNS: [&[u8]; 7] = [
    b"passw",
    b"pwd",
    b"passphrase",
    b"identified",
    b"secret",
    b"credential",
    b"crypt",
];

/// Words that may stand between such a word and the credential.
const BETWEEN: [&[u8]; 8] = [
    b"by", b"as", b"with", b"for", b"to", b"using", b"is", b"like",
];

/// First keywords of statements that work on rows: others that name a credential set one.
const QUERIES: [&str; 8] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "WITH", "EXPLAIN",
];

/// Whether a text with this first keyword may contain a credential.
pub(crate) fn is_likely(text: &str, keyword: &str) -> bool {
    let is_query = QUERIES.contains(&keyword);
    let mut rest = text.as_bytes();
    while let Some(start) = rest.iter().position(|byte| is_word(*byte)) {
        let (word, after) = split_word(rest.get(start..).unwrap_or_default());
        if after.starts_with(b"://") && is_login(after.get(3..).unwrap_or_default())
            || has_sign(word) && (!is_query || leads_to_literal(after))
        {
            return true;
        }
        rest = after;
    }
    false
}

/// Follows the tokens of a statement that works on no rows, to find credentials that are no literals:
/// the last word of `SET app.password = hunter2`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Trail {
    #[default]
    Nothing,
    /// A word was telling.
    Named,
    /// And `=` or `TO` came behind it: the next word is the credential.
    Assigned,
}

impl Trail {
    /// Takes a word of a statement with this first keyword, and the byte behind it; whether the word
    /// is a credential.
    pub(crate) fn word(&mut self, word: &[u8], keyword: &str, next: Option<&u8>) -> bool {
        let before = core::mem::take(self);
        if QUERIES.contains(&keyword) {
            return false;
        }
        *self = match before {
            // A function's name: its arguments are literals.
            Self::Assigned => return next != Some(&b'('),
            Self::Named if word.eq_ignore_ascii_case(b"to") => Self::Assigned,
            _ if has_sign(word) => Self::Named,
            _ => Self::Nothing,
        };
        false
    }

    /// Takes something else.
    pub(crate) fn other(&mut self, token: &[u8]) {
        *self = match (*self, token) {
            (Self::Named | Self::Assigned, b"=") => Self::Assigned,
            (Self::Named, b":") => Self::Named,
            // A variable of MySQL.
            (_, [b'@', ..]) if has_sign(token) => Self::Named,
            _ => Self::Nothing,
        };
    }
}

fn has_sign(word: &[u8]) -> bool {
    let contains = |sign: &[u8]| {
        word.windows(sign.len())
            .any(|part| part.eq_ignore_ascii_case(sign))
    };
    SIGNS.iter().any(|sign| contains(sign))
}

/// Whether what stands behind a telling word is a literal, with little in between; or whether there is
/// one among the arguments, if the word is a function.
fn leads_to_literal(mut rest: &[u8]) -> bool {
    if let Some(arguments) = rest.trim_ascii_start().strip_prefix(b"(") {
        let mut bytes = arguments.iter().take_while(|byte| **byte != b')');
        return bytes.any(|byte| matches!(byte, b'\'' | b'"' | b'$'));
    }
    // Inside of a string already: `password=…` in a connection string.
    if let [b'=', value, ..] = rest
        && (is_word(*value) && *value != b'$')
    {
        return true;
    }
    loop {
        match rest {
            [b'\'' | b'"', ..] => return true,
            // A comment: nobody needs one there.
            [b'/', b'*', ..] | [b'-', b'-', ..] | [b'#', ..] => return true,
            [b'$', next, ..] => return !next.is_ascii_digit(),
            [byte, after @ ..] if byte.is_ascii_whitespace() || b"=(:`".contains(byte) => {
                rest = after;
            }
            [byte, ..] if is_word(*byte) => {
                let (word, after) = split_word(rest);
                let between = BETWEEN.iter().any(|known| word.eq_ignore_ascii_case(known));
                // `E'…'`, `N'…'`, `X'…'`.
                let prefix = word.len() == 1 && after.starts_with(b"'");
                let number = word.first().is_some_and(u8::is_ascii_digit);
                if prefix || number {
                    return true;
                }
                if !between {
                    return false;
                }
                rest = after;
            }
            _ => return false,
        }
    }
}

/// Whether the part of a URL behind `://` has a password: `user:password@host`.
fn is_login(rest: &[u8]) -> bool {
    let end = rest
        .iter()
        .position(|byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'\''));
    let authority = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
    let at = authority.iter().rposition(|byte| *byte == b'@');
    at.and_then(|at| authority.get(..at))
        .is_some_and(|user| user.contains(&b':'))
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

fn split_word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let len = bytes.iter().position(|byte| !is_word(*byte));
    bytes
        .split_at_checked(len.unwrap_or(bytes.len()))
        .unwrap_or((bytes, &[]))
}
