//! What the agent itself uses, as the kernel tells it.

use std::fs;

/// `USER_HZ`, which is the same on every Linux.
const TICKS: f64 = 100.0;

/// CPU time in seconds since the start, and resident memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Own {
    pub(super) user: f64,
    pub(super) system: f64,
    pub(super) resident: u64,
}

impl Own {
    /// `None` where the kernel does not tell.
    pub(super) fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        Self::parse(&stat, &status)
    }

    /// CPU time of both kinds.
    pub(super) fn seconds(&self) -> f64 {
        self.user + self.system
    }

    fn parse(stat: &str, status: &str) -> Option<Self> {
        // The second field is the name in parentheses, which may hold anything.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<f64>().ok();
        let (user, system) = (ticks()? / TICKS, ticks()? / TICKS);
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(Self {
            user,
            system,
            resident: kib << 10,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) R 1 (b)) S 1 7 7 0 -1 4 9 9 0 0 250 50 0 0 20 0";
        let own = Own::parse(stat, "Name:\ta\nVmRSS:\t   2048 kB\n").expect("a process");
        assert_eq!((own.user, own.system), (2.5, 0.5));
        assert_eq!(own.resident, 2 << 20);
        assert_eq!(Own::parse("7 (a", "VmRSS: 1 kB"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Own::read().is_some_and(|own| own.resident > 0));
    }
}
