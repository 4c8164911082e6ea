//! What all versions of HTTP have in common: request targets (RFC 9112 §3.2), their parts and what of
//! them may leave a parser; hosts, forwarded clients, known methods.

use alloc::string::String;

use crate::secrets::Params;
use crate::{Policy, Redaction};

/// Stands in place of a secret, as the OpenTelemetry semantic conventions have it.
const REDACTED: &str = "REDACTED";
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
/// form. Userinfo is always redacted, secrets in parameters (of the query, of a path's segments, of a
/// fragment) as `policy` says. Writes to `scratch` where the text cannot be borrowed from `target`.
#[must_use]
pub fn read_target<'s>(target: &'s [u8], policy: &Policy, scratch: &'s mut String) -> Target<'s> {
    let userinfo = userinfo(target);
    let secret = policy.redaction != Redaction::Off
        && target.contains(&b'=')
        && Params::of(target).any(|(_, param)| param.is_some_and(|param| policy.hides(param)));
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
    let rest = target.get(end..).unwrap_or_default();
    if secret {
        redact(scratch, rest, policy);
    } else {
        push_lossy(scratch, rest);
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

/// Appends `target` with the values of secret parameters replaced.
fn redact(text: &mut String, target: &[u8], policy: &Policy) {
    for (plain, param) in Params::of(target) {
        push_lossy(text, plain);
        match param {
            Some(param) if policy.hides(param) => {
                let key = param.split(|b| *b == b'=').next().unwrap_or_default();
                push_lossy(text, key);
                text.push('=');
                text.push_str(REDACTED);
            }
            param => push_lossy(text, param.unwrap_or_default()),
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

/// The host of a `Host` header or an authority, without brackets, and the port where it is written.
/// What comes before an `@` is deprecated (RFC 9110 §4.2.4), and secret.
#[must_use]
pub fn host_and_port(authority: &str) -> (&str, Option<u16>) {
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
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
        read_target(
            target.as_bytes(),
            &Policy::of(Redaction::On),
            &mut String::new(),
        )
        .text
        .to_owned()
    }

    #[test]
    fn origin_form_has_path_and_query() {
        let mut scratch = String::new();
        let target = read_target(b"/a/b?c=d?e", &Policy::of(Redaction::On), &mut scratch);
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
            let target = read_target(text.as_bytes(), &Policy::of(Redaction::On), &mut scratch);
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
        let target = read_target(b"h:443", &Policy::of(Redaction::On), &mut scratch);
        assert_eq!((target.authority, target.path), (Some("h:443"), None));
        let target = read_target(b"*", &Policy::of(Redaction::On), &mut scratch);
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
            ("/?user_password=x", "/?user_password=REDACTED"),
            ("/?newPassword=x&a=1", "/?newPassword=REDACTED&a=1"),
            ("/?oauth_token=x", "/?oauth_token=REDACTED"),
            ("/?stripe.secret.key=x", "/?stripe.secret.key=REDACTED"),
            ("/?a=1;token=x;b=2", "/?a=1;token=REDACTED;b=2"),
            ("/a;v=1;token=x/b?c", "/a;v=1;token=REDACTED/b?c"),
            ("/a;jsessionid=x?c=1", "/a;jsessionid=REDACTED?c=1"),
            ("/a#access_token=x", "/a#access_token=REDACTED"),
            ("/?next=/b?token=x", "/?next=/b?token=REDACTED"),
            ("/?next=%2Fb%3Ftoken%3Dx&a=1", "/?next=REDACTED&a=1"),
            ("/?next=http://a:b@h/c", "/?next=REDACTED"),
            ("/?next=http%3A%2F%2Fa%3Ab%40h", "/?next=REDACTED"),
            ("http://h/?token=x", "http://h/?token=REDACTED"),
        ] {
            assert_eq!(text(target), expected);
        }
    }

    #[test]
    fn of_all_parameters_only_the_keys_are_left_where_everything_is_redacted() {
        let mut scratch = String::new();
        let target = read_target(b"/a;b=c?d=e&f", &Policy::of(Redaction::Full), &mut scratch);
        assert_eq!(target.text, "/a;b=REDACTED?d=REDACTED&f");
    }

    #[test]
    fn other_parameters_stay_as_sent() {
        for target in [
            "/?signed=1&tokens=2",
            "/?token",
            "/?q=token=x",
            "/token=x",
            "/?%zz=1",
            "/?next=http%3A%2F%2Fh%2F%3Fa%3Db",
            "/?mail=a@b.c&at=h:80",
            "/a=b;c=d",
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
            let target = read_target(target.as_bytes(), &Policy::of(Redaction::Off), &mut scratch);
            assert_eq!(target.text, expected);
            assert!(target.authority.unwrap().starts_with('h'));
        }
        assert_eq!(text("http://h/a@b"), "http://h/a@b");
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        let mut scratch = String::new();
        let target = read_target(
            b"/\xff?\xfe=1&sig=\xfd",
            &Policy::of(Redaction::On),
            &mut scratch,
        );
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
            ("me:pw@h:80", "h", Some(80)),
            ("me@h", "h", None),
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
