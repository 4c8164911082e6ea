//! Secrets in every place of every protocol where one can be, and none of them in anything that the
//! program puts out: records, table, spans, metrics, statistics, whatever is lost or joined late.

#[path = "../support/mod.rs"]
mod support;

mod http;
mod http2;
mod mysql;
mod pcap;
mod play;
mod postgres;
mod redis;
mod talk;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use play::{Fate, Piece, Scene, output, pieces, split};
use serde_json::Value;
use talk::{Class, Search, Slot, Talk};
use wirespan_engine::api::Redaction;
use wirespan_engine::{Side, Start};

fn talks() -> Vec<Talk> {
    let talks = [
        http::talks(),
        http2::talks(),
        redis::talks(),
        mysql::talks(),
        postgres::talks(),
    ]
    .concat();
    talks.iter().for_each(Talk::assert_sent);
    talks
}

/// Says what of a conversation is in `output`, if anything is.
fn leaks(search: &Search, output: &[u8]) -> Vec<String> {
    let found = search.found(output);
    let show =
        |(slot, around): (&Slot, String)| format!("{} ({:?}):\n   {around}", slot.name, slot.class);
    found.into_iter().map(show).collect()
}

/// Places in a conversation: at most so many, or all where `WIRESPAN_CANARY` is set, which takes long.
fn places(talk: &Talk, most: usize) -> impl Iterator<Item = usize> + use<> {
    let all = std::env::var_os("WIRESPAN_CANARY").is_some();
    let step = if all { 1 } else { talk.len().div_ceil(most) };
    (0..talk.len()).step_by(step)
}

fn assert_none(talk: &Talk, search: &Search, output: &[u8], what: &str) {
    let leaks = leaks(search, output);
    assert!(
        leaks.is_empty(),
        "{} {what}: {}",
        talk.name,
        leaks.join("\n")
    );
}

#[test]
fn there_are_sixty_slots_and_more_over_all_protocols() {
    let talks = talks();
    let slots: usize = talks.iter().map(|talk| talk.slots.len()).sum();
    println!("{slots} slots in {} conversations", talks.len());
    assert!(slots >= 250, "only {slots} slots");
    for protocol in ["http ", "http2 ", "grpc", "redis ", "mysql ", "postgres "] {
        let of = talks.iter().filter(|talk| talk.name.starts_with(protocol));
        assert!(
            of.map(|talk| talk.slots.len()).sum::<usize>() >= 12,
            "{protocol}"
        );
    }
}

#[test]
fn no_secret_is_in_any_output() {
    let mut all = Vec::new();
    for talk in talks() {
        let search = Search::new(&talk.slots);
        for side in [Side::Server, Side::Client, Side::Wire] {
            let scene = Scene {
                side,
                ..Scene::WHOLE
            };
            let output = output(&talk, scene, &pieces(&talk));
            assert!(output.len() > 1_000, "{}: nothing came out", talk.name);
            all.extend(leaks(&search, &output));
        }
    }
    all.sort();
    all.dedup();
    assert!(all.is_empty(), "{} leaks\n{}", all.len(), all.join("\n"));
}

#[test]
fn without_redaction_literals_are_shown_and_credentials_are_not() {
    let (mut hidden, mut shown) = (Vec::new(), Vec::new());
    for talk in talks() {
        let scene = Scene {
            redaction: Redaction::Off,
            ..Scene::WHOLE
        };
        let output = output(&talk, scene, &pieces(&talk));
        let (literals, others): (Vec<_>, Vec<_>) = talk
            .slots
            .iter()
            .partition(|slot| slot.class == Class::Literal);
        let found = Search::new(literals.iter().copied());
        let found = found.found(&output);
        let is_found = |name: &str| found.iter().any(|(slot, _)| slot.name == name);
        let missing = literals.iter().filter(|slot| !is_found(&slot.name));
        hidden.extend(missing.map(|slot| slot.name.clone()));
        shown.extend(leaks(&Search::new(others), &output));
    }
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    // The search finds what is there; a conversation that a parser does not understand is no proof.
    assert!(hidden.is_empty(), "not understood: {}", hidden.join("\n"));
}

#[test]
fn a_connection_that_is_joined_anywhere_gives_no_secret_away() {
    for talk in talks() {
        let search = Search::new(&talk.slots);
        let whole = pieces(&talk);
        let scene = Scene {
            start: Start::Middle,
            ..Scene::WHOLE
        };
        for cut in places(&talk, 120) {
            let (_, behind) = split(&whole, cut);
            assert_none(
                &talk,
                &search,
                &output(&talk, scene, &behind),
                &format!("joined at {cut}"),
            );
        }
    }
}

