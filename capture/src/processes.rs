//! Names of processes.

use std::collections::HashMap;
use std::fs;

use wirespan_engine::Process;

/// Names kept at most. Beyond, all are forgotten and learned again.
const MOST: usize = 64 * 1024;

/// Processes by number, as the kernel side introduced them.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    known: HashMap<u32, Process>,
}

impl Processes {
    pub(crate) fn introduce(&mut self, tgid: u32, name: [u8; 16]) {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        self.known.insert(tgid, Process::new(tgid, &name));
    }

    /// A process is gone, or has another name from now on: then it is introduced again.
    pub(crate) fn forget(&mut self, tgid: u32) {
        self.known.remove(&tgid);
    }

    /// A process, by the name that it was introduced with; if that was lost, by the one that
    /// `/proc` has.
    pub(crate) fn get(&mut self, tgid: u32) -> Option<Process> {
        if tgid != 0 && !self.known.contains_key(&tgid) {
            self.introduce(tgid, comm(tgid).unwrap_or_default());
        }
        self.known.get(&tgid).copied()
    }
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
