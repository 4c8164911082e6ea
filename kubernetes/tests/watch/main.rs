//! The directory of pods beside an API server that restarts, lags, forgets, and says what it should
//! not.

mod fake;
mod tls;

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use fake::{Behaviour, Fake, pod};
use serde_json::json;
use tls::certificates;
use wirespan_kubernetes::{Config, Found, Kind, Labels, Pace, Phase, Watch};

/// What does not happen within this time does not happen.
const PATIENCE: Duration = Duration::from_secs(20);

const PACE: Pace = Pace {
    first_wait: Duration::from_millis(20),
    longest_wait: Duration::from_millis(200),
    patience: Duration::from_secs(2),
    watch: Duration::from_secs(60),
    old: Duration::from_millis(300),
};

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A watch of a server in the clear, and what it reports.
fn watch(fake: &Fake) -> (Watch, Receiver<(String, Phase)>) {
    let config = Config::new(&fake.url(), "node-1", (None, None)).expect("right");
    started(config.at_pace(PACE))
}

fn started(config: Config) -> (Watch, Receiver<(String, Phase)>) {
    let (told, reports) = channel();
    let report = move |message: &str, phase| {
        // The test may be over.
        let _ = told.send((message.to_owned(), phase));
    };
    (Watch::start(config, report).expect("a thread"), reports)
}

fn found(watch: &Watch, name: &str) -> Option<Found> {
    watch
        .directory()
        .find(Some(&format!("container-of-{name}")), None)
}

fn knows(watch: &Watch, name: &str) -> bool {
    found(watch, name).is_some()
}

fn watching(watch: &Watch) {
    until("watching", || watch.state().phase == Phase::Watching);
}

#[test]
fn pods_are_known_with_what_made_them() {
    let fake = Fake::start(None);
    fake.workload(
        "apps/v1",
        "replicasets",
        "cart-7d9",
        Some(("Deployment", "cart")),
    );
    fake.workload("apps/v1", "replicasets", "alone", None);
    fake.workload(
        "batch/v1",
        "jobs",
        "nightly-1",
        Some(("CronJob", "nightly")),
    );
    let owners = [
        (
            "cart-7d9-x",
            Some(("apps/v1", "ReplicaSet", "cart-7d9")),
            Some((Kind::Deployment, "cart")),
        ),
        (
            "alone-x",
            Some(("apps/v1", "ReplicaSet", "alone")),
            Some((Kind::ReplicaSet, "alone")),
        ),
        (
            "gone-x",
            Some(("apps/v1", "ReplicaSet", "gone")),
            Some((Kind::ReplicaSet, "gone")),
        ),
        (
            "db-0",
            Some(("apps/v1", "StatefulSet", "db")),
            Some((Kind::StatefulSet, "db")),
        ),
        (
            "log-x",
            Some(("apps/v1", "DaemonSet", "log")),
            Some((Kind::DaemonSet, "log")),
        ),
        (
            "nightly-1-x",
            Some(("batch/v1", "Job", "nightly-1")),
            Some((Kind::CronJob, "nightly")),
        ),
        ("bare", None, None),
    ];
    for (name, owner, _) in owners {
        fake.put(pod(name, "10.0.0.1", owner));
    }
    let (watch, _) = watch(&fake);
    for (name, _, workload) in owners {
        until(name, || knows(&watch, name));
        let found = found(&watch, name).expect("a pod");
        let made = found.pod.workload().map(|owner| (owner.kind, &*owner.name));
        assert_eq!(made, workload, "{name}");
        let expected = workload.map_or(name, |(_, name)| name);
        assert_eq!(found.pod.service_name(Labels::Ignored), expected);
        assert_eq!(found.container().map(|of| &*of.name), Some("app"));
    }
    assert_eq!(
        fake.asked("/replicasets/cart-7d9 "),
        0,
        "the query begins with ?"
    );
    assert_eq!(fake.asked("/replicasets/cart-7d9?"), 1);
    assert_eq!(
        fake.asked("fieldSelector=spec.nodeName%3Dnode-1&resourceVersion=0"),
        1
    );
}

#[test]
fn a_pod_that_the_kernel_has_before_the_server_is_known_later() {
    let fake = Fake::start(None);
    let (watch, reports) = watch(&fake);
    watching(&watch);
    assert_eq!(
        reports.recv_timeout(PATIENCE),
        Ok(("0 pods of node node-1".to_owned(), Phase::Watching))
    );
    assert!(!knows(&watch, "late"));
    let before = watch.directory().generation();
    let mut starting = pod("late", "10.0.0.9", None);
    starting["status"] = json!({"phase": "Pending"});
    fake.put(starting);
    until("its UID", || {
        watch.directory().find(None, Some("uid-of-late")).is_some()
    });
    assert!(watch.directory().generation() > before && !knows(&watch, "late"));
    fake.put(pod("late", "10.0.0.9", None));
    until("its container", || knows(&watch, "late"));
    let address: IpAddr = [10, 0, 0, 9].into();
    assert_eq!(
        watch
            .directory()
            .at(address)
            .map(|pod| pod.name.clone())
            .as_deref(),
        Some("late")
    );
    fake.delete("uid-of-late");
    until("gone", || !knows(&watch, "late"));
    assert_eq!(watch.directory().at(address), None);
    assert_eq!(watch.state().changes, 3);
}

