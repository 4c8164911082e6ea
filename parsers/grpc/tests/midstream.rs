//! Joined in the middle, and with bytes lost: known, unknown, never wrong.

mod common;

use common::*;
use wirespan_grpc::Http2;
use wirespan_testkit::{Fixture, Run};

fn late(fixture: &Fixture) -> Run {
    Run::of_late(Http2, fixture)
}

/// A POST whose `:path` and content type are old entries of the table.
fn old_call(stream: u32) -> Vec<u8> {
    frame(
        HEADERS,
        END_HEADERS,
        stream,
        &[[0x83, 0x86].as_slice(), &ages(&[0, 1, 2])].concat(),
    )
}

fn new_path(stream: u32, path: &str) -> Vec<u8> {
    let block = [
        [0x83, 0x86].as_slice(),
        &inserted(&[(":path", path)]),
        &ages(&[2, 3]),
    ]
    .concat();
    frame(HEADERS, END_HEADERS, stream, &block)
}

#[test]
fn what_is_older_is_unknown_and_what_is_newer_known() {
    let ask = |stream, ages_of: &[u8], path: Option<&str>| {
        let path = path
            .map(|path| inserted(&[(":path", path)]))
            .unwrap_or_default();
        let block = [[0x82, 0x86].as_slice(), &path, &ages(ages_of)].concat();
        frame(HEADERS, END_BOTH, stream, &block)
    };
    let fixture = Fixture::new()
        .client(&[ask(101, &[0], None), ask(103, &[], Some("/new"))].concat())
        .client(&[ask(105, &[0], None), ask(107, &[1], None)].concat())
        .server(
            &(101..=107)
                .step_by(2)
                .flat_map(|n| answer(n, "200"))
                .collect::<Vec<_>>(),
        );
    let run = late(&fixture);
    let expected = [
        "http GET 200 [midstream]",
        "http GET /new 200 [midstream]",
        "http GET /new 200 [midstream]",
        "http GET 200 [midstream]",
    ];
    assert_eq!(lines(&run), expected);
    assert_eq!(counted(&run, "unknown HPACK entries"), 2);
}

#[test]
fn the_rest_of_a_message_is_not_taken_for_a_large_frame() {
    // From inside a frame's header on: its last bytes and those of the message are headers too, the
    // second of them that of an unknown frame of 7 MB.
    let frame = frame(DATA, END_STREAM, 1, &messages(&[20]));
    let fixture = Fixture::new()
        .client(&frame[6..])
        .client(&get(101, "/a"))
        .server(&answer(101, "200"))
        .client(&get(103, "/b"))
        .server(&answer(103, "404"));
    let expected = ["http GET /a 200 [midstream]", "http GET /b 404 [midstream]"];
    assert_eq!(lines(&late(&fixture)), expected);
}

#[test]
fn a_call_of_unknown_content_type_is_known_by_its_message() {
    let fixture = Fixture::new()
        .client(&old_call(101))
        .client(&frame(DATA, END_STREAM, 101, &messages(&[20])))
        .server(&frame(
            HEADERS,
            END_HEADERS,
            101,
            &[&[0x88], ages(&[0]).as_slice()].concat(),
        ))
        .server(&frame(DATA, 0, 101, &messages(&[2])))
        .server(&frame(HEADERS, END_BOTH, 101, &ages(&[1, 2])))
        .client(&new_path(103, "/pkg.S/M"))
        .client(&frame(DATA, END_STREAM, 103, &messages(&[2])))
        .server(&call_headers(103))
        .server(&trailers(103, "5"));
    let run = late(&fixture);
    let expected = [
        "grpc [midstream,guessed]",
        "grpc pkg.S/M 5 [midstream,guessed]",
    ];
    assert_eq!(lines(&run), expected);
}

#[test]
fn a_call_of_unknown_content_type_is_known_by_its_status() {
    let fixture = Fixture::new()
        .client(&new_path(101, "/pkg.S/M"))
        .client(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]))
        .server(&frame(
            HEADERS,
            END_HEADERS,
            101,
            &[&[0x88], ages(&[0]).as_slice()].concat(),
        ))
        .server(&trailers(101, "13"))
        .client(&reset(101, NO_ERROR));
    assert_eq!(lines(&late(&fixture)), ["grpc pkg.S/M 13 [midstream]"]);
}

