//! `wirespan replay`.

mod blocks;
pub(crate) mod condition;
mod difference;
mod export;
mod goldens;
mod plan;
mod progress;

use std::cell::RefCell;
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::{io, thread};

use wirespan_engine::Registry;
use wirespan_export::table::Rows;
use wirespan_export::{honesty, record};
use wirespan_replay::{Input, SHARDS};

use crate::cli::{Output, ReplayArgs};
use crate::exit::Exit;
use crate::pipeline::{Format, Pipeline};
use crate::terminal::{Terminal, write_stdout};
use blocks::Totals;
use goldens::Verdict;
use plan::{Capture, Check, Plan, Source};
use progress::Bar;

/// Rows of the RED table on standard error. `-o stats` shows all of them.
const MAX_ROWS: usize = 100;

/// The capture that comes with the program.
const DEMO: &[u8] = include_bytes!("../../../tests/pcaps/demo/demo.pcap");

/// Runs the command.
pub(crate) fn run(args: &ReplayArgs, registry: &Arc<Registry>, terminal: &Terminal) -> Exit {
    let prepared = args
        .filter
        .check(registry)
        .map_err(|message| (Exit::Usage, message));
    let plan = match prepared.and_then(|()| plan::make(args)) {
        Ok(plan) => plan,
        Err((exit, message)) => {
            terminal.error(&message);
            return exit;
        }
    };
    let signals = match export::start(args, &plan, terminal) {
        Ok(signals) => signals,
        Err(message) => {
            terminal.error(&message);
            return Exit::Usage;
        }
    };
    let mut replay = Replay {
        args,
        terminal,
        pipeline: pipeline(args, registry, terminal, &plan, &signals),
        bar: RefCell::new(Bar::new(terminal.quiet)),
        totals: Totals::default(),
        exit: Exit::Done,
        tally: Tally::default(),
        print: plan.print,
    };
    let done = replay.all(&plan);
    let (metrics, exit) = (replay.totals.metrics(), replay.exit);
    if let Some(export) = signals.export
        && !export.finish(metrics, terminal)
    {
        return Exit::Export;
    }
    match done {
        Ok(()) => exit,
        Err(exit) => exit,
    }
}

fn pipeline(
    args: &ReplayArgs,
    registry: &Arc<Registry>,
    terminal: &Terminal,
    plan: &Plan,
    signals: &export::Signalling,
) -> Pipeline {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    Pipeline {
        registry: Arc::clone(registry),
        jobs: args.jobs.map_or(processors, usize::from).min(SHARDS),
        policy: args.redacting.policy(),
        filter: Arc::new(args.filter.clone()),
        format: match (&plan.check, plan.print) {
            (Check::Nothing, Output::Table) => Format::Table(terminal.stdout_colour()),
            (Check::Nothing, Output::OtlpJson) => Format::OtlpJson,
            (Check::Nothing, Output::Stats | Output::None) => Format::Nothing,
            _ => Format::Records,
        },
        report_open: args.report_open.map(|period| period.0),
        signals: signals.signals.clone(),
        queue: signals.queue(),
    }
}

/// A replay under way.
struct Replay<'a> {
    args: &'a ReplayArgs,
    terminal: &'a Terminal,
    pipeline: Pipeline,
    bar: RefCell<Bar>,
    totals: Totals,
    /// The worst so far.
    exit: Exit,
    tally: Tally,
    print: Output,
}

/// Whether a capture gave anything to compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Read {
    Something,
    Nothing,
}

/// How many goldens fared how.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
    written: usize,
}

