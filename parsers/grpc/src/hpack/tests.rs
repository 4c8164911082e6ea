//! Against hpack-test-case (recorded by nghttp2), in the folder of shared captures.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// One header block, and what it says.
struct Case {
    block: Vec<u8>,
    headers: Vec<(String, String)>,
    /// What the reader allows from here on.
    table_size: Option<usize>,
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .bytes()
        .map(|b| char::from(b).to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

fn case(value: &Value) -> Case {
    let header = |header: &Value| {
        let (name, value) = header.as_object().unwrap().iter().next().unwrap();
        (name.clone(), value.as_str().unwrap().to_owned())
    };
    Case {
        block: hex(value["wire"].as_str().unwrap()),
        headers: value["headers"]
            .as_array()
            .unwrap()
            .iter()
            .map(header)
            .collect(),
        table_size: value["header_table_size"]
            .as_u64()
            .map(|size| size as usize),
    }
}

/// All stories with their names; none where the captures are not there.
fn stories() -> Vec<(String, Vec<Case>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/pcaps/hpack-test-case");
    let mut stories = Vec::new();
    for folder in ["nghttp2", "nghttp2-change-table-size"] {
        let Ok(files) = fs::read_dir(root.join(folder)) else {
            continue;
        };
        for file in files {
            let path = file.unwrap().path();
            let story: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let cases = story["cases"]
                .as_array()
                .unwrap()
                .iter()
                .map(case)
                .collect();
            stories.push((path.display().to_string(), cases));
        }
    }
    if stories.is_empty() {
        println!("skipped: no hpack-test-case");
    }
    stories
}

type Read = Vec<(Option<String>, Option<String>)>;

fn read(decoder: &mut Decoder, case: &Case) -> Read {
    let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8(b.to_vec()).unwrap());
    let mut headers = Vec::new();
    if let Some(size) = case.table_size {
        decoder.allow(size);
    }
    decoder
        .decode(&case.block, |header| {
            headers.push((text(header.name), text(header.value)))
        })
        .unwrap();
    headers
}

/// Checks that each header is right or unknown; returns how many are not wholly known.
fn unknown(read: &Read, case: &Case, what: &str) -> usize {
    assert_eq!(read.len(), case.headers.len(), "{what}");
    let mut unknown = 0;
    for ((name, value), (right_name, right_value)) in read.iter().zip(&case.headers) {
        assert!(
            name.as_ref().is_none_or(|name| name == right_name),
            "{what}: {name:?}"
        );
        assert!(
            value.as_ref().is_none_or(|value| value == right_value),
            "{what}: {value:?}"
        );
        unknown += usize::from(name.is_none() || value.is_none());
    }
    unknown
}

#[test]
fn every_story_is_read() {
    for (name, cases) in stories() {
        let mut decoder = Decoder::new();
        for (number, case) in cases.iter().enumerate() {
            let headers = read(&mut decoder, case);
            assert_eq!(
                unknown(&headers, case, &format!("{name}: {number}")),
                0,
                "{name}: {number}"
            );
        }
    }
}

/// Blocks that are read after a join or a loss.
const AFTERWARDS: usize = 30;

#[test]
fn a_story_joined_anywhere_is_right_or_unknown() {
    let (mut all, mut unknowns) = (0, 0);
    for (name, cases) in stories() {
        for from in 0..cases.len() {
            let mut decoder = Decoder::new();
            decoder.lose();
            decoder.lose_limit();
            for (number, case) in cases[from..].iter().take(AFTERWARDS).enumerate() {
                let headers = read(&mut decoder, case);
                let unknown = unknown(&headers, case, &format!("{name} from {from}"));
                if number == AFTERWARDS - 1 {
                    unknowns += unknown;
                    all += headers.len();
                }
            }
        }
    }
    println!("{unknowns} of {all} headers of the last block unknown");
    assert!(
        unknowns * 4 <= all,
        "most is known again: {unknowns} of {all}"
    );
}

#[test]
fn a_story_with_a_lost_block_is_right_or_unknown() {
    for (name, cases) in stories() {
        let mut whole = Decoder::new();
        for (lost, case) in cases.iter().enumerate() {
            let mut decoder = whole.clone();
            decoder.lose();
            decoder.lose_limit();
            for case in cases.iter().skip(lost + 1).take(AFTERWARDS) {
                let headers = read(&mut decoder, case);
                unknown(&headers, case, &format!("{name} without {lost}"));
            }
            read(&mut whole, case);
        }
    }
}

#[test]
fn a_block_cut_short_is_an_error_or_a_part() {
    for (_, cases) in stories().into_iter().take(4) {
        for case in cases.iter().take(20) {
            for len in 0..case.block.len() {
                let mut decoder = Decoder::new();
                decoder.lose();
                let mut seen = 0;
                let result = decoder.decode(&case.block[..len], |_| seen += 1);
                let short = seen < case.headers.len();
                assert!(
                    short
                        && matches!(
                            result,
                            Ok(()) | Err(HpackError::Truncated | HpackError::Huffman)
                        )
                );
            }
        }
    }
}

fn headers(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
    let mut headers = Vec::new();
    let text = |bytes: Option<&[u8]>| {
        bytes.map_or("?".into(), |b| String::from_utf8_lossy(b).into_owned())
    };
    decoder.decode(block, |h| {
        headers.push(format!("{}={}", text(h.name), text(h.value)))
    })?;
    Ok(headers)
}

#[test]
fn the_requests_of_the_rfc_are_read() {
    // RFC 7541 C.4: three requests with Huffman coding.
    let mut decoder = Decoder::new();
    let first = hex("828684418cf1e3c2e5f23a6ba0ab90f4ff");
    let same = [
        ":method=GET",
        ":scheme=http",
        ":path=/",
        ":authority=www.example.com",
    ];
    assert_eq!(headers(&mut decoder, &first).unwrap(), same);
    let second = headers(&mut decoder, &hex("828684be5886a8eb10649cbf")).unwrap();
    assert_eq!(
        second[3..],
        [":authority=www.example.com", "cache-control=no-cache"]
    );
    let third = hex("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf");
    let third = headers(&mut decoder, &third).unwrap();
    assert_eq!(
        third[3..],
        [":authority=www.example.com", "custom-key=custom-value"]
    );
}

#[test]
fn names_and_values_are_unknown_on_their_own() {
    let mut decoder = Decoder::new();
    decoder.lose();
    // 62 is unknown; 62 with a value is a literal whose name is; then that is the newest entry.
    let block = [
        0xbe, 0x7e, 1, b'v', 0xbe, 0xbf, 0x40, 1, b'n', 1, b'w', 0xbe, 0xbf,
    ];
    let expected = ["?=?", "?=v", "?=v", "?=?", "n=w", "n=w", "?=v"];
    assert_eq!(headers(&mut decoder, &block).unwrap(), expected);
}

#[test]
fn errors_are_told() {
    let error = |block: &[u8]| headers(&mut Decoder::new(), block).unwrap_err();
    assert_eq!(error(&[0x80]), HpackError::Index, "index 0");
    assert_eq!(
        error(&[0xbe]),
        HpackError::Index,
        "beyond a table that is whole"
    );
    assert_eq!(error(&[0x7e, 1, b'v']), HpackError::Index);
    assert_eq!(
        error(&[0x82, 0x20]),
        HpackError::SizeUpdate,
        "behind a header"
    );
    assert_eq!(
        error(&[0x3f, 0xe2, 0x1f]),
        HpackError::SizeUpdate,
        "above 4096"
    );
    assert_eq!(error(&[0x40, 5, b'a']), HpackError::Truncated);
    assert_eq!(
        error(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        HpackError::Integer
    );
    assert_eq!(error(&[0x00, 0x81, 0x00]), HpackError::Huffman);
}

#[test]
fn two_size_updates_may_begin_a_block() {
    let mut decoder = Decoder::new();
    let block = [0x20, 0x3f, 0xe1, 0x1f, 0x82];
    assert_eq!(headers(&mut decoder, &block).unwrap(), [":method=GET"]);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20), late: bool) {
        let mut decoder = Decoder::new();
        if late {
            decoder.lose();
            decoder.lose_limit();
        }
        for block in blocks {
            let _ = headers(&mut decoder, &block);
            prop_assert!(decoder.heap_bytes() < 1 << 20);
        }
    }
}
