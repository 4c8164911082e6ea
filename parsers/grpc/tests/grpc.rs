//! gRPC on frames built by hand.

mod common;

use common::*;

fn attr(run: &wirespan_testkit::Run, name: &str) -> Option<String> {
    let prefix = format!("{name}=");
    attrs(&run.seen[0])
        .iter()
        .find_map(|attr| attr.strip_prefix(&prefix).map(str::to_owned))
}

#[test]
fn a_unary_call_ends_with_its_trailers() {
    let fixture = start()
        .client(&call(1, "/pkg.Service/Method"))
        .client(&frame(DATA, END_STREAM, 1, &messages(&[10])))
        .server(&call_headers(1))
        .server(&frame(DATA, 0, 1, &messages(&[3])))
        .server(&trailers(1, "0"));
    let run = check(&fixture, &["grpc pkg.Service/Method 0 []"]);
    let seen = &run.seen[0];
    assert_eq!(
        (seen.ttfb, seen.duration),
        (Some(1_000_000), Some(4_000_000))
    );
    let attrs = [
        "rpc.system.name=grpc",
        "rpc.method=pkg.Service/Method",
        "server.address=example.com",
        "rpc.status_code=OK",
        "wirespan.grpc.request.messages=1",
        "wirespan.grpc.response.messages=1",
    ];
    assert_eq!(common::attrs(seen), attrs);
}

#[test]
fn messages_of_streams_are_counted_across_frames() {
    let (sent, received) = (messages(&[1000, 0, 7]), messages(&[5, 5, 5, 5, 300]));
    let (a, b) = sent.split_at(1007);
    let (c, d) = received.split_at(12);
    let fixture = start()
        .client(&call(1, "/s/bidi"))
        .client(&frame(DATA, 0, 1, a))
        .server(&call_headers(1))
        .server(&frame(DATA, 0, 1, c))
        .client(&frame(DATA, PADDED, 1, &[&[2], b, &[0, 0]].concat()))
        .server(&frame(DATA, 0, 1, d))
        .client(&frame(DATA, END_STREAM, 1, b""))
        .server(&trailers(1, "0"));
    let run = check(&fixture, &["grpc s/bidi 0 []"]);
    assert_eq!(attr(&run, "wirespan.grpc.request.messages").unwrap(), "3");
    assert_eq!(attr(&run, "wirespan.grpc.response.messages").unwrap(), "5");
}

#[test]
fn compression_deadline_and_encoding_are_told() {
    let mut list = request("POST", "/s/m").to_vec();
    list.extend([
        ("content-type", "application/grpc+proto"),
        ("grpc-timeout", "250m"),
    ]);
    list.extend([("grpc-encoding", "gzip"), ("user-agent", "grpc-go/1.60")]);
    let fixture = start()
        .client(&headers(END_HEADERS, 1, &list))
        .client(&frame(DATA, END_STREAM, 1, b"\x01\0\0\0\x02gz"))
        .server(&headers(
            END_BOTH,
            1,
            &[(":status", "200"), ("grpc-status", "4")],
        ));
    let run = check(&fixture, &["grpc s/m 4 []"]);
    assert_eq!(attr(&run, "wirespan.grpc.timeout_us").unwrap(), "250000");
    assert_eq!(attr(&run, "wirespan.grpc.encoding").unwrap(), "gzip");
    assert_eq!(attr(&run, "wirespan.grpc.request.compressed").unwrap(), "1");
    assert_eq!(attr(&run, "rpc.status_code").unwrap(), "DEADLINE_EXCEEDED");
    assert_eq!(attr(&run, "user_agent.original").unwrap(), "grpc-go/1.60");
    assert!(run.seen[0].outcome == Some(wirespan_parser_api::Outcome::Error));
}

#[test]
fn a_call_that_is_cancelled_has_no_response() {
    let fixture = start()
        .client(&call(1, "/s/watch"))
        .client(&frame(DATA, END_STREAM, 1, &messages(&[4])))
        .server(&call_headers(1))
        .server(&frame(DATA, 0, 1, &messages(&[4, 4])))
        .client(&reset(1, CANCEL));
    let run = check(&fixture, &["grpc s/watch [no_response]"]);
    assert_eq!(attr(&run, "wirespan.grpc.response.messages").unwrap(), "2");
    assert_eq!(run.seen[0].duration, None);
}

