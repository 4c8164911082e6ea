//! Every scenario plays to its end by itself, on any machine, and tells of itself.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use wirespan_workload::Truth;

/// Runs the workload; what waits in its middle is told at once to go on.
fn workload(arguments: &[&str]) -> Output {
    let mut workload = Command::new(env!("CARGO_BIN_EXE_workload"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a workload");
    // Nobody reads it but those who wait.
    let _ = workload.stdin.take().expect("a pipe").write_all(b"go\n");
    workload.wait_with_output().expect("its output")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn every_scenario_tells_of_exchanges_that_no_other_has() {
    let list = workload(&["list"]);
    let names = text(&list.stdout).lines();
    let names: Vec<&str> = names.filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 30, "{names:?}");
    let mut told = BTreeSet::new();
    for name in names {
        let played = workload(&["run", name]);
        let complaint = text(&played.stderr);
        assert!(played.status.success(), "{name}: {complaint}");
        let lines = text(&played.stdout).lines().filter(|line| *line != "ready");
        let truth: Vec<Truth> = lines
            .map(|l| Truth::from_json(l).expect("a truth"))
            .collect();
        assert!(
            !truth.is_empty() || complaint.contains("SKIPPED"),
            "{name} tells nothing"
        );
        for truth in truth {
            assert!(truth.target.starts_with(&format!("/{name}/")), "{truth:?}");
            assert_ne!(
                truth.client.process.pid, truth.server.process.pid,
                "{truth:?}"
            );
            assert!(truth.duration_ns >= truth.pause_ns, "{truth:?}");
            let server = truth.server.address.clone();
            assert!(told.insert((truth.target, server)), "{name} tells it twice");
        }
    }
}

#[test]
fn an_unknown_scenario_is_refused_with_where_to_find_the_known() {
    let refused = workload(&["run", "nothing"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("workload list"));
}
