use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::Path;

use wirespan_engine::{Config, Engine, Layer, Registry, Roles, Sink, UnixName};

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A file system with processes, gone after the test.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let folder = format!("wirespan-census-{}-{name}", std::process::id());
        let machine = Self(std::env::temp_dir().join(folder));
        machine.write("proc/sys/kernel/hostname", "node-1\n");
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn process(&self, pid: u32, executable: &str, cgroup: &str, environ: &str) {
        self.write(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
        self.write(&format!("proc/{pid}/environ"), environ);
        let link = self.0.join(format!("proc/{pid}/exe"));
        let _ = fs::remove_file(&link);
        symlink(Path::new(executable), link).expect("a link");
    }

    fn ends(&self, pid: u32) {
        fs::remove_dir_all(self.0.join(format!("proc/{pid}"))).expect("a process");
    }

    fn census(&self) -> Census {
        self.census_with(Pods::default())
    }

    fn census_with(&self, pods: Pods) -> Census {
        Census::new(Root::new(&self.0), pods)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Nobody.
struct Nobody;

impl Sink for Nobody {
    fn exchange(&mut self, _: &Exchange<'_>) {}
}

/// Ids of connections, which only an engine makes.
struct Ids(Engine);

impl Ids {
    fn new() -> Self {
        let registry = Registry::builder().build().expect("no names");
        Self(Engine::new(Arc::new(registry), Config::default()))
    }

    fn open(&mut self, census: &mut Census, opening: &Opening) -> ConnectionId {
        let id = self.0.open(opening, Nanos(1), &mut Nobody);
        census.open(id, opening, Nanos(1));
        id
    }
}

const CLIENT: Address = inet(40_000);
const SERVER: Address = inet(80);

const fn inet(port: u16) -> Address {
    Address::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

fn opening(side: Side, pid: u32, comm: &[u8]) -> Opening {
    Opening {
        number: 0,
        client: CLIENT,
        server: SERVER,
        roles: Roles::Known,
        start: Start::Beginning,
        side,
        layer: Layer::Transport,
        process: Some(Process::new(pid, comm)),
    }
}

impl Census {
    /// The service of a process, and the one at the other end, as an exchange of `side` has them.
    fn services(&self, side: Side, pid: u32, comm: &[u8]) -> (String, Option<Box<str>>) {
        let mut records = self.records();
        let owner = records.owner(&Process::new(pid, comm), None);
        let (remote, other) = match side {
            Side::Client => (SERVER, Side::Server),
            _ => (CLIENT, Side::Client),
        };
        let peer = records.peer(Pair::of(CLIENT, SERVER), remote, other);
        (
            owner.service.name.to_string(),
            peer.map(|peer| peer.name().into()),
        )
    }
}

#[test]
fn a_process_that_has_ended_is_known_by_what_it_was() {
    let machine = Machine::new("ended");
    machine.process(7, "/usr/bin/curl", "/", "OTEL_SERVICE_NAME=shop\0");
    let mut census = machine.census();
    Ids::new().open(&mut census, &opening(Side::Client, 7, b"curl"));
    machine.ends(7);
    assert_eq!(census.services(Side::Client, 7, b"curl").0, "shop");
    assert_eq!(
        census.services(Side::Client, 8, b"gone").0,
        "gone",
        "never seen"
    );
    // Another process has the number now.
    machine.process(7, "/usr/bin/nc", "/", "");
    assert_eq!(census.services(Side::Client, 7, b"nc").0, "nc");
}

#[test]
fn both_ends_within_the_machine_know_each_other() {
    let machine = Machine::new("peers");
    machine.process(7, "/usr/bin/curl", "/", "");
    machine.process(8, "/usr/sbin/nginx", "/system.slice/web.service", "");
    let (mut census, mut ids) = (machine.census(), Ids::new());
    let client = ids.open(&mut census, &opening(Side::Client, 7, b"curl"));
    assert_eq!(
        census.services(Side::Client, 7, b"curl"),
        ("curl".into(), None)
    );
    ids.open(&mut census, &opening(Side::Server, 8, b"nginx"));
    assert_eq!(
        census.services(Side::Client, 7, b"curl").1.as_deref(),
        Some("web")
    );
    assert_eq!(
        census.services(Side::Server, 8, b"nginx").1.as_deref(),
        Some("curl")
    );
    // The socket is handed on; the addresses as a socket of version 6 has them are the same.
    machine.process(9, "/usr/bin/wget", "/", "");
    census.set_process(client, Process::new(9, b"wget"), Nanos(2));
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), 40_000).into();
    let peer = census
        .records()
        .peer(Pair::of(mapped, SERVER), mapped, Side::Client);
    assert_eq!(peer.as_ref().map(Peer::name), Some("wget"));
}

#[test]
fn the_server_of_a_unix_socket_is_known_to_its_clients_and_they_are_not_to_it() {
    let machine = Machine::new("unix");
    machine.process(7, "/usr/bin/psql", "/", "");
    machine.process(8, "/usr/bin/postgres", "/", "");
    let name = Address::Unix(UnixName::new(b"/run/postgresql/.s.PGSQL.5432"));
    let (mut census, mut ids) = (machine.census(), Ids::new());
    let of = |side, pid, comm: &[u8]| Opening {
        client: name,
        server: name,
        ..opening(side, pid, comm)
    };
    ids.open(&mut census, &of(Side::Client, 7, b"psql"));
    ids.open(&mut census, &of(Side::Server, 8, b"postgres"));
    let mut records = census.records();
    let pair = Pair::of(name, name);
    let peer = records.peer(pair, name, Side::Server);
    assert_eq!(peer.as_ref().map(Peer::name), Some("postgres"));
    assert_eq!(records.peer(pair, name, Side::Client), None);
}

#[test]
fn ends_are_forgotten_a_while_after_the_connection() {
    let machine = Machine::new("forgotten");
    machine.process(8, "/usr/sbin/nginx", "/", "");
    let (mut census, mut ids) = (machine.census(), Ids::new());
    let id = ids.open(&mut census, &opening(Side::Server, 8, b"nginx"));
    census.close(id, Close::Finished, Nanos(2));
    assert_eq!(
        census.services(Side::Client, 7, b"x").1.as_deref(),
        Some("nginx")
    );
    let long_ago = Instant::now().checked_sub(LINGER + Duration::from_secs(1));
    census.records().closed[0].0 = long_ago.expect("a clock that has run for a while");
    census.records().expire();
    assert_eq!(census.services(Side::Client, 7, b"x").1, None);
    let records = census.records();
    assert!(records.pairs.is_empty() && records.connections.is_empty());
}

#[test]
fn addresses_elsewhere_have_the_names_that_the_machine_has_for_them() {
    let machine = Machine::new("hosts");
    machine.write("etc/hosts", "10.0.0.7 db.shop\n");
    let census = machine.census();
    let database = Address::from(([10, 0, 0, 7], 5432));
    let peer = |census: &Census| {
        census
            .records()
            .peer(Pair::of(CLIENT, database), database, Side::Server)
            .map(|peer| peer.name().to_owned())
    };
    assert_eq!(peer(&census).as_deref(), Some("db.shop"));
    machine.write("etc/hosts", "10.0.0.7 replica.shop # now\n");
    let later = SystemTime::now() + Duration::from_secs(60);
    let file = fs::File::options()
        .write(true)
        .open(machine.0.join("etc/hosts"));
    file.and_then(|file| file.set_modified(later))
        .expect("a time");
    assert_eq!(
        peer(&census).as_deref(),
        Some("db.shop"),
        "not looked at every time"
    );
    census.records().names.looked = None;
    assert_eq!(peer(&census).as_deref(), Some("replica.shop"));
}

#[test]
fn processes_are_remembered_in_bounded_memory() {
    let machine = Machine::new("bounded");
    let census = machine.census();
    for pid in 1..=2 * MOST as u32 {
        census.records().owner(&Process::new(pid, b"x"), None);
    }
    assert!(census.records().owners.len() <= MOST);
}

#[test]
fn processes_that_are_gone_are_forgotten_with_their_last_connection() {
    let machine = Machine::new("gone");
    machine.process(1, "/stays", "/", "");
    let mut census = machine.census();
    let id = Ids::new().open(&mut census, &opening(Side::Client, 2, b"x"));
    let look = |pid| drop(census.records().owner(&Process::new(pid, b"x"), None));
    [1].into_iter().chain(3..100).for_each(look);
    assert_eq!(census.records().owners.len(), 99, "too soon to forget");
    let left = || {
        let mut records = census.records();
        for found in records.owners.values_mut() {
            found.when -= LINGER;
        }
        records.forget();
        let mut pids: Vec<_> = records.owners.keys().copied().collect();
        pids.sort_unstable();
        pids
    };
    assert_eq!(left(), [1, 2]);
    // Looked at again only when there are many.
    (1_000..1_062).for_each(look);
    assert_eq!(census.records().owners.len(), FEW);
    for found in census.records().owners.values_mut() {
        found.when -= LINGER;
    }
    look(2_000);
    assert_eq!(census.records().owners.len(), 3);

    census.clone().close(id, Close::Finished, Nanos(2));
    census.records().closed[0].0 -= 2 * LINGER;
    census.records().expire();
    assert_eq!(left(), [1]);
}

#[test]
fn a_service_has_the_attributes_of_its_container_and_what_it_says_of_itself() {
    let machine = Machine::new("attributes");
    let pod = "kubepods-pod11112222_3333_4444_5555_666677778888.slice";
    let environ = "OTEL_RESOURCE_ATTRIBUTES=service.version=2,deployment.environment.name=test,process.pid=1,container.id=mine\0";
    machine.process(
        7,
        "/app",
        &format!("/kubepods.slice/{pod}/cri-containerd-{ID}.scope"),
        environ,
    );
    machine.write(
        &format!("run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID}/config.json"),
        r#"{"annotations":{"io.kubernetes.cri.container-name":"cart","io.kubernetes.cri.sandbox-name":"cart-1",
            "io.kubernetes.cri.sandbox-namespace":"shop"}}"#,
    );
    let owner = machine
        .census()
        .records()
        .owner(&Process::new(7, b"app"), None);
    let service = &owner.service;
    assert_eq!((&*service.name, &*service.instance), ("cart", ID));
    let expected = [
        ("service.namespace", "shop"),
        ("service.version", "2"),
        ("host.name", "node-1"),
        ("container.id", ID),
        ("k8s.container.name", "cart"),
        ("k8s.pod.name", "cart-1"),
        ("k8s.pod.uid", "11112222-3333-4444-5555-666677778888"),
        ("k8s.namespace.name", "shop"),
        ("deployment.environment.name", "test"),
    ];
    let found: Vec<_> = service
        .attributes
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    assert_eq!(found, expected);
    assert_eq!(owner.path.as_deref(), Some("/app"));
}

