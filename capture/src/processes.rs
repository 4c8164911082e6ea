//! What is known of processes: their names, and what they are made of.

use std::fs;
use std::path::PathBuf;

use hashbrown::HashMap;
use wirespan_engine::{Process, Task};

/// Names kept at most. Beyond, all are forgotten and learned again.
const MOST: usize = 64 * 1024;

/// Processes by number, as the kernel side introduced them.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    known: HashMap<u32, Process>,
    tasks: HashMap<u32, Tasks>,
}

/// What a process does several things at once with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tasks {
    Threads,
    /// Those of Go: which thread one runs in says nothing.
    Goroutines,
}

impl Processes {
    pub(crate) fn introduce(&mut self, tgid: u32, name: [u8; 16]) {
        if let Some(tasks) = self.inherited(tgid) {
            self.understand(tgid, Some(tasks));
        }
        self.name(tgid, name);
    }

    /// A process has this name.
    pub(crate) fn name(&mut self, tgid: u32, name: [u8; 16]) {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(tgid, Process::new(tgid, &name));
    }

    /// A process is gone, or has another name from now on: then it is introduced again.
    pub(crate) fn forget(&mut self, tgid: u32) {
        self.known.remove(&tgid);
    }

    /// What a process is made of that nobody has looked at: one that was forked, and runs what its
    /// parent does, is made of threads if that is. Nobody tells that a process forks.
    pub(crate) fn inherited(&self, tgid: u32) -> Option<Tasks> {
        if self.tasks.contains_key(&tgid) {
            return None;
        }
        let parent = parent(tgid)?;
        let is_of_threads = self.tasks.get(&parent) == Some(&Tasks::Threads);
        let runs_the_same =
            || program(parent).is_some_and(|runs| program(tgid).as_ref() == Some(&runs));
        (is_of_threads && runs_the_same()).then_some(Tasks::Threads)
    }

    /// What a process is made of; `None` where that is not known, or not any more.
    pub(crate) fn understand(&mut self, tgid: u32, tasks: Option<Tasks>) {
        match tasks {
            Some(tasks) => {
                if self.tasks.len() >= MOST {
                    // Not of all is the end told.
                    self.tasks.retain(|tgid, _| comm(*tgid).is_some());
                }
                self.tasks.insert(tgid, tasks);
            }
            None => {
                self.tasks.remove(&tgid);
            }
        }
    }

    /// The task by which an event says that something was done. None of a process that may be made
    /// of something else.
    pub(crate) fn task(&self, tgid: u32, number: u32) -> Option<Task> {
        let task = Task::new(number)?;
        let tasks = self.tasks.get(&tgid)?;
        (task.is_goroutine() == (*tasks == Tasks::Goroutines)).then_some(task)
    }

    /// A process, by the name that it was introduced with; if that was lost, by the one that
    /// `/proc` has.
    pub(crate) fn get(&mut self, tgid: u32) -> Option<Process> {
        let known = self.known.get(&tgid).copied();
        if known.is_some() || tgid == 0 {
            return known;
        }
        self.introduce(tgid, comm(tgid).unwrap_or_default());
        self.known.get(&tgid).copied()
    }
}

/// The parent of a running process: the second field behind its name, proc(5).
fn parent(tgid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{tgid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// The file of the program that a process runs.
fn program(tgid: u32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{tgid}/exe")).ok()
}

/// The name of a running process.
fn comm(tgid: u32) -> Option<[u8; 16]> {
    let text = fs::read(format!("/proc/{tgid}/comm")).ok()?;
    let mut name = [0; 16];
    for (to, from) in name.iter_mut().zip(text.trim_ascii_end()) {
        *to = *from;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_that_runs_what_its_parent_does_is_made_of_what_that_is() {
        // A part of a shell in parentheses is a process of its own.
        let script = "(echo fork; read line); :";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        said.read_line(&mut String::new()).unwrap();
        let of_shell = format!("/proc/{0}/task/{0}/children", shell.id());
        let child = || fs::read_to_string(&of_shell).unwrap().trim().parse();
        let (forked, parent): (u32, u32) = (child().unwrap(), shell.id());
        for (tasks, expected) in [
            (Some(Tasks::Threads), Some(&Tasks::Threads)),
            (Some(Tasks::Goroutines), None),
            (None, None),
        ] {
            let mut processes = Processes::default();
            processes.understand(parent, tasks);
            processes.introduce(forked, *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
            assert_eq!(processes.tasks.get(&forked), expected, "{tasks:?}");
        }
        let mut processes = Processes::default();
        processes.understand(std::process::id(), Some(Tasks::Threads));
        processes.introduce(parent, *b"sh\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(
            processes.tasks.get(&parent),
            None,
            "it runs another program"
        );
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }

    #[test]
    fn a_task_is_believed_only_of_a_process_that_is_made_of_such() {
        let (thread, goroutine) = (7, 7 | Task::GOROUTINE);
        let mut processes = Processes::default();
        let seen = |processes: &Processes| {
            [thread, goroutine, 0].map(|number| processes.task(1, number).is_some())
        };
        assert_eq!(seen(&processes), [false; 3], "nobody has looked at it");
        processes.understand(1, Some(Tasks::Threads));
        assert_eq!(seen(&processes), [true, false, false]);
        processes.understand(1, Some(Tasks::Goroutines));
        assert_eq!(seen(&processes), [false, true, false]);
        processes.understand(1, None);
        assert_eq!(seen(&processes), [false; 3], "it runs another program");
    }
}
