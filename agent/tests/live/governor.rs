//! An agent that may use half of what a load wants of it: it does with less, counts all the same, and
//! takes everything up again.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::page::{change, count, figure, labelled, page};
use crate::receiver::{Behaviour, Receiver, Speaks};
use crate::soak::memory_kib;
use crate::watch::{Folder, Watcher, capture, until};

const SERVER: &str = "http_server_request_duration_seconds";
const CLIENT: &str = "http_client_request_duration_seconds";

/// Requests on connections that are kept, as many in each second whatever the machine is like, until
/// it is ended.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    const CONNECTIONS: usize = 4;
    /// Requests of a connection: servers do not let one have any number.
    const KEPT: u32 = 500;
    /// Between two requests of one connection.
    const PACE: Duration = Duration::from_millis(1);

    fn start(port: &str) -> Self {
        let (stop, asked) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let one = |_| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            let server = ("127.0.0.1", port.parse::<u16>().expect("a port"));
            let connect = move || TcpStream::connect(server).expect("connected");
            let mut connection = connect();
            thread::spawn(move || {
                let begun = Instant::now();
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    if sent % Self::KEPT == Self::KEPT - 1 {
                        connection = connect();
                    }
                    let request = b"GET /api/x HTTP/1.1\r\nhost: a\r\n\r\n";
                    connection.write_all(request).expect("asked");
                    assert!(connection.read(&mut [0; 4096]).expect("an answer") > 0);
                    asked.fetch_add(1, Ordering::Relaxed);
                    sent += 1;
                    thread::sleep((Self::PACE * sent).saturating_sub(begun.elapsed()));
                }
            })
        };
        let threads = (0..Self::CONNECTIONS).map(one).collect();
        Self {
            stop,
            asked,
            threads,
        }
    }

    /// Ends it; how many requests there were.
    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("it asked");
        }
        self.asked.load(Ordering::Relaxed)
    }
}

/// Processors that a process uses over a time, by the kernel's clock ticks.
fn used(pid: u32, over: Duration) -> f64 {
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        let fields: Vec<f64> = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse().expect("ticks"))
            .collect();
        fields.iter().sum::<f64>()
    };
    let (before, begun) = (ticks(), Instant::now());
    thread::sleep(over);
    (ticks() - before) / 100.0 / begun.elapsed().as_secs_f64()
}

/// An agent that sends spans, and is told of a budget while it runs.
struct Governed {
    watcher: Watcher,
    page: String,
    socket: String,
    _folder: Folder,
}

impl Governed {
    fn start(port: &str, otlp: &str) -> Self {
        let folder = Folder::new("governor");
        let socket = folder.file("wirespan.sock");
        let socket = socket.to_str().expect("UTF-8").to_owned();
        let arguments = ["agent", "--no-tls", "--port", port, "--otlp", otlp];
        let variables = [
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("WIRESPAN_LISTEN", "127.0.0.1:0"),
            ("WIRESPAN_SOCKET", &socket),
        ];
        let watcher = Watcher::start_with(&arguments, &variables);
        let page = watcher.hear("wirespan: metrics at ");
        Self {
            watcher,
            page,
            socket,
            _folder: folder,
        }
    }

    fn set_budget(&self, resource: &str, value: &str) {
        let patch = format!("{{\"budget\": {{\"{resource}\": {value}}}}}");
        change(&self.socket, &patch);
    }

    /// MiB of resident memory.
    fn memory(&self) -> u64 {
        memory_kib(self.watcher.pid(), "VmRSS:") >> 10
    }

    fn level(&self) -> f64 {
        figure(&page(&self.page), "wirespan_governor_level", "")
    }

    fn steps(&self, kind: &str) -> u64 {
        labelled(&self.page, "wirespan_governor_steps_total", kind)
    }

    /// Waits until so many requests are counted at each end.
    fn counts(&self, asked: u64) {
        let counted = || [SERVER, CLIENT].map(|metric| count(&self.page, metric));
        until("the count of all", || counted() == [asked; 2]);
    }

    /// Waits until nothing has been given up or taken up again for a while.
    fn settle(&self) {
        let begun = Instant::now();
        let (mut level, mut since) = (self.level(), Instant::now());
        while level == 0.0 || since.elapsed() < Duration::from_secs(4) {
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "it does not settle"
            );
            thread::sleep(Duration::from_secs(1));
            let now = self.level();
            if now != level {
                (level, since) = (now, Instant::now());
            }
        }
    }

    fn take_up_everything(&self) {
        let began = Instant::now();
        while self.level() > 0.0 {
            assert!(began.elapsed() < Duration::from_secs(120), "it stays down");
            thread::sleep(Duration::from_secs(1));
        }
    }
}

