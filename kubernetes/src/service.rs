//! What the service of a pod is called, by OpenTelemetry's rules for Kubernetes.
//!
//! <https://github.com/open-telemetry/semantic-conventions/blob/v1.44.0/docs/non-normative/k8s-attributes.md>

use crate::pod::{Container, Kind, Pod};

/// Whether well-known labels (`app.kubernetes.io/…`) name services. OpenTelemetry wants that to be asked
/// for: labels may have been chosen without thinking of it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Labels {
    /// They do.
    Used,
    /// They do not.
    #[default]
    Ignored,
}

/// Workloads from the one that is made by hand down to the pod.
const BY_WORKLOAD: [Kind; 6] = [
    Kind::Deployment,
    Kind::ReplicaSet,
    Kind::StatefulSet,
    Kind::DaemonSet,
    Kind::CronJob,
    Kind::Job,
];

impl Pod {
    /// `service.name`: by annotation, label, workload, or the pod's own name.
    #[must_use]
    pub fn service_name(&self, labels: Labels) -> &str {
        let by_label = || {
            [&self.labels.instance, &self.labels.name]
                .into_iter()
                .flatten()
                .next()
        };
        let by_workload = || {
            let named = |kind| self.owners.iter().find(|owner| owner.kind == kind);
            BY_WORKLOAD
                .into_iter()
                .find_map(named)
                .map(|owner| &*owner.name)
        };
        self.attribute("service.name")
            .or_else(|| {
                by_label()
                    .filter(|_| labels == Labels::Used)
                    .map(|name| &**name)
            })
            .or_else(by_workload)
            .unwrap_or(&self.name)
    }

    /// `service.namespace`: by annotation, or the pod's namespace.
    #[must_use]
    pub fn service_namespace(&self) -> &str {
        self.attribute("service.namespace")
            .unwrap_or(&self.namespace)
    }

    /// `service.version`: by annotation, label, or the image's tag and digest.
    #[must_use]
    pub fn service_version(&self, container: Option<&Container>, labels: Labels) -> Option<String> {
        let by_label = self
            .labels
            .version
            .as_deref()
            .filter(|_| labels == Labels::Used);
        let by_image = || version_of(container?.image.as_deref()?);
        let said = self.attribute("service.version").or(by_label);
        said.map(str::to_owned).or_else(by_image)
    }

    /// `service.instance.id`: by annotation, or namespace, pod and container, where the container is
    /// known.
    #[must_use]
    pub fn service_instance(&self, container: Option<&str>) -> Option<String> {
        let said = self.attribute("service.instance.id").map(str::to_owned);
        let made = |name: &str| format!("{}.{}.{name}", self.namespace, self.name);
        said.or_else(|| container.map(made))
    }

    fn attribute(&self, key: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(known, _)| **known == *key);
        found.map(|(_, value)| &**value)
    }
}

/// Tag and digest of an image: `name:tag@digest`, of which `name` may have a port.
fn version_of(image: &str) -> Option<String> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map(|(_, tag)| tag);
    let parts: Vec<&str> = [tag, digest].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("@"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::Owner;

    fn owner(kind: Kind, name: &str) -> Owner {
        Owner {
            kind,
            name: name.into(),
            uid: "1".into(),
        }
    }

    #[test]
    fn names_are_found_in_the_documented_order() {
        let mut pod = Pod {
            name: "cart-7d9-x2".into(),
            namespace: "shop".into(),
            ..Pod::default()
        };
        let names =
            |pod: &Pod| [Labels::Ignored, Labels::Used].map(|l| pod.service_name(l).to_owned());
        assert_eq!(names(&pod), ["cart-7d9-x2"; 2]);
        for (kinds, expected) in [
            (&[Kind::Job][..], "Job"),
            (&[Kind::Job, Kind::CronJob], "CronJob"),
            (&[Kind::DaemonSet], "DaemonSet"),
            (&[Kind::StatefulSet], "StatefulSet"),
            (&[Kind::ReplicaSet], "ReplicaSet"),
            (&[Kind::ReplicaSet, Kind::Deployment], "Deployment"),
        ] {
            pod.owners = kinds
                .iter()
                .map(|kind| owner(*kind, &format!("{kind:?}")))
                .collect();
            assert_eq!(names(&pod), [expected; 2]);
        }
        pod.labels.name = Some("by-name".into());
        assert_eq!(names(&pod), ["Deployment", "by-name"]);
        pod.labels.instance = Some("by-instance".into());
        assert_eq!(names(&pod), ["Deployment", "by-instance"]);
        assert_eq!(pod.service_namespace(), "shop");
        pod.attributes = vec![
            ("service.name".into(), "by-annotation".into()),
            ("service.namespace".into(), "store".into()),
        ];
        assert_eq!(names(&pod), ["by-annotation"; 2]);
        assert_eq!(pod.service_namespace(), "store");
    }

    #[test]
    fn an_instance_is_a_container_of_a_pod() {
        let mut pod = Pod {
            name: "cart-0".into(),
            namespace: "shop".into(),
            ..Pod::default()
        };
        assert_eq!(
            pod.service_instance(Some("app")).as_deref(),
            Some("shop.cart-0.app")
        );
        assert_eq!(pod.service_instance(None), None);
        pod.attributes = vec![("service.instance.id".into(), "7".into())];
        assert_eq!(pod.service_instance(Some("app")).as_deref(), Some("7"));
    }

    #[test]
    fn versions_are_said_or_those_of_images() {
        for (image, version) in [
            ("cart", None),
            ("cart:1.2", Some("1.2")),
            ("registry.example:5000/shop/cart", None),
            ("registry.example:5000/shop/cart:1.2", Some("1.2")),
            ("shop/cart@sha256:ab", Some("sha256:ab")),
            ("shop/cart:1.2@sha256:ab", Some("1.2@sha256:ab")),
        ] {
            assert_eq!(version_of(image).as_deref(), version, "{image}");
        }
        let container = Container {
            image: Some("cart:1".into()),
            ..Container::default()
        };
        let mut pod = Pod::default();
        let version = |pod: &Pod, labels| pod.service_version(Some(&container), labels);
        assert_eq!(version(&pod, Labels::Used).as_deref(), Some("1"));
        pod.labels.version = Some("2".into());
        assert_eq!(version(&pod, Labels::Ignored).as_deref(), Some("1"));
        assert_eq!(version(&pod, Labels::Used).as_deref(), Some("2"));
        pod.attributes = vec![("service.version".into(), "3".into())];
        assert_eq!(version(&pod, Labels::Used).as_deref(), Some("3"));
    }
}
