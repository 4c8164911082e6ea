//! The laws that every parser keeps, over conversations that each show one side of HTTP/1.

use wirespan_http::{Http, WebSocket};
use wirespan_testkit::{Fixture, laws, strangers};

const GET: &[u8] = b"GET /a?b=c HTTP/1.1\r\nHost: example.com\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const NONE: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

#[test]
fn requests_one_after_another_keep_the_laws() {
    let fixture = Fixture::new()
        .client(GET)
        .server(OK)
        .client(GET)
        .server(NONE);
    laws(Http, &fixture.client(GET).server(OK));
}

#[test]
fn pipelined_requests_keep_the_laws() {
    let fixture = Fixture::new()
        .client(b"GET /1 HTTP/1.1\r\n\r\nGET /2 HTTP/1.1\r\n\r\nHEAD /3 HTTP/1.1\r\n\r\n")
        .server(b"HTTP/1.1 201 A\r\nContent-Length: 1\r\n\r\nx")
        .server(b"HTTP/1.1 202 B\r\nContent-Length: 1\r\n\r\nx")
        .server(b"HTTP/1.1 203 C\r\nContent-Length: 100\r\n\r\n");
    laws(
        Http,
        &fixture.client(b"GET /4 HTTP/1.1\r\n\r\n").server(NONE),
    );
}

#[test]
fn chunked_bodies_keep_the_laws() {
    let fixture = Fixture::new()
        .client(b"POST /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        .client(b"3\r\nabc\r\n10;ext=1\r\n0123456789abcdef\r\n")
        .client(b"0\r\nTrailer: x\r\n\r\n")
        .server(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n");
    laws(Http, &fixture.client(GET).server(OK));
}

#[test]
fn interim_responses_keep_the_laws() {
    let fixture = Fixture::new()
        .client(b"PUT /x HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .server(b"HTTP/1.1 100 Continue\r\n\r\n")
        .client(b"body")
        .server(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        .server(NONE);
    laws(Http, &fixture.client(GET).server(OK));
}

#[test]
fn a_body_until_close_keeps_the_laws() {
    let fixture = Fixture::new().client(b"GET / HTTP/1.0\r\n\r\n");
    laws(Http, &fixture.server(b"HTTP/1.0 200 OK\r\n\r\nto the end"));
}

#[test]
fn a_refused_connect_keeps_the_laws() {
    let fixture = Fixture::new()
        .client(b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n")
        .server(b"HTTP/1.1 407 Authenticate\r\nContent-Length: 2\r\n\r\nno");
    laws(Http, &fixture.client(GET).server(OK));
}

#[test]
fn a_refused_upgrade_keeps_the_laws() {
    let fixture = Fixture::new()
        .client(b"GET /1 HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
        .client(GET)
        .server(OK)
        .server(NONE);
    laws(Http, &fixture);
}

#[test]
fn no_other_protocol_is_taken_for_http() {
    let other = |bytes: &[u8]| Fixture::new().client(bytes);
    let others = [
        other(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").server(b"$-1\r\n"),
        other(b"GET k\r\n").server(b"$-1\r\n"),
        other(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
        other(b"OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\n\r\n").server(b"SIP/2.0 200 OK\r\n\r\n"),
        other(b"OPTIONS * RTSP/1.0\r\n\r\n").server(b"RTSP/1.0 200 OK\r\n\r\n"),
        other(b"\x16\x03\x01\0\x2f\x01\0\0\x2b\x03\x03"),
        other(b"\0\0\0\x08\x04\xd2\x16\x2f").server(b"N"),
        Fixture::new()
            .server(b"220 mail ESMTP\r\n")
            .client(b"EHLO h\r\n"),
        Fixture::new()
            .server(b"SSH-2.0-x\r\n")
            .client(b"SSH-2.0-y\r\n"),
    ];
    strangers(&Http, &others);
    strangers(&WebSocket, &others);
}

#[test]
fn arbitrary_bytes_do_no_harm() {
    for seed in 0u32..2_000 {
        // Lines of HTTP in a random order, cut and joined at random.
        const WORDS: [&[u8]; 12] = [
            b"GET / HTTP/1.1\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"\r\n",
            b"Content-Length: 7\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"5\r\n",
            b"0\r\n",
            b"\n",
            b"\0\xff",
            b" ",
            b"Connection: upgrade\r\nUpgrade: websocket\r\n",
            b"CONNECT h:1 HTTP/1.1\r\n\r\n",
        ];
        let mut bytes = Vec::new();
        let mut state = seed.wrapping_mul(2_654_435_769) | 1;
        for _ in 0..24 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            bytes.push(state as u8);
            let word = WORDS[(state >> 8) as usize % WORDS.len()];
            bytes.extend(&word[..word.len() - usize::from(state & 0x70 == 0)]);
        }
        wirespan_testkit::fuzz_parser(Http, &bytes);
        wirespan_testkit::fuzz_parser(WebSocket, &bytes);
    }
}
