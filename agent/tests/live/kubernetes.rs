//! Whose an exchange is, as Kubernetes tells: a real process in a control group as containerd makes it, beside
//! an API server that knows its pod late, and goes away.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::api_server::{Behaviour, Fake, pod};
use crate::identity::Server;
use crate::lab::run;
use crate::watch::{Folder, WIRESPAN, Watcher, capture, read, until};

const ID: &str = "5123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "51112222-3333-4444-5555-666677778888";

/// How the agent at `socket` says that it is.
fn status(socket: &Path) -> String {
    let mut status = Command::new(WIRESPAN);
    let status = status.args(["status", "--socket"]).arg(socket).output();
    String::from_utf8_lossy(&status.expect("a status").stdout).into_owned()
}

/// The pod that the server of the test is in.
fn cart() -> Value {
    let mut cart = pod(
        "cart-7d9-x",
        "10.0.0.7",
        Some(("apps/v1", "ReplicaSet", "cart-7d9")),
    );
    cart["metadata"]["uid"] = UID.into();
    cart["status"]["containerStatuses"][0]["containerID"] = format!("containerd://{ID}").into();
    cart
}

#[test]
fn requests_carry_pod_namespace_and_workload_as_soon_as_they_are_known() {
    let Some(_alone) = capture() else { return };
    let group = format!(
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{ID}.scope",
        UID.replace('-', "_")
    );
    let server = Server::start(&group, &[]);
    let mut fake = Fake::start(None);
    fake.world().token = Some("secret".to_owned());
    fake.workload(
        "apps/v1",
        "replicasets",
        "cart-7d9",
        Some(("Deployment", "cart")),
    );
    let folder = Folder::new("kubernetes");
    let (file, socket) = (folder.file("records.jsonl"), folder.file("wirespan.sock"));
    fs::write(folder.file("token"), "secret\n").expect("a token");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (port, url) = (server.port.to_string(), fake.url());
    let (records, at) = (text(&file), text(&socket));
    let arguments = [
        "agent",
        "--no-tls",
        "--port",
        &port,
        "--listen",
        "none",
        "--records",
        &records,
    ];
    let asked = ["--socket", &at, "--kubernetes", &url];
    let token = text(&folder.file("token"));
    let variables = [
        ("NODE_NAME", "node-1"),
        ("WIRESPAN_KUBERNETES_TOKEN_FILE", token.as_str()),
    ];
    let watcher = Watcher::start_with(&[&arguments[..], &asked].concat(), &variables);
    let ask = |path: &str| {
        let url = format!("http://127.0.0.1:{port}/{path}");
        run("curl", &["-sS", "-o", "/dev/null", &url]);
    };
    let says = |what: &str| until(what, || status(&socket).contains(what));

    says("Kubernetes: watching for");
    ask("early");
    // Told before anything is known of the pod.
    until("/early", || {
        fs::read_to_string(&file)
            .is_ok_and(|told| told.matches("\"target\":\"/early\"").count() == 2)
    });
    fake.put(cart());
    says(", 1 pods of node node-1, by http://");
    ask("known");
    fake.stop();
    says("Kubernetes: failing for");
    ask("dead");
    fake.world().behaviour = Behaviour::Late(Duration::from_secs(60));
    fake.begin();
    for n in 0..20 {
        ask(&format!("slow{n}"));
    }
    watcher.end();

    let records = read(&file);
    let of = |path: &str, side: &str| {
        let found = records.iter().find(|record| {
            record["side"] == side && record["target"].as_str() == Some(&format!("/{path}"))
        });
        found.unwrap_or_else(|| panic!("no record of /{path} at the {side}'s side"))
    };
    let early = of("early", "server");
    assert_eq!(early["container"]["id"], ID);
    assert_eq!(early["container"].get("pod"), None, "{early}");
    assert_eq!(early["attributes"]["service.name"], "http.server");
    for path in ["known", "dead", "slow19"] {
        let (record, attributes) = (of(path, "server"), &of(path, "server")["attributes"]);
        assert_eq!(record["container"]["pod"], "cart-7d9-x", "{record}");
        assert_eq!(record["container"]["namespace"], "shop", "{record}");
        for (key, value) in [
            ("service.name", "cart"),
            ("k8s.deployment.name", "cart"),
            ("k8s.replicaset.name", "cart-7d9"),
            ("k8s.container.name", "app"),
            ("k8s.node.name", "node-1"),
        ] {
            assert_eq!(attributes[key], value, "{record}");
        }
        let client = &of(path, "client")["attributes"];
        assert_eq!(client["service.peer.name"], "cart", "{client}");
        assert_eq!(client["service.peer.namespace"], "shop", "{client}");
    }
    assert_eq!(
        fake.asked("Bearer secret"),
        fake.asked("/"),
        "nobody asks without the token"
    );
}
