//! What is known of a process, in the words of the semantic conventions.

use std::sync::Arc;

use wirespan_engine::Process;
use wirespan_export::owner::{Container, Owner, Service};
use wirespan_identity::{self as identity, Root};

/// Attributes that a process may not give itself: they are told otherwise, or say who made the
/// telemetry.
const OURS: [&str; 3] = ["service.", "telemetry.", "process."];

/// The machine's name.
pub(super) fn host(root: &Root) -> Box<str> {
    let name = std::fs::read_to_string(root.path().join("proc/sys/kernel/hostname"));
    name.unwrap_or_default().trim().into()
}

/// Who owns the sockets of `process`, of which /proc says what was `read`: nothing, if it was gone
/// already.
pub(super) fn owner(read: Option<identity::Process>, process: &Process, host: &str) -> Owner {
    let read = read.unwrap_or_default();
    let mut attributes = Vec::new();
    let mut push = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            attributes.push((Box::from(key), Box::from(value)));
        }
    };
    let container = read.placement.container.as_ref();
    let in_pod = read.names.pod.is_some() || read.placement.pod.is_some();
    let declared = |key| read.declared.get(key);
    let namespace = read.names.namespace.as_deref();
    push(
        "service.namespace",
        declared("service.namespace").or(namespace),
    );
    push("service.version", declared("service.version"));
    push("host.name", Some(host).filter(|host| !host.is_empty()));
    push(
        "container.id",
        container.map(|container| container.id.as_str()),
    );
    let name = read.names.container.as_deref();
    push("container.name", name.filter(|_| !in_pod));
    push("k8s.container.name", name.filter(|_| in_pod));
    push("k8s.pod.name", read.names.pod.as_deref());
    push("k8s.pod.uid", read.placement.pod.as_deref());
    push("k8s.namespace.name", namespace);
    push("wirespan.systemd.unit", read.placement.unit.as_deref());
    for (key, value) in &read.declared.attributes {
        let ours = OURS.iter().any(|prefix| key.starts_with(prefix));
        if !ours && !attributes.iter().any(|(known, _)| **known == **key) {
            attributes.push((key.as_str().into(), value.as_str().into()));
        }
    }
    let instance = read.declared.get("service.instance.id");
    let instance = instance.or_else(|| container.map(|container| container.id.as_str()));
    let service = Service {
        name: read.service().unwrap_or_else(|| process.name()).into(),
        instance: instance.unwrap_or(host).into(),
        attributes,
        container: container.map(|container| Container {
            id: container.id.as_str().into(),
            pod: read.names.pod.as_deref().map(Into::into),
            namespace: namespace.map(Into::into),
        }),
    };
    Owner {
        service: Arc::new(service),
        executable: read.executable.map(Into::into),
        path: read.path.map(Into::into),
    }
}
