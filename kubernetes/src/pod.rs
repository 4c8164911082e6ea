//! A pod, as far as it is worth knowing.

use std::net::IpAddr;

/// A pod of this node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pod {
    /// Its UID, which control groups are named after.
    pub uid: Box<str>,
    /// The other UID that control groups have for it, if it is a static pod: the kubelet made it
    /// before the API server heard of it.
    pub(crate) static_uid: Option<Box<str>>,
    /// Its name.
    pub name: Box<str>,
    /// Its namespace.
    pub namespace: Box<str>,
    /// Its node.
    pub node: Box<str>,
    /// What made it, and what made that: the pod's own controller first.
    pub owners: Vec<Owner>,
    /// Its containers of all kinds.
    pub containers: Vec<Container>,
    /// Its addresses; none where they are not its alone, or not its any more.
    pub addresses: Vec<IpAddr>,
    /// Resource attributes that its annotations give it.
    pub attributes: Vec<(Box<str>, Box<str>)>,
    /// Its well-known labels.
    pub(crate) labels: WellKnown,
}

/// The labels of a pod that name its service.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct WellKnown {
    /// `app.kubernetes.io/instance`.
    pub(crate) instance: Option<Box<str>>,
    /// `app.kubernetes.io/name`.
    pub(crate) name: Option<Box<str>>,
    /// `app.kubernetes.io/version`.
    pub(crate) version: Option<Box<str>>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Container {
    /// Its name in the pod.
    pub name: Box<str>,
    /// Its id, without the engine's name; none until it was started.
    pub id: Option<Box<str>>,
    /// The image that it was asked to run.
    pub image: Option<Box<str>>,
}

/// A workload that made a pod, or another workload.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Owner {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Box<str>,
}

/// What makes pods, of what Kubernetes itself has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// A Deployment, by way of a ReplicaSet.
    Deployment,
    /// A ReplicaSet.
    ReplicaSet,
    /// A StatefulSet.
    StatefulSet,
    /// A DaemonSet.
    DaemonSet,
    /// A CronJob, by way of a Job.
    CronJob,
    /// A Job.
    Job,
}

impl Kind {
    /// By what an owner reference says. A kind of the same name in another group is another kind.
    #[must_use]
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let (group, _) = api_version.split_once('/')?;
        match (group, kind) {
            ("apps", "Deployment") => Some(Self::Deployment),
            ("apps", "ReplicaSet") => Some(Self::ReplicaSet),
            ("apps", "StatefulSet") => Some(Self::StatefulSet),
            ("apps", "DaemonSet") => Some(Self::DaemonSet),
            ("batch", "CronJob") => Some(Self::CronJob),
            ("batch", "Job") => Some(Self::Job),
            _ => None,
        }
    }

    /// The attribute with the name of such a workload.
    #[must_use]
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::Deployment => "k8s.deployment.name",
            Self::ReplicaSet => "k8s.replicaset.name",
            Self::StatefulSet => "k8s.statefulset.name",
            Self::DaemonSet => "k8s.daemonset.name",
            Self::CronJob => "k8s.cronjob.name",
            Self::Job => "k8s.job.name",
        }
    }

    /// Where such workloads are asked for, if they may have been made by another one.
    pub(crate) const fn collection(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::ReplicaSet => Some(("apps/v1", "replicasets")),
            Self::Job => Some(("batch/v1", "jobs")),
            _ => None,
        }
    }
}

impl Pod {
    /// What made it in the end: its Deployment rather than its ReplicaSet.
    #[must_use]
    pub fn workload(&self) -> Option<&Owner> {
        self.owners.last()
    }
}
