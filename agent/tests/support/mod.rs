//! What several tests need: captures, and replaying them in this process.

#![allow(dead_code, reason = "each test uses a part")]

pub(crate) mod otlp;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use wirespan::{Format, Found, Input, Pipeline, Registry};

/// The root of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The captures in `folder` and below, in order of their paths.
pub(crate) fn captures_in(folder: &Path) -> Vec<PathBuf> {
    let (mut captures, mut folders) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|e| e == "pcap" || e == "pcapng" || e == "cap")
            {
                captures.push(path);
            }
        }
    }
    captures.sort();
    captures
}

/// The registry of the program.
pub(crate) fn registry() -> Arc<Registry> {
    static REGISTRY: OnceLock<Arc<Registry>> = OnceLock::new();
    let build = || Arc::new(wirespan::protocols().build().expect("different names"));
    Arc::clone(REGISTRY.get_or_init(build))
}

/// What a capture held.
pub(crate) struct Replayed {
    /// The records, a line each.
    pub(crate) records: String,
    pub(crate) found: Found,
}

/// Replays `capture` with `jobs` threads.
pub(crate) fn records(capture: &Path, jobs: usize) -> Replayed {
    replay(capture, jobs, None, Format::Records)
}

/// The same, with a report of everything that is open every 250 ms.
pub(crate) fn records_and_reports(capture: &Path, jobs: usize) -> Replayed {
    replay(capture, jobs, Some(250_000_000), Format::Records)
}

/// Metrics and spans of `capture`, as lines of OTLP, in place of records.
pub(crate) fn telemetry(capture: &Path, jobs: usize) -> Replayed {
    replay(capture, jobs, None, Format::OtlpJson)
}

fn replay(capture: &Path, jobs: usize, report_open: Option<u64>, format: Format) -> Replayed {
    let mut records = Vec::new();
    let mut pipeline = Pipeline::new(registry());
    (pipeline.jobs, pipeline.report_open, pipeline.format) = (jobs, report_open, format);
    let input = Input::open(capture).expect("a capture");
    let write = |lines: &[u8]| {
        records.extend_from_slice(lines);
        Ok(())
    };
    let found = pipeline
        .run(input, write, |_, _| {})
        .expect("nothing to fail");
    let records = String::from_utf8(records).expect("UTF-8");
    Replayed { records, found }
}
