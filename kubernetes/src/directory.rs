//! What is known of pods, for whoever observes processes and addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::pod::{Container, Pod};

/// The pods of this node. Asking it never waits for the API server.
#[derive(Debug, Default)]
pub struct Directory {
    index: RwLock<Arc<Index>>,
    generation: AtomicU64,
    /// Whether it was heard too long ago which pods there are for addresses to be anybody's.
    old: AtomicBool,
}

/// Pods by what they are looked up by.
#[derive(Debug, Default)]
pub(crate) struct Index {
    by_uid: HashMap<Box<str>, Arc<Pod>>,
    by_container: HashMap<Box<str>, (Arc<Pod>, usize)>,
    /// `None` of an address that two pods claim.
    by_address: HashMap<IpAddr, Option<Arc<Pod>>>,
}

/// A pod that was looked up, and which of its containers, if that is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The pod.
    pub pod: Arc<Pod>,
    container: Option<usize>,
}

impl Found {
    /// The container by whose id it was found.
    #[must_use]
    pub fn container(&self) -> Option<&Container> {
        self.pod.containers.get(self.container?)
    }
}

impl Directory {
    /// Grows whenever something else is known than before: what was not found may be found then.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The pod of a container, or of this UID: the API server may know a pod before it knows of its
    /// containers.
    #[must_use]
    pub fn find(&self, container: Option<&str>, uid: Option<&str>) -> Option<Found> {
        let index = self.index();
        if let Some((pod, at)) = container.and_then(|id| index.by_container.get(id)) {
            return Some(Found {
                pod: Arc::clone(pod),
                container: Some(*at),
            });
        }
        let pod = Arc::clone(index.by_uid.get(uid?)?);
        Some(Found {
            pod,
            container: None,
        })
    }

    /// The pod with this address; `None` while it is not known whether it still has it.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<Arc<Pod>> {
        match self.old.load(Ordering::Relaxed) {
            true => None,
            false => self
                .index()
                .by_address
                .get(&address.to_canonical())?
                .clone(),
        }
    }

    /// Whether addresses are still those of the pods that had them.
    pub(crate) fn set_old(&self, old: bool) {
        self.old.store(old, Ordering::Relaxed);
    }

    /// Knows these pods from now on, and no others.
    pub(crate) fn set(&self, pods: impl Iterator<Item = Pod>) {
        let before = self.index();
        let index = Index::of(pods, &before);
        let is_same = index.by_uid.len() == before.by_uid.len()
            && index.by_uid.iter().all(|(uid, pod)| {
                let known = before.by_uid.get(uid);
                known.is_some_and(|known| Arc::ptr_eq(known, pod))
            });
        if is_same {
            return;
        }
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(index);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Pods that are known.
    pub(crate) fn len(&self) -> usize {
        let mut pods: Vec<_> = self.index().by_uid.values().map(Arc::as_ptr).collect();
        pods.sort_unstable();
        pods.dedup();
        pods.len()
    }

    fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Index {
    /// Pods that are as they were `before` are the same in memory.
    fn of(pods: impl Iterator<Item = Pod>, before: &Self) -> Self {
        let mut index = Self::default();
        for pod in pods {
            let known = before.by_uid.get(&pod.uid);
            let known = known.filter(|known| ***known == pod).map(Arc::clone);
            let pod = known.unwrap_or_else(|| Arc::new(pod));
            for (at, container) in pod.containers.iter().enumerate() {
                if let Some(id) = &container.id {
                    let of = (Arc::clone(&pod), at);
                    index.by_container.insert(id.clone(), of);
                }
            }
            for address in &pod.addresses {
                let claimed = index.by_address.entry(address.to_canonical());
                let claim = Some(Arc::clone(&pod));
                claimed.and_modify(|pod| *pod = None).or_insert(claim);
            }
            for uid in [Some(&pod.uid), pod.static_uid.as_ref()]
                .into_iter()
                .flatten()
            {
                index.by_uid.insert(uid.clone(), Arc::clone(&pod));
            }
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, container: Option<&str>, address: [u8; 4]) -> Pod {
        Pod {
            uid: uid.into(),
            name: uid.into(),
            containers: vec![Container {
                name: "app".into(),
                id: container.map(Into::into),
                image: None,
            }],
            addresses: vec![address.into()],
            ..Pod::default()
        }
    }

    #[test]
    fn a_pod_is_found_by_its_container_and_by_its_uid() {
        let directory = Directory::default();
        assert_eq!(directory.find(Some("c1"), Some("u1")), None);
        let first = pod("u1", None, [10, 0, 0, 1]);
        directory.set([first].into_iter());
        let found = directory.find(Some("c1"), Some("u1")).expect("a pod");
        assert_eq!(found.container(), None, "it has not started");
        assert_eq!(directory.find(Some("c1"), None), None);
        directory.set([pod("u1", Some("c1"), [10, 0, 0, 1])].into_iter());
        let found = directory.find(Some("c1"), None).expect("a pod");
        assert_eq!(found.container().map(|of| &*of.name), Some("app"));
    }

    #[test]
    fn a_static_pod_is_found_by_the_uid_that_its_control_group_has() {
        let directory = Directory::default();
        let mut mirror = pod("u1", None, [10, 0, 0, 1]);
        mirror.static_uid = Some("hash".into());
        directory.set([mirror].into_iter());
        assert!(directory.find(None, Some("hash")).is_some());
        assert_eq!(directory.len(), 1);
    }

    #[test]
    fn an_address_that_two_pods_claim_is_nobodys() {
        let directory = Directory::default();
        let address = IpAddr::from([10, 0, 0, 1]);
        directory.set([pod("u1", None, [10, 0, 0, 1])].into_iter());
        assert!(directory.at(address).is_some());
        let IpAddr::V4(v4) = address else { panic!() };
        assert!(directory.at(v4.to_ipv6_mapped().into()).is_some());
        directory.set_old(true);
        assert_eq!(directory.at(address), None, "it was long ago");
        directory.set_old(false);
        let pods = [
            pod("u1", None, [10, 0, 0, 1]),
            pod("u2", None, [10, 0, 0, 1]),
        ];
        directory.set(pods.into_iter());
        assert_eq!(directory.at(address), None);
    }

    #[test]
    fn the_generation_grows_only_when_something_changed() {
        let directory = Directory::default();
        let pods = || [pod("u1", Some("c1"), [10, 0, 0, 1])].into_iter();
        directory.set(pods());
        let generation = directory.generation();
        let found = directory.find(Some("c1"), None).expect("a pod");
        directory.set(pods());
        assert_eq!(directory.generation(), generation);
        let again = directory.find(Some("c1"), None).expect("a pod");
        assert!(Arc::ptr_eq(&found.pod, &again.pod));
        directory.set(std::iter::empty());
        assert!(directory.generation() > generation);
        assert_eq!(directory.find(Some("c1"), Some("u1")), None);
    }
}
