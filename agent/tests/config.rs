//! `wirespan config`, and what `wirespan agent` does with a configuration that is wrong.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn wirespan(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wirespan"));
    command.args(arguments).envs(variables.iter().copied());
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("wirespan");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn written(name: &str, text: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(name);
    fs::write(&path, text).expect("written");
    path
}

#[test]
fn a_wrong_file_is_exit_code_2_with_its_line_and_a_suggestion() {
    let file = written("wrong.yaml", "metrics:\n  listn: 127.0.0.1:1\n");
    let name = file.to_str().expect("UTF-8");
    for arguments in [
        &["config", "check", name][..],
        &["config", "print", "--effective", "-c", name],
        &["agent", "-c", name],
    ] {
        let (status, stdout, stderr) = wirespan(arguments, &[]);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{arguments:?}");
        let expected =
            format!("error: {name}:2: unknown key metrics.listn; did you mean metrics.listen?\n");
        assert_eq!(stderr, expected, "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_exported_to_is_exit_code_2() {
    let file = written("endpoint.yaml", "otlp: {endpoint: 'c:4317'}\n");
    let name = file.to_str().expect("UTF-8");
    for arguments in [&["config", "check", name][..], &["agent", "-c", name]] {
        let (status, _, stderr) = wirespan(arguments, &[]);
        assert_eq!(status, Some(2), "{stderr}");
        assert!(stderr.contains("expected a URL"), "{stderr}");
    }
}

#[test]
fn a_file_that_is_not_there_is_exit_code_2() {
    let (status, _, stderr) = wirespan(&["config", "check", "/nowhere/wirespan.yaml"], &[]);
    assert_eq!(status, Some(2));
    assert!(
        stderr.starts_with("error: /nowhere/wirespan.yaml: "),
        "{stderr}"
    );
}

#[test]
fn a_correct_file_is_exit_code_0() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wirespan.example.yaml");
    let (status, stdout, stderr) = wirespan(&["config", "check", example], &[]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert_eq!(stdout, format!("{example}: correct\n"));
}

#[test]
fn what_would_hold_is_printed_with_who_says_so() {
    let file = written("effective.yaml", "observe:\n  external: true\n");
    let name = file.to_str().expect("UTF-8");
    let (status, stdout, _) = wirespan(
        &[
            "config",
            "print",
            "--effective",
            "-c",
            name,
            "--port",
            "80,443",
        ],
        &[
            ("WIRESPAN_KEEP_SPANS", "0.5"),
            ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ],
    );
    assert_eq!(status, Some(0));
    for line in [
        format!("  external: true # {name}"),
        "  ports: [80,443] # --port".to_owned(),
        "  keep: 0.5 # WIRESPAN_KEEP_SPANS".to_owned(),
        "  batch_delay: \"100ms\" # OTEL_BSP_SCHEDULE_DELAY".to_owned(),
        "  max_series: 10000 # default".to_owned(),
    ] {
        assert!(
            stdout.lines().any(|found| found == line),
            "{line}\n{stdout}"
        );
    }
    let printed = written("printed.yaml", &stdout);
    let (status, _, stderr) = wirespan(&["config", "check", printed.to_str().expect("UTF-8")], &[]);
    assert_eq!(status, Some(0), "{stderr}");
}

#[test]
fn the_schema_refuses_what_there_is_not() {
    let (status, stdout, _) = wirespan(&["config", "schema"], &[]);
    assert_eq!(status, Some(0));
    let schema: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(
        schema["properties"]["observe"]["additionalProperties"],
        false
    );
    let listen = &schema["properties"]["metrics"]["properties"]["listen"];
    assert_eq!(listen["default"], "127.0.0.1:9464");
}
