//! How a stream is cut into segments, and in which order they are captured within a moment, is
//! invisible: the records are the same, byte for byte. And a segment that is missing costs little.

mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{captures_in, records, records_and_reports, repository};

/// A packet of a capture: its record header, and its bytes.
#[derive(Clone)]
struct Packet {
    header: [u8; 16],
    bytes: Vec<u8>,
}

/// Reads a little-endian pcap of Ethernet frames, as all of ours are.
fn read(capture: &Path) -> (Vec<u8>, Vec<Packet>) {
    let file = fs::read(capture).expect("a capture");
    assert_eq!(file[..4], [0xd4, 0xc3, 0xb2, 0xa1], "{}", capture.display());
    let (head, mut rest) = file.split_at(24);
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let header: [u8; 16] = rest[..16].try_into().expect("a record header");
        let len = u32::from_le_bytes(header[8..12].try_into().expect("four bytes")) as usize;
        packets.push(Packet {
            header,
            bytes: rest[16..16 + len].to_vec(),
        });
        rest = &rest[16 + len..];
    }
    (head.to_vec(), packets)
}

/// Where the TCP payload of an untagged IPv4 packet begins, if it was captured whole.
fn payload(packet: &Packet) -> Option<usize> {
    let bytes = &packet.bytes;
    if packet.header[8..12] != packet.header[12..16] || bytes.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let ip = usize::from(bytes[14] & 0x0f) * 4;
    if bytes[23] != 6 {
        return None;
    }
    let tcp = 14 + ip;
    Some(tcp + usize::from(bytes.get(tcp + 12)? >> 4) * 4)
}

/// A segment with the bytes `from..to` of a packet's payload.
fn part(packet: &Packet, start: usize, from: usize, to: usize) -> Packet {
    let ip = usize::from(packet.bytes[14] & 0x0f) * 4;
    let tcp = 14 + ip;
    let mut bytes = packet.bytes[..start].to_vec();
    bytes.extend_from_slice(&packet.bytes[start + from..start + to]);
    let total = u16::try_from(bytes.len() - 14).expect("shorter than before");
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    let sequence = u32::from_be_bytes(bytes[tcp + 4..tcp + 8].try_into().expect("four bytes"));
    let sequence = sequence.wrapping_add(u32::try_from(from).expect("a small offset"));
    bytes[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
    if start + to < packet.bytes.len() {
        bytes[tcp + 13] &= !0x01; // FIN stays with the last byte
    }
    let mut header = packet.header;
    let len = u32::try_from(bytes.len()).expect("a packet").to_le_bytes();
    header[8..12].copy_from_slice(&len);
    header[12..16].copy_from_slice(&len);
    Packet { header, bytes }
}

/// Cuts every payload into parts of at most `size` bytes.
fn cut(packet: &Packet, size: usize) -> Vec<Packet> {
    let Some(start) = payload(packet) else {
        return vec![packet.clone()];
    };
    let len = packet.bytes.len() - start;
    if len <= size {
        return vec![packet.clone()];
    }
    let starts = (0..len).step_by(size);
    starts
        .map(|from| part(packet, start, from, (from + size).min(len)))
        .collect()
}

/// A capture whose packets were each replaced by what `change` makes of them.
fn changed(capture: &Path, name: &str, change: impl Fn(&Packet) -> Vec<Packet>) -> PathBuf {
    let (mut file, packets) = read(capture);
    for packet in packets.iter().flat_map(change) {
        file.extend_from_slice(&packet.header);
        file.extend_from_slice(&packet.bytes);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("segments-{name}.pcap"));
    fs::write(&path, file).expect("a capture is written");
    path
}

/// What tells an exchange apart, with its status.
fn by_request(records: &str) -> BTreeMap<(String, String, String), String> {
    let parse = |line| serde_json::from_str::<Value>(line).expect("JSON");
    let text = |record: &Value, key: &str| record[key].as_str().expect("text").to_owned();
    let exchange = |record: Value| {
        let key = ["client", "start", "operation"].map(|key| text(&record, key));
        (key.into(), text(&record, "status"))
    };
    records.lines().map(parse).map(exchange).collect()
}

/// Our captures whose packets are whole, and not so many bytes that cutting them takes long.
fn captures() -> Vec<PathBuf> {
    let mut captures = captures_in(&repository().join("tests/pcaps"));
    captures.retain(|capture| {
        fs::metadata(capture).expect("a file").len() < 200_000
            && read(capture)
                .1
                .iter()
                .any(|packet| payload(packet).is_some())
    });
    assert!(captures.len() > 10);
    captures
}

#[test]
fn any_cut_into_segments_gives_the_same_records() {
    for capture in captures() {
        let whole = records_and_reports(&capture, 1).records;
        for size in [1, 2, 7, 100] {
            let cut = changed(&capture, "cut", |packet| cut(packet, size));
            let cut = records_and_reports(&cut, 1).records;
            assert_eq!(cut, whole, "{} in parts of {size}", capture.display());
        }
    }
}

#[test]
fn segments_reversed_within_a_window_give_the_same_records() {
    for capture in captures() {
        let whole = records_and_reports(&capture, 1).records;
        for size in [5, 64] {
            let reversed = changed(&capture, "reversed", |packet| {
                let mut parts = cut(packet, size);
                for window in parts.chunks_mut(8) {
                    window.reverse();
                }
                parts
            });
            let reversed = records_and_reports(&reversed, 1).records;
            assert_eq!(reversed, whole, "{} in parts of {size}", capture.display());
        }
    }
}

#[test]
fn segments_sent_twice_give_the_same_records() {
    for capture in captures() {
        let whole = records_and_reports(&capture, 1).records;
        let twice = changed(&capture, "twice", |packet| {
            let parts = cut(packet, 50);
            [parts.clone(), parts].concat()
        });
        let twice = records_and_reports(&twice, 1).records;
        assert_eq!(twice, whole, "{}", capture.display());
    }
}

#[test]
fn a_missing_segment_costs_a_few_exchanges_and_never_their_truth() {
    // On the average over all segments; losing the first of a connection may cost all of it.
    for (case, bound) in [
        ("http/keepalive", 2),
        ("redis/commands", 2),
        ("postgresql/simple", 2),
        ("mysql/text", 2),
        ("http2/basic", 2),
    ] {
        let capture = repository().join(format!("tests/pcaps/{case}.pcap"));
        let whole = by_request(&records(&capture, 1).records);
        let packets = read(&capture).1;
        let data = |packet: &Packet| payload(packet).is_some_and(|at| at < packet.bytes.len());
        let (mut lost, mut tries) = (0, 0);
        for missing in (0..packets.len()).filter(|n| data(&packets[*n])) {
            let number = Cell::new(0);
            let found = changed(&capture, "missing", |packet| {
                let this = number.replace(number.get() + 1);
                if this == missing {
                    Vec::new()
                } else {
                    vec![packet.clone()]
                }
            });
            let found = by_request(&records(&found, 1).records);
            for (request, status) in &found {
                let Some(truth) = whole.get(request) else {
                    continue;
                };
                let honest = status == truth || status.is_empty();
                assert!(
                    honest,
                    "{case} without packet {missing}: {request:?} {status}"
                );
            }
            let kept = whole
                .iter()
                .filter(|(key, status)| found.get(*key) == Some(status));
            lost += whole.len() - kept.count();
            tries += 1;
        }
        println!("{case}: {lost} exchanges in {tries} tries");
        assert!(
            lost <= bound * tries,
            "{case}: {lost} exchanges in {tries} tries"
        );
    }
}
