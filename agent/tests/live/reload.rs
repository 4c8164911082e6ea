//! A configuration that changes under load: nothing is lost, and what is filtered out stays in the
//! kernel.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::{Lab, Session, run};
use crate::page::{count, labelled, page, sum, total};
use crate::watch::{Folder, Watcher, capture, ended, signal, until};

/// Requests on each side of a connection.
const SERVER: &str = "http_server_request_duration_seconds";
const CLIENT: &str = "http_client_request_duration_seconds";

/// An agent with a file of its own, beside a server.
struct Configured {
    watcher: Watcher,
    file: PathBuf,
    page: String,
    _folder: Folder,
}

impl Configured {
    fn start(name: &str, configuration: &str) -> Self {
        Self::start_with(name, configuration, &["--no-tls"])
    }

    fn start_with(name: &str, configuration: &str, options: &[&str]) -> Self {
        let folder = Folder::new(name);
        let file = folder.file("wirespan.yaml");
        fs::write(&file, configuration).expect("written");
        let path = file.to_str().expect("UTF-8");
        // The load is that of a test, programs under test are hardly optimized.
        let arguments = ["agent", "-c", path, "--buffer", "256"];
        let arguments = [&arguments[..], options].concat();
        let watcher = Watcher::start_with(&arguments, &[("WIRESPAN_LISTEN", "127.0.0.1:0")]);
        let page = watcher.hear("wirespan: metrics at ");
        Self {
            watcher,
            file,
            page,
            _folder: folder,
        }
    }

    /// Replaces the file as editors do; what the agent says of it, and after what time.
    fn replace(&self, configuration: &str) -> (String, Duration) {
        let new = self.file.with_extension("new");
        fs::write(&new, configuration).expect("written");
        let begun = Instant::now();
        fs::rename(&new, &self.file).expect("renamed");
        let said = self
            .watcher
            .hear_until(|line| line.contains("configuration: the file changed"));
        (said.last().expect("a line").clone(), begun.elapsed())
    }
}

fn requests(url: &str, n: usize) {
    run(
        "curl",
        &["-sS", "-o", "/dev/null", &format!("{url}/api/x?[1-{n}]")],
    );
}

/// Load in the background: so many requests on connections that are kept, and on new ones.
fn load(url: &str, n: usize) -> [Child; 2] {
    let of = |keep: &[&str]| {
        let n = n.to_string();
        let arguments = [&["-q", "-n", &n, "-c", "4"], keep, &[url]].concat();
        let ab = Command::new("ab")
            .args(arguments)
            .stdout(Stdio::null())
            .spawn();
        ab.expect("ab")
    };
    [of(&["-k"]), of(&[])]
}

#[test]
fn a_configuration_that_changes_under_load_loses_nothing() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let with = |more: &str| format!("observe: {{ports: [{port}{more}]}}\nlog: {{level: info}}\n");
    let agent = Configured::start("load", &with(""));
    let url = format!("http://127.0.0.1:{port}/api/x");
    let mut load = load(&url, 10_000);
    let mut slowest = Duration::ZERO;
    let mut changes = 0;
    while load
        .iter_mut()
        .any(|load| load.try_wait().expect("a child").is_none())
    {
        changes += 1;
        let (said, after) = agent.replace(&with(&format!(", {}", changes % 2 + 1)));
        assert!(said.ends_with(": observe.ports"), "{said}");
        slowest = slowest.max(after);
    }
    for mut load in load {
        assert!(ended(&mut load).success());
    }
    assert!(changes > 2, "the load was over before anything changed");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // The last answers of connections that are closed at once have no time, with or without changes.
    let untimed = || sum(&agent.page, "wirespan_exchange_untimed_total");
    let counted = || count(&agent.page, SERVER) + count(&agent.page, CLIENT) + untimed();
    until("all requests are counted", || counted() >= 40_000);
    // The next look at the counters.
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(
        counted(),
        40_000,
        "both ends of 20,000 requests, after {changes} changes"
    );
    assert_eq!(count(&agent.page, SERVER), 20_000);
    assert_eq!(sum(&agent.page, "wirespan_capture_lost_events_total"), 0);
    agent.watcher.end();
}

