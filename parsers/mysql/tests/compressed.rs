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

/// By what packets are compressed.
#[derive(Clone, Copy, Debug)]
enum Algorithm {
    Zlib,
    Zstd,
}

impl Algorithm {
    const BOTH: [Self; 2] = [Self::Zlib, Self::Zstd];

    fn capability(self) -> u32 {
        match self {
            Self::Zlib => COMPRESS,
            Self::Zstd => ZSTD,
        }
    }

    fn compress(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Zlib => compress_to_vec_zlib(bytes, 6),
            Self::Zstd => zstd::bulk::compress(bytes, 3).unwrap(),
        }
    }

    /// A frame of compressed packets.
    fn frame(self, seq: u8, packets: &[u8]) -> Vec<u8> {
        frame(seq, packets.len(), &self.compress(packets))
    }
}

fn conversation(by: Algorithm) -> Fixture {
    let rows = result_set(1, &["aaaaaaaaaaaaaaaa"; 20], Style::Deprecated, 0);
    let (first, second) = rows.split_at(150);
    connected_with(by.capability() | DEPRECATE_EOF, None)
        .client(&plain(0, &query("SELECT c FROM t")))
        .server(&[by.frame(1, first), by.frame(2, second)].concat())
        .client(&by.frame(
            0,
            &query("SELECT c FROM t WHERE c IN (1, 1, 1, 1, 1, 1, 1)"),
        ))
        .server(&plain(1, &err(1, 1054, "42S22")))
        .client(&plain(0, &command(0x0E, b"")))
        .server(&plain(1, &ok(1)))
}

/// What was asked, and how it ended.
fn told(run: &Run) -> Vec<(&str, &str)> {
    let seen = run.seen.iter();
    seen.map(|s| (&*s.operation, &*s.status)).collect()
}

/// A connection on which one response lies between two of `PING`.
fn between_pings(response: &[u8]) -> Run {
    let ping = plain(0, &command(0x0E, b""));
    let fixture = connected_with(COMPRESS | ZSTD, None)
        .client(&ping)
        .server(&plain(1, &ok(1)))
        .client(&plain(0, &query("SELECT c FROM t")))
        .server(response)
        .client(&ping)
        .server(&plain(1, &ok(1)));
    Run::of(MySql, &fixture)
}

/// The run has this error once, and the connection goes on.
fn fails_once(run: &Run, kind: ErrorKind, what: &'static str) {
    assert_eq!(run.stats.errors.get(&("mysql", kind, what)), Some(&1));
    assert_eq!(told(run).last(), Some(&("PING", "OK")));
}

#[test]
fn compressed_packets_keep_the_laws() {
    for by in Algorithm::BOTH {
        laws(MySql, &conversation(by));
    }
}