#[test]
#[ignore = "long: `.ci/run` runs it"]
fn with_half_of_what_it_wants_an_agent_stays_within_its_budget_and_counts_all() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let receiver = Receiver::start(Speaks::Http);
    let port = lab.told("nginx");
    let agent = Governed::start(port, &receiver.url());
    let pid = agent.watcher.pid();
    let load = Load::start(port);
    thread::sleep(Duration::from_secs(2));
    let unbounded = used(pid, Duration::from_secs(6));
    assert_eq!(agent.level(), 0.0, "nobody has said what it may use");

    let budget = unbounded / 2.0;
    agent.set_budget("processors", &format!("{budget:.4}"));
    agent.settle();
    let bounded = used(pid, Duration::from_secs(8));
    let mut told = format!("governor: {unbounded:.3} processors unbounded, then {bounded:.3}");
    write!(told, " of {budget:.3} at level {}", agent.level()).expect("text");
    let _ = writeln!(std::io::stderr(), "{told}");
    assert!(bounded <= 1.2 * budget, "{told}");
    assert!(agent.steps("down_processors") > 0);
    let left_out = labelled(&agent.page, "wirespan_spans_left_out_total", "sampling");
    assert!(left_out > 0, "{told}");

    let asked = load.end();
    agent.counts(asked);
    let lost = labelled(&agent.page, "wirespan_capture_lost_events_total", "");
    assert_eq!(lost, 0);
    agent.take_up_everything();
    assert_eq!(agent.steps("\"up\""), agent.steps("down"));
    agent.watcher.end();
}

#[test]
#[ignore = "long: `.ci/run` runs it"]
fn memory_that_spans_take_is_given_back_for_the_sake_of_a_budget() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let receiver = Receiver::start(Speaks::Http);
    receiver.behave(Behaviour::Hang);
    let port = lab.told("nginx");
    let agent = Governed::start(port, &receiver.url());
    let of = |name: &str| labelled(&agent.page, name, "");
    let load = Load::start(port);
    thread::sleep(Duration::from_millis(500));
    let before = agent.memory();
    until("the queue is full", || {
        of("wirespan_spans_dropped_total") > 0
    });
    let asked = load.end();
    agent.counts(asked);
    let unbounded = agent.memory();
    assert!(
        unbounded > before + 6,
        "spans that nobody takes: {unbounded} MiB"
    );

    let budget = before + (unbounded - before) / 2;
    agent.set_budget("memory", &budget.to_string());
    until("it is within its budget", || agent.memory() <= budget);
    let told = format!("{before} MiB, {unbounded} with spans, budget {budget}");
    let _ = writeln!(
        std::io::stderr(),
        "governor: {told}, {} in the end",
        agent.memory()
    );
    assert!(
        agent.level() > 0.0 && agent.steps("down_memory") > 0,
        "{told}"
    );
    // Each span has a fate: those of the request that hangs are still under way.
    let fates = of("wirespan_spans_dropped_total")
        + of("wirespan_spans_queued")
        + labelled(&agent.page, "wirespan_spans_left_out_total", "sampling");
    assert_eq!(fates + 512, 2 * asked, "{told}");
    agent.set_budget("memory", "null");
    agent.take_up_everything();
    assert_eq!(agent.steps("\"up\""), agent.steps("down"));
    agent.watcher.end();
}

#[test]
fn a_budget_that_cannot_be_kept_is_said_to_be_and_all_is_counted() {
    let Some(_alone) = capture() else { return };
    let Some(lab) = Lab::start(&["nginx"]) else {
        return;
    };
    let receiver = Receiver::start(Speaks::Http);
    let port = lab.told("nginx");
    let agent = Governed::start(port, &receiver.url());
    agent.set_budget("processors", "0.001");
    let load = Load::start(port);
    let said = agent
        .watcher
        .hear_until(|line| line.contains("nothing is left to do without"));
    let steps = said.iter().filter(|line| line.contains("one step less"));
    assert_eq!(steps.count() as u64, agent.steps("down"), "{said:?}");
    let exhausted = || labelled(&agent.page, "wirespan_governor_exhausted_ratio", "");
    until("it is said to be", || exhausted() == 1);
    let asked = load.end();
    agent.counts(asked);
    let lost = labelled(&agent.page, "wirespan_capture_lost_events_total", "");
    assert_eq!(lost, 0);
    agent.watcher.end();
}
