//! What Kubernetes says of pods, in the words of the semantic conventions.
//!
//! Without the feature `kubernetes` nobody is asked: what is known of pods then is what control groups
//! and bundles of containers say.

#[cfg(feature = "kubernetes")]
mod asked;
#[cfg(not(feature = "kubernetes"))]
mod unasked;

#[cfg(all(test, feature = "kubernetes"))]
#[path = "../../../kubernetes/tests/watch/fake.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
pub(crate) mod fake;

#[cfg(feature = "kubernetes")]
pub(crate) use asked::{Pods, check};
#[cfg(not(feature = "kubernetes"))]
pub(crate) use unasked::{Pods, check};

/// What is said of the pod that a process is in.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Told {
    /// `service.name`.
    pub(crate) service: String,
    /// `service.namespace`.
    pub(crate) service_namespace: String,
    /// `service.version`.
    pub(crate) version: Option<String>,
    /// `service.instance.id`.
    pub(crate) instance: Option<String>,
    /// `k8s.pod.name`.
    pub(crate) pod: String,
    /// `k8s.pod.uid`.
    pub(crate) uid: String,
    /// `k8s.namespace.name`.
    pub(crate) namespace: String,
    /// `k8s.node.name`.
    pub(crate) node: String,
    /// `k8s.container.name`.
    pub(crate) container: Option<String>,
    /// What made the pod, such as `k8s.deployment.name`.
    pub(crate) workloads: Vec<(&'static str, String)>,
    /// What annotations say.
    pub(crate) attributes: Vec<(String, String)>,
}

/// What is said of an address: the service that has it, and its namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Service {
    pub(crate) name: String,
    pub(crate) namespace: String,
}
