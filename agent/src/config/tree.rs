//! Every key of the configuration, with its default and its description: the one place where a key
//! is defined. Schema, reference page, environment variables and flags follow from it.
//!
//! Extensions of the schema say what a type cannot: `x-flag`, the flag of `wirespan agent` that sets
//! the key; `x-env`, its variable where the name does not follow from the key;
//! `x-reload`, that it takes effect while the agent runs; `x-secret`, that it is not shown.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wirespan_capture::MAX_CALL_BYTES;

use super::values::{self, Level, Redact, Setting};
use crate::units::Duration;

/// The configuration of `wirespan agent`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// What is observed at all. It is decided in the kernel, so that the rest costs nothing.
    #[serde(deserialize_with = "values::section")]
    pub(crate) observe: Observe,
    /// Which exchanges of what is observed are counted and exported. Conditions must all hold;
    /// the values of a list are alternatives.
    #[serde(deserialize_with = "values::section")]
    pub(crate) filter: FilterKeys,
    /// What may be shown as text, in every signal.
    #[serde(deserialize_with = "values::section")]
    pub(crate) redaction: RedactionKeys,
    /// How `http.route` is found.
    #[serde(deserialize_with = "values::section")]
    pub(crate) routes: RouteKeys,
    /// How metrics are made, and where Prometheus finds them.
    #[serde(deserialize_with = "values::section")]
    pub(crate) metrics: MetricKeys,
    /// How spans are made, and which are kept.
    #[serde(deserialize_with = "values::section")]
    pub(crate) spans: SpanKeys,
    /// Where metrics and spans go with OTLP.
    #[serde(deserialize_with = "values::section")]
    pub(crate) otlp: Otlp,
    /// What is said of the observed services.
    #[serde(deserialize_with = "values::section")]
    pub(crate) resource: ResourceKeys,
    /// Who tells which pods this node has, and what their services are called (docs/KUBERNETES.md).
    #[serde(deserialize_with = "values::section")]
    pub(crate) kubernetes: KubernetesKeys,
    /// What the agent may use. Above it, it does without detail, never without counts.
    #[serde(deserialize_with = "values::section")]
    pub(crate) budget: BudgetKeys,
    /// Each exchange as a line of JSON, to a file.
    #[serde(deserialize_with = "values::section")]
    pub(crate) records: RecordKeys,
    /// How the agent is asked, and changed, while it runs.
    #[serde(deserialize_with = "values::section")]
    pub(crate) admin: Admin,
    /// What the agent says of itself.
    #[serde(deserialize_with = "values::section")]
    pub(crate) log: Log,
    /// How the agent ends.
    #[serde(deserialize_with = "values::section")]
    pub(crate) stop: Stop,
}

/// What is observed at all.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Observe {
    /// Only these processes, by number; together with `processes` and `executables`, those that one of
    /// them names.
    #[schemars(extend("x-flag" = "pid", "x-reload" = true))]
    pub(crate) pids: Vec<u32>,
    /// Only processes of these names, as `ps` shows them: the first 15 bytes.
    #[schemars(extend("x-flag" = "process", "x-reload" = true))]
    pub(crate) processes: Vec<String>,
    /// Only processes that run these files: paths from the root, in whose names `*` is any text and `?`
    /// any character.
    #[serde(deserialize_with = "values::executables")]
    #[schemars(extend("x-flag" = "exe", "x-reload" = true))]
    pub(crate) executables: Vec<String>,
    /// Only processes in these cgroups (version 2), such as those of containers: their folders.
    /// Those in cgroups below are not meant.
    #[schemars(extend("x-flag" = "cgroup", "x-reload" = true))]
    pub(crate) cgroups: Vec<String>,
    /// Only connections in the network namespaces of these processes, or of these files.
    #[serde(deserialize_with = "values::texts")]
    #[schemars(extend("x-flag" = "netns", "x-reload" = true))]
    pub(crate) namespaces: Vec<String>,
    /// Only connections with these ports, on either side.
    #[schemars(extend("x-flag" = "port", "x-reload" = true))]
    pub(crate) ports: Vec<u16>,
    /// Only connections with these peers, on either side: addresses, or networks such as
    /// `10.0.0.0/8`.
    #[serde(deserialize_with = "values::networks")]
    #[schemars(extend("x-flag" = "ip", "x-reload" = true))]
    pub(crate) networks: Vec<String>,
    /// Only connections with other machines.
    #[schemars(extend("x-flag" = "external", "x-reload" = true))]
    pub(crate) external: bool,
    /// Most bytes of one call that are copied. What is beyond counts as a gap where a protocol needs
    /// it, so that less costs detail: at most 65536, the default.
    #[serde(deserialize_with = "values::call_bytes")]
    #[schemars(range(min = 0, max = 65536), extend("x-reload" = true))]
    pub(crate) call_bytes: u32,
    /// Whether TLS libraries are probed; otherwise only what is sent in the clear is read.
    #[schemars(extend("x-flag" = "no-tls"))]
    pub(crate) tls: bool,
    /// Where to observe: `fentry`, `kprobe` or `tracepoint`; otherwise the first that works.
    #[serde(deserialize_with = "values::hooks")]
    #[schemars(extend("x-flag" = "hooks"))]
    pub(crate) hooks: Option<String>,
    /// Size of the buffer between kernel and program in MiB: a power of two, at most 1024.
    #[schemars(range(min = 1, max = 1024), extend("x-flag" = "buffer"))]
    pub(crate) buffer: u32,
    /// Threads over which connections are spread, at most 64; with 1 there is no thread but the one that
    /// reads events. Otherwise one for each four processors, 1 to 4.
    #[serde(deserialize_with = "values::workers")]
    #[schemars(range(min = 1, max = 64), extend("x-flag" = "workers"))]
    pub(crate) workers: Option<u16>,
}

