//! Which parameters of a request target hold secrets: by their keys, and by what is in their values.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::Redaction;

/// Bytes of a key that are looked at: the last ones. Longer than any name of a secret.
const MAX_KEY: usize = 64;

/// Keys of parameters whose values are secrets, besides those that everybody knows. Cheap to clone.
///
/// They are compared as those are: without case, `-`, `_`, `.` and percent-encoding; of `a[b]` the last
/// part.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecretKeys(Option<Arc<[Box<str>]>>);

impl SecretKeys {
    /// These keys. One that nothing is left of is none.
    #[must_use]
    pub fn new<'k>(keys: impl IntoIterator<Item = &'k str>) -> Self {
        let word = |key: &str| -> Option<Box<str>> {
            let word = Word::of(key.as_bytes());
            let word = core::str::from_utf8(word.as_bytes()).ok()?;
            (!word.is_empty()).then(|| word.into())
        };
        let words: Vec<Box<str>> = keys.into_iter().filter_map(word).collect();
        Self((!words.is_empty()).then(|| words.into()))
    }

    fn has(&self, word: &[u8]) -> bool {
        let keys = self.0.as_deref().unwrap_or_default();
        keys.iter().any(|key| key.as_bytes() == word)
    }
}

/// What may leave a parser as text. Cheap to clone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policy {
    /// Of what kind.
    pub redaction: Redaction,
    /// Parameters of URLs whose values are secrets, besides those that everybody knows.
    pub secret_keys: SecretKeys,
}

/// The policy where nobody says otherwise.
pub(crate) static DEFAULT: Policy = Policy::of(Redaction::On);

impl Policy {
    /// With no more secrets than everybody knows.
    #[must_use]
    pub const fn of(redaction: Redaction) -> Self {
        let secret_keys = SecretKeys(None);
        Self {
            redaction,
            secret_keys,
        }
    }
}

/// The parameters of a target, each behind what stands before it: `/a?`, then `b=1`; `&`, then `c=2`.
///
/// A parameter begins behind `?`, `&`, `;` or `#`, and ends before the next one of these; in the path
/// also before a `/`.
#[derive(Clone, Debug)]
pub(crate) struct Params<'a> {
    rest: &'a [u8],
    in_path: bool,
}

impl<'a> Params<'a> {
    pub(crate) const fn of(target: &'a [u8]) -> Self {
        Self {
            rest: target,
            in_path: true,
        }
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let mark = self.rest.iter().position(|b| is_mark(*b));
        let Some(begin) = mark.map(|at| at.saturating_add(1)) else {
            return Some((core::mem::take(&mut self.rest), None));
        };
        let (plain, rest) = self.rest.split_at_checked(begin)?;
        self.in_path &= plain.ends_with(b";");
        let in_path = self.in_path;
        let end = rest
            .iter()
            .position(|b| is_mark(*b) || (in_path && *b == b'/'));
        let (param, rest) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
        self.rest = rest;
        Some((plain, Some(param)))
    }
}

const fn is_mark(byte: u8) -> bool {
    matches!(byte, b'?' | b'&' | b';' | b'#')
}

impl Policy {
    /// Whether the value of a parameter, `key=value`, is hidden: by its key, or because it is a URL with
    /// such a parameter or with userinfo.
    pub(crate) fn hides(&self, param: &[u8]) -> bool {
        let mut parts = param.splitn(2, |b| *b == b'=');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            return false;
        };
        match self.redaction {
            Redaction::Off => false,
            Redaction::On => self.is_secret_key(key) || self.is_in(value),
            Redaction::Full => true,
        }
    }

    /// Whether a value, percent-decoded, has secrets of its own.
    fn is_in(&self, value: &[u8]) -> bool {
        if !value.contains(&b'%') && !value.contains(&b'@') {
            return false;
        }
        let value: Vec<u8> = Decoded(value).collect();
        let login = value.windows(3).position(|window| window == b"://");
        let authority = login.and_then(|at| value.get(at.saturating_add(3)..));
        let authority =
            authority.and_then(|rest| rest.split(|b| matches!(b, b'/' | b'?' | b'#')).next());
        if authority.is_some_and(|authority| authority.contains(&b'@')) {
            return true;
        }
        let mut params = value.split(|b| is_mark(*b)).skip(1);
        params.any(|param| {
            let mut parts = param.splitn(2, |b| *b == b'=');
            let is_secret = parts.next().is_some_and(|key| self.is_secret_key(key));
            is_secret && parts.next().is_some()
        })
    }

    /// Whether a key names a secret.
    fn is_secret_key(&self, key: &[u8]) -> bool {
        let word = Word::of(key);
        let word = word.as_bytes();
        is_secret_word(word)
            || self.secret_keys.has(word)
            || ENDS.iter().any(|end| word.ends_with(end))
            || PARTS
                .iter()
                .any(|part| word.windows(part.len()).any(|window| window == *part))
    }
}

