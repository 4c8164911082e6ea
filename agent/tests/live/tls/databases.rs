//! PostgreSQL, MariaDB and Redis, whose connections turn to TLS or begin with it.

use super::{Asked, assert_all_seen, at, flagged, ports};
use crate::lab::{Kind, Lab, Session, kind, run, strangers};
use crate::watch::{Watcher, capture};

const PSYCOPG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/tls/postgres.py");

const COUNT: usize = 20;

fn select(protocol: &str, count: usize) -> [(Kind, usize); 1] {
    [(kind(protocol, "SELECT", "SELECT ?", "OK"), count)]
}

fn psql(lab: &Lab, port: &str) -> Session {
    let place = format!("host=127.0.0.1 port={port} user=admin dbname=shop sslmode=require");
    Session::start(lab.told("postgres-psql"), &["-XAtq", &place])
}

fn mariadb(port: &str) -> Session {
    let place = ["--no-defaults", "--ssl", "-h", "127.0.0.1", "-P", port];
    let user = ["-u", "joe", "-pCANARY-joe", "-NBn", "shop"];
    Session::start("mariadb", &[&place[..], &user].concat())
}

fn redis(port: &str) -> Session {
    Session::start("redis-cli", &["--tls", "--insecure", "-p", port])
}

/// Asks `COUNT` questions whose answers are known.
fn ask(session: &mut Session, question: impl Fn(usize) -> (String, String)) {
    for number in 0..COUNT {
        let (question, answer) = question(number);
        assert_eq!(session.ask(&question), answer);
    }
}

fn select_number(number: usize) -> (String, String) {
    (format!("SELECT {number};"), number.to_string())
}

fn set(key: &str) -> impl Fn(usize) -> (String, String) {
    move |number| (format!("SET {key} {number}"), "OK".to_owned())
}

#[test]
fn databases_with_tls_and_their_clients() {
    let Some(_alone) = capture() else { return };
    let names = ["postgres", "mariadb", "redis", "aiohttp"];
    let Some(lab) = Lab::start(&names.map(|name| format!("tls/{name}"))) else {
        return;
    };
    let [Some(of_postgres), Some(of_mariadb), Some(of_redis), _] = names.map(|name| lab.tls(name))
    else {
        return;
    };
    let mut before = redis(of_redis);
    assert_eq!(before.ask("PING"), "PONG");
    let watcher = Watcher::with_tls(&ports(&[of_postgres, of_mariadb, of_redis]));
    ask(&mut before, set("before"));
    before.end();
    let mut session = psql(&lab, of_postgres);
    ask(&mut session, select_number);
    session.end();
    let mut session = mariadb(of_mariadb);
    ask(&mut session, select_number);
    session.end();
    let mut session = redis(of_redis);
    // First it asks for the documentation of all commands, more than may be copied at once.
    assert_eq!(session.ask("PING"), "PONG");
    ask(&mut session, set("new"));
    session.end();
    let mut asked = vec![
        Asked::new(
            of_postgres,
            "psql",
            "postgres",
            &select("postgresql", COUNT),
        ),
        Asked::new(of_mariadb, "mariadb", "mariadbd", &select("mysql", COUNT)),
        Asked::new(
            of_redis,
            "redis-cli",
            "redis-server",
            &["before", "new"].map(|key| (kind("redis", "SET", key, "OK"), COUNT)),
        ),
    ];
    asked.extend(psycopg(&lab, of_postgres));
    let records = watcher.end().records;
    assert_all_seen(&records, &asked);
    let mut of_redis = at(&records, of_redis);
    of_redis.retain(|record| record["operation"] == "SET");
    assert_eq!(of_redis.len(), COUNT * 2 * 2);
    for record in &of_redis {
        let was_open = record["target"] == "before";
        assert_eq!(flagged(record, "midstream"), was_open, "{record}");
    }
    let allowed = ["BEGIN", "COMMIT", "HANDSHAKE", "PREPARE", "SELECT"];
    assert_eq!(strangers(&records, "postgresql", &allowed), [""; 0]);
}

/// Two clients in one process: one with the system's library, one that brings its own.
fn psycopg<'a>(lab: &Lab, port: &'a str) -> Option<Asked<'a>> {
    lab.tls("aiohttp")?;
    let python = lab.told("aiohttp-python");
    let said = run(python, &["-B", PSYCOPG, port, &COUNT.to_string()]);
    assert_eq!(said.trim(), (COUNT * 2).to_string());
    let query = |text: &str| (kind("postgresql", "SELECT", text, "OK"), COUNT);
    let wanted = [
        query("SELECT version(), ?"),
        query("SELECT current_user, $1::int"),
    ];
    Some(Asked::new(port, "python", "postgres", &wanted))
}
