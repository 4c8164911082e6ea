//! An agent beside services under mixed load for a long time, with a configuration that changes, a
//! budget, and a backend for its spans: every request is counted, every span that is kept arrives, and
//! memory does not grow, where it runs for two minutes or more. `WIRESPAN_SOAK` says for how many seconds:
//! CI takes ten minutes, `bench/soak.sh` an hour.

use std::env;
use std::fs;
use std::io::Write as _;
use std::mem;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::endurance::number;
use crate::lab::{Lab, run};
use crate::page::{change, figure, page, total};
use crate::receiver::{Receiver, Speaks};
use crate::watch::{Folder, WIRESPAN, Watcher, capture, until};

/// Seconds where nobody asks for more.
const SHORT: u64 = 5;
/// Rounds between two measurements of latency, and measurements without wirespan, for comparison.
const PACED: usize = 100;
const BEFORE: usize = 5;

/// Rounds between two changes of the configuration.
const CHANGE: usize = 10;
/// What the configuration is changed to, in turn; none of it may cost a count.
const CHANGES: [&str; 4] = [
    r#"{"spans": {"keep": 0.5}, "observe": {"call_bytes": 4096}}"#,
    r#"{"redaction": {"text": "off"}, "log": {"level": "debug"}}"#,
    r#"{"redaction": {"text": "full"}, "filter": {"protocols": ["http", "redis", "postgresql"]}}"#,
    r#"{"spans": null, "observe": null, "redaction": null, "log": null, "filter": null}"#,
];

/// What it may use: processors, and MiB.
const BUDGET: (f64, u64) = (0.75, 160);

/// Requests of a round.
const HTTP: u64 = 400;
const HTTPS: u64 = 200;
const GETS: u64 = 1_000;
const SELECTS: u64 = 200;

/// Requests of a measurement of latency, of which each connection asks so many in a second.
const AT_A_PACE: u64 = 8_000;
const PACE: &str = "--rps=125";

/// Clients of servers of four kinds, which ask a known number of requests.
struct Load<'a> {
    http: String,
    https: String,
    redis: &'a str,
    postgres: &'a str,
    folder: Folder,
}

impl<'a> Load<'a> {
    fn new(lab: &'a Lab, https: &str) -> Self {
        let folder = Folder::new("soak");
        let statements = "SELECT 1;\n".repeat(SELECTS as usize);
        fs::write(folder.file("statements.sql"), statements).expect("a file");
        Self {
            http: format!("http://127.0.0.1:{}/api/x", lab.told("nginx")),
            https: format!("https://127.0.0.1:{https}/ok/x"),
            redis: lab.told("redis"),
            postgres: lab.told("postgres"),
            folder,
        }
    }

    /// One round.
    fn round(&self) {
        ab(&["-k"], HTTP, &self.http);
        ab(&[], HTTPS, &self.https);
        let gets = GETS.to_string();
        run(
            "redis-benchmark",
            &["-p", self.redis, "-q", "-c", "4", "-n", &gets, "-t", "get"],
        );
        let statements = self.file("statements.sql");
        let at = ["-h", "127.0.0.1", "-p", self.postgres, "-U", "admin"];
        run(
            "psql",
            &[
                &at[..],
                &["-q", "-o", "/dev/null", "-f", &statements, "shop"],
            ]
            .concat(),
        );
    }

    /// In how many microseconds 99 % of HTTP requests are answered that come at a fixed rate on 16
    /// connections, as `bench/live.sh` asks them.
    fn p99_us(&self) -> u64 {
        let (requests, log) = (AT_A_PACE.to_string(), self.file("latencies.tsv"));
        let log_file = format!("--log-file={log}");
        let how = ["--h1", "-t1", "-c16", PACE, "-n", &requests, &log_file];
        let said = run("h2load", &[&how[..], &[&self.http]].concat());
        assert!(said.contains(&format!(" {AT_A_PACE} succeeded, 0 failed")));
        let latencies = fs::read_to_string(&log).expect("latencies");
        fs::remove_file(&log).expect("removed"); // h2load appends
        let of = |line: &str| line.split('\t').nth(2)?.parse().ok();
        let mut latencies: Vec<u64> = latencies.lines().filter_map(of).collect();
        assert_eq!(latencies.len() as u64, AT_A_PACE);
        latencies.sort_unstable();
        latencies[latencies.len() * 99 / 100]
    }

