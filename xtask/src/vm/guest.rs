//! A virtual machine: boots, runs `init.sh`, and hands over what that found.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use wirespan_workload::{Hooks, Truth};

use super::kernels::Kernel;

/// Longest life of a machine, for each set of hooks and to boot.
const LONGEST_RUN: Duration = Duration::from_secs(150);

/// Lines of the console that are shown when a machine does not come to its end.
const CONSOLE_SHOWN: usize = 40;

/// What a machine found.
pub(crate) struct Outcome {
    /// By set of hooks.
    pub(crate) watched: BTreeMap<String, Watched>,
}

/// What came of a workload under `wirespan tail`.
#[derive(Default)]
pub(crate) struct Watched {
    pub(crate) truth: Vec<Truth>,
    pub(crate) records: Vec<Value>,
    /// Runs of programs that the kernel has passed over, as it counts them since Linux 5.12.
    pub(crate) passed_over: u64,
    /// What programs that should have said nothing said.
    pub(crate) complaints: Vec<String>,
}

/// Boots `kernel` with the initial file system `image`.
///
/// # Errors
/// The machine did not come to its end in time, or what it found cannot be read.
pub(crate) fn boot(
    folder: &Path,
    kernel: &Kernel,
    image: &Path,
    hooks: &[Hooks],
) -> Result<Outcome, String> {
    let console = folder.join(format!("{}.console", kernel.release));
    let results = folder.join(format!("{}.results", kernel.release));
    let sets: Vec<String> = hooks.iter().map(Hooks::to_string).collect();
    let mut machine = Command::new("qemu-system-x86_64");
    machine
        .args([
            "-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024",
        ])
        .args(["-display", "none", "-monitor", "none", "-no-reboot"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .arg("-serial")
        .arg(format!("file:{}", results.display()))
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .arg("-append")
        .arg(format!(
            "console=ttyS0 panic=-1 quiet hooks={}",
            sets.join(",")
        ))
        .stdin(Stdio::null());
    let machine = machine.spawn().map_err(|error| {
        format!("cannot run qemu-system-x86_64 (apt-get install qemu-system-x86): {error}")
    })?;
    let longest = LONGEST_RUN * (1 + hooks.len() as u32);
    let ended = wait(machine, longest);
    let found = fs::read(&results).map_err(|error| error.to_string());
    let files = found.and_then(|found| files(&found));
    match (ended, files) {
        (Ok(()), Ok(files)) if files.contains_key("end") => {
            keep(&folder.join(&kernel.release), &files)?;
            outcome(&files)
        }
        (ended, files) => {
            let why = ended.err().or(files.err());
            let why = why.unwrap_or_else(|| "it ended before its script".into());
            Err(format!(
                "{}: {why}\n{}",
                kernel.release,
                last_lines(&console)
            ))
        }
    }
}

fn wait(mut machine: Child, longest: Duration) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match machine.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("qemu failed: {status}")),
            Ok(None) if begun.elapsed() < longest => thread::sleep(Duration::from_millis(100)),
            Ok(None) => {
                let killed = machine.kill().and_then(|()| machine.wait());
                let took = longest.as_secs();
                return Err(killed.map_or_else(
                    |error| format!("cannot be ended: {error}"),
                    |_| format!("not done after {took} s"),
                ));
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

fn last_lines(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_SHOWN)..].join("\n")
}

/// The files in what came from the serial port: each behind a line `file NAME LENGTH`.
fn files(mut found: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    while let Some(end) = found.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&found[..end]).into_owned();
        let cut = || format!("the results are cut off or broken at: {line}");
        let (name, len) = line
            .strip_prefix("file ")
            .and_then(|l| l.split_once(' '))
            .ok_or_else(cut)?;
        let len: usize = len.parse().map_err(|_| cut())?;
        let contents = found.get(end + 1..end + 1 + len).ok_or_else(cut)?;
        files.insert(name.to_owned(), contents.to_vec());
        found = &found[end + 1 + len..];
    }
    Ok(files)
}

/// Leaves the files in `folder`, for whoever wants to know more than the table says.
fn keep(folder: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    for (name, contents) in files {
        let path = folder.join(name);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = made.and_then(|()| fs::write(&path, contents));
        written.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn outcome(files: &BTreeMap<String, Vec<u8>>) -> Result<Outcome, String> {
    let mut watched: BTreeMap<String, Watched> = BTreeMap::new();
    for (name, contents) in files {
        let Some((set, kind)) = name.split_once('/') else {
            continue;
        };
        let text = String::from_utf8_lossy(contents);
        let watched = watched.entry(set.into()).or_default();
        match kind {
            "truth" => {
                let truth = text.lines().map(Truth::from_json).collect::<Result<_, _>>();
                watched.truth = truth.map_err(|error| error.to_string())?;
            }
            "records" => {
                let records = text
                    .lines()
                    .map(serde_json::from_str)
                    .collect::<Result<_, _>>();
                watched.records = records.map_err(|error| format!("{name}: {error}"))?;
            }
            "passed_over" => {
                let number = text.trim().parse();
                watched.passed_over = number.map_err(|error| format!("{name}: {error}"))?;
            }
            "complaints" => watched.complaints = text.lines().map(str::to_owned).collect(),
            // What doctor said is for people.
            _ => {}
        }
    }
    Ok(Outcome { watched })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_lengths() {
        let files = files(b"file doctor 7\nfile x\nfile end 0\n").expect("two files");
        assert_eq!(files["doctor"], b"file x\n");
        assert_eq!(files["end"], b"");
    }

    #[test]
    fn results_that_are_cut_off_are_refused() {
        assert!(files(b"file doctor 70\nfile x\n").is_err());
        assert!(files(b"Kernel panic\n").is_err());
    }
}
