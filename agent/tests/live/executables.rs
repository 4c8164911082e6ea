//! `--exe`: the kernel decides by the file that a process runs, from its first byte on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;

use crate::lab::{Lab, run};
use crate::watch::{Folder, Watcher, capture};

/// A program of one's own: the same bytes in another file.
fn copied(program: &str, to: &Path) {
    let found = run("sh", &["-c", &format!("command -v {program}")]);
    fs::copy(found.trim_end(), to).expect("a copy");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("rights");
}

fn ask(client: &Path, port: &str, commands: usize) {
    for _ in 0..commands {
        run(
            client.to_str().expect("a path"),
            &["-p", port, "GET", "key"],
        );
    }
}

#[test]
fn only_processes_that_run_the_file_are_observed_however_short_they_live() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["redis"]) else {
        return;
    };
    let port = lab.told("redis");
    let folder = Folder::new("exe");
    let (meant, other) = (folder.file("meant-1"), folder.file("other-1"));
    copied("redis-cli", &meant);
    copied("redis-cli", &other);
    let pattern = folder.file("meant-?");
    let pattern = pattern.to_str().expect("a path");
    let watcher = Watcher::tail(&["--port", port, "--exe", pattern]);
    for _ in 0..20 {
        ask(&other, port, 1);
        ask(&meant, port, 1);
    }
    let benchmark = ["-p", port, "-q", "-n", "20000", "-t", "get"];
    run("redis-benchmark", &benchmark);
    // A file that comes later is found.
    let later = folder.file("meant-2");
    copied("redis-cli", &later);
    std::thread::sleep(std::time::Duration::from_secs(4));
    ask(&later, port, 20);
    let watched = watcher.end();
    let of = |name: &str| -> Vec<Value> {
        let records = watched.records.iter();
        let ours = records.filter(|record| record["process"]["name"] == name);
        ours.cloned().collect()
    };
    for client in ["meant-1", "meant-2"] {
        let gets = of(client);
        let gets = gets.iter().filter(|record| record["operation"] == "GET");
        assert_eq!(gets.count(), 20, "{client}");
    }
    assert_eq!(
        of("meant-1").len() + of("meant-2").len(),
        watched.records.len()
    );
    // What is left out never leaves the kernel: neither bytes nor connections.
    assert_eq!(watched.count("connections observed"), 40);
    // Of those that were meant there are also what they map, and their lives.
    assert!(watched.count("events") < 2_000, "{:?}", watched.said);
}
