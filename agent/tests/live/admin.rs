//! An agent that is asked, and changed, while it runs.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, run};
use crate::page::{count, sum};
use crate::watch::{Folder, WIRESPAN, Watcher, capture, until};

const SERVER: &str = "http_server_request_duration_seconds";

/// An agent with a socket and a TCP address of its own, beside nginx.
struct Asked {
    watcher: Watcher,
    socket: PathBuf,
    page: String,
    tcp: String,
    _folder: Folder,
}

const TOKEN: &str = "a-token-that-nobody-guesses";

impl Asked {
    fn start(name: &str, port: &str) -> Self {
        Self::start_in(Folder::new(name), port, "")
    }

    /// In a folder, with more keys of `admin`.
    fn start_in(folder: Folder, port: &str, more: &str) -> Self {
        let (file, token) = (folder.file("wirespan.yaml"), folder.file("token"));
        let socket = folder.file("wirespan.sock");
        fs::write(&token, format!("{TOKEN}\n")).expect("written");
        let text = format!(
            "observe: {{ports: [{port}], tls: false, buffer: 256}}\n\
             metrics: {{listen: '127.0.0.1:0'}}\n\
             admin: {{socket: {}, listen: '127.0.0.1:0', token_file: {}{more}}}\n",
            socket.display(),
            token.display()
        );
        fs::write(&file, text).expect("written");
        let path = file.to_str().expect("UTF-8");
        let watcher = Watcher::start(&["agent", "-c", path]);
        let page = watcher.hear("wirespan: metrics at ");
        let tcp = watcher.hear("wirespan: asked at ");
        let asked = Self {
            watcher,
            socket,
            page,
            tcp,
            _folder: folder,
        };
        until("the socket answers", || asked.get("/healthz").0 == 200);
        asked
    }

    /// Asks with curl; status code and body.
    fn curl(&self, arguments: &[&str], path: &str) -> (u16, String) {
        let socket = self.socket.to_str().expect("UTF-8");
        curl(
            &[&["--unix-socket", socket], arguments].concat(),
            &format!("http://agent{path}"),
        )
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.curl(&[], path)
    }

    fn put(&self, patch: &str) -> (u16, String) {
        self.curl(&["-X", "PUT", "-d", patch], "/config/dynamic")
    }

    fn follow(&self) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).expect("connected");
        let request = b"GET /flows?follow=1 HTTP/1.0\r\n\r\n";
        stream.write_all(request).expect("asked");
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .expect("set");
        stream
    }
}

fn curl(arguments: &[&str], url: &str) -> (u16, String) {
    let with = ["-sS", "-w", "\n%{http_code}"];
    let output = Command::new("curl")
        .args(with)
        .args(arguments)
        .arg(url)
        .output();
    let text = String::from_utf8(output.expect("curl").stdout).expect("UTF-8");
    let (body, code) = text.rsplit_once('\n').expect("a code");
    (code.parse().expect("a number"), body.to_owned())
}

fn requests(port: &str, n: usize) {
    let url = format!("http://127.0.0.1:{port}/api/x?[1-{n}]");
    run("curl", &["-sS", "-o", "/dev/null", &url]);
}

/// Asks on a connection that stays open.
struct Kept(TcpStream);

impl Kept {
    fn to(port: &str) -> Self {
        Self(TcpStream::connect(format!("127.0.0.1:{port}")).expect("connected"))
    }

    fn ask(&mut self, target: &str) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.0.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            let n = self.0.read(&mut buffer).expect("an answer");
            assert!(n > 0, "closed");
            answer.extend_from_slice(&buffer[..n]);
        }
    }
}