/// What has left the kernel so far, as an agent tells.
struct Told {
    /// Events of connections.
    events: u64,
    copied: u64,
    moved: u64,
    /// Bytes that were left in it because nobody wanted them.
    unwanted: u64,
}

impl Told {
    fn by(url: &str) -> Self {
        let page = page(url);
        let io = |part| total(&page, "wirespan_capture_io_bytes_total", part);
        Self {
            events: total(&page, "wirespan_capture_events_total", "\"connections\""),
            copied: io("\"copied\""),
            moved: io("\"moved\""),
            unwanted: total(&page, "wirespan_capture_lost_bytes_total", "\"unwanted\""),
        }
    }
}

#[test]
fn what_is_filtered_out_from_now_on_stays_in_the_kernel() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let url = format!("http://127.0.0.1:{port}");
    let all = format!("observe: {{ports: [{port}]}}\n");
    let agent = Configured::start("filter", &all);
    let counted = |n| {
        until("what was asked is counted", || {
            count(&agent.page, SERVER) == n
        })
    };
    let told = || Told::by(&agent.page);
    requests(&url, 100);
    counted(100);
    let filtered = || sum(&agent.page, "wirespan_connections_filtered_total");
    // No cgroup has the number of this folder.
    let nobodys = agent.file.parent().expect("a folder");
    let mut expected = 100;
    for (filter, by_connection) in [
        ("ports: [1]".to_owned(), true),
        (format!("ports: [{port}], external: true"), true),
        (format!("ports: [{port}], networks: [192.0.2.0/24]"), true),
        (format!("ports: [{port}], namespaces: [/dev/null]"), true),
        (format!("ports: [{port}], processes: [of-nobody]"), false),
        (format!("ports: [{port}], pids: [1]"), false),
        (format!("ports: [{port}], executables: [/of/nobody]"), false),
        (
            format!("ports: [{port}], cgroups: [{}]", nobodys.display()),
            false,
        ),
    ] {
        let (said, after) = agent.replace(&format!("observe: {{{filter}}}\n"));
        assert!(!said.contains("nothing was changed"), "{said}");
        assert!(after < Duration::from_secs(1), "{after:?}");
        // The next look at the counters.
        thread::sleep(Duration::from_millis(1500));
        let (before, filtered_before) = (told(), filtered());
        requests(&url, 200);
        thread::sleep(Duration::from_millis(1500));
        let after = told();
        assert_eq!(
            (after.copied, after.moved),
            (before.copied, before.moved),
            "bytes that events have, and stand for, with {filter}"
        );
        // Of connections that were let through there may be an end left to tell.
        assert!(after.events - before.events < 10, "events, with {filter}");
        assert!(!by_connection || filtered() > filtered_before, "{filter}");
        assert_eq!(count(&agent.page, SERVER), expected, "{filter}");

        agent.replace(&all);
        requests(&url, 50);
        expected += 50;
        counted(expected);
    }
    agent.watcher.end();
}

/// Asks nginx so often on a connection that is kept.
fn ask(connection: &mut TcpStream, n: usize) {
    for _ in 0..n {
        let request = b"GET /api/x HTTP/1.1\r\nhost: a\r\n\r\n";
        connection.write_all(request).expect("asked");
        assert!(connection.read(&mut [0; 4096]).expect("an answer") > 0);
    }
}