/// A key as it is compared: percent-decoded, in lower case, without `-`, `_` and `.`; of
/// `user[password]` the last part.
struct Word {
    bytes: [u8; MAX_KEY],
    len: usize,
}

impl Word {
    fn of(key: &[u8]) -> Self {
        let mut word = Self {
            bytes: [0; MAX_KEY],
            len: 0,
        };
        for byte in Decoded(key) {
            match byte {
                b'-' | b'_' | b'.' | b']' => {}
                b'[' => word.len = 0,
                _ => word.push(byte.to_ascii_lowercase()),
            }
        }
        word
    }

    /// Of a key that is too long the end is kept.
    fn push(&mut self, byte: u8) {
        if self.len == MAX_KEY {
            self.bytes.copy_within(1.., 0);
            self.len = MAX_KEY.saturating_sub(1);
        }
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
        }
        self.len = self.len.saturating_add(1);
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Percent-decoded bytes.
#[derive(Clone, Debug)]
struct Decoded<'a>(&'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (byte, rest) = match self.0 {
            [] => return None,
            [b'%', high, low, rest @ ..] if let Some(byte) = percent(*high, *low) => (byte, rest),
            [byte, rest @ ..] => (*byte, rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

fn percent(high: u8, low: u8) -> Option<u8> {
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    u8::try_from(high << 4 | low).ok()
}

/// What the name of a secret contains: `new_password`, `password_confirmation`, `stripe_secret_key`.
const PARTS: [&[u8]; 4] = [b"passw", b"passphrase", b"secret", b"credential"];

/// What it ends with: `oauth_token`, `googleApiKey`.
const ENDS: [&[u8]; 7] = [
    b"token",
    b"apikey",
    b"accesskey",
    b"privatekey",
    b"authkey",
    b"signature",
    b"sessionid",
];

/// Keys whose values are credentials: those that the semantic conventions list, and the usual names
/// of passwords, keys, tokens, sessions, one-time codes and signatures that [`PARTS`] and [`ENDS`]
/// leave.
const fn is_secret_word(word: &[u8]) -> bool {
    matches!(
        word,
        // Presigned URLs: AWS, Google, Azure.
        b"xamzcredential" | b"awsaccesskeyid" | b"sig" | b"xgoogcredential"
            // Passwords.
            | b"pwd" | b"pass" | b"passcode" | b"pin"
            // Keys.
            | b"key" | b"subscriptionkey"
            // Tokens, OAuth and SAML.
            | b"jwt" | b"bearer" | b"auth" | b"authorization" | b"code" | b"assertion"
            | b"clientassertion" | b"samlresponse" | b"samlrequest" | b"ticket"
            // Sessions and one-time codes.
            | b"session" | b"sid" | b"phpsessid" | b"otp" | b"totp"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_begin_behind_marks() {
        let texts = |target: &'static str| -> Vec<_> {
            let text = |bytes| core::str::from_utf8(bytes).unwrap();
            Params::of(target.as_bytes())
                .map(|(plain, param)| (text(plain), param.map(text)))
                .collect()
        };
        assert_eq!(
            texts("/a;b=1/c?d=/e&f"),
            [
                ("/a;", Some("b=1")),
                ("/c?", Some("d=/e")),
                ("&", Some("f"))
            ]
        );
        assert_eq!(texts("/a"), [("/a", None)]);
        assert_eq!(texts("/a?"), [("/a?", Some(""))]);
        assert_eq!(texts(""), []);
    }

    fn is_secret(param: &[u8]) -> bool {
        DEFAULT.hides(param)
    }

    #[test]
    fn keys_may_be_added() {
        let policy = Policy {
            redaction: Redaction::On,
            secret_keys: SecretKeys::new(["Customer-No", "", "__"]),
        };
        assert!(policy.hides(b"customer_no=7") && policy.hides(b"a[CustomerNo]=7"));
        assert!(policy.hides(b"next=/%3Fcustomerno%3D7") && policy.hides(b"token=x"));
        assert!(!policy.hides(b"customer=7") && !policy.hides(b"_=7"));
        assert_eq!(SecretKeys::new([""]), SecretKeys::default());
    }

    #[test]
    fn of_a_long_key_the_end_counts() {
        let long = [&[b'a'; 200][..], b"_password=x"].concat();
        assert!(is_secret(&long));
        assert!(!is_secret(&[&[b'a'; 200][..], b"=x"].concat()));
    }

    #[test]
    fn words_that_only_begin_like_secrets_are_none() {
        for param in [
            "tokens=1",
            "signed=1",
            "keyboard=1",
            "codec=1",
            "passport=1",
        ] {
            assert!(!is_secret(param.as_bytes()), "{param}");
        }
    }
}
