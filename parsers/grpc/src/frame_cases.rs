//! Against http2-frame-test-case, in the folder of shared captures.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wirespan_parser_api::{Direction, Emit, Event, Init, Input, Limits, Protocol};

use crate::Http2;
use crate::wire::{self, HEAD, Head, Kind, Payload};

/// All cases with their paths; none where the captures are not there.
fn cases() -> Vec<(PathBuf, Value)> {
    let root = "../../../shared/pcaps/http2-frame-test-case";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut cases = Vec::new();
    for folder in fs::read_dir(root).into_iter().flatten() {
        for file in fs::read_dir(folder.unwrap().path()).into_iter().flatten() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let case = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            cases.push((path, case));
        }
    }
    if cases.is_empty() {
        println!("skipped: no http2-frame-test-case");
    }
    cases
}

fn wire(case: &Value) -> Vec<u8> {
    let digits: Vec<char> = case["wire"].as_str().unwrap().chars().collect();
    let nibble = |digit: &char| digit.to_digit(16).unwrap() as u8;
    digits
        .chunks(2)
        .map(|pair| nibble(&pair[0]) << 4 | nibble(&pair[1]))
        .collect()
}

fn check_payload(head: &Head, bytes: &[u8], expected: &Value) {
    let number = |key: &str| expected[key].as_u64().unwrap() as u32;
    let block = || {
        expected["header_block_fragment"]
            .as_str()
            .unwrap()
            .as_bytes()
    };
    let right = match wire::payload(head, bytes).unwrap() {
        Payload::Headers(read) => read == block(),
        Payload::PushPromise(stream, read) => {
            stream == number("promised_stream_id") && read == block()
        }
        Payload::Settings(bytes) => {
            let read = wire::settings(bytes).map(|(id, value)| vec![u32::from(id), value]);
            serde_json::to_value(read.collect::<Vec<_>>()).unwrap() == expected["settings"]
        }
        Payload::Reset(code) => code == number("error_code"),
        Payload::GoAway(last) => last == number("last_stream_id"),
        Payload::Window => number("window_size_increment") > 0,
    };
    assert!(right, "{expected}");
}

#[test]
fn good_frames_are_read() {
    for (path, case) in cases().iter().filter(|(_, case)| case["error"].is_null()) {
        let (bytes, expected) = (wire(case), &case["frame"]);
        let head = wire::head(&bytes).unwrap();
        let fields = [head.len, head.kind.0.into(), head.flags.into(), head.stream];
        let keys = ["length", "type", "flags", "stream_identifier"];
        for (field, key) in fields.into_iter().zip(keys) {
            assert_eq!(
                expected[key].as_u64(),
                Some(field.into()),
                "{}: {key}",
                path.display()
            );
        }
        assert_eq!(head.fault(), None, "{}", path.display());
        if !matches!(head.kind, Kind::DATA | Kind::PRIORITY | Kind::PING) {
            check_payload(&head, &bytes[HEAD..], &expected["frame_payload"]);
        }
    }
}

#[test]
fn bad_frames_are_errors() {
    struct Errors(u32);
    impl Emit for Errors {
        fn emit(&mut self, event: Event<'_>) {
            self.0 += u32::from(matches!(event, Event::Error { .. }));
        }
    }
    for (path, case) in cases().iter().filter(|(_, case)| !case["error"].is_null()) {
        // A frame that is too long is seen to be by its header alone; the case has no more of it.
        let bytes = wire(case);
        let mut errors = Errors(0);
        let limits = Limits::default();
        let init = Init::new(&limits);
        let input = Input {
            bytes: &bytes,
            offset: 0,
        };
        let result = Http2
            .parser(&init)
            .parse(Direction::ToClient, input, &mut errors);
        assert!(
            result.is_err() || errors.0 == 1,
            "{}: {result:?}",
            path.display()
        );
    }
}
