//! Names of processes.

use std::collections::HashMap;
use std::fs;

use wirespan_engine::Process;

/// Names kept at most. Beyond, all are forgotten and learned again.
const MOST: usize = 64 * 1024;

/// Processes by number, as the kernel side introduced them.
#[derive(Debug, Default)]
pub(crate) struct Processes {
    names: HashMap<u32, [u8; 16]>,
}

impl Processes {
    pub(crate) fn introduce(&mut self, tgid: u32, name: [u8; 16]) {
        if self.names.len() >= MOST {
            self.names.clear();
        }
        self.names.insert(tgid, name);
    }

    pub(crate) fn forget(&mut self, tgid: u32) {
        self.names.remove(&tgid);
    }

    /// A process, by the name that it was introduced with; if that was lost, by the one that
    /// `/proc` has.
    pub(crate) fn get(&mut self, tgid: u32) -> Option<Process> {
        if tgid == 0 {
            return None;
        }
        if let Some(name) = self.names.get(&tgid) {
            return Some(Process::new(tgid, name));
        }
        let comm = fs::read(format!("/proc/{tgid}/comm")).unwrap_or_default();
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(comm.trim_ascii_end()) {
            *to = *from;
        }
        self.introduce(tgid, name);
        Some(Process::new(tgid, &name))
    }
}
