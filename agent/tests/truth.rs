//! What the clients of our captures saw is what the records say, and no secret that they sent is
//! in any output.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use support::{captures_in, registry, repository};
use wirespan::api::{Policy, Redaction};
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
    (pipeline.format, pipeline.policy) = (format, Policy::of(redaction));
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

/// The only capture with packets taken out: what it lost, it cannot tell. Where a capture begins
/// in the middle of a connection, the truth itself leaves empty what was said before.
const LOSSY: &str = "http/loss.pcap";

/// Whether `record` says what the client saw as `truth`. A client does not know every target.
fn agrees(record: &Value, truth: &Value, lossy: bool) -> bool {
    let same = |key: &str| record[key] == truth[key];
    let unanswered = record["status"] == "" && has_flag(record, "gap");
    let sent = trace_of(truth);
    let found = record["trace_id"].as_str();
    let parent = record["parent_span_id"].as_str();
    same("protocol")
        && same("operation")
        && (truth.get("target").is_none() || same("target"))
        && (same("status") || lossy && unanswered)
        && found == sent.as_ref().map(|sent| sent.trace.as_str())
        && sent.is_none_or(|sent| sent.parent.is_none() || sent.parent.as_deref() == parent)
}

fn has_flag(record: &Value, flag: &str) -> bool {
    let flags = record["flags"].as_array().expect("flags");
    flags.iter().any(|name| name == flag)
}

/// What a client's headers say of its trace.
struct Sent {
    trace: String,
    /// The caller's span, where the format says which one that is.
    parent: Option<String>,
}

/// The trace that a client's headers put a request into: W3C goes before B3, and what is not
/// well-formed says nothing.
fn trace_of(truth: &Value) -> Option<Sent> {
    let text = |key: &str| truth[key].as_str();
    let w3c = text("traceparent").and_then(w3c);
    let b3 = || {
        let (trace, _) = text("b3")?.split_once('-')?;
        Some(trace)
    };
    w3c.or_else(|| {
        let trace = b3().or(text("b3_trace_id"))?;
        Some(Sent {
            trace: format!("{trace:0>32}"),
            parent: None,
        })
    })
}

/// Reads a `traceparent` (W3C Trace Context, level 1, section 3.2): a later version may have more
/// fields, version 00 has not.
fn w3c(header: &str) -> Option<Sent> {
    let fields: Vec<_> = header.split('-').collect();
    let [version, trace, parent, flags, more @ ..] = fields.as_slice() else {
        return None;
    };
    let hex = |text: &str, len: usize| {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        digits && text.len() == len
    };
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let sound = hex(version, 2) && hex(trace, 32) && hex(parent, 16) && hex(flags, 2);
    let known = *version != "ff" && !zero(trace) && !zero(parent);
    (sound && known && (*version != "00" || more.is_empty())).then(|| Sent {
        trace: (*trace).into(),
        parent: Some((*parent).into()),
    })
}

#[test]
fn records_say_what_the_clients_saw_and_each_trace_that_they_sent() {
    let captures = captures();
    assert!(!captures.is_empty(), "there are no captures");
    let mut traced = 0;
    for (capture, mut truth) in captures {
        let name = capture.display();
        let lossy = capture.ends_with(LOSSY);
        // Statements are in the truth as they are shown by default.
        let sql = ["postgresql", "mysql"].iter().any(|folder| {
            let parent = capture.parent().and_then(Path::file_name);
            parent.is_some_and(|name| name == *folder)
        });
        let redaction = if sql { Redaction::On } else { Redaction::Off };
        for record in objects(&output(&capture, Format::Records, redaction)) {
            let seen = truth.iter().position(|truth| agrees(&record, truth, lossy));
            let seen = seen.unwrap_or_else(|| panic!("{name}: {record}\nin {truth:#?}"));
            truth.remove(seen);
            traced += usize::from(record["trace_id"].is_string());
        }
        assert!(
            lossy || truth.is_empty(),
            "{name} has no record of {truth:?}"
        );
    }
    assert!(traced > 50, "only {traced} records have a trace");
}

#[test]
fn no_secret_is_in_any_output() {
    for capture in captures_in(&repository().join("tests/pcaps")) {
        for format in [
            Format::Records,
            Format::OtlpJson,
            Format::Table(wirespan::Colour::Off),
        ] {
            let output = output(&capture, format, Redaction::On);
            let leak = output.lines().find(|line| line.contains("CANARY"));
            assert_eq!(leak, None, "{}", capture.display());
        }
    }
}