#[test]
fn a_connection_that_is_cut_anywhere_gives_no_secret_away() {
    for talk in talks() {
        let search = Search::new(&talk.slots);
        let whole = pieces(&talk);
        for cut in places(&talk, 20) {
            let (mut before, behind) = split(&whole, cut);
            assert_none(
                &talk,
                &search,
                &output(&talk, Scene::WHOLE, &before),
                &format!("ended at {cut}"),
            );
            before.extend(behind);
            assert_none(
                &talk,
                &search,
                &output(&talk, Scene::WHOLE, &before),
                &format!("cut at {cut}"),
            );
        }
        let bytes: Vec<Piece> = (0..talk.len())
            .map(|at| split(&split(&whole, at).1, 1).0.remove(0))
            .collect();
        assert_none(
            &talk,
            &search,
            &output(&talk, Scene::WHOLE, &bytes),
            "byte by byte",
        );
    }
}

#[test]
fn a_loss_anywhere_gives_no_secret_away() {
    for talk in talks() {
        let search = Search::new(&talk.slots);
        let whole = pieces(&talk);
        for (len, most, fate) in [
            (1, 60, Fate::Lost),
            (1, 20, Fate::Missing),
            (7, 40, Fate::Lost),
            (40, 20, Fate::Lost),
            (300, 10, Fate::Missing),
        ] {
            for at in places(&talk, most) {
                let (mut pieces, behind) = split(&whole, at);
                let (mut hit, behind) = split(&behind, len);
                hit.iter_mut().for_each(|piece| piece.fate = fate);
                pieces.extend(hit);
                pieces.extend(behind);
                let what = format!("{fate:?} {len} from {at}");
                assert_none(&talk, &search, &output(&talk, Scene::WHOLE, &pieces), &what);
            }
        }
    }
}

/// Runs `wirespan` on the capture.
fn replay(capture: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wirespan"));
    command.arg("replay").arg(capture).args(arguments);
    command.output().expect("the program starts")
}

#[test]
fn no_format_of_the_program_has_a_secret() {
    let talks = talks();
    let capture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("canary.pcap");
    fs::write(&capture, pcap::capture(&talks)).expect("a capture");
    let slots: Vec<Slot> = talks.iter().flat_map(|talk| talk.slots.clone()).collect();
    let search = Search::new(&slots);
    let jsonl = replay(&capture, &["-o", "jsonl"]);
    let records = jsonl.stdout.iter().filter(|byte| **byte == b'\n').count();
    assert!(records > 200, "only {records} records");
    for arguments in [
        &["-o", "jsonl"][..],
        &["-o", "table", "--color", "always"],
        &["-o", "otlp-json", "--body-sizes"],
        &["-o", "stats"],
        &["-o", "none", "--fail-on", "errors > 0"],
        &["-o", "jsonl", "--report-open", "10ms", "--jobs", "1"],
        &["-o", "jsonl", "--redact", "on", "--errors"],
        &["-o", "jsonl", "--redact", "full"],
        &["-o", "otlp-json", "--redact", "full"],
    ] {
        let output = replay(&capture, arguments);
        for stream in [&output.stdout, &output.stderr] {
            let leaks = leaks(&search, stream);
            assert!(leaks.is_empty(), "{arguments:?}: {}", leaks.join("\n"));
        }
    }
    let credentials = slots.iter().filter(|slot| slot.class != Class::Literal);
    let search = Search::new(credentials);
    let output = replay(&capture, &["-o", "jsonl", "--redact", "off"]);
    let leaks = leaks(&search, &output.stdout);
    assert!(leaks.is_empty(), "--redact off: {}", leaks.join("\n"));
    for format in ["jsonl", "table", "otlp-json"] {
        let shown = |redact| replay(&capture, &["-o", format, "--redact", redact]).stdout;
        let is_in = |output: Vec<u8>, text: &str| {
            let text = text.as_bytes();
            output.windows(text.len()).any(|window| window == text)
        };
        // An argument of Redis that is shown, and part of a statement.
        for text in ["10.0.0.9", "FROM t WHERE"] {
            assert!(is_in(shown("on"), text), "{format}: {text}");
            assert!(!is_in(shown("full"), text), "{format}: {text}");
        }
    }
}

#[test]
fn statements_that_are_not_shown_keep_their_summaries() {
    let capture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("summaries.pcap");
    fs::write(&capture, pcap::capture(&talks())).expect("a capture");
    let summaries = |redact| -> Vec<Value> {
        let output = replay(&capture, &["-o", "jsonl", "--redact", redact]);
        let lines = output.stdout.split(|byte| *byte == b'\n');
        let records = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        records
            .map(|record| record["attributes"]["db.query.summary"].clone())
            .collect()
    };
    let shown = summaries("on");
    assert!(shown.iter().filter(|summary| summary.is_string()).count() > 20);
    assert_eq!(summaries("full"), shown);
}
