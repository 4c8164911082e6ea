//! Broken and hostile input: counted, bounded, and what follows is still read.

mod common;

use common::*;
use proptest::prelude::*;
use wirespan_testkit::{Run, fuzz_parser};

/// Most memory that the parser may hold.
const HEAP: usize = 1 << 20;

/// Plays frames of the client's between two good exchanges; the last must be read.
fn between(bytes: &[u8]) -> Run {
    let fixture = start()
        .client(&get(1, "/before"))
        .server(&answer(1, "200"))
        .client(bytes)
        .client(&get(999_999, "/after"))
        .server(&answer(999_999, "200"));
    let run = play(&fixture);
    let lines = lines(&run);
    assert_eq!(lines[0], "http GET /before 200 []");
    assert!(
        lines.iter().any(|line| line.contains("GET /after 200")),
        "{lines:#?}"
    );
    run
}

#[test]
fn data_on_stream_zero_is_an_error_and_no_more() {
    let run = between(&frame(DATA, 0, 0, b"zero"));
    assert_eq!(errors(&run), [("stream of DATA", 1)]);
}

#[test]
fn a_stream_used_again_is_an_error_and_no_exchange() {
    let run = between(&get(1, "/again"));
    assert_eq!(
        (errors(&run), run.seen.len()),
        (vec![("stream used again", 1)], 2)
    );
}

#[test]
fn a_request_on_a_pushed_stream_is_an_error() {
    let run = between(&get(2, "/even"));
    assert_eq!(
        (errors(&run), run.seen.len()),
        (vec![("stream of HEADERS", 1)], 2)
    );
}

#[test]
fn wrong_padding_is_an_error() {
    let run = between(&frame(DATA, PADDED, 1, b"\x09abc"));
    assert_eq!(errors(&run), [("padding", 1)]);
    let run = between(&frame(HEADERS, PADDED | END_BOTH, 3, b"\x09abc"));
    assert_eq!(errors(&run), [("padding", 1)]);
}

#[test]
fn unknown_frames_are_skipped() {
    let run = between(&[frame(0x2a, 0xff, 7, b"grease"), frame(0x0a, 0, 0, b"")].concat());
    assert_eq!(errors(&run), []);
}