#[test]
fn a_server_that_restarts_is_gone_on_with_where_it_was() {
    let mut fake = Fake::start(None);
    fake.put(pod("old", "10.0.0.1", None));
    let (watch, reports) = watch(&fake);
    watching(&watch);
    fake.stop();
    until("trouble", || watch.state().phase == Phase::Failing);
    assert!(
        knows(&watch, "old"),
        "a container is of its pod whoever answers"
    );
    let address: IpAddr = [10, 0, 0, 1].into();
    until("the address may be another's", || {
        watch.directory().at(address).is_none()
    });
    fake.put(pod("new", "10.0.0.2", None));
    fake.begin();
    until("the new one", || knows(&watch, "new"));
    watching(&watch);
    assert!(watch.directory().at(address).is_some());
    assert_eq!(fake.asked("resourceVersion=0"), 1, "nothing is listed anew");
    let phases: Vec<Phase> = reports.try_iter().map(|(_, phase)| phase).collect();
    assert_eq!(
        phases,
        [Phase::Watching, Phase::Failing, Phase::Watching],
        "each is told once"
    );
    let state = watch.state();
    assert!(state.failed >= 1 && state.forgotten == 0, "{state:?}");
}

#[test]
fn what_a_server_has_forgotten_is_listed_anew() {
    let mut fake = Fake::start(None);
    fake.put(pod("stays", "10.0.0.1", None));
    fake.put(pod("goes", "10.0.0.2", None));
    let (watch, _) = watch(&fake);
    until("both", || knows(&watch, "stays") && knows(&watch, "goes"));
    watching(&watch);
    fake.stop();
    fake.delete("uid-of-goes");
    fake.put(pod("comes", "10.0.0.3", None));
    fake.forget();
    fake.world().page = 1;
    fake.begin();
    until("the new one", || knows(&watch, "comes"));
    assert!(knows(&watch, "stays") && !knows(&watch, "goes"));
    assert_eq!(watch.state().forgotten, 1);
    assert_eq!(fake.asked("limit=100"), 2, "in pages");
}

#[test]
fn bookmarks_save_listing_anew() {
    let fake = Fake::start(None);
    let (watch, _) = watch(&fake);
    watching(&watch);
    let version = fake.bookmark();
    let again = || fake.say(json!({"type": "ERROR", "object": {"code": 500, "message": "again"}}));
    let from_there = || fake.asked(&format!("resourceVersion={version}&"));
    again();
    until("gone on", || from_there() == 1);
    fake.forget();
    again();
    until("gone on again", || from_there() >= 2);
    fake.put(pod("new", "10.0.0.2", None));
    until("the new one", || knows(&watch, "new"));
    assert_eq!((watch.state().forgotten, fake.asked("limit=")), (0, 0));
}

#[test]
fn a_token_that_is_rotated_is_read_again_and_tls_is_verified() {
    let fake = Fake::start(Some(tls::accept));
    fake.put(pod("cart", "10.0.0.1", None));
    fake.world().token = Some("first".to_owned());
    let folder = Folder::new("token");
    let (token, ca) = (folder.0.join("token"), folder.0.join("ca.crt"));
    fs::write(&token, "first\n").expect("a token");
    fs::copy(certificates().join("stranger.pem"), &ca).expect("certificates");
    let config = Config::new(&fake.url(), "node-1", (Some(&token), Some(&ca))).expect("right");
    let (watch, reports) = started(config.at_pace(PACE));
    let (message, phase) = reports.recv_timeout(PATIENCE).expect("a report");
    assert_eq!(phase, Phase::Failing);
    assert!(message.contains("certificate"), "{message}");
    assert_eq!(fake.asked("Bearer"), 0, "strangers get no token");
    fs::copy(certificates().join("authority.pem"), &ca).expect("certificates");
    until("the pod", || knows(&watch, "cart"));
    watching(&watch);
    fake.world().token = Some("second".to_owned());
    fake.say(json!({"type": "ERROR", "object": {"code": 401, "message": "expired"}}));
    until("refused", || {
        watch
            .state()
            .error
            .is_some_and(|error| error.contains("it is not allowed"))
    });
    assert!(knows(&watch, "cart"));
    fs::write(&token, "second").expect("a token");
    watching(&watch);
    assert!(fake.asked("Bearer second") >= 1);
    fs::remove_file(&token).expect("removed");
    fake.say(json!({"type": "ERROR", "object": {"code": 500, "message": "x"}}));
    until("no token", || {
        watch
            .state()
            .error
            .is_some_and(|error| error.contains("token: No such file"))
    });
}