#[test]
fn what_may_be_shown_changes_on_connections_that_are_open() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let agent = Asked::start("redaction", port);
    let mut flows = BufReader::new(agent.follow());
    let mut kept = Kept::to(port);
    let mut next = |text: &str| {
        kept.ask(&format!("/nothing?token=t&order={text}&of={text}"));
        // Both ends tell of it.
        let mut targets = (&mut flows).lines().filter_map(|line| {
            let line = line.expect("a line");
            if !line.starts_with('{') {
                return None;
            }
            let record: Value = serde_json::from_str(&line).expect("JSON");
            let target = record["target"].as_str().expect("a text").to_owned();
            target.starts_with("/nothing?").then_some(target)
        });
        let both = [(); 2].map(|()| targets.next().expect("it goes on"));
        assert_eq!(both[0], both[1]);
        both[0].clone()
    };
    let hidden = "/nothing?token=REDACTED";
    assert_eq!(next("1"), format!("{hidden}&order=1&of=1"));
    for (patch, expected) in [
        (
            "{\"redaction\": {\"secret_keys\": [\"Order\"]}}",
            format!("{hidden}&order=REDACTED&of=2"),
        ),
        (
            "{\"redaction\": {\"text\": \"full\"}}",
            format!("{hidden}&order=REDACTED&of=REDACTED"),
        ),
        (
            "{\"redaction\": {\"text\": \"off\"}}",
            "/nothing?token=t&order=2&of=2".to_owned(),
        ),
        (
            "{\"redaction\": {\"text\": null, \"secret_keys\": null}}",
            format!("{hidden}&order=2&of=2"),
        ),
    ] {
        let (code, body) = agent.put(patch);
        assert_eq!(code, 200, "{body}");
        assert_eq!(next("2"), expected, "{patch}");
    }
    agent.watcher.end();
}

#[test]
fn an_agent_tells_how_it_is_and_changes_when_it_is_told_to() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let agent = Asked::start("admin", port);
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    assert_eq!(
        agent.get("/readyz").0,
        200,
        "nothing is to be exported but on request"
    );
    requests(port, 10);
    until("requests are counted", || count(&agent.page, SERVER) == 10);

    let (code, body) =
        agent.put("{\"filter\": {\"status\": [\"5xx\"]}, \"log\": {\"level\": \"warn\"}}");
    assert_eq!(code, 200, "{body}");
    let told = &json(&body)["keys"]["filter.status"];
    assert_eq!(told["value"], serde_json::json!(["5xx"]));
    assert_eq!(told["origin"], "PUT /config/dynamic");
    let said = agent
        .watcher
        .hear_until(|line| line.contains("PUT /config/dynamic by user 0"));
    assert!(
        said.last()
            .expect("a line")
            .ends_with(": filter.status, log.level"),
        "{said:?}"
    );
    requests(port, 10);
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        count(&agent.page, SERVER),
        10,
        "what succeeds is not counted"
    );

    for (patch, why) in [
        (
            "{\"filter\": {\"protocols\": [\"htpp\"]}}",
            "there is no protocol htpp",
        ),
        (
            "{\"observe\": {\"buffer\": 16}}",
            "counts at the start only",
        ),
        (
            "{\"observe\": {\"prots\": [1]}}",
            "did you mean observe.ports?",
        ),
        (
            "{\"observe\": {\"ports\": [\"http\"]}}",
            "PUT /config/dynamic",
        ),
        ("{", "EOF"),
    ] {
        let (code, body) = agent.put(patch);
        assert!(code == 400 && body.contains(why), "{patch}: {code} {body}");
    }
    assert_eq!(agent.put("{\"filter\": {\"status\": null}}").0, 200);
    requests(port, 10);
    until("requests are counted again", || {
        count(&agent.page, SERVER) == 20
    });

    let status = || json(&agent.get("/status").1);
    until("all exchanges are in the status", || {
        status()["figures"]["wirespan.exchanges"]["http"] == 60.0
    });
    let status = status();
    assert_eq!(status["schema"], "wirespan.status/1");
    assert_eq!(status["config"]["applied"], 2);
    assert_eq!(
        status["config"]["refused"], 4,
        "a text that is no JSON is no change"
    );
    // What was wrong with the latest change is not said once another one was right.
    assert!(status["config"]["fault"].is_null());
    let socket = agent.socket.to_str().expect("UTF-8");
    let shown = Command::new(WIRESPAN)
        .args(["status", "--socket", socket])
        .output();
    let shown = String::from_utf8(shown.expect("wirespan").stdout).expect("UTF-8");
    assert!(
        shown.contains(" hooks, for ") && shown.contains(": ready\n"),
        "{shown}"
    );
    assert!(shown.contains("changed 2 times, refused 4\n"), "{shown}");

    let mut kept = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connected");
    kept.write_all(b"GET /api/x HTTP/1.1\r\nhost: a\r\n\r\n")
        .expect("asked");
    assert!(kept.read(&mut [0; 4096]).expect("an answer") > 0);
    let ours = kept.local_addr().expect("an address").to_string();
    until("the connection is told of", || {
        let connections = agent.get("/connections").1;
        let ours = connections
            .lines()
            .map(json)
            .filter(|of| of["client"] == *ours);
        let sides: Vec<_> = ours
            .map(|of| (of["side"].clone(), of["exchanges"].clone()))
            .collect();
        sides.len() == 2 && sides.iter().all(|(_, exchanges)| exchanges == 1)
    });
    assert_eq!(agent.get("/nowhere").0, 404);
    assert_eq!(agent.get("/flows").0, 400);
    agent.watcher.end();
}

