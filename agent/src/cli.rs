//! The command line.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use wirespan_capture::{ExecutablePattern, HookSet};
use wirespan_engine::api::{Policy, Redaction, SecretKeys};
use wirespan_export::semconv::Route;

pub(crate) use crate::config::Redact;
use crate::explain::Subject;
use crate::filter::{Connections, Filter};
use crate::replay::condition::Condition;
use crate::terminal::ColourChoice;
use crate::units::{self, Duration};
use crate::workers;

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 an assertion failed (--expect, --fail-on, --fail-on-loss); 2 wrong use or \
configuration; 3 input that cannot be read (what was read before the damage has been put out); \
5 the output cannot be written. A closed pipe ends the program quietly with 0.";

const LIVE_EXIT_CODES: &str = "\
Exit codes: 0 done; 2 wrong use; 4 this machine, or these rights, do not allow it; 5 the output \
cannot be written.";

const STATUS_EXIT_CODES: &str = "\
Exit codes: 0 the agent answers; 2 wrong use, or no agent answers there; 5 the output cannot be \
written.";

const DOCTOR_EXIT_CODES: &str = "\
Exit codes: 0 live capture works here, perhaps with warnings; 2 wrong use; 4 it does not; 5 the \
output cannot be written.";

/// Size of the buffer between kernel and program that `tail` asks for, in MiB.
pub(crate) const BUFFER: u32 = 8;

const RECORDINGS: &str = "\
A recording is a pcapng file of synthetic TCP, which `wirespan replay` and any packet analyser \
read. It holds what connections carry as it was observed: nothing is redacted, passwords and \
personal data are in it. Treat it like the data themselves. Bytes that no protocol needed, such as \
those of large bodies, are told but not copied.

";

/// Turns what the services of a machine say to each other into requests: who asked whom for what,
/// when, how long it took, how it ended, and to which trace it belongs.
#[derive(Debug, Parser)]
#[command(name = "wirespan", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// When to colour
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub(crate) color: ColourChoice,
    /// Leave out the RED table, the honesty block and the progress bar
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read capture files through the same engine as live traffic
    #[command(after_help = EXIT_CODES)]
    Replay(Box<ReplayArgs>),
    /// Print the requests of this machine as they happen, until stopped with Ctrl-C
    #[command(after_help = LIVE_EXIT_CODES)]
    Tail(Box<TailArgs>),
    /// Turn the requests of this machine into metrics and spans, until stopped: a page for Prometheus,
    /// and OTLP to where --otlp or the variables OTEL_EXPORTER_OTLP_… say (docs/TELEMETRY.md)
    #[command(after_help = LIVE_EXIT_CODES)]
    Agent(Box<AgentArgs>),
    /// Show rate, errors and durations of this machine's requests in the terminal, as they change: by
    /// service, operation and edge, with the slowest and the failed requests
    #[command(after_help = LIVE_EXIT_CODES)]
    Top(Box<TopArgs>),
    /// Show how an agent that runs is doing: configuration, losses, queues, CPU and memory
    #[command(after_help = STATUS_EXIT_CODES)]
    Status(StatusArgs),
    /// Check what live capture needs of this machine and these rights, and tell what to do about
    /// what is missing. Attaches each hook set for a moment and changes nothing
    #[command(after_help = DOCTOR_EXIT_CODES)]
    Doctor(DoctorArgs),
    /// Say why a process or a connection is, or is not, visible: the reasons in order, and what to do
    /// about each
    #[command(after_help = LIVE_EXIT_CODES)]
    Explain(ExplainArgs),
    /// Write what this machine's connections carry to a file, until stopped with Ctrl-C; a replay
    /// of it gives the requests that tail would have printed
    #[command(after_help = [RECORDINGS, LIVE_EXIT_CODES].concat())]
    Record(Box<RecordArgs>),
    /// The configuration of agent: its schema, all keys, and whether a file is right (docs/CONFIG.md)
    #[command(subcommand)]
    Config(Box<ConfigCommand>),
    /// Print files for the programs that start wirespan
    #[command(subcommand)]
    Emit(EmitCommand),
    /// List the registered protocols: name, usual ports, what is covered
    Protocols,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual pages
    Man,
}

