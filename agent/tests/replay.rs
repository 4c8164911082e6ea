//! `wirespan replay` as a process: exit codes, output streams, goldens, filters.

mod support;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use support::repository;

/// Runs the program.
fn wirespan(args: &[&str]) -> Output {
    command(args).output().expect("the program starts")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wirespan"));
    command
        .args(args)
        .env_remove("CLICOLOR_FORCE")
        .env_remove("NO_COLOR");
    command
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("no signal")
}

/// The capture that comes with the program: HTTP and Redis, without loss.
fn demo() -> PathBuf {
    repository().join("tests/pcaps/demo/demo.pcap")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn records(args: &[&str]) -> Vec<Value> {
    let output = wirespan(&[&["replay", "-o", "jsonl", "-q"], args].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let parse = |line| serde_json::from_str(line).expect("a JSON object");
    stdout(&output).lines().map(parse).collect()
}

/// A folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("wirespan-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a new folder");
        Self(path)
    }

    /// The path of a file in the folder.
    fn file(&self, name: &str) -> String {
        text(&self.0.join(name)).into()
    }

    /// Writes a file and returns its path.
    fn with(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), bytes).expect("a new file");
        self.file(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind in the temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The demo without its packet number `omitted` (from zero): a capture with a gap.
fn demo_without(omitted: usize) -> Vec<u8> {
    let bytes = fs::read(demo()).expect("the demo");
    let (mut kept, mut at) = (bytes[..24].to_vec(), 24);
    for number in 0.. {
        let Some(length) = bytes.get(at + 8..at + 12) else {
            break;
        };
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let end = at + 16 + length;
        if number != omitted {
            kept.extend_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    kept
}

/// Number of a packet in the middle of the demo that carries a request of Redis.
fn packet_of_a_request() -> usize {
    let bytes = fs::read(demo()).expect("the demo");
    let mut at = 24;
    let mut candidates = Vec::new();
    for number in 0.. {
        let Some(length) = bytes.get(at + 8..at + 12) else {
            break;
        };
        let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
        let packet = &bytes[at + 16..at + 16 + length];
        if packet.windows(4).any(|window| window == b"INCR") {
            candidates.push(number);
        }
        at += 16 + length;
    }
    candidates[candidates.len() / 2]
}

#[test]
fn records_go_to_standard_output_and_the_blocks_to_standard_error() {
    let output = wirespan(&["replay", "--demo", "-o", "jsonl"]);
    assert_eq!(code(&output), 0);
    assert!(stdout(&output).lines().count() > 50);
    for line in stdout(&output).lines() {
        let record: Value = serde_json::from_str(line).expect("a JSON object");
        assert_eq!(record["schema"], "wirespan.record/1");
        assert_eq!(record["side"], "wire");
    }
    for row in [
        "PROTOCOL",
        "packets",
        "bytes lost",
        "gaps",
        "parse errors",
        "resyncs",
    ] {
        assert!(stderr(&output).contains(row), "{row}");
    }
}

#[test]
fn quiet_leaves_standard_error_empty() {
    let output = wirespan(&["replay", "--demo", "--quiet"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(stdout(&output).contains("REDIS"));
}

#[test]
fn stats_are_data_even_when_quiet() {
    let output = wirespan(&["replay", "--demo", "-o", "stats", "--quiet"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert!(stdout(&output).contains("PROTOCOL") && stdout(&output).contains("packets"));
}

#[test]
fn none_prints_no_data() {
    let output = wirespan(&["replay", "--demo", "-o", "none"]);
    assert_eq!((code(&output), stdout(&output)), (0, ""));
    assert!(stderr(&output).contains("packets"));
}

#[test]
fn two_runs_and_any_number_of_jobs_give_the_same_bytes() {
    for format in ["jsonl", "table", "stats"] {
        let run = |jobs| wirespan(&["replay", "--demo", "-o", format, "-j", jobs]);
        let first = run("1");
        for jobs in ["1", "2", "4", "8"] {
            let other = run(jobs);
            assert!(
                first.stdout == other.stdout && first.stderr == other.stderr,
                "{format} {jobs}"
            );
        }
    }
}

#[test]
fn several_captures_are_replayed_in_the_order_given() {
    let demo = demo();
    let once = wirespan(&["replay", text(&demo), "-o", "jsonl"]);
    let twice = wirespan(&["replay", text(&demo), text(&demo), "-o", "jsonl"]);
    assert_eq!(stdout(&twice), stdout(&once).repeat(2));
    assert!(stderr(&twice).contains("captures"));
}

#[test]
fn standard_input_gives_what_the_file_gives() {
    let mut command = command(&["replay", "-", "-o", "jsonl", "-q"]);
    let output = command
        .stdin(File::open(demo()).expect("the demo"))
        .output()
        .expect("it runs");
    assert_eq!(
        output.stdout,
        wirespan(&["replay", "--demo", "-o", "jsonl", "-q"]).stdout
    );
}

#[test]
fn requests_are_printed_while_standard_input_is_still_being_written() {
    let mut command = command(&["replay", "-", "-o", "jsonl", "-q"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("a pipe");
    let bytes = fs::read(demo()).expect("the demo");
    input
        .write_all(&bytes[..bytes.len() / 2])
        .expect("the program reads");
    input.flush().expect("the program reads");
    // Blocks until the first exchange is there; the second half is still to come.
    let mut first = [0; 10];
    let mut output = child.stdout.take().expect("a pipe");
    output.read_exact(&mut first).expect("a record");
    assert_eq!(&first, b"{\"schema\":");
    input
        .write_all(&bytes[bytes.len() / 2..])
        .expect("the program reads");
    drop(input);
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).expect("the rest");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_golden_that_agrees_passes_and_one_that_differs_shows_the_field() {
    let (folder, demo) = (Folder::new(), demo());
    let golden = folder.file("x.golden.jsonl");
    let check = || wirespan(&["replay", text(&demo), "--expect", &golden]);
    assert_eq!(code(&check()), 3, "there is no golden yet");
    let blessed = wirespan(&["replay", text(&demo), "--expect", &golden, "--bless"]);
    assert_eq!(code(&blessed), 0, "{}", stderr(&blessed));
    assert_eq!(code(&check()), 0);
    let plain = wirespan(&["replay", text(&demo), "-o", "jsonl"]);
    let records = fs::read_to_string(&golden).expect("the golden");
    assert_eq!(records, stdout(&plain), "a golden holds the records");
    fs::write(
        &golden,
        records.replacen("\"status\":\"404\"", "\"status\":\"410\"", 1),
    )
    .expect("written");
    let differs = check();
    assert_eq!(code(&differs), 1);
    assert!(stdout(&differs).contains("-   status: \"410\"\n+   status: \"404\"\n"));
}

#[test]
fn a_folder_checks_every_pair_in_it() {
    let folder = Folder::new();
    let bytes = fs::read(demo()).expect("the demo");
    folder.with("a.pcap", &bytes);
    folder.with("b.pcap", demo_without(packet_of_a_request()));
    let path = text(&folder.0);
    assert_eq!(
        code(&wirespan(&["replay", path])),
        3,
        "no golden, nothing to check"
    );
    let blessed = wirespan(&["replay", path, "--bless", "-q"]);
    assert_eq!(code(&blessed), 0);
    assert!(stdout(&blessed).ends_with("0 passed, 0 failed, 2 blessed\n"));
    for args in [
        &["replay", path, "-q"][..],
        &["replay", path, "--expect", path, "-q"][..],
    ] {
        let passed = wirespan(args);
        assert_eq!(code(&passed), 0);
        assert!(
            stdout(&passed).ends_with("2 passed, 0 failed\n"),
            "{}",
            stdout(&passed)
        );
    }
    fs::copy(folder.file("a.golden.jsonl"), folder.file("b.golden.jsonl")).expect("copied");
    let failed = wirespan(&["replay", path, "--expect", path, "-q"]);
    assert_eq!(code(&failed), 1);
    assert!(stdout(&failed).contains("PASS ") && stdout(&failed).contains("FAIL "));
    fs::remove_file(folder.file("b.golden.jsonl")).expect("removed");
    let missing = wirespan(&["replay", path, "-q"]);
    assert_eq!(code(&missing), 1);
    assert!(stdout(&missing).contains("b.golden.jsonl; --bless writes it"));
}

#[test]
fn goldens_may_lie_in_a_folder_of_their_own() {
    let (folder, demo) = (Folder::new(), demo());
    let goldens = text(&folder.0);
    let blessed = wirespan(&["replay", text(&demo), "--expect", goldens, "--bless"]);
    assert_eq!(code(&blessed), 0);
    assert!(Path::new(&folder.file("demo.golden.jsonl")).exists());
    assert_eq!(
        code(&wirespan(&["replay", text(&demo), "--expect", goldens])),
        0
    );
}

#[test]
fn a_condition_that_holds_fails_the_run() {
    let run = |condition| wirespan(&["replay", "--demo", "-o", "none", "--fail-on", condition]);
    let failed = run("errors > 1%");
    assert_eq!(code(&failed), 1);
    assert!(stderr(&failed).contains("failed on 'errors > 1%': it is "));
    assert_eq!(code(&run("errors > 50%")), 0);
    assert_eq!(code(&run("count < 1")), 0);
    assert_eq!(code(&run("max > 10ms")), 1);
    let both = [
        "replay",
        "--demo",
        "-o",
        "none",
        "--fail-on",
        "lost > 0",
        "--fail-on",
        "count > 0",
    ];
    assert_eq!(code(&wirespan(&both)), 1);
}

#[test]
fn a_lost_packet_fails_the_run_only_when_asked() {
    let folder = Folder::new();
    let lossy = folder.with("lossy.pcap", demo_without(packet_of_a_request()));
    assert_eq!(code(&wirespan(&["replay", &lossy])), 0);
    let failed = wirespan(&["replay", &lossy, "--fail-on-loss"]);
    assert_eq!(code(&failed), 1);
    assert!(stderr(&failed).contains("failed on loss"));
    assert_eq!(code(&wirespan(&["replay", "--demo", "--fail-on-loss"])), 0);
}

#[test]
fn wrong_use_is_explained_and_exits_with_2() {
    for (args, hint) in [
        (&["replay"][..], "FILE"),
        (&["replay", "--demo", "--nope"], "--nope"),
        (&["replay", "--demo", "-o", "csv"], "possible values"),
        (
            &["replay", "--demo", "--otlp", "nowhere"],
            "http://localhost:4317",
        ),
        (&["replay", "--demo", "--route", "users"], "/users/{id}"),
        (&["replay", "--demo", "--keep-spans", "2"], "0 to 1"),
        (&["agent", "--listen", "nowhere"], "127.0.0.1:9464"),
        (
            &["agent", "--listen", "none"],
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
        (
            &["replay", "--demo", "--fail-on", "eror > 1%"],
            "no metric 'eror'",
        ),
        (&["replay", "--demo", "--fail-on", "p99 > 5"], "100ms"),
        (&["replay", "--demo", "--proto", "htp"], "known are http"),
        (&["replay", "--demo", "--slower", "fast"], "100ms"),
        (&["replay", "--demo", "--ip", "10.0.0.0/99"], "10.0.0.0/8"),
        (&["replay", "--demo", "--jobs", "0"], "--jobs"),
        (&["replay", "--demo", "--bless"], "--expect"),
        (
            &[
                "replay",
                "x.pcap",
                "--expect",
                "x.golden.jsonl",
                "-o",
                "table",
            ],
            "-o jsonl",
        ),
        (&["nothing"], "unrecognized"),
    ] {
        let output = wirespan(args);
        assert_eq!(code(&output), 2, "{args:?}");
        assert!(
            stderr(&output).contains(hint),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn unreadable_input_is_explained_and_exits_with_3() {
    let folder = Folder::new();
    let (empty, prose) = (
        folder.with("empty.pcap", ""),
        folder.with("prose.pcap", "Dear reader,"),
    );
    for (path, hint) in [
        (folder.file("missing.pcap").as_str(), "there is no file"),
        (text(&folder.0), "is a folder"),
        (&empty, "empty"),
        (&prose, "not a capture"),
    ] {
        let output = wirespan(&["replay", path]);
        if path != text(&folder.0) {
            assert!(
                stderr(&output).contains(hint),
                "{path}: {}",
                stderr(&output)
            );
        }
        assert_eq!((code(&output), stdout(&output)), (3, ""), "{path}");
        assert!(stderr(&output).contains(path), "{}", stderr(&output));
    }
}

#[test]
fn a_folder_without_captures_exits_with_3() {
    let folder = Folder::new();
    let output = wirespan(&["replay", text(&folder.0)]);
    assert_eq!(code(&output), 3);
    assert!(stderr(&output).contains("a folder without captures"));
}

#[test]
fn what_was_read_before_the_damage_is_put_out() {
    let folder = Folder::new();
    let whole = fs::read(demo()).expect("the demo");
    let complete = wirespan(&["replay", "--demo", "-o", "jsonl", "-q"]);
    let cut = folder.with("cut.pcap", &whole[..whole.len() - 7]);
    let mut damaged = whole.clone();
    // The length of the record behind the file header and the first packets.
    let middle = demo_offset(120);
    damaged[middle + 8..middle + 12].fill(0xff);
    let damaged = folder.with("damaged.pcap", damaged);
    for path in [&cut, &damaged] {
        let output = wirespan(&["replay", path, "-o", "jsonl"]);
        assert_eq!(code(&output), 3);
        assert!(stderr(&output).contains("everything before it was read"));
        let first = stdout(&output).lines().next().expect("a record");
        assert!(stdout(&complete).starts_with(first));
        assert!(stderr(&output).contains("captures that could not be read to their end"));
    }
}

/// Where record number `number` of the demo begins.
fn demo_offset(number: usize) -> usize {
    let bytes = fs::read(demo()).expect("the demo");
    let next = |at: usize| {
        let length: [u8; 4] = bytes[at + 8..at + 12].try_into().expect("four bytes");
        at + 16 + u32::from_le_bytes(length) as usize
    };
    (0..number).fold(24, |at, _| next(at))
}

#[test]
fn a_missing_capture_does_not_keep_the_others_from_being_read() {
    let folder = Folder::new();
    let (missing, demo) = (folder.file("missing.pcap"), demo());
    let output = wirespan(&["replay", &missing, text(&demo), "-o", "jsonl"]);
    assert_eq!(code(&output), 3);
    assert!(stdout(&output).lines().count() > 50);
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let demo = demo();
    let many = [&["replay", "-o", "jsonl"][..], &[text(&demo); 40]].concat();
    let mut child = command(&many)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((code(&output), stderr(&output)), (0, ""));
}

#[test]
fn a_full_disk_is_reported_and_exits_with_5() {
    let Ok(full) = File::options().write(true).open("/dev/full") else {
        println!("skipped: there is no /dev/full");
        return;
    };
    let output = command(&["replay", "--demo"])
        .stdout(full)
        .output()
        .expect("it runs");
    assert_eq!(code(&output), 5);
    assert!(stderr(&output).contains("cannot write to standard output"));
}

#[test]
fn filters_restrict_the_records_and_the_red_table_but_not_the_honesty_block() {
    let honesty = |output: &Output| {
        let (_, honesty) = stderr(output).split_once("\nHonesty").expect("the block");
        honesty.to_string()
    };
    let all = wirespan(&["replay", "--demo", "-o", "jsonl"]);
    let http = wirespan(&["replay", "--demo", "-o", "jsonl", "--proto", "http"]);
    assert!(
        stdout(&http)
            .lines()
            .all(|line| line.contains("\"protocol\":\"http\""))
    );
    let rows_of_redis = |output: &Output| {
        let red = stderr(output)
            .split_once("\nHonesty")
            .expect("two blocks")
            .0;
        red.matches("\nredis ").count()
    };
    assert!(rows_of_redis(&all) > 0);
    assert_eq!(rows_of_redis(&http), 0);
    assert_eq!(honesty(&all), honesty(&http));
}

#[test]
fn each_filter_selects_what_it_says() {
    let all = records(&["--demo"]);
    let selected = |args: &[&str], keep: &dyn Fn(&Value) -> bool| {
        let found = records(&[&["--demo"], args].concat());
        let expected: Vec<_> = all.iter().filter(|record| keep(record)).cloned().collect();
        assert_eq!(found, expected, "{args:?}");
        assert!(
            !found.is_empty() && found.len() < all.len(),
            "{args:?} selects {}",
            found.len()
        );
    };
    let is = |key: &'static str, value: &'static str| move |r: &Value| r[key] == value;
    selected(&["--status", "404"], &is("status", "404"));
    selected(&["--status", "4xx,201"], &|r| {
        r["status"] == "404" || r["status"] == "201"
    });
    selected(&["--status", "ok"], &is("status", "OK"));
    selected(&["--errors"], &|r| r["error"] == true);
    selected(&["--slower", "1ms"], &|r| {
        r["duration_ns"].as_u64() > Some(1_000_000)
    });
    let in_api = |r: &Value| r["target"].as_str().is_some_and(|t| t.starts_with("/api/"));
    selected(&["--path", "/api/*"], &in_api);
    let server = all[0]["server"].as_str().expect("an address").to_string();
    let port = server.rsplit(':').next().expect("a port").to_string();
    selected(&["--port", &port], &|r| r["server"] == server.as_str());
    let traced = all
        .iter()
        .find_map(|r| r["trace_id"].as_str())
        .expect("a trace")
        .to_string();
    selected(&["--trace-id", &traced[..12]], &|r| {
        r["trace_id"] == traced.as_str()
    });
    assert_eq!(records(&["--demo", "--ip", "127.0.0.0/8"]), all);
    assert_eq!(
        records(&["--demo", "--ip", "10.0.0.0/8"]),
        Vec::<Value>::new()
    );
}

#[test]
fn colours_appear_only_where_they_are_wanted() {
    let coloured = |args: &[&str], set: &[(&str, &str)]| {
        let mut command = command(&[&["replay", "--demo"], args].concat());
        let output = command.envs(set.iter().copied()).output().expect("it runs");
        stdout(&output).contains('\x1b')
    };
    assert!(!coloured(&[], &[]));
    assert!(coloured(&["--color", "always"], &[]));
    assert!(coloured(&[], &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(
        &[],
        &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]
    ));
    assert!(!coloured(&["--color", "never"], &[("CLICOLOR_FORCE", "1")]));
}

#[test]
fn the_program_describes_itself() {
    let protocols = wirespan(&["protocols"]);
    for name in ["http", "websocket", "redis"] {
        assert!(
            stdout(&protocols)
                .lines()
                .any(|line| line.starts_with(name)),
            "{name}"
        );
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            stdout(&wirespan(&["completions", shell])).contains("replay"),
            "{shell}"
        );
    }
    let man = wirespan(&["man"]);
    assert_eq!(code(&man), 0);
    assert!(stdout(&man).contains(".TH") && stdout(&man).contains("fail\\-on"));
}
