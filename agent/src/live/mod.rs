//! Live traffic: `wirespan tail` and `wirespan record`.

mod blocks;
mod record;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use wirespan_capture::{Filters, HookSet, Live, Options};
use wirespan_engine::{Config, Registry};
use wirespan_identity::Root;
use wirespan_replay::Collect as _;

use crate::census::{Census, Taps};
use crate::cli::{BUFFER, Observe, Output, RecordArgs, Redacting, TailArgs};
use crate::collect::{Collector, Merger};
use crate::doctor;
use crate::exit::Exit;
use crate::filter::Filter;
use crate::pipeline::Format;
use crate::pods::Pods;
use crate::signals::Signals;
use crate::terminal::{Terminal, write_stdout};
use crate::workers;
pub(crate) use record::Tape;
use record::{Place, Recorder};

/// Runs `record`: a `tail` without lines.
pub(crate) fn record(args: RecordArgs, registry: &Arc<Registry>, terminal: &Terminal) -> Exit {
    let tail_args = TailArgs {
        output: Output::None,
        redacting: Redacting::default(),
        duration: args.duration,
        record: Some(args.output),
        observe: args.observe,
        filter: Filter::from(args.connections),
    };
    tail(&tail_args, registry, terminal)
}

/// Runs `tail`.
pub(crate) fn tail(args: &TailArgs, registry: &Arc<Registry>, terminal: &Terminal) -> Exit {
    if let Err(message) = args.filter.check(registry) {
        terminal.error(&message);
        return Exit::Usage;
    }
    let place = args.record.as_deref();
    let place = match place.map(|path| Place::new(path, args.output)).transpose() {
        Ok(place) => place,
        Err(message) => {
            terminal.error(&message);
            return Exit::Usage;
        }
    };
    let stop = match stop_flag() {
        Ok(stop) => stop,
        Err(error) => {
            terminal.error(&format!("cannot watch for signals: {error}"));
            return Exit::Preflight;
        }
    };
    let options = options(&args.observe, &args.filter, &args.redacting, registry);
    let (hooks, ring_bytes) = (options.hooks.clone(), options.ring_bytes);
    let live = match Live::start(options) {
        Ok(live) => live,
        Err(error) => {
            terminal.error(&doctor::advice(&error, &hooks, ring_bytes));
            return Exit::Preflight;
        }
    };
    let recorder = place.map(|place| Recorder::start(place, *terminal));
    let recorder = match recorder.transpose() {
        Ok(recorder) => recorder,
        Err(exit) => return exit,
    };
    terminal.note(&format!(
        "wirespan: observing with {} hooks; Ctrl-C ends it\n",
        live.hooks()
    ));
    let unprobed = live.unprobed();
    if let Some((file, reason)) = unprobed.first() {
        terminal.note(&format!(
            "wirespan: {} TLS libraries could not be probed and stay ciphertext, such as {}: {reason}\n",
            unprobed.len(),
            file.display(),
        ));
    }
    match Tail::new(args, terminal, recorder).run(live, &stop) {
        Ok(()) => Exit::Done,
        Err(exit) => exit,
    }
}

/// Set when the program is asked to end.
pub(crate) fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends the program at once.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

pub(crate) fn options(
    observe: &Observe,
    filter: &Filter,
    redacting: &Redacting,
    registry: &Arc<Registry>,
) -> Options {
    let mut filters = Filters::default();
    filters.pids.clone_from(&observe.pid);
    filters.names.clone_from(&observe.process);
    filters.executables.clone_from(&observe.exe);
    filters.cgroups.clone_from(&observe.cgroup);
    filters.namespaces.clone_from(&observe.netns);
    filters.ports = filter.ports().to_vec();
    filters.networks = filter.networks().collect();
    filters.external_only = observe.external;
    filters.protocols = filter.protocols().to_vec();
    let mut engine = Config::default();
    engine.policy = redacting.policy();
    Options {
        hooks: observe
            .hooks
            .map_or_else(|| HookSet::preferred().to_vec(), |set| vec![set]),
        filters,
        tls: !observe.no_tls,
        ring_bytes: observe.buffer << 20,
        registry: Arc::clone(registry),
        engine,
        workers: workers::number(observe.workers),
    }
}