/// What to replay, and what to do with it.
#[derive(Args, Debug)]
pub(crate) struct ReplayArgs {
    /// Captures: pcap or pcapng, plain or compressed with gzip or zstd; - is standard input, also
    /// while it is still being written. Several are independent and replayed in this order. A
    /// folder stands for the captures in it and is compared with its goldens
    #[arg(value_name = "FILE", required_unless_present = "demo")]
    pub(crate) files: Vec<PathBuf>,
    /// Replay a small capture that comes with the program
    #[arg(long, conflicts_with = "files")]
    pub(crate) demo: bool,
    /// What to print on standard output [default: table; none with --expect and --bless]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Output>,
    #[command(flatten)]
    pub(crate) redacting: Redacting,
    /// Threads that parse [default: one for each processor, at most 8]. The output does not depend
    /// on it
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) jobs: Option<u8>,
    /// Report exchanges that are still open after this time, and again each time that it has passed,
    /// with what is known so far, such as 10s. Reports are lines of their own (in jsonl
    /// wirespan.open/1) and count nowhere
    #[arg(long, value_name = "DURATION", value_parser = units::period)]
    pub(crate) report_open: Option<Duration>,
    #[command(flatten)]
    pub(crate) signals: SignalArgs,
    #[command(flatten)]
    pub(crate) checks: Checks,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// How metrics and spans are made, and where they go.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Metrics and spans (for --otlp, -o otlp-json and agent)")]
pub(crate) struct SignalArgs {
    /// Send metrics and spans there with OTLP: http://localhost:4317 for gRPC, http://localhost:4318
    /// for HTTP. The variables OTEL_… say the rest (docs/TELEMETRY.md)
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<String>,
    /// Paths of this pattern are one route, such as /users/{id} or /static/*. May be repeated; the
    /// first that matches counts
    #[arg(
        long,
        value_name = "PATTERN",
        env = "WIRESPAN_ROUTE",
        value_delimiter = ','
    )]
    pub(crate) route: Vec<Route>,
    /// Whether to guess the routes of other paths: numbers, hashes and the like become {id}
    #[arg(
        long,
        value_enum,
        default_value = "on",
        value_name = "on|off",
        env = "WIRESPAN_ROUTE_HEURISTIC",
        hide_possible_values = true
    )]
    pub(crate) route_heuristic: Switch,
    /// Share of the spans to keep, by trace, beside failures and the slowest, which are kept anyway.
    /// Metrics count all
    #[arg(long, value_name = "0..1", default_value_t = 1.0, value_parser = units::share, env = "WIRESPAN_KEEP_SPANS")]
    pub(crate) keep_spans: f64,
    /// Measure the sizes of HTTP bodies too
    #[arg(long, env = "WIRESPAN_BODY_SIZES")]
    pub(crate) body_sizes: bool,
    /// Most series of metrics; what is beyond is counted in one for each metric
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10_000,
        env = "WIRESPAN_MAX_SERIES"
    )]
    pub(crate) max_series: usize,
}

/// What to say of the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the JSON Schema of configuration files
    Schema,
    /// Print all keys with what they mean and their defaults, as a file to start with
    Print(Box<ConfigPrintArgs>),
    /// Check a file: exit 0 if it is right, 2 with the line and the reason if it is not
    Check {
        /// The file: YAML, or TOML if its name ends with .toml
        file: PathBuf,
    },
}

/// What to print for whom.
#[derive(Debug, Subcommand)]
pub(crate) enum EmitCommand {
    /// Print a unit for systemd: the agent with the rights that it needs and no others, watched and
    /// told to read its configuration again (/etc/systemd/system/wirespan.service)
    Systemd(SystemdArgs),
}

