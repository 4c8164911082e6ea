//! Names of containers, by what their engines keep on the disk.
//!
//! Docker writes `config.v2.json` for each container. The others start containers from a bundle whose
//! `config.json` has annotations (<https://github.com/opencontainers/runtime-spec/blob/v1.2.0/config.md#annotations>);
//! for those of Kubernetes they name container, pod and namespace, so that no API server needs to be
//! asked. Both files are full of secrets: nothing but these names is taken of them.

use std::path::Path;

use serde_json::Value;

use crate::cgroup::{Container, Engine};
use crate::files;

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// What a container is called.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Names {
    /// The container.
    pub container: Option<String>,
    /// Its pod.
    pub pod: Option<String>,
    /// The pod's namespace.
    pub namespace: Option<String>,
}

/// Folders of Docker's containers, and of bundles; `{}` is the container's id.
const DOCKER: [&str; 1] = ["var/lib/docker/containers/{}/config.v2.json"];
const CONTAINERD: [&str; 3] = [
    "run/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
    "run/containerd/io.containerd.runtime.v2.task/default/{}/config.json",
    "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
];
const STORAGE: [&str; 2] = [
    "run/containers/storage/overlay-containers/{}/userdata/config.json",
    "var/lib/containers/storage/overlay-containers/{}/userdata/config.json",
];

/// Reads what is known of a container under the file system `root`.
#[must_use]
pub fn names(root: &Path, container: &Container) -> Names {
    let places: Vec<&str> = match container.engine {
        Some(Engine::Docker) => DOCKER.to_vec(),
        Some(Engine::Containerd) => CONTAINERD.to_vec(),
        Some(Engine::Crio | Engine::Podman) => STORAGE.to_vec(),
        None => [&DOCKER[..], &CONTAINERD, &STORAGE].concat(),
    };
    let found = places.into_iter().find_map(|place| {
        let text = files::read(&root.join(place.replace("{}", &container.id)), MAX_FILE)?;
        serde_json::from_slice(&text).ok()
    });
    found.as_ref().map(read).unwrap_or_default()
}

/// Takes the names out of either file.
fn read(config: &Value) -> Names {
    let annotations = match &config["annotations"] {
        Value::Null => &config["Config"]["Labels"],
        annotations => annotations,
    };
    let annotation = |keys: [&str; 2]| keys.into_iter().find_map(|key| plain(&annotations[key]));
    let own = || plain(&config["Name"]).map(|name| name.trim_start_matches('/').to_owned());
    let podman =
        || plain(&annotations["io.container.manager"]).and_then(|_| plain(&config["hostname"]));
    let container = annotation([
        "io.kubernetes.cri.container-name",
        "io.kubernetes.container.name",
    ]);
    Names {
        container: container.or_else(own).or_else(podman),
        pod: annotation(["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
        namespace: annotation([
            "io.kubernetes.cri.sandbox-namespace",
            "io.kubernetes.pod.namespace",
        ]),
    }
}

fn plain(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let plain = !text.is_empty() && text.len() <= 253 && !text.contains(char::is_control);
    plain.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(json: &str) -> [Option<String>; 3] {
        let names = read(&serde_json::from_str(json).expect("JSON"));
        [names.container, names.pod, names.namespace]
    }

    fn some(names: [&str; 3]) -> [Option<String>; 3] {
        names.map(|name| (!name.is_empty()).then(|| name.to_owned()))
    }

    #[test]
    fn each_engine_has_its_own_words() {
        let docker = r#"{"Name":"/web","Config":{"Env":["PASSWORD=x"],"Labels":{"a":"b"}}}"#;
        assert_eq!(names_of(docker), some(["web", "", ""]));
        let containerd = r#"{"process":{"env":["A=b"]},"annotations":{
            "io.kubernetes.cri.container-name":"cart","io.kubernetes.cri.sandbox-name":"cart-7d9-x2",
            "io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
        assert_eq!(names_of(containerd), some(["cart", "cart-7d9-x2", "shop"]));
        let crio = r#"{"annotations":{"io.kubernetes.container.name":"cart",
            "io.kubernetes.pod.name":"cart-0","io.kubernetes.pod.namespace":"shop"}}"#;
        assert_eq!(names_of(crio), some(["cart", "cart-0", "shop"]));
        let dockershim = r#"{"Name":"/k8s_cart_1","Config":{"Labels":{"io.kubernetes.container.name":"cart",
            "io.kubernetes.pod.name":"cart-0","io.kubernetes.pod.namespace":"shop"}}}"#;
        assert_eq!(names_of(dockershim), some(["cart", "cart-0", "shop"]));
    }

    #[test]
    fn what_is_no_name_is_none() {
        for json in [
            "{}",
            "[]",
            "3",
            r#"{"Name":4,"annotations":[1]}"#,
            r#"{"Name":"a\u0000b"}"#,
            r#"{"Name":""}"#,
        ] {
            assert_eq!(names_of(json), [None, None, None], "{json}");
        }
    }
}
