//! Conversations that no honest peer would hold.
#![allow(missing_docs)]

mod common;

use common::*;
use proptest::prelude::*;
use wirespan_postgres::Postgres;
use wirespan_testkit::fuzz_parser;

/// Messages of both sides, the usual and the odd.
fn vocabulary() -> Vec<Vec<u8>> {
    vec![
        ssl_request(),
        b"N".to_vec(),
        b"S".to_vec(),
        opening(80_877_102, &[7; 8]),
        startup(),
        welcome(),
        query("SELECT 1; SELECT 'a"),
        query(""),
        parse("s", "SELECT a"),
        extended("SELECT b"),
        bind("", "s"),
        bind_long("p", "s", 9_000),
        describe_statement("s"),
        describe_portal("p"),
        execute("p"),
        close_statement("s"),
        sync(),
        flush(),
        ready(),
        complete("SELECT 1"),
        error("42P01"),
        error("x"),
        row_description(),
        row(b"value"),
        extended_answer("SELECT 1"),
        message(b'1', b""),
        message(b'2', b""),
        message(b'3', b""),
        message(b'n', b""),
        message(b's', b""),
        message(b'I', b""),
        message(b'G', &[0, 0, 0]),
        message(b'H', &[0, 0, 0]),
        message(b'W', &[0, 0, 0]),
        message(b'd', b"data"),
        message(b'c', b""),
        message(b'f', b"no\0"),
        message(b'F', &[0; 10]),
        message(b'V', &[255; 4]),
        message(b'A', b"\0\0\0\x01rules\0\0"),
        b"D\x3f\xff\xff\xff".to_vec(),
        b"B\0\0\0\x0cabcdefgh".to_vec(),
    ]
}

/// One event of a story: see `wirespan_testkit::fuzz_parser`.
fn event(order: u8, bytes: &[u8]) -> Vec<u8> {
    let mut event = vec![order];
    event.extend((bytes.len() as u16).to_le_bytes());
    // Only arrivals have bytes.
    if matches!(order & 0xf, 0 | 1) {
        event.extend(bytes);
    }
    event
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn any_order_of_messages_and_losses_is_survived(
        opening in any::<u8>(),
        events in prop::collection::vec(
            (prop_oneof![8 => 0u8..2, 2 => 0u8..12, 1 => any::<u8>()], any::<prop::sample::Index>(),
             prop::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()))),
            1..60,
        ),
    ) {
        let words = vocabulary();
        let mut story = vec![opening];
        for (order, word, damage) in events {
            let mut bytes = word.get(&words).clone();
            if let Some((at, value)) = damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            story.extend(event(order, &bytes));
        }
        fuzz_parser(Postgres, &story);
    }
}
