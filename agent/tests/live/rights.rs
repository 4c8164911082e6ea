//! What happens without the rights that a capture needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::watch::{Folder, WIRESPAN, capture, signal};

/// The user and group that Linux calls nobody.
const NOBODY: u32 = 65_534;

/// Long enough to attach everything.
const MOMENT: Duration = Duration::from_secs(5);

/// The program, where everybody may run it.
fn program(folder: &Folder) -> PathBuf {
    let program = folder.file("wirespan");
    fs::copy(WIRESPAN, &program).expect("a copy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its owner");
    program
}

/// Runs `command`, and ends it as Ctrl-C does where it has not ended after a moment.
fn for_a_moment(command: &mut Command) -> Output {
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("a program");
    let begun = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begun.elapsed() > MOMENT {
            signal("INT", child.id());
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().expect("its output")
}

#[test]
fn an_ordinary_user_is_refused_and_told_what_to_do() {
    let Some(_alone) = capture() else { return };
    let folder = Folder::new("ordinary");
    let tail = &mut Command::new(program(&folder));
    let refused = for_a_moment(tail.arg("tail").uid(NOBODY).gid(NOBODY));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("root") && said.contains("CAP_BPF"), "{said}");
}

#[test]
fn the_capabilities_that_are_asked_for_suffice_or_the_missing_one_is_named() {
    let Some(_alone) = capture() else { return };
    let folder = Folder::new("capabilities");
    let capabilities = "+bpf,+perfmon,+sys_ptrace,+dac_read_search";
    let tail = &mut Command::new("setpriv");
    tail.args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(format!("--inh-caps={capabilities}"))
        .arg(format!("--ambient-caps={capabilities}"))
        .arg(program(&folder))
        .arg("tail");
    let ended = for_a_moment(tail);
    let said = String::from_utf8_lossy(&ended.stderr);
    match ended.status.code() {
        Some(0) => assert!(said.contains("wirespan: observing"), "{said}"),
        Some(4) => assert!(said.contains("CAP_"), "{said}"),
        _ => panic!("it ended with {}: {said}", ended.status),
    }
}
