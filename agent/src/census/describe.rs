//! What is known of a process, in the words of the semantic conventions.

use std::sync::Arc;

use wirespan_engine::Process;
use wirespan_export::owner::{Container, Owner, Service};
use wirespan_identity::{self as identity, Root};

use crate::pods::Told;

/// Attributes that a process may not give itself, nor its pod: they are told otherwise, or say who made the
/// telemetry.
const OURS: [&str; 3] = ["service.", "telemetry.", "process."];

/// The machine's name.
pub(super) fn host(root: &Root) -> Box<str> {
    let name = std::fs::read_to_string(root.path().join("proc/sys/kernel/hostname"));
    name.unwrap_or_default().trim().into()
}

/// Who owns the sockets of `process`, of which /proc says what was `read`: nothing, if it was gone
/// already; and Kubernetes what was `told`. What a process says of itself counts before what its pod says.
pub(super) fn owner(
    read: Option<&identity::Process>,
    told: Option<&Told>,
    process: &Process,
    host: &str,
) -> Owner {
    let none = identity::Process::default();
    let read = read.unwrap_or(&none);
    let container = read.placement.container.as_ref();
    let declared = |key| read.declared.get(key);
    let instance = declared("service.instance.id")
        .or_else(|| told?.instance.as_deref())
        .or_else(|| container.map(|container| container.id.as_str()));
    let named = read.declared.service.as_deref();
    let named = named.or_else(|| told.map(|told| told.service.as_str()));
    let service = Service {
        name: named
            .or_else(|| read.service())
            .unwrap_or_else(|| process.name())
            .into(),
        instance: instance.unwrap_or(host).into(),
        attributes: attributes(read, told, host),
        container: container.map(|container| Container {
            id: container.id.as_str().into(),
            pod: pod(read, told).map(Into::into),
            namespace: namespace(read, told).map(Into::into),
        }),
    };
    Owner {
        service: Arc::new(service),
        executable: read.executable.as_deref().map(Into::into),
        path: read.path.as_deref().map(Into::into),
    }
}

fn pod<'a>(read: &'a identity::Process, told: Option<&'a Told>) -> Option<&'a str> {
    told.map(|told| told.pod.as_str())
        .or(read.names.pod.as_deref())
}

fn namespace<'a>(read: &'a identity::Process, told: Option<&'a Told>) -> Option<&'a str> {
    let told = told.map(|told| told.namespace.as_str());
    told.or(read.names.namespace.as_deref())
}

/// The attributes of its resource, each key once.
fn attributes(
    read: &identity::Process,
    told: Option<&Told>,
    host: &str,
) -> Vec<(Box<str>, Box<str>)> {
    let mut attributes: Vec<(Box<str>, Box<str>)> = Vec::new();
    let mut push = |key: &str, value: Option<&str>| {
        if let Some(value) = value
            && !attributes.iter().any(|(known, _)| **known == *key)
        {
            attributes.push((key.into(), value.into()));
        }
    };
    let container = read.placement.container.as_ref();
    let in_pod = told.is_some() || read.names.pod.is_some() || read.placement.pod.is_some();
    let declared = |key| read.declared.get(key);
    let service_namespace = told.map(|told| told.service_namespace.as_str());
    let service_namespace = declared("service.namespace").or(service_namespace);
    push(
        "service.namespace",
        service_namespace.or(read.names.namespace.as_deref()),
    );
    let version = told.and_then(|told| told.version.as_deref());
    push("service.version", declared("service.version").or(version));
    push("host.name", Some(host).filter(|host| !host.is_empty()));
    push(
        "container.id",
        container.map(|container| container.id.as_str()),
    );
    let name = told.and_then(|told| told.container.as_deref());
    let name = name.or(read.names.container.as_deref());
    push("container.name", name.filter(|_| !in_pod));
    push("k8s.container.name", name.filter(|_| in_pod));
    push("k8s.pod.name", pod(read, told));
    let uid = told.map(|told| told.uid.as_str());
    push("k8s.pod.uid", uid.or(read.placement.pod.as_deref()));
    push("k8s.namespace.name", namespace(read, told));
    push("k8s.node.name", told.map(|told| told.node.as_str()));
    for (key, name) in told.into_iter().flat_map(|told| &told.workloads) {
        push(key, Some(name));
    }
    push("wirespan.systemd.unit", read.placement.unit.as_deref());
    let annotated = told.into_iter().flat_map(|told| &told.attributes);
    for (key, value) in read.declared.attributes.iter().chain(annotated) {
        if !OURS.iter().any(|prefix| key.starts_with(prefix)) {
            push(key, Some(value));
        }
    }
    attributes
}
