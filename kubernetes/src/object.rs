//! What is taken of the API server's answers: of each object the few fields that are needed, bounded.
//!
//! <https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/#pod-v1-core>

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::pod::{Container, Kind, Owner, Pod, WellKnown};

/// Longest text that is kept: names have at most 253 bytes.
const MAX_TEXT: usize = 1_024;
/// Containers of a pod that are kept, of each kind.
const MAX_CONTAINERS: usize = 128;
/// Addresses of a pod: one for each version of IP, in truth.
const MAX_ADDRESSES: usize = 8;
/// Resource attributes of a pod.
const MAX_ATTRIBUTES: usize = 64;

/// Annotations behind this are resource attributes.
const RESOURCE: &str = "resource.opentelemetry.io/";
/// The annotation with the UID that the kubelet gave a static pod.
const STATIC: &str = "kubernetes.io/config.hash";

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) metadata: PageMetadata,
    #[serde(default)]
    pub(crate) items: Option<Vec<Item>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PageMetadata {
    pub(crate) resource_version: String,
    #[serde(default, rename = "continue")]
    pub(crate) next: Option<String>,
}

/// An object that is one, or is passed over: one that is not must not hide the others.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Item {
    Object(Box<Object>),
    Other(IgnoredAny),
}

/// A line of a watch.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: EventKind,
    /// An object that changed; of errors, what is wrong.
    pub(crate) object: Value,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum EventKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
    #[serde(other)]
    Unknown,
}

/// What is wrong, where a request was refused or a watch was ended.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    /// The status code.
    pub(crate) code: u16,
    /// For people.
    pub(crate) message: String,
}

/// A pod, or the metadata of anything.
#[derive(Debug, Deserialize)]
pub(crate) struct Object {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    spec: Option<Spec>,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) uid: String,
    name: String,
    namespace: String,
    pub(crate) resource_version: String,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<Reference>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: Option<String>,
    host_network: bool,
    containers: Option<Vec<Asked>>,
    init_containers: Option<Vec<Asked>>,
    ephemeral_containers: Option<Vec<Asked>>,
}

/// A container as it was asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    name: String,
    image: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<Address>>,
    container_statuses: Option<Vec<Started>>,
    init_container_statuses: Option<Vec<Started>>,
    ephemeral_container_statuses: Option<Vec<Started>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Address {
    ip: String,
}

/// A container as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Started {
    name: String,
    #[serde(rename = "containerID")]
    container_id: Option<String>,
}

impl Metadata {
    /// The workload that made the object, if it is one of Kubernetes' own.
    pub(crate) fn owner(&self) -> Option<Owner> {
        let references = self.owner_references.as_deref().unwrap_or_default();
        let controller = references.iter().find(|reference| reference.controller)?;
        Some(Owner {
            kind: Kind::of(&controller.api_version, &controller.kind)?,
            name: kept(&controller.name)?,
            uid: kept(&controller.uid)?,
        })
    }

    fn label(&self, key: &str) -> Option<Box<str>> {
        kept(self.labels.as_ref()?.get(key)?)
    }

    fn attributes(&self) -> Vec<(Box<str>, Box<str>)> {
        let annotations = self.annotations.iter().flatten();
        let attributes = annotations.filter_map(|(key, value)| {
            let key = key.strip_prefix(RESOURCE)?;
            Some((kept(key)?, kept(value)?))
        });
        attributes.take(MAX_ATTRIBUTES).collect()
    }
}

impl Object {
    /// The pod that it is; `None` of what has no name, or is no pod.
    pub(crate) fn pod(&self) -> Option<Pod> {
        let metadata = &self.metadata;
        let spec = self.spec.as_ref()?;
        let annotations = metadata.annotations.as_ref();
        let hash = annotations.and_then(|annotations| annotations.get(STATIC));
        Some(Pod {
            uid: kept(&metadata.uid)?,
            static_uid: hash.and_then(|hash| kept(hash)),
            name: kept(&metadata.name)?,
            namespace: kept(&metadata.namespace)?,
            node: kept(spec.node_name.as_ref()?)?,
            owners: metadata.owner().into_iter().collect(),
            containers: self.containers(spec),
            addresses: self.addresses(spec),
            attributes: metadata.attributes(),
            labels: WellKnown {
                instance: metadata.label("app.kubernetes.io/instance"),
                name: metadata.label("app.kubernetes.io/name"),
                version: metadata.label("app.kubernetes.io/version"),
            },
        })
    }

    fn containers(&self, spec: &Spec) -> Vec<Container> {
        let none = Status::default();
        let status = self.status.as_ref().unwrap_or(&none);
        let kinds = [
            (&spec.containers, &status.container_statuses),
            (&spec.init_containers, &status.init_container_statuses),
            (
                &spec.ephemeral_containers,
                &status.ephemeral_container_statuses,
            ),
        ];
        let containers = kinds.into_iter().flat_map(|(asked, started)| {
            let asked = asked.iter().flatten().take(MAX_CONTAINERS);
            asked.filter_map(move |asked| {
                let mut started = started.iter().flatten();
                let started = started.find(|started| started.name == asked.name);
                let id = started.and_then(|started| started.container_id.as_deref());
                Some(Container {
                    name: kept(&asked.name)?,
                    id: id.and_then(|id| kept(id.rsplit("://").next()?)),
                    image: asked.image.as_deref().and_then(kept),
                })
            })
        });
        containers.collect()
    }

