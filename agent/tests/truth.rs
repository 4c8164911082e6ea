//! What the clients of our captures saw is what the records say, and no secret that they sent is
//! in any output.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use support::{captures_in, registry, repository};
use wirespan::api::Redaction;
use wirespan::{Format, Input, Pipeline};

/// The captures of ours that have a truth, and it.
fn captures() -> Vec<(PathBuf, Vec<Value>)> {
    let captures = captures_in(&repository().join("tests/pcaps"));
    let with_truth = captures.into_iter().filter_map(|capture| {
        let truth = fs::read_to_string(capture.with_extension("truth.jsonl")).ok()?;
        Some((capture, objects(&truth)))
    });
    with_truth.collect()
}

fn objects(text: &str) -> Vec<Value> {
    let parse = |line| serde_json::from_str(line).expect("a JSON object");
    text.lines().map(parse).collect()
}

fn output(capture: &Path, format: Format, redaction: Redaction) -> String {
    let mut pipeline = Pipeline::new(Arc::clone(&registry()));
    (pipeline.format, pipeline.redaction) = (format, redaction);
    let mut output = Vec::new();
    let input = Input::open(capture).expect("a capture");
    let write = |lines: &[u8]| {
        output.extend_from_slice(lines);
        Ok(())
    };
    pipeline
        .run(input, write, |_, _| {})
        .expect("nothing to fail");
    String::from_utf8(output).expect("UTF-8")
}

/// Whether `record` may be what the client saw as `truth`. A client does not know every target; a
/// record may lack the response, or say that its pairing is a guess.
fn agrees(record: &Value, truth: &Value) -> bool {
    let same = |key: &str| record[key] == truth[key];
    let flags = record["flags"].to_string();
    let midstream = flags.contains("midstream");
    let lossy = flags.contains("gap") || record["status"] == "";
    // What was said before the capture began may be unknown; never wrong.
    let unknown = |key: &str| midstream && record[key] == "";
    same("protocol")
        && (same("operation") || unknown("operation"))
        && (truth.get("target").is_none() || same("target") || unknown("target"))
        && (same("status") || guessed(record) || lossy)
}

fn guessed(record: &Value) -> bool {
    record["flags"].to_string().contains("guessed")
}

#[test]
fn records_say_what_the_clients_saw() {
    let captures = captures();
    assert!(!captures.is_empty(), "there are no captures");
    for (capture, mut truth) in captures {
        let lossy = capture.ends_with("http/loss.pcap");
        // Statements are in the truth as they are shown by default.
        let sql = ["postgresql", "mysql"].iter().any(|folder| {
            let parent = capture.parent().and_then(Path::file_name);
            parent.is_some_and(|name| name == *folder)
        });
        let redaction = if sql { Redaction::On } else { Redaction::Off };
        for record in objects(&output(&capture, Format::Records, redaction)) {
            let seen = truth.iter().position(|truth| agrees(&record, truth));
            let seen = seen.unwrap_or_else(|| panic!("{}: {record}", capture.display()));
            let seen = truth.remove(seen);
            assert!(
                lossy || seen["status"] == "" || record["status"] != "" || guessed(&record),
                "{}: no response in {record}",
                capture.display()
            );
        }
        assert!(
            lossy || truth.is_empty(),
            "{} has no record of {truth:?}",
            capture.display()
        );
    }
}

#[test]
fn trace_ids_are_those_that_the_clients_sent() {
    let mut traced = 0;
    for (capture, truth) in captures() {
        let keys = ["traceparent", "b3", "b3_trace_id"];
        let headers = truth
            .iter()
            .flat_map(|truth| keys.map(|key| truth[key].as_str()));
        let sent: Vec<_> = headers.flatten().map(str::to_ascii_lowercase).collect();
        for record in objects(&output(&capture, Format::Records, Redaction::On)) {
            let Some(id) = record["trace_id"].as_str() else {
                continue;
            };
            // B3 knows ids of half the length.
            let short = id.trim_start_matches('0');
            let known = sent.iter().any(|header| header.contains(short));
            assert!(known, "{}: {record}", capture.display());
            traced += 1;
        }
    }
    assert!(traced > 10, "only {traced} records have a trace");
}

#[test]
fn no_secret_is_in_any_output() {
    for capture in captures_in(&repository().join("tests/pcaps")) {
        for format in [Format::Records, Format::Table(wirespan::Colour::Off)] {
            let output = output(&capture, format, Redaction::On);
            let leak = output.lines().find(|line| line.contains("CANARY"));
            assert_eq!(leak, None, "{}", capture.display());
        }
    }
}
