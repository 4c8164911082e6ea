//! What `wirespan` records live is what it printed: a replay of the recording gives the same lines.
//!
//! Needs root, and a kernel on which `wirespan` can observe. Elsewhere the tests say that they were
//! skipped; where `WIRESPAN_LIVE` is set they fail instead.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// MiB for what these tests, which are one process, do at the same time while probes are attached.
const ROOM: &str = "64";

const WIRESPAN: &str = env!("CARGO_BIN_EXE_wirespan");

/// How long anything may take; attaching takes seconds where nothing is optimised.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bodies several times as long as what is copied ahead of a parser.
const LARGE: usize = 30 << 20;

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("wirespan-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `wirespan`, observing this process.
struct Watcher {
    child: Child,
    stdout: PathBuf,
    /// Lines of standard error.
    said: thread::JoinHandle<Vec<String>>,
}

impl Watcher {
    /// Starts it; `None` where it cannot observe, which it says.
    fn start(folder: &Folder, mut command: Command) -> Option<Self> {
        let stdout = folder.0.join("stdout");
        let mut child = command
            .args(["--pid", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).expect("a file"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("wirespan");
        let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            if stderr.read_line(&mut line).expect("text") == 0 {
                let status = child.wait().expect("a child");
                assert_eq!(status.code(), Some(4), "{said:?}");
                skip(&format!("{said:?}"));
                return None;
            }
            let observes = line.starts_with("wirespan: observing");
            said.push(line);
            if observes {
                break;
            }
        }
        let said = thread::spawn(move || {
            said.extend(stderr.lines().map_while(Result::ok));
            said
        });
        Some(Self {
            child,
            stdout,
            said,
        })
    }

    /// Ends it as Ctrl-C does: its standard output, and what it said.
    fn interrupt(self) -> (Vec<u8>, Vec<String>) {
        let kill = format!("kill -INT {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.expect("a shell").success());
        let (status, stdout, said) = self.end();
        assert!(status.success(), "{status}: {said:?}");
        (stdout, said)
    }

    /// Waits for its end.
    fn end(mut self) -> (ExitStatus, Vec<u8>, Vec<String>) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
                panic!("it does not end");
            }
            thread::sleep(Duration::from_millis(10));
        };
        let stdout = fs::read(&self.stdout).expect("its output");
        (status, stdout, self.said.join().expect("lines"))
    }
}

fn wirespan(arguments: &[&str]) -> Command {
    let mut command = Command::new(WIRESPAN);
    command.args(arguments);
    command
}

fn run(arguments: &[&str]) -> Output {
    wirespan(arguments).output().expect("wirespan")
}

fn skip(why: &str) {
    assert!(std::env::var_os("WIRESPAN_LIVE").is_none(), "{why}");
    eprintln!("SKIPPED: nothing can be observed here: {why}");
}

fn is_root() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        skip("this is not root");
    }
    root
}

/// Reads a request with its body: its target, and whether there was one.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        // Byte by byte: a pipeline's next request is not ours.
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("UTF-8");
    let body = head.split("content-length: ").nth(1);
    let body = body.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    take(stream, body.unwrap_or(0));
    head.split(' ').nth(1).map(str::to_owned)
}

/// Reads so many bytes and forgets them.
fn take(stream: &mut impl Read, mut len: usize) {
    let mut buffer = vec![0; 256 << 10];
    while len > 0 {
        let part = len.min(buffer.len());
        let read = stream.read(&mut buffer[..part]).expect("a body");
        assert!(read > 0, "{len} bytes are missing");
        len -= read;
    }
}

fn response(target: &str) -> Option<Vec<u8>> {
    let (head, body) = match target.split('?').next()? {
        "/never" => return None,
        "/large" => (format!("content-length: {LARGE}"), vec![b'x'; LARGE]),
        "/chunked" => (
            "transfer-encoding: chunked".to_owned(),
            b"5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n".to_vec(),
        ),
        _ => ("content-length: 2".to_owned(), b"ok".to_vec()),
    };
    Some(
        [
            format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(),
            &body,
        ]
        .concat(),
    )
}

/// Answers until the client ends.
fn serve(mut stream: impl Read + Write) {
    while let Some(target) = request(&mut stream) {
        if let Some(response) = response(&target) {
            stream.write_all(&response).expect("a client");
        }
    }
}

