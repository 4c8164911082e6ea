//! Every capture under `tests/pcaps` gives its goldens, whatever the number of threads.
//! `UPDATE_GOLDEN=1` writes the goldens instead.

mod support;

use std::env;
use std::fs;
use std::path::Path;

use support::{otlp, records, repository, telemetry};

#[test]
fn every_capture_of_ours_gives_its_golden() {
    check("golden.jsonl", |capture, jobs| {
        records(capture, jobs).records
    });
}

#[test]
fn every_capture_of_ours_gives_its_golden_metrics_and_spans() {
    check("golden.otlp.txt", |capture, jobs| {
        otlp::readable(&telemetry(capture, jobs).records)
    });
}

#[test]
fn metrics_count_what_the_records_count() {
    for capture in support::captures_in(&repository().join("tests/pcaps")) {
        let count = records(&capture, 1).records.lines().count() as u64;
        let found = telemetry(&capture, 4).found;
        let snapshot = found.metrics.expect("metrics were made").snapshot();
        let (edges, own): (Vec<_>, Vec<_>) = snapshot
            .series
            .iter()
            .partition(|(identity, _)| identity.instrument.duration().contains("edge"));
        for series in [edges, own] {
            let counted: u64 = series.iter().map(|(_, series)| series.count()).sum();
            assert_eq!(counted, count, "{}", capture.display());
        }
    }
}

fn check(suffix: &str, replayed: impl Fn(&Path, usize) -> String) {
    let update = env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let captures = support::captures_in(&repository().join("tests/pcaps"));
    assert!(!captures.is_empty(), "there are no captures");
    let mut differing = Vec::new();
    for capture in captures {
        let golden = capture.with_extension(suffix);
        let found = replayed(&capture, 1);
        assert_eq!(
            found,
            replayed(&capture, 4),
            "{} by 4 jobs",
            capture.display()
        );
        if update {
            fs::write(&golden, &found).expect("a golden is written");
        } else if fs::read_to_string(&golden).ok().as_deref() != Some(&*found) {
            differing.push(golden.display().to_string());
        }
    }
    assert!(
        differing.is_empty(),
        "these differ from what is replayed now; see `wirespan replay FILE --expect GOLDEN`, or \
         write them with UPDATE_GOLDEN=1 and look at the difference:\n{}",
        differing.join("\n")
    );
}
