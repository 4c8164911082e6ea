//! Whole runs.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use etherparse::PacketBuilder;
use wirespan_engine::{Exchange, Nanos, Registry, Sink};

use crate::{Collect, Error, Input, Options, Report, SHARDS, run};

/// Writes down when it was called.
#[derive(Debug, Default, Eq, PartialEq)]
struct Log {
    times: Vec<u64>,
}

impl Sink for Log {
    fn exchange(&mut self, _: &Exchange<'_>) {}
}

impl Collect for Log {
    type Batch = Vec<u64>;

    fn at(&mut self, now: Nanos) {
        self.times.push(now.0);
    }

    fn take(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.times)
    }
}

fn options(jobs: usize) -> Options {
    let registry = Registry::builder()
        .build()
        .expect("no protocols, no clashes");
    Options {
        jobs,
        registry: Arc::new(registry),
        engine: Default::default(),
    }
}

/// A pcap file of `connections` dialogues, interleaved, a packet every 10 ms.
fn capture(connections: u16, rounds: u32) -> Vec<u8> {
    let mut file = vec![
        0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0,
    ];
    let mut n = 0;
    for round in 0..rounds {
        for port in 1_000..1_000 + connections {
            let (client, server, seq) = ([10, 0, 0, 1], [10, 0, 0, 2], round / 2 * 5);
            let sent = PacketBuilder::ethernet2([1; 6], [2; 6]);
            let sent = if round % 2 == 0 {
                sent.ipv4(client, server, 64).tcp(port, 80, seq, 9).ack(seq)
            } else {
                sent.ipv4(server, client, 64)
                    .tcp(80, port, seq, 9)
                    .ack(seq + 5)
            };
            let mut bytes = Vec::new();
            sent.write(&mut bytes, b"hello").unwrap();
            let len = bytes.len() as u32;
            let micros = n * 10_000;
            for word in [micros / 1_000_000, micros % 1_000_000, len, len] {
                file.extend(word.to_le_bytes());
            }
            file.extend(bytes);
            n += 1;
        }
    }
    file
}

fn replay(input: Input, jobs: usize) -> (Report<Log>, Vec<Vec<u64>>) {
    let mut delivered = vec![Vec::new(); SHARDS];
    let deliver = |batches: Vec<Vec<u64>>| {
        assert_eq!(batches.len(), SHARDS);
        for (all, batch) in delivered.iter_mut().zip(batches) {
            all.extend(batch);
        }
        ControlFlow::Continue(())
    };
    let report = run(input, &options(jobs), |_| Log::default(), deliver, |_| {});
    (report, delivered)
}

#[test]
fn the_number_of_jobs_changes_nothing() {
    let file = capture(40, 50);
    let (one, called) = replay(Input::bytes(file.clone()), 1);
    assert!(one.error.is_none());
    assert_eq!(
        (one.capture.packets, one.capture.tcp.segments),
        (2_000, 2_000)
    );
    assert_eq!((one.stats.connections, one.stats.intake), (40, 10_000));
    assert!(called.iter().all(|shard| !shard.is_empty()));
    for jobs in [2, 3, 8, 100] {
        let (many, called_many) = replay(Input::bytes(file.clone()), jobs);
        assert_eq!((&many.stats, &many.capture), (&one.stats, &one.capture));
        assert_eq!(called_many, called);
    }
}

#[test]
fn every_shard_ticks_at_multiples_of_a_quarter_second_and_at_the_end() {
    // 10 ms apart; the end comes behind the last packet.
    let (_, called) = replay(Input::bytes(capture(1, 60)), 1);
    let idle = called.iter().find(|shard| shard.len() < 10).unwrap();
    assert_eq!(idle, &[250_000_000, 500_000_000, 590_000_001]);
}

#[test]
fn one_time_in_the_far_future_ages_nothing() {
    let mut file = capture(1, 60);
    let seconds = 24 + 10 * (16 + 59);
    file[seconds..seconds + 4].copy_from_slice(&1_900_000_000_u32.to_le_bytes());
    let (report, called) = replay(Input::bytes(file), 1);
    assert_eq!(report.stats.connections, 1);
    let idle = called.iter().find(|shard| shard.len() < 10).unwrap();
    assert_eq!(idle, &[250_000_000, 500_000_000, 590_000_001]);
}

