//! A real Prometheus server scrapes `/metrics`: what it stores is what was counted. Where it is not
//! installed the tests say that they are skipped, and fail all the same under CI.

mod support;

use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use wirespan::{Format, Input, Pipeline, Signals};
use wirespan_engine::Nanos;
use wirespan_export::metrics::{self, Metrics};
use wirespan_telemetry::{Collection, Config, Exporter, Scrape, Source, Wanted};

use support::{records, registry, repository};

/// Whether a program can be had; says so aloud where it cannot.
fn installed(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        assert!(env::var_os("CI").is_none(), "{program} is not installed");
        let _ = writeln!(std::io::stderr(), "SKIPPED: {program} is not installed");
    }
    found
}

/// Metrics that grow while they are scraped.
#[derive(Debug)]
struct Growing(Mutex<Metrics>);

impl Source for Growing {
    fn collect(&self) -> Collection {
        let metrics = self.0.lock().expect("no panic");
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Collection {
            snapshot: metrics.snapshot(),
            time: Nanos(since.expect("after 1970").as_nanos() as u64),
            ..Collection::default()
        }
    }
}

const CAPTURES: [&str; 3] = [
    "demo/demo.pcap",
    "grpc/errors.pcap",
    "postgresql/simple.pcap",
];

fn capture(name: &str) -> PathBuf {
    repository().join("tests/pcaps").join(name)
}

/// The metrics of a capture, with exponential histograms.
fn metrics_of(name: &str) -> Metrics {
    let mut pipeline = Pipeline::new(registry());
    pipeline.format = Format::Nothing;
    pipeline.signals = Some(Signals {
        metrics: metrics::Options {
            exponential: true,
            ..metrics::Options::default()
        },
        ..Signals::default()
    });
    let input = Input::open(&capture(name)).expect("a capture");
    let found = pipeline
        .run(input, |_| Ok(()), |_, _| {})
        .expect("nothing to fail");
    found.metrics.expect("metrics were made")
}

/// A page with the metrics of the captures.
struct Page {
    address: SocketAddr,
    source: Arc<Growing>,
    exporter: Exporter,
}

impl Page {
    fn serve() -> Self {
        let all = metrics_of(CAPTURES[0]);
        CAPTURES[1..]
            .iter()
            .for_each(|name| all.merge(&metrics_of(name)));
        let source = Arc::new(Growing(Mutex::new(all)));
        let scrape = Scrape::bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
        let address = scrape.address();
        let config = Config::read(&|_| None, None, Wanted::Configured).expect("valid");
        let own = Arc::clone(&source) as Arc<dyn Source>;
        let exporter = Exporter::start(&config, own, Some(scrape), None, |_| {});
        Self {
            address,
            source,
            exporter: exporter.expect("an exporter"),
        }
    }

    fn end(self) {
        self.exporter.stop(Duration::from_secs(1));
    }
}

/// The body of an answer to GET, and its content type.
fn get(address: SocketAddr, path: &str, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let head = head.to_ascii_lowercase();
    let content = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    let content = content.unwrap_or_default().to_owned();
    let chunked = head.contains("transfer-encoding: chunked");
    (
        if chunked {
            unchunked(body)
        } else {
            body.to_owned()
        },
        content,
    )
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}

