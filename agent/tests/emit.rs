//! What `wirespan emit` prints is what the programs understand that it is for.

use std::fs;
use std::io::Write as _;
use std::process::Command;

fn emit(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_wirespan"))
        .args(["emit", "systemd"])
        .args(arguments)
        .output()
        .expect("wirespan");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// The value of a key that is there once.
fn value<'a>(unit: &'a str, key: &str) -> &'a str {
    let values = unit.lines().filter_map(|line| line.strip_prefix(key));
    let values: Vec<_> = values.filter_map(|rest| rest.strip_prefix('=')).collect();
    assert_eq!(values.len(), 1, "{key}: {unit}");
    values[0]
}

#[test]
fn a_unit_says_what_the_agent_needs_and_may_use() {
    let (code, unit, said) = emit(&[
        "--config",
        "/etc/wire span.yaml",
        "--processors",
        "0.5",
        "--memory",
        "256",
    ]);
    assert_eq!((code, &*said), (Some(0), ""));
    let command = value(&unit, "ExecStart");
    assert!(
        command.ends_with(" agent --config \"/etc/wire span.yaml\""),
        "{command}"
    );
    assert_eq!(value(&unit, "Type"), "notify");
    assert!(value(&unit, "WatchdogSec").parse::<u32>().is_ok());
    assert_eq!(
        value(&unit, "CapabilityBoundingSet"),
        "CAP_BPF CAP_PERFMON CAP_DAC_READ_SEARCH CAP_SYS_PTRACE"
    );
    assert!(unit.contains("\nEnvironment=WIRESPAN_BUDGET_PROCESSORS=0.5\n"));
    assert!(unit.contains("\nEnvironment=WIRESPAN_BUDGET_MEMORY=256\n"));
}

#[test]
fn systemd_understands_the_unit() {
    let (_, unit, _) = emit(&["--processors", "0.25", "--config", "/etc/wirespan.yaml"]);
    let is_known = |line: &str| {
        let is_section = line.starts_with('[') && line.ends_with(']');
        line.is_empty() || line.starts_with('#') || is_section || line.contains('=')
    };
    assert!(unit.lines().all(is_known), "{unit}");
    let folder = std::env::temp_dir().join(format!("wirespan-emit-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("wirespan.service");
    fs::write(&file, &unit).expect("written");
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output();
    match verify {
        Ok(verify) => {
            let said = String::from_utf8_lossy(&verify.stderr);
            // It may have words about units of the machine.
            let about = said.lines().find(|line| line.contains("wirespan.service"));
            assert!(verify.status.success() && about.is_none(), "{said}");
        }
        Err(_) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED systemd-analyze: it is not here");
        }
    }
    fs::remove_dir_all(folder).expect("removed");
}

#[test]
fn what_is_no_budget_or_no_path_is_exit_code_2() {
    for (arguments, why) in [
        (["--processors", "0"], "expected more than 0"),
        (["--processors", "inf"], "expected more than 0"),
        (["--memory", "0"], "--memory"),
        (["--program", "wirespan"], "expected a path from the root"),
    ] {
        let (code, unit, said) = emit(&arguments);
        assert_eq!((code, &*unit), (Some(2), ""), "{arguments:?}");
        assert!(said.contains(why), "{said}");
    }
}
