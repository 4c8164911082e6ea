//! What is observed, written to a file that `replay` reads: `record`, and `tail --record`.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wirespan_capture::Tap;
use wirespan_engine::api::Direction;
use wirespan_engine::{Both, Close, ConnectionId, Nanos, Opening, Process, Start, Task};
use wirespan_replay::{StreamId, StreamWriter};

use crate::cli::Output;
use crate::exit::Exit;
use crate::terminal::Terminal;

/// How long anything waits to be written.
const FLUSH: Duration = Duration::from_secs(1);

/// Where a recording goes.
#[derive(Clone, Debug)]
pub(super) enum Place {
    File(PathBuf),
    Stdout,
}

impl Place {
    /// The place that the user names, beside an output of `lines`.
    ///
    /// # Errors
    ///
    /// A message that says why it cannot be there.
    pub(super) fn new(path: &Path, lines: Output) -> Result<Self, String> {
        if path != Path::new("-") {
            return Ok(Self::File(path.to_path_buf()));
        }
        if lines != Output::None {
            return Err("a recording on standard output needs `-o none`: lines go there".into());
        }
        if io::stdout().is_terminal() {
            return Err("a recording is not for a terminal: give a file, or a pipe".into());
        }
        Ok(Self::Stdout)
    }

    /// Opens it. A file that is there is overwritten; a new one is for its owner only.
    fn open(&self) -> io::Result<Sink> {
        match self {
            Self::Stdout => Ok(Sink::Stdout),
            Self::File(path) => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(true).mode(0o600);
                let file = options.open(path)?;
                Ok(Sink::File { file, whole: 0 })
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

/// Takes whole blocks.
enum Sink {
    File {
        file: File,
        /// Bytes of the file.
        whole: u64,
    },
    Stdout,
}

impl Write for Sink {
    fn write(&mut self, blocks: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout => io::stdout().write_all(blocks)?,
            Self::File { file, whole } => {
                if let Err(error) = file.write_all(blocks) {
                    // Half a block would be damage. What cannot be cut is no file.
                    let _ = file.set_len(*whole);
                    return Err(error);
                }
                *whole += blocks.len() as u64;
            }
        }
        Ok(blocks.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().flush(),
            Self::File { .. } => Ok(()),
        }
    }
}

/// Writes what it hears of connections as a capture file.
pub(crate) struct Tape<W> {
    writer: StreamWriter<W>,
    ids: HashMap<ConnectionId, StreamId>,
    flushed: Instant,
}

impl<W: Write> Tape<W> {
    /// A file that begins now.
    pub(crate) fn new(sink: W) -> Self {
        Self {
            writer: StreamWriter::new(sink),
            ids: HashMap::new(),
            flushed: Instant::now(),
        }
    }

    /// Writes what has waited for a second. To be called often.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        if self.flushed.elapsed() < FLUSH {
            return Ok(());
        }
        self.flushed = Instant::now();
        self.writer.flush()
    }

    /// Writes what is left.
    pub(crate) fn finish(self) -> io::Result<W> {
        self.writer.finish()
    }
}

/// A recording that the user asked for, and is told of.
pub(super) struct Recorder {
    place: Place,
    terminal: Terminal,
    tape: Tape<Sink>,
}

impl Recorder {
    /// Begins a recording, and says so.
    pub(super) fn start(place: Place, terminal: Terminal) -> Result<Self, Exit> {
        let name = place.name();
        let sink = place.open().map_err(|error| {
            terminal.error(&format!("cannot write {name}: {error}"));
            Exit::Export
        })?;
        terminal.note(&format!(
            "wirespan: recording to {name}: all that connections carry, passwords and personal \
             data included. Treat it like the data themselves\n"
        ));
        Ok(Self {
            place,
            terminal,
            tape: Tape::new(sink),
        })
    }

    /// What hears of connections.
    pub(super) fn tap(&mut self) -> &mut dyn Tap {
        &mut self.tape
    }

    /// Writes what has waited for a second. To be called often.
    pub(super) fn flush(&mut self) -> Result<(), Exit> {
        let flushed = self.tape.flush();
        flushed.map_err(|error| failed(&self.place, &self.terminal, &error))
    }

    /// Writes what is left.
    pub(super) fn finish(self) -> Result<(), Exit> {
        let (place, terminal) = (self.place, self.terminal);
        let left_out = self.tape.writer.left_out();
        if left_out > 0 {
            terminal.note(&format!(
                "wirespan: {left_out} connections are not in the recording: more than 255 had the \
                 same addresses at once\n"
            ));
        }
        match self.tape.finish() {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(&place, &terminal, &error)),
        }
    }
}

/// Says that a recording could not be written, and tells how to end.
fn failed(place: &Place, terminal: &Terminal, error: &io::Error) -> Exit {
    let exit = Exit::of_write(error);
    if exit != Exit::Done {
        let name = place.name();
        terminal.error(&format!(
            "cannot write {name}: {error}; what was recorded before can be replayed"
        ));
    }
    exit
}

impl<W: Write> Tap for Tape<W> {
    fn open(&mut self, id: ConnectionId, opening: &Opening, time: Nanos) {
        self.ids.insert(id, self.writer.open(opening, time));
    }

    fn set_process(&mut self, id: ConnectionId, process: Process, time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.set_process(*id, process, time);
        }
    }

    fn set_task(&mut self, id: ConnectionId, task: Option<Task>, time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.set_task(*id, task, time);
        }
    }

    fn anchor(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.anchor(*id, dir, offset, time);
        }
    }

    fn cleartext(&mut self, id: ConnectionId, at: Both<u64>, start: Start, time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.cleartext(*id, at, start, time);
        }
    }

    fn acked(&mut self, id: ConnectionId, dir: Direction, upto: u64, time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.acked(*id, dir, upto, time);
        }
    }

    fn chunk(&mut self, id: ConnectionId, dir: Direction, offset: u64, bytes: &[u8], time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.chunk(*id, dir, offset, bytes, time);
        }
    }

    fn passed(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.passed(*id, dir, offset, len, time);
        }
    }

    fn lost(&mut self, id: ConnectionId, dir: Direction, offset: u64, len: u64, time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.lost(*id, dir, offset, len, time);
        }
    }

    fn end(&mut self, id: ConnectionId, dir: Direction, offset: u64, time: Nanos) {
        if let Some(id) = self.ids.get(&id) {
            self.writer.end(*id, dir, offset, time);
        }
    }

    fn close(&mut self, id: ConnectionId, how: Close, time: Nanos) {
        if let Some(id) = self.ids.remove(&id) {
            self.writer.close(id, how, time);
        }
    }
}
