//! What all versions of HTTP have in common: request targets (RFC 9112 §3.2), their parts and what of
//! them may leave a parser; hosts, forwarded clients, known methods.

use alloc::string::String;

use crate::Redaction;

/// Stands in place of a secret, as the OpenTelemetry semantic conventions have it.
const REDACTED: &str = "REDACTED";
/// Longest key of a query that is compared with the list of secret ones.
const MAX_KEY: usize = 24;

/// A request target with its secrets redacted, and its parts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Target<'a> {
    /// The whole.
    pub text: &'a str,
    /// The path, where there is one.
    pub path: Option<&'a str>,
    /// What follows the first `?`.
    pub query: Option<&'a str>,
    /// The scheme, in absolute form.
    pub scheme: Option<&'a str>,
    /// Host and port, in absolute and authority form.
    pub authority: Option<&'a str>,
}

/// Reads a request target: origin form (also the `:path` of HTTP/2), absolute, authority or asterisk
/// form. Userinfo is always redacted, secrets in the query as `redaction` says. Writes to `scratch`
/// where the text cannot be borrowed from `target`.
#[must_use]
pub fn read_target<'s>(
    target: &'s [u8],
    redaction: Redaction,
    scratch: &'s mut String,
) -> Target<'s> {
    let userinfo = userinfo(target);
    let query = target.iter().position(|b| *b == b'?');
    let secret = redaction != Redaction::Off
        && query.is_some_and(|at| params(target.get(at..).unwrap_or_default()).any(is_secret));
    if userinfo.is_none()
        && !secret
        && let Ok(text) = str::from_utf8(target)
    {
        return parts(text);
    }
    scratch.clear();
    let (start, end) = userinfo.unwrap_or((0, 0));
    push_lossy(scratch, target.get(..start).unwrap_or_default());
    if let Some(userinfo) = userinfo.and_then(|(start, end)| target.get(start..end)) {
        scratch.push_str(REDACTED);
        if userinfo.contains(&b':') {
            scratch.push(':');
            scratch.push_str(REDACTED);
        }
    }
    let query = query.filter(|_| secret).unwrap_or(target.len());
    push_lossy(scratch, target.get(end..query).unwrap_or_default());
    if secret {
        redact(scratch, target.get(query..).unwrap_or_default());
    }
    parts(scratch)
}

/// Where the userinfo before an `@` begins and ends, in a target that has an authority.
fn userinfo(target: &[u8]) -> Option<(usize, usize)> {
    // The common case, origin form, has none.
    if target.starts_with(b"/") {
        return None;
    }
    let start = target
        .windows(3)
        .position(|w| w == b"://")
        .map_or(0, |at| at.saturating_add(3));
    let authority = target.get(start..)?;
    let len = authority
        .iter()
        .position(|b| matches!(b, b'/' | b'?' | b'#'));
    let authority = authority.get(..len.unwrap_or(authority.len()))?;
    let at = authority.iter().rposition(|b| *b == b'@')?;
    Some((start, start.saturating_add(at)))
}

/// The parts of a target that has nothing to hide.
fn parts(text: &str) -> Target<'_> {
    let (front, query) = match text.split_once('?') {
        Some((front, query)) => (front, Some(query)),
        None => (text, None),
    };
    let target = Target {
        text,
        query,
        ..Target::default()
    };
    if front.starts_with('/') {
        return Target {
            path: Some(front),
            ..target
        };
    }
    if front == "*" {
        return target;
    }
    let (scheme, rest) = match front.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, front),
    };
    let (authority, path) = match rest.find('/').and_then(|at| rest.split_at_checked(at)) {
        Some((authority, path)) => (authority, Some(path)),
        None => (rest, scheme.map(|_| "/")),
    };
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    Target {
        path,
        scheme,
        authority: Some(host).filter(|host| !host.is_empty()),
        ..target
    }
}

/// The parameters of a query, whose first byte is the `?`.
fn params(query: &[u8]) -> impl Iterator<Item = &[u8]> {
    query.get(1..).unwrap_or_default().split(|b| *b == b'&')
}

/// Appends `query` with the values of secret keys replaced.
fn redact(text: &mut String, query: &[u8]) {
    let mut separator = '?';
    for param in params(query) {
        text.push(separator);
        separator = '&';
        if is_secret(param) {
            let key = param.split(|b| *b == b'=').next().unwrap_or_default();
            push_lossy(text, key);
            text.push('=');
            text.push_str(REDACTED);
        } else {
            push_lossy(text, param);
        }
    }
}