/// What to observe of a few processes.
pub(crate) fn options_for(
    pids: &[u32],
    hooks: Option<HookSet>,
    registry: &Arc<Registry>,
) -> Options {
    let mut filters = Filters::default();
    filters.pids = pids.to_vec();
    Options {
        hooks: hooks.map_or_else(|| HookSet::preferred().to_vec(), |set| vec![set]),
        filters,
        tls: true,
        ring_bytes: BUFFER << 20,
        registry: Arc::clone(registry),
        engine: Config::default(),
        workers: NonZeroU16::MIN,
    }
}

/// Live exchanges on their way to the terminal, and beside it to a recording.
struct Tail<'a> {
    args: &'a TailArgs,
    terminal: &'a Terminal,
    collector: Collector,
    merger: Merger,
    lines: Vec<u8>,
    census: Census,
    recorder: Option<Recorder>,
}

impl<'a> Tail<'a> {
    fn new(args: &'a TailArgs, terminal: &'a Terminal, recorder: Option<Recorder>) -> Self {
        let format = match args.output {
            Output::Table => Format::Table(terminal.stdout_colour()),
            Output::Jsonl => Format::Records,
            Output::OtlpJson => Format::OtlpJson,
            Output::Stats | Output::None => Format::Nothing,
        };
        let census = Census::new(Root::default(), Pods::default());
        Self {
            args,
            terminal,
            collector: Collector::new(
                Arc::new(args.filter.clone()),
                format,
                (format == Format::OtlpJson).then(Signals::default).as_ref(),
                None,
            )
            .with_census(census.clone()),
            merger: Merger::default(),
            lines: Vec::new(),
            census,
            recorder,
        }
    }

    fn run(&mut self, mut live: Live, stop: &AtomicBool) -> Result<(), Exit> {
        let started = Instant::now();
        let limit = self
            .args
            .duration
            .map(|limit| Duration::from_nanos(limit.0));
        let watched = self.watch(&mut live, stop, limit.map(|limit| started + limit));
        let mut taps = Taps {
            census: &mut self.census,
            other: self.recorder.as_mut().map(Recorder::tap),
        };
        let finished = live.finish(&mut self.collector, &mut taps);
        self.collector.finish();
        // A recording is whole, however else it ended.
        let recorded = self.recorder.take().map_or(Ok(()), Recorder::finish);
        watched?;
        self.print()?;
        let seconds = started.elapsed().as_secs_f64();
        let red = self.collector.red();
        let blocks = blocks::Blocks {
            red,
            stats: &finished.stats,
            ledger: &finished.ledger,
            losses: &finished.losses,
            seconds,
        };
        match self.args.output {
            Output::Stats => {
                let text = blocks.render(self.terminal.stdout_colour());
                self.terminal.data(text.as_bytes())?;
            }
            _ if self.terminal.quiet => {}
            _ => {
                let text = blocks.render(self.terminal.stderr_colour());
                self.terminal.note(&format!("\n{text}"));
            }
        }
        recorded
    }

    /// Shows and records what happens, until it is time to end.
    fn watch(
        &mut self,
        live: &mut Live,
        stop: &AtomicBool,
        until: Option<Instant>,
    ) -> Result<(), Exit> {
        while !stop.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
            self.collector.at(live.told_until());
            let mut taps = Taps {
                census: &mut self.census,
                other: self.recorder.as_mut().map(Recorder::tap),
            };
            let polled = live.poll(&mut self.collector, &mut taps);
            polled.map_err(|error| {
                self.terminal.error(&error.to_string());
                Exit::Preflight
            })?;
            self.print()?;
            if let Some(recorder) = &mut self.recorder {
                recorder.flush()?;
            }
        }
        Ok(())
    }

    fn print(&mut self) -> Result<(), Exit> {
        self.lines.clear();
        self.merger.merge(&[self.collector.take()], &mut self.lines);
        self.merger.finish(&mut self.lines);
        if self.lines.is_empty() {
            return Ok(());
        }
        write_stdout(&self.lines).map_err(|error| self.terminal.write_failed(&error))
    }
}