impl Default for Observe {
    fn default() -> Self {
        Self {
            pids: Vec::new(),
            processes: Vec::new(),
            executables: Vec::new(),
            cgroups: Vec::new(),
            namespaces: Vec::new(),
            ports: Vec::new(),
            networks: Vec::new(),
            external: false,
            call_bytes: MAX_CALL_BYTES,
            tls: true,
            hooks: None,
            buffer: crate::cli::BUFFER,
            workers: None,
        }
    }
}

/// Which exchanges are counted and exported.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FilterKeys {
    /// Only these protocols, such as `http`, `grpc` and `redis`. Connections of others stay in the
    /// kernel once it is known what they are.
    #[schemars(extend("x-flag" = "proto", "x-reload" = true))]
    pub(crate) protocols: Vec<String>,
    /// Only these statuses: `404`, a class such as `5xx`, `ERR`, `OK`.
    #[serde(deserialize_with = "values::texts")]
    #[schemars(extend("x-flag" = "status", "x-reload" = true))]
    pub(crate) status: Vec<String>,
    /// Only errors, from the server's side.
    #[schemars(extend("x-flag" = "errors", "x-reload" = true))]
    pub(crate) errors: bool,
    /// Only exchanges that took longer.
    #[schemars(extend("x-flag" = "slower", "x-reload" = true))]
    pub(crate) slower: Option<Duration>,
    /// Only targets that match, with or without their query: `*` is any text, `?` any character.
    #[schemars(extend("x-flag" = "path", "x-reload" = true))]
    pub(crate) paths: Vec<String>,
    /// Only this trace; its first digits suffice.
    #[serde(deserialize_with = "values::trace")]
    #[schemars(extend("x-flag" = "trace-id", "x-reload" = true))]
    pub(crate) trace_id: Option<String>,
}

/// What may be shown as text, in every signal.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RedactionKeys {
    /// What is hidden of statements and targets.
    #[schemars(extend("x-flag" = "redact", "x-env" = "WIRESPAN_REDACT", "x-reload" = true))]
    pub(crate) text: Redact,
    /// Parameters of URLs whose values are secrets, besides those that everybody knows.
    #[schemars(extend("x-flag" = "secret-key", "x-env" = "WIRESPAN_SECRET_KEY", "x-reload" = true))]
    pub(crate) secret_keys: Vec<String>,
}

