//! The cases of llhttp's own test suite, read from its documents where they are at hand.
//!
//! Compared are the methods or statuses of the heads that llhttp completes, and whether it ends with
//! an error. Only its strict mode counts: its lenient modes are a server's choice, ours is to read
//! what peers in the field accept.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::Session;
use wirespan_parser_api::ParseError;

const FILES: [&str; 18] = [
    "request/connection",
    "request/content-length",
    "request/finish",
    "request/invalid",
    "request/lenient-version",
    "request/method",
    "request/pipelining",
    "request/sample",
    "request/transfer-encoding",
    "request/uri",
    "response/connection",
    "response/content-length",
    "response/finish",
    "response/invalid",
    "response/lenient-version",
    "response/pipelining",
    "response/sample",
    "response/transfer-encoding",
];

/// Cases that we read otherwise on purpose, by the reason.
const DIFFERENT: [(&str, &[&str]); 10] = [
    (
        "refused there, read here: what peers in the field accept, flagged ambiguous",
        &[
            "request/connection: Not treating `\\r` as `-`",
            "request/connection: Invalid whitespace token with `Connection` header field",
            "request/content-length: Error on simultaneous `Content-Length` and `Transfer-Encoding: identity`",
            "request/content-length: Invalid whitespace token with `Content-Length` header field",
            "request/content-length: `Content-Length` with CR instead of dash",
            "request/invalid: Headers separated by CR",
            "request/invalid: Headers separated by LF",
            "request/invalid: Empty headers separated by LF",
            "request/invalid: Invalid header token #1",
            "request/invalid: Invalid header token #2",
            "request/invalid: Invalid header token #3",
            "request/invalid: Illegal header field name line folding",
            "request/invalid: Corrupted Connection header",
            "request/invalid: Corrupted header name",
            "request/invalid: Missing CR between headers",
            "request/invalid: Spaces before headers",
            "request/sample: Line folding in header value with LF",
            "request/uri: Space in URI",
            "request/uri: Disallow UTF-8 in URI path in strict mode",
            "response/invalid: Extra digit in HTTP major version",
            "response/invalid: Extra digit in HTTP major version #2",
            "response/invalid: Extra digit in HTTP minor version",
            "response/invalid: Tab after HTTP version",
            "response/invalid: CR before response and tab after HTTP version",
            "response/invalid: Headers separated by CR",
            "response/invalid: Bare CR after response line",
            "response/invalid: Bare CR followed by CR after response line",
            "response/invalid: Invalid HTTP version",
            "response/invalid: Extra space between HTTP version and status code",
            "response/invalid: One-digit status code",
            "response/invalid: Only LFs present and no body",
            "response/invalid: Only LFs present",
            "response/sample: No carriage ret",
            "response/sample: Spaces in header name",
        ],
    ),
    (
        "refused there; here a head with a body that lasts to the end, flagged ambiguous",
        &[
            "request/content-length: Spaces in `Content-Length` #2",
            "request/content-length: Spaces in `Content-Length` #3",
            "request/content-length: Empty `Content-Length`",
            "request/transfer-encoding: Ignoring `pigeons`",
            "request/transfer-encoding: POST with `Transfer-Encoding` and `Content-Length`",
            "request/transfer-encoding: POST with empty `Transfer-Encoding` and `Content-Length` (lenient)",
            "request/transfer-encoding: POST with `chunked` before other transfer coding names",
            "request/transfer-encoding: POST with `chunked` and duplicate transfer-encoding",
            "request/transfer-encoding: POST with `chunkedchunked` as transfer-encoding",
        ],
    ),
    (
        "refused early there; here the head is not yet complete",
        &[
            "request/content-length: Error on `Content-Length` overflow",
            "request/content-length: Error on duplicate `Content-Length`",
            "request/content-length: Missing CRLF-CRLF before body",
            "request/invalid: Headers separated by dummy characters",
            "request/invalid: Invalid HTTP version",
            "request/invalid: Invalid space after start line",
            "response/invalid: Invalid space after start line",
        ],
    ),
    (
        "refused there for what follows the head; here the head counts",
        &[
            "request/invalid: Empty headers separated by CR",
            "request/invalid: Only LFs present",
        ],
    ),
    (
        "any token is a method",
        &[
            "request/invalid: HTTP protocol and ANNOUNCE method",
            "request/invalid: Invalid method",
        ],
    ),
    (
        "`Connection: close` is no reason not to read on",
        &[
            "request/connection: No restart when keep-alive is off (1.0)",
            "request/connection: CRLF between requests, explicit `close`",
            "request/connection: CRLF between requests, explicit `close` followed by tab",
            "response/connection: HTTP/1.1 with keep-alive disabled and 204 status",
        ],
    ),
    (
        "chunk extensions are passed over, white space before them is dropped",
        &[
            "request/transfer-encoding: No extension after semicolon",
            "request/transfer-encoding: Unbalanced chunk extensions quoting",
            "request/transfer-encoding: Space after chunk header",
            "response/transfer-encoding: Trailing space on chunked body",
            "response/transfer-encoding: No extension after semicolon",
            "response/transfer-encoding: Unbalanced chunk extensions quoting",
        ],
    ),
    (
        "`identity` is passed over as a transfer coding",
        &[
            "response/transfer-encoding: multiple transfer-encoding where chunked is not the last one",
        ],
    ),
    (
        "other protocols, and HTTP/0.9, are none of ours",
        &[
            "request/method: SOURCE request with ICE",
            "request/method: OPTIONS request with RTSP",
            "request/method: ANNOUNCE request with RTSP",
            "request/method: PRI request HTTP2",
            "request/sample: No HTTP version",
            "response/sample: RTSP response",
            "response/sample: ICE response",
        ],
    ),
    (
        "interim responses are not reported",
        &[
            "response/connection: HTTP 100 first, then 400",
            "response/connection: HTTP 103 first, then 200",
        ],
    ),
];