#[test]
fn a_post_of_unknown_content_type_that_nothing_shows_to_be_grpc_is_http() {
    let fixture = Fixture::new()
        .client(&new_path(101, "/form"))
        .client(&frame(DATA, END_STREAM, 101, b"a=b&c=d&e=f"))
        .server(&headers(
            END_HEADERS,
            101,
            &[(":status", "302"), ("content-type", "text/html")],
        ))
        .server(&frame(DATA, END_STREAM, 101, b"moved"));
    assert_eq!(lines(&late(&fixture)), ["http POST /form 302 [midstream]"]);
}

#[test]
fn trailers_of_an_older_stream_are_no_request() {
    let fixture = Fixture::new()
        .client(&frame(DATA, 0, 99, b"body"))
        .client(&headers(END_BOTH, 99, &[("checksum", "1")]))
        .client(&get(101, "/a"))
        .server(&answer(99, "200"))
        .server(&answer(101, "200"));
    assert_eq!(lines(&late(&fixture)), ["http GET /a 200 [midstream]"]);
}

#[test]
fn a_gap_inside_of_data_costs_nothing() {
    // The gap is where nobody looks: the engine is not even told of the bytes' contents.
    let body = frame(DATA, END_STREAM, 1, &[b'x'; 10_000]);
    let fixture = start()
        .client(&get(1, "/big"))
        .server(&headers(END_HEADERS, 1, &[(":status", "200")]))
        .server(&body);
    let run = check(&fixture, &["http GET /big 200 []"]);
    assert_eq!(run.stats.protocols["h2"].bytes.to_client.skipped, 10_000);
}

fn conversation() -> Fixture {
    let entries = [("content-type", "application/grpc"), ("te", "trailers")];
    let block = [
        [0x83, 0x86].as_slice(),
        &inserted(&[(":path", "/p.S/A")]),
        &inserted(&entries),
    ];
    start()
        .client(&frame(HEADERS, END_HEADERS, 1, &block.concat()))
        .client(&frame(DATA, END_STREAM, 1, &messages(&[20, 3])))
        .server(&call_headers(1))
        .server(&frame(DATA, 0, 1, &messages(&[5])))
        .server(&trailers(1, "0"))
        .client(&[get(3, "/x?q=1"), get(5, "/y")].concat())
        .server(&frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0]))
        .server(
            &[
                answer(5, "404"),
                headers(END_HEADERS, 3, &[(":status", "200")]),
            ]
            .concat(),
        )
        .client(&frame(
            HEADERS,
            END_HEADERS,
            7,
            &[[0x83, 0x86].as_slice(), &ages(&[0, 1, 2])].concat(),
        ))
        .client(&frame(DATA, END_STREAM, 7, &messages(&[9])))
        .server(&frame(DATA, END_STREAM, 3, b"hello"))
        .server(
            &[
                call_headers(7),
                frame(DATA, 0, 7, &messages(&[1, 1])),
                trailers(7, "14"),
            ]
            .concat(),
        )
        .client(&frame(PING, 0, 0, b"pingping"))
        .server(&frame(PING, 1, 0, b"pingping"))
        .client(
            &[
                frame(HEADERS, 1, 9, &[0x82, 0x87]),
                frame(CONTINUATION, 4, 9, &[0x84]),
            ]
            .concat(),
        )
        .server(&answer(9, "304"))
}

#[test]
fn a_conversation_keeps_the_laws() {
    let expected = [
        "grpc p.S/A 0 []",
        "http GET /y 404 []",
        "http GET /x?q=1 200 []",
        "grpc p.S/A 14 []",
        "http GET / 304 []",
    ];
    check(&conversation(), &expected);
    wirespan_testkit::laws(Http2, &conversation());
}

#[test]
fn other_protocols_are_strangers() {
    let others = [
        Fixture::new()
            .client(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
            .server(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        Fixture::new().client(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n").server(b"$-1\r\n"),
        Fixture::new()
            .server(b"\x0a\0\0\x008.0.36\0\x01\0\0\0abcdefgh\0\xff\xff\xff\x02\0\xff\xc7\x15\0\0\0\0\0\0\0\0\0\0")
            .client(b"\x0f\0\0\0\x03SELECT * FROM t")
            .server(b"\x07\0\0\x01\0\0\0\x02\0\0\0"),
        Fixture::new()
            .client(b"\0\0\0\x08\x04\xd2\x16\x2f\0\0\0\x15\0\x03\0\0user\0me\0\0")
            .server(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"),
        Fixture::new().client(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03").server(&[0; 4096]),
    ];
    wirespan_testkit::strangers(&Http2, &others);
}
