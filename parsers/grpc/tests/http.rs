//! HTTP/2 on frames built by hand.

mod common;

use common::*;

#[test]
fn a_request_and_its_response_are_an_exchange() {
    let get = get(1, "/a?b=c");
    let head = headers(
        END_HEADERS,
        1,
        &[(":status", "200"), ("content-length", "5")],
    );
    let body = frame(DATA, END_STREAM, 1, b"hello");
    let run = check(
        &start().client(&get).server(&head).server(&body),
        &["http GET /a?b=c 200 []"],
    );
    let seen = &run.seen[0];
    assert_eq!(seen.offset, 24 + 9 + 9);
    assert_eq!(seen.request_bytes, get.len() as u64);
    assert_eq!(seen.response_bytes, (head.len() + body.len()) as u64);
    assert_eq!(
        (seen.ttfb, seen.duration),
        (Some(1_000_000), Some(2_000_000))
    );
    let attrs = [
        "http.request.method=GET",
        "url.path=/a",
        "url.query=b=c",
        "url.scheme=http",
        "network.protocol.version=2",
        "server.address=example.com",
        "http.response.status_code=200",
        "http.response.body.size=5",
    ];
    assert_eq!(common::attrs(seen), attrs);
}

#[test]
fn interleaved_streams_are_told_apart() {
    let post = headers(END_HEADERS, 3, &request("PUT", "/three"));
    let fixture = start()
        .client(&[get(1, "/one"), post, get(5, "/five")].concat())
        .server(&headers(END_HEADERS, 5, &[(":status", "404")]))
        .client(&frame(DATA, 0, 3, b"part"))
        .server(&frame(DATA, 0, 5, b"no"))
        .server(&answer(1, "304"))
        .client(&frame(DATA, END_STREAM, 3, b"rest"))
        .server(&frame(DATA, END_STREAM, 5, b"ne"))
        .server(&answer(3, "500"));
    let run = check(
        &fixture,
        &[
            "http GET /one 304 []",
            "http GET /five 404 []",
            "http PUT /three 500 []",
        ],
    );
    let put = &run.seen[2];
    assert_eq!(
        put.request_bytes,
        headers(0, 3, &request("PUT", "/three")).len() as u64 + 2 * 13
    );
}

#[test]
fn padding_priority_and_continuations_are_read() {
    let list = block(&request("GET", "/long"));
    let (a, rest) = list.split_at(10);
    let (b, c) = rest.split_at(3);
    let first = [[4, 0, 0, 0, 0, 15].as_slice(), a, b"pads"].concat();
    let request = [
        frame(HEADERS, PADDED | 0x20 | END_STREAM, 1, &first),
        frame(CONTINUATION, 0, 1, b),
        frame(CONTINUATION, 0, 1, b""),
        frame(CONTINUATION, END_HEADERS, 1, c),
    ]
    .concat();
    let status = block(&[(":status", "200")]);
    let response = [
        frame(HEADERS, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, &status),
        frame(DATA, PADDED | END_STREAM, 1, b"\x03bodypad"),
    ]
    .concat();
    let fixture = start().client(&request).server(&response);
    let run = check(&fixture, &["http GET /long 200 []"]);
    assert_eq!(run.seen[0].request_bytes, request.len() as u64);
    assert_eq!(run.seen[0].response_bytes, response.len() as u64);
}

#[test]
fn interim_responses_are_passed_over_and_trailers_end() {
    let fixture = start()
        .client(&headers(END_HEADERS, 1, &request("POST", "/up")))
        .server(&headers(END_HEADERS, 1, &[(":status", "100")]))
        .client(&frame(DATA, 0, 1, b"body"))
        .client(&headers(END_BOTH, 1, &[("checksum", "1")]))
        .server(&headers(END_HEADERS, 1, &[(":status", "103")]))
        .server(&headers(END_HEADERS, 1, &[(":status", "201")]))
        .server(&frame(DATA, 0, 1, b"body"))
        .server(&headers(END_BOTH, 1, &[("checksum", "1")]));
    let run = check(&fixture, &["http POST /up 201 []"]);
    assert_eq!(run.seen[0].ttfb, Some(2_000_000), "to the final response");
    assert_eq!(run.seen[0].duration, Some(7_000_000));
}

#[test]
fn a_client_that_cancels_leaves_no_response() {
    let fixture = start()
        .client(&get(1, "/slow"))
        .client(&reset(1, CANCEL))
        .server(&answer(1, "200"));
    check(&fixture, &["http GET /slow [no_response]"]);
}

#[test]
fn a_reset_ends_a_response_early() {
    let fixture = start()
        .client(&[get(1, "/a"), get(3, "/b")].concat())
        .server(&headers(END_HEADERS, 1, &[(":status", "200")]))
        .server(&reset(1, 2))
        .server(&reset(3, 7));
    let run = check(
        &fixture,
        &["http GET /a 200 [truncated]", "http GET /b [no_response]"],
    );
    assert!(attrs(&run.seen[0]).contains(&"error.type=INTERNAL_ERROR".to_owned()));
    assert!(attrs(&run.seen[1]).contains(&"error.type=REFUSED_STREAM".to_owned()));
}