fn push_lossy(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Whether a parameter, `key=value`, holds a secret by its key.
///
/// The key is percent-decoded, and compared without case, `-`, `_` and `.`; of `user[password]` the
/// last part counts.
fn is_secret(param: &[u8]) -> bool {
    let mut parts = param.splitn(2, |b| *b == b'=');
    let (Some(key), Some(_)) = (parts.next(), parts.next()) else {
        return false;
    };
    let mut word = [0u8; MAX_KEY];
    let mut len = 0usize;
    let mut rest = key;
    loop {
        let byte = match rest {
            [] => break,
            [b'%', high, low, tail @ ..] if let Some(byte) = percent(*high, *low) => {
                rest = tail;
                byte
            }
            [byte, tail @ ..] => {
                rest = tail;
                *byte
            }
        };
        match byte {
            b'-' | b'_' | b'.' | b']' => {}
            b'[' => len = 0,
            _ => {
                if let Some(slot) = word.get_mut(len) {
                    *slot = byte.to_ascii_lowercase();
                }
                len = len.saturating_add(1);
            }
        }
    }
    // None where the key is too long to be one of them.
    is_secret_word(word.get(..len).unwrap_or_default())
}

fn percent(high: u8, low: u8) -> Option<u8> {
    let high = char::from(high).to_digit(16)?;
    let low = char::from(low).to_digit(16)?;
    u8::try_from(high << 4 | low).ok()
}

/// Keys whose values are credentials: those that the semantic conventions list, and the usual names
/// of passwords, keys, tokens, sessions, one-time codes and signatures.
const fn is_secret_word(word: &[u8]) -> bool {
    matches!(
        word,
        // Presigned URLs: AWS, Google, Azure.
        b"xamzsignature" | b"xamzcredential" | b"xamzsecuritytoken" | b"awsaccesskeyid"
            | b"signature" | b"securitytoken" | b"sig" | b"xgoogsignature" | b"xgoogcredential"
            // Passwords.
            | b"password" | b"passwd" | b"pwd" | b"pass" | b"passphrase" | b"passcode" | b"pin"
            // Keys.
            | b"apikey" | b"xapikey" | b"key" | b"accesskey" | b"secretkey" | b"privatekey"
            | b"secret" | b"clientsecret" | b"appsecret" | b"apisecret" | b"subscriptionkey"
            // Tokens, OAuth and SAML.
            | b"token" | b"accesstoken" | b"refreshtoken" | b"idtoken" | b"authtoken" | b"apitoken"
            | b"sessiontoken" | b"csrftoken" | b"xsrftoken" | b"jwt" | b"bearer" | b"auth"
            | b"authorization" | b"credential" | b"credentials" | b"code" | b"assertion"
            | b"clientassertion" | b"samlresponse" | b"samlrequest" | b"ticket"
            // Sessions and one-time codes.
            | b"session" | b"sessionid" | b"sid" | b"jsessionid" | b"phpsessid" | b"otp" | b"totp"
    )
}

/// The host of a `Host` header or an authority, without brackets, and the port where it is written.
#[must_use]
pub fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    if let Some(rest) = authority.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((host, tail)) => (host, tail.strip_prefix(':').and_then(|p| p.parse().ok())),
            None => (rest, None),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// The client's address by `Forwarded` (RFC 7239 §4), else by `X-Forwarded-For`: the first one.
#[must_use]
pub fn forwarded_client<'a>(
    forwarded: Option<&'a [u8]>,
    x_forwarded_for: Option<&'a [u8]>,
) -> Option<&'a str> {
    let by_forwarded = forwarded.and_then(|value| {
        let first = items(value).next()?;
        first
            .split(|b| *b == b';')
            .find_map(|pair| match pair.trim_ascii().split_at_checked(4) {
                Some((name, node)) if name.eq_ignore_ascii_case(b"for=") => Some(node),
                _ => None,
            })
    });
    let node = by_forwarded.or_else(|| x_forwarded_for.and_then(|value| items(value).next()))?;
    let node = str::from_utf8(node).ok()?.trim_matches('"');
    let (address, _) = host_and_port(node);
    let known = !address.is_empty() && !address.eq_ignore_ascii_case("unknown");
    known.then_some(address)
}

/// Whether the semantic conventions know the method by default: RFC 9110, PATCH and QUERY.
#[must_use]
pub fn is_known_method(method: &str) -> bool {
    matches!(
        method,
        "GET"
            | "POST"
            | "PUT"
            | "DELETE"
            | "HEAD"
            | "OPTIONS"
            | "PATCH"
            | "CONNECT"
            | "TRACE"
            | "QUERY"
    )
}

