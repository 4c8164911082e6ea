//! Containers, pods and systemd units by the control groups of a process.
//!
//! The kernel lists them in `/proc/PID/cgroup` as `hierarchy:controllers:path`: one line in version 2,
//! one for each hierarchy in version 1. Container engines name the groups after their containers, each
//! in a way of its own, with systemd (`docker-ID.scope`) and without (`/docker/ID`):
//!
//! ```text
//! /system.slice/docker-ID.scope                                        docker
//! /kubepods.slice/kubepods-podUID.slice/cri-containerd-ID.scope        containerd
//! /system.slice/containerd.service/kubepods-podUID.slice:cri-containerd:ID
//! /kubepods/burstable/podUID/crio-ID                                   cri-o
//! /machine.slice/libpod-ID.scope/container                             podman
//! ```

/// Where a process is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Placement {
    /// The innermost container.
    pub container: Option<Container>,
    /// The pod that the container belongs to: its UID.
    pub pod: Option<String>,
    /// The systemd service, without its suffix; inside of the container, if there is one.
    pub unit: Option<String>,
}

/// A container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// Its id: 64 hexadecimal digits.
    pub id: String,
    /// What runs it, where the group's name says so.
    pub engine: Option<Engine>,
}

/// What runs containers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Engine {
    /// Docker.
    Docker,
    /// containerd, for Kubernetes or by itself.
    Containerd,
    /// CRI-O.
    Crio,
    /// Podman.
    Podman,
}

/// Groups that are looked at: more than there are hierarchies.
const MAX_LINES: usize = 64;

impl Placement {
    /// Reads `/proc/PID/cgroup`. What is no text is passed over.
    #[must_use]
    pub fn read(text: &[u8]) -> Self {
        let mut placement = Self::default();
        for line in text.split(|byte| *byte == b'\n').take(MAX_LINES) {
            let path = line.splitn(3, |byte| *byte == b':').nth(2);
            let Some(path) = path.and_then(|path| str::from_utf8(path).ok()) else {
                continue;
            };
            placement.group(path);
        }
        placement
    }

    /// Takes what a group's path says that was not known.
    fn group(&mut self, path: &str) {
        let mut container = None;
        let mut pod = None;
        let mut unit = None;
        for segment in path.split('/') {
            if let Some(found) = Container::of(segment, container_above(path)) {
                container = Some(found);
                unit = None;
            } else if let Some(name) = segment.strip_suffix(".service") {
                unit = Some(name);
            }
            pod = pod_of(segment).or(pod);
        }
        self.container = self.container.take().or(container);
        self.pod = self.pod.take().or(pod);
        if let Some(unit) = unit.filter(|unit| is_service(unit)) {
            self.unit.get_or_insert_with(|| unit.to_owned());
        }
    }
}

/// The engine whose folder a path without systemd goes through.
fn container_above(path: &str) -> Option<Engine> {
    path.split('/').rev().find_map(|segment| match segment {
        "docker" => Some(Engine::Docker),
        "kubepods" | "k8s.io" => Some(Engine::Containerd),
        "libpod_parent" => Some(Engine::Podman),
        _ => None,
    })
}

/// Not the manager of a user's services, which is in every path below it; nor the engine in whose
/// group a container was put.
fn is_service(unit: &str) -> bool {
    !unit.is_empty() && !unit.starts_with("user@")
}

impl Container {
    /// The container that a segment of a path names.
    fn of(segment: &str, above: Option<Engine>) -> Option<Self> {
        let name = segment.strip_suffix(".scope").unwrap_or(segment);
        let id = &name[name.rfind(['-', ':']).map_or(0, |at| at + 1)..];
        if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let prefix = name[..name.len() - id.len()].trim_end_matches(['-', ':']);
        let engine = match prefix.rsplit(':').next().unwrap_or_default() {
            "" => above,
            "docker" => Some(Engine::Docker),
            "cri-containerd" | "nerdctl" | "containerd" => Some(Engine::Containerd),
            "crio" => Some(Engine::Crio),
            "libpod" => Some(Engine::Podman),
            // The process that looks after a container is outside of it.
            prefix if prefix.ends_with("conmon") => return None,
            _ => None,
        };
        Some(Self {
            id: id.to_ascii_lowercase(),
            engine,
        })
    }
}

