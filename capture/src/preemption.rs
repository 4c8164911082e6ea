//! Whether the kernel preempts tasks that are inside of it.

use std::fs;

/// The mode that is in use is in brackets: `none (voluntary) full`. For root, where debugfs is
/// mounted.
const MODE: &str = "/sys/kernel/debug/sched/preempt";

/// Whether this kernel does. Where it does not say which of several modes is in use, as most do.
pub(crate) fn is_preemptible() -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    judge(
        &read(MODE),
        &read("/proc/cmdline"),
        &read("/proc/sys/kernel/version"),
        &read("/proc/sys/kernel/osrelease"),
    )
}

fn judge(mode: &str, options: &str, version: &str, release: &str) -> bool {
    if !mode.is_empty() {
        return ["(full)", "(lazy)"].iter().any(|full| mode.contains(full));
    }
    let mut options = options.split_ascii_whitespace();
    if let Some(mode) = options.find_map(|option| option.strip_prefix("preempt=")) {
        return matches!(mode, "full" | "lazy");
    }
    version.split_ascii_whitespace().any(|word| match word {
        "PREEMPT" | "PREEMPT_RT" | "PREEMPT_LAZY" => true,
        // Linux 7 has no other modes.
        "PREEMPT_DYNAMIC" => {
            let major = release.split('.').next().and_then(|n| n.parse().ok());
            major.is_some_and(|major: u32| major >= 7)
        }
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYNAMIC: &str = "#1 SMP PREEMPT_DYNAMIC Debian 7.2.12-1 (2026-11-04)";

    #[test]
    fn the_mode_in_brackets_decides() {
        assert!(judge("none voluntary (full)", "", DYNAMIC, "6.12.1"));
        assert!(judge("full (lazy)", "", DYNAMIC, "7.2.12"));
        assert!(!judge("none (voluntary) full lazy", "", DYNAMIC, "6.18.1"));
    }

    #[test]
    fn without_it_the_options_and_the_version_do() {
        assert!(judge("", "quiet preempt=full", DYNAMIC, "6.12.1"));
        assert!(!judge("", "preempt=none quiet", DYNAMIC, "6.12.1"));
        assert!(!judge("", "quiet", DYNAMIC, "6.12.1"));
        assert!(judge("", "quiet", DYNAMIC, "7.2.12+deb13-cloud-amd64"));
        assert!(judge("", "", "#1 SMP PREEMPT_RT Debian", "6.1.0"));
        assert!(!judge("", "", "#1 SMP Debian 5.10.262-1", "5.10.0"));
    }
}