/// A server on `address`, that is there as long as the test is.
fn server(address: &str) -> String {
    let listener = TcpListener::bind(address).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a client");
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Asks for `target` with a body of `len` bytes, and reads the answer.
fn ask(stream: &mut (impl Read + Write), target: &str, len: usize) {
    let method = if len > 0 { "POST" } else { "GET" };
    let head = format!("{method} {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {len}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("a server");
    stream.write_all(&vec![b'y'; len]).expect("a server");
    if let Some(response) = response(target) {
        take(stream, response.len());
    }
}

/// Talks in several ways with the servers; returns connections that are still open.
fn talk(v4: &str, v6: &str, before: &mut TcpStream) -> Vec<TcpStream> {
    // Its server waits in a call that nobody saw begin: of the first one it may be the beginning
    // that is missing.
    for _ in 0..3 {
        ask(before, "/joined", 0);
    }
    for (address, targets) in [(v4, 50), (v6, 20)] {
        let mut stream = TcpStream::connect(address).expect("a server");
        for n in 0..targets {
            ask(&mut stream, &format!("/kept?{n}"), n % 3 * 1_000);
        }
    }
    let mut stream = TcpStream::connect(v4).expect("a server");
    let asked: String = (0..20)
        .map(|n| format!("GET /pipelined?{n} HTTP/1.1\r\nhost: a\r\n\r\n"))
        .collect();
    stream.write_all(asked.as_bytes()).expect("a server");
    take(&mut stream, 20 * response("/").expect("an answer").len());
    let mut stream = TcpStream::connect(v4).expect("a server");
    for target in ["/large", "/chunked", "/large", "/small"] {
        ask(&mut stream, target, 0);
    }
    ask(&mut stream, "/upload", LARGE);
    let (mut unix, peer) = UnixStream::pair().expect("a pair");
    thread::spawn(move || serve(peer));
    for n in 0..5 {
        ask(&mut unix, &format!("/unix?{n}"), 0);
    }
    let mut open = TcpStream::connect(v4).expect("a server");
    ask(&mut open, "/open", 0);
    ask(&mut open, "/never", 0);
    vec![open]
}

fn lines(text: &[u8]) -> Vec<&str> {
    let mut lines: Vec<_> = std::str::from_utf8(text).expect("UTF-8").lines().collect();
    lines.sort_unstable();
    lines
}

/// A record without what was looked up on the machine rather than observed: who is at the ends.
fn observed(line: &str) -> Value {
    let mut record: Value = serde_json::from_str(line).expect("JSON");
    let record_of = record.as_object_mut().expect("an object");
    record_of.remove("container");
    let attributes = record_of["attributes"].as_object_mut();
    attributes
        .expect("attributes")
        .retain(|key, _| !key.starts_with("service."));
    record
}

/// The records of this side by their target without its query.
fn targets(lines: &[&str], side: &str) -> BTreeMap<String, Vec<Value>> {
    let mut targets = BTreeMap::<_, Vec<Value>>::new();
    for line in lines {
        let record: Value = serde_json::from_str(line).expect("JSON");
        let target = record["target"].as_str().expect("text");
        let target = target.split('?').next().unwrap_or_default().to_owned();
        if record["side"] == side {
            targets.entry(target).or_default().push(record);
        }
    }
    targets
}

#[test]
fn a_replay_of_the_recording_gives_the_lines_that_were_printed() {
    if !is_root() {
        return;
    }
    let folder = Folder::new("recorded");
    let recording = folder.file("x.pcapng");
    let (v4, v6) = (server("127.0.0.1:0"), server("[::1]:0"));
    let mut before = TcpStream::connect(&v4).expect("a server");
    ask(&mut before, "/unseen", 0);
    let tail = [
        "tail", "-o", "jsonl", "--buffer", ROOM, "--record", &recording,
    ];
    let tail = wirespan(&tail);
    let Some(watcher) = Watcher::start(&folder, tail) else {
        return;
    };
    let _open = talk(&v4, &v6, &mut before);
    // For the last server to read what it never answers.
    thread::sleep(Duration::from_millis(500));
    let (printed, said) = watcher.interrupt();
    assert!(
        said.iter().any(|line| line.contains("passwords")),
        "{said:?}"
    );

    let replayed = run(&["replay", "--quiet", "-o", "jsonl", &recording]);
    assert!(replayed.status.success(), "{replayed:?}");
    let printed = lines(&printed);
    let observed = |lines: &[&str]| lines.iter().copied().map(observed).collect::<Vec<_>>();
    assert_eq!(observed(&lines(&replayed.stdout)), observed(&printed));

    // It is about something.
    for side in ["client", "server"] {
        let seen = targets(&printed, side);
        let count = |target| seen.get(target).map_or(0, Vec::len);
        let whole = [
            "/kept",
            "/pipelined",
            "/large",
            "/chunked",
            "/open",
            "/never",
        ];
        assert_eq!(whole.map(count), [70, 20, 2, 1, 1, 1], "{side}");
        let joined = &seen["/joined"][0];
        assert_eq!(joined["flags"][0], "midstream", "{joined}");
        for large in seen["/large"].iter().chain(&seen["/upload"]) {
            let bytes = ["request_bytes", "response_bytes"].map(|key| large[key].as_u64());
            assert!(bytes.iter().max() > Some(&Some(LARGE as u64)), "{large}");
            assert!(large["duration_ns"].as_u64() > Some(0), "{large}");
        }
    }
    let unix = printed.iter().filter(|line| line.contains("/unix")).count();
    assert_eq!(unix, 2 * 5, "at both ends");
    let file = fs::metadata(&recording).expect("a recording");
    // Three bodies, each at both ends.
    assert!(file.len() < LARGE as u64 / 4, "{} bytes", file.len());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_recording_that_fills_the_disk_ends_with_what_there_was_room_for() {
    if !is_root() {
        return;
    }
    let folder = Folder::new("full");
    let recording = folder.file("x.pcapng");
    let v4 = server("127.0.0.1:0");
    let mut limited = Command::new("sh");
    // 128 KiB, beyond which writes fail.
    let limit = "trap '' XFSZ; ulimit -f 256; exec \"$@\"";
    limited.args(["-c", limit, "sh", WIRESPAN, "record", "-o", &recording]);
    let Some(watcher) = Watcher::start(&folder, limited) else {
        return;
    };
    let mut stream = TcpStream::connect(v4).expect("a server");
    for n in 0..1_000 {
        ask(&mut stream, &format!("/kept?{n}"), 0);
    }
    let (status, stdout, said) = watcher.end();
    assert_eq!(status.code(), Some(5), "{said:?}");
    let error = format!("error: cannot write {recording}: ");
    assert!(said.iter().any(|line| line.starts_with(&error)), "{said:?}");
    assert!(stdout.is_empty(), "record prints nothing");
    let replayed = run(&["replay", "--quiet", "-o", "jsonl", &recording]);
    assert!(replayed.status.success(), "{replayed:?}");
    assert!(lines(&replayed.stdout).len() > 5);
    let len = fs::metadata(&recording).expect("a recording").len();
    assert!((64 << 10..128 << 10).contains(&len), "{len} bytes");
}

#[test]
fn a_recording_can_go_through_a_pipe() {
    if !is_root() {
        return;
    }
    let folder = Folder::new("pipe");
    let v4 = server("127.0.0.1:0");
    let record = wirespan(&["record", "-o", "-", "--buffer", ROOM]);
    let Some(watcher) = Watcher::start(&folder, record) else {
        return;
    };
    let mut stream = TcpStream::connect(v4).expect("a server");
    ask(&mut stream, "/piped", 0);
    // Long enough to be written while it goes on.
    thread::sleep(Duration::from_millis(1_500));
    let early = folder.file("early.pcapng");
    fs::copy(&watcher.stdout, &early).expect("what is there");
    let (_, said) = watcher.interrupt();
    assert!(said.iter().any(|line| line.starts_with("RED ")), "{said:?}");
    for recording in [Path::new(&early), &folder.0.join("stdout")] {
        let path = recording.to_str().expect("UTF-8");
        let replayed = run(&["replay", "--quiet", "-o", "jsonl", path]);
        let text = String::from_utf8(replayed.stdout).expect("UTF-8");
        let count = text.matches("\"target\":\"/piped\"").count();
        assert_eq!(count, 2, "{path}: {said:#?}");
    }
}

#[test]
fn a_recording_does_not_mix_with_lines() {
    let mixed = run(&["tail", "--record", "-"]);
    assert_eq!(mixed.status.code(), Some(2));
    let said = String::from_utf8(mixed.stderr).expect("UTF-8");
    assert!(said.contains("-o none"), "{said}");
    assert_eq!(run(&["record"]).status.code(), Some(2), "where to?");
}