/// One case: a document's section.
struct Case {
    name: String,
    response: bool,
    input: Vec<u8>,
    /// Methods or statuses of the heads that llhttp completes.
    heads: Vec<String>,
    fails: bool,
}

#[test]
fn llhttp_cases_are_read_alike_but_for_the_listed_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/pcaps/llhttp/test");
    if !root.is_dir() {
        println!("skipped: {} is absent", root.display());
        return;
    }
    let mut count = 0;
    let mut different = BTreeSet::new();
    for file in FILES {
        let text = std::fs::read_to_string(root.join(file).with_extension("md")).unwrap();
        for case in cases(file, &text) {
            count += 1;
            let (heads, error) = read(&case);
            if (&heads, error.is_some()) != (&case.heads, case.fails) {
                println!("{}: {heads:?} {error:?}, not {:?}", case.name, case.heads);
                different.insert(case.name);
            }
        }
    }
    let listed = DIFFERENT.iter().flat_map(|(_reason, names)| *names);
    let listed: BTreeSet<_> = listed.map(|name| (*name).to_owned()).collect();
    assert_eq!(different, listed);
    assert!(count > 150, "only {count} cases were found");
    println!("{count} cases, {} of them read otherwise", listed.len());
}

/// What we make of a case.
fn read(case: &Case) -> (Vec<String>, Option<ParseError>) {
    let mut session = Session::new();
    let result = if case.response {
        session
            .client(&b"GET / HTTP/1.1\r\n\r\n".repeat(8))
            .unwrap();
        session.said();
        session.server(&case.input)
    } else {
        session.client(&case.input)
    };
    let kind = if case.response { "response" } else { "request" };
    let head = |line: String| {
        let mut words = line.split(' ').skip(1);
        (words.next() == Some(kind) && words.next()?.starts_with('@')).then_some(())?;
        words.next().map(str::to_owned)
    };
    (
        session.said().into_iter().filter_map(head).collect(),
        result.err(),
    )
}

/// The strict cases of a document.
fn cases(file: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut name = "";
    let mut meta = "";
    let mut input = None;
    let mut blocks = text.lines();
    while let Some(line) = blocks.next() {
        if let Some(title) = line.strip_prefix('#') {
            name = title.trim_start_matches('#').trim();
        } else if line.starts_with("<!-- meta=") {
            meta = line;
        } else if line.starts_with("```") && line.len() > 3 {
            let block: Vec<_> = blocks.by_ref().take_while(|line| *line != "```").collect();
            if line == "```http" {
                input = Some(bytes(&block.join("\n")));
                continue;
            }
            let strict = ["\"request\"", "\"response\""]
                .iter()
                .any(|ty| meta.contains(ty));
            let plain = strict && !meta.contains("pause") && !meta.contains("skipBody");
            if let Some(input) = input.take().filter(|_| line == "```log" && plain) {
                let response = meta.contains("\"response\"");
                let name = format!("{file}: {name}");
                cases.push(case(name, response, input, &block));
            }
        }
    }
    cases
}

fn case(name: String, response: bool, input: Vec<u8>, log: &[&str]) -> Case {
    let mut heads = Vec::new();
    let mut method = String::new();
    for line in log {
        if line.contains("message begin") {
            method.clear();
        } else if let Some((_, part)) = line.split_once("span[method]=") {
            method.push_str(part.trim_matches('"'));
        } else if line.contains("headers complete") {
            let status = line
                .split("status=")
                .nth(1)
                .and_then(|rest| rest.split(' ').next());
            heads.push(match status.filter(|_| response) {
                Some(status) => status.to_owned(),
                None => method.clone(),
            });
        }
    }
    Case {
        name,
        response,
        input,
        heads,
        // An upgrade makes llhttp pause, by an error.
        fails: log
            .iter()
            .any(|line| line.contains("error code=") && !line.contains("Pause on")),
    }
}

/// Undoes the escapes of the documents: lines end with CR LF, save for an escaped line end.
fn bytes(block: &str) -> Vec<u8> {
    let text = block.replace("\\\n", "").replace('\n', "\r\n");
    let mut bytes = Vec::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        let code = after.chars().next().unwrap_or('\\');
        let hex = after
            .get(1..3)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, len) = match (code, hex) {
            ('r', _) => (b'\r', 1),
            ('n', _) => (b'\n', 1),
            ('t', _) => (b'\t', 1),
            ('f', _) => (0x0c, 1),
            ('x', Some(byte)) => (byte, 3),
            _ => (b'\\', 0),
        };
        bytes.push(byte);
        rest = &after[len..];
    }
    bytes.extend(rest.as_bytes());
    bytes
}
