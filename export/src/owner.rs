//! Who is at the ends of an exchange, as far as somebody has found that out.

use std::sync::Arc;

/// A service that was observed: what all its signals have in common.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Service {
    /// `service.name`.
    pub name: Box<str>,
    /// `service.instance.id`: tells services of the same name apart; `""` where nothing does.
    pub instance: Box<str>,
    /// Attributes of its resource besides these two, each key once.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// The container that it runs in.
    pub container: Option<Container>,
}

impl Service {
    /// An attribute of its resource.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|(known, _)| **known == *key);
        found.map(|(_, value)| &**value)
    }

    /// What Kubernetes calls its container, node and workloads; pod and namespace are with the container.
    pub(crate) fn kubernetes(&self) -> impl Iterator<Item = (&str, &str)> {
        let attributes = self
            .attributes
            .iter()
            .map(|(key, value)| (&**key, &**value));
        attributes.filter(|(key, _)| {
            key.starts_with("k8s.")
                && key.ends_with(".name")
                && !matches!(*key, "k8s.pod.name" | "k8s.namespace.name")
        })
    }
}

/// A container.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Container {
    /// `container.id`.
    pub id: Box<str>,
    /// `k8s.pod.name`.
    pub pod: Option<Box<str>>,
    /// `k8s.namespace.name`.
    pub namespace: Option<Box<str>>,
}

/// The process that owns an observed socket.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Owner {
    /// The service that it belongs to.
    pub service: Arc<Service>,
    /// `process.executable.name`.
    pub executable: Option<Box<str>>,
    /// `process.executable.path`.
    pub path: Option<Box<str>>,
}

/// What is known of the ends of an exchange besides the exchange itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends<'a> {
    /// Who owns the observed socket.
    pub owner: Option<&'a Owner>,
    /// The service at the other end: `service.peer.name`.
    pub peer: Option<&'a str>,
    /// The namespace of that service: `service.peer.namespace`.
    pub peer_namespace: Option<&'a str>,
}