    fn file(&self, name: &str) -> String {
        self.folder.file(name).to_str().expect("UTF-8").to_owned()
    }
}

fn ab(options: &[&str], requests: u64, url: &str) {
    let requests = requests.to_string();
    let said = run(
        "ab",
        &[&["-q", "-c", "4", "-n", &requests], options, &[url]].concat(),
    );
    assert!(said.contains("Failed requests:        0"), "{url}: {said}");
}

/// What the agent has counted at the servers, and at the clients, of what the load asks for.
fn counted(url: &str) -> [[u64; 2]; 3] {
    let page = page(url);
    let db = |label| {
        [
            total(
                &page,
                "wirespan_db_server_operation_duration_seconds_count",
                label,
            ),
            total(&page, "db_client_operation_duration_seconds_count", label),
        ]
    };
    [
        [
            total(&page, "http_server_request_duration_seconds_count", ""),
            total(&page, "http_client_request_duration_seconds_count", ""),
        ],
        db("db_operation_name=\"GET\""),
        db("db_query_summary=\"SELECT\""),
    ]
}

/// What the agent says was lost.
fn lost(url: &str) -> Vec<String> {
    let page = page(url);
    let is_loss = |line: &&str| line.starts_with("wirespan_capture_lost_");
    let some = page
        .lines()
        .filter(is_loss)
        .filter(|line| !line.ends_with(" 0"));
    some.map(str::to_owned).collect()
}

/// Memory of a process, as its `status` has it under a name.
pub(crate) fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    number(&status, name).expect("its memory")
}

fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.partial_cmp(b).expect("an order"));
    values[values.len() / 2]
}

/// An agent with a file, a budget and a backend.
struct Agent {
    watcher: Watcher,
    page: String,
    socket: String,
    receiver: Receiver,
    /// Spans that the backend has taken and this test has forgotten.
    spans: u64,
    began: Instant,
    _folder: Folder,
}

impl Agent {
    fn start(ports: &str) -> Self {
        let folder = Folder::new("soak-agent");
        let of = |name: &str| folder.file(name).to_str().expect("UTF-8").to_owned();
        let (file, socket) = (of("wirespan.yaml"), of("wirespan.sock"));
        let receiver = Receiver::start(Speaks::Http);
        // Room for what comes while a machine that is busy with other things lets nobody read.
        let text = format!(
            "observe: {{ports: [{ports}], buffer: 32}}\n\
             spans: {{keep: 0.05}}\n\
             otlp: {{endpoint: '{}'}}\n\
             budget: {{processors: {}, memory: {}}}\n\
             metrics: {{listen: '127.0.0.1:0'}}\n\
             admin: {{socket: {socket}}}\n",
            receiver.url(),
            BUDGET.0,
            BUDGET.1
        );
        fs::write(&file, text).expect("written");
        let watcher = Watcher::start(&["agent", "-c", &file]);
        let page = watcher.hear("wirespan: metrics at ");
        Self {
            watcher,
            page,
            socket,
            receiver,
            spans: 0,
            began: Instant::now(),
            _folder: folder,
        }
    }

    fn change(&self, patch: &str) {
        change(&self.socket, patch);
        let status = Command::new(WIRESPAN)
            .args(["status", "--socket", &self.socket])
            .output()
            .expect("a status");
        assert!(status.status.success(), "{status:?}");
    }

    /// Counts what the backend has taken, and forgets it.
    fn forget(&mut self) {
        self.spans += self.receiver.received(mem::take).spans() as u64;
    }

