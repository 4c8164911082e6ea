//! A thread that looks into files: large ones take long, and events must not wait for them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use wirespan_probe_sites::{Scan, scan_from};

use super::maps::{self, FileId, Stamp};
use super::on_disk::OnDisk;
use crate::memory;

/// When to look at a process after it has run a program or mapped code: once when the mapping is
/// likely there, and once when it certainly is.
const DELAYS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(30)];

/// Where systems keep libraries.
const FOLDERS: [&str; 6] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
];

/// How the libraries' files begin that are looked for before anyone has mapped them.
const NAMES: [&str; 2] = ["libssl.so", "libgnutls.so"];

/// Time between looks for files that nobody maps any more.
const SWEEP: Duration = Duration::from_secs(60);

/// Files remembered at most; beyond, all are looked at again.
const MOST_FILES: usize = 64 * 1024;

/// What the thread is to do.
enum Task {
    /// Look at what the system has, and at all processes.
    All,
    /// Look at a process.
    Process(u32),
}

/// What the thread has seen.
pub(super) enum News {
    /// A file that was not looked at before.
    File {
        id: FileId,
        /// As a process that has mapped it sees it.
        path: PathBuf,
        /// Open, so that it is this one that is probed, whatever becomes of its path.
        file: File,
        scan: Scan,
    },
    /// All code of a process is in these files, of which news has been given.
    Process(u32, Vec<FileId>),
    /// Nobody maps these files any more, and they are no longer where they were: libraries that were
    /// replaced.
    Gone(Vec<FileId>),
    /// [`Scanner::all`] is done.
    All,
}

/// A file that was looked into.
struct Known {
    /// Tells it from a later one with the same number.
    stamp: Stamp,
    path: PathBuf,
}

/// The thread; it ends when this is dropped.
pub(super) struct Scanner {
    tasks: Option<Sender<Task>>,
    news: Receiver<News>,
    thread: Option<JoinHandle<()>>,
}

impl Scanner {
    pub(super) fn start() -> std::io::Result<Self> {
        let ((tasks, to_do), (tell, news)) = (channel(), channel());
        let mut work = Work {
            tell,
            known: HashMap::new(),
            has_read: false,
        };
        let thread = std::thread::Builder::new()
            .name("tls-scanner".to_owned())
            .spawn(move || work.run(&to_do))?;
        Ok(Self {
            tasks: Some(tasks),
            news,
            thread: Some(thread),
        })
    }

    /// Asks for everything that is there now; [`News::All`] follows the news of it.
    pub(super) fn all(&self) {
        self.ask(Task::All);
    }

    /// A process runs another program, or maps code.
    pub(super) fn process(&self, tgid: u32) {
        self.ask(Task::Process(tgid));
    }

    fn ask(&self, task: Task) {
        if let Some(tasks) = &self.tasks {
            // The thread ends with this value only, or by a fault of which all else is independent.
            let _ = tasks.send(task);
        }
    }

    /// News, if there are any.
    pub(super) fn news(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    /// Waits for news.
    pub(super) fn wait(&self) -> Option<News> {
        self.news.recv().ok()
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            // What it had to say is of no use any more.
            let _ = thread.join();
        }
    }
}

struct Work {
    tell: Sender<News>,
    known: HashMap<FileId, Known>,
    /// Whether files were read since memory was given back.
    has_read: bool,
}

impl Work {
    fn run(&mut self, tasks: &Receiver<Task>) {
        let mut due: [VecDeque<(Instant, u32)>; DELAYS.len()] = Default::default();
        let mut next_sweep = Instant::now() + SWEEP;
        loop {
            let now = Instant::now();
            if now >= next_sweep {
                self.sweep();
                next_sweep = Instant::now() + SWEEP;
            }
            let next = due.iter().filter_map(|queue| queue.front()).min();
            let wait = match next {
                Some((at, _)) => at.saturating_duration_since(now),
                None => next_sweep.saturating_duration_since(now),
            };
            match tasks.recv_timeout(wait) {
                Ok(Task::All) => {
                    self.all();
                    let _ = self.tell.send(News::All);
                    self.give_back();
                }
                Ok(Task::Process(tgid)) => {
                    let now = Instant::now();
                    for (queue, delay) in due.iter_mut().zip(DELAYS) {
                        // A program maps a dozen files when it starts.
                        if !queue.iter().any(|(_, waiting)| *waiting == tgid) {
                            queue.push_back((now + delay, tgid));
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let now = Instant::now();
                    for queue in &mut due {
                        if let Some((_, tgid)) = queue.pop_front_if(|(at, _)| *at <= now) {
                            self.process(tgid);
                        }
                    }
                    self.give_back();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn give_back(&mut self) {
        if std::mem::take(&mut self.has_read) {
            memory::give_back();
        }
    }

    fn all(&mut self) {
        for folder in FOLDERS {
            self.folder(Path::new(folder), 1);
        }
        for tgid in maps::processes() {
            self.process(tgid);
        }
    }

    /// Libraries in a folder and in those below it, so many levels deep.
    fn folder(&mut self, folder: &Path, depth: u32) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let path = entry.path();
            if NAMES.iter().any(|known| name.starts_with(known)) {
                if let Ok(id) = maps::identity(&path) {
                    let stamp = maps::stamp(&path);
                    self.file(id, &path, stamp, || maps::open(&path));
                }
            } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.folder(&path, depth - 1);
            }
        }
    }

    fn process(&mut self, tgid: u32) {
        if tgid == std::process::id() {
            return;
        }
        let mut files = Vec::new();
        for mapping in maps::mappings(tgid) {
            let (id, stamp) = (mapping.file.clone(), mapping.stamp(tgid));
            self.file(id, &mapping.path, stamp, || mapping.open(tgid));
            files.push(mapping.file);
        }
        let _ = self.tell.send(News::Process(tgid, files));
    }

    /// Forgets files that nobody maps any more and that are no longer where they were.
    fn sweep(&mut self) {
        let processes = maps::processes();
        let mapped = processes.into_iter().flat_map(maps::mappings);
        let mapped: HashSet<_> = mapped.map(|mapping| mapping.file).collect();
        let is_there = |id: &FileId, known: &Known| {
            mapped.contains(id) || maps::identity(&known.path).is_ok_and(|there| there == *id)
        };
        let gone = self.known.extract_if(|id, known| !is_there(id, known));
        let gone: Vec<_> = gone.map(|(id, _)| id).collect();
        if !gone.is_empty() {
            let _ = self.tell.send(News::Gone(gone));
        }
    }

    /// Looks into a file unless it is known.
    fn file(
        &mut self,
        id: FileId,
        path: &Path,
        stamp: std::io::Result<Stamp>,
        open: impl FnOnce() -> std::io::Result<File>,
    ) {
        let Ok(stamp) = stamp else { return };
        if self
            .known
            .get(&id)
            .is_some_and(|known| known.stamp == stamp)
        {
            return;
        }
        let Ok(file) = open().and_then(OnDisk::new) else {
            return;
        };
        self.has_read = true;
        let scan = scan_from(&file);
        if self.known.len() >= MOST_FILES {
            self.known.clear();
        }
        let path = path.to_owned();
        let known = Known {
            stamp,
            path: path.clone(),
        };
        self.known.insert(id.clone(), known);
        let _ = self.tell.send(News::File {
            id,
            path,
            file: file.into(),
            scan,
        });
    }
}
