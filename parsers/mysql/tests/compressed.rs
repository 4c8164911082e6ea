//! Compressed packets.

mod packets;

use miniz_oxide::deflate::compress_to_vec_zlib;
use packets::*;
use wirespan_mysql::MySql;
use wirespan_parser_api::ErrorKind;
use wirespan_testkit::{Fixture, Run, laws};

/// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`.
const ZSTD: u32 = 1 << 26;

fn frame(seq: u8, inflated: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes[3] = seq;
    bytes.extend(&(inflated as u32).to_le_bytes()[..3]);
    bytes.extend(payload);
    bytes
}

/// A frame of packets as they are.
fn plain(seq: u8, packets: &[u8]) -> Vec<u8> {
    frame(seq, 0, packets)
}

/// A frame of compressed packets.
fn deflated(seq: u8, packets: &[u8]) -> Vec<u8> {
    frame(seq, packets.len(), &compress_to_vec_zlib(packets, 6))
}

fn conversation() -> Fixture {
    let style = Style::Deprecated;
    let rows = result_set(1, &["aaaaaaaaaaaaaaaa"; 20], style, 0);
    let (first, second) = rows.split_at(150);
    connected_with(COMPRESS | DEPRECATE_EOF, None)
        .client(&plain(0, &query("SELECT c FROM t")))
        .server(&[deflated(1, first), deflated(2, second)].concat())
        .client(&deflated(
            0,
            &query("SELECT c FROM t WHERE c IN (1, 1, 1, 1, 1, 1, 1)"),
        ))
        .server(&plain(1, &err(1, 1054, "42S22")))
        .client(&plain(0, &command(0x0E, b"")))
        .server(&plain(1, &ok(1)))
}

#[test]
fn compressed_packets_keep_the_laws() {
    laws(MySql, &conversation());
}

#[test]
fn sizes_and_offsets_are_those_of_the_frames() {
    let fixture = conversation();
    let run = Run::of(MySql, &fixture);
    let chunks = fixture.chunks();
    let sizes: Vec<_> = run
        .seen
        .iter()
        .map(|s| (s.request_bytes, s.response_bytes))
        .collect();
    let len = |n: usize| chunks[n].bytes.len() as u64;
    let expected = [
        (len(1), len(2)),
        (len(3), len(4)),
        (len(5), len(6)),
        (len(7), len(8)),
    ];
    assert_eq!(sizes, expected);
    assert_eq!(run.seen[1].offset, len(1));
    let statuses: Vec<_> = run.seen.iter().map(|seen| &*seen.status).collect();
    assert_eq!(statuses, ["OK", "OK", "1054", "OK"]);
}

#[test]
fn compression_is_inferred_and_flagged_where_the_login_was_missed() {
    let fixture = Fixture::new()
        .client(&plain(0, &query("SELECT c FROM t")))
        .server(&deflated(
            1,
            &result_set(1, &["aaaaaaaaaaaa"; 20], Style::Eof, 0),
        ))
        .client(&plain(0, &command(0x0E, b"")))
        .server(&plain(1, &ok(1)));
    let run = Run::of_late(MySql, &fixture);
    let told: Vec<_> = run
        .seen
        .iter()
        .map(|s| (&*s.operation, &*s.status))
        .collect();
    assert_eq!(told, [("SELECT", "OK"), ("PING", "OK")]);
    assert!(
        run.seen
            .iter()
            .all(|seen| seen.flags.to_string() == "midstream,guessed")
    );
}

#[test]
fn a_frame_that_is_longer_than_it_says_is_an_error() {
    let lie = frame(1, 20, &compress_to_vec_zlib(&ok(1).repeat(10), 6));
    let fixture = connected_with(COMPRESS, None)
        .client(&plain(0, &command(0x0E, b"")))
        .server(&plain(1, &ok(1)))
        .client(&plain(0, &command(0x0E, b"")))
        .server(&lie)
        .client(&plain(0, &command(0x0E, b"")))
        .server(&plain(1, &ok(1)));
    let run = Run::of(MySql, &fixture);
    let key = ("mysql", ErrorKind::Malformed, "compressed length");
    assert_eq!(run.stats.errors.get(&key), Some(&1));
    let last = run
        .seen
        .last()
        .map(|seen| (&*seen.operation, &*seen.status));
    assert_eq!(last, Some(("PING", "OK")));
}

#[test]
fn zstandard_is_refused_by_name() {
    let fixture = connected_with(ZSTD, None).client(&plain(0, &command(0x0E, b"")));
    let run = Run::of(MySql, &fixture);
    let key = ("mysql", ErrorKind::Unsupported, "zstd compression");
    assert_eq!(run.stats.errors.get(&key), Some(&1));
}
