//! When to read the configuration again: on SIGHUP, and when its file is another.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use signal_hook::consts::SIGHUP;

use super::control::Control;

/// Time between two looks. A file counts as another when two looks in a row found it the same: one
/// that is still being written is left alone.
const LOOK: Duration = Duration::from_millis(100);

/// Looks at the configuration's file until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch `file`, if there is one, and for SIGHUP. The file was read after `seen`.
    pub(super) fn start(
        file: Option<PathBuf>,
        mut seen: Seen,
        control: Arc<Control>,
    ) -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGHUP, Arc::clone(&asked))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let watch = move || {
            while !stopping.load(Ordering::Relaxed) {
                thread::sleep(LOOK);
                let is_asked = asked.swap(false, Ordering::Relaxed);
                let is_another = seen.look(file.as_deref().and_then(Print::of));
                // What is wrong with it has been told.
                if is_asked {
                    let _ = control.reload("SIGHUP");
                } else if is_another {
                    let _ = control.reload("the file changed");
                }
            }
        };
        let thread = thread::Builder::new()
            .name("config".to_owned())
            .spawn(watch)?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has told of itself.
            let _ = thread.join();
        }
    }
}

/// What tells a file from the same file with other contents. Links are followed, so that a folder of
/// Kubernetes, where a link is replaced, is noticed like a file that an editor replaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Print {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// The prints of a file: the one that was read, and the one of the latest look.
#[derive(Debug)]
pub(super) struct Seen {
    read: Option<Print>,
    latest: Option<Print>,
}

impl Seen {
    /// Of a file that is about to be read.
    pub(super) fn of(file: Option<&Path>) -> Self {
        Self::new(file.and_then(Print::of))
    }

    const fn new(read: Option<Print>) -> Self {
        Self { read, latest: read }
    }

    /// Whether the file is another than the one that was read, and stands still. One that is not
    /// there is about to be replaced.
    fn look(&mut self, now: Option<Print>) -> bool {
        let stands = now == self.latest;
        self.latest = now;
        let is_another = now.is_some() && stands && now != self.read;
        if is_another {
            self.read = now;
        }
        is_another
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(inode: u64, size: u64) -> Option<Print> {
        Some(Print {
            device: 1,
            inode,
            size,
            changed: (0, 0),
        })
    }

    #[test]
    fn a_file_is_read_again_when_it_stands_still() {
        let mut seen = Seen::new(print(1, 10));
        assert!(!seen.look(print(1, 10)), "it is the same");
        assert!(!seen.look(print(1, 0)), "it is being written");
        assert!(!seen.look(print(1, 5)), "and still is");
        assert!(seen.look(print(1, 5)));
        assert!(!seen.look(print(1, 5)), "once is enough");
    }

    #[test]
    fn a_file_that_is_replaced_is_not_missed_while_it_is_gone() {
        let mut seen = Seen::new(print(1, 10));
        assert!(!seen.look(None));
        assert!(!seen.look(None), "nothing is no configuration");
        assert!(!seen.look(print(2, 10)));
        assert!(seen.look(print(2, 10)));
    }

    #[test]
    fn a_link_that_points_elsewhere_is_another_file() {
        let folder = std::env::temp_dir().join(format!("wirespan-watch-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let [first, second, link] = ["1", "2", "link"].map(|name| folder.join(name));
        fs::write(&first, "same").expect("written");
        fs::write(&second, "same").expect("written");
        std::os::unix::fs::symlink(&first, &link).expect("a link");
        let mut seen = Seen::new(Print::of(&link));
        fs::remove_file(&link).expect("removed");
        std::os::unix::fs::symlink(&second, &link).expect("a link");
        assert!(!seen.look(Print::of(&link)));
        assert!(seen.look(Print::of(&link)));
        fs::remove_dir_all(&folder).expect("removed");
    }
}