    /// Its own addresses: those of its node are everybody's there, and those of a pod that has ended
    /// may be another's by now.
    fn addresses(&self, spec: &Spec) -> Vec<IpAddr> {
        let Some(status) = self.status.as_ref().filter(|_| !spec.host_network) else {
            return Vec::new();
        };
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return Vec::new();
        }
        let all = status.pod_ips.iter().flatten().map(|address| &*address.ip);
        let mut addresses: Vec<IpAddr> = Vec::new();
        for text in status.pod_ip.as_deref().into_iter().chain(all) {
            if let Ok(address) = text.parse::<IpAddr>()
                && !addresses.contains(&address)
                && addresses.len() < MAX_ADDRESSES
            {
                addresses.push(address);
            }
        }
        addresses
    }
}

/// A text that is worth keeping: not empty, not too long, without control characters.
fn kept(text: &str) -> Option<Box<str>> {
    let plain = !text.is_empty() && text.len() <= MAX_TEXT && !text.contains(char::is_control);
    plain.then(|| text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(changes: &Value) -> Option<Pod> {
        let mut value = json!({
            "metadata": {"uid": "u", "name": "cart-1", "namespace": "shop"},
            "spec": {"nodeName": "node-1", "containers": [{"name": "cart", "image": "cart:1"}]},
            "status": {"phase": "Running", "podIP": "10.0.0.7", "podIPs": [{"ip": "10.0.0.7"}, {"ip": "fd00::7"}],
                "containerStatuses": [{"name": "cart", "containerID": "containerd://abc"}]},
        });
        for (path, change) in changes.as_object().expect("changes") {
            *value.pointer_mut(path).expect("a place") = change.clone();
        }
        serde_json::from_value::<Object>(value).ok()?.pod()
    }

    #[test]
    fn what_is_needed_of_a_pod_is_taken() {
        let pod = pod(&json!({})).expect("a pod");
        let addresses: [IpAddr; 2] =
            ["10.0.0.7", "fd00::7"].map(|ip| ip.parse().expect("an address"));
        assert_eq!(pod.addresses, addresses);
        let container = Container {
            name: "cart".into(),
            id: Some("abc".into()),
            image: Some("cart:1".into()),
        };
        assert_eq!(pod.containers, [container]);
        assert_eq!((&*pod.node, pod.owners.len()), ("node-1", 0));
    }

    #[test]
    fn addresses_that_are_not_a_pods_own_are_none() {
        let addresses = |changes: Value| pod(&changes).expect("a pod").addresses;
        for phase in ["Succeeded", "Failed"] {
            assert!(addresses(json!({"/status/phase": phase})).is_empty());
        }
        let host = json!({"/spec": {"nodeName": "n", "hostNetwork": true}});
        assert!(addresses(host).is_empty());
        let odd = json!({"/status/podIP": "x", "/status/podIPs": null});
        assert!(addresses(odd).is_empty());
    }

    #[test]
    fn only_the_controller_of_a_known_kind_made_a_pod() {
        let owner = |references: Value| {
            let metadata =
                json!({"uid": "u", "name": "n", "namespace": "s", "ownerReferences": references});
            let owners = pod(&json!({"/metadata": metadata})).expect("a pod").owners;
            owners
                .first()
                .map(|owner| (owner.kind, owner.name.to_string()))
        };
        let reference = |version: &str, kind: &str, controller: bool| json!({"apiVersion": version, "kind": kind, "name": "x", "uid": "1", "controller": controller});
        let set = reference("apps/v1", "ReplicaSet", true);
        assert_eq!(owner(json!([set])), Some((Kind::ReplicaSet, "x".into())));
        assert_eq!(
            owner(json!([reference("apps/v1", "ReplicaSet", false)])),
            None
        );
        let foreign = reference("apps.example.org/v1", "StatefulSet", true);
        assert_eq!(owner(json!([foreign])), None);
        assert_eq!(owner(json!([reference("v1", "Node", true)])), None);
        assert_eq!(owner(json!(null)), None);
    }

    #[test]
    fn what_is_no_pod_is_none() {
        for changes in [
            json!({"/metadata/uid": ""}),
            json!({"/metadata/name": "a\nb"}),
            json!({"/metadata/name": "x".repeat(2_000)}),
            json!({"/spec": null}),
            json!({"/spec/nodeName": null}),
            json!({"/metadata": 3}),
            json!({"/status": {"podIPs": 7}}),
        ] {
            assert_eq!(pod(&changes), None, "{changes}");
        }
    }

    #[test]
    fn an_item_that_is_none_does_not_hide_the_others() {
        let page = r#"{"metadata":{"resourceVersion":"7"},"items":[4,{"metadata":{"uid":"u"}},{"spec":{}},null]}"#;
        let page: Page = serde_json::from_str(page).expect("a page");
        let objects = page.items.into_iter().flatten();
        assert_eq!(
            objects
                .filter(|item| matches!(item, Item::Object(_)))
                .count(),
            1
        );
    }
}