#[test]
fn connections_of_a_protocol_that_nobody_wants_stay_in_the_kernel() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx", "redis"]) else {
        return;
    };
    let ports = [lab.told("nginx"), lab.told("redis")];
    let with = |protocols: &str| {
        let ports = ports.join(", ");
        format!("observe: {{ports: [{ports}]}}\nfilter: {{protocols: [{protocols}]}}\n")
    };
    let agent = Configured::start("protocol", &with("redis"));
    let told = || Told::by(&agent.page);
    let filtered = || {
        let name = "wirespan_connections_filtered_total";
        labelled(&agent.page, name, "\"protocol\"")
    };
    let gets = || count(&agent.page, "wirespan_db_server_operation_duration_seconds");
    let stays_in_the_kernel = |kept: &mut TcpStream| {
        // The next look at the counters.
        thread::sleep(Duration::from_millis(1200));
        let before = told();
        ask(kept, 200);
        thread::sleep(Duration::from_millis(1200));
        let after = told();
        let left = (after.events - before.events, after.copied - before.copied);
        assert_eq!(left, (0, 0), "events, and bytes that were copied");
        // Both ends of requests of 33 bytes, and of answers that are longer.
        assert!(after.unwanted - before.unwanted > 2 * 200 * (33 + 33));
    };
    let mut kept = TcpStream::connect(("127.0.0.1", ports[0].parse().expect("a port")));
    let kept = kept.as_mut().expect("connected");
    ask(kept, 2);
    until("its protocol is known at both ends", || filtered() == 2);
    stays_in_the_kernel(kept);
    let redis = ["-p", ports[1], "-q", "-c", "2", "-n", "100", "-t", "get"];
    run("redis-benchmark", &redis);
    until("what is wanted is counted", || gets() >= 100);
    assert_eq!(count(&agent.page, SERVER), 0);

    let (_, after) = agent.replace(&with("redis, http"));
    assert!(after < Duration::from_secs(1), "{after:?}");
    ask(kept, 50);
    until("a connection that was left out is joined", || {
        count(&agent.page, SERVER) == 50 && count(&agent.page, CLIENT) == 50
    });

    let (_, after) = agent.replace(&with("redis"));
    assert!(after < Duration::from_secs(1), "{after:?}");
    stays_in_the_kernel(kept);
    assert_eq!(count(&agent.page, SERVER), 50);
    assert_eq!(sum(&agent.page, "wirespan_parse_errors_total"), 0);
    agent.watcher.end();
}

#[test]
fn cleartext_of_a_protocol_that_nobody_wants_stays_in_the_kernel() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["tls/redis"]) else {
        return;
    };
    let Some(port) = lab.tls("redis") else { return };
    let mut session = Session::start("redis-cli", &["--tls", "--insecure", "-p", port]);
    let pid = session.pid();
    let with = |protocols: &str| {
        format!("observe: {{pids: [{pid}]}}\nfilter: {{protocols: [{protocols}]}}\n")
    };
    let mut ask = |n: usize| (0..n).for_each(|_| assert_eq!(session.ask("SET a b"), "OK"));
    ask(1);
    // Over several workers, too, all of which hear of changes.
    let agent = Configured::start_with("cleartext", &with("http"), &["--workers", "2"]);
    ask(5);
    let filtered = "wirespan_connections_filtered_total";
    until("its protocol is known", || {
        labelled(&agent.page, filtered, "\"protocol\"") == 1
    });
    let stays_in_the_kernel = |ask: &mut dyn FnMut(usize)| {
        thread::sleep(Duration::from_millis(1200));
        let before = Told::by(&agent.page);
        ask(100);
        thread::sleep(Duration::from_millis(1200));
        let after = Told::by(&agent.page);
        let left = (after.events - before.events, after.copied - before.copied);
        assert_eq!(left, (0, 0), "events, and bytes that were copied");
        assert!(after.unwanted > before.unwanted);
    };
    stays_in_the_kernel(&mut ask);
    let sets = || count(&agent.page, "db_client_operation_duration_seconds");
    agent.replace(&with("redis"));
    ask(40);
    until("a session that was left out is joined", || sets() == 40);
    agent.replace(&with("http"));
    stays_in_the_kernel(&mut ask);
    assert_eq!(sets(), 40);
    session.end();
    agent.watcher.end();
}

