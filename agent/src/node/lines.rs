//! Records as lines of JSON, to a file or to standard output.
//!
//! A thread writes; whoever observes never waits for it. Lines that find no room because the disk is
//! slow, or that it does not take, are counted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::log::Log;

/// Bytes of lines that may wait to be written.
const WAITING: usize = 8 << 20;
/// Bytes that are written at once, and how long they may take to come together.
const BATCH: usize = 64 << 10;
const FLUSH: Duration = Duration::from_millis(500);
/// How often a failure is said, and a file tried again that could not be opened.
const AGAIN: Duration = Duration::from_secs(10);

/// Where lines go, and when a file is full.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// `-` is standard output, which is never full.
    pub(super) path: PathBuf,
    /// Bytes of a file; one more line begins the next.
    pub(super) most: u64,
    /// Full files that are kept, as `PATH.1` (the latest), `PATH.2`, …
    pub(super) keep: u32,
}

/// What became of lines.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) written: AtomicU64,
    /// No room was left to wait in.
    pub(super) dropped: AtomicU64,
    /// The file did not take them.
    pub(super) failed: AtomicU64,
}

impl Counts {
    /// The numbers as they stand: written, dropped, failed.
    pub(super) fn now(&self) -> [u64; 3] {
        [&self.written, &self.dropped, &self.failed].map(|count| count.load(Ordering::Relaxed))
    }
}

/// The near end of the thread.
#[derive(Debug)]
pub(super) struct Lines {
    sender: Sender<Box<[u8]>>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    thread: JoinHandle<()>,
}

impl Lines {
    /// Opens the target and starts the thread.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, or there is no thread to be had.
    pub(super) fn start(target: Target, log: Log) -> io::Result<Self> {
        let open = Open::new(&target)?;
        let (sender, lines) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counts = Arc::new(Counts::default());
        let mut writer = Writer {
            target,
            open: Some(open),
            counts: Arc::clone(&counts),
            waiting: Arc::clone(&waiting),
            log,
            quiet_until: Instant::now(),
            batch: Vec::new(),
            lines: 0,
        };
        let thread = thread::Builder::new().name("records".to_owned());
        let thread = thread.spawn(move || writer.run(&lines))?;
        Ok(Self {
            sender,
            waiting,
            counts,
            thread,
        })
    }