/// How `http.route` is found.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RouteKeys {
    /// Paths of one of these patterns are one route, such as `/users/{id}` or `/static/*`. The first
    /// that matches counts.
    #[serde(deserialize_with = "values::routes")]
    #[schemars(extend("x-flag" = "route", "x-env" = "WIRESPAN_ROUTE", "x-reload" = true))]
    pub(crate) patterns: Vec<String>,
    /// Whether to guess the routes of other paths: numbers, hashes and the like become `{id}`.
    #[schemars(extend("x-flag" = "route-heuristic", "x-env" = "WIRESPAN_ROUTE_HEURISTIC", "x-reload" = true))]
    pub(crate) heuristic: bool,
    /// The HTTP methods that are told apart, instead of those that the conventions know; others are
    /// `_OTHER`.
    #[schemars(extend("x-env" = "OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", "x-reload" = true))]
    pub(crate) methods: Vec<String>,
}

impl Default for RouteKeys {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            heuristic: true,
            methods: Vec::new(),
        }
    }
}

/// How metrics are made.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricKeys {
    /// Where to listen for Prometheus: `/metrics`, and `/edges`, the service map as JSON. `none` for
    /// not at all.
    #[serde(deserialize_with = "values::address_or_none")]
    #[schemars(extend("x-flag" = "listen", "x-env" = "WIRESPAN_LISTEN"))]
    pub(crate) listen: String,
    /// Most series; what is beyond is counted in one for each metric.
    #[schemars(extend("x-flag" = "max-series", "x-env" = "WIRESPAN_MAX_SERIES"))]
    pub(crate) max_series: usize,
    /// A series is forgotten when nothing was counted in it for this long.
    #[schemars(extend("x-flag" = "series-ttl", "x-env" = "WIRESPAN_SERIES_TTL"))]
    pub(crate) series_ttl: Duration,
    /// Measure the sizes of HTTP bodies too.
    #[schemars(extend("x-flag" = "body-sizes", "x-env" = "WIRESPAN_BODY_SIZES"))]
    pub(crate) body_sizes: bool,
    /// Time between two exports with OTLP.
    #[schemars(extend("x-env" = "OTEL_METRIC_EXPORT_INTERVAL"))]
    pub(crate) interval: Duration,
    /// Histograms sent with OTLP: `explicit_bucket_histogram`, or
    /// `base2_exponential_bucket_histogram`.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"))]
    pub(crate) histogram: Option<String>,
    /// Metrics sent with OTLP: `cumulative`; `delta`, what was counted since they were taken last; or
    /// `lowmemory`, the same but of what the agent says of itself.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"))]
    pub(crate) temporality: Option<String>,
}

impl Default for MetricKeys {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".to_owned(),
            max_series: 10_000,
            series_ttl: Duration::seconds(300),
            body_sizes: false,
            interval: Duration::seconds(60),
            histogram: None,
            temporality: None,
        }
    }
}

/// How spans are made.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SpanKeys {
    /// Share of the spans to keep, by trace, beside failures and the slowest, which are kept
    /// anyway. Metrics count all.
    #[serde(deserialize_with = "values::share")]
    #[schemars(range(min = 0, max = 1), extend("x-flag" = "keep-spans", "x-env" = "WIRESPAN_KEEP_SPANS", "x-reload" = true))]
    pub(crate) keep: f64,
    /// Which traces are recorded: `always_on`, `always_off` or `traceidratio`; behind
    /// `parentbased_`, the caller decides, and this where it has not.
    #[schemars(extend("x-env" = "OTEL_TRACES_SAMPLER", "x-reload" = true))]
    pub(crate) sampler: Option<String>,
    /// The ratio of `traceidratio`.
    #[schemars(extend("x-env" = "OTEL_TRACES_SAMPLER_ARG", "x-reload" = true))]
    pub(crate) sampler_arg: Option<f64>,
    /// Make spans of processes that export spans themselves, too.
    #[schemars(extend("x-flag" = "duplicate-spans", "x-env" = "WIRESPAN_DUPLICATE_SPANS", "x-reload" = true))]
    pub(crate) duplicate: bool,
    /// Give the spans of clients ids of their own instead of those that they send, which make the
    /// server's spans their children.
    #[schemars(extend("x-flag" = "own-client-ids", "x-env" = "WIRESPAN_OWN_CLIENT_IDS", "x-reload" = true))]
    pub(crate) own_client_ids: bool,
    /// Spans that may wait to be sent.
    #[schemars(extend("x-env" = "OTEL_BSP_MAX_QUEUE_SIZE"))]
    pub(crate) queue: u32,
    /// Most spans of one request.
    #[schemars(extend("x-env" = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"))]
    pub(crate) batch: u32,
    /// How long a span waits for its batch to fill.
    #[schemars(extend("x-env" = "OTEL_BSP_SCHEDULE_DELAY"))]
    pub(crate) batch_delay: Duration,
}

