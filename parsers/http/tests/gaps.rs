//! What the parser says of heads of which a gap has left only the front, as a capture with a snap
//! length does.

mod common;

use common::Session;
use wirespan_parser_api::{AfterGap, Direction, Next};

const CUT_GET: &[u8] = b"GET /a?token=x HTTP/1.1\r\nHost: h\r\nUser-Ag";
const CUT_OK: &[u8] = b"HTTP/1.1 200 OK\r\nServer: x\r\nDa";
const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

use Direction::{ToClient, ToServer};

#[test]
fn a_cut_request_is_reported_and_answered() {
    let mut session = Session::new();
    assert_eq!(session.client(CUT_GET), Ok(Next::Need(CUT_GET.len() + 1)));
    assert_eq!(session.lose(ToServer, CUT_GET, 100), AfterGap::Resync);
    assert_eq!(
        session.said(),
        [
            "0 request @0 GET /a?token=REDACTED [gap,truncated]",
            "0 request end @141 141"
        ]
    );
    session.server(OK).unwrap();
    assert_eq!(
        session.said(),
        ["0 response @0 200 []", "0 response end @40 40"]
    );
}

#[test]
fn a_cut_response_is_reported_and_ends_with_the_gap() {
    let mut session = Session::new();
    session.client(GET).unwrap();
    session.said();
    assert_eq!(session.lose(ToClient, CUT_OK, 500), AfterGap::Resync);
    assert_eq!(
        session.said(),
        [
            "0 response @0 200 [gap,truncated]",
            "0 response end @530 530"
        ]
    );
    // The body may go on behind the gap, and then it is not skipped.
    session.client(GET).unwrap();
    session.said();
    session.server(OK).unwrap();
    assert_eq!(session.said()[0], "1 response @530 200 []");
}

#[test]
fn requests_with_short_heads_and_cut_responses_are_all_paired() {
    let mut session = Session::new();
    for id in 0..10 {
        session.client(GET).unwrap();
        session.lose(ToClient, CUT_OK, 500);
        let said = session.said();
        assert!(said[0].starts_with(&format!("{id} request ")), "{said:?}");
        assert!(said[2].starts_with(&format!("{id} response ")), "{said:?}");
        assert!(said[2].ends_with("200 [gap,truncated]"), "{said:?}");
    }
}

#[test]
fn a_client_known_to_wait_is_paired_when_all_heads_are_cut() {
    let mut session = Session::new();
    for _ in 0..2 {
        session.client(GET).unwrap();
        session.server(OK).unwrap();
    }
    session.said();
    for id in 2..10 {
        session.lose(ToServer, CUT_GET, 100);
        session.lose(ToClient, CUT_OK, 500);
        let said = session.said();
        assert!(said[0].starts_with(&format!("{id} request ")), "{said:?}");
        assert!(said[2].starts_with(&format!("{id} response ")), "{said:?}");
    }
}

#[test]
fn every_cut_request_is_reported_where_nothing_else_was_seen() {
    let mut session = Session::new();
    for id in 0..10 {
        session.lose(ToServer, CUT_GET, 100);
        session.lose(ToClient, CUT_OK, 500);
        let said = session.said();
        assert!(said[0].starts_with(&format!("{id} request ")), "{said:?}");
        let answered = said.iter().any(|line| line.contains(" response @"));
        let given_up = said.contains(&format!("{id} abandon Lost"));
        assert_ne!(answered, given_up, "{said:?}");
    }
}

#[test]
fn a_message_whose_start_line_is_cut_is_not_reported() {
    for unread in [
        &CUT_GET[..20],
        b"GET / HTTP/1.1\r",
        b"some text\r\nHost: h\r\n",
    ] {
        let mut session = Session::new();
        assert_eq!(session.lose(ToServer, unread, 100), AfterGap::Resync);
        assert_eq!(session.said(), [""; 0]);
    }
    let mut session = Session::new();
    session.client(GET).unwrap();
    session.said();
    session.lose(ToClient, b"HTTP/1.1 200 O", 100);
    assert_eq!(session.said(), ["0 abandon Lost"]);
}

#[test]
fn a_cut_interim_response_answers_nothing() {
    let mut session = Session::new();
    session.client(GET).unwrap();
    session.said();
    session.lose(ToClient, b"HTTP/1.1 103 Hints\r\nLink: x", 100);
    assert_eq!(session.said(), ["0 abandon Lost"]);
}

#[test]
fn a_cut_response_that_changes_the_protocol_is_the_last_one() {
    let connect = b"CONNECT h:443 HTTP/1.1\r\n\r\n";
    for (request, status) in [(GET, "101"), (connect, "200")] {
        let mut session = Session::new();
        session.client(request).unwrap();
        session.said();
        let head = format!("HTTP/1.1 {status} x\r\nServ");
        let after = session.lose(ToClient, head.as_bytes(), 100);
        assert_eq!(after, AfterGap::Stop, "{status}");
        let response = format!("0 response @0 {status} [gap,truncated]");
        assert_eq!(session.said()[0], response);
    }
}

#[test]
fn what_a_client_sends_behind_connect_is_no_request_before_the_answer() {
    let mut session = Session::new();
    session.client(b"CONNECT h:80 HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(session.client(CUT_GET), Ok(Next::Wait));
    session.said();
    session.lose(ToServer, CUT_GET, 100);
    assert_eq!(session.said(), [""; 0]);
}