    /// What became of lines so far.
    pub(super) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// Passes a line on, if there is room.
    pub(super) fn feed(&self, line: &[u8]) {
        let before = self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        if before + line.len() > WAITING || self.sender.send(line.into()).is_err() {
            self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes what waits, for at most so long.
    pub(super) fn finish(self, limit: Duration) {
        drop(self.sender);
        let until = Instant::now() + limit;
        while !self.thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// An open target.
enum Open {
    Stdout(io::Stdout),
    /// A file, and the bytes that it holds.
    File(File, u64),
}

impl Open {
    fn new(target: &Target) -> io::Result<Self> {
        if target.path.as_os_str() == "-" {
            return Ok(Self::Stdout(io::stdout()));
        }
        let file = File::options()
            .create(true)
            .append(true)
            .open(&target.path)?;
        let bytes = file.metadata()?.len();
        Ok(Self::File(file, bytes))
    }

    /// Whether `bytes` more have no room behind `before` more.
    const fn is_full(&self, before: usize, bytes: usize, most: u64) -> bool {
        match self {
            Self::Stdout(_) => false,
            Self::File(_, held) => {
                let before = *held + before as u64;
                before > 0 && before + bytes as u64 > most
            }
        }
    }

    /// Writes all, or leaves a file as it was.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => {
                let mut stdout = stdout.lock();
                stdout.write_all(bytes).and_then(|()| stdout.flush())
            }
            Self::File(file, held) => {
                let written = file.write_all(bytes);
                match written {
                    Ok(()) => *held += bytes.len() as u64,
                    // A part of a line would spoil the next.
                    Err(_) => file.set_len(*held).unwrap_or_default(),
                }
                written
            }
        }
    }
}

/// The far end.
struct Writer {
    target: Target,
    /// `None` after a failure.
    open: Option<Open>,
    counts: Arc<Counts>,
    waiting: Arc<AtomicUsize>,
    log: Log,
    /// Until when nothing is said, and no file opened.
    quiet_until: Instant,
    /// Lines that are written together, and their number.
    batch: Vec<u8>,
    lines: u64,
}

impl Writer {
    fn run(&mut self, lines: &Receiver<Box<[u8]>>) {
        let mut due = Instant::now() + FLUSH;
        loop {
            let wait = due.saturating_duration_since(Instant::now());
            match lines.recv_timeout(wait) {
                Ok(line) => {
                    self.line(&line);
                    self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.flush();
                    due = Instant::now() + FLUSH;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.flush();
    }

    fn line(&mut self, line: &[u8]) {
        let before = self.batch.len();
        let is_full = |open: &Open| open.is_full(before, line.len(), self.target.most);
        if before + line.len() > BATCH || self.open.as_ref().is_some_and(is_full) {
            self.flush();
        }
        self.batch.extend_from_slice(line);
        self.lines += 1;
    }

    fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let written = self.write();
        let lines = std::mem::take(&mut self.lines);
        self.batch.clear();
        let count = match written {
            Ok(()) => &self.counts.written,
            Err(_) => &self.counts.failed,
        };
        count.fetch_add(lines, Ordering::Relaxed);
        if let Err(error) = written {
            self.failed(&error);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let is_full = |open: &Open| open.is_full(0, self.batch.len(), self.target.most);
        if self.open.as_ref().is_some_and(is_full) {
            self.open = None;
            rotate(&self.target)?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None if Instant::now() < self.quiet_until => return Err(io::ErrorKind::NotFound.into()),
            None => self.open.insert(Open::new(&self.target)?),
        };
        open.write(&self.batch)
    }

    fn failed(&mut self, error: &io::Error) {
        self.open = None;
        if Instant::now() >= self.quiet_until {
            self.quiet_until = Instant::now() + AGAIN;
            let path = self.target.path.display();
            self.log
                .warn(&format!("records cannot be written to {path}: {error}"));
        }
    }
}

/// Renames the full file, and those before it; the oldest is gone.
fn rotate(target: &Target) -> io::Result<()> {
    let numbered = |n: u32| {
        let mut name = target.path.clone().into_os_string();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    if target.keep == 0 {
        return fs::remove_file(&target.path);
    }
    for n in (1..target.keep).rev() {
        match fs::rename(numbered(n), numbered(n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(&target.path, numbered(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Level;
    use crate::terminal::{ColourChoice, Terminal};

    const LIMIT: Duration = Duration::from_secs(10);

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("wirespan-lines-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn target(&self, most: u64, keep: u32) -> Target {
            Target {
                path: self.0.join("records.jsonl"),
                most,
                keep,
            }
        }

        /// The files by name, with how many lines each has.
        fn files(&self) -> Vec<(String, usize)> {
            let entries = fs::read_dir(&self.0).expect("a folder");
            let mut files: Vec<_> = entries
                .map(|entry| {
                    let path = entry.expect("an entry").path();
                    let name = path
                        .file_name()
                        .expect("a name")
                        .to_string_lossy()
                        .into_owned();
                    (
                        name,
                        fs::read_to_string(path).expect("text").lines().count(),
                    )
                })
                .collect();
            files.sort();
            files
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn log() -> Log {
        Log::new(Terminal::new(ColourChoice::Never, true), Level::Error)
    }

    #[test]
    fn full_files_are_renamed_and_the_oldest_goes() {
        let folder = Folder::new("rotate");
        let lines = Lines::start(folder.target(100, 2), log()).expect("a file");
        let counts = Arc::clone(lines.counts());
        for _ in 0..45 {
            lines.feed(b"{\"a\":1}..\n");
        }
        lines.finish(LIMIT);
        let name = |end: &str| format!("records.jsonl{end}");
        let expected = [(name(""), 5), (name(".1"), 10), (name(".2"), 10)];
        assert_eq!(folder.files(), expected);
        assert_eq!(counts.now(), [45, 0, 0]);
    }

    #[test]
    fn a_file_that_is_there_is_gone_on_with() {
        let folder = Folder::new("append");
        for _ in 0..2 {
            let lines = Lines::start(folder.target(1 << 20, 2), log()).expect("a file");
            lines.feed(b"{}\n");
            lines.finish(LIMIT);
        }
        assert_eq!(folder.files(), [("records.jsonl".to_owned(), 2)]);
    }

    #[test]
    fn a_full_disk_is_counted_and_nobody_waits() {
        let target = Target {
            path: PathBuf::from("/dev/full"),
            most: u64::MAX,
            keep: 0,
        };
        let lines = Lines::start(target, log()).expect("a device");
        let counts = Arc::clone(lines.counts());
        let line = vec![b'x'; 100_000];
        for _ in 0..200 {
            lines.feed(&line);
        }
        lines.finish(LIMIT);
        let [written, dropped, failed] = counts.now();
        assert!(failed > 0);
        assert_eq!((written, dropped + failed), (0, 200));
    }

    #[test]
    fn a_file_that_cannot_be_had_is_said_at_once() {
        let target = Target {
            path: PathBuf::from("/nowhere/records.jsonl"),
            most: 1,
            keep: 1,
        };
        assert!(Lines::start(target, log()).is_err());
    }
}
