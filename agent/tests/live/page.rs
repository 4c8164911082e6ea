//! What an agent's page for Prometheus says, and changing the agent.

use std::process::Command;

use crate::lab::run;

/// Changes the configuration of the agent at a socket; it must take it.
pub(crate) fn change(socket: &str, patch: &str) {
    let put = ["-sS", "-f", "-o", "/dev/null", "-X", "PUT", "-d", patch];
    let at = ["--unix-socket", socket, "http://agent/config/dynamic"];
    run("curl", &[&put[..], &at].concat());
}

/// The page at `url`.
pub(crate) fn page(url: &str) -> String {
    let page = Command::new("curl").args(["-sS", url]).output();
    String::from_utf8(page.expect("curl").stdout).expect("UTF-8")
}

/// The sum of a page's samples of this name that have this text among their labels; 0 where there are
/// none.
pub(crate) fn figure(page: &str, name: &str, label: &str) -> f64 {
    let samples = page.lines().filter(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
    });
    let value = |line: &str| line.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok());
    samples.filter_map(value).sum()
}

/// [`figure`] of numbers that are whole.
pub(crate) fn total(page: &str, name: &str, label: &str) -> u64 {
    figure(page, name, label) as u64
}

/// The sum of the samples of this name on the page at `url`.
pub(crate) fn sum(url: &str, name: &str) -> u64 {
    labelled(url, name, "")
}

/// The sum of those that have this text among their labels.
pub(crate) fn labelled(url: &str, name: &str, label: &str) -> u64 {
    total(&page(url), name, label)
}

/// The sum of a metric's counts on the page at `url`.
pub(crate) fn count(url: &str, metric: &str) -> u64 {
    sum(url, &format!("{metric}_count"))
}
