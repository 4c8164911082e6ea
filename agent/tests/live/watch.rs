//! Running `wirespan` beside the programs that it watches, and reading what it prints.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use wirespan_workload::{Hooks, Truth};

/// How long anything may take that takes no time.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long wirespan may take to end: before Linux 6.6 the kernel waits for all processors, four times for
/// each probe on a library.
const DETACHING: Duration = Duration::from_secs(180);

pub(crate) const WIRESPAN: &str = env!("CARGO_BIN_EXE_wirespan");

/// The right to capture, of one test at a time; `None`, said aloud, where this machine cannot.
pub(crate) fn capture() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    match WHY_NOT.get_or_init(why_not) {
        None => Some(alone),
        Some(why) => {
            assert!(
                env::var_os("WIRESPAN_LIVE").is_none(),
                "cannot capture: {why}"
            );
            // Not `println`, which is shown of failed tests only.
            let _ = writeln!(std::io::stderr(), "SKIPPED live capture: {why}");
            None
        }
    }
}

fn why_not() -> Option<String> {
    let doctor = Command::new(WIRESPAN).arg("doctor").output();
    let doctor = doctor.expect("a doctor");
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    match doctor.status.code() {
        Some(0) => None,
        Some(4) => Some(said),
        code => panic!(
            "doctor ended with {code:?}: {}",
            String::from_utf8_lossy(&doctor.stderr)
        ),
    }
}

/// A folder of a test's own, gone with it.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("wirespan-live-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `wirespan tail` or `record`, watching.
pub(crate) struct Watcher {
    child: Child,
    folder: Folder,
    /// Lines of its standard error after the one that says that it observes.
    complaints: Receiver<String>,
}

/// What a watcher left.
pub(crate) struct Watched {
    pub(crate) records: Vec<Value>,
    /// What it said on standard error after it began.
    pub(crate) said: Vec<String>,
}

impl Watched {
    /// A number of the honesty block, by the words before it; rare ones are left out if they are 0.
    pub(crate) fn count(&self, what: &str) -> u64 {
        let mut lines = self.said.iter().map(|line| line.trim_start());
        let number = lines.find_map(|line| line.strip_prefix(what));
        number.map_or(0, |number| number.trim_start().parse().expect("a number"))
    }
}

impl Watcher {
    /// Starts `wirespan tail` with more `options`, and waits until it observes.
    ///
    /// TLS libraries are left alone: whatever else uses them on this machine would be recorded.
    pub(crate) fn tail(options: &[&str]) -> Self {
        Self::with_tls(&[&["--no-tls"], options].concat())
    }

    /// The same with TLS libraries.
    pub(crate) fn with_tls(options: &[&str]) -> Self {
        // Programs under test are hardly optimized: the kernel's side must be able to wait for them.
        Self::start(&[&["tail", "-o", "jsonl", "--buffer", "256"], options].concat())
    }

    /// The same with a set of hooks; `None` where the kernel does not offer it.
    pub(crate) fn with_hooks(hooks: Hooks) -> Option<Self> {
        let hooks = hooks.to_string();
        match Self::try_start(&["tail", "-o", "jsonl", "--no-tls", "--hooks", &hooks], &[]) {
            Ok(watcher) => Some(watcher),
            Err((status, said)) => {
                assert_eq!(status.code(), Some(4), "tail --hooks {hooks}: {said:?}");
                None
            }
        }
    }

