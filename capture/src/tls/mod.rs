//! TLS libraries: found where processes have mapped them, and probed once for all processes.
//!
//! ```text
//! /proc/PID/maps ─▶ maps ─▶ scanner (a thread: probe-sites) ─▶ attach ─▶ links, by file
//!      ▲
//!      └── processes at the start; then whoever runs a program or maps code
//! ```
//!
//! A probe sits on a file: processes that map it later are seen from their first call on.

mod attach;
mod maps;
mod on_disk;
mod scanner;
pub(crate) mod survey;

use std::collections::HashMap;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use wirespan_probe_sites::{Goroutines, Library};

use crate::Error;
use crate::clock::Clock;
use crate::feed::Learns;
use crate::hooks::{self, Link};
use crate::kernel::Kernel;
use crate::processes::Tasks;
use maps::FileId;
use scanner::{News, Scanner};

/// What was found in a file, and the probes on it.
pub(crate) struct Target {
    /// As a process that has mapped it sees it.
    path: PathBuf,
    /// Why probes could not be attached.
    failure: Option<String>,
    links: Vec<Link>,
    /// What is known of its goroutines, if it is a program of Go.
    goroutines: Option<Goroutines>,
    /// Since when it is probed, on the monotonic clock.
    since: u64,
}

/// Probes on TLS libraries. Dropping it detaches them.
pub(crate) struct Probes {
    files: HashMap<FileId, Target>,
    scanner: Scanner,
    detacher: Detacher,
}

impl Drop for Probes {
    fn drop(&mut self) {
        let targets = self.files.drain();
        hooks::detach(targets.flat_map(|(_, target)| target.links).collect());
    }
}

impl Probes {
    /// Probes the libraries of the system, and those of all processes.
    pub(crate) fn start(kernel: &mut Kernel, learner: &mut dyn Learns) -> Result<Self, Error> {
        let scanner = Scanner::start().map_err(Error::Wait)?;
        let mut probes = Self {
            files: HashMap::new(),
            scanner,
            detacher: Detacher::start().map_err(Error::Wait)?,
        };
        probes.scanner.all();
        while let Some(news) = probes.scanner.wait() {
            if let News::All = news {
                break;
            }
            probes.hear(news, kernel, learner);
        }
        Ok(probes)
    }

    /// Files whose libraries could not be probed, and why: what the kernel said.
    pub(crate) fn failures(&self) -> Vec<(PathBuf, String)> {
        let targets = self.files.values();
        let failed =
            targets.filter_map(|target| Some((target.path.clone(), target.failure.clone()?)));
        failed.collect()
    }

    /// A process runs another program, or maps code.
    pub(crate) fn noticed(&self, tgid: u32) {
        self.scanner.process(tgid);
    }

    /// Probes what was found in the meantime.
    pub(crate) fn poll(&mut self, kernel: &mut Kernel, learner: &mut dyn Learns) {
        while let Some(news) = self.scanner.news() {
            self.hear(news, kernel, learner);
        }
    }

    fn hear(&mut self, news: News, kernel: &mut Kernel, learner: &mut dyn Learns) {
        match news {
            News::File {
                id,
                path,
                file,
                scan,
            } => {
                // The kernel follows this to the file that is open, which its path may not name.
                let way = format!("/proc/self/fd/{}", file.as_raw_fd());
                let mut target = Target {
                    path,
                    failure: None,
                    links: Vec::new(),
                    goroutines: scan.goroutines,
                    since: 0,
                };
                target.attach(&scan.found, Path::new(&way), kernel);
                if !target.links.is_empty() {
                    learner.probed(target.since);
                }
                // Another file may have had its number.
                if let Some(before) = self.files.insert(id, target) {
                    self.detacher.detach(before.links);
                }
            }
            News::Process(tgid, files) => {
                self.understand(tgid, &files, kernel, learner);
                let targets = files.iter().filter_map(|file| self.files.get(file));
                let probed = targets.filter(|target| !target.links.is_empty());
                if let Some(since) = probed.map(|target| target.since).max() {
                    learner.cover(tgid, since);
                }
            }
            News::Gone(files) => {
                let gone = files.iter().filter_map(|file| self.files.remove(file));
                let links = gone.flat_map(|target| target.links).collect();
                self.detacher.detach(links);
            }
            News::All => {}
        }
    }

    /// What a process is made of, by the files of its code, the program first. A library in Go
    /// makes a process that has both threads and goroutines, of which neither is known.
    fn understand(
        &self,
        tgid: u32,
        files: &[FileId],
        kernel: &mut Kernel,
        learner: &mut dyn Learns,
    ) {
        let in_go = |file: &FileId| self.files.get(file).and_then(|target| target.goroutines);
        let Some((program, libraries)) = files.split_first() else {
            return;
        };
        let goid = match in_go(program) {
            Some(goroutines) => Some(goroutines.goid),
            None if libraries.iter().any(|file| in_go(file).is_some()) => Some(None),
            None => None,
        };
        let tasks = match goid {
            Some(_) => Tasks::Goroutines,
            None => Tasks::Threads,
        };
        if kernel.set_goroutines(tgid, goid) {
            learner.understand(tgid, tasks);
        }
    }
}

/// A thread that detaches, since events must not wait for it; it ends when this is dropped.
struct Detacher {
    links: Option<Sender<Vec<Link>>>,
    thread: Option<JoinHandle<()>>,
}

impl Detacher {
    fn start() -> std::io::Result<Self> {
        let (links, detached) = channel();
        let thread = std::thread::Builder::new()
            .name("tls-detacher".to_owned())
            .spawn(move || detached.into_iter().for_each(hooks::detach))?;
        Ok(Self {
            links: Some(links),
            thread: Some(thread),
        })
    }

    fn detach(&self, links: Vec<Link>) {
        if let (false, Some(sender)) = (links.is_empty(), &self.links) {
            // Where the thread is gone they are detached here.
            let _ = sender.send(links);
        }
    }
}

impl Drop for Detacher {
    fn drop(&mut self) {
        self.links = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Target {
    /// Attaches probes to the libraries that the file has; `way` leads to it.
    fn attach(&mut self, libraries: &[Library], way: &Path, kernel: &mut Kernel) {
        for library in libraries {
            match attach::attach(kernel, library, way) {
                Ok(links) => self.links.extend(links),
                Err(error) => self.failure = Some(error.reason()),
            }
        }
        self.since = Clock::monotonic();
    }
}
