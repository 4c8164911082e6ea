//! docs/kubernetes.yaml: that it is what docs/KUBERNETES.md says, and what this program understands.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

fn objects() -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kubernetes.yaml");
    let text = fs::read_to_string(file).expect("an example");
    text.split("\n---\n")
        .map(|text| serde_saphyr::from_str(text).expect("YAML"))
        .collect()
}

fn object(kind: &str) -> Value {
    let mut of_kind = objects()
        .into_iter()
        .filter(|object| object["kind"] == kind);
    let found = of_kind.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(of_kind.next().is_none(), "two of {kind}");
    found
}

fn wirespan(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_wirespan"))
        .args(arguments)
        .output();
    let output = output.expect("wirespan");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8(text).expect("UTF-8"),
    )
}

fn names<'a>(list: &'a Value, key: &str) -> BTreeSet<&'a str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|of| of[key].as_str().expect("a name")).collect()
}

#[test]
fn it_has_the_rights_that_are_used_and_no_others() {
    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]},
    ]);
    assert_eq!(object("ClusterRole")["rules"], rules);
    let (binding, account) = (object("ClusterRoleBinding"), object("ServiceAccount"));
    assert_eq!(
        binding["roleRef"]["name"],
        object("ClusterRole")["metadata"]["name"]
    );
    assert_eq!(binding["subjects"][0]["name"], account["metadata"]["name"]);
    assert_eq!(
        binding["subjects"][0]["namespace"],
        account["metadata"]["namespace"]
    );
    let pods = &object("DaemonSet")["spec"]["template"]["spec"];
    assert_eq!(pods["serviceAccountName"], account["metadata"]["name"]);
}

#[test]
fn its_pods_are_what_live_capture_needs() {
    let daemons = object("DaemonSet")["spec"].clone();
    let template = &daemons["template"];
    assert_eq!(
        daemons["selector"]["matchLabels"],
        template["metadata"]["labels"]
    );
    let pod = &template["spec"];
    assert_eq!(
        (&pod["hostPID"], &pod["hostNetwork"]),
        (&json!(true), &json!(true))
    );
    let container = &pod["containers"][0];
    let mounted = names(&container["volumeMounts"], "name");
    assert_eq!(mounted, names(&pod["volumes"], "name"));
    let places = names(&container["volumeMounts"], "mountPath");
    for needed in [
        "/sys/kernel/btf",
        "/sys/kernel/tracing",
        "/run",
        "/etc/wirespan",
    ] {
        assert!(places.contains(needed), "{needed}");
    }
    let live = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/LIVE.md");
    let live = fs::read_to_string(live).expect("a page");
    for capability in container["securityContext"]["capabilities"]["add"]
        .as_array()
        .expect("some")
    {
        let named = format!("| `CAP_{}` |", capability.as_str().expect("a name"));
        assert!(live.contains(&named), "{named}");
    }
    assert_eq!(
        container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"],
        "spec.nodeName"
    );
}

#[test]
fn what_it_says_to_the_program_is_understood() {
    let map = object("ConfigMap")["data"].clone();
    let text = map["wirespan.yaml"].as_str().expect("a file");
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("of-manifest.yaml");
    fs::write(&file, text).expect("written");
    let file = file.to_str().expect("UTF-8");
    let (correct, said) = wirespan(&["config", "check", file]);
    assert!(correct, "{said}");
    let container = object("DaemonSet")["spec"]["template"]["spec"]["containers"][0].clone();
    let arguments = container["args"].as_array().expect("a list").iter();
    let arguments: Vec<&str> = arguments
        .map(|text| text.as_str().expect("a text"))
        .collect();
    assert_eq!(
        arguments,
        ["agent", "--config", "/etc/wirespan/wirespan.yaml"]
    );
    let (_, schema) = wirespan(&["config", "schema"]);
    for variable in names(&container["env"], "name") {
        assert!(
            schema.contains(&format!("\"x-env\": \"{variable}\"")),
            "{variable}"
        );
    }
    let (_, printed) = wirespan(&["config", "print", "--effective", "-c", file]);
    let port = container["readinessProbe"]["httpGet"]["port"]
        .as_u64()
        .expect("a port");
    assert!(
        printed.contains(&format!("listen: \"0.0.0.0:{port}\"")),
        "{printed}"
    );
}