    /// Starts `wirespan`, and waits until it observes.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// The same with variables in its environment.
    pub(crate) fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let started = Self::try_start(arguments, variables);
        started.unwrap_or_else(|(status, said)| panic!("{arguments:?}: {status}: {said:?}"))
    }

    /// The same; how it ended and what it said where it never observes.
    fn try_start(
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Result<Self, (ExitStatus, Vec<String>)> {
        static NUMBER: Mutex<u32> = Mutex::new(0);
        let number = {
            let mut number = NUMBER.lock().unwrap_or_else(PoisonError::into_inner);
            *number += 1;
            *number
        };
        let folder = Folder::new(&number.to_string());
        let records = File::create(folder.file("records")).expect("a file");
        let mut child = Command::new(WIRESPAN)
            .args(arguments)
            // A machine of a cluster may be tested on; the cluster is not.
            .env_remove("KUBERNETES_SERVICE_HOST")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(records)
            .stderr(Stdio::piped())
            .spawn()
            .expect("wirespan");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (sender, complaints) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = stderr.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line))
        });
        let mut said = Vec::new();
        while let Ok(line) = complaints.recv_timeout(PATIENCE) {
            if line.starts_with("wirespan: observing") {
                return Ok(Self {
                    child,
                    folder,
                    complaints,
                });
            }
            said.push(line);
        }
        Err((ended(&mut child), said))
    }

    /// What it says behind `words`, next.
    pub(crate) fn hear(&self, words: &str) -> String {
        let line = self.complaints.recv_timeout(PATIENCE).expect("a line");
        let behind = line.strip_prefix(words);
        behind.unwrap_or_else(|| panic!("{line}")).to_owned()
    }

    /// The next thing it says that `is_meant`, with what it said before.
    pub(crate) fn hear_until(&self, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let line = self.complaints.recv_timeout(PATIENCE);
            said.push(line.unwrap_or_else(|_| panic!("nothing more than {said:?}")));
            if said.last().is_some_and(|line| is_meant(line)) {
                return said;
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until everything that has happened is recorded, and ends it as Ctrl-C does.
    pub(crate) fn end(mut self) -> Watched {
        let said = self.interrupt();
        let records = read(&self.folder.file("records"));
        Watched { records, said }
    }

    /// The same; gives its standard output as it is, and what it said.
    pub(crate) fn end_with_output(mut self) -> (Vec<u8>, Vec<String>) {
        let said = self.interrupt();
        let output = fs::read(self.folder.file("records")).expect("its output");
        (output, said)
    }

    fn interrupt(&mut self) -> Vec<String> {
        signal("INT", self.pid());
        let status = ended_within(&mut self.child, DETACHING);
        let said: Vec<String> = self.complaints.iter().collect();
        assert!(status.success(), "it ended with {status}: {said:#?}");
        said
    }

    /// Ends it without letting it say a word.
    pub(crate) fn kill(mut self) {
        signal("KILL", self.pid());
        ended(&mut self.child);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Nothing where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of `child`, with patience.
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    ended_within(child, PATIENCE)
}

fn ended_within(child: &mut Child, patience: Duration) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        if begun.elapsed() > patience {
            let _ = child.kill();
            panic!("process {} does not end", child.id());
        }
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn signal(name: &str, pid: u32) {
    let kill = format!("kill -{name} {pid}");
    let sent = Command::new("sh").args(["-c", &kill]).status();
    assert!(sent.expect("a shell").success(), "{kill} failed");
}

/// Reads records, a line each.
pub(crate) fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("records");
    let record = |line| serde_json::from_str(line).expect("a record");
    text.lines().map(record).collect()
}

/// A command that plays scenarios of the workload.
pub(crate) fn workload(arguments: &[&str]) -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let built = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "build",
                "--quiet",
                "--locked",
                "--package",
                "wirespan-workload",
            ])
            .status();
        assert!(
            built.expect("cargo").success(),
            "the workload was not built"
        );
        // Beside the folder of this profile, whichever that is.
        let programs = Path::new(WIRESPAN).parent().expect("a folder");
        programs.with_file_name("debug").join("workload")
    });
    let mut command = Command::new(program);
    command.arg("run").args(arguments);
    command
}

/// Plays scenarios and gives the truth of them.
pub(crate) fn play(arguments: &[&str]) -> Vec<Truth> {
    let played = workload(arguments).stderr(Stdio::inherit()).output();
    let played = played.expect("a workload");
    assert!(played.status.success(), "the workload {arguments:?} failed");
    truth(&String::from_utf8(played.stdout).expect("UTF-8"))
}

pub(crate) fn truth(text: &str) -> Vec<Truth> {
    let lines = text.lines().filter(|line| *line != "ready");
    lines
        .map(|line| Truth::from_json(line).expect("a truth"))
        .collect()
}

/// Waits, with patience, until `happened`.
pub(crate) fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happened() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not happen");
        thread::sleep(Duration::from_millis(20));
    }
}
