//! What made the makers of pods: the Deployment of a ReplicaSet, the CronJob of a Job. They are asked for
//! one by one, as they are met, because a watch of all of them would bring those of all nodes.

use std::cell::RefCell;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::api::{Api, Failure, METADATA};
use crate::config::is_name;
use crate::directory::Directory;
use crate::object::Object;
use crate::pod::Owner;
use crate::state::Shared;
use crate::store::{Store, Wanted};

/// Asks whenever there is one to ask for, which `fresh` tells.
pub(crate) async fn resolve(
    api: &Api,
    store: &RefCell<Store>,
    (directory, state): (&Directory, &Shared),
    fresh: &Notify,
) {
    loop {
        let wanted = store.borrow().wanted(Instant::now());
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(None) => {
                fresh.notified().await;
                continue;
            }
            Err(Some(again)) => {
                tokio::select! {
                    () = fresh.notified() => {}
                    () = sleep_until(again) => {}
                }
                continue;
            }
        };
        let by = match maker(api, &wanted).await {
            Ok(by) => {
                state.lock().answered += 1;
                Ok(by)
            }
            Err(failure) => {
                let Wanted { owner, namespace } = &wanted;
                let what = format!("{:?} {namespace}/{}: {failure}", owner.kind, owner.name);
                state.lock().failed(&what);
                Err(Instant::now() + api.config().pace.longest_wait)
            }
        };
        let mut store = store.borrow_mut();
        store.made(&wanted.owner, by);
        store.publish(directory);
        state.lock().pods = directory.len();
    }
}

/// What made a workload; nobody if it is gone, or is another of the same name by now.
async fn maker(api: &Api, wanted: &Wanted) -> Result<Option<Owner>, Failure> {
    let Wanted { owner, namespace } = wanted;
    let Some((group, collection)) = owner.kind.collection() else {
        return Ok(None);
    };
    if !is_name(&owner.name) || !is_name(namespace) {
        return Ok(None);
    }
    let path = format!(
        "/apis/{group}/namespaces/{namespace}/{collection}/{}",
        owner.name
    );
    match api.get::<Object>(&path, METADATA).await {
        Ok(object) if *object.metadata.uid == *owner.uid => Ok(object.metadata.owner()),
        Ok(_) | Err(Failure::Missing) => Ok(None),
        Err(failure) => Err(failure),
    }
}
