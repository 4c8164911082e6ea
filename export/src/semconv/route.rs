//! `http.route`: the pattern that a path follows, never the path; and which methods are known.
//!
//! From outside nobody sees which handler a server chose. A route is therefore what the user's
//! patterns say, or a guess: the heuristic `segments`, which can be switched off. Either is marked
//! with `wirespan.route.source`.

use std::fmt;
use std::str::FromStr;

/// Segments of a guessed route; what comes behind them becomes `{rest}`.
const MAX_SEGMENTS: usize = 6;
/// A longer segment is no word.
const MAX_WORD: usize = 24;
/// A segment with more hyphens or underscores is a title, not a word.
const MAX_JOINTS: usize = 3;

/// How routes are found, and which methods stand beside them.
#[derive(Clone, Debug)]
pub struct Routes {
    /// The user's patterns; the first that matches wins.
    pub patterns: Vec<Route>,
    /// Whether to guess where no pattern matches.
    pub heuristic: bool,
    /// The methods that are told apart, in place of those that the conventions have; others are
    /// `_OTHER`.
    pub methods: Option<Vec<Box<str>>>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            heuristic: true,
            methods: None,
        }
    }
}

/// How a route was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteSource {
    /// By one of the user's patterns.
    Pattern,
    /// By the heuristic `segments`.
    Heuristic,
}

impl RouteSource {
    /// As the attribute `wirespan.route.source` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pattern => "pattern",
            Self::Heuristic => "heuristic",
        }
    }
}

/// A pattern of paths, such as `/users/{id}` or `/static/*`: a segment in braces matches any one
/// segment, a `*` at the end whatever follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route(Box<str>);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotAPattern;

impl fmt::Display for NotAPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a path such as /users/{id}/orders or /static/*")
    }
}

impl std::error::Error for NotAPattern {}

impl FromStr for Route {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        let star_only_at_the_end = text.find('*').is_none_or(|at| text[at..] == *"*");
        let whole = |segment: &str| is_parameter(segment) || !segment.contains(['{', '}']);
        let valid = text.starts_with('/') && star_only_at_the_end && text.split('/').all(whole);
        valid.then(|| Self(text.into())).ok_or(NotAPattern)
    }
}

impl Route {
    fn matches(&self, path: &str) -> bool {
        let (pattern, open) = match self.0.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (&*self.0, false),
        };
        let mut segments = path.split('/');
        let mut wanted = pattern.split('/').peekable();
        while let Some(want) = wanted.next() {
            let Some(segment) = segments.next() else {
                return false;
            };
            let last = wanted.peek().is_none();
            let fits = match want {
                // What stands before the star is the beginning of a segment.
                _ if open && last => return segment.starts_with(want),
                _ if is_parameter(want) => !segment.is_empty(),
                _ => segment == want,
            };
            if !fits {
                return false;
            }
        }
        segments.next().is_none()
    }
}

fn is_parameter(segment: &str) -> bool {
    let name = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
    name.is_some_and(|name| !name.is_empty() && !name.contains(['{', '}']))
}

impl Routes {
    /// The route of `path`, and how it was found. `scratch` is overwritten.
    ///
    /// `found` says that the server knew the path. One that it did not know (404) has no route,
    /// and guessing one would let whoever probes for paths make up routes.
    #[must_use]
    pub fn find<'a>(
        &'a self,
        path: &str,
        found: bool,
        scratch: &'a mut String,
    ) -> Option<(&'a str, RouteSource)> {
        if let Some(route) = self.patterns.iter().find(|route| route.matches(path)) {
            return Some((&route.0, RouteSource::Pattern));
        }
        if !self.heuristic || !found || !path.starts_with('/') {
            return None;
        }
        guess(path, scratch);
        Some((scratch, RouteSource::Heuristic))
    }
}

/// The heuristic `segments`: each segment that is no word becomes `{id}`.
fn guess(path: &str, route: &mut String) {
    route.clear();
    for (i, segment) in path.split('/').skip(1).enumerate() {
        if i == MAX_SEGMENTS {
            route.push_str("/{rest}");
            return;
        }
        route.push('/');
        route.push_str(if is_word(segment) { segment } else { "{id}" });
    }
}

/// Whether a segment looks like something that a programmer wrote: letters, with a few joints
/// between them. `v1` is one, numbers, hashes, encoded text and titles are not.
fn is_word(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    if let [b'v', version @ ..] = bytes
        && (1..=2).contains(&version.len())
        && version.iter().all(u8::is_ascii_digit)
    {
        return true;
    }
    if bytes.len() > MAX_WORD {
        return false;
    }
    let mut joints = 0;
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'.' => {}
            b'-' | b'_' => joints += 1,
            _ => return false,
        }
    }
    joints <= MAX_JOINTS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(patterns: &[&str], path: &str, found: bool) -> Option<(String, &'static str)> {
        let routes = Routes {
            patterns: patterns.iter().map(|p| p.parse().expect(p)).collect(),
            ..Routes::default()
        };
        let mut scratch = String::new();
        let (route, source) = routes.find(path, found, &mut scratch)?;
        Some((route.to_owned(), source.name()))
    }

    #[test]
    fn segments_that_are_no_words_become_parameters() {
        for (path, expected) in [
            ("/", "/"),
            ("/api/v1/users/4711", "/api/v1/users/{id}"),
            (
                "/orders/550e8400-e29b-41d4-a716-446655440000/items",
                "/orders/{id}/items",
            ),
            ("/static/app.9f8a7c.js", "/static/{id}"),
            ("/favicon.ico", "/favicon.ico"),
            ("/blog/how-i-learned-to-love-it", "/blog/{id}"),
            ("/search/caf%C3%A9", "/search/{id}"),
            ("/shopping-cart/check_out/", "/shopping-cart/check_out/"),
            ("/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/{rest}"),
            ("/deadbeefdeadbeefdeadbeefdead", "/{id}"),
        ] {
            let found = route(&[], path, true);
            assert_eq!(found, Some((expected.into(), "heuristic")), "{path}");
        }
    }

    #[test]
    fn the_first_pattern_that_matches_wins_over_the_heuristic() {
        let patterns = ["/u/me", "/u/{name}", "/static/*", "/f/pre*"];
        for (path, expected) in [
            ("/u/me", "/u/me"),
            ("/u/alice", "/u/{name}"),
            ("/static/", "/static/*"),
            ("/static/a/b.js", "/static/*"),
            ("/f/prefix/and/more", "/f/pre*"),
        ] {
            let found = route(&patterns, path, false);
            assert_eq!(found, Some((expected.into(), "pattern")), "{path}");
        }
        assert_eq!(
            route(&patterns, "/u/", false),
            None,
            "a parameter is not empty"
        );
        assert_eq!(route(&patterns, "/u/a/b", false), None);
        assert_eq!(route(&patterns, "/static", false), None);
    }

    #[test]
    fn a_path_that_the_server_did_not_know_has_no_guessed_route() {
        assert_eq!(route(&[], "/wp-login.php", false), None);
        assert_eq!(route(&[], "*", true), None, "OPTIONS *");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "", "users", "/a*b", "/a/*/b", "/{", "/{}", "/x{id}", "/{a}{b}",
        ] {
            assert_eq!(text.parse::<Route>(), Err(NotAPattern), "{text}");
        }
    }
}