/// What the unit says.
#[derive(Args, Debug)]
pub(crate) struct SystemdArgs {
    /// The configuration of the agent
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What the agent may use of processors: 0.5 is half the time of one
    #[arg(long, value_name = "N")]
    pub(crate) processors: Option<f64>,
    /// What it may use of memory, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) memory: Option<u32>,
    /// Where the program will be [default: where this one is]
    #[arg(long, value_name = "PATH")]
    pub(crate) program: Option<PathBuf>,
}

/// Which configuration to print.
#[derive(Args, Debug)]
pub(crate) struct ConfigPrintArgs {
    /// Print what would hold with these flags, this environment and this file, and where each value
    /// comes from
    #[arg(long)]
    pub(crate) effective: bool,
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
}

/// How to observe and export until stopped. Beside `config` and `duration`, these are keys of the
/// configuration, which reads them from the command line itself: `config::tree`.
#[derive(Args, Debug)]
#[allow(
    dead_code,
    reason = "what is given is read by its name, to tell it from defaults"
)]
pub(crate) struct AgentArgs {
    /// The configuration: YAML, or TOML if its name ends with .toml. Flags and variables come before
    /// it; `wirespan config print` shows what can be in it
    #[arg(short, long, value_name = "FILE", env = "WIRESPAN_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Where to listen for Prometheus: /metrics, and /edges, the service map as JSON. none for not
    /// at all
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9464",
        env = "WIRESPAN_LISTEN"
    )]
    pub(crate) listen: String,
    /// The Unix socket where `wirespan status` asks; none for none [default: /run/wirespan.sock, and
    /// for other users than root wirespan.sock in $XDG_RUNTIME_DIR]
    #[arg(long, value_name = "PATH", env = "WIRESPAN_SOCKET")]
    pub(crate) socket: Option<String>,
    /// Write each exchange to this file, as a line of JSON; - is standard output
    #[arg(long, value_name = "FILE", env = "WIRESPAN_RECORDS_FILE")]
    pub(crate) records: Option<String>,
    /// The API server of Kubernetes that tells which pods this node has: auto, that of the cluster that it
    /// runs in; a URL; or none
    #[arg(
        long,
        value_name = "URL",
        default_value = "auto",
        env = "WIRESPAN_KUBERNETES_API"
    )]
    pub(crate) kubernetes: String,
    /// Forget a series when nothing was counted in it for this long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = units::period, env = "WIRESPAN_SERIES_TTL")]
    pub(crate) series_ttl: Duration,
    /// Make spans of processes that export spans themselves, too
    #[arg(long, env = "WIRESPAN_DUPLICATE_SPANS")]
    pub(crate) duplicate_spans: bool,
    /// Give the spans of clients ids of their own instead of those that they send, which make the
    /// server's spans their children
    #[arg(long, env = "WIRESPAN_OWN_CLIENT_IDS")]
    pub(crate) own_client_ids: bool,
    /// Stop after this time, such as 10s
    #[arg(long, value_name = "DURATION")]
    pub(crate) duration: Option<Duration>,
    /// When stopped, send what is left for at most this long
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = units::period, env = "WIRESPAN_FLUSH")]
    pub(crate) flush: Duration,
    #[command(flatten)]
    pub(crate) redacting: Redacting,
    #[command(flatten)]
    pub(crate) signals: SignalArgs,
    #[command(flatten)]
    pub(crate) observe: Observe,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// What to show of this machine's traffic.
#[derive(Args, Debug)]
pub(crate) struct TailArgs {
    /// What to print on standard output
    #[arg(
        short,
        long,
        value_enum,
        value_name = "FORMAT",
        default_value = "table"
    )]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) redacting: Redacting,
    /// Stop after this time, such as 10s
    #[arg(long, value_name = "DURATION")]
    pub(crate) duration: Option<Duration>,
    /// Also write what is observed to this file, as `wirespan record` does: with all that
    /// connections carry, nothing redacted
    #[arg(long, value_name = "FILE")]
    pub(crate) record: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) observe: Observe,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// What to show in the terminal.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    /// Show what the running agent observes that listens at this socket, rather than observe; without
    /// PATH, where an agent listens unless it was told otherwise
    #[arg(long, value_name = "PATH")]
    #[allow(clippy::option_option, reason = "the flag may come without its value")]
    pub(crate) socket: Option<Option<PathBuf>>,
    #[command(flatten)]
    pub(crate) redacting: Redacting,
    #[command(flatten)]
    pub(crate) observe: Observe,
    #[command(flatten)]
    pub(crate) filter: Filter,
}

