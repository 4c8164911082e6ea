//! The API server is asked for the pods of this node.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use wirespan_export::metrics::Reading;
use wirespan_identity::Process;
use wirespan_kubernetes::{Config, Found, Labels, Phase, Watch};

use super::{Service, Told};
use crate::config::KubernetesKeys;

/// The pods of this node; none where nobody is asked. Shared by those who look up and those who tell
/// how it is doing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pods(Option<Arc<Asked>>);

#[derive(Debug)]
struct Asked {
    watch: Watch,
    labels: Labels,
    /// Processes in pods whose pod was known when they were first looked up, and those whose was not.
    found: AtomicU64,
    missed: AtomicU64,
}

/// Whom to ask by these keys; nobody outside of a cluster, unless one is named.
fn config(keys: &KubernetesKeys) -> Result<Option<Config>, String> {
    let variable = |name: &str| std::env::var(name).ok();
    let url = match keys.api.as_str() {
        "none" => None,
        "auto" => Config::in_cluster(&variable),
        url => Some(url.to_owned()),
    };
    let Some(url) = url else { return Ok(None) };
    let node = keys.node.clone().unwrap_or_else(hostname);
    let files = [&keys.token_file, &keys.ca_file].map(|file| file.as_deref().map(Path::new));
    let config = Config::new(&url, &node, (files[0], files[1]));
    config
        .map(Some)
        .map_err(|error| format!("kubernetes: {error}"))
}

/// Whether the keys can be done.
///
/// # Errors
///
/// What is wrong with them.
pub(crate) fn check(keys: &KubernetesKeys) -> Result<(), String> {
    config(keys).map(|_| ())
}

impl Pods {
    /// Begins to ask, where somebody is to be asked. Whether it works is told to `report`, with words.
    ///
    /// # Errors
    ///
    /// What is wrong with the keys; a thread that cannot be started.
    pub(crate) fn start(
        keys: &KubernetesKeys,
        report: impl Fn(&str, bool) + Send + 'static,
    ) -> Result<Self, String> {
        let Some(config) = config(keys)? else {
            return Ok(Self::default());
        };
        let report = move |message: &str, phase| report(message, phase == Phase::Watching);
        let watch = Watch::start(config, report);
        let watch = watch.map_err(|error| format!("kubernetes: {error}"))?;
        Ok(Self(Some(Arc::new(Asked {
            watch,
            labels: match keys.labels {
                true => Labels::Used,
                false => Labels::Ignored,
            },
            found: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }))))
    }

    /// Who is asked.
    pub(crate) fn url(&self) -> Option<&str> {
        self.0.as_deref().map(|asked| asked.watch.config().url())
    }

    /// Whether somebody is asked.
    pub(crate) const fn is_asked(&self) -> bool {
        self.0.is_some()
    }

    /// Another number whenever something else is known than before.
    pub(crate) fn generation(&self) -> u64 {
        let asked = self.0.as_deref();
        asked.map_or(0, |asked| asked.watch.directory().generation())
    }

    /// The pod that a process is in, as far as it is known by now.
    pub(crate) fn find(&self, process: &Process) -> Option<Told> {
        let asked = self.0.as_deref()?;
        let container = process.placement.container.as_ref();
        let container = container.map(|container| container.id.as_str());
        let directory = asked.watch.directory();
        let found = directory.find(container, process.placement.pod.as_deref())?;
        Some(told(
            &found,
            process.names.container.as_deref(),
            asked.labels,
        ))
    }

    /// The service with this address, if it is a pod of this node.
    pub(crate) fn at(&self, address: IpAddr) -> Option<Service> {
        let asked = self.0.as_deref()?;
        let pod = asked.watch.directory().at(address)?;
        Some(Service {
            name: pod.service_name(asked.labels).to_owned(),
            namespace: pod.service_namespace().to_owned(),
        })
    }

    /// Counts a process in a pod that was looked up for the first time.
    pub(crate) fn looked_up(&self, found: bool) {
        if let Some(asked) = self.0.as_deref() {
            let counter = if found { &asked.found } else { &asked.missed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How it is doing, as a part of `wirespan.status/1`.
    pub(crate) fn state(&self) -> Value {
        let Some(asked) = self.0.as_deref() else {
            return Value::Null;
        };
        let state = asked.watch.state();
        json!({
            "api": asked.watch.config().url(),
            "node": asked.watch.config().node(),
            "state": state.phase.name(),
            "seconds": state.since.elapsed().as_secs(),
            "pods": state.pods,
            "error": state.error,
        })
    }

    pub(crate) fn readings(&self) -> Vec<Reading> {
        let Some(asked) = self.0.as_deref() else {
            return Vec::new();
        };
        let state = asked.watch.state();
        let is = |phase| f64::from(u8::from(state.phase == phase));
        let requests = Reading::counter(
            "wirespan.kubernetes.requests",
            "{request}",
            "Requests to the API server of Kubernetes, by outcome.",
        );
        let lookups = Reading::counter(
            "wirespan.kubernetes.lookups",
            "{process}",
            "Processes in pods, by whether the pod was known when they were first seen.",
        );
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        vec![
            Reading::gauge(
                "wirespan.kubernetes.pods",
                "{pod}",
                "Pods of this node that are known.",
            )
            .value(state.pods as f64),
            Reading::gauge(
                "wirespan.kubernetes.watching",
                "1",
                "Whether the API server tells of changes as they happen.",
            )
            .value(is(Phase::Watching)),
            Reading::counter(
                "wirespan.kubernetes.changes",
                "{change}",
                "Changes of pods.",
            )
            .value(state.changes as f64),
            Reading::counter(
                "wirespan.kubernetes.relists",
                "{list}",
                "Times that the API server had forgotten where the watch stood.",
            )
            .value(state.forgotten as f64),
            Reading::counter(
                "wirespan.kubernetes.left_out",
                "{pod}",
                "Pods that found no room.",
            )
            .value(state.left_out as f64),
            requests
                .with("wirespan.outcome", "answered", state.answered as f64)
                .with("wirespan.outcome", "failed", state.failed as f64),
            lookups
                .with("wirespan.outcome", "found", load(&asked.found))
                .with("wirespan.outcome", "missed", load(&asked.missed)),
        ]
    }
}

/// The name of this node: the machine's.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim().to_ascii_lowercase()
}

/// What is said of a pod, and of the container, which its bundle may have named already.
fn told(found: &Found, bundle: Option<&str>, labels: Labels) -> Told {
    let (pod, container) = (&found.pod, found.container());
    let name = container.map(|container| &*container.name).or(bundle);
    let workloads = pod.owners.iter();
    let owned = |(key, value): &(Box<str>, Box<str>)| (key.to_string(), value.to_string());
    Told {
        service: pod.service_name(labels).to_owned(),
        service_namespace: pod.service_namespace().to_owned(),
        version: pod.service_version(container, labels),
        instance: pod.service_instance(name),
        pod: pod.name.to_string(),
        uid: pod.uid.to_string(),
        namespace: pod.namespace.to_string(),
        node: pod.node.to_string(),
        container: name.map(str::to_owned),
        workloads: workloads
            .map(|owner| (owner.kind.attribute(), owner.name.to_string()))
            .collect(),
        attributes: pod.attributes.iter().map(owned).collect(),
    }
}
