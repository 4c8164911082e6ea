//! The pods that were heard of, and what made their makers.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use crate::directory::Directory;
use crate::pod::{Owner, Pod};

/// Pods of a node that are kept: far more than a node may have.
const MAX_PODS: usize = 4_096;

/// What was heard. Pods whose maker's maker is being asked for are not told of: what is told is to be
/// all that can be known.
#[derive(Debug)]
pub(crate) struct Store {
    node: Box<str>,
    pods: HashMap<Box<str>, Pod>,
    /// What made workloads, by their UIDs.
    makers: HashMap<Box<str>, Maker>,
    /// Pods that found no room.
    left_out: u64,
}

/// What made a workload.
#[derive(Debug)]
enum Maker {
    /// This, or nobody.
    Known(Option<Owner>),
    /// It could not be found out; to be asked for again then.
    Unknown(Instant),
}

/// A workload whose maker is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) owner: Owner,
    pub(crate) namespace: Box<str>,
}

impl Store {
    pub(crate) fn new(node: &str) -> Self {
        Self {
            node: node.into(),
            pods: HashMap::new(),
            makers: HashMap::new(),
            left_out: 0,
        }
    }

    /// These are all that there are.
    pub(crate) fn replace(&mut self, pods: Vec<Pod>) {
        self.pods.clear();
        for pod in pods {
            self.put(pod);
        }
        self.forget_makers();
    }

    /// A pod is there, or is another. Those of other nodes are none of ours, whoever tells of them.
    pub(crate) fn put(&mut self, pod: Pod) {
        if pod.node != self.node {
            return;
        }
        if self.pods.len() >= MAX_PODS && !self.pods.contains_key(&pod.uid) {
            self.left_out += 1;
            return;
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    pub(crate) fn remove(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.forget_makers();
    }

    /// Pods that found no room so far.
    pub(crate) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// A workload that made pods and may have been made itself, which nobody knows; or until when
    /// there is none to ask for.
    pub(crate) fn wanted(&self, now: Instant) -> Result<Wanted, Option<Instant>> {
        let mut until: Option<Instant> = None;
        for pod in self.pods.values() {
            let Some(owner) = pod.owners.first() else {
                continue;
            };
            if owner.kind.collection().is_none() {
                continue;
            }
            match self.makers.get(&owner.uid) {
                Some(Maker::Known(_)) => {}
                Some(Maker::Unknown(again)) if *again > now => {
                    until = Some(until.map_or(*again, |until| until.min(*again)));
                }
                Some(Maker::Unknown(_)) | None => {
                    return Ok(Wanted {
                        owner: owner.clone(),
                        namespace: pod.namespace.clone(),
                    });
                }
            }
        }
        Err(until)
    }

    /// What made a workload: this, nobody, or not to be found out before then.
    pub(crate) fn made(&mut self, workload: &Owner, by: Result<Option<Owner>, Instant>) {
        let maker = by.map_or_else(Maker::Unknown, Maker::Known);
        self.makers.insert(workload.uid.clone(), maker);
    }

    /// Tells what is known.
    pub(crate) fn publish(&self, directory: &Directory) {
        directory.set(self.pods.values().filter_map(|pod| self.whole(pod)));
    }

    /// A pod with all that made it; `None` while that is being asked for.
    fn whole(&self, pod: &Pod) -> Option<Pod> {
        let mut whole = pod.clone();
        let owner = pod
            .owners
            .first()
            .filter(|owner| owner.kind.collection().is_some());
        if let Some(owner) = owner
            && let Maker::Known(maker) = self.makers.get(&owner.uid)?
        {
            whole.owners.extend(maker.clone());
        }
        Some(whole)
    }

    fn forget_makers(&mut self) {
        let owners = self.pods.values().flat_map(|pod| &pod.owners);
        let used: HashSet<&str> = owners.map(|owner| &*owner.uid).collect();
        self.makers.retain(|uid, _| used.contains(&**uid));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::pod::Kind;

    fn pod(uid: &str, owner: Option<&Owner>) -> Pod {
        Pod {
            uid: uid.into(),
            namespace: "shop".into(),
            node: "node-1".into(),
            owners: owner.cloned().into_iter().collect(),
            ..Pod::default()
        }
    }

    fn owner(kind: Kind, uid: &str) -> Owner {
        Owner {
            kind,
            name: uid.into(),
            uid: uid.into(),
        }
    }

    fn known(store: &Store, uid: &str) -> Option<Vec<Kind>> {
        let directory = Directory::default();
        store.publish(&directory);
        let found = directory.find(None, Some(uid))?;
        Some(found.pod.owners.iter().map(|owner| owner.kind).collect())
    }

    #[test]
    fn a_pod_is_told_of_when_its_makers_maker_was_asked_for() {
        let mut store = Store::new("node-1");
        let (set, deployment) = (owner(Kind::ReplicaSet, "s"), owner(Kind::Deployment, "d"));
        store.replace(vec![pod("1", Some(&set)), pod("2", None)]);
        assert_eq!(known(&store, "2"), Some(vec![]));
        assert_eq!(known(&store, "1"), None);
        let now = Instant::now();
        let wanted = store.wanted(now).expect("the set");
        assert_eq!((wanted.owner, &*wanted.namespace), (set.clone(), "shop"));
        // It cannot be found out: what is known is told, and it is asked for again.
        let again = now + Duration::from_secs(9);
        store.made(&set, Err(again));
        assert_eq!(known(&store, "1"), Some(vec![Kind::ReplicaSet]));
        assert_eq!(store.wanted(now), Err(Some(again)));
        assert!(store.wanted(again).is_ok());
        store.made(&set, Ok(Some(deployment)));
        assert_eq!(
            known(&store, "1"),
            Some(vec![Kind::ReplicaSet, Kind::Deployment])
        );
        assert_eq!(store.wanted(again), Err(None));
        store.remove("1");
        assert!(store.makers.is_empty());
    }

    #[test]
    fn pods_of_other_nodes_and_too_many_are_not_kept() {
        let mut store = Store::new("node-1");
        store.put(Pod {
            node: "node-2".into(),
            ..pod("1", None)
        });
        assert_eq!(known(&store, "1"), None);
        let many = (0..=MAX_PODS).map(|n| pod(&n.to_string(), None)).collect();
        store.replace(many);
        assert_eq!((store.pods.len(), store.left_out()), (MAX_PODS, 1));
    }
}
