//! Asking Kubernetes while the agent runs.

use super::log::Log;
use crate::config::Config;
use crate::pods::Pods;

/// Who tells of pods; whether that works is logged.
pub(super) fn pods(config: &Config, log: &Log) -> Result<Pods, String> {
    let said = log.clone();
    let report = move |message: &str, works| match works {
        true => said.info(&format!("Kubernetes: {message}")),
        false => said.warn(&format!(
            "Kubernetes: {message}; what is said of pods may be old, or nothing"
        )),
    };
    let pods = Pods::start(&config.kubernetes, report)?;
    if let Some(url) = pods.url() {
        log.info(&format!("asking {url} for the pods of this node"));
    }
    Ok(pods)
}
