//! Kernels of Debian, fetched with apt from the mirrors that this machine uses, without touching
//! what it has installed or knows.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Suites that hold kernels, by the mirror's label.
const SUITES: [(&str, &[&str]); 2] = [
    (
        "Debian",
        &["bookworm", "bookworm-backports", "trixie-backports"],
    ),
    (
        "Debian-Security",
        &["bullseye-security", "bookworm-security"],
    ),
];

/// A kernel that boots.
pub(crate) struct Kernel {
    /// Such as `6.12.107+deb12-cloud-amd64`.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
}

/// The newest kernel of the line `version`, such as `6.12`; fetched once, then kept in `folder`.
pub(crate) fn fetch(folder: &Path, version: &str) -> Result<Kernel, String> {
    let kept = folder.join("kernels").join(version);
    if let Some(kernel) = kept_in(&kept) {
        return Ok(kernel);
    }
    let apt = Apt::new(&folder.join("apt"))?;
    let package = apt.newest(version)?;
    println!("vm-test: fetching {package}");
    let archive = apt.download(&package)?;
    unpack(&archive, &kept)?;
    kept_in(&kept).ok_or_else(|| format!("{package} holds no kernel"))
}

/// The kernel in `kept`: a folder named after its release, with the image in it.
fn kept_in(kept: &Path) -> Option<Kernel> {
    let mut folders = fs::read_dir(kept).ok()?.filter_map(Result::ok);
    folders.find_map(|entry| {
        let image = entry.path().join("vmlinuz");
        let release = entry.file_name().into_string().ok()?;
        image.is_file().then_some(Kernel { release, image })
    })
}

/// Takes the kernel's image out of a package.
fn unpack(archive: &Path, kept: &Path) -> Result<(), String> {
    let scratch = kept.join("unpacked");
    make(&scratch)?;
    let mut contents = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run dpkg-deb: {error}"))?;
    let tar = contents.stdout.take().ok_or("dpkg-deb has no output")?;
    // In one place or the other, depending on the package; tar complains of the one that is not.
    Command::new("tar")
        .args([
            "-x",
            "--wildcards",
            "./boot/vmlinuz-*",
            "./usr/lib/modules/*/vmlinuz",
        ])
        .current_dir(&scratch)
        .stdin(tar)
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run tar: {error}"))?;
    contents
        .wait()
        .map_err(|error| format!("dpkg-deb: {error}"))?;
    let (release, image) = found_in(&scratch).ok_or("the package holds no kernel")?;
    let place = kept.join(release);
    make(&place)?;
    let moved = fs::rename(image, place.join("vmlinuz")).and_then(|()| fs::remove_dir_all(scratch));
    moved.map_err(|error| format!("{}: {error}", place.display()))
}

fn found_in(scratch: &Path) -> Option<(String, PathBuf)> {
    let entries = |folder: &str| fs::read_dir(scratch.join(folder)).into_iter().flatten();
    let named = entries("boot").filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some((name.strip_prefix("vmlinuz-")?.to_owned(), entry.path()))
    });
    named.or_else(|| {
        let mut modules = entries("usr/lib/modules").filter_map(Result::ok);
        modules.find_map(|entry| {
            let image = entry.path().join("vmlinuz");
            image
                .is_file()
                .then_some((entry.file_name().into_string().ok()?, image))
        })
    })
}

/// An apt with sources and lists of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self, String> {
        for part in ["lists/partial", "cache/archives/partial"] {
            make(&folder.join(part))?;
        }
        let folder = folder.canonicalize().map_err(|error| error.to_string())?;
        let apt = Self { folder };
        let sources = apt.folder.join("sources.list");
        if !sources.exists() {
            let known = output(Command::new("apt-get").args([
                "indextargets",
                "--format",
                "$(REPO_URI) $(LABEL)",
                "Created-By: Packages",
            ]))?;
            fs::write(&sources, sources_of(&known)?).map_err(|error| error.to_string())?;
            // A suite that is not there is none of ours to worry about: the others may do.
            if let Err(why) = output(apt.command("apt-get").arg("update")) {
                println!("vm-test: {why}");
            }
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, part) in [
            ("Dir::Etc::SourceList", "sources.list"),
            ("Dir::Etc::SourceParts", "no-parts"),
            ("Dir::State::Lists", "lists"),
            ("Dir::Cache", "cache"),
        ] {
            let value = self.folder.join(part);
            command.arg(format!("-o{option}={}", value.display()));
        }
        command.args(["-oAcquire::Check-Valid-Until=false", "-qq"]);
        command.current_dir(&self.folder);
        command
    }

    fn newest(&self, version: &str) -> Result<String, String> {
        let dots = version.replace('.', "\\.");
        // Recent packages named linux-image are empty and need one named linux-binary.
        for kind in ["binary", "image"] {
            let pattern = format!("^linux-{kind}-{dots}\\.[0-9].*-cloud-amd64$");
            let search = ["search", "--names-only", &pattern];
            let found = output(self.command("apt-cache").args(search))?;
            let names = found.lines().filter_map(|line| line.split(' ').next());
            if let Some(newest) = names.max_by_key(|name| numbers(name)) {
                return Ok(newest.to_owned());
            }
        }
        Err(format!("no mirror of this machine has a kernel {version}"))
    }

    fn download(&self, package: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join("packages").join(package);
        make(&folder)?;
        output(
            self.command("apt-get")
                .current_dir(&folder)
                .args(["download", package]),
        )?;
        let mut files = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        let file = files.next().map(|entry| entry.path());
        file.ok_or_else(|| format!("apt-get download {package} left nothing"))
    }
}

/// Our suites, on the mirrors of which `known` has an address and a label a line.
fn sources_of(known: &str) -> Result<String, String> {
    let mut sources = String::new();
    for (label, suites) in SUITES {
        let mut mirrors = known.lines().filter_map(|line| line.split_once(' '));
        let mirror = mirrors.find(|(_, of)| *of == label);
        let (mirror, _) =
            mirror.ok_or_else(|| format!("apt on this machine knows no {label} mirror"))?;
        for suite in suites {
            sources += &format!("deb {mirror} {suite} main\n");
        }
    }
    Ok(sources)
}

/// The numbers in a name, so that 6.12.100 is newer than 6.12.95.
fn numbers(name: &str) -> Vec<u64> {
    let parts = name.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))
}

fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} failed: {complaint}"));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{program}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_made_of_the_mirrors_that_are_known() {
        let known = "file:/backports/ Debian Backports\nfile:/debian/ Debian\n\
                     file:/security/ Debian-Security\n";
        let sources = sources_of(known).expect("both mirrors");
        assert!(sources.contains("deb file:/debian/ trixie-backports main\n"));
        assert!(sources.contains("deb file:/security/ bullseye-security main\n"));
        assert!(sources_of("file:/ubuntu/ Ubuntu\n").is_err());
    }

    #[test]
    fn the_newest_is_told_by_its_numbers() {
        let names = [
            "linux-image-6.12.95+deb12-cloud-amd64",
            "linux-image-6.12.100+deb12-cloud-amd64",
        ];
        assert_eq!(
            names.iter().max_by_key(|name| numbers(name)),
            Some(&names[1])
        );
    }
}
