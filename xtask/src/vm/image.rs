//! The initial file system: a shell, `wirespan`, the workload, and the script that runs them.

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::{Entry, newc};

const INIT: &str = include_str!("init.sh");

/// Programs that need nothing but the kernel.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the programs and packs them; gives the path of the archive.
pub(crate) fn build(root: &Path, folder: &Path) -> Result<PathBuf, String> {
    let built = folder.join("build");
    let mut cargo = crate::cargo();
    // Emulated processors are slow: optimised, but not with a release's long build.
    cargo
        .args(["build", "--locked", "--target", TARGET])
        .args([
            "--package",
            "wirespan-agent",
            "--package",
            "wirespan-workload",
        ])
        .args([
            "--config",
            "profile.dev.opt-level=1",
            "--config",
            "profile.dev.strip=true",
        ])
        .env("RUSTFLAGS", "-C target-feature=+crt-static")
        .env("CARGO_TARGET_DIR", &built)
        .current_dir(root);
    crate::run(&mut cargo)?;
    let programs = built.join(TARGET).join("debug");
    let program = |path: &Path| read(path).map(Entry::Program);
    let archive = newc(&[
        ("bin", Entry::Folder),
        ("dev", Entry::Folder),
        ("proc", Entry::Folder),
        ("sys", Entry::Folder),
        ("tmp", Entry::Folder),
        ("init", Entry::Program(INIT.into())),
        ("bin/busybox", program(&busybox()?)?),
        ("bin/wirespan", program(&programs.join("wirespan"))?),
        ("bin/workload", program(&programs.join("workload"))?),
    ]);
    let path = folder.join("initrd");
    fs::write(&path, archive).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// A busybox that needs no libraries.
fn busybox() -> Result<PathBuf, String> {
    let places = ["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from);
    let busybox = places.into_iter().find(|place| place.is_file());
    busybox.ok_or_else(|| "vm-test needs a static busybox: apt-get install busybox-static".into())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
