//! What the parser says of a conversation, sentence by sentence.

mod common;

use common::{Session, attributes};
use wirespan_parser_api::{Direction, ErrorKind, Next, Policy, Redaction, SecretKeys, Upgrade};

const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_and_its_response_are_reported_with_their_extent() {
    let mut session = Session::new();
    let post = b"POST /p HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
    assert_eq!(session.client(post), Ok(Next::Skip(5)));
    assert_eq!(
        session.said(),
        ["0 request @0 POST /p []", "0 request end @44 44"]
    );
    assert_eq!(session.server(OK), Ok(Next::Skip(2)));
    assert_eq!(
        session.said(),
        ["0 response @0 200 []", "0 response end @40 40"]
    );
}

#[test]
fn pipelined_responses_are_paired_in_order_and_head_has_no_body() {
    let mut session = Session::new();
    session
        .client(b"HEAD /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n")
        .unwrap();
    session.said();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n";
    session
        .server(&[head, &OK[..9], b"404 No\r\nContent-Length: 0\r\n\r\n"].concat())
        .unwrap();
    assert_eq!(
        session.said(),
        [
            "0 response @0 200 []",
            "0 response end @39 39",
            "1 response @39 404 []",
            "1 response end @77 38"
        ]
    );
}

#[test]
fn responses_without_a_body_by_their_status_end_with_their_head() {
    for status in ["204 No Content", "304 Not Modified"] {
        let mut session = Session::new();
        session.client(GET).unwrap();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(session.server(head.as_bytes()), Ok(Next::More), "{status}");
    }
}

#[test]
fn a_chunked_body_ends_behind_its_trailers() {
    let mut session = Session::new();
    session.client(GET).unwrap();
    session.said();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nA: b\r\n\r\n";
    let whole = [&head[..], body].concat();
    assert_eq!(session.server(&whole), Ok(Next::More));
    let end = whole.len();
    assert_eq!(
        session.said(),
        [
            "0 response @0 200 []".to_owned(),
            format!("0 response end @{end} {end}")
        ]
    );
}

#[test]
fn a_body_until_close_ends_with_the_stream() {
    let mut session = Session::new();
    session.client(GET).unwrap();
    let head = b"HTTP/1.0 200 OK\r\n\r\nall the rest";
    assert_eq!(session.server(head), Ok(Next::SkipToEnd));
    session.said();
    session.end(Direction::ToClient);
    assert_eq!(session.said(), ["0 response end @31 31"]);
}

#[test]
fn a_body_that_ends_early_is_truncated() {
    for head in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let mut session = Session::new();
        session.client(GET).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\n");
        session.server(head.as_bytes()).unwrap();
        session.said();
        session.end(Direction::ToClient);
        assert_eq!(session.said()[0], "0 note truncated");
    }
}

