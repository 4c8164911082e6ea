//! `wirespan doctor` and what `tail` says where it is refused: by rights, without tracefs, without
//! BTF. Needs root, setpriv and unshare (util-linux); elsewhere the tests say that they were
//! skipped.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// All that live capture asks for.
const ALL: &str = "bpf,perfmon,sys_ptrace,dac_read_search";

fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        skipped("not root");
    }
    root
}

/// Not `eprintln`, which is shown of failed tests only.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED rights of live capture: {why}");
}

/// The program where every user may run it, for as long as this lives.
struct Program {
    folder: PathBuf,
}

impl Program {
    fn new(test: &str) -> Self {
        let name = format!("wirespan-doctor-{}-{test}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("rights");
        let program = Self { folder };
        let built = env!("CARGO_BIN_EXE_wirespan");
        if fs::hard_link(built, program.path()).is_err() {
            fs::copy(built, program.path()).expect("a copy");
        }
        program
    }

    fn path(&self) -> PathBuf {
        self.folder.join("wirespan")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs the program as nobody, with these capabilities and no others.
fn as_nobody(program: &Program, capabilities: &str, args: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let plus: Vec<_> = capabilities.split_terminator(',').collect();
    let list = match plus.as_slice() {
        [] => "-all".to_owned(),
        some => format!("+{}", some.join(",+")),
    };
    command.arg(format!("--inh-caps={list}"));
    command.arg(format!("--ambient-caps={list}"));
    command.arg(program.path()).args(args);
    command.output().expect("setpriv")
}

/// Runs the program as root in a mount namespace of its own, prepared by a shell command.
fn prepared(preparation: &str, args: &[&str]) -> Output {
    let script = format!("{preparation}\nexec \"$@\"");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_wirespan")).args(args);
    command.output().expect("unshare")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    let parsed = serde_json::from_slice(&output.stdout);
    parsed.unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

fn check<'a>(report: &'a Value, id: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    let found = checks.iter().find(|check| check["id"] == id);
    found.unwrap_or_else(|| panic!("no check {id} in {checks:?}"))
}

/// The hook set that root gets here, if any: without one, there is nothing to compare with.
fn hooks_of_root() -> Option<&'static str> {
    static HOOKS: OnceLock<Option<String>> = OnceLock::new();
    let hooks = HOOKS.get_or_init(|| {
        let doctor = Command::new(env!("CARGO_BIN_EXE_wirespan"))
            .args(["doctor", "--json"])
            .output();
        let report = json(&doctor.expect("a doctor"));
        report["hooks"].as_str().map(str::to_owned)
    });
    if hooks.is_none() {
        skipped("this kernel does not allow it, not even to root");
    }
    hooks.as_deref()
}

/// `tail` ends with 4, prints nothing, and gives the advice of a check.
fn assert_refused(tail: &Output, check: &Value) {
    let said = text(&tail.stderr);
    assert_eq!(tail.status.code(), Some(4), "{said}");
    assert!(tail.stdout.is_empty());
    let remedy = check["remedy"].as_str().expect("a remedy");
    assert!(said.contains(remedy), "{said}");
    assert!(said.contains("wirespan doctor"), "{said}");
}

#[test]
fn report_is_the_same_as_text_and_as_json() {
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wirespan"));
        command.env("LC_ALL", "C.UTF-8").arg("doctor").args(args);
        command.output().expect("a doctor")
    };
    let (plain, structured) = (run(&[]), run(&["--json"]));
    let report = json(&structured);
    assert_eq!(report["schema"], "wirespan.doctor/1");
    let code = if report["usable"] == true { 0 } else { 4 };
    assert_eq!(structured.status.code(), Some(code), "{report}");
    assert_eq!(plain.status.code(), Some(code));
    let plain = text(&plain.stdout);
    let checks = report["checks"].as_array().expect("checks");
    for check in checks {
        let (id, grade) = (check["id"].as_str(), check["grade"].as_str());
        let mark = match grade.expect("a grade") {
            "ok" => "✓",
            "warn" => "!",
            _ => "✗",
        };
        let line = format!("{mark} {} ", id.expect("an id"));
        assert!(plain.contains(&line), "{line}: {plain}");
        assert!(check["remedy"].is_null() || grade != Some("ok"), "{check}");
        if let Some(remedy) = check["remedy"].as_str() {
            assert!(plain.contains(remedy), "{remedy}: {plain}");
        }
    }
    let programs = report["programs"].as_array().expect("programs");
    assert!(programs.len() > 20);
    for program in programs {
        assert!(plain.contains(program["name"].as_str().expect("a name")));
        assert!(!program["helpers"].as_array().expect("helpers").is_empty());
    }
    assert!(!plain.contains("probe_write"), "{plain}");
}

#[test]
fn ordinary_user_is_refused_and_told_what_to_do() {
    if !is_root() {
        return;
    }
    let program = Program::new("ordinary");
    let doctor = as_nobody(&program, "", &["doctor", "--json"]);
    let report = json(&doctor);
    assert_eq!(doctor.status.code(), Some(4));
    assert_eq!(report["usable"], false);
    let rights = check(&report, "rights");
    assert_eq!(rights["grade"], "fail");
    assert_eq!(
        rights["found"],
        "user 65534 without CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH"
    );
    let tail = as_nobody(&program, "", &["tail", "--duration", "1s"]);
    assert_refused(&tail, rights);
}

#[test]
fn capabilities_do_what_the_documentation_says() {
    if !is_root() {
        return;
    }
    let Some(hooks) = hooks_of_root() else { return };
    let program = Program::new("capabilities");
    // Only tracepoints need files that root alone may read.
    let without_reading = if hooks == "tracepoint" { 4 } else { 0 };
    for (capabilities, code, rights) in [
        (ALL, 0, "ok"),
        ("bpf,perfmon,dac_read_search", 0, "warn"),
        ("sys_admin,dac_read_search", 0, "warn"),
        ("bpf,perfmon", without_reading, "warn"),
        ("bpf,sys_ptrace,dac_read_search", 4, "fail"),
        ("perfmon,sys_ptrace,dac_read_search", 4, "fail"),
    ] {
        let doctor = as_nobody(&program, capabilities, &["doctor", "--json"]);
        let report = json(&doctor);
        assert_eq!(doctor.status.code(), Some(code), "{capabilities}: {report}");
        assert_eq!(check(&report, "rights")["grade"], rights, "{capabilities}");
    }
}

/// Answers requests on a port of its own, each on a connection of its own.
fn serve(listener: TcpListener) {
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return };
        let mut request = [0; 256];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

#[test]
fn four_capabilities_are_enough_to_see_a_request() {
    if !is_root() || hooks_of_root().is_none() {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || serve(listener));
    let port = address.port().to_string();
    let tail = thread::spawn(move || {
        let program = Program::new("request");
        let args = ["tail", "--duration", "3s", "-o", "jsonl", "--port", &port];
        as_nobody(&program, ALL, &args)
    });
    let until = Instant::now() + Duration::from_secs(60);
    while !tail.is_finished() && Instant::now() < until {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let _ = stream.write_all(b"GET /rights HTTP/1.1\r\nHost: doctor\r\n\r\n");
        let _ = stream.read(&mut [0; 256]);
        thread::sleep(Duration::from_millis(20));
    }
    let tail = tail.join().expect("tail");
    let said = text(&tail.stderr);
    assert_eq!(tail.status.code(), Some(0), "{said}");
    assert!(said.contains("observing with"), "{said}");
    let records = text(&tail.stdout);
    assert!(records.contains("/rights"), "{records}{said}");
}

#[test]
fn without_tracefs_what_is_left_is_used_and_the_remedy_told() {
    if !is_root() {
        return;
    }
    // Both places, and debugfs, which would bring it back.
    let unmount = "for at in /sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug; do\n\
                   umount -l $at 2> /dev/null; done";
    let doctor = prepared(unmount, &["doctor", "--json"]);
    let report = json(&doctor);
    let tracefs = check(&report, "tracefs");
    let remedy = tracefs["remedy"].as_str().expect("a remedy");
    assert!(remedy.contains("mount -t tracefs"), "{remedy}");
    assert_eq!(check(&report, "hooks.tracepoint")["remedy"], remedy);
    assert_ne!(report["hooks"], "tracepoint");
    let tail = prepared(unmount, &["tail", "--duration", "1s"]);
    if report["usable"] == true {
        assert_eq!(tracefs["grade"], "warn");
        assert_eq!(tail.status.code(), Some(0), "{}", text(&tail.stderr));
    } else {
        assert_eq!(tracefs["grade"], "fail");
        assert_eq!(doctor.status.code(), Some(4));
        assert_refused(&tail, tracefs);
    }
}

#[test]
fn without_btf_nothing_is_left_and_that_is_told() {
    if !is_root() || !Path::new("/sys/kernel/btf").exists() {
        return;
    }
    let hide = "mount -t tmpfs nodev /sys/kernel/btf || exit 99";
    let doctor = prepared(hide, &["doctor", "--json"]);
    let report = json(&doctor);
    assert_eq!(doctor.status.code(), Some(4), "{report}");
    let btf = check(&report, "btf");
    assert_eq!(btf["grade"], "fail");
    let found = btf["found"].as_str().expect("a finding");
    assert!(found.contains("/sys/kernel/btf/vmlinux"), "{found}");
    assert_refused(&prepared(hide, &["tail", "--duration", "1s"]), btf);
}
