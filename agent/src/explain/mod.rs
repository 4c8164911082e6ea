//! `wirespan explain`: why a process or a connection is, or is not, visible; the reasons in order.

mod findings;
mod subject;

use std::sync::Arc;
use std::time::{Duration, Instant};

use wirespan_capture::{Live, survey};
use wirespan_engine::{Closed, Exchange, Registry, Sink};

use crate::cli::ExplainArgs;
use crate::doctor;
use crate::exit::Exit;
use crate::live;
use crate::terminal::Terminal;
use findings::{Findings, Observed};
pub(crate) use findings::{targets, targets_json};
pub(crate) use subject::Subject;

/// Runs `explain`.
pub(crate) fn run(args: &ExplainArgs, registry: &Arc<Registry>, terminal: &Terminal) -> Exit {
    let processes = args.subject.processes();
    if processes.is_empty() {
        terminal.error(&args.subject.nobody());
        return Exit::Usage;
    }
    let numbers: Vec<_> = processes.iter().map(|process| process.pid).collect();
    let libraries = survey(&numbers);
    let observed = observe(args, &numbers, registry, terminal);
    let (observed, exit) = match observed {
        Ok(observed) => (Some(observed), Exit::Done),
        Err(exit) => (None, exit),
    };
    let names = registry
        .protocols()
        .map(|protocol| protocol.name().0)
        .collect();
    let findings = Findings {
        subject: &args.subject,
        processes,
        libraries: &libraries,
        observed: observed.as_ref(),
        parsers: names,
    };
    let text = if args.json {
        format!("{}\n", findings.json())
    } else {
        findings.text()
    };
    terminal.data(text.as_bytes()).err().unwrap_or(exit)
}

/// Watches what the processes do for a time.
fn observe(
    args: &ExplainArgs,
    pids: &[u32],
    registry: &Arc<Registry>,
    terminal: &Terminal,
) -> Result<Observed, Exit> {
    let options = live::options_for(pids, args.hooks, registry);
    let (hooks, ring_bytes) = (options.hooks.clone(), options.ring_bytes);
    let mut live = Live::start(options).map_err(|error| {
        terminal.error(&doctor::advice(&error, &hooks, ring_bytes));
        Exit::Preflight
    })?;
    let mut closed = ClosedConnections(Vec::new());
    let limit = Duration::from_nanos(args.duration.0);
    let hooks = live.hooks();
    terminal.note(&format!(
        "wirespan: observing for {} s with {hooks} hooks\n",
        limit.as_secs_f64()
    ));
    let started = Instant::now();
    while started.elapsed() < limit {
        live.poll(&mut closed, &mut ()).map_err(|error| {
            terminal.error(&error.to_string());
            Exit::Preflight
        })?;
    }
    let finished = live.finish(&mut closed, &mut ());
    Ok(Observed {
        seconds: limit.as_secs_f64(),
        hooks,
        connections: closed.0,
        finished,
    })
}

/// Takes down what became of connections.
struct ClosedConnections(Vec<findings::Connection>);

impl Sink for ClosedConnections {
    fn exchange(&mut self, _: &Exchange<'_>) {}

    fn closed(&mut self, connection: &Closed<'_>) {
        self.0.push(findings::Connection::from(connection));
    }
}
