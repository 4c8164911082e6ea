//! What can be seen of processes' TLS, without probing anything: for people who ask why.

use std::collections::HashMap;
use std::path::PathBuf;

use wirespan_probe_sites::{Library, Reason, scan_from};

use super::maps::{self, FileId};
use super::on_disk::OnDisk;

/// A file of which processes have mapped code, and the TLS in it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Surveyed {
    /// As the first of the processes sees it.
    pub path: PathBuf,
    /// TLS implementations that can be probed.
    pub libraries: Vec<Library>,
    /// Why what it has cannot be probed, or not all of it.
    pub reasons: Vec<Reason>,
    /// The processes.
    pub processes: Vec<u32>,
}

/// Looks into the files of which `processes` have mapped code. Those without a trace of TLS are left
/// out, and so is this program's own.
#[must_use]
pub fn survey(processes: &[u32]) -> Vec<Surveyed> {
    let mut files: HashMap<FileId, Option<Surveyed>> = HashMap::new();
    for tgid in processes.iter().filter(|tgid| **tgid != std::process::id()) {
        for mapping in maps::mappings(*tgid) {
            let known = files.entry(mapping.file.clone()).or_insert_with(|| {
                let file = OnDisk::new(mapping.open(*tgid).ok()?).ok()?;
                let scan = scan_from(&file);
                let tells = |reason: &Reason| !matches!(reason, Reason::NoTls | Reason::NotElf);
                let reasons: Vec<_> = scan.reasons.into_iter().filter(tells).collect();
                (!scan.found.is_empty() || !reasons.is_empty()).then(|| Surveyed {
                    path: mapping.path.clone(),
                    libraries: scan.found,
                    reasons,
                    processes: Vec::new(),
                })
            });
            if let Some(file) = known {
                file.processes.push(*tgid);
            }
        }
    }
    let mut files: Vec<_> = files.into_values().flatten().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// All processes, by number.
#[must_use]
pub fn processes() -> Vec<u32> {
    let mut all = maps::processes();
    all.sort_unstable();
    all
}