#[test]
fn interim_responses_are_passed_over() {
    let mut session = Session::new();
    session.client(GET).unwrap();
    session.said();
    session
        .server(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n")
        .unwrap();
    assert!(session.said().is_empty());
    session.server(OK).unwrap();
    assert_eq!(session.said()[0], "0 response @56 200 []");
}

#[test]
fn connect_holds_the_client_until_the_tunnel_is_open() {
    let mut session = Session::new();
    let connect = b"CONNECT h:443 HTTP/1.1\r\n\r\n\x16\x03\x01";
    assert_eq!(session.client(connect), Ok(Next::Wait));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
    assert_eq!(session.server(answer), Ok(Next::Upgrade(Upgrade::Detect)));
    assert_eq!(
        session.said(),
        [
            "0 request @0 CONNECT h:443 []",
            "0 request end @26 26",
            "0 response @0 200 []",
            "0 response end @38 38"
        ]
    );
}

#[test]
fn a_refused_connect_goes_on_as_http() {
    let mut session = Session::new();
    session.client(b"CONNECT h:443 HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(session.client(GET), Ok(Next::Wait));
    let answer = b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno";
    assert_eq!(session.server(answer), Ok(Next::Skip(2)));
    assert_eq!(session.client(GET), Ok(Next::More));
}

#[test]
fn a_hold_ends_when_the_server_stays_silent() {
    let mut session = Session::new();
    session.client(b"CONNECT h:443 HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(session.client(GET), Ok(Next::Wait));
    assert_eq!(
        session.client(GET),
        Ok(Next::More),
        "asked again: the engine waits no longer"
    );
}

#[test]
fn a_switch_of_protocols_ends_the_exchange() {
    for (protocol, next) in [
        ("websocket", "To(ProtocolName(\"websocket\"))"),
        ("WebSocket", "To(ProtocolName(\"websocket\"))"),
        ("h2c", "To(ProtocolName(\"h2\"))"),
        ("tcp", "Detect"),
    ] {
        let mut session = Session::new();
        let get = b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        session.client(get).unwrap();
        assert_eq!(session.client(b"\x81"), Ok(Next::Wait));
        session.said();
        let head = format!("HTTP/1.1 101 Switch\r\nUpgrade: {protocol}\r\n\r\n");
        let Ok(Next::Upgrade(upgrade)) = session.server(head.as_bytes()) else {
            panic!("no upgrade to {protocol}");
        };
        assert_eq!(format!("{upgrade:?}"), next);
        assert_eq!(session.said()[0], "0 response @0 101 []");
        assert!(session.said().is_empty());
    }
}

#[test]
fn smuggling_shapes_are_one_request_and_ambiguous() {
    for headers in [
        "Content-Length: 45\r\nTransfer-Encoding: xchunked",
        "Content-Length: 4\r\nContent-Length: 46",
        "Content-Length: 46, 4",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Content-Length: +46",
        "Content-Length: 046",
        "Content-Length: 46\r\nContent-Length: 46",
        "Content-Length:\r\n 46",
        "Content-Length : 46",
        "Transfer-Encoding: chunked, gzip",
    ] {
        let mut session = Session::new();
        let head = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
        let body = "GET /smuggled HTTP/1.1\r\nHost: h\r\nA: bcdefgh\r\n\r\n";
        let _ = session.client(format!("{head}{}", &body[..46]).as_bytes());
        let said = session.said();
        assert_eq!(said[0], "0 request @0 POST / [ambiguous]", "{headers:?}");
        assert!(
            said.iter().all(|line| !line.contains("smuggled")),
            "{headers:?}: {said:?}"
        );
    }
}

#[test]
fn chunked_wins_over_content_length_and_its_end_is_the_requests() {
    let mut session = Session::new();
    let head = b"POST / HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n";
    session
        .client(&[&head[..], b"0\r\n\r\nGET /next HTTP/1.1\r\n\r\n"].concat())
        .unwrap();
    let said = session.said();
    assert_eq!(said[0], "0 request @0 POST / [ambiguous]");
    assert!(said[2].contains("GET /next []"), "{said:?}");
}

#[test]
fn a_broken_chunk_ends_the_request_and_nothing_behind_it_is_one() {
    for chunk in ["ffffffffffffffffff\r\n", "-1\r\n", "zz\r\n"] {
        let mut session = Session::new();
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let error = session
            .client(format!("{head}{chunk}").as_bytes())
            .unwrap_err();
        assert_eq!(
            (error.kind, error.what),
            (ErrorKind::Malformed, "chunk size")
        );
        assert_eq!(session.said()[1], "0 note ambiguous");
        assert_eq!(session.client(GET), Ok(Next::SkipToEnd));
    }
}

#[test]
fn what_is_no_http_1_is_an_error() {
    for bytes in [
        "GET /\r\n\r\n",
        "GET / HTTP/0.9\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "nonsense\r\n",
        "\0\0\0\0",
        "OPTIONS sip:a SIP/2.0\r\n\r\n",
    ] {
        let mut session = Session::new();
        let error = session.client(bytes.as_bytes()).unwrap_err();
        assert_eq!(error.what, "request line", "{bytes:?}");
        assert!(session.said().is_empty());
    }
}

#[test]
fn a_head_above_the_limit_is_an_error() {
    for line_end in ["", "\r\n\r\n"] {
        let head = format!("GET /{} HTTP/1.1\r\nA: b{line_end}", "x".repeat(70_000));
        let error = Session::new().client(head.as_bytes()).unwrap_err();
        assert_eq!(
            (error.kind, error.what),
            (ErrorKind::TooLarge, "request head")
        );
    }
}

#[test]
fn endless_trailers_are_an_error() {
    let mut session = Session::new();
    session
        .client(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
        .unwrap();
    let error = session
        .client("a: b\r\n".repeat(20_000).as_bytes())
        .unwrap_err();
    assert_eq!(error.what, "trailer");
}

#[test]
fn junk_before_the_one_response_due_is_passed_over_and_counted() {
    let mut session = Session::new();
    session.client(GET).unwrap();
    session.said();
    session.server(&[b"foobar\r\n", OK].concat()).unwrap();
    assert_eq!(
        session.said(),
        [
            "error malformed: status line",
            "0 response @8 200 [ambiguous]",
            "0 response end @48 40"
        ]
    );
}

#[test]
fn a_response_that_nobody_asked_for_is_an_orphan() {
    let mut session = Session::new();
    session.server(OK).unwrap();
    assert_eq!(session.said(), ["orphan @0"]);
}

#[test]
fn an_orphan_may_answer_head_and_then_has_no_body() {
    const ANSWERS_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n";
    let mut session = Session::new();
    session.server(ANSWERS_HEAD).unwrap();
    session.server(OK).unwrap();
    session.server(OK).unwrap();
    let (first, second) = (ANSWERS_HEAD.len(), ANSWERS_HEAD.len() + OK.len());
    let orphan = |at: usize| format!("orphan @{at}");
    assert_eq!(session.said(), [orphan(0), orphan(first), orphan(second)]);
}

#[test]
fn the_first_pairing_of_a_late_attach_is_guessed() {
    let mut session = Session::with(true, Redaction::On);
    session.client(GET).unwrap();
    assert_eq!(session.said()[0], "0 request @0 GET / [guessed]");
    session.server(OK).unwrap();
    session.said();
    session.client(GET).unwrap();
    assert_eq!(session.said()[0], "1 request @18 GET / []");
}

#[test]
fn more_requests_in_flight_than_the_limit_are_given_up() {
    let mut session = Session::new();
    session.client(&GET.repeat(16 * 1024)).unwrap();
    session.said();
    session.client(GET).unwrap();
    let said = session.said();
    assert_eq!(
        said.iter()
            .filter(|line| line.ends_with("abandon Lost"))
            .count(),
        16_385
    );
}

#[test]
fn targets_are_redacted_unless_that_is_off() {
    let get = b"GET http://me:pw@h/p?token=x&a=b HTTP/1.1\r\n\r\n";
    let mut session = Session::new();
    session.client(get).unwrap();
    let redacted = "http://REDACTED:REDACTED@h/p?token=REDACTED&a=b";
    assert_eq!(session.said()[0], format!("0 request @0 GET {redacted} []"));
    let mut session = Session::with(false, Redaction::Off);
    session.client(get).unwrap();
    let as_sent = "http://REDACTED:REDACTED@h/p?token=x&a=b";
    assert_eq!(session.said()[0], format!("0 request @0 GET {as_sent} []"));
    // What is hidden may change on the way.
    session.server(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    session.set_policy(&Policy {
        redaction: Redaction::On,
        secret_keys: SecretKeys::new(["a"]),
    });
    session.client(get).unwrap();
    let redacted = "http://REDACTED:REDACTED@h/p?token=REDACTED&a=REDACTED";
    let said = session.said().join("\n");
    assert!(said.contains(&format!(" GET {redacted} ")), "{said}");
}

#[test]
fn only_the_headers_of_attributes_and_trace_context_leave() {
    let head = b"GET /p?q HTTP/1.1\r\nHost: example.com:8080\r\nUser-Agent: curl\r\n\
        Authorization: Bearer secret\r\nCookie: secret\r\nX-Api-Key: secret\r\n\
        traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n";
    assert_eq!(
        attributes(head),
        [
            "http.request.method=GET",
            "url.path=/p",
            "url.query=q",
            "network.protocol.version=1.1",
            "server.address=example.com",
            "server.port=8080",
            "user_agent.original=curl",
            "Some(75)"
        ]
    );
}