#[test]
fn times_and_sizes_are_counted() {
    let (report, _) = replay(Input::bytes(capture(1, 3)), 1);
    let capture = report.capture;
    // Time zero is no time.
    assert_eq!(
        (capture.first, capture.last),
        (Some(Nanos(10_000_000)), Some(Nanos(20_000_000)))
    );
    assert_eq!(
        (capture.captured_bytes, capture.wire_bytes),
        (3 * 59, 3 * 59)
    );
    assert_eq!(capture.tcp.payload_bytes, 15);
}

#[test]
fn a_damaged_file_gives_what_came_before() {
    let mut file = capture(1, 10);
    file.truncate(file.len() - 1);
    for jobs in [1, 2] {
        let (report, _) = replay(Input::bytes(file.clone()), jobs);
        assert!(matches!(report.error, Some(Error::Truncated { .. })));
        assert_eq!((report.capture.packets, report.stats.intake), (9, 45));
    }
}

#[test]
fn a_compressed_file_that_is_cut_off_gives_what_came_before() {
    let file = capture(10, 100);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    io::Write::write_all(&mut gzip, &file).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(&file[..], 0).unwrap();
    for compressed in [gzip, zstd] {
        let (report, _) = replay(Input::bytes(compressed.clone()), 1);
        assert_eq!(
            (report.capture.packets, report.error.is_none()),
            (1_000, true)
        );
        let half = compressed[..compressed.len() - 3].to_vec();
        let (report, _) = replay(Input::bytes(half), 1);
        assert!(
            matches!(report.error, Some(Error::Truncated { .. })),
            "{:?}",
            report.error
        );
    }
}

#[test]
fn a_run_stops_when_told() {
    for jobs in [1, 2] {
        let mut calls = 0;
        let report = run(
            Input::bytes(capture(100, 100)),
            &options(jobs),
            |_| Log::default(),
            |_| {
                calls += 1;
                ControlFlow::Break(())
            },
            |_| {},
        );
        assert_eq!(calls, 1);
        assert!(report.error.is_none());
    }
}

/// Gives a packet for each read, and notes how many had been read when.
struct Pipe {
    file: Vec<u8>,
    at: usize,
    reads: Arc<AtomicU64>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = if self.at < 24 { 24 - self.at } else { 16 + 59 };
        let len = len.min(self.file.len() - self.at).min(buf.len());
        buf[..len].copy_from_slice(&self.file[self.at..self.at + len]);
        self.at += len;
        if self.at > 24 && len > 0 {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(len)
    }
}

#[test]
fn packets_of_a_pipe_are_delivered_before_the_next_read() {
    for jobs in [1, 2] {
        let reads = Arc::new(AtomicU64::new(0));
        let pipe = Pipe {
            file: capture(1, 5),
            at: 0,
            reads: Arc::clone(&reads),
        };
        let seen = Rc::new(Cell::new(0));
        let deliver = |batches: Vec<Vec<u64>>| {
            let newest = batches.iter().flatten().copied().max().unwrap_or(0);
            // A packet every 10 ms, the first at 0. The last delivery is the end's.
            let read = reads.load(Ordering::Relaxed).saturating_sub(1) * 10_000_000;
            assert!(newest == read || newest == 40_000_001, "{newest}");
            seen.set(seen.get().max(newest));
            ControlFlow::Continue(())
        };
        let report = run(
            Input::live(pipe),
            &options(jobs),
            |_| Log::default(),
            deliver,
            |_| {},
        );
        assert!(report.error.is_none());
        assert_eq!((seen.get(), report.capture.packets), (40_000_001, 5));
    }
}

#[test]
fn progress_is_told_in_bytes_of_the_input() {
    let file = capture(100, 100);
    let len = file.len() as u64;
    let mut last = None;
    run(
        Input::bytes(file),
        &options(1),
        |_| Log::default(),
        |_| ControlFlow::Continue(()),
        |progress| last = Some(progress),
    );
    let last = last.unwrap();
    assert_eq!(
        (last.bytes, last.total, last.packets),
        (len, Some(len), 10_000)
    );
}