#[test]
fn what_is_malformed_is_told_and_asked_for_again() {
    let fake = Fake::start(None);
    for text in [
        "",
        "{",
        "[]",
        "<html>",
        r#"{"metadata":{}}"#,
        r#"{"type":4}"#,
        "\u{0}",
    ] {
        fake.world().behaviour = Behaviour::Say(text);
        let (watch, _) = watch(&fake);
        until("trouble", || watch.state().phase == Phase::Failing);
        let error = watch.state().error.expect("an error");
        assert!(error.contains("malformed"), "{text}: {error}");
        fake.world().behaviour = Behaviour::Well;
        watching(&watch);
        // In a watch, too.
        fake.say(json!("no event"));
        until("listed anew", || watch.state().failed >= 2);
        fake.put(json!({"metadata": {"uid": "u", "name": 7}}));
        fake.put(pod("cart", "10.0.0.1", None));
        until("the others", || knows(&watch, "cart"));
        fake.forget();
        fake.delete("u");
        fake.delete("uid-of-cart");
    }
}

#[test]
fn what_is_huge_is_not_read_to_its_end() {
    let fake = Fake::start(None);
    fake.world().behaviour = Behaviour::Flood;
    let (watch, _) = watch(&fake);
    until("too large", || {
        watch
            .state()
            .error
            .is_some_and(|error| error.contains("33554432"))
    });
    fake.world().behaviour = Behaviour::Well;
    watching(&watch);
    let listed = fake.asked("limit=100");
    fake.world().behaviour = Behaviour::Flood;
    fake.say(json!({"type": "ERROR", "object": {"code": 500, "message": "again"}}));
    until("too large", || {
        watch
            .state()
            .error
            .is_some_and(|error| error.contains("4194304"))
    });
    until("listed anew", || fake.asked("limit=100") > listed);
}

#[test]
fn an_answer_that_comes_late_is_given_up_and_one_in_time_is_taken() {
    let fake = Fake::start(None);
    fake.put(pod("cart", "10.0.0.1", None));
    fake.world().behaviour = Behaviour::Late(Duration::from_secs(60));
    let (watch, _) = watch(&fake);
    let asked = Instant::now();
    assert!(!knows(&watch, "cart"));
    assert!(asked.elapsed() < Duration::from_millis(100), "nobody waits");
    until("given up", || {
        watch
            .state()
            .error
            .is_some_and(|error| error.contains("in time"))
    });
    fake.world().behaviour = Behaviour::Late(Duration::from_millis(300));
    until("the pod", || knows(&watch, "cart"));
}

#[test]
fn workloads_that_may_not_be_asked_for_are_not_guessed() {
    let fake = Fake::start(None);
    fake.workload(
        "apps/v1",
        "replicasets",
        "cart-7d9",
        Some(("Deployment", "cart")),
    );
    fake.world().behaviour = Behaviour::RefuseWorkloads(403);
    fake.put(pod(
        "cart-7d9-x",
        "10.0.0.1",
        Some(("apps/v1", "ReplicaSet", "cart-7d9")),
    ));
    let (watch, _) = watch(&fake);
    let workload = || {
        let found = found(&watch, "cart-7d9-x")?;
        found
            .pod
            .workload()
            .map(|owner| (owner.kind, owner.name.to_string()))
    };
    until("the pod", || workload().is_some());
    assert_eq!(workload(), Some((Kind::ReplicaSet, "cart-7d9".to_owned())));
    let error = watch.state().error.expect("an error");
    assert!(
        error.contains("ReplicaSet shop/cart-7d9: 403: it is not allowed"),
        "{error}"
    );
    fake.world().behaviour = Behaviour::Well;
    until("the deployment", || {
        workload() == Some((Kind::Deployment, "cart".to_owned()))
    });
}

#[test]
fn a_server_that_fails_is_asked_less_and_less_or_when_it_says() {
    // 20, 40, 80, 160, then 200 ms, each shortened by up to half; with 503 it says 200 ms at least.
    for (status, most) in [(500, 30), (503, 11)] {
        let fake = Fake::start(None);
        fake.world().behaviour = Behaviour::Refuse(status);
        let (watch, _) = watch(&fake);
        thread::sleep(Duration::from_secs(2));
        let asked = fake.asked("pods");
        assert!((3..=most).contains(&asked), "{status}: {asked}");
        let error = watch.state().error.expect("an error");
        assert!(error.contains(&status.to_string()), "{error}");
        fake.world().behaviour = Behaviour::Well;
        watching(&watch);
    }
}

#[test]
fn a_watch_that_ends_again_and_again_is_not_begun_in_a_loop() {
    let fake = Fake::start(None);
    let (watch, _) = watch(&fake);
    watching(&watch);
    fake.world().behaviour =
        Behaviour::Say(r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"1000"}}}"#);
    fake.say(json!({"type": "ERROR", "object": {"code": 500, "message": "again"}}));
    thread::sleep(Duration::from_secs(1));
    let watches = fake.asked("watch=1");
    assert!((2..=101).contains(&watches), "{watches}");
}

#[test]
fn it_ends_at_once_whatever_it_waits_for() {
    let fake = Fake::start(None);
    fake.world().behaviour = Behaviour::Late(Duration::from_secs(60));
    let (watch, _) = watch(&fake);
    until("asked", || fake.asked("pods") > 0);
    let began = Instant::now();
    drop(watch);
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// A folder that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("wirespan-kubernetes-{}-{name}", std::process::id());
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&folder.0).expect("a folder");
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
