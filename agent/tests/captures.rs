//! Captures of others, where they are: beside the repository in `../shared/pcaps`, never in it.
//! They come with what two other programs read in them. Without them the tests say so and pass.

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;
use support::{Replayed, captures_in, records, repository};

/// The folder of the captures; `None` where it is missing.
fn folder() -> Option<PathBuf> {
    let folder = repository().join("../shared/pcaps");
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: there are no captures in {}", folder.display());
    None
}

/// Replays `captures` on all processors; `check` says what is wrong with one, if anything.
fn problems(
    captures: &[PathBuf],
    check: impl Fn(&Path, &Replayed) -> Option<String> + Sync,
) -> Vec<String> {
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(capture) = captures.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(problem) = check(capture, &records(capture, 1)) {
                let problem = format!("{}: {problem}", capture.display());
                problems.lock().expect("no panic").push(problem);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut problems = problems.into_inner().expect("no panic");
    problems.sort();
    problems
}

/// The fields `name` of the HTTP records: textual, since records are written in one fixed way.
fn http_fields<'a>(records: &'a str, name: &str) -> Vec<&'a str> {
    let key = format!("\"{name}\":\"");
    let http = records
        .lines()
        .filter(|line| line.contains("\"protocol\":\"http\""));
    let field = |line: &'a str| line.split_once(&key)?.1.split('"').next();
    http.filter_map(field).collect()
}

