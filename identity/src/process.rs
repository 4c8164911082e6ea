//! What is known of a process, and what its service is called.

use std::path::{Path, PathBuf};

use crate::cgroup::Placement;
use crate::environ::Declared;
use crate::oci::Names;
use crate::{command, files, oci};

/// Most that is read of an environment: what the kernel allows arguments and environment together by
/// default.
const MAX_ENVIRON: u64 = 2 << 20;
const MAX_CMDLINE: u64 = 64 << 10;
const MAX_SHORT: u64 = 64 << 10;

/// Where processes are read: a file system with `/proc` in it.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

impl Default for Root {
    fn default() -> Self {
        Self::new("/")
    }
}

/// What is known of a process.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Process {
    /// File name of its executable, as it was when it was started.
    pub executable: Option<String>,
    /// Path of its executable, as its own file system has it.
    pub path: Option<String>,
    /// What it runs, if it is an interpreter.
    pub script: Option<String>,
    /// The name under which it was started, where the kernel has the same for it: one executable may be
    /// several programs, by links to it.
    pub started_as: Option<String>,
    /// Container, pod, systemd unit.
    pub placement: Placement,
    /// What its container is called.
    pub names: Names,
    /// What it says of itself.
    pub declared: Declared,
}

impl Root {
    /// A file system other than the machine's own: for tests, and for agents in containers.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether there is a process of this number.
    #[must_use]
    pub fn has(&self, pid: u32) -> bool {
        self.0.join("proc").join(pid.to_string()).exists()
    }

    /// Reads a process; `None` where there is none of this number. What may not be read, or is gone
    /// before it is read, is not known.
    #[must_use]
    pub fn process(&self, pid: u32) -> Option<Process> {
        let folder = self.0.join("proc").join(pid.to_string());
        let read = |name: &str, most| files::read(&folder.join(name), most);
        // The first to be read: that of a process that has ended is not there.
        let placement = Placement::read(&read("cgroup", MAX_SHORT)?);
        let path = std::fs::read_link(folder.join("exe")).ok();
        let path = path.map(|path| path.to_string_lossy().into_owned());
        let path = path.map(|path| match path.strip_suffix(" (deleted)") {
            Some(path) => path.to_owned(),
            None => path,
        });
        let executable = path.as_deref().and_then(file_name);
        let cmdline = read("cmdline", MAX_CMDLINE).unwrap_or_default();
        let script = executable
            .as_deref()
            .and_then(|name| command::script(name, &cmdline));
        let environ = read("environ", MAX_ENVIRON).unwrap_or_default();
        let names = placement.container.as_ref();
        let comm = read("comm", MAX_SHORT).unwrap_or_default();
        Some(Process {
            executable,
            path,
            script,
            started_as: command::started_as(&cmdline, &comm),
            names: names
                .map(|container| oci::names(&self.0, container))
                .unwrap_or_default(),
            declared: Declared::read(&environ),
            placement,
        })
    }
}

