//! Every capture of the shared corpus is read, quickly and to its end.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wirespan_engine::{Config, Exchange, Nanos, Registry, Sink};
use wirespan_replay::{Collect, Error, Input, Options, Report, fuzz_capture, run};

struct Nothing;

impl Sink for Nothing {
    fn exchange(&mut self, _: &Exchange<'_>) {}
}

impl Collect for Nothing {
    type Batch = ();
    fn at(&mut self, _: Nanos) {}
    fn take(&mut self) {}
}

fn replay(path: &Path, jobs: usize) -> Report<Nothing> {
    let registry = Arc::new(
        Registry::builder()
            .build()
            .expect("no protocols, no clashes"),
    );
    let options = Options {
        jobs,
        registry,
        engine: Config::default(),
    };
    let input = Input::open(path).expect("the file is there");
    run(
        input,
        &options,
        |_| Nothing,
        |_| ControlFlow::Continue(()),
        |_| {},
    )
}

/// The captures, and how many packets the manifest says that each has.
fn corpus() -> Vec<(PathBuf, Option<u64>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/pcaps");
    let Ok(manifest) = fs::read_to_string(root.join("MANIFEST.tsv")) else {
        println!("skipped: there is no shared corpus");
        return Vec::new();
    };
    let mut captures = HashMap::new();
    for line in manifest.lines().skip(1) {
        let columns: Vec<&str> = line.split('\t').collect();
        if let [path, _, _, packets, ..] = columns[..]
            && root.join(path).is_file()
        {
            captures.insert(root.join(path), packets.parse().ok());
        }
    }
    let mut captures: Vec<_> = captures.into_iter().collect();
    captures.sort();
    captures
}

#[test]
fn every_capture_is_read_to_its_end_with_the_packets_that_it_has() {
    let mut wrong = Vec::new();
    for (path, packets) in corpus() {
        let start = Instant::now();
        let report = replay(&path, 1);
        let took = start.elapsed();
        let name = path.display();
        if took > Duration::from_secs(2) {
            wrong.push(format!("{name}: took {took:?}"));
        }
        let capture = &report.capture;
        let others = capture.fragments + capture.not_understood.values().sum::<u64>();
        if capture.packets != capture.tcp.segments + others {
            wrong.push(format!("{name}: {capture:?}"));
        }
        // The manifest's program shows custom blocks among the packets.
        let custom = capture.blocks_skipped.get("custom").copied();
        let read = capture.packets + custom.unwrap_or_default();
        match (&report.error, packets) {
            (None, Some(packets)) if packets != read => {
                wrong.push(format!("{name}: {read} packets, not {packets}"));
            }
            (None | Some(Error::Truncated { .. } | Error::Damaged { .. }), _) => {}
            (Some(error), _) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_capture_gives_the_same_counts_with_several_jobs() {
    for (path, _) in corpus().iter().step_by(7) {
        let (one, many) = (replay(path, 1), replay(path, 3));
        assert_eq!(
            (one.stats, one.capture),
            (many.stats, many.capture),
            "{}",
            path.display()
        );
    }
}

#[test]
fn captures_with_flipped_bytes_do_no_harm() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for (path, _) in corpus().iter().step_by(3) {
        let mut bytes = fs::read(path).expect("the file is there");
        bytes.truncate(100_000);
        for _ in 0..bytes.len() / 200 + 1 {
            let at = random() % bytes.len().max(1);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random() as u8;
            }
        }
        fuzz_capture(&bytes);
    }
}
