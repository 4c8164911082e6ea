//! Builds the eBPF programs, and checks that the committed object belongs to their source.
//!
//! The object is committed so that nobody needs an eBPF toolchain for `cargo build`. Beside it stands
//! the digest of what it was built from, and of itself: that can be checked without the toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::{cargo, run};

const OBJECT: &str = "capture-bpf/wirespan-capture.o";
const DIGEST: &str = "capture-bpf/wirespan-capture.sha256";
const TARGET: &str = "bpfel-unknown-none";

/// The linker's options: types for the kernel, and stores instead of calls to a memset that counts
/// bytes.
const LINK: &str = "-C debuginfo=2 -C link-arg=--btf -C link-arg=--disable-expand-memcpy-in-order";

/// Debian's compiler for this target comes with a prebuilt `core`.
const RUSTC: &str = "/usr/bin/rustc";

const HOW: &str = "\
install the toolchain (Debian: rustc-web libstd-rust-web-dev-bpf llvm-22-dev libpolly-22-dev \
libzstd-dev; `cargo install bpf-linker --version 0.13.0 --no-default-features --features llvm-22` \
with LLVM_SYS_221_PREFIX=/usr/lib/llvm-22), or set RUSTC to a compiler that has the target";

/// Builds the object and writes it beside its source, with the digest.
pub(crate) fn build(root: &Path) -> Result<(), String> {
    let target_dir = root.join("target/bpf");
    let mut flags = LINK.to_owned();
    for (number, folder) in sources(root).iter().enumerate() {
        // The kernel's messages name the lines of programs: by paths that are the same everywhere.
        flags.push_str(&format!(
            " --remap-path-prefix={}=/{number}",
            folder.display()
        ));
    }
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--target", TARGET])
        .current_dir(root.join("capture-bpf"))
        .env("CARGO_TARGET_DIR", &target_dir)
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", "bpf-linker")
        .env("RUSTFLAGS", flags)
        .env(
            "RUSTC",
            std::env::var_os("WIRESPAN_BPF_RUSTC").unwrap_or_else(|| RUSTC.into()),
        )
        // The target's `core` is not on offer for stable compilers but by this.
        .env("RUSTC_BOOTSTRAP", "1");
    run(&mut build).map_err(|error| format!("{error}\n{HOW}"))?;
    let built = target_dir.join(TARGET).join("release/wirespan-capture-bpf");
    let object = root.join(OBJECT);
    // Nor are the lines of the source kept, which only the verifier's messages would show.
    run(Command::new(objcopy())
        .args(["--strip-debug", "--remove-section=.BTF.ext"])
        .arg(&built)
        .arg(&object))?;
    let digest = root.join(DIGEST);
    fs::write(&digest, digests(root)?)
        .map_err(|error| format!("cannot write {}: {error}", digest.display()))?;
    println!("build-bpf: wrote {OBJECT}");
    Ok(())
}

/// Fails when source or object have changed since they were built together.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let committed = read(&root.join(DIGEST))?;
    if committed == digests(root)?.as_bytes() {
        println!("build-bpf: the committed object belongs to its source");
        return Ok(());
    }
    Err(format!(
        "{OBJECT} does not belong to the source of capture-bpf and capture-abi: run `cargo xtask \
         build-bpf` and commit what it writes"
    ))
}

/// Digests of the source and of the object, as they are now.
fn digests(root: &Path) -> Result<String, String> {
    let mut files = Vec::new();
    for folder in ["capture-bpf/src", "capture-abi/src"] {
        collect(&root.join(folder), &mut files)?;
    }
    for file in ["capture-bpf/Cargo.toml", "capture-bpf/Cargo.lock"] {
        files.push(root.join(file));
    }
    files.sort();
    let mut source = Sha256::new();
    for file in &files {
        let name = file.strip_prefix(root).unwrap_or(file);
        let bytes = read(file)?;
        source.update(name.to_string_lossy().as_bytes());
        source.update(bytes.len().to_le_bytes());
        source.update(&bytes);
    }
    let object = Sha256::digest(read(&root.join(OBJECT))?);
    Ok(format!(
        "source {}\nobject {}\n",
        hex(&source.finalize()),
        hex(&object)
    ))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let cannot = |error| format!("cannot read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn objcopy() -> PathBuf {
    let debian = PathBuf::from("/usr/lib/llvm-22/bin/llvm-objcopy");
    if debian.exists() {
        debian
    } else {
        "llvm-objcopy".into()
    }
}

/// Folders that the sources lie in.
fn sources(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    if let Ok(registries) = fs::read_dir(home.join("registry/src")) {
        folders.extend(registries.flatten().map(|entry| entry.path()));
    }
    folders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_object_belongs_to_its_source() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        check(root).unwrap();
    }
}