#[test]
fn an_answer_before_the_request_has_ended_is_whole() {
    let fixture = start()
        .client(&headers(END_HEADERS, 1, &request("POST", "/big")))
        .client(&frame(DATA, 0, 1, b"some"))
        .server(&answer(1, "413"))
        .server(&reset(1, NO_ERROR))
        .client(&frame(DATA, 0, 1, b"late"));
    let run = check(&fixture, &["http POST /big 413 []"]);
    assert_eq!(run.seen[0].duration, Some(2_000_000));
}

#[test]
fn goaway_closes_what_the_server_did_not_take() {
    let goaway = |last: u32| frame(GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    let fixture = start()
        .client(&[get(1, "/1"), get(3, "/3"), get(5, "/5")].concat())
        .server(&goaway(0x7fff_ffff))
        .server(&goaway(1))
        .server(&answer(1, "200"));
    let expected = [
        "http GET /5 [no_response]",
        "http GET /3 [no_response]",
        "http GET /1 200 []",
    ];
    check(&fixture, &expected);
}

#[test]
fn a_push_is_counted_and_its_headers_keep_the_table_right() {
    let promised = [
        2u32.to_be_bytes().to_vec(),
        inserted(&request("GET", "/pushed")),
    ]
    .concat();
    let response = [
        frame(PUSH_PROMISE, END_HEADERS, 1, &promised),
        frame(HEADERS, END_HEADERS, 2, &inserted(&[(":status", "201")])),
        frame(DATA, END_STREAM, 2, b"pushed"),
        // The status of the pushed response, from the table.
        frame(HEADERS, END_BOTH, 1, &ages(&[0])),
    ];
    let run = check(
        &start().client(&get(1, "/")).server(&response.concat()),
        &["http GET / 201 []"],
    );
    assert_eq!(run.stats.protocols["h2"].pushes["server push"], 1);
}

#[test]
fn a_tunnel_ends_the_exchange_that_opened_it() {
    let mut list = request("CONNECT", "/chat").to_vec();
    list.push((":protocol", "websocket"));
    let plain = [(":method", "CONNECT"), (":authority", "example.com:443")];
    let fixture = start()
        .client(&headers(END_HEADERS, 1, &list))
        .server(&headers(END_HEADERS, 1, &[(":status", "200")]))
        .client(&frame(DATA, 0, 1, b"\x81\x02hi"))
        .server(&frame(DATA, END_STREAM, 1, b"\x81\x02hi"))
        .client(&headers(END_HEADERS, 3, &plain))
        .server(&answer(3, "403"));
    let expected = [
        "http CONNECT /chat 200 []",
        "http CONNECT example.com:443 403 []",
    ];
    let run = check(&fixture, &expected);
    assert_eq!(run.seen[0].duration, Some(1_000_000));
}

#[test]
fn secrets_in_the_query_are_redacted() {
    let fixture = start()
        .client(&get(1, "/a?token=t0p&x=1"))
        .server(&answer(1, "200"));
    check(&fixture, &["http GET /a?token=REDACTED&x=1 200 []"]);
}

#[test]
fn a_trace_context_is_read() {
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut list = request("GET", "/").to_vec();
    list.extend([("traceparent", traceparent), ("tracestate", "a=1")]);
    let run = check(
        &start()
            .client(&headers(END_BOTH, 1, &list))
            .server(&answer(1, "200")),
        &["http GET / 200 []"],
    );
    let trace = run.seen[0].trace.as_deref().unwrap();
    assert!(
        trace.contains("[75, 249, 47, 53,") && trace.contains("a=1"),
        "{trace}"
    );
}

#[test]
fn a_larger_table_and_larger_frames_are_used_when_settings_allow_them() {
    let mut settings = vec![0, 1, 0, 0, 0x20, 0];
    settings.extend([0, 5, 0, 1, 0, 0]);
    let settings = frame(SETTINGS, 0, 0, &settings);
    let update = [vec![0x3f, 0xe1, 0x3f], block(&[(":status", "200")])].concat();
    let fixture = start()
        .client(&settings)
        .client(&get(1, "/"))
        .server(&frame(HEADERS, END_HEADERS, 1, &update))
        .server(&frame(DATA, END_STREAM, 1, &[b'x'; 40_000]));
    check(&fixture, &["http GET / 200 []"]);
}

#[test]
fn the_response_to_the_request_of_an_upgrade_is_counted() {
    let fixture = start()
        .server(&answer(1, "200"))
        .client(&get(3, "/next"))
        .server(&answer(3, "200"));
    let run = check(&fixture, &["http GET /next 200 []"]);
    assert_eq!(
        run.stats.protocols["h2"].pushes["response to an upgrade"],
        1
    );
}

#[test]
fn data_longer_than_allowed_is_believed_on_an_open_stream() {
    let fixture = start()
        .client(&get(1, "/"))
        .server(&headers(END_HEADERS, 1, &[(":status", "200")]))
        .server(&frame(DATA, END_STREAM, 1, &[b'x'; 70_000]));
    check(&fixture, &["http GET / 200 []"]);
}