/// What an API server tells.
#[cfg(feature = "kubernetes")]
mod pods {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::KubernetesKeys;
    use crate::pods::fake::{Fake, pod};

    const UID: &str = "11112222-3333-4444-5555-666677778888";

    fn asking(fake: &Fake) -> Pods {
        let keys = KubernetesKeys {
            api: fake.url(),
            node: Some("node-1".to_owned()),
            ..KubernetesKeys::default()
        };
        Pods::start(&keys, |_, _| {}).expect("started")
    }

    fn cart(container: &str) -> Value {
        let owner = ("apps/v1", "StatefulSet", "cart");
        let mut cart = pod("cart-0", "10.0.0.7", Some(owner));
        cart["metadata"]["uid"] = UID.into();
        cart["metadata"]["annotations"] = json!({
            "resource.opentelemetry.io/deployment.environment.name": "by-annotation",
            "resource.opentelemetry.io/team": "blue",
            "resource.opentelemetry.io/service.criticality": "high",
        });
        cart["status"]["containerStatuses"][0]["containerID"] = container.into();
        cart
    }

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..2_000 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never: {what}");
    }

    #[test]
    fn what_is_not_known_yet_is_known_of_what_follows_and_stays() {
        let machine = Machine::new("pods");
        let group = format!("/kubepods/burstable/pod{UID}/{ID}");
        let environ = "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=own\0";
        machine.process(7, "/app", &group, environ);
        let fake = Fake::start(None);
        let pods = asking(&fake);
        let mut census = machine.census_with(pods.clone());
        Ids::new().open(&mut census, &opening(Side::Server, 7, b"app"));
        let service = || {
            let owner = census.records().owner(&Process::new(7, b"app"), None);
            Arc::clone(&owner.service)
        };
        assert_eq!(&*service().name, "app");
        assert_eq!(&*service().instance, ID);
        let missed = |pods: &Pods| format!("{:?}", pods.readings().last());
        assert!(missed(&pods).contains(r#"("wirespan.outcome", "missed")], 1.0"#));
        fake.put(cart(&format!("containerd://{ID}")));
        machine.ends(7);
        until("its StatefulSet", || &*service().name == "cart");
        let known = service();
        assert_eq!(&*known.instance, "shop.cart-0.app");
        let expected = [
            ("service.namespace", "shop"),
            ("service.version", "1.2"),
            ("host.name", "node-1"),
            ("container.id", ID),
            ("k8s.container.name", "app"),
            ("k8s.pod.name", "cart-0"),
            ("k8s.pod.uid", UID),
            ("k8s.namespace.name", "shop"),
            ("k8s.node.name", "node-1"),
            ("k8s.statefulset.name", "cart"),
            ("deployment.environment.name", "own"),
            ("team", "blue"),
        ];
        let found = known
            .attributes
            .iter()
            .map(|(key, value)| (&**key, &**value));
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let container = known.container.as_ref().expect("a container");
        assert_eq!(container.pod.as_deref(), Some("cart-0"));
        assert_eq!(container.namespace.as_deref(), Some("shop"));
        census.records().owners.get_mut(&7).expect("known").when -= LINGER;
        census.records().forget();
        let generation = pods.generation();
        fake.delete(UID);
        until("forgotten", || pods.generation() > generation);
        assert_eq!(service(), known, "it was in that pod all the same");
    }

    #[test]
    fn addresses_of_this_nodes_pods_are_their_services() {
        let machine = Machine::new("pod-peers");
        let fake = Fake::start(None);
        fake.put(cart("containerd://x"));
        let census = machine.census_with(asking(&fake));
        let server = Address::from(([10, 0, 0, 7], 80));
        let peer = |address| {
            let mut records = census.records();
            records.peer(Pair::of(CLIENT, address), address, Side::Server)
        };
        until("the pod", || peer(server).is_some());
        let found = peer(server).expect("a peer");
        assert_eq!((found.name(), found.namespace()), ("cart", Some("shop")));
        assert_eq!(peer(Address::from(([10, 0, 0, 8], 80))), None);
    }
}