/// Which agent to ask.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    /// Its Unix socket [default: as that of agent]
    #[arg(long, value_name = "PATH", env = "WIRESPAN_SOCKET")]
    pub(crate) socket: Option<PathBuf>,
    /// Print a JSON object: wirespan.status/1
    #[arg(long)]
    pub(crate) json: bool,
}

/// How to report what was found.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Print a JSON object: wirespan.doctor/1
    #[arg(long)]
    pub(crate) json: bool,
    /// Also list the TLS libraries that processes have mapped, and why some cannot be read
    #[arg(long)]
    pub(crate) targets: bool,
}

/// What to explain.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// A process (4711), an address (10.0.0.1:80, 10.0.0.1, :80), or a connection
    /// (10.0.0.2:50000-10.0.0.1:80)
    #[arg(value_name = "PID|ADDR|CONN")]
    pub(crate) subject: Subject,
    /// How long to watch
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    pub(crate) duration: Duration,
    /// Print a JSON object: wirespan.explain/1
    #[arg(long)]
    pub(crate) json: bool,
    /// Where to observe: fentry, kprobe or tracepoint [default: the first that works]
    #[arg(long, value_name = "SET")]
    pub(crate) hooks: Option<HookSet>,
}

/// What to record.
#[derive(Args, Debug)]
pub(crate) struct RecordArgs {
    /// Where to write; a file that is there is overwritten. - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Stop after this time, such as 10s
    #[arg(long, value_name = "DURATION")]
    pub(crate) duration: Option<Duration>,
    #[command(flatten)]
    pub(crate) observe: Observe,
    #[command(
        flatten,
        next_help_heading = "What to observe (--port and --ip below count here as well)"
    )]
    pub(crate) connections: Connections,
}

/// What is observed at all: decided in the kernel, so that the rest costs nothing.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "What to observe (--port and --ip below count here as well)")]
pub(crate) struct Observe {
    /// Only these processes
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub(crate) pid: Vec<u32>,
    /// Only processes of this name, as ps shows it: the first 15 bytes
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) process: Vec<String>,
    /// Only processes that run this file: a path from the root, in whose names * is any text and ? any
    /// character. Of --pid, --process and --exe one suffices
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub(crate) exe: Vec<ExecutablePattern>,
    /// Only processes in this cgroup (version 2): its folder. Those in cgroups below it are not meant
    #[arg(long, value_name = "DIR", value_parser = cgroup)]
    pub(crate) cgroup: Vec<u64>,
    /// Only connections in the network namespace of this process, or of this file
    #[arg(long, value_name = "PID|FILE", value_parser = namespace)]
    pub(crate) netns: Vec<u32>,
    /// Only connections with other machines
    #[arg(long)]
    pub(crate) external: bool,
    /// Leave TLS libraries alone: only what is sent in the clear is read
    #[arg(long)]
    pub(crate) no_tls: bool,
    /// Where to observe: fentry, kprobe or tracepoint [default: the first that works]
    #[arg(long, value_name = "SET")]
    pub(crate) hooks: Option<HookSet>,
    /// Size of the buffer between kernel and program in MiB: a power of two
    #[arg(long, value_name = "MIB", default_value_t = BUFFER, value_parser = buffer_size)]
    pub(crate) buffer: u32,
    /// Threads over which connections are spread; with 1 there is no thread but the one that reads
    /// events [default: one for each four processors, 1 to 4]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u16).range(1..=i64::from(workers::MOST)),
        env = "WIRESPAN_OBSERVE_WORKERS"
    )]
    pub(crate) workers: Option<u16>,
}