#[test]
fn only_its_user_and_who_has_the_token_may_ask() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let agent = Asked::start("doors", lab.told("nginx"));
    let mode = fs::metadata(&agent.socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    // Even where the file would let them: another user is another user.
    let folder = agent.socket.parent().expect("a folder");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("set");
    fs::set_permissions(&agent.socket, fs::Permissions::from_mode(0o666)).expect("set");
    let ask = format!(
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect({:?}); \
         s.sendall(b'GET /healthz HTTP/1.0\\r\\n\\r\\n'); print(s.recv(4096).decode())",
        agent.socket.display().to_string()
    );
    let asked = Command::new("setpriv")
        .env("PATH", "/usr/bin:/bin")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "python3",
            "-c",
            &ask,
        ])
        .output()
        .expect("setpriv");
    let answer = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(
        answer.starts_with("HTTP/1.0 403"),
        "{answer}{:?}",
        asked.stderr
    );

    let with = |token: &str, path: &str| {
        let header = format!("authorization: Bearer {token}");
        curl(&["-H", &header], &format!("{}{path}", agent.tcp)).0
    };
    let without = |path: &str| curl(&[], &format!("{}{path}", agent.tcp)).0;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(without(path), 200, "{path}");
    }
    for path in [
        "/status",
        "/config",
        "/connections",
        "/edges",
        "/flows?follow=1",
    ] {
        assert_eq!(without(path), 401, "{path}");
        assert_eq!(with("another", path), 401, "{path}");
    }
    for path in ["/status", "/config", "/connections", "/edges"] {
        assert_eq!(with(TOKEN, path), 200, "{path}");
    }
    let put = ["-X", "PUT", "-d", "{\"filter\": {\"errors\": true}}"];
    let url = format!("{}/config/dynamic", agent.tcp);
    assert_eq!(curl(&put, &url).0, 401);
    assert_eq!(sum(&agent.page, "wirespan_config_changes_total"), 0);
    let header = format!("authorization: Bearer {TOKEN}");
    assert_eq!(curl(&[&put[..], &["-H", &header]].concat(), &url).0, 200);
    agent.watcher.end();
}

#[test]
fn a_slow_reader_of_flows_costs_its_own_lines_only() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let agent = Asked::start("flows", port);
    let slow = agent.follow();
    let mut quick = agent.follow();
    let reader = thread::spawn(move || {
        let mut lines = 0;
        let mut buffer = vec![0; 1 << 16];
        let mut ended = Vec::new();
        while let Ok(n @ 1..) = quick.read(&mut buffer) {
            lines += buffer[..n].iter().filter(|byte| **byte == b'\n').count();
            ended = buffer[..n].to_vec();
        }
        (lines, ended)
    });
    until("both follow", || {
        sum(&agent.page, "wirespan_flows_followers") == 2
    });
    let url = format!("http://127.0.0.1:{port}/api/x");
    run("ab", &["-q", "-k", "-n", "10000", "-c", "4", &url]);
    until("all is counted", || count(&agent.page, SERVER) == 10_000);
    thread::sleep(Duration::from_millis(1500));
    let lost = sum(&agent.page, "wirespan_capture_lost_events_total");
    assert_eq!(lost, 0, "nobody waits for whoever reads nothing");
    let page = curl(&[], &agent.page).1;
    let of = |outcome: &str| {
        let sample = format!("wirespan_flows_lines_total{{wirespan_outcome=\"{outcome}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&*sample));
        value
            .and_then(|value| value.parse::<u64>().ok())
            .expect("a number")
    };
    // Both ends of each request, for two who follow.
    assert_eq!(of("taken") + of("dropped"), 40_000, "{page}");
    assert!(
        of("dropped") > 0,
        "the slow one has room for about a megabyte"
    );
    // It ends when the agent does.
    agent.watcher.end();
    let (lines, last) = reader.join().expect("it read");
    drop(slow);
    let head = 6;
    assert!((20_000..=20_000 + head).contains(&lines), "{lines} lines");
    assert!(last.ends_with(b"}\n"), "whole lines");
}