    /// Whether the backend has all spans that were kept.
    fn spans_have_arrived(&mut self) -> bool {
        self.forget();
        let page = page(&self.page);
        let of = |name: &str| total(&page, name, "");
        assert_eq!(of("wirespan_spans_dropped_total"), 0, "of spans");
        of("wirespan_spans_queued") == 0 && of("wirespan_spans_sent_total") == self.spans
    }

    /// Memory that is its own, in KiB: the ring buffer's pages come in as they are used.
    fn memory_kib(&self) -> u64 {
        memory_kib(self.watcher.pid(), "RssAnon:")
    }

    /// Processors that it used since it began.
    fn processors(&self) -> f64 {
        let page = page(&self.page);
        figure(&page, "process_cpu_time_seconds_total", "") / self.began.elapsed().as_secs_f64()
    }
}

#[test]
#[ignore = "long: `.ci/run` runs it"]
fn soak() {
    let Some(_alone) = capture() else { return };
    let seconds = env::var("WIRESPAN_SOAK").map_or(SHORT, |text| text.parse().expect("seconds"));
    let Some(lab) = Lab::start(&["nginx", "tls/nginx", "redis", "postgres"]) else {
        return;
    };
    let Some(https) = lab.tls("nginx") else {
        return;
    };
    let load = Load::new(&lab, https);
    load.round();
    let before: Vec<u64> = (0..BEFORE).map(|_| load.p99_us()).collect();

    let ports = [lab.told("nginx"), https, load.redis, load.postgres].join(", ");
    let mut agent = Agent::start(&ports);
    let (mut latencies, mut memory) = (Vec::new(), Vec::new());
    let mut changes = CHANGES.iter().cycle();
    while memory.len() < 10 || agent.began.elapsed() < Duration::from_secs(seconds) {
        if memory.len() % PACED == 0 {
            latencies.push(load.p99_us());
        }
        load.round();
        memory.push(agent.memory_kib());
        agent.forget();
        if memory.len() % CHANGE == 0 {
            agent.change(changes.next().expect("a cycle"));
        }
    }

    let (took, processors) = (agent.began.elapsed(), agent.processors());
    let rounds = memory.len() as u64;
    let mut wanted = [HTTP + HTTPS, GETS, SELECTS].map(|requests| [requests * rounds; 2]);
    let paced = AT_A_PACE * latencies.len() as u64;
    wanted[0] = wanted[0].map(|requests| requests + paced);
    for _ in 0..100 {
        if counted(&agent.page) == wanted {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let lost = lost(&agent.page);
    assert_eq!(
        counted(&agent.page),
        wanted,
        "after {rounds} rounds; {lost:?}"
    );
    let quarter = memory.len() / 4;
    let warm = median(&memory[quarter..2 * quarter]);
    let last = median(&memory[memory.len() - quarter..]);
    let tenths: Vec<u64> = memory.iter().step_by(memory.len() / 10).copied().collect();
    let resident = memory_kib(agent.watcher.pid(), "VmRSS:") >> 10;
    until("the backend has all spans", || agent.spans_have_arrived());
    let _ = writeln!(
        std::io::stderr(),
        "soak: {rounds} rounds of {} requests and {paced} more in {:.0} s, all counted at both ends; \
         memory {tenths:?} KiB at each tenth of it, resident {resident} MiB; {processors:.3} processors; \
         {} spans exported; p99 of HTTP {} us, before {} us (medians), {latencies:?}, {before:?}",
        HTTP + HTTPS + GETS + SELECTS,
        took.as_secs_f64(),
        agent.spans,
        median(&latencies),
        median(&before),
    );
    assert!(processors <= BUDGET.0 * 1.2 && resident <= BUDGET.1);
    // An agent takes a minute to have seen all that it will see again and again, and gives back each
    // minute what a burst needed: until then some of it may lie about.
    assert!(
        seconds < 120 || last <= warm + warm / 20 + 4 * 1024,
        "it grows: {tenths:?} KiB at each tenth of the time"
    );
    agent.watcher.end();
}