#[test]
fn no_capture_breaks_the_engine_and_every_byte_is_accounted_for() {
    let Some(folder) = folder() else { return };
    let captures = captures_in(&folder);
    assert!(captures.len() > 1_000);
    let problems = problems(&captures, |_, replayed| {
        let stats = &replayed.found.stats;
        if stats.parser_faults > 0 {
            return Some("a parser panicked or broke its contract".into());
        }
        let unbalanced = stats.protocols.iter().find(|(_, protocol)| {
            !protocol.bytes.to_server.balances() || !protocol.bytes.to_client.balances()
        });
        unbalanced.map(|(name, _)| format!("the bytes of {name} do not add up"))
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// What every capture gives, in short: a change in any of them is seen, and explained by whoever
/// made it. `UPDATE_GOLDEN=1` writes the summary instead.
#[test]
fn every_capture_gives_what_it_gave_before() {
    let Some(folder) = folder() else { return };
    let summaries = problems(&captures_in(&folder), |_, replayed| {
        let mut counts = BTreeMap::new();
        for line in replayed.records.lines() {
            let record: Value = serde_json::from_str(line).expect("JSON");
            let text = |key: &str| record[key].as_str().expect("text").to_owned();
            let key = (text("protocol"), text("operation"), text("status"));
            *counts.entry(key).or_insert(0) += 1;
        }
        let parts = counts.iter().map(|((protocol, operation, status), n)| {
            format!("{n} {protocol} {operation:?} {status:?}")
        });
        let parts: Vec<_> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    });
    let prefix = format!("{}/", folder.display());
    let found: String = summaries
        .iter()
        .map(|line| format!("{}\n", line.strip_prefix(&prefix).expect("a path below")))
        .collect();
    let golden = repository().join("agent/tests/captures.golden.txt");
    if env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
        fs::write(&golden, &found).expect("a golden is written");
    }
    let expected = fs::read_to_string(&golden).expect("a golden");
    let (found, expected): (BTreeSet<_>, BTreeSet<_>) =
        (found.lines().collect(), expected.lines().collect());
    let gone: Vec<_> = expected.difference(&found).collect();
    let new: Vec<_> = found.difference(&expected).collect();
    assert!(
        gone.is_empty() && new.is_empty(),
        "gone: {gone:#?}\nnew: {new:#?}"
    );
}

#[test]
fn no_capture_is_taken_for_a_protocol_that_it_does_not_hold() {
    // What tshark calls a protocol of ours. Percona's captures are MySQL on ports that it does not
    // know, which is why it calls them data.
    const KNOWN_AS: [(&str, &[&str]); 5] = [
        ("http", &["http1", "http2", "grpc"]),
        ("grpc", &["grpc", "http2"]),
        ("mysql", &["mysql", "tcp,raw,ip,data"]),
        ("postgresql", &["postgresql"]),
        ("redis", &["redis", "resp"]),
    ];
    let Some(folder) = folder() else { return };
    let manifest = fs::read_to_string(folder.join("MANIFEST.tsv")).expect("a manifest");
    let held: HashMap<PathBuf, &str> = manifest
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some((folder.join(columns.next()?), columns.nth(1)?))
        })
        .collect();
    let captures: Vec<PathBuf> = held.keys().filter(|path| path.is_file()).cloned().collect();
    assert!(captures.len() > 1_000);
    let problems = problems(&captures, |capture, replayed| {
        let wrong = |(name, known_as): &&(&str, &[&str])| {
            let record = format!("\"protocol\":\"{name}\"");
            replayed.records.contains(&record)
                && !known_as.iter().any(|known| held[capture].contains(known))
        };
        let (name, _) = KNOWN_AS.iter().find(wrong)?;
        Some(format!("{name} in what holds {}", held[capture]))
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn http_requests_are_those_that_two_other_programs_see() {
    let Some(folder) = folder() else { return };
    let agreed = fs::read_to_string(folder.join("http1_agreed.txt")).expect("the list");
    let captures: Vec<_> = agreed.lines().map(|path| folder.join(path)).collect();
    let problems = problems(&captures, |capture, replayed| {
        let path = capture.strip_prefix(&folder).expect("a path in the folder");
        let expected = methods_of_tshark(&folder, path);
        let mut found = http_fields(&replayed.records, "operation");
        found.sort_unstable();
        (found != expected).then(|| format!("{found:?} instead of {expected:?}"))
    });
    assert!(
        problems.is_empty(),
        "{} differ:\n{}",
        problems.len(),
        problems.join("\n")
    );
}

/// The methods in the seventh column, sorted; several in one packet are separated by `|`.
fn methods_of_tshark(folder: &Path, path: &Path) -> Vec<String> {
    let answer = folder
        .join("oracle/tshark-4.0.17")
        .join(format!("{}.tsv", path.display()));
    let answer = fs::read(answer).expect("the answer of tshark");
    let answer = String::from_utf8_lossy(&answer);
    let cells = answer
        .lines()
        .skip(1)
        .filter_map(|line| line.split('\t').nth(6));
    let methods = cells
        .flat_map(|cell| cell.split('|'))
        .filter(|method| !method.is_empty());
    let mut methods: Vec<_> = methods.map(String::from).collect();
    methods.sort_unstable();
    methods
}

#[test]
fn evasive_responses_answer_one_request_each() {
    let Some(folder) = folder() else { return };
    let captures = captures_in(&folder.join("suricata-verify/tests/http-evader"));
    assert_eq!(captures.len(), 502);
    let answered = AtomicUsize::new(0);
    let problems = problems(&captures, |_, replayed| {
        let statuses = http_fields(&replayed.records, "status");
        if let [status] = statuses[..] {
            answered.fetch_add(usize::from(!status.is_empty()), Ordering::Relaxed);
            return None;
        }
        Some(format!("{} requests instead of one", statuses.len()))
    });
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    let answered = answered.into_inner();
    assert!(answered >= 491, "only {answered} have a status");
}

#[test]
fn http_requests_are_as_documented_where_two_other_programs_disagree() {
    let Some(folder) = folder() else { return };
    let document = fs::read_to_string(repository().join("docs/http1-disagreements.md"));
    let document = document.expect("the document");
    let verdicts: Vec<_> = document.lines().filter_map(verdict).collect();

    let list = fs::read_to_string(folder.join("http1_disagree.tsv")).expect("the list");
    let listed: Vec<_> = list.lines().skip(1).map(String::from).collect();
    let documented = verdicts.iter().map(|(counts, _)| counts.join("\t"));
    assert_eq!(documented.collect::<Vec<_>>(), listed);

    for ([capture, ..], ours) in verdicts {
        let records = records(&folder.join(capture), 1).records;
        let http = records
            .lines()
            .filter(|line| line.contains("\"protocol\":\"http\""))
            .filter(|line| !line.contains("\"network.protocol.version\":\"2\""));
        assert_eq!(http.count(), ours, "{capture}:\n{records}");
    }
}

/// A row of the document's table: the capture with the counts of tshark and Suricata, and ours.
fn verdict(line: &str) -> Option<([&str; 3], usize)> {
    let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
    let capture = cells.next()?.strip_suffix('`')?;
    let others = [capture, cells.next()?, cells.next()?];
    Some((others, cells.next()?.parse().ok()?))
}