/// The kernel's number of a cgroup is that of its folder.
pub(crate) fn cgroup(folder: &str) -> Result<u64, String> {
    let metadata = fs::metadata(folder).map_err(|error| error.to_string())?;
    Ok(metadata.ino())
}

/// The kernel's number of a network namespace.
pub(crate) fn namespace(of: &str) -> Result<u32, String> {
    let file = match of.parse::<u32>() {
        Ok(pid) => format!("/proc/{pid}/ns/net"),
        Err(_) => of.to_owned(),
    };
    let metadata = fs::metadata(file).map_err(|error| error.to_string())?;
    u32::try_from(metadata.ino()).map_err(|_| "not a network namespace".to_owned())
}

/// A power of two between 1 and 1,024.
fn buffer_size(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(mib @ 1..=1024) if mib.is_power_of_two() => Ok(mib),
        _ => Err("expected a power of two from 1 to 1024".to_owned()),
    }
}

/// Assertions on the outcome.
#[derive(Args, Debug)]
#[command(next_help_heading = "Checks")]
pub(crate) struct Checks {
    /// Compare the records with this golden file, or with the goldens in this folder (x.pcap with
    /// x.golden.jsonl); exit with 1 and show the difference if they differ
    #[arg(long, value_name = "FILE|DIR")]
    pub(crate) expect: Option<PathBuf>,
    /// Write the goldens instead of comparing with them; without --expect, beside the captures
    #[arg(long)]
    pub(crate) bless: bool,
    /// Exit with 1 if this holds, such as 'errors > 1%' or 'p99 >= 100ms'. Over exchanges: errors,
    /// no_response (also in %), count, p50, p95, p99, max. Over the whole input: lost (bytes), gaps, parse_errors,
    /// orphans, resyncs, opaque, unparsed, evictions. Operators: > >= < <= == !=. May be repeated
    #[arg(long, value_name = "CONDITION")]
    pub(crate) fail_on: Vec<Condition>,
    /// Exit with 1 if any byte was lost or the capture is damaged. Bytes that the capture cut off
    /// are lost where they were needed
    #[arg(long)]
    pub(crate) fail_on_loss: bool,
}

impl Checks {
    /// Whether records are compared with, or written to, goldens.
    pub(crate) const fn goldens(&self) -> bool {
        self.expect.is_some() || self.bless
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Output {
    /// A line for each exchange, for people
    Table,
    /// A JSON object for each exchange: wirespan.record/1
    Jsonl,
    /// OTLP as lines of JSON: a span for each exchange; of a replay metrics, too, at its end
    OtlpJson,
    /// The RED table and the honesty block, here rather than on standard error
    Stats,
    /// Nothing
    None,
}

/// What may be shown as text.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Redacting {
    /// Whether to hide literals and values: on; off, to show statements and targets as sent; or
    /// full, to show no statement, no key and no value of a parameter at all. Credentials are
    /// hidden in any case
    #[arg(
        long,
        value_enum,
        default_value = "on",
        value_name = "on|off|full",
        hide_possible_values = true,
        env = "WIRESPAN_REDACT"
    )]
    pub(crate) redact: Redact,
    /// Parameters of URLs whose values are secrets, besides those that everybody knows
    #[arg(
        long,
        value_name = "KEY",
        value_delimiter = ',',
        env = "WIRESPAN_SECRET_KEY"
    )]
    pub(crate) secret_key: Vec<String>,
}

impl Redacting {
    pub(crate) fn policy(&self) -> Policy {
        policy(self.redact, &self.secret_key)
    }
}

/// What may leave parsers as text.
pub(crate) fn policy(redact: Redact, secret_keys: &[String]) -> Policy {
    Policy {
        redaction: match redact {
            Redact::On => Redaction::On,
            Redact::Off => Redaction::Off,
            Redact::Full => Redaction::Full,
        },
        secret_keys: SecretKeys::new(secret_keys.iter().map(String::as_str)),
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Switch {
    /// Yes
    On,
    /// No
    Off,
}