impl Default for SpanKeys {
    fn default() -> Self {
        Self {
            keep: 1.0,
            sampler: None,
            sampler_arg: None,
            duplicate: false,
            own_client_ids: false,
            queue: 16_384,
            batch: 512,
            batch_delay: Duration::seconds(5),
        }
    }
}

/// Where metrics and spans go with OTLP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Otlp {
    /// Where: `http://localhost:4317` for gRPC, `http://localhost:4318` for HTTP.
    #[schemars(extend("x-flag" = "otlp", "x-env" = "OTEL_EXPORTER_OTLP_ENDPOINT"))]
    pub(crate) endpoint: Option<String>,
    /// How: `grpc`, `http/protobuf` or `http/json`; otherwise gRPC at port 4317, and
    /// `http/protobuf` elsewhere.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_PROTOCOL"))]
    pub(crate) protocol: Option<String>,
    /// Headers of each request, such as those that authenticate.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_HEADERS", "x-secret" = true))]
    pub(crate) headers: BTreeMap<String, Setting>,
    /// How long a request may take.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TIMEOUT"))]
    pub(crate) timeout: Option<Duration>,
    /// `gzip`, or `none`.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_COMPRESSION"))]
    pub(crate) compression: Option<String>,
    /// A file with the certificates to trust, in PEM, instead of those that the machine trusts.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_CERTIFICATE"))]
    pub(crate) certificate: Option<String>,
    /// A file with the client's own certificate, in PEM.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"))]
    pub(crate) client_certificate: Option<String>,
    /// A file with its key, in PEM.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_CLIENT_KEY"))]
    pub(crate) client_key: Option<String>,
    /// Export nothing with OTLP, whatever else is said.
    #[schemars(extend("x-env" = "OTEL_SDK_DISABLED"))]
    pub(crate) disabled: bool,
    /// What differs for spans.
    #[serde(deserialize_with = "values::section")]
    pub(crate) traces: Traces,
    /// What differs for metrics.
    #[serde(deserialize_with = "values::section")]
    pub(crate) metrics: MetricsTo,
}

/// What differs for spans.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Traces {
    /// `otlp`, or `none` for no spans.
    #[schemars(extend("x-env" = "OTEL_TRACES_EXPORTER"))]
    pub(crate) exporter: Option<String>,
    /// Where, with the path.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))]
    pub(crate) endpoint: Option<String>,
    /// How.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"))]
    pub(crate) protocol: Option<String>,
    /// Headers of each request.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-secret" = true))]
    pub(crate) headers: BTreeMap<String, Setting>,
    /// How long a request may take.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"))]
    pub(crate) timeout: Option<Duration>,
    /// `gzip`, or `none`.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"))]
    pub(crate) compression: Option<String>,
    /// A file with the certificates to trust.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE"))]
    pub(crate) certificate: Option<String>,
    /// A file with the client's own certificate.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE"))]
    pub(crate) client_certificate: Option<String>,
    /// A file with its key.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY"))]
    pub(crate) client_key: Option<String>,
}

/// What differs for metrics.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsTo {
    /// `otlp`, or `none` for no metrics.
    #[schemars(extend("x-env" = "OTEL_METRICS_EXPORTER"))]
    pub(crate) exporter: Option<String>,
    /// Where, with the path.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"))]
    pub(crate) endpoint: Option<String>,
    /// How.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"))]
    pub(crate) protocol: Option<String>,
    /// Headers of each request.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-secret" = true))]
    pub(crate) headers: BTreeMap<String, Setting>,
    /// How long a request may take.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT"))]
    pub(crate) timeout: Option<Duration>,
    /// `gzip`, or `none`.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION"))]
    pub(crate) compression: Option<String>,
    /// A file with the certificates to trust.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE"))]
    pub(crate) certificate: Option<String>,
    /// A file with the client's own certificate.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE"))]
    pub(crate) client_certificate: Option<String>,
    /// A file with its key.
    #[schemars(extend("x-env" = "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY"))]
    pub(crate) client_key: Option<String>,
}