#[test]
fn sizes_and_offsets_are_those_of_the_frames() {
    for by in Algorithm::BOTH {
        let fixture = conversation(by);
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
}

#[test]
fn compression_is_inferred_and_flagged_where_the_login_was_missed() {
    for by in Algorithm::BOTH {
        let fixture = Fixture::new()
            .client(&plain(0, &query("SELECT c FROM t")))
            .server(&by.frame(1, &result_set(1, &["aaaaaaaaaaaa"; 20], Style::Eof, 0)))
            .client(&plain(0, &command(0x0E, b"")))
            .server(&plain(1, &ok(1)));
        let run = Run::of_late(MySql, &fixture);
        assert_eq!(told(&run), [("SELECT", "OK"), ("PING", "OK")]);
        let flags = run.seen.iter().map(|seen| seen.flags.to_string());
        assert!(flags.into_iter().all(|flags| flags == "midstream,guessed"));
    }
}

#[test]
fn zstandard_alone_shows_where_a_connection_can_be_joined() {
    let by = Algorithm::Zstd;
    let text = "SELECT c FROM t WHERE c IN (1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)";
    let rows = result_set(1, &["aaaaaaaaaaaaaaaa"; 20], Style::Deprecated, 0);
    let all = |fixture: Fixture| {
        fixture
            .client(&by.frame(0, &query(text)))
            .server(&by.frame(1, &rows))
            .client(&by.frame(0, &query(text)))
            .server(&by.frame(1, &rows))
    };
    let run = Run::of_late(MySql, &all(Fixture::new()));
    assert_eq!(told(&run), [("SELECT", "OK"), ("SELECT", "OK")]);
    laws(MySql, &all(connected_with(ZSTD | DEPRECATE_EOF, None)));
}

#[test]
fn a_frame_of_many_blocks_is_read_to_its_end() {
    // Little repeats, so that it stays long; the window of level 1 is shorter than that.
    let mut state = 1u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b"0123456789abcdef"[(state >> 28) as usize]
    };
    let rows: Vec<String> = (0..6_000)
        .map(|_| (0..200).map(|_| char::from(noise())).collect())
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let mut bytes = packet(1, &[1]);
    bytes.extend(column(2));
    for (seq, row) in (3..=255u8).cycle().zip(&rows) {
        bytes.extend(packet(seq, &[&[200], row.as_bytes()].concat()));
    }
    bytes.extend(ok_eof(4, 0));
    for level in [1, 3, 19] {
        let payload = zstd::bulk::compress(&bytes, level).unwrap();
        assert!(payload.len() > 500_000);
        let run = between_pings(&frame(1, bytes.len(), &payload));
        assert_eq!(
            told(&run)[1..],
            [("PING", "OK"), ("SELECT", "OK"), ("PING", "OK")]
        );
        assert!(run.seen.iter().all(|seen| seen.flags.is_empty()));
        assert_eq!(run.seen[2].response_bytes, payload.len() as u64 + 7);
    }
}

#[test]
fn a_frame_that_is_longer_than_it_says_is_an_error() {
    let bytes = ok(1).repeat(10);
    let run = between_pings(&frame(1, 20, &Algorithm::Zlib.compress(&bytes)));
    fails_once(&run, ErrorKind::Malformed, "compressed length");
    let run = between_pings(&frame(1, 20, &Algorithm::Zstd.compress(&bytes)));
    fails_once(&run, ErrorKind::Malformed, "compressed length");
}

/// A frame of Zstandard's that does not tell its length: a window of 1 KiB shifted by `exponent`,
/// a block with the beginning of a long row, and blocks of one byte repeated 128 KiB times.
fn repeated(exponent: u8, blocks: usize) -> Vec<u8> {
    let row = [&[0xFE, 0xFF, 0xFF, 3][..], b"a"].concat();
    let head = [packet(1, &[1]), column(2), row].concat();
    let block = |kind: u32, size: usize| (kind << 1 | (size as u32) << 3).to_le_bytes();
    let mut bytes = vec![0x28, 0xB5, 0x2F, 0xFD, 0, exponent << 3];
    bytes.extend(&block(0, head.len())[..3]);
    bytes.extend(head);
    for _ in 0..blocks {
        bytes.extend(&block(1, 128 << 10)[..3]);
        bytes.push(b'a');
    }
    bytes
}

#[test]
fn a_bomb_goes_off_at_the_announced_length() {
    // 40,000 bytes that would become 1.3 GB.
    let run = between_pings(&frame(1, 1 << 20, &repeated(7, 10_000)));
    fails_once(&run, ErrorKind::Malformed, "compressed length");
}

#[test]
fn a_window_that_takes_too_much_memory_is_refused_by_name() {
    let run = between_pings(&frame(1, 1 << 20, &repeated(14, 8)));
    fails_once(&run, ErrorKind::Unsupported, "zstd window");
}

#[test]
fn no_changed_byte_of_a_compressed_packet_is_a_fault() {
    let rows = result_set(
        1,
        &["abcdefgh", "ijklmnop", "abcdefgh"],
        Style::Deprecated,
        0,
    );
    let payload = Algorithm::Zstd.compress(&rows.repeat(3));
    for at in 0..payload.len() {
        for bits in [1, 0x10, 0x80, 0xFF] {
            let mut payload = payload.clone();
            payload[at] ^= bits;
            let run = between_pings(&frame(1, rows.len() * 3, &payload));
            assert_eq!(run.stats.parser_faults, 0, "byte {at}");
        }
    }
}
