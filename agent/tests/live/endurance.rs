//! Load, churn, and a violent end.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use aya::programs::loaded_programs;
use serde_json::Value;
use wirespan_workload::{Hooks, compare};

use crate::lab::{Lab, run};
use crate::watch::{Watcher, capture, ended, play, signal, truth, until, workload};

/// Programs that the kernel holds.
fn programs() -> BTreeSet<u32> {
    let programs = loaded_programs().filter_map(Result::ok);
    programs.map(|program| program.id()).collect()
}

#[test]
#[ignore = "long: `.ci/run` runs it"]
fn a_violent_end_leaves_nothing_behind_and_hurts_nobody() {
    let Some(_alone) = capture() else { return };
    let before = programs();
    let watcher = Watcher::tail(&[]);
    let own: BTreeSet<u32> = programs().difference(&before).copied().collect();
    assert!(!own.is_empty(), "a capture has programs in the kernel");
    let load = &mut workload(&["--requests", "60000", "keep-alive"]);
    let mut load = load.stdout(Stdio::null()).spawn().expect("a workload");
    thread::sleep(Duration::from_millis(500));
    watcher.kill();
    assert!(
        load.try_wait().expect("a child").is_none(),
        "killed in the middle of the load"
    );
    until("the end of all programs", || programs().is_disjoint(&own));

    // Again at once, while the load goes on.
    let watcher = Watcher::tail(&["--hooks", "tracepoint"]);
    let truth = play(&["read-write"]);
    assert!(ended(&mut load).success(), "the load noticed");
    let differences = compare(&truth, &watcher.end().records, Hooks::Tracepoint);
    assert_eq!(differences, []);
}

#[test]
fn no_exchange_is_lost_or_wrong_while_its_process_is_killed_beside_it() {
    let Some(_alone) = capture() else { return };
    let watcher = Watcher::tail(&["--hooks", "tracepoint"]);
    for _ in 0..5 {
        let victim = &mut workload(&["--requests", "1000000", "keep-alive"]);
        let mut victim = victim
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a load");
        thread::sleep(Duration::from_millis(100));
        victim.kill().expect("a victim");
        victim.wait().expect("its end");
    }
    let truth = play(&["read-write", "forked"]);
    let differences = compare(&truth, &watcher.end().records, Hooks::Tracepoint);
    assert_eq!(differences, []);
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Holdings {
    descriptors: usize,
    resident_kib: u64,
    /// Of the kernel's maps.
    maps_bytes: u64,
}

impl Holdings {
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("its descriptors");
        let infos = descriptors.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
        let infos: Vec<String> = infos.collect();
        let maps = infos
            .iter()
            .filter(|info| number(info, "map_id:").is_some());
        Self {
            descriptors: infos.len(),
            resident_kib: number(&status, "VmRSS:").expect("its memory"),
            maps_bytes: maps.filter_map(|info| number(info, "memlock:")).sum(),
        }
    }
}

/// The number behind `key`.
pub(crate) fn number(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Whether `now` is at most 2 % above `then`.
fn back(then: u64, now: u64) -> bool {
    now * 100 <= then * 102
}

#[test]
#[ignore = "long: `.ci/run` runs it"]
fn what_ten_thousand_connections_and_a_thousand_processes_took_is_given_back() {
    let Some(_alone) = capture() else { return };
    let watcher = Watcher::tail(&["--hooks", "tracepoint"]);
    let churn = ["--full", "connections", "processes"];
    let mut truth = play(&churn);
    let settled = || thread::sleep(Duration::from_secs(3));
    settled();
    let before = Holdings::of(watcher.pid());
    truth.extend(play(&churn));
    settled();
    let after = Holdings::of(watcher.pid());
    let watched = watcher.end();
    assert_eq!(compare(&truth, &watched.records, Hooks::Tracepoint), []);
    // A library that somebody else has loaded meanwhile is probed, too.
    let descriptors = (before.descriptors as u64, after.descriptors as u64);
    assert!(back(descriptors.0, descriptors.1), "{before:?} {after:?}");
    assert!(
        back(before.maps_bytes, after.maps_bytes),
        "{before:?} {after:?}"
    );
    assert!(
        back(before.resident_kib, after.resident_kib),
        "{before:?} {after:?}"
    );
}

#[test]
fn the_load_of_several_processes_is_counted_exactly() {
    let Some(_alone) = capture() else { return };
    let watcher = Watcher::tail(&["--hooks", "tracepoint"]);
    let load = || {
        let command = &mut workload(&["--requests", "5000", "keep-alive"]);
        command.stdout(Stdio::piped()).spawn().expect("a workload")
    };
    let loads = [load(), load(), load(), load()];
    let mut said = Vec::new();
    for load in loads {
        let output = load.wait_with_output().expect("its output");
        assert!(output.status.success());
        said.extend(truth(&String::from_utf8(output.stdout).expect("UTF-8")));
    }
    assert_eq!(said.len(), 20_000);
    let records: Vec<Value> = watcher.end().records;
    assert_eq!(compare(&said, &records, Hooks::Tracepoint), []);
}

/// While nobody reads, a noisy process may not fill the buffer: what others do is kept.
#[test]
fn a_noisy_process_leaves_room_for_others() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx", "redis"]) else {
        return;
    };
    let (http, redis) = (lab.told("nginx"), lab.told("redis"));
    let watcher = Watcher::start(&["tail", "-o", "jsonl", "--no-tls", "--buffer", "4"]);
    signal("STOP", watcher.pid());
    run(
        "redis-benchmark",
        &["-p", redis, "-q", "-n", "50000", "-t", "set"],
    );
    let url = format!("http://127.0.0.1:{http}/api/x?[1-20]");
    run("curl", &["-sS", "-o", "/dev/null", &url]);
    signal("CONT", watcher.pid());
    let watched = watcher.end();
    let asked = watched.records.iter().filter(|record| {
        let is = |key: &str, value: &str| record[key] == value;
        is("protocol", "http") && is("status", "200") && is("operation", "GET")
    });
    let asked = asked.filter(|record| record["server"] == format!("127.0.0.1:{http}"));
    assert_eq!(asked.count(), 40, "at both ends: {:?}", watched.said);
    assert!(watched.count("events lost, a process had its share") > 0);
    assert_eq!(watched.count("events lost, the buffer was full"), 0);
}