#[test]
fn a_frame_that_is_too_long_costs_the_place_and_it_is_found_again() {
    let run = between(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01and something behind it");
    assert_eq!(errors(&run), [("length of frame", 1)]);
    assert_eq!(run.stats.protocols["h2"].resyncs, 1);
}

#[test]
fn a_header_block_that_cannot_be_read_costs_the_table_and_no_more() {
    let run = between(&frame(HEADERS, END_BOTH, 3, &[0x80]));
    assert_eq!(errors(&run), [("HPACK index", 1)]);
    // That there was a request on stream 3 is known.
    assert_eq!(
        lines(&run)[1..],
        ["http GET /after 200 []", "http [truncated,no_response]"]
    );
}

#[test]
fn other_frames_inside_a_header_block_are_an_error() {
    let run = between(&[frame(HEADERS, 0, 3, &[0x82]), frame(PING, 0, 0, &[0; 8])].concat());
    assert_eq!(errors(&run), [("CONTINUATION", 1)]);
}

#[test]
fn a_flood_of_continuations_is_passed_over() {
    let mut flood = frame(HEADERS, 0, 3, &block(&request("GET", "/flood")));
    let header = block(&[("x", "y")]);
    for _ in 0..50_000 {
        flood.extend(frame(CONTINUATION, 0, 3, &header));
    }
    flood.extend(frame(CONTINUATION, END_HEADERS, 3, &header));
    let run = between(&flood);
    assert_eq!(errors(&run), [("header block", 1)]);
}

#[test]
fn a_flood_of_empty_continuations_is_passed_over() {
    let mut flood = frame(HEADERS, 0, 3, &[]);
    flood.extend(frame(CONTINUATION, 0, 3, &[]).repeat(50_000));
    flood.extend(frame(
        CONTINUATION,
        END_HEADERS,
        3,
        &block(&request("GET", "/flood")),
    ));
    let run = between(&flood);
    assert_eq!(errors(&run), [("header block", 1)]);
}

#[test]
fn a_bomb_is_cut() {
    // One large entry, referred to many times: 60 MB of headers in 16 kB.
    let value = "x".repeat(4_000);
    let mut bomb = inserted(&[("tracestate", &value)]);
    bomb.extend(vec![0xbe; 12_000]);
    let block = [block(&request("GET", "/bomb")), bomb].concat();
    let fixture = start()
        .client(&frame(HEADERS, END_BOTH, 1, &block))
        .server(&answer(1, "200"));
    let run = play(&fixture);
    assert_eq!(lines(&run), ["http GET /bomb 200 [truncated]"]);
}

#[test]
fn streams_that_are_reset_at_once_leave_nothing() {
    let resets = |n: u32| [get(n * 2 + 1, "/r"), reset(n * 2 + 1, CANCEL)].concat();
    let flood: Vec<u8> = (1..20_000).flat_map(resets).collect();
    let run = between(&flood);
    assert_eq!(run.seen.len(), 20_001);
    assert_eq!(run.stats.evicted_exchanges, 0);
    assert_eq!(counted(&run, "evicted streams"), 0);
}

#[test]
fn open_streams_are_bounded() {
    let flood: Vec<u8> = (1..10_000).flat_map(|n| get(n * 2 + 1, "/open")).collect();
    let run = between(&flood);
    assert_eq!(run.seen.len(), 10_001);
    assert_eq!(counted(&run, "evicted streams"), 10_000 - 4_096);
}

#[test]
fn memory_stays_bounded_under_all_of_this() {
    use wirespan_parser_api::{Direction, Emit, Event, Init, Input, Limits, Protocol};
    struct Deaf;
    impl Emit for Deaf {
        fn emit(&mut self, _: Event<'_>) {}
    }
    let limits = Limits::default();
    let mut init = Init::new(&limits);
    init.late_attach = true;
    let mut parser = wirespan_grpc::Http2.parser(&init);
    let mut offset = 0;
    for n in 0..20_000u32 {
        let mut list = request("POST", "/a/path/of/some/length").to_vec();
        let key = format!("key-{n}");
        list.push((&key, "value"));
        let mut block = inserted(&list);
        // An unknown header: an undecided stream keeps its path.
        block.push(0xff);
        block.push(0);
        let bytes = frame(HEADERS, END_HEADERS, n * 2 + 1, &block);
        let input = Input {
            bytes: &bytes,
            offset,
        };
        let step = parser.parse(Direction::ToServer, input, &mut Deaf).unwrap();
        assert_eq!(step.consumed, bytes.len());
        offset += bytes.len() as u64;
        assert!(parser.heap_bytes() < 2 * HEAP, "{}", parser.heap_bytes());
    }
}

/// A frame whose parts are right more often than not.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let block = prop_oneof![
        Just(block(&request("GET", "/any"))),
        Just(inserted(&request("POST", "/any"))),
        Just(block(&[
            (":status", "200"),
            ("content-type", "application/grpc")
        ])),
        Just(block(&[("grpc-status", "0")])),
        Just(messages(&[3, 0, 9])),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let cut = prop_oneof![8 => Just(usize::MAX), 1 => 0usize..20];
    (0u8..11, any::<u8>(), 0u32..8, block, cut).prop_map(|(kind, flags, stream, payload, cut)| {
        let mut frame = frame(kind, flags & 0x2d, stream, &payload);
        frame.truncate(cut);
        frame
    })
}

proptest! {
    /// The engine's account balances, and the parser keeps the contract: `fuzz_parser` checks.
    #[test]
    fn any_frames_are_survived(
        intro in 0u8..4,
        events in prop::collection::vec((0u8..4, prop::collection::vec(any_frame(), 1..4)), 1..20),
    ) {
        let mut story = vec![intro];
        for (order, frames) in events {
            let bytes = frames.concat();
            story.push(order);
            story.extend((bytes.len() as u16).to_le_bytes());
            // Orders above 1 are losses, which have a length and no bytes.
            story.extend(if order < 2 { bytes } else { Vec::new() });
        }
        fuzz_parser(wirespan_grpc::Http2, &story);
    }
}