#[test]
fn a_recording_of_a_running_agent_is_replayed_with_what_was_open_before() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let agent = Asked::start("record", port);
    let mut kept = TcpStream::connect(format!("127.0.0.1:{port}")).expect("connected");
    let mut ask = || {
        kept.write_all(b"GET /api/kept HTTP/1.1\r\nhost: a\r\n\r\n")
            .expect("asked");
        assert!(kept.read(&mut [0; 4096]).expect("an answer") > 0);
    };
    ask();
    until("it is counted", || count(&agent.page, SERVER) == 1);
    let file = agent.socket.with_extension("pcapng");
    let recording = Command::new("curl")
        .args(["-sS", "-d", "{\"seconds\": 6}", "-o"])
        .arg(&file)
        .arg("--unix-socket")
        .arg(&agent.socket)
        .arg("http://agent/record")
        .spawn();
    let mut recording = recording.expect("curl");
    agent
        .watcher
        .hear_until(|line| line.contains("recording for 6s") && line.contains("by user 0"));
    let (code, body) = agent.curl(&["-X", "POST"], "/record");
    assert!(code == 409, "{body}");
    let (code, body) = agent.curl(&["-d", "{\"keep\": true}"], "/record");
    assert!(code == 403 && body.contains("admin.recordings"), "{body}");
    ask();
    requests(port, 20);
    agent
        .watcher
        .hear_until(|line| line.contains("the recording has ended: the time is over"));
    assert!(crate::watch::ended(&mut recording).success());
    agent.watcher.end();
    let records = replayed(&file);
    let of = |target: &str| {
        records
            .iter()
            .filter(|record| record["target"] == target)
            .count()
    };
    assert_eq!((of("/api/kept"), records.len()), (1, 21), "{records:?}");
}

/// What a recording has of servers.
fn replayed(file: &Path) -> Vec<Value> {
    let replay = Command::new(WIRESPAN)
        .args(["replay", "-q", "-o", "jsonl"])
        .arg(file)
        .output();
    let replay = replay.expect("wirespan");
    assert!(replay.status.success(), "{replay:?}");
    let text = String::from_utf8(replay.stdout).expect("UTF-8");
    let records = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    records
        .filter(|record| record["side"] == "server")
        .collect()
}

#[test]
fn a_recording_is_kept_where_the_configuration_says_and_nowhere_else() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let folder = Folder::new("kept");
    let shelf = folder.file("recordings");
    fs::create_dir(&shelf).expect("a folder");
    let keys = format!(", recordings: {}, recordings_most: 1", shelf.display());
    let agent = Asked::start_in(folder, port, &keys);
    let record = |wanted: &str| agent.curl(&["-d", wanted], "/record");
    let is_empty = || fs::read_dir(&shelf).expect("a folder").next().is_none();
    for path in [
        "{\"keep\": \"/tmp/x.pcapng\"}",
        "{\"keep\": true, \"file\": \"../x.pcapng\"}",
    ] {
        assert_eq!(record(path).0, 400, "{path}");
    }
    let (code, body) = agent.put("{\"admin\": {\"recordings\": \"/tmp\"}}");
    assert!(code == 400 && body.contains("at the start only"), "{body}");
    assert!(is_empty());

    let (code, body) = record("{\"keep\": true, \"seconds\": 4}");
    assert_eq!(code, 202, "{body}");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    let file = PathBuf::from(told["file"].as_str().expect("a path"));
    assert_eq!(file.parent(), Some(&*shelf));
    assert_eq!(told["bytes"], 1 << 20, "no more than the folder may hold");
    assert_eq!(record("{\"keep\": true}").0, 409);
    requests(port, 20);
    agent
        .watcher
        .hear_until(|line| line.contains("the recording has ended: the time is over"));
    until("it is written", || replayed(&file).len() == 20);
    let mode = fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(&shelf).expect("a folder").count(),
        1,
        "409 left nothing"
    );

    fs::write(shelf.join("wirespan-before.pcapng"), vec![0; 1 << 20]).expect("written");
    let (code, body) = record("{\"keep\": true}");
    assert!(code == 507 && body.contains("that they may have"), "{body}");
    agent.watcher.end();
}