#[test]
fn a_wrong_configuration_changes_nothing_and_says_why() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let port = lab.told("nginx");
    let url = format!("http://127.0.0.1:{port}");
    let agent = Configured::start("wrong", &format!("observe: {{ports: [{port}]}}\n"));
    for (text, why) in [
        (
            format!("observe:\n  ports: [{port}]\n  prots: [1]\n"),
            ":3: unknown key observe.prots; did you mean observe.ports?",
        ),
        (
            "observe: {ports: [1]}\nfilter: {protocols: [htpp]}\n".to_owned(),
            "there is no protocol htpp",
        ),
        (
            "observe: {ports: [1], cgroups: [/nowhere]}\n".to_owned(),
            "observe.cgroups: /nowhere",
        ),
    ] {
        let (said, _) = agent.replace(&text);
        assert!(
            said.contains(why) && said.ends_with("; nothing was changed"),
            "{said}"
        );
    }
    requests(&url, 30);
    until("requests are counted", || count(&agent.page, SERVER) == 30);
    assert_eq!(sum(&agent.page, "wirespan_config_changes_total"), 3);

    // What only counts at the start is said to, and what else there is goes on.
    let text = format!(
        "observe: {{ports: [{port}], buffer: 16}}\nmetrics: {{max_series: 7}}\nlog: {{level: debug}}\n"
    );
    let (said, _) = agent.replace(&text);
    assert!(said.ends_with("log.level"), "{said}");
    let said = agent.watcher.hear_until(|line| line.contains("next start"));
    let said = said.last().expect("a line");
    assert!(said.contains("metrics.max_series"), "{said}");
    // The flag comes before the file.
    assert!(!said.contains("observe.buffer"), "{said}");

    signal("HUP", agent.watcher.pid());
    agent
        .watcher
        .hear_until(|line| line.contains("configuration: SIGHUP: nothing changed"));
    agent.watcher.end();
}

/// A server at one end of a Unix connection: answers `/half` with half of a body, and the other half
/// when it is told to; all else at once.
fn serve(mut stream: UnixStream, go: &mpsc::Receiver<()>) {
    let mut held = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        held.extend_from_slice(&buffer[..n]);
        let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head: Vec<u8> = held.drain(..end + 4).collect();
        let body = [b'x'; 2000];
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n")
            .expect("sent");
        stream.write_all(&body[..1000]).expect("sent");
        if head.starts_with(b"GET /half") {
            go.recv().expect("a word");
        }
        stream.write_all(&body[1000..]).expect("sent");
    }
}

#[test]
fn a_unix_socket_whose_bytes_nobody_counted_is_met_anew() {
    let Some(_alone) = capture() else { return };
    let own = std::process::id();
    let agent = Configured::start("unix", &format!("observe: {{pids: [{own}]}}\n"));
    let (mut client, server) = UnixStream::pair().expect("a connection");
    let (go, told) = mpsc::channel();
    let server = thread::spawn(move || serve(server, &told));
    let answer = |mut left: usize, client: &mut UnixStream| {
        let mut buffer = [0; 4096];
        while left > 0 {
            left -= client.read(&mut buffer).expect("an answer").min(left);
        }
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n".len();
    let ask = |path: &str, client: &mut UnixStream| {
        write!(client, "GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").expect("asked");
    };
    let counted = |route: &str| {
        let page = Command::new("curl").args(["-sS", &agent.page]).output();
        let page = String::from_utf8(page.expect("curl").stdout).expect("UTF-8");
        let route = format!("http_route=\"{route}\"");
        let of = page
            .lines()
            .filter(|line| line.starts_with(SERVER) && line.contains(&route));
        let counts = of.filter(|line| line.contains("_count{"));
        let value = |line: &str| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
        counts.filter_map(value).sum::<u64>()
    };
    for _ in 0..3 {
        ask("/before", &mut client);
        answer(head + 2000, &mut client);
    }
    until("requests are counted", || counted("/before") == 3);
    ask("/half", &mut client);
    answer(head + 1000, &mut client);
    agent.replace("observe: {pids: [1]}\n");
    go.send(()).expect("sent");
    answer(1000, &mut client);
    agent.replace(&format!("observe: {{pids: [{own}]}}\n"));
    for _ in 0..5 {
        ask("/after", &mut client);
        answer(head + 2000, &mut client);
    }
    // The first after it was met may be the one by which its protocol is found.
    until("requests are counted again", || counted("/after") >= 4);
    drop(client);
    server.join().expect("it served");
    assert_eq!(sum(&agent.page, "wirespan_parse_errors_total"), 0);
    agent.watcher.end();
}
