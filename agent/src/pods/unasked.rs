//! Nobody is asked: this program was built without the feature `kubernetes`.

use std::net::IpAddr;

use serde_json::Value;
use wirespan_export::metrics::Reading;
use wirespan_identity::Process;

use super::{Service, Told};
use crate::config::KubernetesKeys;

/// Nothing is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pods(());

/// Whether the keys can be done.
///
/// # Errors
///
/// An API server, which nobody would ask.
pub(crate) fn check(keys: &KubernetesKeys) -> Result<(), String> {
    match keys.api.as_str() {
        "auto" | "none" => Ok(()),
        url => Err(format!(
            "kubernetes.api: {url}: this program was built without Kubernetes (feature kubernetes)"
        )),
    }
}

impl Pods {
    pub(crate) fn start(_: &KubernetesKeys, _: impl Fn(&str, bool)) -> Result<Self, String> {
        Ok(Self(()))
    }

    pub(crate) const fn url(&self) -> Option<&str> {
        None
    }

    pub(crate) const fn is_asked(&self) -> bool {
        false
    }

    pub(crate) const fn generation(&self) -> u64 {
        0
    }

    pub(crate) const fn find(&self, _: &Process) -> Option<Told> {
        None
    }

    pub(crate) const fn at(&self, _: IpAddr) -> Option<Service> {
        None
    }

    pub(crate) const fn looked_up(&self, _: bool) {}

    pub(crate) const fn state(&self) -> Value {
        Value::Null
    }

    pub(crate) const fn readings(&self) -> Vec<Reading> {
        Vec::new()
    }
}
