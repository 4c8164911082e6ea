//! Exchanges that are reported while they are open: they change no record and are none.

mod support;

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use support::{captures_in, records, records_and_reports, repository};

/// A call with a message every 1.1 s and its end after 3.3 s; then a quick one.
fn pauses() -> PathBuf {
    repository().join("tests/pcaps/grpc/pauses.pcap")
}

fn is_open(line: &str) -> bool {
    line.starts_with("{\"schema\":\"wirespan.open/1\",")
}

#[test]
fn reports_are_the_same_with_any_number_of_jobs_and_change_no_record() {
    let mut reports = 0;
    for capture in captures_in(&repository().join("tests/pcaps")) {
        let one = records_and_reports(&capture, 1);
        let four = records_and_reports(&capture, 4);
        assert_eq!(one.records, four.records, "{}", capture.display());
        let lines = one.records.split_inclusive('\n');
        let (open, finished): (Vec<_>, Vec<_>) = lines.partition(|line| is_open(line));
        assert_eq!(finished.concat(), records(&capture, 1).records);
        assert_eq!(open.len() as u64, one.found.stats.open_reports);
        reports += open.len();
    }
    assert!(reports >= 12, "only {reports} reports");
}

#[test]
fn a_stream_is_reported_while_open_with_its_messages_so_far() {
    let mut lines = Vec::new();
    for line in records_and_reports(&pauses(), 1).records.lines() {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let messages = record["attributes"]["wirespan.grpc.response.messages"].as_i64();
        let open = record["open_ns"].as_u64().map(|open| open / 100_000_000);
        let streaming = line.contains("\"streaming\"");
        lines.push((open, streaming, record["response_bytes"].as_u64(), messages));
    }
    let (reports, finished) = lines.split_at(lines.len() - 2);
    assert_eq!(finished[0], (None, false, Some(288), Some(3)));
    assert!(reports.len() >= 12 && reports.is_sorted());
    for (open, streaming, bytes, messages) in reports {
        let expected = match open.expect("an open exchange") {
            0..11 => (false, Some(0), Some(0)),
            11..22 => (true, Some(141), Some(1)),
            _ => (true, Some(195), Some(2)),
        };
        assert_eq!((*streaming, *bytes, *messages), expected);
    }
}

/// Runs `wirespan replay` on the capture with pauses.
fn replay(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wirespan"));
    command.arg("replay").arg(pauses()).args(args);
    command.output().expect("the program starts")
}

fn lines(output: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(output).expect("UTF-8");
    text.lines().collect()
}

#[test]
fn the_command_line_asks_for_reports_which_are_compared_with_no_golden() {
    let jsonl = replay(&["-o", "jsonl", "--report-open", "1s"]);
    let open = lines(&jsonl.stdout).iter().filter(|l| is_open(l)).count();
    assert_eq!((open, lines(&jsonl.stdout).len()), (3, 5));
    let told = |line: &&str| line.starts_with("reports of open exchanges");
    assert!(lines(&jsonl.stderr).iter().any(told));
    let slow = replay(&["-o", "jsonl", "--report-open", "1s", "--slower", "3s"]);
    assert_eq!(lines(&slow.stdout).len(), 2, "the last report, the record");
    let golden = pauses().with_extension("golden.jsonl");
    let golden = golden.to_str().expect("UTF-8");
    let checked = replay(&["-o", "jsonl", "--report-open", "1s", "--expect", golden]);
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(checked.stdout, jsonl.stdout);
    let table = replay(&["-q", "--report-open", "1s"]);
    let open = |line: &&&str| line.contains("  open");
    assert_eq!(lines(&table.stdout).iter().filter(open).count(), 3);
    assert_eq!(replay(&["--report-open", "0s"]).status.code(), Some(2));
}
