//! tshark as a second opinion: what it reads in the captures of four protocols is what we report,
//! but for the differences in `docs/tshark-differences.md`, which says who is right and why.
//! Without tshark, or without the captures of others, the tests say so and pass.

#[path = "../support/mod.rs"]
mod support;

mod http2;
mod item;
mod mysql;
mod postgresql;
mod records;
mod redis;
mod tshark;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use item::{Difference, Reading};
use records::Record;
use support::{captures_in, repository};
use tshark::Frame;

/// How one protocol is read on both sides.
struct Dialect {
    /// What records call it.
    protocols: &'static [&'static str],
    /// What the manifest of the captures calls it.
    known_as: &'static [&'static str],
    /// tshark's dissector.
    dissector: &'static str,
    theirs: fn(&[Frame]) -> Reading,
    ours: fn(&[Record]) -> Reading,
}

const DIALECTS: [Dialect; 4] = [
    Dialect {
        protocols: &["mysql"],
        known_as: &["mysql", "tcp,raw,ip,data"],
        dissector: "mysql",
        theirs: mysql::theirs,
        ours: mysql::ours,
    },
    Dialect {
        protocols: &["postgresql"],
        known_as: &["postgresql"],
        dissector: "pgsql",
        theirs: postgresql::theirs,
        ours: postgresql::ours,
    },
    Dialect {
        protocols: &["redis"],
        known_as: &["redis"],
        dissector: "resp",
        theirs: redis::theirs,
        ours: redis::ours,
    },
    Dialect {
        protocols: &["http", "grpc"],
        known_as: &["http2", "grpc"],
        dissector: "http2",
        theirs: http2::theirs,
        ours: http2::ours,
    },
];

/// A capture, and the protocols that it is said to hold.
type Case = (PathBuf, &'static Dialect);

/// The captures of our own, by their folders.
fn own() -> Vec<Case> {
    let folders = [
        ("mysql", 0),
        ("postgresql", 1),
        ("redis", 2),
        ("http2", 3),
        ("grpc", 3),
    ];
    let cases = folders.into_iter().flat_map(|(folder, dialect)| {
        let captures = captures_in(&repository().join("tests/pcaps").join(folder));
        captures.into_iter().map(move |c| (c, &DIALECTS[dialect]))
    });
    cases.collect()
}

/// The captures of others, by their manifest.
fn others() -> Vec<Case> {
    let folder = repository().join("../shared/pcaps");
    let Ok(manifest) = fs::read_to_string(folder.join("MANIFEST.tsv")) else {
        println!("skipped: there are no captures in {}", folder.display());
        return Vec::new();
    };
    let mut cases = Vec::new();
    for line in manifest.lines().skip(1) {
        let mut columns = line.split('\t');
        let (Some(path), Some(held)) = (columns.next(), columns.nth(1)) else {
            continue;
        };
        for dialect in &DIALECTS {
            let known = dialect.known_as;
            if known.contains(&held) || held.split(',').any(|it| known.contains(&it)) {
                cases.push((folder.join(path), dialect));
            }
        }
    }
    cases
}

/// What the two say differently of `case`.
fn compare((capture, dialect): &Case) -> Difference {
    let mut records = records::of(capture);
    records.retain(|record| dialect.protocols.contains(&&*record.protocol));
    // Where connections begin with HTTP/1, tshark has to find out that they go on in HTTP/2.
    let is_http1 = |record: &&Record| record.version.starts_with('1');
    let http1: BTreeSet<u16> = records
        .iter()
        .filter(is_http1)
        .map(Record::server)
        .collect();
    let mut ports: BTreeSet<u16> = records.iter().map(Record::server).collect();
    ports.retain(|port| !http1.contains(port));
    let frames = tshark::frames(capture, dialect.dissector, &ports);
    item::difference(&(dialect.theirs)(&frames), &(dialect.ours)(&records))
}

/// Path of a capture as the document has it.
fn shown(capture: &Path) -> String {
    let path = capture.to_string_lossy();
    let (_, path) = path
        .split_once("/shared/pcaps/")
        .or(path.split_once("/../"))
        .unwrap_or_default();
    path.to_owned()
}

/// The differences of all cases, by capture and dissector.
fn differences(cases: &[Case]) -> BTreeMap<(String, &'static str), Difference> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let agreed = AtomicUsize::new(0);
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let difference = compare(case);
            agreed.fetch_add(difference.agreed, Ordering::Relaxed);
            if !difference.is_none() {
                let key = (shown(&case.0), case.1.dissector);
                found.lock().expect("no panic").insert(key, difference);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    let (captures, agreed) = (cases.len(), agreed.into_inner());
    println!("{agreed} items agree in {captures} captures");
    assert!(agreed > 20 * captures, "hardly anything was compared");
    found.into_inner().expect("no panic")
}

/// The table of the document: capture and dissector, what only tshark has, what only we have.
fn documented() -> BTreeMap<(String, String), [String; 2]> {
    let document = fs::read_to_string(repository().join("docs/tshark-differences.md"));
    let document = document.expect("the document");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split(" | ").map(str::trim);
        let capture = cells.next()?.strip_suffix('`')?.to_owned();
        let mut cell = || Some(cells.next()?.trim_matches('`').to_owned());
        Some(((capture, cell()?), [cell()?, cell()?]))
    };
    document.lines().filter_map(row).collect()
}

#[test]
fn what_tshark_reads_is_what_we_report_but_for_what_is_documented() {
    if !tshark::is_there() {
        println!("skipped: no tshark {}x is installed", tshark::VERSION);
        return;
    }
    let others = others();
    let has_others = !others.is_empty();
    let cases: Vec<Case> = own().into_iter().chain(others).collect();
    let found = differences(&cases);
    let mut expected = documented();
    if !has_others {
        expected.retain(|(capture, _), _| capture.starts_with("tests/pcaps"));
    }
    let mut problems = Vec::new();
    for ((capture, dissector), difference) in &found {
        let cells = difference.cells();
        let key = (capture.clone(), (*dissector).to_owned());
        if expected.remove(&key).as_ref() != Some(&cells) {
            let [theirs, ours] = cells;
            problems.push(format!(
                "| `{capture}` | {dissector} | {theirs} | {ours} |\n{difference}"
            ));
        }
    }
    problems.extend(
        expected
            .keys()
            .map(|key| format!("no longer differs: {key:?}")),
    );
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
