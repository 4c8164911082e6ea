//! Whose an exchange is: real processes in real control groups, laid out as container engines do.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::lab::run;
use crate::watch::{Watcher, capture, ended, signal, until};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde";

/// A server in a control group of its own.
pub(crate) struct Server {
    child: Child,
    groups: Vec<PathBuf>,
    pub(crate) port: u16,
}

impl Server {
    /// Starts it in the group at `path` of the hierarchy of version 2, with these variables.
    pub(crate) fn start(path: &str, variables: &[(&str, &str)]) -> Self {
        let root = hierarchy().join(format!("wirespan-test-{}", std::process::id()));
        let folder = root.join(path);
        fs::create_dir_all(&folder).expect("a control group");
        let mut groups = vec![folder.clone()];
        let above = folder.ancestors().skip(1);
        groups.extend(
            above
                .take_while(|group| group.starts_with(&root))
                .map(Into::into),
        );
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("a port").port();
        drop(socket);
        let join =
            "echo $$ > \"$0/cgroup.procs\" && exec python3 -m http.server --bind 127.0.0.1 $1";
        let child = Command::new("sh")
            .args(["-c", join])
            .arg(&folder)
            .arg(port.to_string())
            .envs(variables.iter().copied())
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = Self {
            child: child.expect("a shell"),
            groups,
            port,
        };
        until("a server", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        signal("KILL", self.child.id());
        ended(&mut self.child);
        for group in &self.groups {
            // Others may still be in those above.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Where control groups of version 2 are mounted.
fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let found = mounts.find_map(|mut words| {
        let place = words.nth(1)?;
        (words.next() == Some("cgroup2")).then(|| place.into())
    });
    found.expect("control groups of version 2")
}

#[test]
fn records_say_which_container_and_service_is_at_each_end() {
    let Some(_alone) = capture() else { return };
    let pod = "kubepods-burstable-pod11112222_3333_4444_5555_666677778888.slice";
    let layouts = [
        format!("system.slice/docker-{ID}1.scope"),
        format!("kubepods.slice/{pod}/cri-containerd-{ID}2.scope"),
        format!("kubepods.slice/{pod}/crio-{ID}3.scope/container"),
        format!("machine.slice/libpod-{ID}4.scope/container"),
        "system.slice/shop.service".to_owned(),
    ];
    let declared = [("OTEL_RESOURCE_ATTRIBUTES", "service.name=cart")];
    let mut servers: Vec<Server> = layouts
        .iter()
        .map(|path| Server::start(path, &[]))
        .collect();
    servers.push(Server::start(&format!("docker/{ID}6"), &declared));
    let ports: Vec<String> = servers
        .iter()
        .map(|server| server.port.to_string())
        .collect();
    let watcher = Watcher::tail(&["--port", &ports.join(",")]);
    for port in &ports {
        run(
            "curl",
            &[
                "-sS",
                "-o",
                "/dev/null",
                &format!("http://127.0.0.1:{port}/"),
            ],
        );
    }
    let records = watcher.end().records;
    let expected = [
        ("http.server", Some("1")),
        ("http.server", Some("2")),
        ("http.server", Some("3")),
        ("http.server", Some("4")),
        ("shop", None),
        ("cart", Some("6")),
    ];
    for ((service, container), port) in expected.into_iter().zip(&ports) {
        let of = |side: &str| {
            let found = records.iter().find(|record| {
                let server = record["server"].as_str().unwrap_or_default();
                record["side"] == side && server.ends_with(&format!(":{port}"))
            });
            found.unwrap_or_else(|| panic!("no record of {service} at the {side}'s side"))
        };
        let (server, client) = (of("server"), of("client"));
        let id = container.map(|last| Value::from(format!("{ID}{last}")));
        assert_eq!(
            server["container"]["id"],
            id.unwrap_or_default(),
            "{server}"
        );
        assert_eq!(server["attributes"]["service.name"], service, "{server}");
        assert_eq!(
            server["attributes"]["service.peer.name"], "curl",
            "{server}"
        );
        assert_eq!(client["attributes"]["service.name"], "curl", "{client}");
        assert_eq!(
            client["attributes"]["service.peer.name"], service,
            "{client}"
        );
    }
}
