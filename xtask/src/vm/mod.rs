//! Live capture on other kernels: each boots in a virtual machine, where the workload runs under
//! `wirespan tail` with each set of hooks. What it recorded is compared out here.

mod archive;
mod guest;
mod image;
mod kernels;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wirespan_workload::{Hooks, compare, compare_incomplete};

use guest::{Outcome, Watched};

/// Kernels that are tried where none is named: the oldest with a ring buffer, long-term ones, the
/// newest.
const KERNELS: [&str; 4] = ["5.10", "6.1", "6.12", "7.2"];

const HOOKS: [Hooks; 3] = [Hooks::Kprobe, Hooks::Fentry, Hooks::Tracepoint];

/// How much longer than a client knows an exchange may have taken: an emulated processor works at
/// other things for milliseconds between what is timed and the look at the clock.
const EMULATION_NS: u64 = 20_000_000;

/// Differences, and complaints, that are printed of one run; `target/vm` keeps everything.
const DIFFERENCES_SHOWN: usize = 15;

/// Runs the chore: `[--kernel VERSION]... [--hooks SET]...`, all of each by default. Kernels that no
/// mirror has are said to be skipped.
pub(crate) fn test(root: &Path, options: &[&str]) -> Result<(), String> {
    let plan = Plan::of(options)?;
    let folder = target(root).join("vm");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let image = image::build(root, &folder)?;
    let mut table = Table::default();
    for version in &plan.kernels {
        let kernel = match kernels::fetch(&folder, version) {
            Ok(kernel) => kernel,
            Err(why) => {
                println!("vm-test: SKIPPED {version}: {why}");
                table.row(
                    version,
                    "all",
                    "SKIPPED: the kernel could not be had",
                    false,
                );
                continue;
            }
        };
        println!("vm-test: booting {}", kernel.release);
        let begun = Instant::now();
        let outcome = guest::boot(&folder, &kernel, &image, &plan.hooks);
        table.add(&kernel.release, &plan.hooks, outcome, begun.elapsed());
    }
    print!("\n{}", table.text);
    if table.failed {
        return Err("what was recorded is not what was sent".into());
    }
    Ok(())
}

/// Where cargo builds.
fn target(root: &Path) -> PathBuf {
    let elsewhere = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    root.join(elsewhere.unwrap_or_else(|| "target".into()))
}

/// What is to be tried.
struct Plan {
    kernels: Vec<String>,
    hooks: Vec<Hooks>,
}

impl Plan {
    fn of(options: &[&str]) -> Result<Self, String> {
        let (mut kernels, mut hooks) = (Vec::new(), Vec::new());
        for pair in options.chunks(2) {
            match pair {
                ["--kernel", version] if KERNELS.contains(version) => {
                    kernels.push((*version).to_owned());
                }
                ["--hooks", set] => hooks.push(set.parse()?),
                _ => {
                    let known = KERNELS.join("|");
                    return Err(format!(
                        "vm-test takes --kernel {known} and --hooks kprobe|fentry|tracepoint, not {}",
                        pair.join(" ")
                    ));
                }
            }
        }
        if kernels.is_empty() {
            kernels = KERNELS.map(str::to_owned).into();
        }
        if hooks.is_empty() {
            hooks = HOOKS.into();
        }
        Ok(Self { kernels, hooks })
    }
}

/// What came out, a line for each kernel and set of hooks.
#[derive(Default)]
struct Table {
    text: String,
    failed: bool,
}

impl Table {
    fn add(
        &mut self,
        release: &str,
        hooks: &[Hooks],
        outcome: Result<Outcome, String>,
        took: Duration,
    ) {
        let mut outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                println!("vm-test: {error}");
                self.row(release, "all", "did not come to its end", true);
                return;
            }
        };
        for set in hooks {
            let name = set.to_string();
            match outcome.watched.remove(&name) {
                Some(watched) => self.judge(release, *set, &watched),
                None => self.row(release, &name, "gave no results", true),
            }
        }
        let took = format!("{} s from boot to end", took.as_secs());
        self.row(release, "", &took, false);
    }

    fn judge(&mut self, release: &str, hooks: Hooks, watched: &Watched) {
        let mut truth = watched.truth.clone();
        for exchange in &mut truth {
            exchange.duration_ns += EMULATION_NS;
        }
        let differences = match watched.passed_over {
            0 => compare(&truth, &watched.records, hooks),
            _ => compare_incomplete(&truth, &watched.records, hooks),
        };
        for difference in differences.iter().take(DIFFERENCES_SHOWN) {
            println!("  {release} {hooks}: {difference}");
        }
        for complaint in watched.complaints.iter().take(DIFFERENCES_SHOWN) {
            println!("  {release} {hooks}: {complaint}");
        }
        let failed = !differences.is_empty() || !watched.complaints.is_empty();
        let mut result = format!(
            "{:5} exchanges {:6} records {:5} differences",
            watched.truth.len(),
            watched.records.len(),
            differences.len()
        );
        if watched.passed_over > 0 {
            let runs = watched.passed_over;
            result += &format!("; incomplete: the kernel has passed over {runs} runs of programs");
        }
        self.row(release, &hooks.to_string(), &result, failed);
    }

    fn row(&mut self, release: &str, hooks: &str, result: &str, failed: bool) {
        let verdict = if failed { "FAILED" } else { "" };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{release:34} {hooks:12} {result} {verdict}");
        self.failed |= failed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kernels_and_hooks_are_tried_unless_some_are_named() {
        let plan = Plan::of(&[]).expect("a plan");
        assert_eq!((plan.kernels.len(), plan.hooks.len()), (4, 3));
        let plan = Plan::of(&["--kernel", "6.1", "--hooks", "fentry"]).expect("a plan");
        assert_eq!(
            (plan.kernels, plan.hooks),
            (vec!["6.1".into()], vec![Hooks::Fentry])
        );
    }

    #[test]
    fn an_unknown_kernel_is_refused_with_those_that_are_known() {
        let refusal = Plan::of(&["--kernel", "2.6"]).err().expect("a refusal");
        assert!(refusal.contains("5.10|6.1|6.12|7.2"), "{refusal}");
    }
}