#[test]
fn calls_that_end_before_their_time_have_the_bytes_of_their_own_frames() {
    let (first, second) = (call(1, "/s/watch"), call(3, "/s/chat"));
    let small = frame(DATA, 0, 1, &messages(&[4]));
    let large = frame(DATA, 0, 3, &messages(&[400, 9]));
    let base = start()
        .client(&[&first[..], &second, &small, &large].concat())
        .server(&[&call_headers(3)[..], &call_headers(1), &large, &small].concat());
    let sizes = |up: &[u8], down: &[u8]| {
        let head = call_headers(1).len();
        ((first.len() + up.len()) as u64, (head + down.len()) as u64)
    };
    let watch = sizes(&small, &small);
    let chat = {
        let (up, down) = sizes(&large, &large);
        (up - first.len() as u64 + second.len() as u64, down)
    };
    // Taken back by the client, broken off by the server, cut by the end of the connection.
    for fixture in [
        base.clone().client(&reset(1, CANCEL)),
        base.clone().server(&reset(1, CANCEL)),
        base,
    ] {
        let run = check(
            &fixture,
            &["grpc s/watch [no_response]", "grpc s/chat [no_response]"],
        );
        let bytes = run.seen.iter().map(|s| (s.request_bytes, s.response_bytes));
        assert_eq!(bytes.collect::<Vec<_>>(), [watch, chat]);
        assert_eq!(attr(&run, "wirespan.grpc.request.messages").unwrap(), "1");
    }
}

#[test]
fn a_status_before_the_client_is_done_ends_the_call() {
    let fixture = start()
        .client(&call(1, "/s/upload"))
        .client(&frame(DATA, 0, 1, &messages(&[4])))
        .server(&headers(
            END_BOTH,
            1,
            &[(":status", "200"), ("grpc-status", "7")],
        ))
        .client(&reset(1, CANCEL));
    let run = check(&fixture, &["grpc s/upload 7 []"]);
    assert_eq!(run.seen[0].duration, Some(2_000_000));
}

#[test]
fn a_response_without_status_has_that_of_its_http_status() {
    for (status, expected) in [("503", "14"), ("401", "16"), ("200", "2"), ("404", "12")] {
        let fixture = start()
            .client(&call(1, "/s/m"))
            .client(&frame(DATA, END_STREAM, 1, &messages(&[1])))
            .server(&headers(
                END_HEADERS,
                1,
                &[(":status", status), ("content-type", "text/html")],
            ))
            .server(&frame(DATA, END_STREAM, 1, b"<html>"));
        check(&fixture, &[&format!("grpc s/m {expected} [guessed]")]);
    }
}

#[test]
fn a_client_that_resets_behind_an_http_error_has_made_a_status_of_it() {
    for (status, expected) in [("404", "12 [truncated,guessed]"), ("200", "[no_response]")] {
        let list = [(":status", status), ("content-type", "text/html")];
        let fixture = start()
            .client(&call(1, "/s/m"))
            .server(&headers(END_HEADERS, 1, &list))
            .client(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
        check(&fixture, &[&format!("grpc s/m {expected}")]);
    }
}

#[test]
fn grpc_web_and_other_content_are_http() {
    let mut list = request("POST", "/s/m").to_vec();
    list.push(("content-type", "application/grpc-web+proto"));
    let fixture = start()
        .client(&headers(END_BOTH, 1, &list))
        .server(&answer(1, "200"));
    check(&fixture, &["http POST /s/m 200 []"]);
}

#[test]
fn a_binary_trace_context_is_read() {
    let mut list = request("POST", "/s/m").to_vec();
    list.push(("content-type", "application/grpc"));
    list.push(("grpc-trace-bin", "AABAQUJDREVGR0hJSktMTU5PAWFiY2RlZmdoAgE"));
    let fixture = start()
        .client(&headers(END_BOTH, 1, &list))
        .server(&trailers(1, "0"));
    let run = check(&fixture, &["grpc s/m 0 []"]);
    let trace = run.seen[0].trace.as_deref().unwrap();
    assert!(trace.contains("trace_id: [64, 65, 66"), "{trace}");
}