/// What is said of the observed services.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ResourceKeys {
    /// The name of all of them, instead of that of each process.
    #[schemars(extend("x-env" = "OTEL_SERVICE_NAME"))]
    pub(crate) service_name: Option<String>,
    /// Attributes of their resources, such as `deployment.environment.name`.
    #[schemars(extend("x-env" = "OTEL_RESOURCE_ATTRIBUTES"))]
    pub(crate) attributes: BTreeMap<String, Setting>,
}

/// Who tells which pods this node has.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KubernetesKeys {
    /// The API server: `auto`, that of the cluster that the agent runs in, if it does; a URL such as
    /// `https://10.0.0.1:6443`; or `none`.
    #[schemars(extend("x-flag" = "kubernetes"))]
    pub(crate) api: String,
    /// The name of this node; otherwise the machine's.
    #[schemars(extend("x-env" = "NODE_NAME"))]
    pub(crate) node: Option<String>,
    /// A file with the token, which is read again for each request; with `https` otherwise that of the
    /// pod's service account.
    pub(crate) token_file: Option<String>,
    /// A file with the certificates of those who may vouch for the API server; otherwise that of the
    /// pod's service account.
    pub(crate) ca_file: Option<String>,
    /// Whether the labels `app.kubernetes.io/instance`, `/name` and `/version` name services, too.
    pub(crate) labels: bool,
}

impl Default for KubernetesKeys {
    fn default() -> Self {
        Self {
            api: "auto".to_owned(),
            node: None,
            token_file: None,
            ca_file: None,
            labels: false,
        }
    }
}

/// What the agent may use.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BudgetKeys {
    /// Processors: `0.5` is half the time of one. Without a bound where nothing is said.
    #[serde(deserialize_with = "values::processors")]
    #[schemars(range(min = 0), extend("x-reload" = true))]
    pub(crate) processors: Option<f64>,
    /// Resident memory in MiB. Without a bound where nothing is said.
    #[schemars(range(min = 1), extend("x-reload" = true))]
    pub(crate) memory: Option<u32>,
}

/// Each exchange as a line of JSON.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RecordKeys {
    /// The file, which is gone on with if it is there; `-` is standard output. The lines are those of
    /// `wirespan tail -o jsonl`.
    #[schemars(extend("x-flag" = "records"))]
    pub(crate) file: Option<String>,
    /// A file of this many MiB is full: it is renamed to `FILE.1`, and another one begun.
    #[schemars(range(min = 1))]
    pub(crate) rotate: u32,
    /// Full files that are kept, as `FILE.1`, `FILE.2`, …
    pub(crate) files: u32,
}

impl Default for RecordKeys {
    fn default() -> Self {
        Self {
            file: None,
            rotate: 100,
            files: 5,
        }
    }
}

/// How the agent is asked, and changed, while it runs.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// The Unix socket, for the agent's user and root only; `none` for none. Otherwise
    /// `/run/wirespan.sock`, and for other users than root `wirespan.sock` in `$XDG_RUNTIME_DIR`;
    /// if it cannot be had there, the agent does without.
    #[schemars(extend("x-flag" = "socket", "x-env" = "WIRESPAN_SOCKET"))]
    pub(crate) socket: Option<String>,
    /// An address and port for TCP as well. Only `/healthz`, `/readyz` and `/metrics` answer there
    /// without the token.
    #[serde(deserialize_with = "values::address")]
    pub(crate) listen: Option<String>,
    /// A file with the token of the TCP address; space around it does not count.
    pub(crate) token_file: Option<String>,
    /// The folder where `POST /record` keeps recordings, which must be there; without it, they can only
    /// be sent to whoever asks.
    pub(crate) recordings: Option<String>,
    /// How many MiB the recordings in it may have together.
    #[schemars(range(min = 1))]
    pub(crate) recordings_most: u32,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: None,
            listen: None,
            token_file: None,
            recordings: None,
            recordings_most: 1024,
        }
    }
}

/// What the agent says of itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// The least that is said: `error`, `warn`, `info` or `debug`.
    #[schemars(extend("x-reload" = true))]
    pub(crate) level: Level,
}

/// How the agent ends.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Stop {
    /// What is left is sent for at most this long.
    #[schemars(extend("x-flag" = "flush", "x-env" = "WIRESPAN_FLUSH"))]
    pub(crate) flush: Duration,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            flush: Duration::seconds(5),
        }
    }
}
