//! How soon after a loss exchanges are whole again.

use wirespan_http::Http;
use wirespan_testkit::{Fixture, RECOVERY, recovers};

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\na\r\n0123456789\r\n0\r\n\r\n";

fn round_trip(n: usize) -> [Vec<u8>; 2] {
    let request = format!("GET /{n} HTTP/1.1\r\nHost: example.com\r\n\r\n");
    let answer = format!("HTTP/1.1 {} X\r\nContent-Length: 2\r\n\r\nok", 400 + n % 90);
    [request.into(), answer.into()]
}

#[test]
fn a_client_that_waits_is_paired_again_soon() {
    let fixture = Fixture::new()
        .client(GET)
        .server(OK)
        .client(b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .server(CHUNKED)
        .client(b"PUT /x HTTP/1.1\r\nContent-Length: 10\r\n\r\n0123456789")
        .server(OK);
    recovers(Http, &fixture, 0, RECOVERY, round_trip);
}

#[test]
fn a_client_that_sends_in_bursts_and_waits_is_paired_again_soon() {
    let habit = Fixture::new()
        .client(&[GET, GET, GET].concat())
        .server(&[OK, CHUNKED, OK].concat())
        .client(GET)
        .server(OK);
    let fixture = habit
        .clone()
        .client(&[GET, GET, GET].concat())
        .server(&[OK, CHUNKED, OK].concat())
        .client(&[GET, GET].concat())
        .server(&[OK, OK].concat());
    recovers(Http, &fixture, habit.len(), RECOVERY, round_trip);
}

/// Of a client that speaks while answers are outstanding, nobody can tell from a few round trips
/// that nothing is outstanding now: only a long run of answers without one too many shows it.
#[test]
fn a_client_that_never_waited_is_paired_again_after_a_long_calm() {
    let fixture = Fixture::new()
        .client(&[GET, GET].concat())
        .server(OK)
        .client(GET)
        .server(OK)
        .client(GET)
        .server(OK)
        .server(OK);
    recovers(Http, &fixture, 0, 260, round_trip);
}