/// The elements of a comma-separated list, without the empty ones.
fn items(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;

    fn text(target: &str) -> String {
        read_target(target.as_bytes(), Redaction::On, &mut String::new())
            .text
            .to_owned()
    }

    #[test]
    fn origin_form_has_path_and_query() {
        let mut scratch = String::new();
        let target = read_target(b"/a/b?c=d?e", Redaction::On, &mut scratch);
        assert_eq!((target.text, target.path), ("/a/b?c=d?e", Some("/a/b")));
        assert_eq!((target.query, target.authority), (Some("c=d?e"), None));
        assert_eq!(scratch.capacity(), 0, "the common case copies nothing");
    }

    #[test]
    fn absolute_form_has_scheme_and_authority() {
        for (text, path) in [
            ("http://h:81/p?q", Some("/p")),
            ("http://h:81?q", Some("/")),
        ] {
            let mut scratch = String::new();
            let target = read_target(text.as_bytes(), Redaction::On, &mut scratch);
            assert_eq!((target.text, target.path), (text, path));
            assert_eq!(
                (target.scheme, target.authority),
                (Some("http"), Some("h:81"))
            );
            assert_eq!(target.query, Some("q"));
        }
    }

    #[test]
    fn authority_and_asterisk_form_have_no_path() {
        let mut scratch = String::new();
        let target = read_target(b"h:443", Redaction::On, &mut scratch);
        assert_eq!((target.authority, target.path), (Some("h:443"), None));
        let target = read_target(b"*", Redaction::On, &mut scratch);
        assert_eq!((target.authority, target.path), (None, None));
    }

    #[test]
    fn values_of_secret_keys_are_redacted_and_the_keys_kept() {
        for (target, expected) in [
            ("/?a=1&sig=x&b=2", "/?a=1&sig=REDACTED&b=2"),
            ("/?X-Amz-Signature=x", "/?X-Amz-Signature=REDACTED"),
            (
                "/?AWSAccessKeyId=x&Signature=y",
                "/?AWSAccessKeyId=REDACTED&Signature=REDACTED",
            ),
            ("/?access_token=x=y", "/?access_token=REDACTED"),
            ("/?accessToken=x", "/?accessToken=REDACTED"),
            ("/?%70assword=x", "/?%70assword=REDACTED"),
            ("/?user%5Bpassword%5D=x", "/?user%5Bpassword%5D=REDACTED"),
            ("/?user[pass]=x", "/?user[pass]=REDACTED"),
            (
                "/?registration_user_attributes[password]=x",
                "/?registration_user_attributes[password]=REDACTED",
            ),
            ("/?API-KEY=x&", "/?API-KEY=REDACTED&"),
            ("/?token=", "/?token=REDACTED"),
            ("http://h/?token=x", "http://h/?token=REDACTED"),
        ] {
            assert_eq!(text(target), expected);
        }
    }

    #[test]
    fn other_parameters_stay_as_sent() {
        for target in [
            "/?signed=1&tokens=2",
            "/?token",
            "/?q=token=x",
            "/token=x",
            "/?%zz=1",
            "/?",
        ] {
            assert_eq!(text(target), target);
        }
    }

    #[test]
    fn userinfo_is_redacted_even_without_redaction() {
        for (target, expected) in [
            (
                "http://me:pw@h/p?token=x",
                "http://REDACTED:REDACTED@h/p?token=x",
            ),
            ("http://me@h/p", "http://REDACTED@h/p"),
            ("http://me:p@w@h", "http://REDACTED:REDACTED@h"),
            ("me:pw@h:443", "REDACTED:REDACTED@h:443"),
        ] {
            let mut scratch = String::new();
            let target = read_target(target.as_bytes(), Redaction::Off, &mut scratch);
            assert_eq!(target.text, expected);
            assert!(target.authority.unwrap().starts_with('h'));
        }
        assert_eq!(text("http://h/a@b"), "http://h/a@b");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        let mut scratch = String::new();
        let target = read_target(b"/\xff?\xfe=1&sig=\xfd", Redaction::On, &mut scratch);
        assert_eq!(target.text, "/\u{fffd}?\u{fffd}=1&sig=REDACTED");
    }

    #[test]
    fn a_host_is_parted_from_its_port() {
        for (authority, host, port) in [
            ("h", "h", None),
            ("h:80", "h", Some(80)),
            ("h:", "h", None),
            ("h:99999", "h", None),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("::1", "::1", None),
        ] {
            assert_eq!(host_and_port(authority), (host, port), "{authority}");
        }
    }

    #[test]
    fn the_client_is_the_first_one_forwarded() {
        let client = |forwarded: Option<&'static str>, x: Option<&'static str>| {
            forwarded_client(forwarded.map(str::as_bytes), x.map(str::as_bytes))
        };
        assert_eq!(client(None, Some("1.2.3.4, 5.6.7.8")), Some("1.2.3.4"));
        assert_eq!(client(None, Some("1.2.3.4:99")), Some("1.2.3.4"));
        let forwarded = Some("proto=http; For=\"[2001:db8::1]:47\", for=2.2.2.2");
        assert_eq!(client(forwarded, Some("1.2.3.4")), Some("2001:db8::1"));
        assert_eq!(client(Some("by=1.1.1.1"), Some("1.2.3.4")), Some("1.2.3.4"));
        assert_eq!(client(Some("for=unknown"), None), None);
    }
}
