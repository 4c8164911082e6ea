//! Chores of the repository: `cargo xtask <chore>`.
//!
//! Nothing here is shipped, and no other crate uses it.

mod arrows;
mod bpf;
mod parser_template;
mod vm;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
Usage: cargo xtask <chore>

  check-arrows              fails when a crate uses one that it must not (docs/ARCHITECTURE.md)
  build-bpf [--check]       builds the eBPF programs and writes their object; --check only fails when
                            the committed object does not belong to the source
  gen-fixtures [CASE...]    records tests/pcaps again; needs root, tcpdump, nginx, redis, curl, node
  gen-seeds                 cuts the fuzz corpora's seeds out of tests/pcaps
  bless                     rewrites the goldens: review the difference before you commit it
  new-parser NAME           starts a parser in parsers/NAME, with laws, fixture folder, fuzz target
  vm-test [--kernel 5.10|6.1|6.12|7.2]... [--hooks kprobe|fentry|tracepoint]...
                            runs the workload under `wirespan tail` on other kernels, in virtual
                            machines; needs qemu-system-x86, busybox-static, and a Debian mirror
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    let done = match arguments.as_slice() {
        ["check-arrows"] => arrows::check(&root),
        ["build-bpf"] => bpf::build(&root),
        ["build-bpf", "--check"] => bpf::check(&root),
        ["gen-fixtures", cases @ ..] => run(python(&root, "record.py").args(cases)),
        ["gen-seeds"] => run(&mut python(&root, "seeds.py")),
        ["bless"] => run(&mut bless(&root)),
        ["vm-test", options @ ..] => vm::test(&root, options),
        ["new-parser", name] => parser_template::write(&root, name),
        [] | ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => Err(format!("not a chore: {}\n\n{USAGE}", arguments.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The repository that `cargo xtask` was called in: cargo runs a program with the folder of its
/// package in the environment. Not the folder at build time, which a shared target folder may have
/// from a copy of the repository.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| "xtask".into());
    let here = Path::new(&here);
    here.parent().unwrap_or(here).to_owned()
}

fn python(root: &Path, script: &str) -> Command {
    let mut command = Command::new("python3");
    // `-B`: leave no __pycache__ in the source tree.
    command
        .arg("-B")
        .arg(root.join("tests/pcaps/gen").join(script));
    command
}

/// The golden tests of whichever crates have any, told to rewrite instead of compare.
fn bless(root: &Path) -> Command {
    let mut command = cargo();
    command
        .args(["test", "--workspace", "--locked", "--test", "goldens"])
        .env("UPDATE_GOLDEN", "1")
        .current_dir(root);
    command
}

/// The cargo that runs this.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} failed: {status}")),
        Err(error) => Err(format!("cannot run {program}: {error}")),
    }
}