impl Replay<'_> {
    /// Replays everything, checks, and closes with the blocks. An error ends the program at once.
    fn all(&mut self, plan: &Plan) -> Result<(), Exit> {
        let mut records = Vec::new();
        for capture in &plan.captures {
            let read = self.capture(capture, &plan.check, &mut records)?;
            if let (Check::Pairs, Some(golden), Read::Something) =
                (&plan.check, &capture.golden, read)
            {
                self.golden(&capture.name, golden, &records)?;
                records.clear();
            }
        }
        if let (Check::Whole(golden), false) = (&plan.check, self.nothing_read()) {
            self.golden(&golden.display().to_string(), golden, &records)?;
        }
        if let Check::Pairs = plan.check {
            self.report_tally()?;
        }
        self.close()
    }

    /// Replays one capture. Records to check are added to `records`.
    fn capture(
        &mut self,
        capture: &Capture,
        check: &Check,
        records: &mut Vec<u8>,
    ) -> Result<Read, Exit> {
        let input = match &capture.source {
            Source::Demo => Ok(Input::bytes(DEMO.to_vec())),
            Source::Stdin => Ok(Input::stdin()),
            Source::File(path) => Input::open(path),
        };
        let input = match input {
            Ok(input) => input,
            Err(error) => {
                self.unreadable(&error.to_string());
                self.totals.damaged += 1;
                return Ok(Read::Nothing);
            }
        };
        let print = matches!(self.print, Output::Table | Output::Jsonl | Output::OtlpJson);
        let write = |lines: &[u8]| -> io::Result<()> {
            if !matches!(check, Check::Nothing) {
                let lines = lines.split_inclusive(|byte| *byte == b'\n');
                records.extend(lines.filter(|line| !record::is_open(line)).flatten());
            }
            if print {
                self.bar.borrow().aside(|| write_stdout(lines))?;
            }
            Ok(())
        };
        let progress = |now, exchanges| self.bar.borrow_mut().update(now, exchanges);
        let found = self.pipeline.run(input, write, progress);
        self.bar.borrow_mut().finish();
        let found = found.map_err(|error| self.terminal.write_failed(&error))?;
        if let Some(error) = &found.error {
            self.unreadable(&format!("{}: {error}", capture.name));
        }
        let nothing = found.error.is_some() && found.capture.packets == 0;
        self.totals.add(found);
        Ok(if nothing {
            Read::Nothing
        } else {
            Read::Something
        })
    }

    /// Whether there was trouble and not one packet.
    fn nothing_read(&self) -> bool {
        self.exit == Exit::Input && !self.totals.any_packets()
    }

    fn unreadable(&mut self, message: &str) {
        self.terminal.error(message);
        self.exit = Exit::Input;
    }

    fn assertion_failed(&mut self) {
        if self.exit == Exit::Done {
            self.exit = Exit::Assertion;
        }
    }

    /// Compares records with a golden, or writes it, and says so.
    fn golden(&mut self, name: &str, golden: &Path, records: &[u8]) -> Result<(), Exit> {
        let verdict = if self.args.checks.bless {
            goldens::bless(golden, records).map_err(|error| {
                let message = format!("cannot write {}: {error}", golden.display());
                self.terminal.error(&message);
                Exit::Export
            })?
        } else {
            match goldens::compare(golden, records) {
                Ok(verdict) => verdict,
                Err(error) => {
                    self.unreadable(&format!("cannot read {}: {error}", golden.display()));
                    return Ok(());
                }
            }
        };
        let text = match verdict {
            Verdict::Same => {
                self.tally.passed += 1;
                format!("PASS {name}\n")
            }
            Verdict::Written => {
                self.tally.written += 1;
                format!("BLESSED {name}: wrote {}\n", golden.display())
            }
            Verdict::Different(difference) => {
                self.failed();
                format!("FAIL {name}\n{difference}")
            }
            Verdict::Missing => {
                self.failed();
                let golden = golden.display();
                format!("FAIL {name}: there is no {golden}; --bless writes it\n")
            }
        };
        self.report(&text)
    }

    fn failed(&mut self) {
        self.tally.failed += 1;
        self.assertion_failed();
    }

    fn report_tally(&self) -> Result<(), Exit> {
        let Tally {
            passed,
            failed,
            written,
        } = self.tally;
        let written = match written {
            0 => String::new(),
            written => format!(", {written} blessed"),
        };
        self.report(&format!("{passed} passed, {failed} failed{written}\n"))
    }

    /// Verdicts are the data of a check, unless the user asked for other data.
    fn report(&self, text: &str) -> Result<(), Exit> {
        match self.print {
            Output::None => self.terminal.data(text.as_bytes()),
            _ => {
                self.terminal.note(text);
                Ok(())
            }
        }
    }

    /// The two blocks, and the conditions on the whole.
    fn close(&mut self) -> Result<(), Exit> {
        match self.print {
            Output::Stats => {
                let text = self.totals.render(Rows::All, self.terminal.stdout_colour());
                self.terminal.data(text.as_bytes())?;
            }
            _ if self.terminal.quiet || self.nothing_read() => {}
            _ => {
                let rows = Rows::First(MAX_ROWS);
                let text = self.totals.render(rows, self.terminal.stderr_colour());
                self.terminal.note(&format!("\n{text}"));
            }
        }
        let (summary, stats) = (self.totals.red.total(), &self.totals.stats);
        let conditions = self.args.checks.fail_on.iter();
        let mut failures: Vec<_> = conditions
            .filter_map(|c| c.holds(&summary, stats))
            .collect();
        let (lost, gaps) = (honesty::lost_bytes(stats), honesty::gaps(stats));
        if self.args.checks.fail_on_loss && lost + gaps + self.totals.damaged > 0 {
            failures.push(format!("failed on loss: {lost} bytes lost in {gaps} gaps"));
        }
        for failure in failures {
            self.terminal.error(&failure);
            self.assertion_failed();
        }
        Ok(())
    }
}
