//! Which parameters of a request target hold secrets: by their keys, and by what is in their values.

use alloc::vec::Vec;

/// Bytes of a key that are looked at: the last ones. Longer than any name of a secret.
const MAX_KEY: usize = 64;

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

/// Whether a parameter, `key=value`, holds a secret: by its key, or because its value is a URL with
/// such a parameter or with userinfo.
pub(crate) fn is_secret(param: &[u8]) -> bool {
    let mut parts = param.splitn(2, |b| *b == b'=');
    let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
        return false;
    };
    is_secret_key(key) || hides_secret(value)
}

/// Whether a value, percent-decoded, has secrets of its own.
fn hides_secret(value: &[u8]) -> bool {
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
        parts.next().is_some_and(is_secret_key) && parts.next().is_some()
    })
}

/// Whether a key names a secret. It is percent-decoded, and compared without case, `-`, `_` and `.`;
/// of `user[password]` the last part counts.
fn is_secret_key(key: &[u8]) -> bool {
    let mut word = [0u8; MAX_KEY];
    let mut len = 0usize;
    for byte in Decoded(key) {
        match byte {
            b'-' | b'_' | b'.' | b']' => {}
            b'[' => len = 0,
            _ => {
                if len == MAX_KEY {
                    word.copy_within(1.., 0);
                    len = MAX_KEY.saturating_sub(1);
                }
                if let Some(slot) = word.get_mut(len) {
                    *slot = byte.to_ascii_lowercase();
                }
                len = len.saturating_add(1);
            }
        }
    }
    let word = word.get(..len).unwrap_or_default();
    is_secret_word(word)
        || ENDS.iter().any(|end| word.ends_with(end))
        || PARTS
            .iter()
            .any(|part| word.windows(part.len()).any(|window| window == *part))
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
