//! Which of our crates may use which: the arrows of docs/ARCHITECTURE.md, enforced.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

/// Crates that pure crates must not reach: they do I/O, or wait.
const IMPURE: [&str; 4] = ["tokio", "aya", "mio", "libc"];

/// Crates that those must not reach which aggregate and render: they wait.
const WAITING: [&str; 3] = ["tokio", "hyper", "mio"];

/// What the check needs to know of the dependency graph.
#[derive(Debug, Default)]
struct Graph {
    /// Our crates: package id to folder, such as `parsers/http`.
    ours: BTreeMap<String, String>,
    /// Package names by id, of all packages.
    names: BTreeMap<String, String>,
    /// Uses: from, to, and whether only tests use it.
    uses: Vec<Use>,
}

#[derive(Debug)]
struct Use {
    from: String,
    to: String,
    dev_only: bool,
}

/// Checks the workspace at `root`; the error names every arrow that should not be.
pub(crate) fn check(root: &Path) -> Result<(), String> {
    let graph = Graph::read(root)?;
    let faults = graph.faults();
    if faults.is_empty() {
        println!(
            "check-arrows: {} crates, every arrow allowed",
            graph.ours.len()
        );
        return Ok(());
    }
    Err(faults.join("\n"))
}

/// Whether the crate in folder `from` may use the crate in folder `to`.
fn allowed(from: &str, to: &str, dev_only: bool) -> bool {
    let parser = |folder: &str| folder.starts_with("parsers/") && folder != "parsers/api";
    match to {
        // Tools stand at the edge: they may use anything, nothing uses them.
        "xtask" | "bench" | "agent" => tool(from),
        "tests/workload" => tool(from) || (dev_only && from == "agent"),
        "testkit" => tool(from) || (dev_only && (parser(from) || from == "engine")),
        "parsers/sql" => tool(from) || matches!(from, "parsers/mysql" | "parsers/postgres"),
        "parsers/api" => {
            parser(from) || matches!(from, "engine" | "testkit" | "agent") || tool(from)
        }
        "engine" => {
            matches!(
                from,
                "replay" | "capture" | "export" | "telemetry" | "agent" | "testkit"
            ) || tool(from)
                || (dev_only && parser(from))
        }
        "capture-abi" => matches!(from, "capture-bpf" | "capture") || tool(from),
        "probe-sites" => matches!(from, "capture" | "agent") || tool(from),
        "export" => matches!(from, "telemetry" | "agent") || tool(from),
        "capture" | "replay" | "telemetry" | "identity" | "kubernetes" => {
            from == "agent" || tool(from)
        }
        // Sources and exports are tried out with real parsers, in tests only.
        _ if parser(to) => {
            from == "agent" || tool(from) || (dev_only && matches!(from, "replay" | "export"))
        }
        _ => false,
    }
}

fn tool(folder: &str) -> bool {
    matches!(folder, "xtask" | "bench")
}

/// What a crate must not reach: parsers and engine no I/O, clock or threads, the aggregation nothing
/// that waits.
fn forbidden(folder: &str) -> &'static [&'static str] {
    match folder {
        "engine" | "probe-sites" | "capture-abi" => &IMPURE,
        "export" => &WAITING,
        folder if folder.starts_with("parsers/") => &IMPURE,
        _ => &[],
    }
}