fn file_name(path: &str) -> Option<String> {
    let name = path.rsplit('/').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

impl Process {
    /// The name of the process's service: what it says itself; else its container's name, its systemd
    /// unit, the script that it runs, the name that it was started as, or its executable. `None` where nothing is known.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        let names = [
            &self.declared.service,
            &self.names.container,
            &self.placement.unit,
            &self.script,
            &self.started_as,
            &self.executable,
        ];
        names.into_iter().find_map(|name| name.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// A file system that is gone after the test.
    struct Fake(Root);

    impl Fake {
        fn new(name: &str) -> Self {
            let folder = format!("wirespan-identity-{}-{name}", std::process::id());
            let fake = Self(Root::new(std::env::temp_dir().join(folder)));
            fs::create_dir_all(fake.0.path()).expect("a folder");
            fake
        }

        fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> &Self {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, bytes).expect("a file");
            self
        }

        fn executable(&self, pid: u32, path: impl AsRef<[u8]>) -> &Self {
            let path = std::ffi::OsStr::from_bytes(path.as_ref());
            symlink(path, self.0.path().join(format!("proc/{pid}/exe"))).expect("a link");
            self
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.path());
        }
    }

    #[test]
    fn services_are_named_by_the_best_that_is_known() {
        let fake = Fake::new("services");
        let docker = format!("0::/system.slice/docker-{ID}.scope\n");
        fake.write("proc/7/cgroup", "0::/\n")
            .executable(7, "/usr/bin/python3.11");
        let service = || {
            fake.0
                .process(7)
                .expect("a process")
                .service()
                .map(str::to_owned)
        };
        assert_eq!(service().as_deref(), Some("python3.11"));
        fake.write("proc/7/cmdline", "python3\0/srv/cart.py\0--password=x\0");
        assert_eq!(service().as_deref(), Some("cart"));
        fake.write("proc/7/cgroup", "0::/system.slice/shop.service\n");
        assert_eq!(service().as_deref(), Some("shop"));
        fake.write("proc/7/cgroup", &docker);
        assert_eq!(
            service().as_deref(),
            Some("cart"),
            "a container without a name"
        );
        let config = format!("var/lib/docker/containers/{ID}/config.v2.json");
        fake.write(&config, r#"{"Name":"/web"}"#);
        assert_eq!(service().as_deref(), Some("web"));
        fake.write(
            "proc/7/environ",
            "A=b\0OTEL_RESOURCE_ATTRIBUTES=service.name=by-attribute\0",
        );
        assert_eq!(service().as_deref(), Some("by-attribute"));
        fake.write("proc/7/environ", "OTEL_SERVICE_NAME=by-name\0");
        assert_eq!(service().as_deref(), Some("by-name"));
        let process = fake.0.process(7).expect("a process");
        assert_eq!(process.placement.container.expect("a container").id, ID);
    }

    #[test]
    fn pods_are_named_by_the_bundles_of_their_containers() {
        let fake = Fake::new("pods");
        let slice = "kubepods.slice/kubepods-pod11112222_3333_4444_5555_666677778888.slice";
        let annotations = |prefix: &str| {
            format!(
                r#"{{"annotations":{{"{prefix}.container-name":"cart","{prefix}.sandbox-name":"cart-1","{prefix}.sandbox-namespace":"shop"}}}}"#
            )
        };
        fake.write(
            "proc/1/cgroup",
            format!("0::/{slice}/cri-containerd-{ID}.scope"),
        );
        fake.write(
            &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
            annotations("io.kubernetes.cri"),
        );
        fake.write("proc/2/cgroup", format!("0::/{slice}/crio-{ID}.scope"));
        fake.write(
            &format!("run/containers/storage/overlay-containers/{ID}/userdata/config.json"),
            r#"{"annotations":{"io.kubernetes.container.name":"cart","io.kubernetes.pod.name":"cart-1","io.kubernetes.pod.namespace":"shop"}}"#,
        );
        for pid in [1, 2] {
            let process = fake.0.process(pid).expect("a process");
            assert_eq!(process.service(), Some("cart"));
            assert_eq!(process.names.pod.as_deref(), Some("cart-1"));
            assert_eq!(process.names.namespace.as_deref(), Some("shop"));
        }
    }

    #[test]
    fn what_is_hostile_or_gone_does_no_harm() {
        let fake = Fake::new("hostile");
        assert_eq!(fake.0.process(9), None);
        fake.write("proc/9/cgroup", "0::/\n")
            .executable(9, "/tmp/\u{ff}app (deleted)");
        assert_eq!(
            fake.0.process(9).expect("a process").executable.as_deref(),
            Some("\u{ff}app")
        );
        fake.write("proc/8/cgroup", [0xff; 1000])
            .executable(8, b"/tmp/\xff\xfe");
        fake.write("proc/8/environ", vec![b'x'; 3 << 20]);
        fake.write("proc/8/cmdline", vec![0; 1 << 20]);
        let process = fake.0.process(8).expect("a process");
        assert_eq!(process.service(), Some("\u{fffd}\u{fffd}"));
        // A folder in place of a file, and no executable, as kernel threads have none.
        fake.write("proc/6/environ/x", "")
            .write("proc/6/cgroup", "");
        assert_eq!(fake.0.process(6).expect("a process").service(), None);
    }

    #[test]
    fn this_process_is_read_from_the_machine_itself() {
        let process = Root::default().process(std::process::id());
        let process = process.expect("this process");
        let own = std::env::current_exe().expect("a path");
        assert_eq!(process.path.as_deref(), own.to_str());
        assert!(process.service().is_some());
    }
}
