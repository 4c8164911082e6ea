//! `wirespan top`: rate, errors and durations of this machine's requests, in the terminal, as they
//! change.

mod board;
mod picture;
mod screen;
mod source;
mod watched;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use wirespan_capture::Live;
use wirespan_engine::Registry;

use crate::cli::TopArgs;
use crate::doctor;
use crate::exit::Exit;
use crate::live;
use crate::node;
use crate::terminal::Terminal;
use board::Board;
pub(crate) use picture::Picture;
use screen::{Screen, Then};
use source::{Own, Source};
pub(crate) use watched::Watched;

/// Figures are of this time at least, and of twice as much at most, in nanoseconds.
const HALF: u64 = 10_000_000_000;

/// How long to wait for a key once no more pictures come; they may come again.
const KEYS: Duration = Duration::from_millis(100);

/// Runs `top`.
pub(crate) fn run(args: &TopArgs, registry: &Arc<Registry>, terminal: &Terminal) -> Exit {
    match try_run(args, registry, terminal) {
        Ok(()) => Exit::Done,
        Err((exit, message)) => {
            terminal.error(&message);
            exit
        }
    }
}

fn try_run(
    args: &TopArgs,
    registry: &Arc<Registry>,
    terminal: &Terminal,
) -> Result<(), (Exit, String)> {
    args.filter.check(registry).map_err(|m| (Exit::Usage, m))?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        let message = "top needs a terminal; `wirespan tail -o stats --duration 10s` prints the RED table once";
        return Err((Exit::Usage, message.to_owned()));
    }
    let stop = live::stop_flag();
    let stop = stop.map_err(|e| (Exit::Preflight, format!("cannot watch for signals: {e}")))?;
    let shown = match &args.socket {
        Some(socket) => of_agent(socket.as_ref(), &stop)?,
        None => of_own(args, registry, terminal, &stop)?,
    };
    shown.map_err(|error| (Exit::Export, format!("cannot use the terminal: {error}")))
}

/// Shows what a running agent observes; without a socket, at the one that agents have unless told
/// otherwise.
fn of_agent(socket: Option<&PathBuf>, stop: &AtomicBool) -> Result<io::Result<()>, (Exit, String)> {
    let socket = socket.cloned().or_else(node::default_socket);
    let missing = || {
        (
            Exit::Usage,
            "give --socket a path: XDG_RUNTIME_DIR is not set".to_owned(),
        )
    };
    let socket = socket.ok_or_else(missing)?;
    // Nothing to show is better said where it stays.
    source::asked(&socket).map_err(|why| (Exit::Usage, why))?;
    let screen = Screen::new(format!("agent at {}", socket.display()));
    Ok(show(&mut source::Agent::new(socket), screen, stop))
}

/// Shows what this program observes itself.
fn of_own(
    args: &TopArgs,
    registry: &Arc<Registry>,
    terminal: &Terminal,
    stop: &AtomicBool,
) -> Result<io::Result<()>, (Exit, String)> {
    let options = live::options(&args.observe, &args.filter, &args.redacting, registry);
    let (hooks, ring_bytes) = (options.hooks.clone(), options.ring_bytes);
    let live = Live::start(options).map_err(|error| {
        let advice = doctor::advice(&error, &hooks, ring_bytes);
        (Exit::Preflight, advice)
    })?;
    let name = format!("this machine, {} hooks", live.hooks());
    let mut source = Own::new(live, Board::new(HALF, Arc::default()), args.filter.clone());
    let shown = show(&mut source, Screen::new(name), stop);
    terminal.note("wirespan: stopping\n");
    source.finish();
    Ok(shown)
}

/// Shows pictures until a key or a signal ends it, and leaves the terminal as it was.
fn show(source: &mut dyn Source, mut screen: Screen, stop: &AtomicBool) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let shown = turn(source, &mut screen, &mut terminal, stop);
    ratatui::try_restore()?;
    shown
}

fn turn(
    source: &mut dyn Source,
    screen: &mut Screen,
    terminal: &mut DefaultTerminal,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut changed = true;
    while !stop.load(Ordering::Relaxed) {
        let mut wait = Duration::ZERO;
        match source.next() {
            Ok(None) => {}
            Ok(Some(picture)) => {
                screen.show(picture);
                changed = true;
            }
            Err(why) => {
                screen.end(why);
                (changed, wait) = (true, KEYS);
            }
        }
        while event::poll(wait)? {
            wait = Duration::ZERO;
            changed = true;
            if let Event::Key(key) = event::read()?
                && screen.key(key) == Then::Quit
            {
                return Ok(());
            }
        }
        if std::mem::take(&mut changed) {
            terminal.draw(|frame| screen.draw(frame))?;
        }
    }
    Ok(())
}