impl Graph {
    fn read(root: &Path) -> Result<Self, String> {
        let output = crate::cargo()
            .args(["metadata", "--format-version=1", "--locked"])
            .current_dir(root)
            .output()
            .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("cargo metadata failed: {complaint}"));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata printed no JSON: {error}"))?;
        Ok(Self::of(&metadata))
    }

    fn of(metadata: &Value) -> Self {
        let root = text(&metadata["workspace_root"]);
        let members: BTreeSet<&str> = list(&metadata["workspace_members"]).map(text).collect();
        let mut graph = Self::default();
        for package in list(&metadata["packages"]) {
            let id = text(&package["id"]);
            graph.names.insert(id.into(), text(&package["name"]).into());
            if members.contains(id) {
                let manifest = text(&package["manifest_path"]);
                let folder = manifest.strip_prefix(root).unwrap_or(manifest);
                let folder = folder.trim_end_matches("Cargo.toml").trim_matches('/');
                graph.ours.insert(id.into(), folder.into());
            }
        }
        for node in list(&metadata["resolve"]["nodes"]) {
            for dependency in list(&node["deps"]) {
                let mut kinds = list(&dependency["dep_kinds"]);
                graph.uses.push(Use {
                    from: text(&node["id"]).into(),
                    to: text(&dependency["pkg"]).into(),
                    dev_only: kinds.all(|kind| kind["kind"] == "dev"),
                });
            }
        }
        graph
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for arrow in &self.uses {
            let (Some(from), Some(to)) = (self.ours.get(&arrow.from), self.ours.get(&arrow.to))
            else {
                continue;
            };
            if !allowed(from, to, arrow.dev_only) {
                let how = if arrow.dev_only { " in its tests" } else { "" };
                faults.push(format!(
                    "{from} uses {to}{how}: the arrow {to} <- {from} is not in docs/ARCHITECTURE.md"
                ));
            }
        }
        for (id, folder) in &self.ours {
            let path = self.path_to(id, forbidden(folder));
            faults.extend(
                path.map(|path| format!("{folder} must stay pure, and reaches I/O: {path}")),
            );
        }
        faults
    }

    /// The way from `id` to the first of the `forbidden` crates that it reaches outside of its
    /// tests.
    fn path_to(&self, id: &str, forbidden: &[&str]) -> Option<String> {
        let mut seen = BTreeSet::from([id]);
        let mut paths = vec![vec![id]];
        while let Some(path) = paths.pop() {
            let last = *path.last()?;
            for next in self.uses.iter().filter(|u| u.from == last && !u.dev_only) {
                if !seen.insert(&next.to) {
                    continue;
                }
                let mut longer = path.clone();
                longer.push(&next.to);
                if forbidden.contains(&self.name(&next.to)) {
                    let names: Vec<&str> = longer.iter().map(|id| self.name(id)).collect();
                    return Some(names.join(" -> "));
                }
                paths.push(longer);
            }
        }
        None
    }

    fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.get(id).map_or(id, String::as_str)
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Metadata of crates `(folder or name, uses)`; a use that begins with `dev:` is for tests.
    /// What has no slash and is not one of ours is somebody else's.
    fn graph(crates: &[(&str, &[&str])]) -> Graph {
        let foreign = |name: &str| IMPURE.contains(&name) || name == "nom";
        let packages: Vec<Value> = crates
            .iter()
            .map(|(name, _)| {
                json!({"id": name, "name": name, "manifest_path": format!("/w/{name}/Cargo.toml")})
            })
            .collect();
        let members: Vec<&str> = crates
            .iter()
            .map(|(name, _)| *name)
            .filter(|n| !foreign(n))
            .collect();
        let nodes: Vec<Value> = crates
            .iter()
            .map(|(name, uses)| {
                let deps: Vec<Value> = uses
                    .iter()
                    .map(|used| match used.strip_prefix("dev:") {
                        Some(used) => json!({"pkg": used, "dep_kinds": [{"kind": "dev"}]}),
                        None => json!({"pkg": used, "dep_kinds": [{"kind": null}]}),
                    })
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        Graph::of(&json!({
            "workspace_root": "/w", "workspace_members": members,
            "packages": packages, "resolve": {"nodes": nodes},
        }))
    }

    #[test]
    fn the_arrows_of_the_architecture_pass() {
        let graph = graph(&[
            ("parsers/api", &[]),
            ("parsers/redis", &["parsers/api", "nom", "dev:testkit"]),
            ("engine", &["parsers/api"]),
            ("testkit", &["engine", "parsers/api"]),
            ("replay", &["engine", "tokio"]),
            ("agent", &["engine", "replay", "parsers/redis"]),
            ("nom", &[]),
            ("tokio", &[]),
        ]);
        assert_eq!(graph.faults(), Vec::<String>::new());
    }

    #[test]
    fn an_engine_that_uses_a_parser_is_named() {
        let graph = graph(&[("engine", &["parsers/redis"]), ("parsers/redis", &[])]);
        assert_eq!(
            graph.faults(),
            [
                "engine uses parsers/redis: the arrow parsers/redis <- engine is not in docs/ARCHITECTURE.md"
            ]
        );
    }

    #[test]
    fn the_test_kit_is_for_tests_only() {
        let graph = graph(&[("parsers/redis", &["testkit"]), ("testkit", &[])]);
        assert_eq!(graph.faults().len(), 1);
    }

    #[test]
    fn io_behind_a_dependency_of_a_parser_is_found_with_its_path() {
        let graph = graph(&[
            ("parsers/redis", &["nom"]),
            ("nom", &["tokio"]),
            ("tokio", &[]),
        ]);
        assert_eq!(
            graph.faults(),
            ["parsers/redis must stay pure, and reaches I/O: parsers/redis -> nom -> tokio"]
        );
    }

    #[test]
    fn the_aggregation_waits_for_nothing() {
        let waits = graph(&[("export", &["tokio"]), ("tokio", &[])]);
        assert_eq!(
            waits.faults(),
            ["export must stay pure, and reaches I/O: export -> tokio"]
        );
        let locks = graph(&[
            ("export", &["libc"]),
            ("telemetry", &["export"]),
            ("libc", &[]),
        ]);
        assert_eq!(locks.faults(), Vec::<String>::new());
    }

    #[test]
    fn io_in_the_tests_of_a_parser_is_allowed() {
        let graph = graph(&[("parsers/redis", &["dev:tokio"]), ("tokio", &[])]);
        assert_eq!(graph.faults(), Vec::<String>::new());
    }
}