#[test]
fn promtool_finds_nothing_wrong_with_the_page() {
    if !installed("promtool") {
        return;
    }
    let page = Page::serve();
    let (text, content) = get(page.address, "/metrics", "text/plain");
    assert_eq!(content, "text/plain; version=0.0.4; charset=utf-8");
    page.end();
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool");
    let mut input = check.stdin.take().expect("a pipe");
    input.write_all(text.as_bytes()).expect("a reader");
    drop(input);
    let done = check.wait_with_output().expect("an end");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_page_has_the_format_that_is_asked_for() {
    let page = Page::serve();
    let open = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let (text, content) = get(page.address, "/metrics", open);
    assert!(content.starts_with("application/openmetrics-text; version=1.0.0"));
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# UNIT http_server_request_duration_seconds seconds\n"));
    assert!(text.contains("\"} 30 # {trace_id=\""), "exemplars");
    let (text, _) = get(page.address, "/metrics", "*/*");
    assert!(!text.contains("trace_id") && !text.contains("# EOF"));
    let (map, _) = get(page.address, "/edges", "*/*");
    let map: Value = serde_json::from_str(&map).expect("JSON");
    let edges = map.as_array().expect("an array").iter();
    let count: u64 = edges
        .map(|edge| edge["count"].as_u64().expect("a count"))
        .sum();
    assert_eq!(count as usize, exchanges());
    page.end();
}

/// Records of all captures.
fn exchanges() -> usize {
    let of = |name: &&str| records(&capture(name), 1).records.lines().count();
    CAPTURES.iter().map(of).sum()
}

/// A Prometheus server in a folder of its own.
struct Prometheus {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Prometheus {
    fn start(target: SocketAddr, name: &str, features: &str) -> Self {
        let folder = env::temp_dir().join(format!("wirespan-prom-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let config = format!(
            "scrape_configs:\n- job_name: wirespan\n  scrape_interval: 250ms\n  \
             scrape_timeout: 250ms\n  static_configs:\n  - targets: ['{target}']\n"
        );
        fs::write(folder.join("prometheus.yml"), config).expect("written");
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("an address");
        drop(port);
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", path(&folder, "prometheus.yml")))
            .arg(format!("--storage.tsdb.path={}", path(&folder, "data")))
            .arg(format!("--web.listen-address={address}"))
            .arg(format!("--enable-feature={features}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus");
        Self {
            child,
            folder,
            address,
        }
    }

    /// The result of a query, tried until it satisfies, for at most 30 seconds.
    fn query(&self, api: &str, query: &str, satisfies: impl Fn(&Value) -> bool) -> Value {
        let encoded: String = query
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let mut latest = Value::Null;
        for _ in 0..300 {
            if TcpStream::connect(self.address).is_ok() {
                let (body, _) = get(self.address, &format!("{api}query={encoded}"), "*/*");
                latest = serde_json::from_str(&body).unwrap_or_default();
                if satisfies(&latest["data"]) {
                    return latest["data"].clone();
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{query} gave {latest}");
    }

    /// The only number that a query gives, once it is this one.
    fn number(&self, query: &str, expected: usize) {
        let expected = expected.to_string();
        self.query("/api/v1/query?", query, |data| {
            data["result"][0]["value"][1] == expected.as_str()
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

/// Sums over all series of what the exchanges' own histograms and counters count.
const ALL: &str = "sum({__name__=~\"(http|rpc|db)_.*_duration_seconds_count|\
                   wirespan_exchange_untimed_total\"})";

#[test]
fn a_server_stores_what_was_counted_and_no_scrape_falls() {
    if !installed("prometheus") {
        return;
    }
    let page = Page::serve();
    let server = Prometheus::start(page.address, "text", "exemplar-storage");
    server.number("up", 1);
    let all = exchanges();
    server.number(ALL, all);
    let bucket = "sum({__name__=~\"(http|rpc|db)_.*_duration_seconds_bucket\",le=\"+Inf\"}) \
                  + sum(wirespan_exchange_untimed_total)";
    server.number(bucket, all);
    {
        let metrics = page.source.0.lock().expect("no panic");
        CAPTURES
            .iter()
            .for_each(|name| metrics.merge(&metrics_of(name)));
    }
    server.number(ALL, 2 * all);
    for metric in [
        "http_server_request",
        "rpc_server_call",
        "db_client_operation",
    ] {
        for part in ["count", "sum", "bucket"] {
            let falls = format!("sum(resets({metric}_duration_seconds_{part}[1m]))");
            server.number(&falls, 0);
        }
    }
    // Exemplars have the times of the captures.
    let when = "/api/v1/query_exemplars?start=1790000000&end=4000000000&";
    let data = server.query(
        when,
        "http_server_request_duration_seconds_bucket",
        |data| data.as_array().is_some_and(|series| !series.is_empty()),
    );
    let labels = &data[0]["exemplars"][0]["labels"];
    assert_eq!(labels["trace_id"].as_str().map(str::len), Some(32));
    assert_eq!(labels["span_id"].as_str().map(str::len), Some(16));
    page.end();
}

#[test]
fn a_server_that_asks_for_native_histograms_gets_them() {
    if !installed("prometheus") {
        return;
    }
    let page = Page::serve();
    let server = Prometheus::start(page.address, "native", "native-histograms");
    let expected = {
        let metrics = page.source.0.lock().expect("no panic");
        let snapshot = metrics.snapshot();
        let http = snapshot.series.iter().filter(|(identity, _)| {
            identity.instrument.duration() == "http.server.request.duration"
        });
        http.map(|(_, series)| series.durations.count())
            .sum::<u64>() as usize
    };
    assert!(expected > 30);
    server.number(
        "sum(histogram_count(http_server_request_duration_seconds))",
        expected,
    );
    // Of one bucket in a hundred the bounds are 0.3 % apart.
    let data = server.query(
        "/api/v1/query?",
        "histogram_quantile(1, sum(http_server_request_duration_seconds))",
        |data| data["result"][0]["value"][1].is_string(),
    );
    let greatest = data["result"][0]["value"][1].as_str().expect("text");
    let greatest: f64 = greatest.parse().expect("a number");
    let snapshot = page.source.0.lock().expect("no panic").snapshot();
    let http = snapshot
        .series
        .iter()
        .filter(|(identity, _)| identity.instrument.duration() == "http.server.request.duration");
    let exact = http.filter_map(|(_, series)| series.durations.range());
    let exact = exact.map(|(_, max)| max).fold(0.0, f64::max);
    assert!(
        (greatest / exact - 1.0).abs() < 0.01,
        "{greatest} for {exact}"
    );
    page.end();
}