/// The pod's UID in `podUID`, and in `kubepods-burstable-podUID.slice`, which has underscores for
/// hyphens.
fn pod_of(segment: &str) -> Option<String> {
    let segment = segment.split(':').next()?;
    let name = segment.strip_suffix(".slice").unwrap_or(segment);
    let at = match name.starts_with("pod") {
        true => 0,
        false => name.find("-pod")? + 1,
    };
    let uid = name[at + "pod".len()..].replace('_', "-");
    let hex = uid
        .bytes()
        .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    (hex && matches!(uid.len(), 32 | 36)).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const POD: &str = "11112222-3333-4444-5555-666677778888";
    const POD_: &str = "11112222_3333_4444_5555_666677778888";

    fn placed(path: &str) -> Placement {
        Placement::read(format!("0::{path}\n").as_bytes())
    }

    fn container(path: &str) -> Option<(String, Option<Engine>)> {
        let container = placed(path).container?;
        Some((container.id, container.engine))
    }

    #[test]
    fn containers_are_found_in_the_layouts_of_all_engines() {
        use Engine::{Containerd, Crio, Docker, Podman};
        for (path, engine) in [
            (format!("/docker/{ID}"), Some(Docker)),
            (format!("/system.slice/docker-{ID}.scope"), Some(Docker)),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope"
                ),
                Some(Docker),
            ),
            (format!("/docker/{OTHER}/docker/{ID}"), Some(Docker)),
            (format!("/../../docker/{ID}"), Some(Docker)),
            (format!("/default/{ID}"), None),
            (format!("/k8s.io/{ID}"), Some(Containerd)),
            (
                format!("/system.slice/nerdctl-{ID}.scope"),
                Some(Containerd),
            ),
            (
                format!("/kubepods/burstable/pod{POD}/{ID}"),
                Some(Containerd),
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD_}.slice/cri-containerd-{ID}.scope"
                ),
                Some(Containerd),
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{ID}"
                ),
                Some(Containerd),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{POD_}.slice/crio-{ID}.scope"),
                Some(Crio),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{POD_}.slice/crio-{ID}.scope/container"),
                Some(Crio),
            ),
            (
                format!("/kubepods/besteffort/pod{POD}/crio-{ID}"),
                Some(Crio),
            ),
            (format!("/machine.slice/libpod-{ID}.scope"), Some(Podman)),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Some(Podman),
            ),
            (
                format!(
                    "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"
                ),
                Some(Podman),
            ),
            (format!("/libpod_parent/libpod-{ID}"), Some(Podman)),
            (
                format!(
                    "/docker/{OTHER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{POD_}.slice/cri-containerd-{ID}.scope"
                ),
                Some(Containerd),
            ),
        ] {
            assert_eq!(container(&path), Some((ID.to_owned(), engine)), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_is_none() {
        for path in [
            "/".to_owned(),
            String::new(),
            "/system.slice/nginx.service".to_owned(),
            "/user.slice/user-1000.slice/session-3.scope".to_owned(),
            "/docker/short".to_owned(),
            format!("/docker/{}g", &ID[..63]),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/kubepods.slice/crio-conmon-{ID}.scope"),
        ] {
            assert_eq!(container(&path), None, "{path}");
        }
    }

    #[test]
    fn pods_are_known_by_their_uid() {
        for path in [
            format!("/kubepods/burstable/pod{POD}/{ID}"),
            format!("/kubepods.slice/kubepods-burstable-pod{POD_}.slice/crio-{ID}.scope"),
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{ID}"
            ),
        ] {
            assert_eq!(placed(&path).pod.as_deref(), Some(POD), "{path}");
        }
        assert_eq!(placed("/pods/podcast").pod, None);
        assert_eq!(placed(&format!("/docker/{ID}")).pod, None);
    }

    #[test]
    fn units_are_services_and_the_innermost() {
        let unit = |path: &str| placed(path).unit;
        assert_eq!(
            unit("/system.slice/nginx.service").as_deref(),
            Some("nginx")
        );
        assert_eq!(
            unit("/system.slice/system-postgresql.slice/postgresql@15-main.service").as_deref(),
            Some("postgresql@15-main")
        );
        let user = "/user.slice/user-1000.slice/user@1000.service";
        assert_eq!(
            unit(&format!("{user}/app.slice/sync.service")).as_deref(),
            Some("sync")
        );
        assert_eq!(unit(user), None);
        assert_eq!(unit("/user.slice/user-1000.slice/session-3.scope"), None);
        let in_container = format!("/docker/{ID}/system.slice/app.service");
        assert_eq!(unit(&in_container).as_deref(), Some("app"));
        assert_eq!(
            unit(&format!(
                "/system.slice/containerd.service/x:cri-containerd:{ID}"
            )),
            None
        );
    }

    #[test]
    fn any_hierarchy_of_version_1_tells() {
        let text = format!(
            "12:pids:/docker/{ID}\n11:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice/docker.service\n"
        );
        let placement = Placement::read(text.as_bytes());
        assert_eq!(
            placement.container.map(|found| found.id).as_deref(),
            Some(ID)
        );
        let text = "4:memory:/process_api/9400\n1:name=systemd:/system.slice/cron.service\n0::/\n";
        assert_eq!(
            Placement::read(text.as_bytes()).unit.as_deref(),
            Some("cron")
        );
    }

    #[test]
    fn hostile_text_is_passed_over() {
        let mut text = b"0::/\xff\xfe\nno colons\n::\n:::::\n0::/-\n0::/:\n".to_vec();
        text.extend(
            "0::/é-é:é.scope/podé/-pod.slice\n"
                .repeat(10_000)
                .into_bytes(),
        );
        assert_eq!(Placement::read(&text), Placement::default());
    }
}
