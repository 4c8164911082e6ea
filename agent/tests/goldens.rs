//! Every capture under `tests/pcaps` gives its golden, whatever the number of threads.
//! `UPDATE_GOLDEN=1` writes the goldens instead.

mod support;

use std::env;
use std::fs;
use std::path::Path;

use support::{records, repository};

#[test]
fn every_capture_of_ours_gives_its_golden() {
    let update = env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1");
    let captures = support::captures_in(&repository().join("tests/pcaps"));
    assert!(!captures.is_empty(), "there are no captures");
    let mut differing = Vec::new();
    for capture in captures {
        let golden = capture.with_extension("golden.jsonl");
        let found = records(&capture, 1).records;
        assert_eq!(
            found,
            records(&capture, 4).records,
            "{} by 4 jobs",
            capture.display()
        );
        if update {
            fs::write(&golden, &found).expect("a golden is written");
        } else if fs::read_to_string(&golden).ok().as_deref() != Some(&*found) {
            differing.push(shown(&capture));
        }
    }
    assert!(
        differing.is_empty(),
        "these differ from their goldens; see `wirespan replay FILE --expect GOLDEN`, or write \
         them with UPDATE_GOLDEN=1:\n{}",
        differing.join("\n")
    );
}

fn shown(capture: &Path) -> String {
    capture.display().to_string()
}
